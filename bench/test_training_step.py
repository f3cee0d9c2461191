"""A training step of a language model: seqkern's layers and loss beside torch.

Embedding, one LSTM layer, a linear layer to the vocabulary, the loss; forward, backward, SGD.
"""

from typing import Any

import pytest
import torch
from case import PEERS, Case, Run
from torch import Tensor

import seqkern.functional
import seqkern.nn

STEPS, BATCH, SIZE, VOCABULARY = 35, 20, 100, 10000


def cross_entropy(hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor) -> Tensor:
    """Return torch's loss of a linear layer, for hidden states (T, N, H) and target (T, N)."""
    logits = torch.nn.functional.linear(hidden, weight, bias)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def make(peer: str) -> Run:
    """Make a model of equal parameters, its optimizer and one batch."""
    torch.manual_seed(0)
    lstm = {"seqkern": seqkern.nn.LSTM, "torch": torch.nn.LSTM}[peer](SIZE, SIZE)
    embedding = torch.nn.Embedding(VOCABULARY, SIZE)
    linear = torch.nn.Linear(SIZE, VOCABULARY)
    ours = seqkern.functional.linear_cross_entropy
    loss_function = ours if peer == "seqkern" else cross_entropy
    model = torch.nn.ModuleList([lstm, embedding, linear])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tokens, target = torch.randint(VOCABULARY, (2, STEPS, BATCH))

    def step() -> object:
        optimizer.zero_grad()
        hidden, _ = lstm(embedding(tokens))
        loss = loss_function(hidden, linear.weight, target, linear.bias)
        loss.backward()
        optimizer.step()
        return loss

    return step


CASES = [
    Case(
        group="training step",
        sizes={"N": BATCH, "T": STEPS, "D": SIZE, "H": SIZE, "V": VOCABULARY},
        make=make,
    )
]


@pytest.mark.benchmark(warmup=True)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_training_step(benchmark: Any, case: Case, peer: str) -> None:
    benchmark.group = str(case)
    benchmark(case.make(peer))
