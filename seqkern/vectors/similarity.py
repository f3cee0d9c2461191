"""Cosine similarities of many queries with the rows of a large matrix, in bounded memory.

Rows are never brought to unit length: products with them are divided by their lengths, which are V
numbers. So a matrix that is memory-mapped, or of half precision, is read where it is, a tile at a
time, and no second one is made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["cosines", "nearest", "row_norms", "unit", "working_dtype"]

_TILE = 1 << 24  # numbers in a tile of rows, and in its products with a block
_BLOCK = 1024  # queries


def working_dtype(vectors: Tensor) -> torch.dtype:
    """float64 for float64 vectors, else float32."""
    return torch.float64 if vectors.dtype == torch.float64 else torch.float32


def row_norms(vectors: Tensor) -> Tensor:
    """Lengths of rows (V, d), of shape (V,), to divide by: 1 for rows of zeros."""
    norms = torch.linalg.vector_norm(vectors, dim=1, dtype=working_dtype(vectors))
    return norms.masked_fill_(norms == 0, 1.0)


def unit(vectors: Tensor) -> Tensor:
    """Rows (n, d) brought to length 1 in the working dtype; rows of zeros stay."""
    return vectors.to(working_dtype(vectors)) / row_norms(vectors)[:, None]


def cosines(vectors: Tensor, norms: Tensor | None, queries: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Similarities of queries with rows, a tile of rows after the other.

    Parameters
    ----------
    vectors : Tensor, (V, d)
    norms : Tensor, (V or more,), or None
        What products are divided by: nothing for None.
    queries : Tensor, (Q, d)
        Of length 1 for cosines, in the working dtype.

    Yields
    ------
    start : int
        The tile's first row.
    similarities : Tensor, (Q, rows of the tile)
    """
    rows = max(1, _TILE // max(len(queries), vectors.shape[1]))
    for start in range(0, len(vectors), rows):
        tile = vectors[start : start + rows].to(queries.dtype)
        products = queries @ tile.T
        if norms is not None:
            products /= norms[start : start + len(tile)]
        yield start, products


def nearest(
    vectors: Tensor, norms: Tensor | None, queries: Tensor, excluded: Tensor, topn: int
) -> tuple[Tensor, Tensor]:
    """The rows most similar to each query.

    Working memory is a few times 2**24 numbers, whatever V and Q.

    Parameters
    ----------
    vectors : Tensor, (V, d)
    norms : Tensor, (V,), or None
    queries : Tensor, (Q, d)
        As `cosines` takes them.
    excluded : Tensor, (2, E), int64
        Pairs of a query and a row that is not to be found for it.
    topn : int
        At least 1.

    Returns
    -------
    similarities : Tensor, (Q, k)
        Falling; k is `topn`, or V if that is less. Minus infinity stands where only excluded rows,
        or such as have no similarity (NaN), are left.
    rows : Tensor, (Q, k), int64
    """
    blocks = []
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        without = _within(excluded, 0, start, len(block))
        blocks.append(_nearest(vectors, norms, block, without, topn))
    if not blocks:
        none = queries.new_empty(0, min(topn, len(vectors)))
        return none, none.long()
    values, rows = zip(*blocks, strict=True)
    return torch.cat(values), torch.cat(rows)


def _within(pairs: Tensor, of: int, start: int, size: int) -> Tensor:
    """Pairs whose member `of` is among `size` from `start`, and that member counted from there."""
    member = pairs[of] - start
    pairs = pairs[:, (member >= 0) & (member < size)].clone()
    pairs[of] -= start
    return pairs


def _nearest(
    vectors: Tensor, norms: Tensor | None, queries: Tensor, excluded: Tensor, topn: int
) -> tuple[Tensor, Tensor]:
    values = queries.new_empty(len(queries), 0)
    rows = values.long()
    for start, similarities in cosines(vectors, norms, queries):
        size = similarities.shape[1]
        similarities.nan_to_num_(-torch.inf, torch.inf, -torch.inf)
        query, row = _within(excluded, 1, start, size)
        similarities[query, row] = -torch.inf
        best, at = similarities.topk(min(topn, size), dim=1)
        values = torch.cat([values, best], dim=1)
        values, order = values.topk(min(topn, values.shape[1]), dim=1)
        rows = torch.cat([rows, at + start], dim=1).gather(1, order)
    return values, rows
