"""Pairs of sequences: made questions are like the book's files, and what tensors hold of them.

Tests on the book's files run where these are: in the folder that the environment variable
SEQKERN_DATA names, or in ../shared/data beside the checkout.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from seqkern.data import (
    SequencePairs,
    Vocabulary,
    addition_questions,
    date_questions,
    read_questions,
    read_token_pairs,
    write_questions,
)

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

BOOK = Path(os.environ.get("SEQKERN_DATA", Path(__file__).parents[2] / "shared" / "data")) / "book"
needs_book = pytest.mark.skipif(
    not (BOOK / "date.txt").is_file(), reason=f"no files of the book at {BOOK}"
)

QUESTIONS = [("16+75  ", "_91  "), ("52+607 ", "_659 "), ("1+1    ", "_2   ")]
PAIRS = [(["a", "b", "c"], ["x"]), (["b"], ["y", "z"]), (["a", "c"], [])]

DATE = re.compile(
    r"(?:(?:(?P<weekday>[a-z]+), )?(?P<month>[a-z]+) \d{1,2}, \d{4}|\d{1,2}/\d{1,2}/\d{2}) *", re.I
)


def form_of_date(question: str) -> tuple[str, str]:
    """How a date is written: the parts it has, and its case."""
    found = DATE.fullmatch(question)
    assert found is not None, question
    text = question.rstrip()
    parts = "full" if found["weekday"] else "numbers"
    if found["month"] and not found["weekday"]:
        parts = "short" if len(found["month"]) == 3 else "long"
    case = "upper" if text.isupper() else "lower" if text.islower() else "title"
    return parts, case if found["month"] else ""


def form_of_sum(question: str) -> tuple[int, ...]:
    """Digits of both numbers."""
    found = re.fullmatch(r"(0|[1-9]\d{0,2})\+(0|[1-9]\d{0,2}) *", question)
    assert found is not None, question
    return tuple(map(len, found.groups()))


def shares(form: Callable[[str], tuple], questions: list[tuple[str, str]]) -> dict[tuple, float]:
    """How often each form occurs."""
    return {f: n / len(questions) for f, n in Counter(form(q) for q, _ in questions).items()}


# Questions


def test_sums_are_right_and_distinct() -> None:
    questions = addition_questions(5000, seed=3)
    terms = set()
    for question, answer in questions:
        a, b = map(int, question.split("+"))
        assert answer == f"_{a + b}".ljust(5)
        assert len(question) == 7
        terms.add((min(a, b), max(a, b)))
    assert len(terms) == len(questions) == 5000


def test_all_sums_of_one_digit_can_be_asked_for() -> None:
    assert len(addition_questions(55, digits=1)) == 55
    with pytest.raises(ValueError, match="count must be from 0 to 55 for digits 1, got 56"):
        addition_questions(56, digits=1)


def test_dates_are_those_of_the_answers() -> None:
    first, last = date(1990, 2, 1), date(1990, 3, 2)
    seen = set()
    for question, answer in date_questions(500, 1, first, last):
        form, _ = form_of_date(question)
        pattern = {"numbers": "%m/%d/%y", "short": "%b %d, %Y", "long": "%B %d, %Y"}
        text = question.strip()
        day = datetime.strptime(text, pattern.get(form, "%A, %B %d, %Y")).date()
        assert day.isoformat() == answer.removeprefix("_")
        assert form != "full" or text.lower().startswith(day.strftime("%A").lower())
        assert len(question) == 29
        seen.add(day)
    assert (min(seen), max(seen)) == (first, last)


@pytest.mark.parametrize("make", [addition_questions, date_questions])
def test_questions_depend_on_the_seed(make: Callable[..., list[tuple[str, str]]]) -> None:
    assert make(50, seed=1) == make(50, seed=1)
    assert make(50, seed=1) != make(50, seed=2)


@needs_book
@pytest.mark.parametrize(
    ("file", "form", "make"),
    [
        ("addition.txt", form_of_sum, addition_questions),
        ("date.txt", form_of_date, date_questions),
    ],
)
def test_made_questions_are_like_the_books(
    file: str, form: Callable[[str], tuple], make: Callable[[], list[tuple[str, str]]]
) -> None:
    theirs, ours = read_questions(BOOK / file), make()
    assert len(ours) == len(theirs) == 50_000
    for column in (0, 1):
        assert {len(q[column]) for q in ours} == {len(q[column]) for q in theirs}
        assert set("".join(q[column] for q in ours)) == set("".join(q[column] for q in theirs))
    expected, found = shares(form, theirs), shares(form, ours)
    assert found.keys() == expected.keys()
    for key, share in expected.items():  # 5 standard deviations of the difference of two shares
        assert abs(found[key] - share) < 5 * (2 * share / 50_000) ** 0.5, key
    if make is date_questions:
        days = [[q[1] for q in questions] for questions in (ours, theirs)]
        assert [(min(d), max(d)) for d in days] == [("_1970-01-01", "_2017-07-24")] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: addition_questions(digits=0), "digits must be from 1 to 18, got 0"),
        (lambda: date_questions(-1), "count must be at least 0, got -1"),
        (
            lambda: date_questions(1, 0, date(2000, 1, 2), date(2000, 1, 1)),
            "got 2000-01-02 and 2000-01-01",
        ),
        (lambda: date_questions(1, 0, date(1900, 1, 1), date(2000, 1, 1)), "100 years"),
    ],
)
def test_bad_arguments_raise(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# Files


def test_files_that_do_not_fit_raise_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("1+1_2\n1+1=2\n")
    with pytest.raises(ValueError, match="line 2: expected question_answer"):
        read_questions(path)
    with pytest.raises(ValueError, match="line 1: expected source<TAB>target"):
        read_token_pairs(path)
    for read in (read_questions, read_token_pairs):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "absent.txt")


def test_token_pairs_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("I am\tje suis\nGo !\tva  !\n", encoding="utf-8")
    expected = [(["I", "am"], ["je", "suis"]), (["Go", "!"], ["va", "!"])]
    assert read_token_pairs(path) == expected


def test_written_questions_are_read_again(tmp_path: Path) -> None:
    write_questions(tmp_path / "questions.txt", QUESTIONS)
    assert read_questions(tmp_path / "questions.txt") == QUESTIONS


# Tensors


def test_characters_are_numbered_by_first_appearance() -> None:
    pairs = SequencePairs.from_questions(QUESTIONS)
    assert "".join(pairs.source_vocabulary.tokens) == "16+75 _920"
    assert pairs.target_vocabulary == pairs.source_vocabulary
    assert (pairs.lengths, pairs.end) == (None, None)
    for i, (question, answer) in enumerate(QUESTIONS):
        assert "".join(pairs.source_vocabulary.decode(pairs.source[:, i].tolist())) == question
        assert "".join(pairs.target_vocabulary.decode(pairs.target[:, i].tolist())) == answer


def test_masked_padding_leaves_an_end_token() -> None:
    pairs = SequencePairs.from_questions(QUESTIONS, mask_padding=True)
    tokens = pairs.source_vocabulary.tokens
    texts = [
        ["".join(tokens[i] if i >= 0 else "." for i in column) for column in ids.T.tolist()]
        for ids in (pairs.source, pairs.target)
    ]
    assert texts == [["16+75.", "52+607", "1+1..."], ["_91 .", "_659 ", "_2 .."]]
    assert pairs.lengths is not None
    assert pairs.lengths.tolist() == [5, 6, 3]
    assert pairs.end == tokens.index(" ")


def test_reversed_sources_keep_their_padding_behind() -> None:
    pairs = SequencePairs.from_tokens(PAIRS)
    assert pairs.source.T.tolist() == [[0, 1, 2], [1, -1, -1], [0, 2, -1]]
    assert pairs.reversed().source.T.tolist() == [[2, 1, 0], [1, -1, -1], [2, 0, -1]]
    assert torch.equal(pairs.reversed().reversed().source, pairs.source)


def test_a_batch_is_as_long_as_its_longest() -> None:
    pairs = SequencePairs.from_tokens(PAIRS)
    assert pairs.target_vocabulary.tokens == ("<bos>", "<eos>", "x", "y", "z", "<unk>")
    batch = pairs.select(torch.tensor([2, 0]))
    assert batch.source.T.tolist() == [[0, 2, -1], [0, 1, 2]]
    assert batch.target.T.tolist() == [[0, 1, -1], [0, 2, 1]]
    short = pairs.select(torch.tensor([2]))
    assert (short.source.shape, short.target.shape, len(short)) == ((2, 1), (2, 1), 1)


def test_unknown_tokens_are_unk_in_given_vocabularies() -> None:
    known = SequencePairs.from_tokens(PAIRS)
    vocabularies = known.source_vocabulary, known.target_vocabulary
    pairs = SequencePairs.from_tokens([(["a", "?"], ["?"])], *vocabularies)
    assert pairs.source.T.tolist() == [[0, 3]]
    assert pairs.target.T.tolist() == [[0, 5, 1]]


def test_the_split_is_the_books() -> None:
    pairs = SequencePairs.from_questions(addition_questions(105))
    np.random.seed(1984)  # noqa: NPY002  # as the book does
    order = np.arange(105)
    np.random.shuffle(order)  # noqa: NPY002
    parts = pairs.split()
    assert torch.equal(parts["train"].source, pairs.source[:, order[:95]])
    assert torch.equal(parts["test"].target, pairs.target[:, order[95:]])
    assert len(parts["valid"]) == 0
    more = pairs.split(valid=0.2)
    assert torch.equal(more["test"].source, parts["test"].source)
    assert torch.equal(more["valid"].source, parts["train"].source[:, 74:])
    assert torch.equal(more["train"].source, parts["train"].source[:, :74])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SequencePairs.from_questions([]), "at least one, got none"),
        (lambda: SequencePairs.from_tokens([]), "at least one, got none"),
        (lambda: SequencePairs.from_tokens([(["a"], []), ([], [])]), "source 1 is empty"),
        (
            lambda: SequencePairs.from_questions([("1+1", "_2"), ("1+10", "_11")]),
            r"questions must have one width without mask_padding, got \[3, 4\]",
        ),
        (
            lambda: SequencePairs.from_questions(QUESTIONS, Vocabulary(["1"])),
            "'6' is not in the vocabulary",
        ),
        (lambda: SequencePairs.from_questions(QUESTIONS).split(test=1.0), "below 1, got 1.0, 0.0"),
    ],
)
def test_bad_pairs_raise(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
