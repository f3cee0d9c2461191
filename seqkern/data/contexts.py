"""Words of a text and the words around them, in batches and in random order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class ContextBatches:
    """Batches of words and their contexts, every word of the text once an epoch.

    As in "Deep Learning from Scratch 2", chapter 4, the first and last `window` words have no whole
    context and are left out, and so is what fills no batch.

    Parameters
    ----------
    tokens : Tensor
        int64, shape (length,). Batches come on its device.
    window : int
        Words of a context on each side.
    batch_size : int
        B.
    seed : int
        The order of an epoch depends on it and on `epoch` alone.

    Attributes
    ----------
    epoch, iteration : int
        The next batch. Restoring them restores the sequence of batches.

    Raises
    ------
    ValueError
        If a size is below 1, `tokens` is not 1-D int64, or too short for one batch.

    Examples
    --------
    >>> batches = ContextBatches(torch.arange(7), window=2, batch_size=3)
    >>> contexts, target = batches.next()
    >>> sorted(target.tolist())
    [2, 3, 4]
    >>> contexts[target == 3]
    tensor([[1, 2, 4, 5]])
    """

    def __init__(self, tokens: Tensor, window: int, batch_size: int, seed: int = 0) -> None:
        for name, value in (("window", window), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if tokens.dim() != 1 or tokens.dtype != torch.int64:
            shape = tuple(tokens.shape)
            raise ValueError(f"tokens must be int64 of shape (length,), got {tokens.dtype} {shape}")
        needed = batch_size + 2 * window
        if len(tokens) < needed:
            raise ValueError(
                f"text too short: {len(tokens)} tokens, "
                f"but batch_size {batch_size} and window {window} need {needed}"
            )
        self.tokens, self.window, self.batch_size, self.seed = tokens, window, batch_size, seed
        self.epoch = self.iteration = 0
        around = [*range(-window, 0), *range(1, window + 1)]
        self._around = torch.tensor(around, device=tokens.device)
        self._order: tuple[int, Tensor] | None = None  # of an epoch: the places of its words

    def __len__(self) -> int:
        """Batches in an epoch."""
        return (len(self.tokens) - 2 * self.window) // self.batch_size

    def next(self) -> tuple[Tensor, Tensor]:
        """Contexts (B, 2 window) and the words in their middle (B,); the position moves on."""
        if self._order is None or self._order[0] != self.epoch:
            words = len(self.tokens) - 2 * self.window
            generator = seeded_generator(self.seed, self.epoch)
            places = torch.randperm(words, generator=generator) + self.window
            self._order = (self.epoch, places.to(self.tokens.device))
        first = self.iteration * self.batch_size
        places = self._order[1][first : first + self.batch_size]
        self.iteration += 1
        if self.iteration == len(self):
            self.epoch, self.iteration = self.epoch + 1, 0
        return self.tokens[places[:, None] + self._around], self.tokens[places]


def seeded_generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose seed depends on all of the numbers, which are not negative."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device).manual_seed(seed)
