"""The work of the sampling benchmarks, as cases: negatives of both kinds, beside torch.multinomial.

Counts fall as in text: class k occurs 1 / (k + 1) as often as the first; power 0.75.
"""

from collections.abc import Mapping
from functools import partial

import torch
from case import PEERS, Case, Run
from torch import Tensor

from seqkern.nn import UnigramSampler

Sizes = Mapping[str, int]

INDEPENDENT, DISTINCT, TABLE, HARD = "independent", "distinct", "table", "skewed"
SKEW = 1e-6  # the part of all other classes beside the first, where counts are skewed


def counts_of(sizes: Sizes, skewed: bool = False) -> Tensor:
    """Return counts of V classes."""
    counts = 1e6 / torch.arange(1, sizes["V"] + 1, dtype=torch.float64)
    if skewed:
        counts[1:] *= SKEW * counts[0] / counts[1:].sum()
    return counts


def make_negatives(peer: str, sizes: Sizes, distinct: bool, skewed: bool = False) -> Run:
    """Make draws of K negatives for R targets.

    torch.multinomial without replacement takes a row of weights for each target, whose own is 0.
    """
    torch.manual_seed(0)
    counts, power = counts_of(sizes, skewed), 1.0 if skewed else 0.75
    rows, count = sizes["R"], sizes["K"]
    target = torch.multinomial(counts.float(), rows, replacement=True)
    if peer == "seqkern":
        sampler = UnigramSampler(counts, power)
        return lambda: sampler.negatives(target, count, distinct=distinct)
    weights = (counts**power).float()
    if not distinct:
        return lambda: torch.multinomial(weights, rows * count, replacement=True)
    others = weights.repeat(rows, 1).scatter_(1, target.unsqueeze(1), 0)
    return lambda: torch.multinomial(others, count)


def make_sampler(peer: str, sizes: Sizes) -> Run:
    """Make samplers."""
    counts = counts_of(sizes)
    return lambda: UnigramSampler(counts)


def negatives_case(
    classes: int, count: int, rows: int, distinct: bool, peers: tuple[str, ...] = PEERS
) -> Case:
    """K negatives of each of R targets."""
    sizes = {"V": classes, "K": count, "R": rows}
    make = partial(make_negatives, sizes=sizes, distinct=distinct)
    return Case(DISTINCT if distinct else INDEPENDENT, sizes, make, peers=peers)


def skewed_case(classes: int, count: int, rows: int) -> Case:
    """The same, distinct, where the first class holds nearly all weight."""
    sizes = {"V": classes, "K": count, "R": rows}
    make = partial(make_negatives, sizes=sizes, distinct=True, skewed=True)
    return Case(HARD, sizes, make, peers=("seqkern",))


def table_case(classes: int) -> Case:
    """The construction of a sampler."""
    sizes = {"V": classes}
    return Case(TABLE, sizes, partial(make_sampler, sizes=sizes), peers=("seqkern",))
