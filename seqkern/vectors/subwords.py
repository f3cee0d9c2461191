"""Character n-grams of words, numbered by fastText's hash.

Bojanowski, Grave, Joulin, Mikolov, Enriching Word Vectors with Subword Information, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["ngram_hash", "ngrams", "subword_table"]

_OFFSET, _PRIME = 2166136261, 16777619  # FNV-1a of 32 bits
_WORDS = 1 << 16  # taken at a time


def ngrams(word: str, min_n: int = 3, max_n: int = 6) -> list[str]:
    """List the n-grams of ``<word>``, by their beginning, then their length.

    Parameters
    ----------
    word : str
    min_n, max_n : int
        Lengths in code points. `max_n` = 0 gives none.

    Returns
    -------
    list of str
        ``<`` and ``>`` alone are none. The whole ``<word>`` is, where its length is asked for.

    Raises
    ------
    ValueError
        If `min_n` is below 1, or `max_n` negative.

    Examples
    --------
    >>> ngrams("cat", 3, 4)
    ['<ca', '<cat', 'cat', 'cat>', 'at>']
    """
    _check(min_n, max_n)
    marked = f"<{word}>"
    return [
        marked[start:end]
        for start in range(len(marked))
        for end in range(start + min_n, min(start + max_n, len(marked)) + 1)
        if not (end - start == 1 and (start == 0 or end == len(marked)))
    ]


def ngram_hash(ngram: str) -> int:
    """FNV-1a, 32 bits, of the UTF-8 of an n-gram, with bytes from 128 on as negative numbers.

    The latter is what fastText does with ``char`` that is signed, and keeps for the sake of the
    models there are.

    Examples
    --------
    >>> ngram_hash("<ca"), ngram_hash("ä")
    (1066916747, 939155682)
    """
    value = _OFFSET
    for byte in ngram.encode():
        value = ((value ^ (byte | 0xFFFFFF00 if byte >= 128 else byte)) * _PRIME) & 0xFFFFFFFF
    return value


def subword_table(
    words: Sequence[str], min_n: int = 3, max_n: int = 6, bucket: int = 2_000_000
) -> tuple[Tensor, Tensor]:
    """Number the rows of an embedding whose sum or mean is the vector of each word.

    Parameters
    ----------
    words : sequence of str
        V words.
    min_n, max_n : int
        Lengths of n-grams in code points, as `ngrams`.
    bucket : int
        The number of rows that n-grams share.

    Returns
    -------
    ids : Tensor, (total,), int32
        Of a word, its own number, then ``V + hash % bucket`` of its n-grams.
    offsets : Tensor, (V + 1,), int64
        Word i has ``ids[offsets[i]:offsets[i + 1]]``: as `torch.nn.functional.embedding_bag` takes
        them with ``include_last_offset=True``.

    Raises
    ------
    ValueError
        If `min_n` or `bucket` is below 1, `max_n` negative, or V + `bucket` beyond int32.

    Notes
    -----
    These are fastText's numbers, except that fastText gives its end of line, ``</s>``, no n-grams.

    Examples
    --------
    >>> ids, offsets = subword_table(["cat", "a"], 3, 4, bucket=100)
    >>> ids.tolist(), offsets.tolist()
    ([0, 49, 75, 33, 97, 8, 1, 2], [0, 6, 8])
    """
    _check(min_n, max_n)
    if bucket < 1:
        raise ValueError(f"bucket is {bucket}, expected at least 1")
    if len(words) + bucket > 1 << 31:
        raise ValueError(f"{len(words):,} words and bucket {bucket:,} are beyond int32 together")
    ids, counts = [], []
    for start in range(0, len(words), _WORDS):
        hashes, count = _hashes(words[start : start + _WORDS], min_n, max_n)
        first = np.cumsum(count + 1) - count - 1
        numbers = np.empty(len(hashes) + len(count), np.int32)
        own = np.zeros(len(numbers), bool)
        own[first] = True
        numbers[own] = np.arange(start, start + len(count))
        numbers[~own] = len(words) + (hashes % np.uint32(bucket)).astype(np.int64)
        ids.append(numbers)
        counts.append(count + 1)
    offsets = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
    return (
        torch.from_numpy(np.concatenate([np.empty(0, np.int32), *ids])),
        torch.from_numpy(offsets),
    )


def _check(min_n: int, max_n: int) -> None:
    if min_n < 1 or max_n < 0:
        raise ValueError(f"min_n, max_n are {min_n}, {max_n}, expected at least 1, 0")


def _hashes(words: Sequence[str], min_n: int, max_n: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all n-grams in the order of `ngrams`, uint32, and how many each word has.

    The n-grams that begin at a code point are one hash, taken further a code point at a time: of
    all code points of all words at once.
    """
    text = "".join([f"<{word}>" for word in words])
    size = np.array([len(word) + 2 for word in words])  # code points
    content = np.frombuffer(text.encode(), np.uint8)
    signed = content.view(np.int8).astype(np.uint32)
    begin = np.append(np.flatnonzero(content & 0xC0 != 0x80), len(content))  # of code points
    width = np.diff(begin)
    end = np.repeat(np.cumsum(size), size)  # of the word of a code point, in code points
    first = end - np.repeat(size, size)
    lengths = range(min_n, max_n + 1)
    hashes = np.zeros((len(width), len(lengths)), np.uint32)
    valid = np.zeros(hashes.shape, bool)
    value = np.full(len(width), _OFFSET, np.uint32)
    start = np.arange(len(width))
    for n in range(1, max_n + 1):
        start = start[start + n <= end[start]]  # those with n code points left
        at, last = start, start + n - 1
        for byte in range(4):  # at most, of a code point
            at, last = at[width[last] > byte], last[width[last] > byte]
            value[at] = (value[at] ^ signed[begin[last] + byte]) * np.uint32(_PRIME)
        if n >= min_n:
            kept = start
            if n == 1:
                kept = start[(start != first[start]) & (start + 1 != end[start])]
            hashes[kept, n - min_n] = value[kept]
            valid[kept, n - min_n] = True
    bounds = np.concatenate([[0], np.cumsum(size)])
    before = np.concatenate([[0], np.cumsum(valid.sum(1))])
    return hashes[valid], np.diff(before[bounds])
