"""Zipf's law: the frequency of the r-th most frequent n-gram falls about as a power of r."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seqkern.analysis.figures import plot_lines
from seqkern.models.ngram import NgramModel

_NAMES = ("unigrams", "bigrams", "trigrams")


def zipf(tokens: Tensor, n: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks and frequencies of the distinct n-grams of a text.

    Parameters
    ----------
    tokens : Tensor
        int64, shape (length,), not negative.
    n : int

    Returns
    -------
    ranks : ndarray
        int64, 1 ... number of distinct n-grams.
    frequencies : ndarray
        int64, how often the n-gram of that rank occurs; none is greater than the one before.

    Raises
    ------
    ValueError
        If `n` is below 1, or `tokens` not 1-D int64 or shorter than n.
    IndexError
        If a token is negative.

    Examples
    --------
    >>> import torch
    >>> ranks, frequencies = zipf(torch.tensor([0, 1, 0, 1, 0, 2]), n=2)
    >>> ranks.tolist(), frequencies.tolist()
    ([1, 2, 3], [2, 2, 1])
    """
    vocab_size = max(int(tokens.max()), 0) + 1 if tokens.numel() else 1
    frequencies = np.sort(NgramModel(tokens, vocab_size, n).counts)[::-1]
    return np.arange(1, len(frequencies) + 1), frequencies


def plot_zipf(tokens: Tensor, path: str | Path) -> None:
    """Draw frequency over rank of a text's unigrams, bigrams and trigrams, both axes logarithmic.

    Parameters
    ----------
    tokens : Tensor
        int64, shape (length,), not negative.
    path : str or Path
        The PNG file; `plot_lines` says what is raised.

    Examples
    --------
    >>> import tempfile, torch
    >>> path = Path(tempfile.mkdtemp()) / "zipf.png"
    >>> plot_zipf(torch.randint(10, (100,)), path)
    >>> path.is_file()
    True
    """
    lines = {name: zipf(tokens, n) for n, name in enumerate(_NAMES, 1)}
    plot_lines(path, lines, xlabel="rank", ylabel="frequency", xscale="log", yscale="log")
