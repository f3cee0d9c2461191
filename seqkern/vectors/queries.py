"""What one may look for: words, vectors and weighted sums of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from seqkern.vectors.lookup import Key, Lookup
from seqkern.vectors.similarity import unit, working_dtype

__all__ = ["Term", "Vector", "queries_of", "terms_of"]

Vector = Tensor | np.ndarray
Term = Key | Vector | tuple[Key | Vector, float]
"""What queries are made of: a word, its index or a vector, alone or with a weight."""

Weighted = tuple[Key | Vector, float]


def terms_of(
    positive: Term | Iterable[Term] | None, negative: Term | Iterable[Term] | None
) -> list[Weighted]:
    """List the terms of a query with their weights: 1 and -1 where they have none.

    A word, an index or a vector by itself is a list of one; a matrix is a list of its rows.
    """
    terms: list[Weighted] = []
    for items, weight in ((positive, 1.0), (negative, -1.0)):
        if items is None:
            continue
        alone = isinstance(items, str | int | np.integer) or (
            isinstance(items, Tensor | np.ndarray) and items.ndim == 1
        )
        for item in cast(Iterable[Term], [items] if alone else items):
            terms.append(item if isinstance(item, tuple) else (item, weight))
    return terms


def queries_of(lookup: Lookup, asked: Sequence[Sequence[Weighted]]) -> tuple[Tensor, Tensor]:
    """Add up the weighted terms of queries: words brought to length 1, vectors as they are.

    Parameters
    ----------
    lookup : Lookup
    asked : sequence of Q lists of terms

    Returns
    -------
    queries : Tensor, (Q, d)
        Of length 1, in the working dtype, where the vectors are.
    excluded : Tensor, (2, E), int64
        Pairs of a query and a word it is made of.

    Raises
    ------
    KeyError, IndexError, TypeError
        If a key is unknown.
    ValueError
        If a query has no terms, or a vector is not of shape (d,).
    """
    dtype, device, size = working_dtype(lookup.vectors), lookup.vectors.device, lookup.vector_size
    known: dict[int, int] = {}  # the row of a word's index, from 1: row 0 of zeros fills up
    given: list[Tensor] = []  # vectors: rows -1, -2, ... from the end
    filled, weighted, excluded = [], [], []
    for q, terms in enumerate(asked):
        if not terms:
            raise ValueError("positive and negative are both empty: nothing to look for")
        for t, (term, weight) in enumerate(terms):
            if isinstance(term, Tensor | np.ndarray):
                given.append(_row(term, lookup))
                row = -len(given)
            else:
                index = lookup.get_index(term)
                row = known.setdefault(index, 1 + len(known))
                excluded.append((q, index))
            filled.append((q, t, row))
            weighted.append(weight)
    rows = torch.zeros(len(asked), max(map(len, asked), default=0), dtype=torch.int64)
    weights = torch.zeros(rows.shape, dtype=dtype)
    at_q, at_t, row_of = torch.tensor(filled, dtype=torch.int64).reshape(-1, 3).T
    rows[at_q, at_t], weights[at_q, at_t] = row_of, torch.tensor(weighted, dtype=dtype)
    words = lookup.vectors[torch.tensor(list(known), dtype=torch.int64, device=device)]
    queries = torch.zeros(len(asked), size, dtype=dtype, device=device)
    summands = torch.cat([queries.new_zeros(1, size), unit(words), *reversed(given)])
    rows, weights = rows.to(device), weights.to(device)
    for t in range(rows.shape[1]):
        queries += weights[:, t, None] * summands[rows[:, t]]
    pairs = torch.tensor(excluded, dtype=torch.int64, device=device).reshape(-1, 2)
    return unit(queries), pairs.T


def _row(vector: Vector, lookup: Lookup) -> Tensor:
    tensor = torch.as_tensor(vector).detach()
    if tensor.shape != (lookup.vector_size,):
        expected = f"({lookup.vector_size},)"
        raise ValueError(f"a vector has shape {tuple(tensor.shape)}, expected {expected}")
    return tensor[None].to(lookup.vectors.device, working_dtype(lookup.vectors))
