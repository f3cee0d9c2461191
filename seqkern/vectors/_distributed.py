"""Training on several processes: each on its part of a text, with matrices that are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed

from seqkern.vectors._trainable import Totals, slice_places


class Averaging:
    """The places of a text that a process trains on, and when all of them average.

    Each of the processes has a contiguous part of the text. Parts differ by one place at most, and
    every process averages equally often: where its part has ended, it takes part without having
    trained.

    Attributes
    ----------
    rank, processes : int
    first, length : int
        Where the part of this process begins, and how many places it has.
    """

    def __init__(self, text_length: int, every: float, rank: int, processes: int) -> None:
        self.text_length, self.rank, self.processes = text_length, rank, processes
        self.first = text_length * rank // processes
        self.length = text_length * (rank + 1) // processes - self.first
        self.longest = -(-text_length // processes)
        self.every = max(1, int(every) // processes)

    @classmethod
    def current(cls, text_length: int, every: float) -> Averaging:
        """Of this process: alone, where torch.distributed is not initialised."""
        return cls(text_length, every, *_rank_and_processes())

    def slice(self, place: int, size: int) -> tuple[int, int]:
        """The next slice of the text, from the place of this process on."""
        if self.processes == 1:
            return slice_places(self.length, place, size)
        # To the next averaging, whatever the time it takes: all processes meet there.
        end = min(self.length, (place // self.every + 1) * self.every)
        return self.first + place, self.first + end

    def passed(self, place: int) -> int:
        """Places of all processes, when this one has come to `place`."""
        return self.text_length if place >= self.length else place * self.processes

    def after(self, place: int, matrices: Sequence[Tensor], totals: Totals) -> Totals:
        """Average after a slice that ended at `place`; the sums of all processes' totals."""
        if self.processes == 1:
            return totals
        rounds = 1
        if place >= self.length:  # the others may have one more round in this epoch
            rounds += self._rounds(self.longest) - self._rounds(self.length)
        summed = torch.zeros(len(totals), dtype=torch.float64)
        for i in range(rounds):
            for matrix in matrices:
                distributed.all_reduce(matrix)
                matrix /= self.processes
            of_round = torch.tensor(totals if i == 0 else [0.0] * len(totals), dtype=torch.float64)
            of_round = of_round.to(matrices[0].device)
            distributed.all_reduce(of_round)
            summed += of_round.cpu()
        return Totals(*summed.tolist())

    def _rounds(self, length: int) -> int:
        """Slices of a part, of which an empty one has one, too."""
        return max(1, -(-length // self.every))


def is_first_process() -> bool:
    """Whether this process is alone, or the first of several."""
    return _rank_and_processes()[0] == 0


def _rank_and_processes() -> tuple[int, int]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
