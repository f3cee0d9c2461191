"""Batches for truncated back-propagation through time, and the blocks of an evaluation.

All are time-major: inputs and targets are int64 of shape (T, N), the targets being the inputs
shifted by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


class Batches:
    """What sequential and random batches share: sizes, and a position that can be saved.

    Parameters
    ----------
    tokens : Tensor
        int64, shape (length,). Batches come on its device.
    batch_size, steps : int
        N and T.

    Attributes
    ----------
    position : int
        All that tells where training stands; restoring it restores the sequence of batches.
    carries_state : bool
        Whether a batch continues the one before, so that the recurrent state is to be carried.

    Raises
    ------
    ValueError
        If a size is below 1, `tokens` is not 1-D int64, or too short for one batch.
    """

    carries_state: bool

    def __init__(self, tokens: Tensor, batch_size: int, steps: int) -> None:
        self._size = _check(tokens, batch_size, steps)
        self.tokens = tokens
        self.batch_size = batch_size
        self.steps = steps
        self.position = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._size // (self.batch_size * self.steps)

    def next(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, both (T, N), of the next batch; the position moves on."""
        raise NotImplementedError

    def _gather(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Batch of the windows that begin at `starts` (N,)."""
        return _windows(self.tokens, starts.to(self.tokens.device), self.steps, self._size)


class SequentialBatches(Batches):
    """Every lane reads on through the text, from its own start, and wraps at the end.

    Lane i starts at i * (length - 1) // batch_size, the layout of "Deep Learning from Scratch 2";
    the position does not return to the start between epochs.

    Examples
    --------
    >>> batches = SequentialBatches(torch.arange(13), batch_size=2, steps=3)
    >>> inputs, targets = batches.next()
    >>> inputs.T.tolist(), targets.T.tolist()
    ([[0, 1, 2], [6, 7, 8]], [[1, 2, 3], [7, 8, 9]])
    """

    carries_state = True

    def next(self) -> tuple[Tensor, Tensor]:
        starts = torch.arange(self.batch_size) * (self._size // self.batch_size) + self.position
        self.position += self.steps
        return self._gather(starts)


class RandomBatches(Batches):
    """Windows at random offsets, each to be read from a zero state.

    Parameters
    ----------
    seed : int
        The offsets depend on it and on `position` alone.
    """

    carries_state = False

    def __init__(self, tokens: Tensor, batch_size: int, steps: int, seed: int = 0) -> None:
        super().__init__(tokens, batch_size, steps)
        self.seed = seed

    def next(self) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng([self.seed, self.position])
        starts = generator.integers(0, self._size - self.steps + 1, self.batch_size)
        self.position += 1
        return self._gather(torch.from_numpy(starts))


def evaluation_blocks(
    tokens: Tensor, batch_size: int = 10, steps: int = 35
) -> Iterator[tuple[Tensor, Tensor]]:
    """The full blocks of a text, in reading order.

    They are those on which "Deep Learning from Scratch 2" evaluates perplexity: lane i starts at
    i * ((length - 1) // batch_size), and there are (length - 1) // (batch_size * steps) blocks; the
    words that fill no block are left out.

    Returns
    -------
    iterator of (Tensor, Tensor)
        Inputs and targets (T, N) of each block.

    Raises
    ------
    ValueError
        At once, if `tokens` is not 1-D int64 or too short for one block.

    Examples
    --------
    >>> blocks = evaluation_blocks(torch.arange(14), batch_size=2, steps=3)
    >>> [inputs.T.tolist() for inputs, _ in blocks]
    [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]
    """
    size = _check(tokens, batch_size, steps)
    lanes = torch.arange(batch_size, device=tokens.device) * (size // batch_size)
    return (
        _windows(tokens, lanes + block * steps, steps, size)
        for block in range(size // (batch_size * steps))
    )


def _windows(tokens: Tensor, starts: Tensor, steps: int, size: int) -> tuple[Tensor, Tensor]:
    index = (starts + torch.arange(steps, device=tokens.device)[:, None]) % size
    return tokens[index], tokens[index + 1]


def _check(tokens: Tensor, batch_size: int, steps: int) -> int:
    """Number of (input, target) pairs of a text, after checking the arguments of a batch."""
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if tokens.dim() != 1 or tokens.dtype != torch.int64:
        raise ValueError(
            f"tokens must be int64 of shape (length,), got {tokens.dtype} of {tuple(tokens.shape)}"
        )
    needed = batch_size * steps + 1
    if len(tokens) < needed:
        raise ValueError(
            f"text too short: {len(tokens)} tokens, "
            f"but batch_size {batch_size} x steps {steps} needs {needed}"
        )
    return len(tokens) - 1


class VariableLengthBatches(SequentialBatches):
    """Sequential batches whose number of steps is drawn anew each time.

    The length is N(T, 5^2) with probability 0.95, N(T / 2, 5^2) else, rounded and 5 at least, so
    that the places where back-propagation is cut differ from epoch to epoch (Merity, Keskar and
    Socher, "Regularizing and Optimizing LSTM Language Models", 2017). As there, the learning rate
    of a batch is to be multiplied by ``len(inputs) / batches.steps``: short batches would otherwise
    weigh more.

    Parameters
    ----------
    seed : int
        The lengths depend on it and on `position` alone.

    Examples
    --------
    >>> batches = VariableLengthBatches(torch.arange(1000), batch_size=2, steps=70)
    >>> inputs, targets = batches.next()
    >>> inputs.shape[1], len(inputs) == batches.position, len(inputs) == len(targets)
    (2, True, True)
    """

    def __init__(self, tokens: Tensor, batch_size: int, steps: int, seed: int = 0) -> None:
        super().__init__(tokens, batch_size, steps)
        self.seed = seed

    def __len__(self) -> int:
        """Batches in an epoch, at the lengths' mean."""
        return max(1, round(self._size / (self.batch_size * self.steps * (0.95 + 0.05 / 2))))

    def next(self) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng([self.seed, self.position])
        mean = self.steps if generator.random() < 0.95 else self.steps / 2
        steps = max(5, round(generator.normal(mean, 5)))
        starts = torch.arange(self.batch_size) * (self._size // self.batch_size) + self.position
        self.position += steps
        return _windows(self.tokens, starts.to(self.tokens.device), steps, self._size)
