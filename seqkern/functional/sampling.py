"""Draws of classes from a discrete distribution, with and without replacement."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqkern.functional._autograd import check_devices
from seqkern.functional.columns import is_integer

_ops = torch.ops.seqkern


class AliasTable(NamedTuple):
    """A distribution over V classes, made ready for draws by :func:`alias_table`.

    Attributes
    ----------
    table
        (V, 2) int32, a row a bucket: which part of it is its own class's, in 2^-32 (bits of an
        unsigned integer), and whose the rest is.
    cumulative
        (V,) int64: cumulative sums of the classes' weights, which together are 2^62.
    """

    table: Tensor
    cumulative: Tensor

    def to(self, device: Any) -> "AliasTable":
        """Return the same distribution on a device."""
        return AliasTable(self.table.to(device), self.cumulative.to(device))


def alias_table(weights: Tensor) -> AliasTable:
    """Make a distribution ready for draws in constant time.

    Parameters
    ----------
    weights
        (V,), 0 < V < 2^31: floating-point, on the CPU; finite, not negative, not all 0.

    Returns
    -------
    AliasTable
        16 bytes a class, on the CPU.

    Raises
    ------
    TypeError
        If weights are not floating-point.
    ValueError
        If they are not as described.

    Notes
    -----
    Walker's alias method: V buckets of equal probability, each divided between its own class and
    one other (Vose 1991, "A linear algorithm for generating random numbers with a given
    distribution"). Weights are rounded to whole numbers, of sum V 2^32 in the table, which is exact
    for these: a probability is off by less than 2^-31 / V, and a positive one stays positive.

    Examples
    --------
    >>> import torch
    >>> from seqkern.functional.sampling import alias_table
    >>> alias_table(torch.tensor([1.0, 0.0, 3.0])).cumulative / 2**62
    tensor([0.2500, 0.2500, 1.0000])
    """
    if not weights.is_floating_point():
        raise TypeError(f"weights has dtype {weights.dtype}, expected a floating-point dtype")
    if weights.device.type != "cpu":
        raise ValueError(f"weights is on {weights.device}, expected the CPU")
    return AliasTable(*_ops.alias_table(weights.detach().double()))


def sample(
    table: AliasTable,
    count: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw classes, each independently of the others.

    Parameters
    ----------
    table
        The distribution, where the draws are to be.
    count
        M >= 0: the number of draws.
    generator
        Of the seed, on the table's device; torch's global one if None.

    Returns
    -------
    Tensor
        (M,) int64, on the table's device.

    Raises
    ------
    ValueError
        If ``count`` is negative.

    Notes
    -----
    Takes one number from the generator, as the key of a counter-based one, Philox4x32-10 (Salmon
    et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): draws depend neither on the number
    of threads nor, for the same seed, on the device. Nothing waits for the device.

    Examples
    --------
    >>> import torch
    >>> from seqkern.functional.sampling import alias_table, sample
    >>> table = alias_table(torch.tensor([1.0, 0.0, 3.0]))
    >>> sample(table, 1000, torch.Generator().manual_seed(0)).unique()
    tensor([0, 2])
    """
    seed = draw_seed(generator, table.table.device)
    return _ops.sample_alias(table.table, seed, count)


def sample_distinct(
    table: AliasTable,
    target: Tensor,
    count: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw rows of distinct classes, none of which is the row's target.

    Parameters
    ----------
    table
        The distribution.
    target
        (R,): integers on the table's device. Negative ones exclude nothing.
    count
        K, 0 <= K < V: how many classes a row has.
    generator
        Of the seed, as of :func:`sample`.

    Returns
    -------
    Tensor
        (R, K) int64, in the order of the draws; -1 where no class of positive weight is left.

    Raises
    ------
    TypeError
        If target does not hold integers.
    ValueError
        If a shape, a device or count does not fit.
    IndexError
        If a target is V or greater, on the CPU. On CUDA it excludes nothing.

    Notes
    -----
    A row is drawn one by one without replacement: each draw is of the classes that are neither the
    target nor drawn before, by their weights. The first 4 K + 16 attempts are draws from all
    classes, of which repetitions and the target are rejected, which takes O(K) on average; what
    is missing then is drawn by inversion of the remaining classes' cumulative sums, in O(K + log V)
    each. Random numbers as in :func:`sample`: a row depends on the seed and its number alone.

    Examples
    --------
    >>> import torch
    >>> from seqkern.functional.sampling import alias_table, sample_distinct
    >>> table = alias_table(torch.tensor([9.0, 1.0, 1.0]))
    >>> sample_distinct(table, torch.tensor([0, 1]), 2).sort().values
    tensor([[1, 2],
            [0, 2]])
    """
    if not is_integer(target):
        raise TypeError(f"target has dtype {target.dtype}, expected integers")
    seed = draw_seed(generator, table.table.device)
    return _ops.sample_distinct(*table, target.to(torch.int64), seed, count)


def draw_seed(generator: torch.Generator | None, device: Any) -> Tensor:
    """Draw the key of a counter-based generator, (1,) int64, on a device.

    If that is None, on the generator's, or torch's default one.
    """
    if device is None and generator is not None:
        device = generator.device
    return torch.randint(-(2**63), 2**63 - 1, (1,), generator=generator, device=device)


@torch.library.register_fake("seqkern::alias_table")
def _alias_table_fake(weights: Tensor) -> tuple[Tensor, Tensor]:
    classes = weights.shape[0]
    table = weights.new_empty(classes, 2, dtype=torch.int32)
    return table, weights.new_empty(classes, dtype=torch.int64)


@torch.library.register_fake("seqkern::sample_alias")
def _sample_alias_fake(table: Tensor, seed: Tensor, count: int) -> Tensor:
    check_devices(table, "table", seed=seed)
    return seed.new_empty(count)


@torch.library.register_fake("seqkern::sample_distinct")
def _sample_distinct_fake(
    table: Tensor, cumulative: Tensor, target: Tensor, seed: Tensor, count: int
) -> Tensor:
    check_devices(table, "table", cumulative=cumulative, target=target, seed=seed)
    return seed.new_empty(target.shape[0], count)
