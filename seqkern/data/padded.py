"""Sequences of unequal length as padded tensors, their split into parts, and their batches."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkern.data.vocabulary import Vocabulary


def encode_padded(
    texts: Sequence[Sequence[str]], vocabulary: Vocabulary, value: int = 0
) -> tuple[Tensor, Tensor]:
    """Ids of texts' tokens, the texts side by side.

    Parameters
    ----------
    texts : sequence of sequence of str
        At least one; the tokens of each.
    vocabulary : Vocabulary
    value : int
        What stands after a text's end.

    Returns
    -------
    ids : Tensor
        int64, shape (T, N), T being the greatest length.
    lengths : Tensor
        int64, shape (N,).

    Raises
    ------
    ValueError
        If there is no text, or a token is unknown and the vocabulary has no `<unk>`.

    Examples
    --------
    >>> ids, lengths = encode_padded(["abc", "b"], Vocabulary(["a", "b", "c"]), value=-1)
    >>> ids.T.tolist(), lengths.tolist()
    ([[0, 1, 2], [1, -1, -1]], [3, 1])
    """
    if not texts:
        raise ValueError("texts is empty, expected at least one")
    lengths = torch.tensor([len(text) for text in texts])
    there = torch.arange(int(lengths.max())) < lengths[:, None]
    padded = torch.full(there.shape, value)
    padded[there] = vocabulary.encode(chain.from_iterable(texts))
    return padded.T.contiguous(), lengths


def split_indices(
    strata: Sequence[Hashable], valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Divide items by chance into parts for training, validation and test.

    Parameters
    ----------
    strata : sequence
        The stratum of every item. Each stratum's share of a part is that of all items, to within
        two items.
    valid, test : float
        Shares of the items.
    seed : int

    Returns
    -------
    dict of array
        Indices of the items in "train", "valid" and "test", in their order.

    Raises
    ------
    ValueError
        If a share is negative, or both leave nothing for training.

    Examples
    --------
    >>> parts = split_indices(["a"] * 50 + ["b"] * 10)
    >>> {name: len(indices) for name, indices in parts.items()}
    {'train': 48, 'valid': 6, 'test': 6}
    >>> sum(index >= 50 for index in parts["test"].tolist())
    1
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise ValueError(f"valid and test must be shares that leave some, got {valid} and {test}")
    rng = np.random.default_rng(seed)
    numbers = {stratum: i for i, stratum in enumerate(dict.fromkeys(strata))}
    order = rng.permutation(len(strata))
    stratum_of = np.array([numbers[stratum] for stratum in strata], dtype=np.int64)
    order = order[np.argsort(stratum_of[order], kind="stable")]
    # Systematic sampling: equal steps through all strata from a random start, so that a stratum
    # of one item, too, is as likely as any to be in a part.
    in_test = _every(test, len(order), rng)
    rest = order[~in_test]
    in_valid = _every(valid / (1 - test), len(rest), rng)
    parts = {"train": rest[~in_valid], "valid": rest[in_valid], "test": order[in_test]}
    return {name: np.sort(part) for name, part in parts.items()}


def _every(share: float, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark a share of `count` places, at equal steps from a random start."""
    steps = np.floor(np.arange(count + 1) * share + rng.random())
    return np.diff(steps) > 0
