"""What torch expects of the recurrent ops, for every cell and option.

opcheck, derivatives of the second order and in forward mode, torch.func transforms, autocast.
"""

from collections.abc import Iterable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

import seqkern.functional as F
from backend import not_on_host
from helpers import DTYPES, generator, normal
from recurrent_cases import NAMES, PLAIN, allowed, composite, differentiable, draw
from seqkern.functional._recurrent_arguments import ARGUMENTS

ops = torch.ops.seqkern
F64 = torch.float64

# Every argument of the recurrent ops, in as few layers as there can be.
LAYERS = {
    "plain": PLAIN,
    "without biases and states": (),
    "normed": (*PLAIN, "norm_hh", "norm_c", "norm_c_bias"),
    "projected": (*PLAIN, "weight_hr", "norm_c", "norm_c_bias"),
    "of heads": ("heads", "norm_hh", "zoneout_h", "zoneout_c"),
    "masked": ("h_0", "c_0", "lengths", "resets", "recurrent_mask", "zoneout_h", "zoneout_c"),
}

CELLS_AND_LAYERS = {  # without those that are the same for a cell
    (cell, frozenset(allowed(cell, options))): f"{cell} {name}"
    for cell in NAMES
    for name, options in reversed(LAYERS.items())
}


def layer(
    cell: str, options: Iterable[str] = PLAIN, dtype: torch.dtype = F64, batch: int = 2
) -> tuple[Tensor | None, ...]:
    """Draw the tensors of a small layer in the order of the ops, finite everywhere."""
    arguments = draw(cell, (3, batch, 3, 2), dtype, 1, options).arguments
    arguments["input"] = arguments["input"].nan_to_num(nan=3.0)
    return tuple(arguments.get(name) for name in ARGUMENTS)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("cell", "options"), CELLS_AND_LAYERS, ids=CELLS_AND_LAYERS.values())
def test_recurrent_forward_passes_opcheck(cell: str, options: Iterable[str], keep: bool) -> None:
    x, *others = layer(cell, options)
    assert x is not None
    flags = keep, False, not keep, keep
    opcheck(ops.recurrent_forward.default, (cell, x.mT.contiguous().mT, *others, *flags))


@pytest.mark.parametrize(("cell", "options"), CELLS_AND_LAYERS, ids=CELLS_AND_LAYERS.values())
def test_recurrent_backward_passes_opcheck(cell: str, options: Iterable[str]) -> None:
    arguments = layer(cell, options)
    flags = True, False
    for recompute, used, wanted in [
        (0, (True, True, True, True), (True, True)),
        (2, (True, False, False, False), (False, True)),
        (0, (False, True, False, True), (True, False)),
    ]:
        results = ops.recurrent_forward(cell, *arguments, *flags, True, not recompute)
        gradients = [
            torch.ones_like(t) if t.numel() and there else None
            for t, there in zip(results, used, strict=False)
        ]
        kept = results[0], *results[3:]
        opcheck(
            ops.recurrent_backward.default,
            (cell, *gradients, *arguments, *kept, *flags, recompute, *wanted),
        )


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_recurrent_ops_pass_opcheck_in_every_dtype(dtype: torch.dtype, batch: int) -> None:
    arguments = layer("lstm", (*PLAIN, "lengths", "zoneout_c"), dtype, batch)
    forward = "lstm", *arguments, False, True, True, True
    opcheck(ops.recurrent_forward.default, forward)
    output, h_n, c_n, cells, kept = ops.recurrent_forward(*forward)
    gradients = output, h_n, c_n, cells
    flags = False, True, 0, True, True
    opcheck(
        ops.recurrent_backward.default,
        ("lstm", *gradients, *arguments, output, cells, kept, *flags),
    )


@pytest.mark.parametrize("count", [0, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_and_scatter_columns_pass_opcheck(dtype: torch.dtype, count: int) -> None:
    ids = torch.tensor([3, 0, 3, 6])[:count]
    weight = normal((5, 7), dtype, generator(4))
    opcheck(ops.gather_columns.default, (weight, ids))
    opcheck(ops.scatter_columns.default, (weight.T[:count], ids, 9))


# --- derivatives ---------------------------------------------------------------------------------


@not_on_host
@pytest.mark.parametrize(("cell", "options"), CELLS_AND_LAYERS, ids=CELLS_AND_LAYERS.values())
def test_every_cell_passes_gradcheck_to_the_second_order(cell: str, options: Iterable[str]) -> None:
    problem = draw(cell, (3, 2, 2, 2), F64, 5, options, reverse=True, reset_to_initial=True)
    problem.arguments["input"].nan_to_num_(nan=3.0)
    masks = ("recurrent_mask", "zoneout_h", "zoneout_c")
    names = [name for name in differentiable(problem) if name not in masks]
    leaves = [problem.arguments[name].requires_grad_() for name in names]

    def function(*leaves: Tensor, recompute: int = 0) -> list[Tensor]:
        arguments = problem.arguments | dict(zip(names, leaves, strict=True))
        results = F.recurrent(
            cell,
            **arguments,
            **problem.flags,
            return_cells=cell.startswith("lstm"),
            recompute=recompute,
        )
        return [t for t in results if t is not None]

    assert gradcheck(function, leaves, fast_mode=True, check_batched_grad=True)
    assert gradcheck(partial(function, recompute=2), leaves, fast_mode=True)
    assert gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("cell", NAMES)
def test_gradients_with_a_graph_equal_those_without_and_see_nothing_past_the_lengths(
    cell: str,
) -> None:
    problem = draw(cell, (4, 5, 2, 5), F64, 6, (*PLAIN, "lengths", "resets", "zoneout_h"))
    assert problem.arguments["input"].isnan().any()
    names = [name for name in differentiable(problem) if name != "zoneout_h"]
    leaves = [problem.arguments[name].requires_grad_() for name in names]
    results = F.recurrent(cell, **problem.arguments)
    loss = results.output.square().sum() + results.h_n.sin().sum()
    without = torch.autograd.grad(loss, leaves, retain_graph=True)
    with_graph = torch.autograd.grad(loss, leaves, create_graph=True)
    torch.testing.assert_close(with_graph, without)
    again = torch.autograd.grad(sum(g.square().sum() for g in with_graph), leaves)
    assert all(tensor.isfinite().all() and tensor.any() for tensor in again)


@pytest.mark.parametrize("cell", NAMES)
def test_an_ensemble_of_weights_under_vmap_equals_one_layer_after_another(cell: str) -> None:
    options = (*PLAIN, "lengths", "resets", "norm_hh", "norm_c", "norm_c_bias", "zoneout_h")
    problem = draw(cell, (3, 4, 2, 5), F64, 6, options)
    arguments = problem.arguments
    weights = torch.stack(
        [arguments.pop("weight_hh"), torch.randn(arguments["bias_hh"].shape[0], 5)]
    )

    def outputs(weight: Tensor) -> Tensor:
        return F.recurrent(cell, **arguments, weight_hh=weight).output

    each = [outputs(weight) for weight in weights]
    torch.testing.assert_close(torch.func.vmap(outputs)(weights), torch.stack(each))
    gradient = torch.func.vmap(torch.func.grad(lambda weight: outputs(weight).sum()))(weights)
    for weight, found in zip(weights, gradient, strict=True):
        leaf = weight.clone().requires_grad_()
        torch.testing.assert_close(found, *torch.autograd.grad(outputs(leaf).sum(), leaf))


@pytest.mark.parametrize("cell", NAMES)
def test_forward_mode_of_every_cell_agrees_with_backward(cell: str) -> None:
    options = (*PLAIN, "lengths", "resets", "norm_hh", "norm_c", "norm_c_bias", "zoneout_h")
    problem = draw(cell, (3, 4, 2, 5), F64, 7, options, reset_to_initial=True)
    names = differentiable(problem)
    tensors = tuple(problem.arguments[name].nan_to_num(nan=1.0) for name in names)

    def loss(*tensors: Tensor) -> Tensor:
        arguments = problem.arguments | dict(zip(names, tensors, strict=True))
        results = F.recurrent(cell, **arguments, **problem.flags)
        return results.output.sin().sum() + results.h_n.cos().sum()

    tangents = tuple(torch.randn_like(tensor) for tensor in tensors)
    _, forward = torch.func.jvp(loss, tensors, tangents)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    gradients = torch.autograd.grad(loss(*leaves), leaves)
    backward = sum((g * t).sum() for g, t in zip(gradients, tangents, strict=True))
    torch.testing.assert_close(forward, backward)


# --- autocast ------------------------------------------------------------------------------------


def test_autocast_casts_features_and_masks_but_no_lengths_resets_and_token_ids() -> None:
    options = (*PLAIN, "resets", "recurrent_mask", "zoneout_h", "zoneout_c")
    problem = draw("lstm", (5, 3, 8, 16), torch.float32, 8, options)
    problem.arguments["lengths"] = torch.tensor([5, 2, 0])
    problem.arguments["input"] = torch.randint(8, (5, 3), generator=generator(9))
    leaves = [problem.arguments[name].requires_grad_() for name in ("weight_ih", "weight_hh")]
    expected = F.recurrent("lstm", **problem.arguments, return_cells=True)
    gradients = torch.autograd.grad(expected.output.sum(), leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = F.recurrent("lstm", **problem.arguments, return_cells=True)
    assert {t.dtype for t in actual[:3]} == {torch.bfloat16}
    assert actual.cells is not None
    assert actual.cells.dtype == torch.float32
    for one, other in zip(actual, expected, strict=True):
        assert torch.dist(one.float(), other) < 0.03 * other.norm()
    for one, other in zip(torch.autograd.grad(actual.output.sum(), leaves), gradients, strict=True):
        assert one.dtype == torch.float32
        assert torch.dist(one, other) < 0.03 * other.norm()


@pytest.mark.parametrize("cell", NAMES)
def test_composite_computes_in_full_precision_under_autocast(cell: str) -> None:
    """Its sums are float32, as the kernels' are; autocast would make bfloat16 of the products."""
    problem = draw(cell, (5, 3, 8, 16), torch.bfloat16, 10)
    outside = composite(problem)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = composite(problem)
    for name in ("output", "h_n"):
        assert torch.equal(inside[name], outside[name])
