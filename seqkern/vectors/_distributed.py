"""Training on several processes: each on its part of a text, with matrices that are averaged."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, distributed

from seqkern.vectors._trainable import slice_places


class Averaging:
    """The places of a text that a process trains on, and when all of them average.

    Each of the processes has a contiguous part of the text. Parts differ by less than `every`
    places, and every process averages equally often: where its part has ended, it takes part
    without having trained.

    Attributes
    ----------
    length : int
        Places of this process in an epoch, counted from 0.
    """

    def __init__(self, length: int, every: float, rank: int, processes: int) -> None:
        self.processes = processes
        self.first = length * rank // processes
        self.length = length * (rank + 1) // processes - self.first
        longest = -(-length // processes)
        self.every = max(1, int(every) // processes) if processes > 1 else longest
        self.longest = longest

    @classmethod
    def current(cls, length: int, every: float) -> Averaging:
        """Of this process: alone, where torch.distributed is not initialised."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls(length, every, 0, 1)
        return cls(length, every, distributed.get_rank(), distributed.get_world_size())

    def slice(self, place: int, size: int) -> tuple[int, int]:
        """The next slice of the text, from the place of this process on."""
        if self.processes == 1:
            return slice_places(self.length, place, size)
        # To the next averaging, whatever the time it takes: all processes meet there.
        end = min(self.length, (place // self.every + 1) * self.every)
        return self.first + place, self.first + end

    def after(self, place: int, matrices: Sequence[Tensor]) -> None:
        """Average where it is time to."""
        if self.processes == 1:
            return
        rounds = 1
        if place >= self.length:  # the others may have one more round in this epoch
            done, all_rounds = -(-self.length // self.every), -(-self.longest // self.every)
            rounds += all_rounds - done
        for _ in range(rounds):
            for matrix in matrices:
                distributed.all_reduce(matrix)
                matrix /= self.processes
