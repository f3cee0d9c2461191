"""Problems for recurrent layers of any cell with any option, and three ways to solve them.

`reference` is the oracle; `run` is the layer under test; `peer` is the same computation in plain
torch operations in the same dtype, whose error is the measure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import seqkern.functional as F
from helpers import Array, error, generator, normal, strided, to_array
from reference import RecurrentReference
from seqkern.functional import _recurrent_composite
from seqkern.functional._recurrent_arguments import ARGUMENTS, CELLS, sum_type
from seqkern.functional._recurrent_composite import recurrent_composite

NAMES = tuple(CELLS)
OUTPUTS = ("output", "h_n", "c_n", "cells")
OPTIONS = (
    "h_0",
    "c_0",
    "bias_ih",
    "bias_hh",
    "projected",
    "heads",
    "weight_hr",
    "norm_hh",
    "norm_c",
    "norm_c_bias",
    "lengths",
    "resets",
    "recurrent_mask",
    "zoneout_h",
    "zoneout_c",
)
PLAIN = ("h_0", "c_0", "bias_ih", "bias_hh")

# Roundings of the result that are granted whatever the peer achieves.
FLOOR = {torch.float32: 16, torch.float64: 64, torch.bfloat16: 1}


@dataclass(frozen=True)
class Problem:
    """A call of `recurrent`, and the gradients of the results that a loss uses."""

    cell: str
    arguments: dict[str, Tensor]  # those that are there
    gradients: dict[str, Tensor]
    reverse: bool = False
    reset_to_initial: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the layer."""
        return self.arguments["weight_hh"].dtype

    @property
    def flags(self) -> dict[str, bool]:
        """Return the arguments that are no tensors."""
        return {"reverse": self.reverse, "reset_to_initial": self.reset_to_initial}


def allowed(cell: str, options: Iterable[str]) -> set[str]:
    """Return those of the options that the cell has, and that go together."""
    kind, found = CELLS[cell], set(options)
    if not kind.has_cell_state:
        found -= {"c_0", "norm_c", "zoneout_c", "weight_hr"}
    if kind.candidate_gated:
        found -= {"norm_hh"}
    if "heads" in found:
        found = (found | {"projected"}) - {"weight_hr"}
    if "weight_hr" in found:
        found -= {"zoneout_h"}
    if "norm_c" not in found:
        found -= {"norm_c_bias"}
    return found


def draw(
    cell: str,
    sizes: tuple[int, int, int, int],
    dtype: torch.dtype,
    seed: int,
    options: Iterable[str] = PLAIN,
    *,
    reverse: bool = False,
    reset_to_initial: bool = False,
    used: Iterable[str] = OUTPUTS,
) -> Problem:
    """Draw a layer of T, N, D, H whose gates are neither saturated nor linear.

    Parameters
    ----------
    options
        What of `OPTIONS` there is, as far as `allowed`. Heads are two, and weight_hr projects to
        two thirds. Where there are lengths, the input past them is NaN.
    used
        The results that have gradients.
    """
    T, N, D, H = sizes
    kind, random, options = CELLS[cell], generator(seed), allowed(cell, options)
    G, K = kind.gates, 2 if "heads" in options else 1
    R = max(1, 2 * H // 3) if "weight_hr" in options else H

    def values(*shape: int, scale: float = 1.0, around: float = 0.0) -> Tensor:
        return (normal(shape, torch.float64, random) * scale + around).to(dtype)

    def weight(rows: int, columns: int) -> Tensor:
        return values(rows, columns, scale=max(columns, 1) ** -0.5)

    def part(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, dtype=torch.float64).to(dtype)

    features = K * G * H if "projected" in options else D
    a = {"input": values(T, N, features)}
    if "projected" not in options:
        a["weight_ih"] = weight(G * H, D)
    heads = [weight(G * H, R) for _ in range(K)]
    a["weight_hh"] = torch.stack(heads) if "heads" in options else heads[0]
    if kind.peepholes:
        a["weight_cell"] = values(kind.peepholes, K * H, scale=0.5)
    optional = {
        "h_0": lambda: values(N, K * R),
        "c_0": lambda: values(N, K * H),
        "bias_ih": lambda: values(K * G * H, scale=0.5),
        "bias_hh": lambda: values(K * G * H, scale=0.5),
        "weight_hr": lambda: weight(R, H),
        "norm_hh": lambda: values(K * G * H, scale=0.2, around=1.0),
        "norm_c": lambda: values(K * H, scale=0.2, around=1.0),
        "norm_c_bias": lambda: values(K * H, scale=0.5),
        "lengths": lambda: torch.randint(T + 1, (N,), generator=random),
        "resets": lambda: torch.rand(T, N, generator=random) < 0.3,
        "recurrent_mask": lambda: values(N, K * R, scale=0.5, around=1.0),
        "zoneout_h": lambda: part(T, N, K * H),
        "zoneout_c": lambda: part(T, N, K * H),
    }
    a |= {name: make() for name, make in optional.items() if name in options}
    if cell == "rnn_relu":
        _keep_off_the_kink(a)
    if "lengths" in options:
        a["input"][torch.arange(T)[:, None] >= a["lengths"]] = torch.nan

    sums = torch.float64 if dtype == torch.float64 else torch.float32
    gradients = {"output": values(T, N, K * R), "h_n": values(N, K * R)}
    if kind.has_cell_state:
        gradients |= {"c_n": values(N, K * H), "cells": values(T, N, K * H).to(sums)}
    used = set(used)
    gradients = {name: t for name, t in gradients.items() if name in used}
    return Problem(cell, a, gradients, reverse, reset_to_initial)


def _keep_off_the_kink(arguments: dict[str, Tensor]) -> None:
    """Let the input put each unit of rnn_relu clearly on or off at each step.

    So close to 0 that a rounding decides, it would have either slope. All else in a unit's sum has
    a deviation of about 1.5. Where there is no input (D = 0), a bias stands in for it.
    """
    x, weight_ih = arguments["input"], arguments.get("weight_ih")
    arguments["weight_hh"] /= 8  # h is large now, and would decide
    if weight_ih is None:
        x += 8 * x.sign()
    elif weight_ih.shape[1]:
        x[..., -1].sign_()
        weight_ih[:, -1].sign_().mul_(8)
    else:
        arguments["bias_ih"] = weight_ih.new_full(weight_ih.shape[:1], 8)
        arguments["bias_ih"][::2] = -8


def differentiable(problem: Problem) -> list[str]:
    """Return the names of the arguments that may have gradients."""
    return [name for name, t in problem.arguments.items() if t.is_floating_point()]


def solve(function: Any, problem: Problem, wanted: Iterable[str]) -> dict[str, Tensor]:
    """Return the results by name, and gradients ("d_") of the wanted arguments.

    `function` takes the arguments by name and returns the results in the order of `OUTPUTS`.
    """
    wanted = set(wanted)
    arguments = {n: t.detach().requires_grad_(n in wanted) for n, t in problem.arguments.items()}
    leaves = {name: t for name, t in arguments.items() if t.requires_grad}
    results = {n: t for n, t in zip(OUTPUTS, function(**arguments), strict=False) if t is not None}
    pairs = [(results[n], g) for n, g in problem.gradients.items() if results[n].requires_grad]
    found = [torch.zeros_like(leaf) for leaf in leaves.values()]
    if pairs and leaves:
        found = torch.autograd.grad(
            [result for result, _ in pairs],
            list(leaves.values()),
            [gradient for _, gradient in pairs],
            materialize_grads=True,
        )
    return results | {f"d_{name}": g for name, g in zip(leaves, found, strict=True)}


def run(
    problem: Problem,
    wanted: Iterable[str] | None = None,
    *,
    views: bool = False,
    recompute: int = 0,
) -> dict[str, Tensor]:
    """Solve it with seqkern. The masks' gradients are not wanted unless named."""
    if views:
        problem = replace(
            problem,
            arguments={name: strided(t) for name, t in problem.arguments.items()},
            gradients={name: strided(t) for name, t in problem.gradients.items()},
        )
    masks = ("recurrent_mask", "zoneout_h", "zoneout_c")
    if wanted is None:
        wanted = [name for name in differentiable(problem) if name not in masks]

    def function(**arguments: Tensor) -> tuple[Tensor | None, ...]:
        return F.recurrent(
            problem.cell,
            **arguments,
            **problem.flags,
            return_cells="cells" in problem.gradients,
            recompute=recompute,
        )

    return solve(function, problem, wanted)


def reference(problem: Problem) -> dict[str, Array]:
    """Solve it in float64: all results and gradients that there are."""
    layer = RecurrentReference(problem.cell)
    arguments = {
        name: to_array(t) if t.is_floating_point() else t.numpy()
        for name, t in problem.arguments.items()
    }
    results = layer.forward(**arguments, **problem.flags)
    gradients = layer.backward(**{f"d_{n}": to_array(g) for n, g in problem.gradients.items()})
    everything = dict(zip(OUTPUTS, results, strict=True)) | gradients
    return {name: array for name, array in everything.items() if array is not None}


def composite(problem: Problem) -> dict[str, Tensor]:
    """Solve it in plain torch operations."""

    def function(**arguments: Tensor) -> tuple[Tensor, ...]:
        tensors = [arguments.get(name) for name in ARGUMENTS]
        return recurrent_composite(problem.cell, tensors, problem.reset_to_initial, problem.reverse)

    return solve(function, problem, differentiable(problem))


def peer(problem: Problem) -> dict[str, Tensor]:
    """Solve it in plain torch operations of the problem's dtype, sums and cell states too."""
    with mock.patch.object(_recurrent_composite, "sum_type", lambda dtype: dtype):
        gradients = {name: t.to(problem.dtype) for name, t in problem.gradients.items()}
        return composite(replace(problem, gradients=gradients))


def assert_accurate(problem: Problem, actual: dict[str, Tensor]) -> None:
    """Check that no result errs more than twice as much as the peer's, or by a few roundings."""
    expected, errors = reference(problem), peer_errors(problem)
    roundings = FLOOR[problem.dtype]
    if problem.arguments.keys() & {"norm_hh", "norm_c"}:
        roundings *= 2  # a norm adds those of its mean and deviation to all that it norms
    found = {name: error(tensor, expected[name]) for name, tensor in actual.items()}
    floor = roundings * torch.finfo(problem.dtype).eps
    if any(found[name] > max(2 * errors[name], floor) for name in actual):
        # A sum of few, all alike, may have come out well by chance.
        nearby = [peer_errors(neighbour(problem, seed)) for seed in range(8)]
        errors = {name: max(e[name] for e in (errors, *nearby)) for name in actual}
    for name, tensor in actual.items():
        assert torch.isfinite(tensor).all(), name
        assert tensor.dtype == (sum_type(problem.dtype) if name == "cells" else problem.dtype), name
        allowed_error = 2 * errors[name]
        assert found[name] <= max(allowed_error, floor), (
            f"{name}: error {found[name]:.2e}, twice the peer's {allowed_error:.2e}"
        )


def peer_errors(problem: Problem) -> dict[str, float]:
    """Return the error of each result of `peer`."""
    expected = reference(problem)
    return {name: error(tensor, expected[name]) for name, tensor in peer(problem).items()}


def neighbour(problem: Problem, seed: int) -> Problem:
    """Change every number of the arguments by at most one rounding."""
    random = generator(seed)

    def nudge(t: Tensor) -> Tensor:
        if not t.is_floating_point():
            return t
        change = torch.randint(-1, 2, t.shape, generator=random) * torch.finfo(t.dtype).eps
        return (t.double() * (1 + change)).to(t.dtype)

    return replace(problem, arguments={name: nudge(t) for name, t in problem.arguments.items()})
