"""Words of texts: counts and ids against plain Python, whatever the text, its kind and threads."""

import collections
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from seqkern.data import WordCounts, count_words, encode_words

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

THREADS = (1, 2, 3, 8)
WORDS = st.text(st.characters(exclude_characters=" \t\n\v\f\r", exclude_categories=["Cs"]))
SPACES = st.text(" \t\n\v\f\r", min_size=1, max_size=4)
TEXTS = st.lists(st.one_of(st.sampled_from(["a", "b", "é", "longer-than-8"]), WORDS, SPACES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


def write(folder: Path, text: str | bytes, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def sentences_of(text: str) -> list[list[str]]:
    """Lists of words, by bytes.split(), which knows ASCII whitespace only."""
    lines = text.removeprefix("\ufeff").encode().split(b"\n")
    return [[word.decode() for word in line.split()] for line in lines]


def plain_counts(sentences: list[list[str]]) -> list[tuple[str, int]]:
    counter = collections.Counter(word for sentence in sentences for word in sentence)
    return counter.most_common()  # of equal counts, the first met first


def plain_ids(sentences: list[list[str]], words: list[str]) -> list[int]:
    out: list[int] = []
    for sentence in sentences:
        known = [words.index(word) for word in sentence if word in words]
        out += [*known, -1] if known else []
    return out


def pairs(counts: WordCounts) -> list[tuple[str, int]]:
    return list(zip(counts.words, counts.counts.tolist(), strict=True))


# Files


@settings(deadline=None)
@given(TEXTS.map("".join).filter(str.split))
@example("a\r\nb a\r\n\r\n  \r\na")
@example("a")
@example("\ufeffa b\n")
@example("\ufeff\ufeffa")
@example("nul\0byte \0 \0\0")
@example("\n\n a\x85b\u2028c\u00a0d \x1c e\n\n")
@example("12345678 123456789 1234567 12345678\0 12345678\0\0")
def test_counts_and_ids_of_files_are_those_of_plain_python(folder: Path, text: str) -> None:
    path, sentences = write(folder, text), sentences_of(text)
    assume(any(sentences))
    counts = count_words(path)
    assert pairs(counts) == plain_counts(sentences)
    assert counts.total == sum(map(len, sentences))
    assert counts.sentences == sum(map(bool, sentences))
    for words in (counts.words, counts.words[1::2]):
        encoded = encode_words(path, words)
        assert encoded.ids.dtype == torch.int32 and encoded.ids.is_contiguous()
        assert encoded.ids.tolist() == plain_ids(sentences, words)
        assert encoded.tokens + encoded.sentences == len(encoded.ids)


@pytest.fixture(scope="module")
def large(folder: Path) -> tuple[Path, list[list[str]]]:
    """A text of several chunks, which the reader cuts at 4 MiB; its lines end at no cut."""
    generator = np.random.default_rng(0)
    words = [f"word{i}" * (1 + i % 7) for i in range(2000)]
    ids = np.minimum(generator.zipf(1.2, 900_000), 2000) - 1
    lengths = generator.geometric(0.02, 20_000) - 1
    lengths[5000] = 400_000
    stops = np.cumsum(lengths).clip(max=len(ids)).tolist()
    chosen = [words[i] for i in ids.tolist()]
    sentences = [chosen[a:b] for a, b in zip([0, *stops], stops, strict=False)]
    path = folder / "large.txt"
    path.write_text("\n".join(" ".join(sentence) for sentence in sentences))
    assert path.stat().st_size > 10 << 20
    return path, sentences


def test_number_of_threads_changes_nothing(large: tuple[Path, list[list[str]]]) -> None:
    path, sentences = large
    expected = plain_counts(sentences)
    places = {word: i for i, (word, _) in enumerate(expected[:700])}
    ids: list[int] = []
    for sentence in sentences:
        known = [places[word] for word in sentence if word in places]
        ids += [*known, -1] if known else []
    for threads in THREADS:
        counts = count_words(path, threads=threads)
        assert pairs(counts) == expected
        assert counts.sentences == sum(map(bool, sentences))
        encoded = encode_words(path, counts.words[:700], threads=threads)
        assert np.array_equal(encoded.ids.numpy(), ids)
        assert encoded.sentences == ids.count(-1)


@pytest.mark.parametrize("word", [b"ab ", b"abcdefghi\t", b"x"])
def test_line_of_100_megabytes(folder: Path, word: bytes) -> None:
    path = write(folder, word * (100_000_000 // len(word)), "line.txt")
    counts = count_words(path)
    text = word.decode()
    if text == "x":
        assert (len(counts.words), len(counts.words[0]), counts.total) == (1, 100_000_000, 1)
    else:
        assert pairs(counts) == [(text.strip(), 100_000_000 // len(word))]
    assert counts.sentences == 1
    encoded = encode_words(path, counts.words)
    assert encoded.tokens == counts.total and encoded.sentences == 1
    assert int(encoded.ids[-1]) == -1 and int(encoded.ids[:-1].abs().max()) == 0
    path.unlink()


def test_word_of_many_chunks(folder: Path) -> None:
    path = folder / "zeros.txt"
    with path.open("wb") as file:
        file.write(b"first\n")
        file.truncate(64 << 20)
    counts = count_words(path)
    assert pairs(counts) == [("first", 1), ("\0" * ((64 << 20) - 6), 1)]
    assert encode_words(path, counts.words).ids.tolist() == [0, -1, 1, -1]
    path.unlink()


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192])
def test_file_that_ends_where_a_page_ends(folder: Path, size: int) -> None:
    text = ("word " * size)[: size - 3] + "end"
    path, sentences = write(folder, text), sentences_of(text)
    counts = count_words(path)
    assert pairs(counts) == plain_counts(sentences)
    assert encode_words(path, counts.words).ids.tolist() == plain_ids(sentences, counts.words)


def test_words_of_no_file_are_left_out(folder: Path) -> None:
    path = write(folder, "a b\nb\n")
    encoded = encode_words(path, ["", "a b", "\ud800", "b", "c"])
    assert encoded.ids.tolist() == [3, -1, 3, -1]
    assert encode_words(path, []).ids.tolist() == []
    assert encode_words(write(folder, ""), ["a"]).ids.tolist() == []


# Bad files


@pytest.mark.parametrize("content", ["", "\n \t\r\n", "\ufeff", "\ufeff \n"])
def test_text_without_words_is_refused(folder: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r"the text is empty: no word in .*text\.txt"):
        count_words(write(folder, content))
    with pytest.raises(ValueError, match="the text is empty: no word"):
        count_words([[], []])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (count_words, lambda path: encode_words(path, ["a"])):
        with pytest.raises(FileNotFoundError, match="absent"):
            read(tmp_path / "absent")
        with pytest.raises(IsADirectoryError, match=tmp_path.name):
            read(tmp_path)
        with pytest.raises(ValueError, match="pipe is not a regular file"):
            read(tmp_path / "pipe")


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xff",
        b"ok\x80",
        b"\xc0\xaf",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"a\xf0\x9f\x98",
        b"\xe0\x80\x80",
    ],
)
def test_place_of_bytes_that_are_no_utf8_is_told(tmp_path: Path, wrong: bytes) -> None:
    content = "\ufefffine words äö\nfine 😀 ".encode() + wrong + b" x\n\xff\n"
    with pytest.raises(UnicodeDecodeError) as plain:
        content.decode()
    offset = plain.value.start
    path = write(tmp_path, content)
    message = rf"byte 0x{content[offset]:02x} at offset {offset}, line 2$"
    with pytest.raises(ValueError, match=message):
        count_words(path)
    with pytest.raises(ValueError, match=message):
        encode_words(path, ["fine", "x"])


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_utf8_is_what_python_takes_for_it(folder: Path, content: bytes) -> None:
    path = write(folder, b"a " + content)
    try:
        (b"a " + content).decode()
    except UnicodeDecodeError as error:
        with pytest.raises(ValueError, match=f"offset {error.start},"):
            count_words(path)
    else:
        count_words(path)


@pytest.mark.parametrize("errors", ["replace", "ignore"])
def test_wrong_bytes_are_replaced_or_ignored(tmp_path: Path, errors: str) -> None:
    content = b"a\xff a\xfe a \xff b\n\xfe\na\xff\n"
    path = write(tmp_path, content)
    expected = sentences_of(content.decode(errors=errors))
    counts = count_words(path, errors=errors)
    assert pairs(counts) == plain_counts(expected)
    assert counts.total == sum(map(len, expected))
    assert encode_words(path, counts.words, errors=errors).ids.tolist() == plain_ids(
        expected, counts.words
    )


def test_other_error_handlers_are_refused() -> None:
    for read in (count_words, lambda source, errors: encode_words(source, ["a"], errors=errors)):
        with pytest.raises(ValueError, match="errors must be one of strict, replace, ignore, got"):
            read([["a"]], errors="surrogateescape")


def test_interrupt_ends_the_reading(folder: Path) -> None:
    path = write(folder, b"ab " * (200 << 20 >> 2), "interrupt.txt")
    timer = threading.Timer(0.02, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(1000):
            count_words(path)
    timer.join()
    path.unlink()


# Limits


def plain_pruned(sentences: list[list[str]], max_vocab: int) -> list[tuple[str, int]]:
    """As gensim's Word2Vec._scan_vocab counts."""
    counts: dict[str, int] = collections.defaultdict(int)
    threshold = 1
    for sentence in sentences:
        for word in sentence:
            counts[word] += 1
        if len(counts) > max_vocab:
            counts = collections.defaultdict(
                int, {word: n for word, n in counts.items() if n >= threshold}
            )
            threshold += 1
    return sorted(counts.items(), key=lambda item: -item[1])


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefghijklm"), max_size=6), min_size=1),
    st.integers(1, 6),
)
def test_max_vocab_forgets_what_gensim_forgets(
    folder: Path, sentences: list[list[str]], max_vocab: int
) -> None:
    assume(any(sentences))
    full = [sentence for sentence in sentences if sentence]
    expected = plain_pruned(full, max_vocab)
    path = write(folder, "\n".join(" ".join(s) for s in sentences))
    for source in (path, sentences):
        if not expected:
            with pytest.raises(ValueError, match="no word is left: max_vocab = "):
                count_words(source, max_vocab=max_vocab)
            continue
        counts = count_words(source, max_vocab=max_vocab, threads=2)
        assert pairs(counts) == expected
        assert counts.total == sum(map(len, full)) and counts.sentences == len(full)


def test_max_vocab_bounds_a_text_of_one_line(folder: Path) -> None:
    words = [str(i % 7 if i % 3 else i) for i in range(60_000)]
    path = write(folder, " ".join(words))
    batches = [words[i : i + 10_000] for i in range(0, len(words), 10_000)]
    for source in (path, [words]):
        assert pairs(count_words(source, max_vocab=100)) == plain_pruned(batches, 100)


def test_prune_drops_rare_words_and_fits_a_limit() -> None:
    counts = count_words([list("aaaabbbccdde")])
    assert counts.prune().words == counts.words == list("abcde")
    assert counts.prune(min_count=3).counts.tolist() == [4, 3]
    assert counts.prune(max_final_vocab=3).words == ["a", "b"]  # c and d occur equally often
    assert counts.prune(max_final_vocab=4).words == list("abcd")
    assert counts.prune(max_final_vocab=9).words == list("abcde")
    assert counts.prune(min_count=4, max_final_vocab=3).words == ["a"]
    assert counts.prune(min_count=3).total == 12
    with pytest.raises(ValueError, match="no word occurs min_count = 5 times"):
        counts.prune(min_count=5)
    with pytest.raises(ValueError, match="no word .* 2 times with max_final_vocab 1"):
        count_words([["a", "b"]]).prune(max_final_vocab=1)
    with pytest.raises(ValueError, match="max_final_vocab must be at least 1, got 0"):
        counts.prune(max_final_vocab=0)


@pytest.mark.parametrize("argument", ["threads", "max_vocab"])
def test_limits_below_one_are_refused(folder: Path, argument: str) -> None:
    path = write(folder, "a")
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
        count_words(path, **{argument: 0})


# Sentences


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c d", ""]), max_size=5), min_size=1))
def test_sentences_of_words(sentences: list[list[str]]) -> None:
    assume(any(sentences))
    counts = count_words(sentences)
    assert pairs(counts) == plain_counts(sentences)
    words = counts.words[1:]
    assert encode_words(sentences, words).ids.tolist() == plain_ids(sentences, words)


class Rereadable:
    def __init__(self, *readings: list[list[str]]) -> None:
        self.readings = list(readings)

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self.readings.pop(0) if len(self.readings) > 1 else self.readings[0])


def test_iterables_that_start_anew_are_texts() -> None:
    source = Rereadable([["a", "b"], ["a"]])
    words = count_words(source).words
    assert encode_words(source, words).ids.tolist() == [0, 1, -1, 0, -1]


@pytest.mark.parametrize("second", [[], [["a"]], [["a"], ["a"], ["a"]], [["a", "a"]]])
def test_sentences_that_change_are_refused(second: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="different sentences when it was read again"):
        encode_words(Rereadable([["a"], ["a"]], second), ["a"])


def test_sources_of_other_kinds_are_refused() -> None:
    for source in (iter([["a"]]), (s for s in [["a"]]), map(list, ["a"])):
        with pytest.raises(TypeError, match=r"source is an iterator \(.*only once"):
            count_words(source)
        with pytest.raises(TypeError, match="source is an iterator"):
            encode_words(source, ["a"])
    for source in (3, None, b"text"):
        with pytest.raises(TypeError, match="source must be a path, an iterable of lists"):
            count_words(source)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a sentence must be a list of words, got 'a b'"):
        count_words(["a b", "c"])
    with pytest.raises(TypeError, match="a word must be str, got 1 of type int"):
        count_words([[1, 2]])  # type: ignore[list-item]


def test_repeated_words_are_refused() -> None:
    with pytest.raises(ValueError, match="words must be distinct, got 'a' more than once"):
        encode_words([["a"]], ["a", "b", "a"])


# Ids


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1),
    st.sampled_from([torch.int64, torch.int32, torch.uint8]),
)
def test_tensors_of_ids_are_texts_of_decimal_words(lists: list[list[int]], dtype) -> None:
    assume(any(lists))
    sentences = [[str(i) for i in row] for row in lists]
    source = [torch.tensor(row, dtype=dtype) for row in lists]
    counts = count_words(source)
    assert pairs(counts) == plain_counts(sentences)
    assert (counts.total, counts.sentences) == (sum(map(len, lists)), sum(map(bool, lists)))
    for words in (counts.words, [*counts.words[::2], "x", "007", "٣"]):
        encoded = encode_words(source, words)
        assert encoded.ids.dtype == torch.int32
        assert encoded.ids.tolist() == plain_ids(sentences, words)
        assert encoded.tokens == len(encoded.ids) - encoded.sentences


def test_a_row_of_a_matrix_of_ids_is_a_sentence() -> None:
    matrix = torch.tensor([[5, 7, 5], [7, 7, 9]])
    counts = count_words(matrix)
    assert pairs(counts) == [("7", 3), ("5", 2), ("9", 1)] and counts.sentences == 2
    assert encode_words(matrix, ["7", "5"]).ids.tolist() == [1, 0, 1, -1, 0, 0, -1]
    assert encode_words(matrix[0], ["5"]).ids.tolist() == [0, 0, -1]
    assert encode_words(matrix.T, ["9"]).ids.tolist() == [0, -1]


def test_bad_ids_are_refused() -> None:
    with pytest.raises(TypeError, match=r"ids must be integers, got a tensor of torch\.float32"):
        count_words(torch.zeros(3))
    with pytest.raises(ValueError, match="ids must not be negative, got -2"):
        count_words(torch.tensor([1, -2]))
    with pytest.raises(ValueError, match=r"shape \(length,\) or .*, got \(1, 2, 3\)"):
        encode_words(torch.zeros(1, 2, 3, dtype=torch.int64), ["0"])
    with pytest.raises(ValueError, match=r"tensors of shape \(length,\), got shape \(1, 2\)"):
        count_words([torch.tensor([1]), torch.tensor([[1, 2]])])
    with pytest.raises(ValueError, match="max_vocab is for texts"):
        count_words(torch.tensor([1]), max_vocab=3)


# Ids in a file


def test_large_ids_live_in_a_file_without_a_name(tmp_path: Path) -> None:
    sentences = [["a", "b"], ["b"]] * 1000
    path = write(tmp_path, "\n".join(" ".join(s) for s in sentences))
    ids = torch.tensor([0, 1])
    for source, words in ((path, ["a", "b"]), (sentences, ["a", "b"]), (ids, ["0", "1"])):
        expected = encode_words(source, words).ids
        used = os.listdir("/proc/self/fd")
        mapped = encode_words(source, words, memory_limit=0, folder=tmp_path).ids
        assert torch.equal(mapped, expected) and mapped.is_contiguous()
        assert os.listdir(tmp_path) == [path.name]
        assert os.listdir("/proc/self/fd") == used
        assert f"{tmp_path}/seqkern-" in Path("/proc/self/maps").read_text()
        del mapped
        gc.collect()
        assert f"{tmp_path}/seqkern-" not in Path("/proc/self/maps").read_text()


def test_missing_folder_for_ids_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        encode_words([["a"]], ["a"], memory_limit=0, folder=tmp_path / "absent")
