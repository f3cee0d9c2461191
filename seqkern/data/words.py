"""Words of a text by frequency, and texts as ids of words: what word vectors are trained on.

A text is one of

- a path: a file of UTF-8 text of any size, read natively and in parallel. Words are what ASCII
  whitespace separates, and a line is a sentence; a byte order mark is no part of the text.
- sentences: an iterable of lists of words, which is read more than once (a list, or an object whose
  `__iter__` starts anew; no generator).
- ids: an integer tensor, of one sentence (length,) or of several (sentences, length), or a list of
  tensors (length,). The words of such a text are the ids in decimal, `"17"`.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from seqkern._build_info import extension

Source: TypeAlias = "str | os.PathLike[str] | Iterable[Sequence[str]] | Tensor | Sequence[Tensor]"

SENTENCE_END = -1
_ERRORS = ("strict", "replace", "ignore")
_WORDS_BETWEEN_PRUNINGS = 10_000  # as csrc/text/corpus.cpp has it
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class WordCounts:
    """The distinct words of a text, by falling count, then by first appearance.

    Attributes
    ----------
    words : list of str
    counts : Tensor
        int64, shape (len(words),).
    total : int
        Words of the text, those that are not in `words` included.
    sentences : int
        Sentences that have a word.
    """

    words: list[str]
    counts: Tensor
    total: int
    sentences: int

    def __len__(self) -> int:
        return len(self.words)

    def prune(self, min_count: int = 1, max_final_vocab: int | None = None) -> WordCounts:
        """Leave out rare words, as gensim's options of the same names do.

        Parameters
        ----------
        min_count : int
            Words that occur less often are left out.
        max_final_vocab : int, optional
            Raises `min_count` until no more words than this are left; there may be fewer, since
            words of one count stay or go together.

        Returns
        -------
        WordCounts
            Of the words that stay; `total` and `sentences` are the text's.

        Raises
        ------
        ValueError
            If no word is left, or `max_final_vocab` is below 1.

        Examples
        --------
        >>> counts = count_words([["a", "b", "a"], ["c", "a", "b"]])
        >>> counts.prune(min_count=2).words
        ['a', 'b']
        >>> counts.prune(max_final_vocab=1).words
        ['a']
        """
        if max_final_vocab is not None:
            if max_final_vocab < 1:
                raise ValueError(f"max_final_vocab must be at least 1, got {max_final_vocab}")
            if max_final_vocab < len(self):
                min_count = max(min_count, int(self.counts[max_final_vocab]) + 1)
        left = int((self.counts >= min_count).sum())
        if left == 0:
            limit = "" if max_final_vocab is None else f" with max_final_vocab {max_final_vocab}"
            raise ValueError(f"no word occurs min_count = {min_count} times{limit}")
        return replace(self, words=self.words[:left], counts=self.counts[:left])


@dataclass(frozen=True, eq=False)
class EncodedText:
    """A text as ids of words.

    Attributes
    ----------
    ids : Tensor
        int32, shape (tokens + sentences,): the words of a sentence, then -1, and so on. A sentence
        has one word at least.
    tokens, sentences : int
        How many words, and how many sentences.
    """

    ids: Tensor
    tokens: int
    sentences: int


def count_words(
    source: Source,
    *,
    threads: int | None = None,
    max_vocab: int | None = None,
    errors: str = "strict",
) -> WordCounts:
    """Count the words of a text.

    Parameters
    ----------
    source : path, iterable of lists of str, or integer tensors
        The text, as this module's description has it.
    threads : int, optional
        For files; default `torch.get_num_threads()`. The result does not depend on it.
    max_vocab : int, optional
        Bounds memory as gensim's `max_vocab_size` does: where more distinct words than this are
        known after a sentence (or after 10,000 words of one), those that occurred less often than a
        threshold are forgotten, and the threshold rises by one, from 1. Counts of rare words are
        then too low, and a file is read by one thread, since what is forgotten depends on the
        order of the text. Not for tensors.
    errors : {"strict", "replace", "ignore"}
        What to do about bytes of a file that are no UTF-8, as in `open`.

    Returns
    -------
    WordCounts

    Raises
    ------
    OSError
        If the file cannot be read: FileNotFoundError, IsADirectoryError, PermissionError.
    ValueError
        If the text has no word, is no UTF-8 (the message has byte offset and line), or an argument
        is out of its range.
    TypeError
        If `source` is none of the three kinds, or an iterator, which can be read only once.

    Notes
    -----
    A file must not be cut short by another process while it is read.

    Examples
    --------
    >>> counts = count_words([["to", "be"], ["or", "not", "to", "be"]])
    >>> counts.words, counts.counts
    (['to', 'be', 'or', 'not'], tensor([2, 2, 1, 1]))
    >>> count_words(torch.tensor([[7, 3], [3, 3]])).words
    ['3', '7']
    """
    _check_errors(errors)
    if max_vocab is not None and max_vocab < 1:
        raise ValueError(f"max_vocab must be at least 1, got {max_vocab}")
    if isinstance(source, str | os.PathLike):
        counts = _count_file(os.fspath(source), _threads(threads), max_vocab, errors)
    elif (text := _id_text(source)) is not None:
        if max_vocab is not None:
            raise ValueError("max_vocab is for texts, not for tensors of ids")
        counts = _count_ids(text)
    else:
        counts = _count_sentences(_sentences(source), max_vocab)
    if not counts.words:
        if counts.total:
            raise ValueError(f"no word is left: max_vocab = {max_vocab} made all forgotten")
        place = f" in {os.fspath(source)}" if isinstance(source, str | os.PathLike) else ""
        raise ValueError(f"the text is empty: no word{place}")
    return counts


def encode_words(
    source: Source,
    words: Sequence[str],
    *,
    threads: int | None = None,
    errors: str = "strict",
    memory_limit: int = 4 << 30,
    folder: str | os.PathLike[str] | None = None,
) -> EncodedText:
    """Write a text as ids of words.

    Parameters
    ----------
    source : path, iterable of lists of str, or integer tensors
        The text, as this module's description has it.
    words : sequence of str
        The vocabulary; a word's id is its place in it. Other words of the text are left out, and
        sentences without a known word too.
    threads, errors
        As for `count_words`.
    memory_limit : int
        Ids of more bytes than this, four an id, are kept in a file and mapped into memory. The file
        has no name, and its space is free again when the tensor is dropped.
    folder : path, optional
        Where that file is; default the folder for temporary files.

    Returns
    -------
    EncodedText

    Raises
    ------
    OSError
        If the file cannot be read, or there is no space for the ids.
    ValueError
        If a word is twice in `words`, or the file is no UTF-8 text.
    TypeError
        If `source` is none of the three kinds, or an iterator.

    Examples
    --------
    >>> text = encode_words([["to", "be"], [], ["or", "not", "to", "be"]], ["to", "be", "not"])
    >>> text.ids
    tensor([ 0,  1, -1,  2,  0,  1, -1], dtype=torch.int32)
    >>> text.tokens, text.sentences
    (5, 2)
    """
    _check_errors(errors)
    ids = {word: i for i, word in enumerate(words)}
    if len(ids) != len(words):
        repeated = next(word for i, word in enumerate(words) if ids[word] != i)
        raise ValueError(f"words must be distinct, got {repeated!r} more than once")
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        return _encode_file(path, ids, _threads(threads), errors, memory_limit, folder)
    if (text := _id_text(source)) is not None:
        return _encode_ids(text, ids, memory_limit, folder)
    return _encode_sentences(_sentences(source), ids, memory_limit, folder)


# Files


def _count_file(path: str, threads: int, max_vocab: int | None, errors: str) -> WordCounts:
    found, counts, firsts, total, sentences = extension.text.count_words(
        os.fsencode(path), max_vocab or 0, errors == "strict", threads
    )
    words = [str(word, "utf-8", errors) for word in found]
    if errors != "strict":
        # Words that differ in bytes may be one word of text, or none.
        order = np.argsort(firsts)
        merged: dict[str, int] = {}
        for i in order.tolist():
            merged[words[i]] = merged.get(words[i], 0) + int(counts[i])
        total -= merged.pop("", 0)
        return _by_count(merged, total, sentences)
    return WordCounts(words, torch.from_numpy(counts), total, sentences)


def _encode_file(
    path: str,
    ids: dict[str, int],
    threads: int,
    errors: str,
    memory_limit: int,
    folder: str | os.PathLike[str] | None,
) -> EncodedText:
    encoded = os.fsencode(path)
    if errors == "strict":
        # A lone surrogate has no UTF-8; what it becomes is in no valid text.
        forms = {word.encode("utf-8", "surrogatepass"): i for word, i in ids.items() if word}
    else:
        found = extension.text.count_words(encoded, 0, False, threads)[0]
        texts = ((form, str(form, "utf-8", errors)) for form in found)
        forms = {form: ids[word] for form, word in texts if word and word in ids}
    encoder = extension.text.Encoder(
        encoded, list(forms), np.fromiter(forms.values(), np.int32), errors == "strict", threads
    )
    out = _allocate(encoder.size, memory_limit, folder)
    encoder.fill(out.numpy(), threads)
    return EncodedText(out, encoder.words, encoder.sentences)


def _allocate(size: int, memory_limit: int, folder: str | os.PathLike[str] | None) -> Tensor:
    """An int32 tensor (size,), in memory or over a file without a name."""
    if 4 * size <= memory_limit or size == 0:
        return torch.empty(size, dtype=torch.int32)
    descriptor, path = tempfile.mkstemp(suffix=".ids", prefix="seqkern-", dir=folder)
    try:
        # A full disk is an error now, where it would end the process when a page is written.
        os.posix_fallocate(descriptor, 0, 4 * size)
        return torch.from_file(path, shared=True, size=size, dtype=torch.int32)
    finally:
        os.close(descriptor)
        os.unlink(path)


# Sentences of words


def _sentences(source: object) -> Iterable[Sequence[str]]:
    if isinstance(source, Iterator):
        raise TypeError(
            f"source is an iterator ({type(source).__name__}), which can be read only once, "
            "but the text is read again: give a list, or an object whose __iter__ starts anew"
        )
    if not isinstance(source, Iterable) or isinstance(source, bytes):
        raise TypeError(
            "source must be a path, an iterable of lists of words, or integer tensors, got "
            f"{type(source).__name__}"
        )
    return source


def _checked(sentence: object) -> Sequence[str]:
    if isinstance(sentence, str | bytes) or not isinstance(sentence, Iterable):
        raise TypeError(f"a sentence must be a list of words, got {sentence!r:.60}")
    words = sentence if isinstance(sentence, list | tuple) else list(sentence)
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"a word must be str, got {word!r:.60} of type {type(word).__name__}")
    return words


def _count_sentences(source: Iterable[Sequence[str]], max_vocab: int | None) -> WordCounts:
    counts: dict[str, int] = {}
    total = sentences = 0
    threshold = 1
    for sentence in map(_checked, source):
        total += len(sentence)
        sentences += bool(sentence)
        for start in range(0, len(sentence), _WORDS_BETWEEN_PRUNINGS):
            for word in sentence[start : start + _WORDS_BETWEEN_PRUNINGS]:
                counts[word] = counts.get(word, 0) + 1
            if max_vocab is not None and len(counts) > max_vocab:
                counts = {word: n for word, n in counts.items() if n >= threshold}
                threshold += 1
    return _by_count(counts, total, sentences)


def _by_count(counts: dict[str, int], total: int, sentences: int) -> WordCounts:
    """From counts in order of first appearance."""
    words = sorted(counts, key=counts.__getitem__, reverse=True)  # stable
    values = torch.tensor([counts[word] for word in words], dtype=torch.int64)
    return WordCounts(words, values, total, sentences)


def _encode_sentences(
    source: Iterable[Sequence[str]],
    ids: dict[str, int],
    memory_limit: int,
    folder: str | os.PathLike[str] | None,
) -> EncodedText:
    def known() -> Iterator[array[int]]:
        for sentence in map(_checked, source):
            found = array("i", [ids[word] for word in sentence if word in ids])
            if found:
                yield found

    tokens = sentences = 0
    for found in known():
        tokens += len(found)
        sentences += 1
    out = _allocate(tokens + sentences, memory_limit, folder)
    view = out.numpy()
    place = 0
    for found in known():
        if place + len(found) + 1 > len(view):
            break
        view[place : place + len(found)] = found
        place += len(found) + 1
        view[place - 1] = SENTENCE_END
    else:
        if place == len(view):
            return EncodedText(out, tokens, sentences)
    raise ValueError("source gave different sentences when it was read again")


# Tensors of ids


@dataclass(frozen=True)
class _IdText:
    ids: np.ndarray  # int64, (length,)
    lengths: np.ndarray  # of the sentences


def _id_text(source: object) -> _IdText | None:
    """A text of ids; None if `source` is of another kind."""
    if isinstance(source, Tensor):
        if source.dim() not in (1, 2):
            raise ValueError(
                "a tensor of ids must have shape (length,) or (sentences, length), got "
                f"{tuple(source.shape)}"
            )
        rows = source[None] if source.dim() == 1 else source
        return _IdText(_checked_ids(source).reshape(-1), np.full(rows.shape[0], rows.shape[1]))
    if not (isinstance(source, list | tuple) and source and isinstance(source[0], Tensor)):
        return None
    for part in source:
        if not isinstance(part, Tensor) or part.dim() != 1:
            given = f"shape {tuple(part.shape)}" if isinstance(part, Tensor) else repr(part)
            raise ValueError(f"a list of ids must hold tensors of shape (length,), got {given:.60}")
    parts = [_checked_ids(part) for part in source]
    return _IdText(np.concatenate(parts), np.array([len(part) for part in parts]))


def _checked_ids(ids: Tensor) -> np.ndarray:
    if ids.dtype not in _INTEGERS:
        raise TypeError(f"ids must be integers, got a tensor of {ids.dtype}")
    if ids.numel() and int(ids.min()) < 0:
        raise ValueError(f"ids must not be negative, got {int(ids.min())}")
    return ids.to("cpu", torch.int64).numpy()


def _count_ids(text: _IdText) -> WordCounts:
    ids, firsts, counts = np.unique(text.ids, return_index=True, return_counts=True)
    order = np.lexsort((firsts, -counts))
    words = [str(i) for i in ids[order].tolist()]
    values = torch.from_numpy(counts[order].astype(np.int64))
    return WordCounts(words, values, len(text.ids), int((text.lengths > 0).sum()))


def _encode_ids(
    text: _IdText,
    words: dict[str, int],
    memory_limit: int,
    folder: str | os.PathLike[str] | None,
) -> EncodedText:
    decimal = (word for word in words if word.isascii() and word.isdecimal() and len(word) < 19)
    known = {int(word): words[word] for word in decimal if str(int(word)) == word}
    values = np.array(sorted(known), dtype=np.int64)
    ids = np.array([known[value] for value in values.tolist()], dtype=np.int32)
    place = np.searchsorted(values, text.ids)
    kept = np.zeros(len(text.ids), dtype=bool)
    inside = place < len(values)
    kept[inside] = values[place[inside]] == text.ids[inside]

    sentence = np.repeat(np.arange(len(text.lengths)), text.lengths)[kept]
    # From 1, the number of each kept word's sentence among those that keep a word.
    number = np.cumsum(np.diff(sentence, prepend=-1) != 0)
    sentences = int(number[-1]) if len(number) else 0
    out = _allocate(len(sentence) + sentences, memory_limit, folder)
    view = out.numpy()
    view[:] = SENTENCE_END
    view[np.arange(len(sentence)) + number - 1] = ids[place[kept]]
    return EncodedText(out, len(sentence), sentences)


def _check_errors(errors: str) -> None:
    if errors not in _ERRORS:
        raise ValueError(f"errors must be one of {', '.join(_ERRORS)}, got {errors!r}")


def _threads(threads: int | None) -> int:
    if threads is None:
        return torch.get_num_threads()
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads
