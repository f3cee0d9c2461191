"""seqkern.functional.time_softmax_loss beside torch.nn.functional.cross_entropy, float32."""

from functools import partial
from typing import Any

import pytest
import torch
from case import PEERS, Case, Run

import seqkern.functional

SIZES = [(700, 10000), (8192, 1000)]  # rows (T * N), classes (V)


def make(peer: str, rows: int, classes: int, backward: bool) -> Run:
    """Make logits and targets; the backward pass yields the gradient of the logits."""
    torch.manual_seed(0)
    logits = torch.randn(rows, classes, requires_grad=backward)
    target = torch.randint(classes, (rows,))

    def loss() -> torch.Tensor:
        if peer == "seqkern":
            return seqkern.functional.time_softmax_loss(logits, target)
        return torch.nn.functional.cross_entropy(logits, target, ignore_index=-1)

    def forward_and_backward() -> object:
        return torch.autograd.grad(loss(), logits)

    return forward_and_backward if backward else loss


CASES = [
    Case(
        group="softmax loss, forward + backward" if backward else "softmax loss, forward",
        sizes={"rows": rows, "V": classes},
        make=partial(make, rows=rows, classes=classes, backward=backward),
    )
    for backward in (False, True)
    for rows, classes in SIZES
]


@pytest.mark.benchmark(warmup=True)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_time_softmax_loss(benchmark: Any, case: Case, peer: str) -> None:
    benchmark.group = str(case)
    benchmark(case.make(peer))
