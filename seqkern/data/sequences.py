"""Pairs of a source and a target sequence: sums and dates made from a seed, files of pairs, and
tensors of ids to train on.

The tasks are those of "Deep Learning from Scratch 2" (K. Saito), chapter 7. A question and its
answer are strings of fixed width, filled up with spaces, and every answer begins with `_`, the
start token of a decoder: `16+75  ` and `_91  `.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqkern.data.padded import encode_padded
from seqkern.data.text import EOS
from seqkern.data.vocabulary import Vocabulary

PADDING = -1
"""The id of positions past the end of a sequence."""

BOS = "<bos>"
"""What a target of tokens begins with."""

Question = tuple[str, str]
"""A question and its answer, which begins with `_`."""

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DATE_WIDTH = len("Wednesday, September 30, 2015")


def addition_questions(count: int = 50_000, digits: int = 3, seed: int = 0) -> list[Question]:
    """Sums of two numbers, like the book's addition.txt.

    A number has 1 to `digits` digits, each number of digits equally likely, and its digits are
    uniform; leading zeros are then dropped. No two questions add the same two numbers, in whatever
    order.

    Parameters
    ----------
    count : int
        Number of questions.
    digits : int
        Greatest number of digits.
    seed : int
        The questions depend on the arguments alone.

    Returns
    -------
    list of (str, str)
        Questions of 2 * digits + 1 characters and answers of digits + 2.

    Raises
    ------
    ValueError
        If `count` is negative or beyond the number of distinct questions, or `digits` is
        not from 1 to 18.

    Examples
    --------
    >>> addition_questions(2)
    [('307+4  ', '_311 '), ('7+0    ', '_7   ')]
    """
    if not 1 <= digits <= 18:  # int64
        raise ValueError(f"digits must be from 1 to 18, got {digits}")
    possible = 10**digits * (10**digits + 1) // 2
    if not 0 <= count <= possible:
        raise ValueError(f"count must be from 0 to {possible:,} for digits {digits}, got {count}")
    random = np.random.default_rng(seed)
    found: dict[tuple[int, int], tuple[int, int]] = {}
    while len(found) < count:
        lengths = random.integers(1, digits + 1, (count, 2))
        for a, b in random.integers(0, 10**lengths).tolist():
            found.setdefault((min(a, b), max(a, b)), (a, b))
    return [
        (f"{a}+{b}".ljust(2 * digits + 1), f"_{a + b}".ljust(digits + 2))
        for a, b in list(found.values())[:count]
    ]


def date_questions(
    count: int = 50_000,
    seed: int = 0,
    first: date = date(1970, 1, 1),
    last: date = date(2017, 7, 24),
) -> list[Question]:
    """Dates as people write them and as ISO 8601 does, like the book's date.txt.

    Days are uniform from `first` to `last`. Four ways of writing are equally likely: `9/27/94`,
    `Sep 27, 1994`, `September 27, 1994` and `Tuesday, September 27, 1994`; half of the dates are
    written like that, a quarter in capitals, a quarter without. Questions may repeat.

    Parameters
    ----------
    count : int
        Number of questions.
    seed : int
        The questions depend on the arguments alone.
    first, last : date
        The days to draw from, both included; of less than 100 years, whose last two digits tell
        which is meant.

    Returns
    -------
    list of (str, str)
        Questions of 29 characters and answers of 11.

    Raises
    ------
    ValueError
        If `count` is negative, or there is no day, or 100 years and more, from `first` to `last`.

    Examples
    --------
    >>> date_questions(1)
    [('JUNE 17, 2010                ', '_2010-06-17')]
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    if not (first <= last and last.year - first.year < 100):
        raise ValueError(f"last must be in the 100 years from first, got {first} and {last}")
    random = np.random.default_rng(seed)
    days = random.integers(0, (last - first).days + 1, count)
    styles = random.integers(0, 4, (2, count))
    return [
        _date_question(first + timedelta(day), *style)
        for day, style in zip(days.tolist(), styles.T.tolist(), strict=True)
    ]


def _date_question(day: date, form: int, case: int) -> Question:
    month = _MONTHS[day.month - 1]
    written = (
        f"{day.month}/{day.day}/{day.year % 100:02}",
        f"{month[:3]} {day.day}, {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{_WEEKDAYS[day.weekday()]}, {month} {day.day}, {day.year}",
    )[form]
    question = (written, written, written.upper(), written.lower())[case]
    return question.ljust(_DATE_WIDTH), f"_{day.isoformat()}"


def read_questions(path: str | Path) -> list[Question]:
    """Read lines `question_answer`, such as the book's addition.txt and date.txt.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line has no `_`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "addition.txt"
    >>> write_questions(path, [("16+75  ", "_91  ")])
    >>> read_questions(path)
    [('16+75  ', '_91  ')]
    """
    questions = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            question, underscore, answer = line.rstrip("\n").partition("_")
            if not underscore:
                raise ValueError(f"{path}, line {number}: expected question_answer, got {line!r}")
            questions.append((question, underscore + answer))
    return questions


def write_questions(path: str | Path, questions: Sequence[Question]) -> None:
    """Write lines `question_answer`, as `read_questions` reads them."""
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(f"{question}{answer}\n" for question, answer in questions)


def read_token_pairs(path: str | Path) -> list[tuple[list[str], list[str]]]:
    """Read lines `source<TAB>target`, both tokens with blanks between them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line has not exactly one tab.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "pairs.tsv"
    >>> _ = path.write_text("I am\\tje suis\\n")
    >>> read_token_pairs(path)
    [(['I', 'am'], ['je', 'suis'])]
    """
    pairs = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            parts = line.rstrip("\n").split("\t")
            if len(parts) != 2:
                raise ValueError(f"{path}, line {number}: expected source<TAB>target, got {line!r}")
            pairs.append((parts[0].split(), parts[1].split()))
    return pairs


@dataclass(frozen=True)
class SequencePairs:
    """Ids of P sources and their targets.

    Attributes
    ----------
    source : Tensor
        int64, shape (S, P), time-major; -1 past the end of a source.
    target : Tensor
        int64, shape (T, P): start token, answer and, where there is one, end token; -1 past it.
    lengths : Tensor or None
        int64, shape (P,), of the sources; None where all have S tokens.
    source_vocabulary, target_vocabulary : Vocabulary
        Of the ids.
    end : int or None
        Id of the end token of targets; None where all have T tokens.

    Examples
    --------
    >>> pairs = SequencePairs.from_questions([("16+75  ", "_91  "), ("52+607 ", "_659 ")])
    >>> pairs.source.T.tolist()
    [[0, 1, 2, 3, 4, 5, 5], [4, 8, 2, 1, 9, 3, 5]]
    >>> pairs.reversed().source.T.tolist()
    [[5, 5, 4, 3, 2, 1, 0], [5, 3, 9, 1, 2, 8, 4]]
    """

    source: Tensor
    target: Tensor
    lengths: Tensor | None
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    end: int | None

    @classmethod
    def from_questions(
        cls,
        questions: Sequence[Question],
        vocabulary: Vocabulary | None = None,
        mask_padding: bool = False,
    ) -> SequencePairs:
        """Ids of characters, one vocabulary for questions and answers.

        Parameters
        ----------
        questions : sequence of (str, str)
            Questions and answers; at least one.
        vocabulary : Vocabulary, optional
            Default: the characters by first appearance in question, answer, question, ..., which
            gives them the book's ids.
        mask_padding : bool
            False: spaces at the end are characters like others, to be learned, as in the book.
            True: they are cut off; an answer then ends with one space, its end token.

        Raises
        ------
        ValueError
            If there is no question, a character is not in the vocabulary, or, without
            `mask_padding`, widths differ.
        """
        if not questions:
            raise ValueError("questions must hold at least one, got none")
        if vocabulary is None:
            vocabulary = Vocabulary(list(dict.fromkeys(chain.from_iterable(chain(*questions)))))
        sources, targets = zip(*questions, strict=True)
        end = None
        if mask_padding:
            sources = tuple(text.rstrip(" ") for text in sources)
            targets = tuple(text.rstrip(" ") + " " for text in targets)
            end = int(vocabulary.encode(" "))
        else:
            for name, texts in (("questions", sources), ("answers", targets)):
                widths = {len(text) for text in texts}
                if len(widths) > 1:
                    raise ValueError(
                        f"{name} must have one width without mask_padding, got {sorted(widths)}"
                    )
        return cls._encoded(sources, targets, vocabulary, vocabulary, end)

    @classmethod
    def from_tokens(
        cls,
        pairs: Sequence[tuple[Sequence[str], Sequence[str]]],
        source_vocabulary: Vocabulary | None = None,
        target_vocabulary: Vocabulary | None = None,
    ) -> SequencePairs:
        """Ids of tokens; targets are put between `<bos>` and `<eos>`.

        Parameters
        ----------
        pairs : sequence of (sequence of str, sequence of str)
            Sources and targets; at least one pair, and no source empty.
        source_vocabulary, target_vocabulary : Vocabulary, optional
            Default: the tokens by first appearance, and `<unk>`; those of targets after `<bos>` and
            `<eos>`.

        Raises
        ------
        ValueError
            If there is no pair, a source is empty, or a vocabulary lacks a token and `<unk>`.

        Examples
        --------
        >>> pairs = [("I am".split(), "je suis".split()), ("run".split(), "cours".split())]
        >>> pairs = SequencePairs.from_tokens(pairs)
        >>> pairs.source.T.tolist(), pairs.lengths.tolist()
        ([[0, 1], [2, -1]], [2, 1])
        >>> pairs.target.T.tolist(), pairs.end
        ([[0, 2, 3, 1], [0, 4, 1, -1]], 1)
        """
        if not pairs:
            raise ValueError("pairs must hold at least one, got none")
        sources = [list(source) for source, _ in pairs]
        targets = [[BOS, *target, EOS] for _, target in pairs]
        if source_vocabulary is None:
            source_vocabulary = Vocabulary.build(list(chain(*sources)))
        if target_vocabulary is None:
            target_vocabulary = Vocabulary.build([BOS, EOS, *chain(*targets)])
        end = int(target_vocabulary.encode([EOS]))
        return cls._encoded(sources, targets, source_vocabulary, target_vocabulary, end)

    @classmethod
    def _encoded(
        cls,
        sources: Sequence[Sequence[str]],
        targets: Sequence[Sequence[str]],
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        end: int | None,
    ) -> SequencePairs:
        source, lengths = encode_padded(sources, source_vocabulary, PADDING)
        target, _ = encode_padded(targets, target_vocabulary, PADDING)
        if not lengths.all():
            raise ValueError(
                f"source {int(lengths.argmin())} is empty, expected at least one token"
            )
        whole = bool((lengths == len(source)).all())
        vocabularies = source_vocabulary, target_vocabulary
        return cls(source, target, None if whole else lengths, *vocabularies, end)

    def __len__(self) -> int:
        """P, the number of pairs."""
        return self.source.shape[1]

    def select(self, indices: Tensor) -> SequencePairs:
        """The pairs at `indices`, int64 of shape (N,): a batch, no longer than its longest."""
        source, target = self.source[:, indices], self.target[:, indices]
        lengths = self.lengths
        if lengths is not None:
            lengths = lengths[indices]
            source = source[: int(lengths.max())] if len(lengths) else source[:0]
        if self.end is not None:
            target = target[: int((target >= 0).any(1).sum())]
        return replace(self, source=source, target=target, lengths=lengths)

    def to(self, device: torch.device | str) -> SequencePairs:
        """The same pairs on a device."""
        lengths = None if self.lengths is None else self.lengths.to(device)
        source, target = self.source.to(device), self.target.to(device)
        return replace(self, source=source, target=target, lengths=lengths)

    def reversed(self) -> SequencePairs:
        """The pairs with sources from last token to first (Sutskever et al., 2014)."""
        if self.lengths is None:
            return replace(self, source=self.source.flip(0))
        steps = torch.arange(len(self.source), device=self.source.device)[:, None]
        mirrored = self.lengths - 1 - steps
        order = torch.where(mirrored >= 0, mirrored, steps)
        return replace(self, source=self.source.gather(0, order))

    def split(
        self, seed: int = 1984, test: float = 0.1, valid: float = 0.0
    ) -> dict[str, SequencePairs]:
        """Shuffle, and cut into training, validation and test pairs.

        With the defaults, training and test pairs are the book's: the order is that of NumPy's
        `RandomState(seed)`, and the last tenth is for the test.

        Parameters
        ----------
        seed : int
            Of the order.
        test, valid : float
            Shares of all pairs. The validation pairs are the last of those not in the test, so the
            test pairs do not depend on `valid`.

        Returns
        -------
        dict of SequencePairs
            "train", "valid" and "test".

        Raises
        ------
        ValueError
            If a share is negative or both leave nothing to train on.
        """
        if not (test >= 0 and valid >= 0 and test + valid < 1):
            raise ValueError(f"test and valid must be shares of sum below 1, got {test}, {valid}")
        order = np.arange(len(self))
        np.random.RandomState(seed).shuffle(order)
        shuffled = torch.from_numpy(order).to(self.source.device)
        tested, validated = int(len(self) * test), int(len(self) * valid)
        sizes = [len(self) - tested - validated, validated, tested]
        parts = zip(("train", "valid", "test"), shuffled.split(sizes), strict=True)
        return {name: self.select(indices) for name, indices in parts}
