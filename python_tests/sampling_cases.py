"""Draws of classes in plain Python, number by number: the oracle of the ops that draw."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from seqkern.functional.sampling import AliasTable, alias_table

WORD, LONG = 2**32, 2**64


def philox(key: int, counter: int) -> int:
    """Philox4x32-10 (Salmon et al. 2011): 128 bits for a counter of 128 bits."""
    c = [counter >> (32 * i) & (WORD - 1) for i in range(4)]
    k = [key & (WORD - 1), key >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b % WORD, a >> 32 ^ c[3] ^ k[1], a % WORD]
        k = [(k[0] + 0x9E3779B9) % WORD, (k[1] + 0xBB67AE85) % WORD]
    return sum(word << (32 * i) for i, word in enumerate(c))


def halves(number: int) -> tuple[int, int]:
    """Split 128 bits, the low ones first."""
    return number % LONG, number >> 64


def class_of(table: list[list[int]], random: int) -> int:
    """Draw from an alias table."""
    bucket, fraction = divmod(random * len(table), LONG)
    share, alias = table[bucket]
    return bucket if fraction >> 32 < share % WORD else alias


def draws(table: AliasTable, seed: int, count: int) -> list[int]:
    """Draw independently."""
    rows = table.table.tolist()
    pairs = [halves(philox(seed % LONG, i)) for i in range(-(-count // 2))]
    return [class_of(rows, random) for pair in pairs for random in pair][:count]


def distinct_row(table: AliasTable, seed: int, row: int, target: int, count: int) -> list[int]:
    """Draw a row without replacement."""
    buckets = table.table.tolist()
    weights = np.diff(table.cumulative.numpy(), prepend=0).tolist()

    def randoms() -> Iterator[int]:
        attempt = 0
        while True:
            yield halves(philox(seed % LONG, row | attempt // 2 << 64))[attempt % 2]
            attempt += 1

    random, found = randoms(), []
    for _ in range(4 * count + 16):
        if len(found) < count:
            drawn = class_of(buckets, next(random))
            if drawn != target and drawn not in found:
                found.append(drawn)
    left = [0 if v == target or v in found else w for v, w in enumerate(weights)]
    while len(found) < count and any(left):
        place = next(random) * sum(left) >> 64
        drawn = int(np.searchsorted(np.cumsum(left), place, side="right"))
        found.append(drawn)
        left[drawn] = 0
    return found + [-1] * (count - len(found))


def zipf(classes: int) -> Tensor:
    """Weights of classes by falling frequency, float64."""
    return 1 / torch.arange(1, classes + 1, dtype=torch.float64)


def op_arguments() -> dict[str, tuple[object, ...]]:
    """Arguments of each op."""
    table, seed = alias_table(zipf(70)), torch.tensor([-5])
    target = torch.tensor([0, 69, -100, 5])
    return {
        "alias_table": (zipf(70),),
        "sample_alias": (table.table, seed, 9),
        "sample_distinct": (*table, target, seed, 40),
    }
