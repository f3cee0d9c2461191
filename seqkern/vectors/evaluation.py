"""How well vectors agree with human judgements, and solve analogies."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from seqkern.vectors.similarity import nearest, unit

if TYPE_CHECKING:
    from seqkern.vectors.keyed_vectors import KeyedVectors

__all__ = ["Correlation", "WordPairs", "word_analogies", "word_pairs"]

Quadruple = tuple[str, str, str, str]


class Correlation(NamedTuple):
    """A coefficient, and the probability of one as large without any relation (two-sided)."""

    statistic: float
    pvalue: float


class WordPairs(NamedTuple):
    """Correlations of similarities with judgements, and the percentage of pairs with unknowns."""

    pearson: Correlation
    spearman: Correlation
    oov_ratio: float


def word_pairs(
    vectors: KeyedVectors,
    pairs: str | Path | Iterable[tuple[str, str, float]],
    delimiter: str = "\t",
    encoding: str = "utf-8",
    restrict_vocab: int | None = 300_000,
    case_insensitive: bool = True,
    dummy4unknown: bool = False,
) -> WordPairs:
    """Correlate cosines of pairs of words with human judgements.

    Parameters
    ----------
    vectors : KeyedVectors
    pairs : path or iterable of (str, str, float)
        A file has two words and a number a line. Lines that begin with ``#`` are comments; others,
        headers for one, are passed over with one warning.
    delimiter, encoding : str
        Of the file.
    restrict_vocab : int or None, default 300000
        Pairs with a word that is not among this many from the first count as unknown.
    case_insensitive : bool, default True
        Compare words in upper case; of several variants, the first is taken.
    dummy4unknown : bool, default False
        Give unknown pairs the similarity 0. Else they are left out.

    Returns
    -------
    WordPairs
        ``pearson`` and ``spearman``, each a statistic and a p-value, and ``oov_ratio`` in percent.

    Raises
    ------
    ValueError
        If fewer than two pairs are left.

    Examples
    --------
    >>> import torch
    >>> from seqkern.vectors import KeyedVectors
    >>> kv = KeyedVectors(["cat", "dog", "tea"], torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.0, 1.0]]))
    >>> judged = [("cat", "dog", 9.0), ("dog", "tea", 2.0), ("cat", "tea", 1.0), ("tea", "ox", 1.0)]
    >>> result = kv.evaluate_word_pairs(judged)
    >>> round(result.spearman.statistic, 6), result.oov_ratio
    (1.0, 25.0)
    """
    from scipy import stats  # takes a while to import

    ids, _ = _vocabulary(vectors, restrict_vocab, case_insensitive)
    if isinstance(pairs, str | Path):
        pairs = _read_pairs(pairs, delimiter, encoding)
    indices: list[tuple[int, int]] = []
    judged: list[float] = []
    unknown = 0
    for word1, word2, score in pairs:
        if case_insensitive:
            word1, word2 = word1.upper(), word2.upper()
        known = word1 in ids and word2 in ids
        unknown += not known
        if known or dummy4unknown:
            indices.append((ids[word1], ids[word2]) if known else (-1, -1))
            judged.append(float(score))
    if len(judged) < 2:
        raise ValueError(
            f"{len(judged)} pairs of known words and {unknown} others, expected 2 known at least"
        )
    index = torch.tensor(indices, device=vectors.vectors.device)
    first, second = (unit(vectors.vectors[column]).double() for column in index.T)
    similar = (first * second).sum(1).masked_fill(index[:, 0] < 0, 0.0).cpu().numpy()
    pearson, spearman = stats.pearsonr(judged, similar), stats.spearmanr(judged, similar)
    return WordPairs(
        Correlation(float(pearson[0]), float(pearson[1])),
        Correlation(float(spearman[0]), float(spearman[1])),
        unknown / (len(judged) + (0 if dummy4unknown else unknown)) * 100,
    )


def word_analogies(
    vectors: KeyedVectors,
    analogies: str | Path | Mapping[str, Iterable[Quadruple]],
    restrict_vocab: int | None = 300_000,
    case_insensitive: bool = True,
    dummy4unknown: bool = False,
    encoding: str = "utf-8",
) -> tuple[float, list[dict[str, Any]]]:
    """Solve analogies a : b = c : ?, all by matrix products of many questions at once.

    The answer is the word nearest to b - a + c, of vectors of length 1, that is none of the three.

    Parameters
    ----------
    vectors : KeyedVectors
    analogies : path, or mapping of str to iterables of (str, str, str, str)
        A file has four words a line, in sections that begin with ``: name``, as questions-words.txt
        of word2vec. Other lines are passed over with one warning.
    restrict_vocab, case_insensitive, encoding
        As `word_pairs`; answers, too, are among the first `restrict_vocab` words.
    dummy4unknown : bool, default False
        Count questions with unknown words as failed. Else they are left out.

    Returns
    -------
    score : float
        The share of questions solved; 0 if none is left.
    sections : list of dict
        Of each section, and of all as ``Total accuracy``: its name, ``section``, and the questions
        ``correct`` and ``incorrect``, upper case if that is how they were compared.

    Raises
    ------
    ValueError
        If a question stands before the first section.

    Examples
    --------
    >>> import torch
    >>> from seqkern.vectors import KeyedVectors
    >>> table = torch.tensor([[1.0, 0, 0], [1.0, 0, 1], [0, 1.0, 0], [0, 1.0, 1]])
    >>> kv = KeyedVectors(["man", "men", "cat", "cats"], table)
    >>> score, sections = kv.evaluate_word_analogies({"plural": [("man", "men", "cat", "cats")]})
    >>> score, sections[0]["correct"]
    (1.0, [('MAN', 'MEN', 'CAT', 'CATS')])
    """
    if isinstance(analogies, str | Path):
        analogies = _read_analogies(analogies, encoding)
    ids, folded = _vocabulary(vectors, restrict_vocab, case_insensitive)
    fold = str.upper if case_insensitive else str
    questions = [
        (section, tuple(map(fold, question)))
        for section, asked in analogies.items()
        for question in asked
    ]
    known = [question for _, question in questions if all(word in ids for word in question)]
    answers = iter(_solve(vectors, [[ids[word] for word in q[:3]] for q in known], folded))
    sections: dict[str, dict[str, Any]] = {
        name: {"section": name, "correct": [], "incorrect": []} for name in analogies
    }
    total: dict[str, Any] = {"section": "Total accuracy", "correct": [], "incorrect": []}
    for name, question in questions:
        if all(word in ids for word in question):
            outcome = "correct" if next(answers) == ids[question[3]] else "incorrect"
        elif dummy4unknown:
            outcome = "incorrect"
        else:
            continue
        sections[name][outcome].append(question)
        total[outcome].append(question)
    score = len(total["correct"]) / max(1, len(total["correct"]) + len(total["incorrect"]))
    return score, [*sections.values(), total]


def _vocabulary(
    vectors: KeyedVectors, restrict_vocab: int | None, case_insensitive: bool
) -> tuple[dict[str, int], list[int]]:
    """First index of each word as compared, and of each index the first of its variants."""
    if restrict_vocab is not None and restrict_vocab < 1:
        raise ValueError(f"restrict_vocab is {restrict_vocab}, expected at least 1")
    words = vectors.words[:restrict_vocab]
    if case_insensitive:
        words = [word.upper() for word in words]
    ids: dict[str, int] = {}
    folded = [ids.setdefault(word, i) for i, word in enumerate(words)]
    return ids, folded


def _solve(vectors: KeyedVectors, questions: list[list[int]], folded: list[int]) -> list[int]:
    """The first variant of each question's answer; -1 where all words are asked with."""
    device = vectors.vectors.device
    asked = np.array(questions, np.int64).reshape(-1, 3)
    a, b, c = torch.from_numpy(asked.T).to(device)
    distinct, place = torch.cat([a, b, c]).unique(return_inverse=True)
    of_a, of_b, of_c = unit(vectors.vectors[distinct])[place].view(
        3, len(asked), vectors.vector_size
    )
    excluded = torch.from_numpy(_variants(asked, np.array(folded, np.int64))).to(device)
    values, rows = nearest(
        vectors.vectors[: len(folded)], vectors.norms, unit(of_b - of_a + of_c), excluded, topn=1
    )
    first = torch.tensor(folded, device=device)[rows[:, :1]]
    return first.masked_fill(values == -torch.inf, -1).flatten().tolist()


def _variants(asked: np.ndarray, folded: np.ndarray) -> np.ndarray:
    """Pairs (2, E) of a question and a word that is one of its three, in whatever case."""
    order = np.argsort(folded, kind="stable")  # variants side by side
    first = np.searchsorted(folded[order], asked.ravel(), "left")
    count = np.searchsorted(folded[order], asked.ravel(), "right") - first
    # First, first + 1, ... for each of the words asked with.
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    question = np.repeat(np.arange(asked.size) // 3, count)
    return np.stack([question, order[np.repeat(first, count) + within]])


def _read_pairs(
    path: str | Path, delimiter: str, encoding: str
) -> Iterator[tuple[str, str, float]]:
    passed = []
    with open(path, encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            if line.startswith("#") or not line.strip():
                continue
            try:
                word1, word2, score = line.split(delimiter)
                yield word1, word2, float(score)
            except ValueError:
                passed.append(number)
    _warn_passed(path, passed, "two words and a number")


def _read_analogies(path: str | Path, encoding: str) -> dict[str, list[Quadruple]]:
    sections: dict[str, list[Quadruple]] = {}
    section: list[Quadruple] | None = None
    passed = []
    with open(path, encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            if line.startswith(": "):
                section = sections.setdefault(line[2:].strip(), [])
            elif words and section is None:
                raise ValueError(f"{path}, line {number}: expected a section, ': name', first")
            elif len(words) == 4 and section is not None:
                section.append((words[0], words[1], words[2], words[3]))
            elif words:
                passed.append(number)
    _warn_passed(path, passed, "four words")
    return sections


def _warn_passed(path: str | Path, lines: list[int], expected: str) -> None:
    if lines:
        warnings.warn(
            f"{path}: {len(lines)} lines passed over, line {lines[0]} first: expected {expected}",
            stacklevel=4,
        )
