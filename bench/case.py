"""What a benchmark is: the same work by seqkern and by torch, ready to be run and timed."""

from collections.abc import Callable
from dataclasses import dataclass

PEERS = ("seqkern", "torch")

Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One comparison.

    Parameters
    ----------
    group
        Cases that are summed up together, such as "LSTM, forward".
    name
        The sizes.
    make
        Makes the work of a peer (of `PEERS`): all that is not timed happens in it.
    flops
        Floating-point operations of the matrix products in a run, where they dominate; else 0.
    """

    group: str
    name: str
    make: Callable[[str], Run]
    flops: float = 0.0

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"
