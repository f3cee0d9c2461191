"""Time series: float tensors (T, D), and their windows."""

from __future__ import annotations

import torch
from torch import Tensor

from seqkern.data.contexts import seeded_generator


def noisy_sine(length: int = 1000, noise: float = 0.2, seed: int = 0) -> Tensor:
    """x_t = sin(0.01 t) + e_t for t = 1 ... length, e_t normal: the series of d2l, section 9.1.

    Parameters
    ----------
    length : int
        T.
    noise : float
        Standard deviation of e_t.
    seed : int

    Returns
    -------
    Tensor
        float32, shape (T, 1).

    Raises
    ------
    ValueError
        If `length` is below 1 or `noise` negative.

    Examples
    --------
    >>> noisy_sine(3, noise=0.0).flatten()
    tensor([0.0100, 0.0200, 0.0300])
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0, got {noise}")
    errors = torch.randn(length, dtype=torch.float64, generator=seeded_generator(seed))
    times = torch.arange(1, length + 1, dtype=torch.float64)
    return (torch.sin(0.01 * times) + noise * errors).float()[:, None]


def windows(series: Tensor, size: int) -> Tensor:
    """Every run of `size` values of a series.

    Of windows of tau + 1, the first tau rows predict the last one in a Markov model of order tau.

    Parameters
    ----------
    series : Tensor
        Shape (T, D).
    size : int
        At most T.

    Returns
    -------
    Tensor
        Shape (size, T - size + 1, D), a view: column i holds the values i ... i + size - 1.

    Raises
    ------
    ValueError
        If `series` is not 2-D, or `size` is not in 1 ... T.

    Examples
    --------
    >>> rows = windows(torch.arange(5.0)[:, None], 3)
    >>> rows[:-1, :, 0].T.tolist(), rows[-1, :, 0].tolist()
    ([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]], [2.0, 3.0, 4.0])
    """
    check_series(series)
    if not 1 <= size <= len(series):
        raise ValueError(f"size must be in 1 ... {len(series)}, the series' length, got {size}")
    return series.unfold(0, size, 1).permute(2, 0, 1)


def check_series(series: Tensor) -> None:
    """Raise ValueError unless a series is (T, D), T positive, and floating-point."""
    if series.dim() != 2 or len(series) == 0 or not series.is_floating_point():
        shape = tuple(series.shape)
        raise ValueError(
            f"series must be floating-point (T, D), T positive, got {series.dtype} of {shape}"
        )
