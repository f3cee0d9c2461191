"""Perplexity of a text under a language model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seqkern.data import evaluation_blocks
from seqkern.models import Rnnlm


def perplexity(mean_loss: float) -> float:
    """exp(mean loss in nats), infinite where that overflows.

    Examples
    --------
    >>> round(perplexity(math.log(20)), 9)
    20.0
    """
    try:
        return math.exp(mean_loss)
    except OverflowError:
        return math.inf


@torch.no_grad()
def evaluate(model: Rnnlm, tokens: Tensor, batch_size: int = 10, steps: int = 35) -> float:
    """Perplexity by the procedure of "Deep Learning from Scratch 2".

    The text is read in `batch_size` lanes (`seqkern.data.evaluation_blocks`), `steps` tokens a
    block, the state carried from block to block; the perplexity is exp(mean of the blocks' mean
    losses).

    Parameters
    ----------
    model : Rnnlm
        Evaluated without dropout; its training mode is restored.
    tokens : Tensor
        int64, shape (length,).
    batch_size, steps : int

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the text is too short for one block.

    Examples
    --------
    >>> model = Rnnlm(vocab_size=50)
    >>> 49 < evaluate(model, torch.randint(50, (1000,))) < 51
    True
    """
    device = next(model.parameters()).device
    blocks = evaluation_blocks(tokens.to(device), batch_size, steps)
    total = torch.zeros((), dtype=torch.float64, device=device)
    count, state = 0, None
    training = model.training
    model.eval()
    try:
        for inputs, targets in blocks:
            loss, state = model(inputs, state, targets)
            total += loss
            count += 1
    finally:
        model.train(training)
    return perplexity(total.item() / count)
