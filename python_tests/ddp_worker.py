"""One process of test_parallel.py, started by torchrun: a training step on its part of the batch.

Usage: ddp_worker.py FILE, where FILE holds {"state", "tokens", "target"}; rank 0 writes the mean
loss and the gradients to FILE.out.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import seqkern.nn


class Model(torch.nn.Module):
    """Token numbers and targets, (T, N) each, to the loss of a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(23, 8)
        self.recurrent = torch.nn.ModuleList(
            [
                seqkern.nn.LSTM(8, 16, num_layers=2, bidirectional=True, proj_size=6),
                seqkern.nn.GRU(12, 16, layer_norm=True, heads=2),
                seqkern.nn.RNN(16, 32),
            ]
        )
        self.cell = seqkern.nn.GRUCell(32, 32)
        self.linear = torch.nn.Linear(32, 23)
        self.loss = seqkern.nn.TimeSoftmaxLoss()

    def forward(self, tokens: Tensor, target: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.recurrent:
            x, _ = layer(x)
        x = torch.cat([x[:-1], self.cell(x[-1]).unsqueeze(0)])
        return self.loss(self.linear(x), target)


def main(path: str) -> None:
    """Train one step, as one of the processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    problem = torch.load(path)
    model = Model()
    model.load_state_dict(problem["state"])
    parallel = DistributedDataParallel(model)
    part = slice(rank, None, world)  # of the sequences
    loss = parallel(problem["tokens"][:, part], problem["target"][:, part])
    loss.backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    if rank == 0:
        gradients = [parameter.grad for parameter in model.parameters()]
        torch.save({"loss": total / world, "gradients": gradients}, f"{path}.out")
    # Not by torch's teardown, which aborted in 2 of 28 runs of torch.nn alone on a busy machine.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
