"""Tokens, vocabularies, corpora, batches: layouts against plain loops, and bad input."""

import ast
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import seqkern.data
from seqkern.data import (
    RandomBatches,
    SequentialBatches,
    Vocabulary,
    detokenize,
    evaluation_blocks,
    load_corpus,
    tokenize,
)
from seqkern.data.pydoc import pydoc_splits

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")


def test_data_imports_no_kernel() -> None:
    folder = Path(seqkern.data.__file__).parent
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seqkern"):
                assert node.module is not None
                # words.py calls the native text reader, which is no kernel.
                allowed = "seqkern._build_info" if file.name == "words.py" else "seqkern.data"
                assert node.module.startswith(("seqkern.data", allowed)), node.module


# Text


def test_word_level_ends_every_line_in_eos() -> None:
    assert tokenize(" a b\n\nc", "word") == ["a", "b", "<eos>", "<eos>", "c", "<eos>"]


def test_text_level_separates_punctuation_and_ends_paragraphs_in_eos() -> None:
    text = 'Title\n*****\n\nUse "f(x)",\nnot <unk> 2.5...\n\n\nend'
    first = ["Title", "<eos>"]
    second = ["Use", '"', "f", "(", "x", ")", '"', ",", "not", "<unk>", "2.5", "...", "<eos>"]
    assert tokenize(text, "text") == [*first, *second, "end", "<eos>"]


def test_letters_are_lower_case_and_lines_are_joined() -> None:
    text = "It's 2 o'clock,\n\n  <unk> Ünder the Sun!\n"
    assert "".join(tokenize(text, "letters")) == "it s o clockunk nder the sun"


@pytest.mark.parametrize("level", ["word", "text", "char", "letters"])
def test_empty_text_has_no_tokens(level: str) -> None:
    assert tokenize("", level) == []


@pytest.mark.parametrize("level", ["word", "char"])
def test_detokenize_restores_words_and_characters(level: str) -> None:
    text = "the cat ( sat )\non the mat\n"
    assert detokenize(tokenize(text, level), level) == text


def test_detokenize_joins_letters() -> None:
    assert detokenize(["a", " ", "b"], "letters") == "a b"


def test_detokenize_places_quotes_and_brackets() -> None:
    tokens = tokenize('He said "yes" (twice), then [left]!', "text")
    assert detokenize(tokens, "text") == 'He said "yes" (twice), then [left]!\n'


def test_unknown_level_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"level must be one of word, text, char, letters, got 'line'"
    ):
        tokenize("a", "line")


# Vocabulary


def test_ids_follow_first_appearance() -> None:
    vocabulary = Vocabulary.build(["b", "a", "<unk>", "b", "c"])
    assert vocabulary.tokens == ("b", "a", "<unk>", "c")
    assert vocabulary.encode(["c", "b", "unseen"]).tolist() == [3, 0, 2]


def test_limited_vocabulary_keeps_the_most_frequent_in_order_of_appearance() -> None:
    tokens = ["x", "b", "a", "b", "c", "a", "<unk>", "<unk>", "<unk>"]
    assert Vocabulary.build(tokens, max_size=3).tokens == ("b", "a", "<unk>")
    assert Vocabulary.build(["x", "b", "a", "b"], max_size=2).tokens == ("b", "<unk>")


def test_limit_below_two_is_refused() -> None:
    with pytest.raises(ValueError, match="max_size must be at least 2, got 1"):
        Vocabulary.build(["a"], max_size=1)


def test_encode_names_an_unknown_token_where_there_is_no_unk() -> None:
    with pytest.raises(ValueError, match="'z' is not in the vocabulary"):
        Vocabulary(["a", "b"]).encode(["a", "z", "y"])


def test_decode_inverts_encode_and_refuses_other_ids() -> None:
    vocabulary = Vocabulary(["a", "b"])
    assert vocabulary.decode(vocabulary.encode(["b", "a"]).tolist()) == ["b", "a"]
    for i in (-1, 2):
        with pytest.raises(IndexError, match=f"id {i} is outside a vocabulary of 2"):
            vocabulary.decode([0, i])


def test_repeated_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="'a' more than once"):
        Vocabulary(["a", "b", "a"])


def test_saved_vocabulary_loads_equal(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["a", "ä", '"', "\n", "<unk>"])
    vocabulary.save(tmp_path / "vocab.json")
    assert Vocabulary.load(tmp_path / "vocab.json") == vocabulary


@pytest.mark.parametrize("content", ['["a", "b', '{"a": 1}', "[1, 2]", '["a", "a"]', ""])
def test_damaged_vocabulary_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"vocab\.json is not a vocabulary file"):
        Vocabulary.load(path)


# Corpora


def write_folder(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"wiki.{name}.tokens").write_text(text)
    return folder


def test_folder_is_read_whatever_prefix_and_suffix(tmp_path: Path) -> None:
    (tmp_path / "contest.txt").write_text("not the test text")
    (tmp_path / ".wiki.test.swp").write_text("nor this")
    write_folder(tmp_path, train="a b\nc\n", valid="b\n", test="c d\n")
    corpus = load_corpus(tmp_path)
    assert corpus.vocabulary.tokens == ("a", "b", "<eos>", "c", "<unk>")
    assert corpus.train.tolist() == [0, 1, 2, 3, 2]
    assert corpus.split("valid").tolist() == [1, 2]
    assert corpus.test.tolist() == [3, 4, 2]


def test_file_is_cut_at_80_and_90_percent(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("abcdefghij" * 2)
    corpus = load_corpus(path, "char")
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (16, 2, 2)
    assert corpus.vocabulary.decode(corpus.test.tolist()) == ["i", "j"]


def test_max_words_limits_training_text_and_vocabulary(tmp_path: Path) -> None:
    write_folder(tmp_path, train="a b c d\n", valid="c\n", test="a\n")
    corpus = load_corpus(tmp_path, max_words=2)
    assert corpus.vocabulary.tokens == ("a", "b", "<unk>")
    assert corpus.train.tolist() == [0, 1]


def test_given_vocabulary_is_used(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["<eos>", "b", "a"])
    write_folder(tmp_path, train="a\n", valid="b\n", test="a\n")
    assert load_corpus(tmp_path, vocabulary=vocabulary).train.tolist() == [2, 0]
    with pytest.raises(ValueError, match="'b' is not in the vocabulary"):
        load_corpus(tmp_path, vocabulary=Vocabulary(["a", "<eos>"]))


def test_pydoc_has_disjoint_parts_and_a_limited_vocabulary() -> None:
    corpus = load_corpus("pydoc")
    assert corpus.level == "text"
    assert len(corpus.vocabulary) <= 2500
    assert len(corpus.train) > 8 * max(len(corpus.valid), len(corpus.test))
    parts = [{" ".join(p.split()) for p in text.split("\n\n")} for text in pydoc_splits().values()]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such text file or folder: .*absent"):
        load_corpus(tmp_path / "absent")


def test_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no test text"):
        load_corpus(write_folder(tmp_path, train="a\n", valid="a\n"))


def test_two_files_for_a_split_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, train="a\n", valid="a\n", test="a\n")
    (tmp_path / "old.train.txt").write_text("b\n")
    with pytest.raises(ValueError, match=r"one train text, got old\.train\.txt, wiki\.train\.tok"):
        load_corpus(tmp_path)


def test_empty_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the valid text of .* is empty"):
        load_corpus(write_folder(tmp_path, train="a\n", valid="", test="a\n"))


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_bytes(b"\x80\x81\xff")
    with pytest.raises(ValueError, match=r"model\.txt is not UTF-8 text"):
        load_corpus(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("a b c")
    path.chmod(0)
    with pytest.raises(PermissionError, match=r"secret\.txt"):
        load_corpus(path)


@pytest.mark.parametrize("name", ["dev", ""])
def test_unknown_split_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="split must be one of train, valid, test"):
        load_corpus("pydoc").split(name)


# Batches


@pytest.mark.parametrize(("length", "batch_size", "steps"), [(50, 4, 3), (51, 7, 7), (9, 1, 4)])
def test_sequential_batches_are_the_books(length: int, batch_size: int, steps: int) -> None:
    corpus = np.arange(length) * 10
    xs, ts = corpus[:-1], corpus[1:]
    batches = SequentialBatches(torch.from_numpy(corpus), batch_size, steps)
    assert len(batches) == len(xs) // (batch_size * steps)
    time_index = 0
    for _ in range(3 * len(batches) + 2):  # on beyond the end of the text
        inputs, targets = batches.next()
        assert inputs.shape == targets.shape == (steps, batch_size)
        for t in range(steps):
            for lane in range(batch_size):
                place = (lane * (len(xs) // batch_size) + time_index) % len(xs)
                assert inputs[t, lane] == xs[place]
                assert targets[t, lane] == ts[place]
            time_index += 1


def test_random_batches_are_windows_of_the_text() -> None:
    batches = RandomBatches(torch.arange(100), batch_size=10, steps=5)
    starts = set()
    for _ in range(200):
        inputs, targets = batches.next()
        assert torch.equal(targets, inputs + 1)
        assert torch.equal(inputs, inputs[0] + torch.arange(5)[:, None])
        starts |= set(inputs[0].tolist())
    assert starts == set(range(95))  # every window, the last one too


@pytest.mark.parametrize("make", [SequentialBatches, RandomBatches])
def test_batches_go_on_from_a_restored_position(
    make: type[SequentialBatches] | type[RandomBatches],
) -> None:
    first, second = (make(torch.arange(60), 3, 4) for _ in range(2))
    for _ in range(7):
        first.next()
    second.position = first.position
    assert torch.equal(first.next()[0], second.next()[0])
    assert not torch.equal(first.next()[0], make(torch.arange(60), 3, 4).next()[0])


def test_random_batches_depend_on_the_seed() -> None:
    one, other = (RandomBatches(torch.arange(1000), 10, 5, seed).next()[0] for seed in (1, 2))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("length", [71, 77, 80, 139])
def test_evaluation_blocks_are_the_books(length: int) -> None:
    batch_size, steps = 10, 7
    corpus = np.arange(length)
    jump = (length - 1) // batch_size
    blocks = list(evaluation_blocks(torch.from_numpy(corpus), batch_size, steps))
    assert len(blocks) == (length - 1) // (batch_size * steps)
    for block, (inputs, targets) in enumerate(blocks):
        for t in range(steps):
            for lane in range(batch_size):
                place = block * steps + lane * jump + t
                assert inputs[t, lane] == corpus[place % length]
                assert targets[t, lane] == corpus[(place + 1) % length]


@pytest.mark.parametrize("make", [SequentialBatches, RandomBatches, evaluation_blocks])
def test_text_too_short_for_one_batch_is_refused(make: type[SequentialBatches]) -> None:
    make(torch.arange(13), 3, 4)
    with pytest.raises(ValueError, match="text too short: 12 tokens, .* needs 13"):
        make(torch.arange(12), 3, 4)


@pytest.mark.parametrize("make", [SequentialBatches, RandomBatches, evaluation_blocks])
def test_sizes_below_one_and_other_tensors_are_refused(make: type[SequentialBatches]) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        make(torch.arange(9), 0, 1)
    with pytest.raises(ValueError, match="steps must be at least 1, got -1"):
        make(torch.arange(9), 1, -1)
    with pytest.raises(ValueError, match=r"tokens must be int64 of shape \(length,\)"):
        make(torch.zeros(3, 3, dtype=torch.int64), 1, 1)
    with pytest.raises(ValueError, match=r"got torch\.float32"):
        make(torch.zeros(9), 1, 1)
