"""The choice of CUDA kernels, for benchmarks and tests: unasked, it should be the best."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from seqkern._build_info import extension

__all__ = ["H100", "Device", "RecurrentPlan", "recurrent_kernel", "recurrent_plans"]

_VARIABLE = "SEQKERN_RECURRENT_KERNEL"
_UNITS = {"steps": (), "grid": (8, 16), "cluster": (16, 32)}


@contextmanager
def recurrent_kernel(
    kernel: str, *, units: int | None = None, groups: int | None = None
) -> Iterator[None]:
    """Run recurrent layers on CUDA by this kernel, within a ``with`` block.

    It sets the environment variable ``SEQKERN_RECURRENT_KERNEL``, which can be set by itself as
    well (``steps``, ``grid:8``, ``cluster:16:2``), and so holds for all threads. Where a layer has
    what the persistent kernels lack (layer norms, a projection, float64), it runs by steps even so;
    gates that a backward pass computes again, which wait for nothing, run by grid for ``cluster``.

    Parameters
    ----------
    kernel
        ``"steps"``: a product and a kernel for each step. ``"grid"``: all steps in one launch,
        whose blocks hand each other the hidden state through global memory. ``"cluster"``: through
        the shared memory of a cluster of at most 16 blocks (compute capability 9.0).
    units
        Hidden units of a block: 8 or 16 by grid, 16 or 32 by cluster; the first that fits by
        default.
    groups
        Groups of sequences, each with blocks of its own; 1 by default.

    Raises
    ------
    ValueError
        For another kernel, or units or groups that it does not have.

    Notes
    -----
    A layer's call raises RuntimeError where the device cannot run it by this kernel.

    Examples
    --------
    >>> import seqkern.cuda
    >>> with seqkern.cuda.recurrent_kernel("grid", units=16):
    ...     pass  # output, state = layer(input)
    """
    if kernel not in _UNITS:
        raise ValueError(f"kernel is {kernel!r}, expected 'steps', 'grid' or 'cluster'")
    if units is not None and units not in _UNITS[kernel]:
        expected = " or ".join(map(str, _UNITS[kernel])) or "none"
        raise ValueError(f"units is {units}, expected {expected} for {kernel!r}")
    if groups is not None and (groups < 1 or kernel == "steps"):
        raise ValueError(f"groups is {groups}, expected 1 or more, and none for 'steps'")
    text = kernel
    if units is not None or groups is not None:
        text += f":{units or ''}"
    if groups is not None:
        text += f":{groups}"
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = text
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


@dataclass(frozen=True)
class Device:
    """What the choice of a kernel asks of a device.

    Parameters
    ----------
    capability
        Ten times the major compute capability, and the minor one.
    multiprocessors
        Their number.
    shared_bytes
        Shared memory that a block can have.
    """

    capability: int
    multiprocessors: int
    shared_bytes: int


H100 = Device(capability=90, multiprocessors=132, shared_bytes=227 << 10)


@dataclass(frozen=True)
class RecurrentPlan:
    """A way to run a recurrent layer, and what a step of it is predicted to take.

    Parameters
    ----------
    kernel
        As SEQKERN_RECURRENT_KERNEL writes it: kernel, units of a block, groups of sequences.
    shared_bytes
        Shared memory of a block, about.
    exchange, gather, weights, matrix, cell
        Microseconds of a step: until what a block hands on can be read by the others; reading that;
        reading weights that are not in registers; multiplying; sums, barriers and the cell.
    """

    kernel: str
    shared_bytes: int
    exchange: float
    gather: float
    weights: float
    matrix: float
    cell: float

    @property
    def total(self) -> float:
        """Microseconds of a step."""
        return self.exchange + self.gather + self.weights + self.matrix + self.cell


def recurrent_plans(
    cell: str,
    dtype: torch.dtype,
    *,
    hidden_size: int,
    batch: int,
    steps: int,
    heads: int = 1,
    backward: bool = False,
    tf32: bool = False,
    device: Device = H100,
) -> list[RecurrentPlan]:
    """Return the ways to run a recurrent layer that may fit a device, the best by prediction first.

    Parameters
    ----------
    cell
        A cell's name, as `seqkern.functional.recurrent` takes it.
    dtype
        float32, bfloat16 or float16.
    hidden_size, batch, steps, heads
        Sizes H, N, T and K of the layer.
    backward
        The backward pass, without its products over all steps.
    tf32
        Whether products of float32 may be rounded to TF32.
    device
        The device; it need not be there.

    Raises
    ------
    ValueError
        If there is no such cell, or no persistent kernel of the dtype.
    RuntimeError
        If this seqkern was built without CUDA.
    """
    sizes = {torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}
    if dtype not in sizes:
        raise ValueError(f"dtype is {dtype}, expected float32, bfloat16 or float16")
    if not hasattr(extension, "recurrent_plans"):
        raise RuntimeError("this seqkern was built without CUDA")
    found = extension.recurrent_plans(
        *(cell, sizes[dtype], steps, batch, heads, hidden_size, backward, not tf32),
        *(device.capability, device.multiprocessors, device.shared_bytes),
    )
    return [RecurrentPlan(**plan) for plan in found]
