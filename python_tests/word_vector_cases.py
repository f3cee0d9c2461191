"""Problems of training word vectors: for the op, and for the reference in any precision."""

import itertools
import random
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers import generator, normal
from reference import WordVectors
from seqkern.functional.sampling import alias_table
from seqkern.vectors import huffman

OBJECTIVES = ("sg", "sg shared", "sg hs", "cbow", "cbow hs")


@dataclass(frozen=True)
class Case:
    """What is trained, with names of the op."""

    objective: str = "sg"
    vocabulary: int = 20
    vector_size: int = 16
    window: int = 5
    shrink_windows: bool = True
    negatives: int = 5
    mean: bool = True
    exact: bool = True
    keep: bool = False
    subwords: bool = False
    deterministic: bool = False
    length: int = 200
    begin: int = 0
    end: int | None = None
    rate: float = 0.05
    rate_step: float = -1e-5
    seed: int = 1
    epoch: int = 0

    def __str__(self) -> str:
        parts = [self.objective, f"V{self.vocabulary}", f"d{self.vector_size}", f"w{self.window}"]
        parts += [f"k{self.negatives}"] * ("hs" not in self.objective)
        flags = ("shrink_windows", "mean", "exact", "keep", "subwords", "deterministic")
        return "-".join(parts + [flag for flag in flags if getattr(self, flag)]).replace(" ", "_")

    def draw(self) -> "Problem":
        """Draw the text, tables and matrices: the same for equal cases."""
        return Problem(self)


@dataclass
class Trained:
    """What training leaves behind."""

    input: Tensor
    output: Tensor
    totals: list[float]  # loss, examples, words


@dataclass
class Problem:
    """A case with its numbers."""

    case: Case
    ids: Tensor = field(init=False)
    input: Tensor = field(init=False)
    output: Tensor = field(init=False)
    tables: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        case = self.case
        chance = generator(zlib.crc32(repr(case).encode()))
        words = case.vocabulary
        weights = torch.rand(words, generator=chance, dtype=torch.float64) + 0.05
        ids = torch.multinomial(weights, case.length, True, generator=chance)
        ids[torch.rand(case.length, generator=chance) < 0.08] = -1  # two in a row, too
        self.ids = ids.to(torch.int32)
        buckets = 7 if case.subwords else 0
        self.input = self._matrix(words + buckets, chance)
        self.tables = {}
        if "hs" in case.objective:
            tree = huffman((weights * 1000).long())
            self.tables["path"], self.tables["path_offsets"] = tree.paths, tree.offsets
            self.tables["path_labels"] = 1 - tree.codes
            self.tables["most_nodes"] = int(tree.offsets.diff().max())
            self.output = self._matrix(words - 1, chance)
        else:
            self.tables["noise"] = alias_table(weights).table
            self.tables["negatives"] = case.negatives
            self.output = self._matrix(words, chance)
        if case.keep:
            shares = (torch.rand(words, generator=chance, dtype=torch.float64) + 0.3).clamp(max=1)
            self.tables["keep"] = (shares * 2**32 - 1).long().to(torch.int32)
        if case.subwords:
            rows = len(self.input)
            lists = [
                [word, *torch.randint(rows, (int(n),), generator=chance).tolist()]
                for word, n in enumerate(torch.randint(5, (words,), generator=chance))
            ]
            sizes = [0, *map(len, lists)]
            self.tables["subwords"] = torch.tensor([*itertools.chain(*lists)], dtype=torch.int32)
            self.tables["subword_offsets"] = torch.tensor(sizes).cumsum(0)
            self.tables["most_subwords"] = max(sizes)

    def _matrix(self, rows: int, chance: torch.Generator) -> Tensor:
        """Draw rows whose dots are of the order of 1, with 0 in what pads them."""
        size = self.case.vector_size
        matrix = torch.zeros(rows, -(-size // 16) * 16)
        matrix[:, :size] = normal((rows, size), torch.float32, chance) * 1.2 / size**0.25
        return matrix

    def arguments(self, **changed: Any) -> dict[str, Any]:
        """Return the arguments of the op, the matrices copied."""
        case = self.case
        end = case.length if case.end is None else case.end
        return {
            "input": self.input.clone(),
            "output": self.output.clone(),
            "totals": torch.zeros(3, dtype=torch.float64),
            "ids": self.ids,
            "begin": case.begin,
            "end": end,
            "vector_size": case.vector_size,
            "cbow": case.objective.startswith("cbow"),
            "window": case.window,
            "shrink_windows": case.shrink_windows,
            "mean": case.mean,
            "exact": case.exact,
            "shared": case.objective == "sg shared",
            "rate": case.rate,
            "rate_step": case.rate_step,
            "seed": case.seed,
            "epoch": case.epoch,
            "workers": 1,
            "deterministic": case.deterministic,
            **self.tables,
            **changed,
        }

    def train(self, slices: list[tuple[int, int]] | None = None, **changed: Any) -> Trained:
        """Train by the op, on the whole, or slice by slice."""
        arguments = self.arguments(**changed)
        for begin, end in slices or [(arguments["begin"], arguments["end"])]:
            torch.ops.seqkern.train_word_vectors_(**{**arguments, "begin": begin, "end": end})
        return Trained(
            *(arguments[name] for name in ("input", "output")), arguments["totals"].tolist()
        )

    def reference(self, dtype: Any = np.float64) -> WordVectors:
        """Train by the reference."""
        case, size = self.case, self.case.vector_size
        tables: dict[str, Any] = {}
        if "noise" in self.tables:
            noise = self.tables["noise"].long()
            noise[:, 0] &= 0xFFFFFFFF
            tables |= {"noise": noise.numpy(), "negatives": case.negatives}
        else:
            labels = self.tables["path_labels"].float()
            pairs = list(zip(self.tables["path"].tolist(), labels.tolist(), strict=True))
            tables["paths"] = lists_of(pairs, self.tables["path_offsets"])
        if case.keep:
            tables["keep"] = (self.tables["keep"].long() & 0xFFFFFFFF).numpy()
        if case.subwords:
            rows = self.tables["subwords"].tolist()
            tables["subwords"] = lists_of(rows, self.tables["subword_offsets"])
        trainer = WordVectors(
            self.input[:, :size].numpy().astype(dtype),
            self.output[:, :size].numpy().astype(dtype),
            cbow=case.objective.startswith("cbow"),
            window=case.window,
            shrink_windows=case.shrink_windows,
            mean=case.mean,
            exact=case.exact,
            shared=case.objective == "sg shared",
            rate=case.rate,
            rate_step=case.rate_step,
            seed=case.seed,
            epoch=case.epoch,
            deterministic=case.deterministic,
            **tables,
        )
        trainer.train(self.ids.numpy(), case.begin, case.length if case.end is None else case.end)
        return trainer


def lists_of(elements: list[Any], offsets: Tensor) -> list[list[Any]]:
    """Return the list of each word."""
    bounds = offsets.tolist()
    return [elements[a:b] for a, b in itertools.pairwise(bounds)]


def cases() -> list[Case]:
    """Every objective and window, three times, with other options as they fall."""
    chance = random.Random(7)
    found = []
    for objective in OBJECTIVES:
        for window in (1, 2, 5, 20):
            for _ in range(3):
                negatives = chance.choice((1, 5, 7, 8, 20))
                shrink = chance.random() < 0.5
                # So many places that the reference takes less than a tenth of a second.
                contexts = 1 if objective.startswith("cbow") else window * (1.2 if shrink else 2)
                places = 2000 / contexts / (5 if "hs" in objective else 3 + negatives)
                length = int(min(300, max(30, places)))
                begin = chance.randrange(length // 3)
                mean = chance.random() < 0.7
                # Sums of many rows, at a rate that does not suit them, would magnify rounding.
                rate = 0.05 if mean else 0.05 / window
                found.append(
                    Case(
                        objective,
                        vocabulary=chance.choice((2, 3, 20)),
                        vector_size=chance.choice((1, 15, 16, 17, 100, 300)),
                        window=window,
                        shrink_windows=shrink,
                        negatives=negatives,
                        mean=mean,
                        exact=chance.random() < 0.5,
                        keep=chance.random() < 0.4,
                        subwords=chance.random() < 0.3,
                        deterministic=chance.random() < 0.3,
                        length=length,
                        begin=begin,
                        end=chance.randrange(max(begin, length // 2), length + 1),
                        rate=rate,
                        seed=chance.choice((1, -5, 2**63 - 1, 2**40)),
                        epoch=chance.choice((0, 3, 2**32 - 1)),
                    )
                )
    return found


# Texts of more than a chunk, and of more than a batch of words.
LONG = [
    Case("cbow", vector_size=3, window=2, negatives=1, keep=True, length=2500, begin=100),
    Case("sg", vector_size=3, window=1, negatives=1, keep=True, length=2300, begin=7),
    Case("sg hs", vocabulary=3, vector_size=1, window=1, length=2200, deterministic=True),
    Case("cbow", vector_size=16, window=2, negatives=131, length=150),  # batches of 62
    Case("cbow", vector_size=16, window=2, negatives=1500, length=20),  # batches of 5
    Case("sg", vector_size=16, window=2, negatives=1500, length=8),
]
ALL = [*cases(), *LONG]
