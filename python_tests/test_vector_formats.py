"""Files of vectors: what is written is read back, by gensim too; damaged files are refused."""

import gzip
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from helpers import examples, generator, normal, strided
from seqkern.vectors import KeyedVectors, formats

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

TINY = KeyedVectors(
    ["a", "bc", "ä"],
    torch.tensor([[0.125, -2.5], [1e-8, 3.0000002], [-0.0, 7.0]]),
    torch.tensor([12, 5, 5]),
)

word = st.text(min_size=1, max_size=6).filter(lambda w: not set(w) & set(" \t\n\v\f\r"))
both = pytest.mark.parametrize("binary", [False, True])


def assert_equal(got: KeyedVectors, expected: KeyedVectors) -> None:
    assert got.words == expected.words
    assert torch.equal(got.vectors, expected.vectors)
    assert (got.counts is None) == (expected.counts is None)
    if got.counts is not None and expected.counts is not None:
        assert torch.equal(got.counts, expected.counts)


def without_counts(kv: KeyedVectors) -> KeyedVectors:
    return KeyedVectors(kv.words, kv.vectors)


@pytest.fixture(params=["text", "binary", "newlines", "safetensors"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """A small file in each format, and the function that reads it."""
    path = tmp_path / "tiny"
    if request.param == "safetensors":
        TINY.save(path)
        return path, KeyedVectors.load
    binary = request.param != "text"
    TINY.save_word2vec_format(path, binary=binary)
    if request.param == "newlines":  # as word2vec.c
        head, *rest = path.read_bytes().partition(b"\n")
        body = b"".join(rest)[1:]
        ends = (len(b"a ") + 8, len(b"a bc ") + 16)
        parts = (body[: ends[0]], body[ends[0] : ends[1]], body[ends[1] :])
        path.write_bytes(head + b"\n" + b"".join(part + b"\n" for part in parts))
    return path, lambda path: KeyedVectors.load_word2vec_format(path, binary=binary)


# Round trips


def test_every_format_is_read_back(tiny: tuple[Path, Any]) -> None:
    path, load = tiny
    got = load(path)
    assert_equal(got, TINY if got.counts is not None else without_counts(TINY))


@given(
    st.lists(word, unique=True, max_size=8), st.integers(1, 5), st.integers(0, 99), st.booleans()
)
@examples(80)
def test_any_words_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], dim: int, seed: int, binary: bool
) -> None:
    vectors = normal((len(words), dim), torch.float32, generator(seed))
    vectors *= 10.0 ** torch.randint(-30, 30, vectors.shape, generator=generator(seed))
    kv = KeyedVectors(words, vectors)
    folder = tmp_path_factory.mktemp("any")
    kv.save_word2vec_format(folder / "w2v", binary=binary)
    assert_equal(KeyedVectors.load_word2vec_format(folder / "w2v", binary=binary), kv)
    kv.save(folder / "archive")
    assert_equal(KeyedVectors.load(folder / "archive"), kv)


@given(st.lists(st.text(max_size=5), unique=True, max_size=8))
@examples(40)
def test_archive_holds_words_of_any_kind(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "archive"
    kv = KeyedVectors(words, torch.ones(len(words), 2), torch.arange(len(words)))
    kv.save(path)
    assert_equal(KeyedVectors.load(path), kv)


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_are_kept_as_the_format_can(
    tmp_path: Path, dtype: torch.dtype, binary: bool
) -> None:
    kv = KeyedVectors(["a", "b"], normal((2, 5), dtype, generator(1)))
    kv.save_word2vec_format(tmp_path / "w2v", binary=binary)
    got = KeyedVectors.load_word2vec_format(tmp_path / "w2v", binary=binary, dtype=dtype)
    expected = kv.vectors.float().to(dtype) if binary else kv.vectors
    assert torch.equal(got.vectors, expected)
    kv.save(tmp_path / "archive")
    assert_equal(KeyedVectors.load(tmp_path / "archive"), kv)


@both
def test_padded_rows_and_more_rows_than_a_block_are_written(tmp_path: Path, binary: bool) -> None:
    vectors = normal((2 * formats._ROWS + 3, 2), torch.float32, generator(1))
    kv = KeyedVectors([f"w{i}" for i in range(len(vectors))], strided(vectors))
    kv.save_word2vec_format(tmp_path / "w2v", binary=binary)
    assert_equal(KeyedVectors.load_word2vec_format(tmp_path / "w2v", binary=binary), kv)
    kv.save(tmp_path / "archive")
    assert_equal(KeyedVectors.load(tmp_path / "archive"), kv)


@both
def test_gz_is_compressed_and_the_same_each_time(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "w2v.gz"
    TINY.save_word2vec_format(path, binary=binary)
    content = path.read_bytes()
    assert_equal(KeyedVectors.load_word2vec_format(path, binary=binary), without_counts(TINY))
    TINY.save_word2vec_format(path, binary=binary)
    assert path.read_bytes() == content
    TINY.save_word2vec_format(tmp_path / "plain", binary=binary)
    assert gzip.decompress(content) == (tmp_path / "plain").read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"w2v\.gz is truncated or corrupt"):
        KeyedVectors.load_word2vec_format(path, binary=binary)


def test_counts_go_into_a_file_of_their_own(tmp_path: Path) -> None:
    vocab = tmp_path / "vocab"
    TINY.save_word2vec_format(tmp_path / "w2v", fvocab=vocab)
    assert vocab.read_text() == "a 12\nbc 5\nä 5\n"
    assert_equal(KeyedVectors.load_word2vec_format(tmp_path / "w2v", fvocab=vocab), TINY)
    vocab.write_text("bc 5\na 12\n")
    with pytest.warns(UserWarning, match="no counts of 1 words, 'ä' first"):
        got = KeyedVectors.load_word2vec_format(tmp_path / "w2v", fvocab=vocab)
    assert got.counts is not None
    assert got.counts.tolist() == [12, 5, 0]
    vocab.write_text("bc 5\na x\n")
    with pytest.raises(
        ValueError, match=r"vocab, line 2: expected a word and its count, got b'a x"
    ):
        KeyedVectors.load_word2vec_format(tmp_path / "w2v", fvocab=vocab)
    with pytest.raises(ValueError, match="no counts to write"):
        without_counts(TINY).save_word2vec_format(tmp_path / "w2v", fvocab=vocab)


@both
def test_limit_reads_no_further(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "w2v"
    TINY.save_word2vec_format(path, binary=binary)
    for damage in (b"", b"damage"):
        path.write_bytes(path.read_bytes() + damage)
        got = KeyedVectors.load_word2vec_format(path, binary=binary, limit=2)
        assert_equal(got, KeyedVectors(["a", "bc"], TINY.vectors[:2]))
    with pytest.raises(ValueError, match="limit is 0, expected at least 1"):
        KeyedVectors.load_word2vec_format(path, binary=binary, limit=0)


# What others write


def test_text_of_fasttext_and_glove_is_read(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("2 3\n</s> 0.1 -2 3e-2 \nfoo 1 2 3 \n")  # a space before the newline
    expected = KeyedVectors(["</s>", "foo"], torch.tensor([[0.1, -2, 0.03], [1, 2, 3]]))
    assert_equal(KeyedVectors.load_word2vec_format(path), expected)
    path.write_text("</s> 0.1\t-2  3e-2\r\nfoo 1 2 3\n")
    assert_equal(KeyedVectors.load_word2vec_format(path, no_header=True), expected)
    got = KeyedVectors.load_word2vec_format(path, no_header=True, limit=1)
    assert_equal(got, KeyedVectors(expected.words[:1], expected.vectors[:1]))
    with pytest.raises(ValueError, match="line 1: expected a header.*no_header=True"):
        KeyedVectors.load_word2vec_format(path)
    with pytest.raises(ValueError, match="no_header is for text"):
        KeyedVectors.load_word2vec_format(path, no_header=True, binary=True)


@both
def test_first_of_repeated_words_is_kept(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "w2v"
    formats.save_word2vec(path, ["a", "b", "a", "c", "b"], torch.arange(5.0)[:, None], binary)
    with pytest.warns(UserWarning, match="2 words occur again, 'a' first") as caught:
        got = KeyedVectors.load_word2vec_format(path, binary=binary)
    assert len(caught) == 1
    assert_equal(got, KeyedVectors(["a", "b", "c"], torch.tensor([[0.0], [1.0], [3.0]])))


@both
def test_words_of_other_encodings(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "w2v"
    TINY.save_word2vec_format(path, binary=binary, encoding="latin-1")
    got = KeyedVectors.load_word2vec_format(path, binary=binary, encoding="latin-1")
    assert_equal(got, without_counts(TINY))
    with pytest.raises(ValueError, match=r"(line 4|vector 3 .*): b'\\xe4' is not utf-8"):
        KeyedVectors.load_word2vec_format(path, binary=binary)
    got = KeyedVectors.load_word2vec_format(path, binary=binary, unicode_errors="replace")
    assert got.words == ["a", "bc", "�"]


# gensim


@both
def test_gensim_reads_ours_and_we_read_gensims(tmp_path: Path, binary: bool) -> None:
    keyedvectors = pytest.importorskip("gensim.models.keyedvectors")
    words = ["a", "ä", "日本", "x\u200by", "</s>"]
    kv = KeyedVectors(words, normal((5, 7), torch.float32, generator(2)), torch.arange(5, 0, -1))
    ours, vocab = tmp_path / "ours", tmp_path / "vocab"
    kv.save_word2vec_format(ours, fvocab=vocab, binary=binary)
    theirs = keyedvectors.KeyedVectors.load_word2vec_format(
        str(ours), fvocab=str(vocab), binary=binary
    )
    assert [theirs.get_vecattr(word, "count") for word in words] == [5, 4, 3, 2, 1]
    assert theirs.index_to_key == words
    np.testing.assert_array_equal(theirs.vectors, kv.vectors.numpy())
    theirs.save_word2vec_format(str(tmp_path / "theirs"), binary=binary)
    got = KeyedVectors.load_word2vec_format(tmp_path / "theirs", binary=binary)
    assert_equal(got, without_counts(kv))
    assert (tmp_path / "theirs").stat().st_size >= ours.stat().st_size - 5 * 7 * 3


def test_files_that_gensim_ships_are_read_as_gensim_reads_them() -> None:
    gensim = pytest.importorskip("gensim")
    from gensim.models.keyedvectors import KeyedVectors as Theirs

    folder = Path(gensim.__path__[0], "test", "test_data")
    files: list[tuple[str, dict[str, Any]]] = [
        ("lee_fasttext.vec", {}),
        ("euclidean_vectors.bin", {"binary": True}),
        ("high_precision.kv.bin", {"binary": True}),
        ("high_precision.kv.txt", {}),
        ("toy-model.vec", {}),
        ("crime-and-punishment.vec", {}),
        ("test_glove.txt", {"no_header": True}),
    ]
    for name, options in files:
        expected = Theirs.load_word2vec_format(str(folder / name), **options)
        got = KeyedVectors.load_word2vec_format(folder / name, **options)
        assert got.words == expected.index_to_key, name
        np.testing.assert_array_equal(got.vectors, expected.vectors, name)


# Damage


def test_a_file_cut_anywhere_is_refused_or_whole(tiny: tuple[Path, Any]) -> None:
    path, load = tiny
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        try:
            got = load(path)
        except ValueError as error:
            assert path.name in str(error)
        else:
            assert size == len(content) - 1, "only word2vec.c's last newline can be missing"
            assert torch.equal(got.vectors, TINY.vectors)
            assert got.words == TINY.words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"line 1: expected a header.* got b''"),
        (b"2\n", r"line 1: expected a header.* got b'2"),
        (b"x 2\n", r"line 1: expected a header"),
        (b"1 0\na\n", r"line 1: the size of vectors is 0, expected at least 1"),
        (b"2 1\na 1\nb\n", r"line 3: expected 1 numbers after the word, got 0"),
        (b"2 2\na 1 2\nb 3 4 5\n", r"line 3: expected 2 numbers after the word, got 3"),
        (b"2 2\na 1 2 3\nb 4\n", r"line 2: expected 2 numbers after the word, got 3"),
        (b"2 1\na 1\nb 1x\n", r"line 3: number 1 is b'1x', expected a finite number"),
        (b"2 2\na 1 2\nb 1 NaN\n", r"line 3: number 2 is b'NaN', expected a finite number"),
        (b"2 2\na 1 -inf\nb 1 2\n", r"line 2: number 2 is b'-inf', expected a finite number"),
        (b"2 2\na 1 1e99\nb 1 2\n", r"line 2: number 2 is b'1e99', expected a finite number"),
        (b"2 2\na 1 1_0\nb 1 2\n", r"line 2: number 2 is b'1_0', expected a finite number"),
        (b"2 1\na 1\n 2\n", r"line 3: expected a word and 1 numbers, got b' 2"),
        (b"3 1\na 111\nb 222\n", r"ends after line 3 with 2 vectors, its header says 3"),
        (b"1 1\na 1\nb 2\n", r"line 3: more than the 1 vectors of its header"),
        (b"2 1\na 1\nb 2", r"line 3 has no newline at its end: the file is cut short"),
        (b"99999999999 300\na 1\n", r"can hold 20 bytes, too few for its header's 99,999,999"),
    ],
)
def test_malformed_text_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.vec"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.vec.*{message}"):
        KeyedVectors.load_word2vec_format(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"2 1\na 1234b 123", r"ends at byte 15, within vector 2 from byte 10: its header says 2"),
        (b"1 1\na 1234b 1234", r"has 6 bytes from byte 10, after the 1 vectors of its header"),
        (b"2 1\na 1234 1234", r"vector 2 before byte 11: expected a word before the space"),
        (b"9999999 9\na 1234", r"can hold 16 bytes, too few for its header's 9,999,999 words"),
        (b"1 1\nb \xff\xff\xff\xff", r"the vector of 'b' has nan at 0, expected finite numbers"),
        (b"", r"line 1: expected a header"),
        (b"1 1", r"line 1: expected a header"),
    ],
)
def test_malformed_binary_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.bin.*{message}"):
        KeyedVectors.load_word2vec_format(path, binary=True)


@both
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "w2v"
    TINY.save_word2vec_format(path, binary=binary)
    content = path.read_bytes()
    for bad in ("", "two words", "a\tb", "line\n"):
        kv = KeyedVectors(["a", bad], torch.ones(2, 2))
        with pytest.raises(ValueError, match="is empty or has white space"):
            kv.save_word2vec_format(path, binary=binary)
    kv = KeyedVectors(["a", "b"], torch.tensor([[1.0], [torch.inf]]))
    with pytest.raises(ValueError, match="the vector of 'b' has inf at 0"):
        kv.save_word2vec_format(path, binary=binary)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["w2v"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TINY.save(tmp_path / "archive")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("seqkern.data.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        KeyedVectors(["x"], torch.ones(1, 1)).save(tmp_path / "archive")
    assert_equal(KeyedVectors.load(tmp_path / "archive"), TINY)
    assert os.listdir(tmp_path) == ["archive"]


def test_archives_are_as_readable_as_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    KeyedVectors(["a"], torch.ones(1, 2)).save(tmp_path / "archive")
    modes = {(tmp_path / name).stat().st_mode for name in ("other", "archive")}
    assert len(modes) == 1


def test_other_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    with pytest.raises(FileNotFoundError, match="no such file of vectors"):
        KeyedVectors.load(path)
    with pytest.raises(OSError, match="absent"):
        TINY.save(tmp_path / "absent" / "archive")
    save_file({"vectors": torch.ones(2, 2)}, path)
    with pytest.raises(ValueError, match="other is a safetensors file, but none of keyed vectors"):
        KeyedVectors.load(path)
    good = {
        "vectors": torch.ones(2, 2),
        "words": torch.tensor([97, 98], dtype=torch.uint8),
        "offsets": torch.tensor([0, 1, 2]),
    }
    for bad, message in (
        ({"offsets": torch.tensor([0, 1, 3])}, "its words do not match its 2 vectors"),
        ({"offsets": torch.tensor([0, 2])}, "its words do not match its 2 vectors"),
        ({"offsets": torch.tensor([0, 3, 2])}, "its offsets of words fall"),
        ({"offsets": torch.tensor([0.0, 1, 2])}, "torch.float32, not uint8, int64"),
        ({"words": torch.tensor([200, 98], dtype=torch.uint8)}, "codec can't decode byte 0xc8"),
        ({"vectors": torch.ones(3, 2)}, "its words do not match its 3 vectors"),
    ):
        save_file({**good, **bad}, path, {"seqkern": "keyed vectors"})
        with pytest.raises(ValueError, match=f"other is corrupt: .*{message}"):
            KeyedVectors.load(path)
    del good["words"]
    save_file(good, path, {"seqkern": "keyed vectors"})
    with pytest.raises(ValueError, match="other is corrupt: 'words'"):
        KeyedVectors.load(path)


# Memory


def resident() -> int:
    """Bytes of memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_mapped_vectors_are_queried_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "large"
    size, dim = 200_000, 100  # 80 MB
    vectors = normal((size, dim), torch.float32, generator(1))
    KeyedVectors([str(i) for i in range(size)], vectors).save(path)
    expected = (vectors @ vectors[0] / vectors.norm(dim=1)).topk(2).indices[1]
    del vectors
    kv = KeyedVectors.load(path)
    kv.most_similar("0")  # tells torch's own working memory from ours
    before = resident()
    mapped = KeyedVectors.load(path)
    assert mapped.most_similar("0", topn=1)[0][0] == str(int(expected))
    assert resident() - before < size * dim * 4 / 2
    mapped.vectors[0] = 0  # stays in memory
    assert KeyedVectors.load(path).vectors[0].any()
    assert KeyedVectors.load(path, mmap=False).vectors[0].any()


def test_no_warning_in_good_files(tiny: tuple[Path, Any]) -> None:
    path, load = tiny
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path)
