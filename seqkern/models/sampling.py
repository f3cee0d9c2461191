"""Draws of tokens from logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError if an argument of `draw` is out of range."""
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")


def draw(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | Sequence[torch.Generator | None] | None = None,
) -> Tensor:
    """Draw a token from each row of logits.

    Parameters
    ----------
    logits : Tensor
        Shape (N, V).
    temperature : float
        Divides the logits; 0 takes the most probable token.
    top_k : int, optional
        Draw from the k most probable tokens only.
    top_p : float, optional
        Draw from the nucleus only: the fewest most probable tokens whose probabilities, those at
        the temperature and among the top k, add up to this (Holtzman et al., 2020).
    generator : torch.Generator, or a sequence of N, optional
        On any device: a CPU generator makes the same random numbers for all devices. With one for
        each row, a row does not depend on which others stand beside it.

    Returns
    -------
    Tensor
        int64, shape (N,).

    Examples
    --------
    >>> draw(torch.tensor([[1.0, 3.0, 2.0]]), top_k=1)
    tensor([1])
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float()
    if top_k is not None:
        values, kept = logits.topk(min(top_k, logits.shape[-1]))
        logits = torch.full_like(logits, -torch.inf).scatter(-1, kept, values)
    probabilities = (logits / temperature).softmax(-1)
    if top_p is not None and top_p < 1:
        values, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = values.cumsum(-1) - values  # the probability of all that are more probable
        values = values.where(before < top_p, 0)
        probabilities = torch.zeros_like(values).scatter(-1, order, values)
    # The least of exponential times at rates p is token i's with probability p_i.
    if isinstance(generator, Sequence):
        times = torch.stack([_times(probabilities[0], each) for each in generator])
    else:
        times = _times(probabilities, generator)
    return (probabilities / times.to(logits.device)).argmax(-1)


def _times(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.empty(like.shape, device=device).exponential_(generator=generator)
