"""One of the processes of test_vocabulary_parallel.py, started by torchrun.

Usage: softmax_worker.py FOLDER; rank r writes what it finds of each case to FOLDER/r.pt.
"""

import os
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from seqkern.functional import VocabularyShard, cross_entropy
from softmax_cases import Problem, Recipe, differentiated, results

CLASSES = 23  # odd
ALL = (True, True, True, True)
RICH = Recipe(classes=CLASSES, class_weight=True, label_smoothing=0.1, z_loss=1e-2, used=ALL)
RECIPES = {
    "plain": Recipe(classes=CLASSES),
    "sum": replace(RICH, reduction="sum"),
    "none": replace(RICH, reduction="none", softcap=3.0, temperature=0.7),
    "mean": RICH,
    "smoothing": Recipe(classes=CLASSES, label_smoothing=0.3),
    "huge": Recipe(classes=CLASSES, kind="huge"),
    "peaked": replace(RICH, kind="peaked"),
    "constant": Recipe(classes=CLASSES, kind="constant"),
    "all ignored": replace(RICH, ignored=1.0),
    "no positions": replace(RICH, shape=(0,)),
    "statistics alone": replace(RICH, used=(False, True, True, True)),
}
BORDERS = {"even": None, "uneven": 3}  # the first class of the second process
DTYPES = (torch.float64, torch.float32)
MASKED = "first shard masked"


def cases() -> dict[str, tuple[Problem, int | None]]:
    """Problems by name, each with the place where its vocabulary is split."""
    found = {}
    for name, recipe in RECIPES.items():
        for features in (None, 7):
            for borders, border in BORDERS.items():
                for dtype in DTYPES:
                    of = f"{name}, {'logits' if features is None else 'linear'}, {borders}, {dtype}"
                    found[of] = replace(recipe, features=features).problem(dtype), border
    problem = replace(RICH, label_smoothing=0.0).problem(torch.float64)
    problem.tensors["logits"][..., :11] = -torch.inf
    problem.target[problem.target >= 0] = 11 + problem.target[problem.target >= 0] % 12
    found[f"{MASKED}, logits"] = problem, None
    problem = replace(RICH, label_smoothing=0.0, features=7).problem(torch.float64)
    problem.tensors["bias"][:11] = -torch.inf
    problem.target[problem.target >= 0] = 11 + problem.target[problem.target >= 0] % 12
    found[f"{MASKED}, linear"] = problem, None
    return found


def shard_of(border: int | None, classes: int) -> VocabularyShard:
    """The classes of this process."""
    if border is None:
        return VocabularyShard.of_rank(classes)
    return VocabularyShard(*((border, classes) if dist.get_rank() else (0, border)), classes)


def part_of(problem: Problem, shard: VocabularyShard) -> Problem:
    """The problem of this process."""
    here = slice(shard.begin, shard.end)
    tensors = {
        name: t[..., here] if name == "logits" else t if name == "hidden" else t[here]
        for name, t in problem.tensors.items()
    }
    weight = None if problem.class_weight is None else problem.class_weight[here]
    return replace(problem, tensors=tensors, class_weight=weight)


def refusals(shard: VocabularyShard) -> dict[str, str]:
    """What errors say, by what is wrong."""
    logits = torch.zeros(2, shard.end - shard.begin, requires_grad=True)
    target = torch.zeros(2, dtype=torch.int64)
    found = {}

    def attempt(name: str, x: torch.Tensor, target: torch.Tensor, *weight: torch.Tensor) -> None:
        try:
            loss: Any = cross_entropy(x, target, *weight, shard=shard)
            if name == "second derivative":
                torch.autograd.grad(loss, x, create_graph=True)
            found[name] = "nothing"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"

    attempt("classes", logits[:, 1:], target)
    attempt("probabilities", logits, torch.ones_like(logits))
    attempt("target", logits, target + shard.classes)
    attempt("second derivative", logits, target)
    weight = torch.ones(shard.end - shard.begin, requires_grad=True)
    attempt("gradient of class weights", logits, target, weight)
    return found


def main(folder: str) -> None:
    """Solve every case, as one of the processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found: dict[str, Any] = {}
    for name, (problem, border) in cases().items():
        shard = shard_of(border, CLASSES)
        mine = part_of(problem, shard)
        found[name] = differentiated(mine, partial(solve, mine, shard))
    found["refusals"] = refusals(shard_of(None, CLASSES))
    torch.save(found, f"{folder}/{dist.get_rank()}.pt")
    dist.barrier()
    os._exit(0)  # see ddp_worker.py


def solve(
    problem: Problem, shard: VocabularyShard, tensors: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """Results but for the ranks, which are None."""
    of_all = results(problem, tensors, shard=shard)
    assert of_all.pop("rank") is None
    return of_all


if __name__ == "__main__":
    main(sys.argv[1])
