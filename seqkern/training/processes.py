"""What the processes of one training, started by torchrun, tell each other.

All is as for one process where torch.distributed is not initialised.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

V = TypeVar("V")


def rank_and_world() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@torch.no_grad()
def average_gradients(model: torch.nn.Module) -> None:
    """Put the mean over the processes in place of each one's gradients, in one reduction."""
    _, world = rank_and_world()
    if world == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def mean(value: Tensor) -> Tensor:
    """The mean of the processes' values."""
    _, world = rank_and_world()
    if world > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= world
    return value


def any_of(flags: tuple[bool, ...], device: torch.device) -> list[bool]:
    """For each flag, whether it is set in any process."""
    if rank_and_world()[1] == 1:
        return list(flags)
    numbers = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return [bool(number) for number in numbers.tolist()]


def gather(value: V) -> list[V]:
    """The values of all processes, in each of them."""
    _, world = rank_and_world()
    values = [value] * world
    if world > 1:
        dist.all_gather_object(values, value)
    return values
