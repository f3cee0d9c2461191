"""A training step of a language model: seqkern's layers beside torch.nn.LSTM and cross_entropy.

Embedding, one LSTM layer, a linear layer to the vocabulary, the loss; forward, backward, SGD.
"""

from typing import Any

import pytest
import torch
from case import PEERS, Case, Run
from torch import Tensor

import seqkern.nn

STEPS, BATCH, SIZE, VOCABULARY = 35, 20, 100, 10000


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return torch's loss for logits (T, N, V) and target (T, N)."""
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=-1
    )


def make(peer: str) -> Run:
    """Make a model of equal parameters, its optimizer and one batch."""
    torch.manual_seed(0)
    lstm = {"seqkern": seqkern.nn.LSTM, "torch": torch.nn.LSTM}[peer](SIZE, SIZE)
    embedding = torch.nn.Embedding(VOCABULARY, SIZE)
    linear = torch.nn.Linear(SIZE, VOCABULARY)
    loss_function = seqkern.nn.TimeSoftmaxLoss() if peer == "seqkern" else cross_entropy
    model = torch.nn.ModuleList([lstm, embedding, linear])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tokens, target = torch.randint(VOCABULARY, (2, STEPS, BATCH))

    def step() -> object:
        optimizer.zero_grad()
        loss = loss_function(linear(lstm(embedding(tokens))[0]), target)
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
