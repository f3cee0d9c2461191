"""Direct calls of the recurrent ops, with the problems of recurrent_cases."""

import torch
from torch import Tensor

from helpers import error
from recurrent_cases import FLOOR, OPTIONS, OUTPUTS, Problem, composite, draw, reference
from seqkern.functional._recurrent_arguments import ARGUMENTS, DIFFERENTIABLE

ops = torch.ops.seqkern

# Roundings that are granted. In half types h and what products read are rounded at every step; the
# peer computes in float32.
ROUNDINGS = FLOOR | {torch.bfloat16: 4, torch.float16: 4}


def forward(problem: Problem, keep_cells: bool = True, keep: bool = True) -> list[Tensor]:
    """Call the forward op: output, h_n, c_n, cells and what it keeps."""
    tensors = (problem.arguments.get(name) for name in ARGUMENTS)
    flags = (problem.reset_to_initial, problem.reverse, keep_cells, keep)
    return list(ops.recurrent_forward(problem.cell, *tensors, *flags))


def backward(
    problem: Problem,
    results: list[Tensor],
    recompute: int = 0,
    *,
    of_input: bool = True,
    of_weights: bool = True,
) -> dict[str, Tensor]:
    """Call the backward op with what the forward op returned."""
    output, _, _, cells, kept = results
    found = ops.recurrent_backward(
        problem.cell,
        *(problem.gradients.get(name) for name in OUTPUTS),
        *(problem.arguments.get(name) for name in ARGUMENTS),
        *(output, cells, kept, problem.reset_to_initial, problem.reverse),
        *(recompute, of_input, of_weights),
    )
    return {f"d_{name}": d for name, d in zip(ARGUMENTS[:DIFFERENTIABLE], found, strict=True)}


def everything(problem: Problem, recompute: int = 0) -> dict[str, Tensor]:
    """All results, and the gradients of all arguments."""
    results = forward(problem, keep=not recompute)
    named = dict(zip(OUTPUTS, results, strict=False))
    return named | backward(problem, results, recompute)


def check(
    problem: Problem,
    found: dict[str, Tensor],
    times: float = 2,
    peer: dict[str, Tensor] | None = None,
) -> None:
    """Check dtypes, that what is absent is empty, and all else against the float64 reference.

    No result errs more than so many `times` what its peer does (plain torch operations in the same
    sums), or a few roundings. Small sizes need more than 2: the worst of few errors is luck.
    """
    expected, peer = reference(problem), peer or composite(problem)
    for name, tensor in found.items():
        sums = name == "cells" and problem.dtype != torch.float64
        assert tensor.dtype == (torch.float32 if sums else problem.dtype), name
        if name not in expected:
            assert tensor.shape == (0,), name
            continue
        assert tensor.is_contiguous(), name
        floor = ROUNDINGS[problem.dtype] * torch.finfo(problem.dtype).eps
        bound = times * max(floor / 2, error(peer[name].cpu(), expected[name]))
        actual = error(tensor.cpu(), expected[name])
        assert actual <= bound, f"{name}: error {actual:.2e}, expected at most {bound:.2e}"


def draw_options(
    cell: str,
    sizes: tuple[int, int, int, int],
    dtype: torch.dtype,
    seed: int,
) -> Problem:
    """Draw a layer of T, N, D, H with any options that go together."""
    some = torch.rand(len(OPTIONS) + 2, generator=torch.Generator().manual_seed(seed)) < 0.5
    *wanted, reverse, reset_to_initial = some.tolist()
    options = [name for name, there in zip(OPTIONS, wanted, strict=True) if there]
    flags = {"reverse": reverse, "reset_to_initial": reset_to_initial}
    return draw(cell, sizes, dtype, seed, options, **flags)
