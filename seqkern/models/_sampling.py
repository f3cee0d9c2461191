"""Draws of tokens from logits."""

from __future__ import annotations

import torch
from torch import Tensor


def check_sampling(temperature: float, top_k: int | None, top_p: float) -> None:
    """Raise ValueError if an argument of `draw` is out of range."""
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")


def draw(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
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
    top_p : float
        Draw from the fewest tokens whose probabilities add up to this (nucleus sampling, Holtzman
        et al., 2020), after `temperature` and `top_k`.
    generator : torch.Generator, optional
        On any device: a CPU generator makes the same random numbers for all devices.

    Returns
    -------
    Tensor
        int64, shape (N,).
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits, tokens = (logits.float() / temperature).sort(stable=True, dim=-1, descending=True)
    probabilities = logits[:, :top_k].softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.where(before < top_p, 0)
    # The least of exponential times at rates p is token i's with probability p_i.
    device = logits.device if generator is None else generator.device
    times = torch.empty(probabilities.shape, device=device).exponential_(generator=generator)
    first = (probabilities / times.to(logits.device)).argmax(-1, keepdim=True)
    return tokens.gather(-1, first).squeeze(-1)
