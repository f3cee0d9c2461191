"""Sampling tokens from a language model."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from seqkern.models import Rnnlm


@torch.no_grad()
def generate(
    model: Rnnlm,
    prompt: Sequence[int],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    skip: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> list[int]:
    """Continue a prompt, one token at a time, the recurrent state carried.

    Parameters
    ----------
    model : Rnnlm
        Used without dropout; its training mode is restored.
    prompt : sequence of int
        At least one token id.
    length : int
        Tokens to generate.
    temperature : float
        Divides the logits; 0 takes the most probable token.
    top_k : int, optional
        Sample from the k most probable tokens only.
    skip : collection of int
        Ids never to generate.
    generator : torch.Generator, optional
        A CPU generator, for samples that repeat.

    Returns
    -------
    list of int
        The `length` new ids, without the prompt.

    Raises
    ------
    ValueError
        If the prompt is empty, `length` or `temperature` negative, `top_k` below 1, or every id
        skipped.

    Examples
    --------
    >>> model = Rnnlm(vocab_size=50)
    >>> ids = generate(model, [3], 8, skip=[0, 1], generator=torch.Generator().manual_seed(0))
    >>> len(ids), 0 in ids
    (8, False)
    """
    if not prompt:
        raise ValueError("prompt must hold at least one token, got none")
    if length < 0:
        raise ValueError(f"length must be at least 0, got {length}")
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    device = next(model.parameters()).device
    skipped = torch.tensor(sorted(set(skip)), dtype=torch.int64)
    ids: list[int] = []
    state = None
    tokens = torch.tensor(prompt, dtype=torch.int64, device=device)[:, None]
    training = model.training
    model.eval()
    try:
        for _ in range(length):
            logits, state = model(tokens, state)
            ids.append(_sample(logits[-1, 0].float().cpu(), temperature, top_k, skipped, generator))
            tokens = torch.tensor([[ids[-1]]], device=device)
    finally:
        model.train(training)
    return ids


def _sample(
    logits: Tensor,
    temperature: float,
    top_k: int | None,
    skipped: Tensor,
    generator: torch.Generator | None,
) -> int:
    logits[skipped] = -torch.inf
    if len(skipped) >= len(logits):
        raise ValueError(f"skip must leave a token to generate, got all {len(logits)}")
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None:
        values, kept = logits.topk(min(top_k, len(logits)))
        logits = torch.full_like(logits, -torch.inf).scatter(0, kept, values)
    probabilities = torch.softmax(logits / temperature, 0)
    return int(torch.multinomial(probabilities, 1, generator=generator))
