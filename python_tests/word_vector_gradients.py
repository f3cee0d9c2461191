"""Training word vectors, to first order: problems for the op, and an oracle in plain Python.

At a learning rate so small that no example sees the changes of another, a matrix changes by the
rate times the sum of the examples' gradients at the matrices as they were, whatever their order.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sampling_cases import WORD, class_of, halves, philox, zipf
from seqkern.functional.sampling import alias_table
from seqkern.vectors.huffman import huffman

Array = NDArray[np.float64]

CHOICES = WORD - 1  # the block of random numbers that says what stays, and how large windows are
RATE = 2.0**-16


@dataclass
class Problem:
    """Arguments of the op."""

    input: Tensor
    output: Tensor
    ids: Tensor
    begin: int
    end: int
    options: dict[str, Any]
    totals: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def arguments(self) -> tuple[object, ...]:
        """Return those that are given by place, in copies."""
        mutable = (t.clone() for t in (self.input, self.output, self.totals))
        return (*mutable, self.ids, self.begin, self.end)

    def train(self, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the matrices and the totals afterwards."""
        arguments = self.arguments()
        torch.ops.seqkern.train_word_vectors_(*arguments, **self.options, **options)
        return arguments[:3]  # type: ignore[return-value]


def draw(
    seed: int,
    *,
    size: int = 20,
    vocabulary: int = 30,
    length: int = 90,
    sentence: int = 20,
    part: bool = False,
    sample: bool = True,
    path: bool = False,
    subwords: bool = False,
    negatives: int = 5,
    **options: Any,
) -> Problem:
    """Draw a problem; a sentence has so many words on average."""
    random = np.random.default_rng(seed)
    stride = -(-size // 16) * 16
    ids = random.integers(vocabulary, size=length)
    ids[random.random(length) < 1 / sentence] = -1
    rows = vocabulary + 7 * subwords
    matrices = []
    for count in (rows, vocabulary - path):
        matrix = torch.zeros(count, stride)
        most = min(0.5, 2 / size**0.5)
        matrix[:, :size] = torch.from_numpy(random.uniform(-most, most, (count, size)))
        matrices.append(matrix)
    given: dict[str, Any] = {
        "vector_size": size,
        "cbow": False,
        "window": 3,
        "shrink_windows": True,
        "mean": True,
        "exact": True,
        "rate": RATE,
        "rate_step": RATE / max(length, 1),
        "seed": -(2**40) - seed,
        "epoch": 3,
    }
    if sample:
        keep = random.integers(WORD // 4, WORD, vocabulary).astype(np.uint32)
        given["keep"] = torch.from_numpy(keep.view(np.int32))
    if subwords:
        counts = random.integers(1, 9, vocabulary)
        given["subwords"] = torch.from_numpy(random.integers(rows, size=counts.sum())).int()
        given["subword_offsets"] = torch.tensor([0, *counts.cumsum()])
        given["most_subwords"] = 8
    if path:
        tree = huffman(torch.arange(vocabulary, 0, -1))
        given |= {"path": tree.paths, "path_labels": 1 - tree.codes, "path_offsets": tree.offsets}
        given["most_nodes"] = int(tree.offsets.diff().max())
    else:
        given |= {"noise": alias_table(zipf(vocabulary)).table, "negatives": negatives}
    begin, end = sorted(random.integers(length + 1, size=2).tolist()) if part else (0, length)
    return Problem(*matrices, torch.from_numpy(ids).int(), begin, end, given | options)


@dataclass
class FirstOrder:
    """The sums of gradients, each times its rate and scale, and the totals."""

    input: Array
    output: Array
    loss: float = 0.0
    examples: int = 0
    words: int = 0


def first_order(problem: Problem) -> FirstOrder:
    """Go through all examples, and change nothing."""
    o, ids = problem.options, problem.ids.tolist()
    inputs, outputs = (t.double().numpy() for t in (problem.input, problem.output))
    found = FirstOrder(np.zeros_like(inputs), np.zeros_like(outputs))
    keep = o["keep"].numpy().view(np.uint32) if "keep" in o else None
    noise = o["noise"].tolist() if "noise" in o else None
    vocabulary = len(outputs) + ("path" in o)

    def random(place: int, block: int) -> int:
        return philox(o["seed"] % 2**64, place | o["epoch"] << 64 | block << 96)

    def is_word(place: int) -> bool:
        return 0 <= place < len(ids) and 0 <= ids[place] < vocabulary

    def stays(place: int) -> bool:
        return keep is None or random(place, CHOICES) % WORD <= keep[ids[place]]

    def neighbours(place: int, step: int, window: int) -> list[int]:
        words: list[int] = []
        while len(words) < window and is_word(place := place + step):
            words += [ids[place]] * int(stays(place))
        return words

    def rows_of(word: int) -> list[int]:
        if "subwords" not in o:
            return [word]
        begin, end = o["subword_offsets"][word : word + 2].tolist()
        rows: list[int] = o["subwords"][begin:end].tolist()
        return rows

    def targets(place: int, first: int) -> tuple[list[int], list[float]]:
        word = ids[place]
        if noise is None:
            begin, end = o["path_offsets"][word : word + 2].tolist()
            return o["path"][begin:end].tolist(), o["path_labels"][begin:end].tolist()
        drawn = (
            class_of(noise, halves(random(place, draw // 2))[draw % 2])
            for draw in range(first, first + o["negatives"])
        )
        rows = [row for row in drawn if 0 <= row < vocabulary and row != word]
        return [*rows, word], [0.0] * len(rows) + [1.0]

    def train(place: int, rows: list[int], first: int) -> None:
        share = 1 / len(rows) if o["mean"] else 1
        h = inputs[rows].sum(0) * share
        to, labels = targets(place, first)
        dots = outputs[to] @ h
        rate = o["rate"] + place * o["rate_step"]
        errors = rate * (np.array(labels) - 0.5 - 0.5 * np.tanh(dots / 2))
        np.add.at(found.output, to, errors[:, None] * h)
        np.add.at(found.input, rows, errors @ outputs[to] * (share if o["exact"] else 1))
        found.loss += float(np.logaddexp(0, np.where(labels, -dots, dots)).sum())
        found.examples += 1

    for place in range(problem.begin, problem.end):
        if not (is_word(place) and stays(place)):
            continue
        found.words += 1
        window = o["window"]
        if o["shrink_windows"]:
            window = 1 + ((random(place, CHOICES) >> 32) % WORD * window >> 32)
        words = neighbours(place, -1, window)[::-1] + neighbours(place, 1, window)
        if o["cbow"]:
            if words:
                train(place, [row for word in words for row in rows_of(word)], 0)
        else:
            for number, word in enumerate(words):
                fresh = noise is not None and not o.get("shared")
                train(place, rows_of(word), number * o["negatives"] if fresh else 0)
    return found


def check_changes(before: Tensor, after: Tensor, expected: Array) -> None:
    """Compare the changes of a matrix; a row that no example has keeps its bits."""
    change = (after.double() - before.double()).numpy()
    most = np.abs(expected).max(initial=0)
    assert np.abs(change - expected).max(initial=0) <= 0.03 * most + 2e-7
    idle = ~expected.any(1)
    assert np.array_equal(after.numpy()[idle], before.numpy()[idle])
