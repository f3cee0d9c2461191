"""The text and binary formats of word2vec, which gensim, fastText and others read and write.

Both begin with a line of the number of words V and the size of vectors d. Text: a line a word, the
word and d numbers, separated by single spaces. Binary: the word, a space and d float32,
little-endian; word2vec.c writes a newline after each vector, gensim does not, and both are read.
Names that end in ``.gz`` are compressed.
"""

from __future__ import annotations

import gzip
import mmap
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from seqkern.data.files import replacing
from seqkern.vectors.text_vectors import parse_rows

__all__ = ["load_counts", "load_word2vec", "save_counts", "save_word2vec"]

_SPACE = frozenset(" \t\n\v\f\r")
_ROWS = 4096  # taken at a time

Decode = Callable[[list[bytes], Callable[[int], str]], list[str]]
"""Words of bytes; the function says where the word of an index stands in the file."""


def save_word2vec(
    path: str | Path,
    words: Sequence[str],
    vectors: Tensor,
    binary: bool = False,
    encoding: str = "utf-8",
) -> None:
    """Write vectors (V, d), in the order they have, whole or not at all.

    Text has as many digits as are read back to the same float32 (float64 for float64 vectors).
    Binary vectors are float32.

    Parameters
    ----------
    path : str or Path
        With ``.gz`` at its end, the file is compressed.
    words : sequence of str
    vectors : Tensor, (V, d)
    binary : bool, default False
    encoding : str, default "utf-8"
        Of words.

    Raises
    ------
    ValueError
        If a word is empty or has white space in it, or a vector is not finite: neither format could
        be read back.
    OSError
        If the file cannot be written.
    """
    encoded = [_writable(word).encode(encoding) for word in words]
    size = vectors.shape[1]
    line = b"%b" + (b" %.17g" if vectors.dtype == torch.float64 else b" %.9g") * size + b"\n"
    with _writing(path) as file:
        file.write(b"%d %d\n" % (len(words), size))
        for start in range(0, len(words), _ROWS):
            rows = vectors[start : start + _ROWS].detach().cpu()
            rows = rows if rows.dtype == torch.float64 and not binary else rows.float()
            _finite(rows.numpy(), words[start : start + _ROWS], str(path))
            block = encoded[start : start + _ROWS]
            if binary:
                values = rows.numpy().astype("<f4")
                pieces = (
                    word + b" " + row.tobytes() for word, row in zip(block, values, strict=True)
                )
            else:
                pieces = (
                    line % (word, *row) for word, row in zip(block, rows.tolist(), strict=True)
                )
            file.write(b"".join(pieces))


def load_word2vec(
    path: str | Path,
    binary: bool = False,
    limit: int | None = None,
    encoding: str = "utf-8",
    unicode_errors: str = "strict",
    no_header: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[str], Tensor]:
    """Read vectors and their words.

    Parameters
    ----------
    path : str or Path
        With ``.gz`` at its end, the file is compressed.
    binary : bool, default False
    limit : int, optional
        Read this many words from the first; what follows is not looked at.
    encoding : str, default "utf-8"
        Of words.
    unicode_errors : str, default "strict"
        What `bytes.decode` does about words that are not so encoded, such as those that word2vec.c
        cut short: ``"replace"`` or ``"ignore"``.
    no_header : bool, default False
        Text without the first line, as GloVe writes it.
    dtype : torch.dtype, default float32

    Returns
    -------
    words : list of str
        Of a word that occurs twice, the first vector is taken, with a warning.
    vectors : Tensor, (V, d)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated or malformed: with its name, the line or byte, what it has and what
        was expected. A text whose last line has no newline is taken for truncated, since a number
        without its last digits is a number.

    Notes
    -----
    A binary file is mapped into memory; for each word, Python looks for the space and no more.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1")
    if no_header and binary:
        raise ValueError("no_header is for text: a binary file without header cannot be read")

    def decode(words: list[bytes], where: Callable[[int], str]) -> list[str]:
        try:
            return [word.decode(encoding, unicode_errors) for word in words]
        except UnicodeDecodeError as error:
            i = words.index(error.object)
            raise ValueError(
                f"{path}, {where(i)}: {words[i]!r} is not {encoding}: {error.reason}; "
                f"unicode_errors='replace' reads it nevertheless"
            ) from error

    if binary:
        words, values = _load_binary(path, limit, decode)
    else:
        words, values = _load_text(path, limit, no_header, dtype, decode)
    vectors = torch.from_numpy(values).to(dtype)
    if len(set(words)) == len(words):
        return words, vectors
    first = {word: i for i, word in reversed(list(enumerate(words)))}
    kept = sorted(first.values())
    repeated = next(word for i, word in enumerate(words) if first[word] != i)
    warnings.warn(
        f"{path}: {len(words) - len(kept):,} words occur again, {repeated!r} first: left out",
        stacklevel=3,
    )
    return [words[i] for i in kept], vectors[kept]


def save_counts(
    path: str | Path, words: Sequence[str], counts: Tensor | None, encoding: str = "utf-8"
) -> None:
    """Write a word and its count a line, as word2vec.c's ``-save-vocab``.

    Raises
    ------
    ValueError
        If there are no counts, or a word has white space in it.
    """
    if counts is None:
        raise ValueError("fvocab is given, but the vectors have no counts to write")
    lines = [f"{_writable(word)} {n}\n" for word, n in zip(words, counts.tolist(), strict=True)]
    with _writing(path) as file:
        file.write("".join(lines).encode(encoding))


def load_counts(
    path: str | Path, words: Sequence[str], encoding: str = "utf-8", unicode_errors: str = "strict"
) -> Tensor:
    """Read counts (V,) of words, int64: 0, with one warning, for words that the file has not.

    Raises
    ------
    ValueError
        If a line is not a word and a count.
    """
    counts = {}
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            word, _, count = line.rstrip().rpartition(b" ")
            if not word or not count.isdigit():
                raise ValueError(
                    f"{path}, line {number}: expected a word and its count, got {line[:80]!r}"
                )
            counts[word.decode(encoding, unicode_errors)] = int(count)
    missing = [word for word in words if word not in counts]
    if missing:
        warnings.warn(
            f"{path} has no counts of {len(missing):,} words, {missing[0]!r} first: they are 0",
            stacklevel=3,
        )
    return torch.tensor([counts.get(word, 0) for word in words], dtype=torch.int64)


# Text


def _load_text(
    path: str | Path,
    limit: int | None,
    no_header: bool,
    dtype: torch.dtype,
    decode: Decode,
) -> tuple[list[str], np.ndarray]:
    kind = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
    words: list[str] = []
    with _opened(path) as file:
        line, total, size = 1, None, None
        if not no_header:
            total, size = _header(file.readline(), path)
            _plausible(path, total * (2 * size + 2), f"{total:,} words of {size:,} numbers")
            line = 2
        wanted = limit if total is None else min(total, limit or total)
        out = np.empty((0 if wanted is None or size is None else wanted, size or 0), kind)
        blocks = []

        def where(i: int) -> str:
            return f"line {line + i}"

        while wanted is None or len(words) < wanted:
            count = _ROWS if wanted is None else min(_ROWS, wanted - len(words))
            lines = list(islice(file, count))
            if not lines:
                break
            found, rows = parse_rows(lines, line, size, kind, path)
            size = rows.shape[1]
            words += decode(found, where)
            if total is None:
                blocks.append(rows)
            else:
                out[len(words) - len(rows) : len(words)] = rows
            line += len(lines)
        if total is not None and len(words) < cast(int, wanted):
            raise ValueError(
                f"{path} ends after line {line - 1} with {len(words):,} vectors, its header says "
                f"{total:,}"
            )
        if limit is None and any(more.strip() for more in file):
            raise ValueError(f"{path}, line {line}: more than the {total:,} vectors of its header")
    if total is None and not words:
        raise ValueError(f"{path} is empty, expected lines of a word and numbers")
    return words, out if total is not None else np.concatenate(blocks)


# Binary


def _load_binary(
    path: str | Path, limit: int | None, decode: Decode
) -> tuple[list[str], np.ndarray]:
    with _content(path) as data:
        end = len(data)
        start = data.find(b"\n") + 1
        total, size = _header(data[: start or min(end, 80)], path)
        width = 4 * size
        _plausible(path, total * (width + 2), f"{total:,} words of {size:,} numbers")
        wanted = min(total, limit or total)
        found, places = [], []
        for i in range(wanted):
            space = data.find(b" ", start)
            after = space + 1 + width
            if space < 0 or after > end:
                raise ValueError(
                    f"{path} ends at byte {end:,}, within vector {i + 1:,} from byte {start:,}: "
                    f"its header says {total:,} vectors of {width:,} bytes"
                )
            found.append(data[start:space])
            places.append(space + 1)
            start = after
        if limit is None and data[start : start + 2] not in (b"", b"\n"):
            raise ValueError(
                f"{path} has {end - start:,} bytes from byte {start:,}, after the {total:,} "
                f"vectors of its header"
            )

        def where(i: int) -> str:
            return f"vector {i + 1:,} before byte {places[i]:,}"

        words = decode([word.lstrip(b"\n") for word in found], where)
        if not all(words):
            raise ValueError(f"{path}, {where(words.index(''))}: expected a word before the space")
        out = np.empty((wanted, size), "<f4")
        _gather(data, np.array(places, np.int64), out)
        for i in range(0, wanted, _ROWS):
            _finite(out[i : i + _ROWS], words[i : i + _ROWS], str(path))
    return words, out.astype(np.float32, copy=False)


def _gather(data: bytes | mmap.mmap, places: np.ndarray, out: np.ndarray) -> None:
    """Copy the vector at each place, a byte's number, into a row."""
    if not len(out):
        return
    content = np.frombuffer(data, np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(content, out.strides[0])
    into = out.view(np.uint8)
    for i in range(0, len(out), _ROWS):
        into[i : i + _ROWS] = windows[places[i : i + _ROWS]]


# Both


def _header(line: bytes, path: str | Path) -> tuple[int, int]:
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or not line.endswith(b"\n"):
        raise ValueError(
            f"{path}, line 1: expected a header, the number of words and the size of vectors, got "
            f"{line[:80]!r}; a text without header is read with no_header=True"
        )
    total, size = map(int, parts)
    if size < 1:
        raise ValueError(f"{path}, line 1: the size of vectors is {size}, expected at least 1")
    return total, size


def _plausible(path: str | Path, least: int, what: str) -> None:
    """Refuse a header that promises more than the file can hold, before memory is asked for."""
    size = Path(path).stat().st_size * (1032 if _compressed(path) else 1)  # the most of DEFLATE
    if least > size:
        raise ValueError(f"{path} can hold {size:,} bytes, too few for its header's {what}")


def _finite(rows: np.ndarray, words: Sequence[str], path: str) -> None:
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(
            f"{path}: the vector of {words[row]!r} has {rows[row, column]} at {column}, expected "
            f"finite numbers"
        )


def _writable(word: str) -> str:
    if not word or not _SPACE.isdisjoint(word):
        raise ValueError(
            f"word {word!r} is empty or has white space, which word2vec's formats cannot "
            f"hold; `save` can"
        )
    return word


def _compressed(path: str | Path) -> bool:
    return str(path).endswith(".gz")


@contextmanager
def _writing(path: str | Path) -> Iterator[BinaryIO]:
    with replacing(path) as temporary, open(temporary, "wb") as file:
        if _compressed(path):
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield file


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    try:
        with gzip.open(path) if _compressed(path) else open(path, "rb") as file:
            yield cast(BinaryIO, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or corrupt: {error}") from error


@contextmanager
def _content(path: str | Path) -> Iterator[bytes | mmap.mmap]:
    with _opened(path) as file:
        if _compressed(path):
            yield file.read()
        elif Path(path).stat().st_size == 0:
            yield b""
        else:
            # Closed with its last reader, whatever has a view of it.
            yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
