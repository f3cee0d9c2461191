"""What a benchmark is: the same work by two or more peers, ready to be run and timed."""

from collections.abc import Callable, Mapping
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
    sizes
        The sizes by name, such as N, T, D, H.
    make
        Makes the work of a peer: all that is not timed happens in it.
    flops
        Floating-point operations of the matrix products in a call, where they dominate; else 0.
    peers
        Who does the work.
    calls
        Calls in a run, where one is too short to be timed alone. Times are given per call.
    """

    group: str
    sizes: Mapping[str, int]
    make: Callable[[str], Run]
    flops: float = 0.0
    peers: tuple[str, ...] = PEERS
    calls: int = 1

    def __str__(self) -> str:
        return f"{self.group}: {name_of(self.sizes)}"


def name_of(sizes: Mapping[str, int]) -> str:
    """Return the sizes in one line."""
    return " ".join(f"{key}={value}" for key, value in sizes.items())
