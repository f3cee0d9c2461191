"""Lines of a word and numbers, parsed many at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["parse_rows"]


def parse_rows(
    lines: Sequence[bytes], first: int, size: int | None, dtype: np.dtype, path: str | Path
) -> tuple[list[bytes], np.ndarray]:
    """Split lines into words and numbers.

    The numbers of all lines are parsed in one call. Where that does not give what was expected,
    each line is looked at by itself, so as to say which is wrong.

    Parameters
    ----------
    lines : sequence of bytes
        With their newlines.
    first : int
        The number of the first line, for messages.
    size : int, optional
        How many numbers a line has; those of the first line by default.
    dtype : numpy.dtype, float32 or float64
    path : str or Path
        For messages.

    Returns
    -------
    words : list of bytes
    rows : array, (lines, size)

    Raises
    ------
    ValueError
        If a line is not a word, a space, `size` finite numbers and a newline.

    Examples
    --------
    >>> parse_rows([b"cat 1 0.5\\n", b"dog 2 -1 \\n"], 2, None, np.dtype("f4"), "pets.txt")
    ([b'cat', b'dog'], array([[ 1. ,  0.5],
           [ 2. , -1. ]], dtype=float32))
    """
    words, numbers = [], []
    for line in lines:
        word, _, rest = line.partition(b" ")
        words.append(word)
        numbers.append(rest.strip())
    if size is None:
        size = len(numbers[0].split())
    if all(words) and lines[-1].endswith(b"\n"):
        rows = _parse(numbers, size, dtype)
        if rows is not None:
            return words, rows
    values = [_numbers(line, first + i, size, dtype, path) for i, line in enumerate(lines)]
    return words, np.array(values, dtype).reshape(len(lines), size)


def _parse(numbers: list[bytes], size: int, dtype: np.dtype) -> np.ndarray | None:
    if size == 0 or any(part.count(b" ") != size - 1 for part in numbers):
        return None
    joined = b" ".join(numbers)
    # Then the spaces counted are all there is between numbers.
    if b"  " in joined or any(space in joined for space in (b"\t", b"\v", b"\f", b"\r", b"\n")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "error", DeprecationWarning
        )  # NumPy's word for text that is no number
        try:
            values = np.fromstring(joined, dtype, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
    if len(values) != len(numbers) * size or not np.isfinite(values).all():
        return None
    return values.reshape(len(numbers), size)


def _numbers(line: bytes, number: int, size: int, dtype: np.dtype, path: str | Path) -> np.ndarray:
    where = f"{path}, line {number}"
    word, _, rest = line.partition(b" ")
    if not line.endswith(b"\n"):
        raise ValueError(f"{where} has no newline at its end: the file is cut short")
    if not word.strip():
        raise ValueError(f"{where}: expected a word and {size} numbers, got {line[:80]!r}")
    parts = rest.split()
    if len(parts) != size or not size:
        expected = f"{size} numbers" if size else "numbers"
        raise ValueError(f"{where}: expected {expected} after the word, got {len(parts)}")
    values = np.empty(size, dtype)
    for i, part in enumerate(parts):
        try:
            with np.errstate(over="ignore"):
                values[i] = float(part)
        except ValueError:
            values[i] = np.nan
        if b"_" in part or not np.isfinite(values[i]):
            raise ValueError(f"{where}: number {i + 1} is {part[:80]!r}, expected a finite number")
    return values
