"""seqkern.nn.LSTM beside torch.nn.LSTM (oneDNN), one layer, float32."""

from functools import partial
from typing import Any

import pytest
import torch
from case import PEERS, Case, Run

import seqkern.nn

SIZES = [  # N, T, D, H
    (20, 35, 100, 100),
    (20, 35, 650, 650),
    (32, 100, 256, 256),
    (64, 100, 512, 512),
    (1, 35, 256, 256),
]


def make(peer: str, sizes: tuple[int, int, int, int], backward: bool) -> Run:
    """Make a layer; its backward pass yields the gradients of the input and of all parameters."""
    batch, steps, input_size, hidden_size = sizes
    torch.manual_seed(0)
    layer = {"seqkern": seqkern.nn.LSTM, "torch": torch.nn.LSTM}[peer](input_size, hidden_size)
    x = torch.randn(steps, batch, input_size, requires_grad=backward)
    d_output = torch.randn(steps, batch, hidden_size)
    leaves = [x, *layer.parameters()]

    def forward() -> object:
        with torch.no_grad():
            return layer(x)

    def forward_and_backward() -> object:
        output, _ = layer(x)
        return torch.autograd.grad(output, leaves, d_output)

    return forward_and_backward if backward else forward


def case(sizes: tuple[int, int, int, int], backward: bool) -> Case:
    """Describe one size; a backward pass has twice the products of a forward pass."""
    batch, steps, input_size, hidden_size = sizes
    flops = 2.0 * batch * steps * 4 * hidden_size * (input_size + hidden_size)
    return Case(
        group="LSTM, forward + backward" if backward else "LSTM, forward",
        name="N={} T={} D={} H={}".format(*sizes),
        make=partial(make, sizes=sizes, backward=backward),
        flops=3 * flops if backward else flops,
    )


CASES = [case(sizes, backward) for backward in (False, True) for sizes in SIZES]


@pytest.mark.benchmark(warmup=True)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lstm(benchmark: Any, case: Case, peer: str) -> None:
    benchmark.group = str(case)
    benchmark(case.make(peer))
