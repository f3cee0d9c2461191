"""What torch expects of the softmax losses: opcheck, derivatives of any order, compile, export."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.library import opcheck

import seqkern.functional as F
from backend import not_on_host
from softmax_cases import (
    DIFFERENTIABLE,
    SOFTMAX_DTYPES,
    Problem,
    Recipe,
    op_arguments,
    peer_results,
    results,
    variations,
)

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")

ops = torch.ops.seqkern
ALL = (True, True, True, True)
SMALL = Recipe(shape=(2, 2), classes=5, z_loss=1e-2, label_smoothing=0.1, used=ALL, ignored=0.3)
RECIPES = [
    recipe
    for features in (None, 3)
    for recipe in variations(replace(SMALL, features=features, softcap=4.0), 4)[1:]
]
IDS = [f"{'logits' if r.features is None else 'linear'}{i % 3}" for i, r in enumerate(RECIPES)]
recipes = pytest.mark.parametrize("recipe", RECIPES, ids=IDS)


def function_of(problem: Problem) -> Callable[..., tuple[Tensor, ...]]:
    """All differentiable results, as a function of the tensors."""

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        found = results(problem, dict(zip(problem.tensors, tensors, strict=True)))
        return tuple(found[name] for name in DIFFERENTIABLE)

    return function


def plain_function_of(problem: Problem) -> Callable[..., tuple[Tensor, ...]]:
    """The same in plain torch operations."""

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(problem.tensors, tensors, strict=True))
        found = peer_results(problem, given, problem.dtype)
        return tuple(found[name] for name in DIFFERENTIABLE)

    return function


def weighted(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Tensor]:
    """One number of all results."""

    def total(*tensors: Tensor) -> Tensor:
        found = function(*tensors)
        weights = (1.0, 0.3, -0.2, 0.7)
        return torch.stack([w * t.sum() for w, t in zip(weights, found, strict=True)]).sum()

    return total


# --- opcheck -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("op", op_arguments(torch.float32))
def test_ops_pass_opcheck(op: str, dtype: torch.dtype) -> None:
    opcheck(getattr(ops, op).default, op_arguments(dtype)[op])


@pytest.mark.parametrize("reduction", range(3))
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True)])
def test_forward_ops_pass_opcheck_whatever_they_are_asked_for(
    reduction: int, flags: tuple[bool, bool]
) -> None:
    statistics, with_gradient = flags
    *given, _, _, _ = op_arguments(torch.float32)["softmax_loss"]
    opcheck(ops.softmax_loss.default, (*given, reduction, statistics, with_gradient))
    *given, _, _, _, _ = op_arguments(torch.float32)["linear_softmax_loss"]
    wanted = [with_gradient] * 3
    opcheck(ops.linear_softmax_loss.default, (*given, reduction, statistics, wanted, 1))


@pytest.mark.parametrize("op", op_arguments(torch.float32))
def test_direct_calls_that_need_a_gradient_are_refused(op: str) -> None:
    first, *rest = op_arguments(torch.float32)[op]
    assert isinstance(first, Tensor)
    with pytest.raises(NotImplementedError, match=f"^seqkern::{op} has no autograd formula"):
        getattr(ops, op)(first.requires_grad_(), *rest)


# --- derivatives ---------------------------------------------------------------------------------


@recipes
def test_gradients_pass_gradcheck_to_the_second_order(recipe: Recipe) -> None:
    problem = replace(recipe, shape=(2,), classes=4).problem(torch.float64)
    leaves = tuple(t.requires_grad_() for t in problem.tensors.values())
    assert gradcheck(function_of(problem), leaves)
    assert gradgradcheck(function_of(problem), leaves)


@recipes
def test_gradients_with_a_graph_equal_those_without(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float64)
    leaves = [t.requires_grad_() for t in problem.tensors.values()]
    for function in (weighted(function_of(problem)), lambda *t: function_of(problem)(*t)[0].sum()):
        loss = function(*leaves)
        without = torch.autograd.grad(loss, leaves, retain_graph=True)
        with_graph = torch.autograd.grad(loss, leaves, create_graph=True)
        assert all(d.requires_grad for d in with_graph)
        torch.testing.assert_close(with_graph, without)


@recipes
def test_forward_mode_gives_the_tangents_of_plain_operations(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float64)
    tangents = [torch.randn_like(t) for t in problem.tensors.values()]

    def of(function: Callable[..., tuple[Tensor, ...]]) -> list[Tensor | None]:
        with forward_ad.dual_level():
            pairs = zip(problem.tensors.values(), tangents, strict=True)
            duals = [forward_ad.make_dual(t.clone(), d) for t, d in pairs]
            return [forward_ad.unpack_dual(t).tangent for t in function(*duals)]

    torch.testing.assert_close(of(function_of(problem)), of(plain_function_of(problem)))


TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Any]] = {
    "grad": lambda f, x: torch.func.grad(f)(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),)),
    "hessian": lambda f, x: torch.func.hessian(f)(x),
    "vmap": lambda f, x: torch.func.vmap(f)(torch.stack([x, 2 * x])),
    "vmap of grad": lambda f, x: torch.func.vmap(torch.func.grad(f))(torch.stack([x, 2 * x])),
}


@recipes
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_function_transforms_give_what_plain_operations_do(
    transform: Callable[..., Any], recipe: Recipe
) -> None:
    problem = recipe.problem(torch.float64)
    first, *others = problem.tensors.values()

    def of(total: Callable[..., Tensor]) -> Any:
        return transform(lambda x: total(x, *others), first)

    expected = of(weighted(plain_function_of(problem)))
    torch.testing.assert_close(of(weighted(function_of(problem))), expected)


# --- compile and export --------------------------------------------------------------------------


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Forget the graphs of other tests."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def resized(recipe: Recipe, shape: tuple[int, ...]) -> Recipe:
    return replace(recipe, shape=shape, seed=sum(shape))


@not_on_host
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("features", [None, 3], ids=["logits", "linear"])
def test_compiled_losses_equal_eager_for_all_shapes_with_one_graph(
    features: int | None, reduction: str, dtype: torch.dtype
) -> None:
    recipe = replace(SMALL, features=features, class_weight=True, reduction=reduction)
    names = list(recipe.problem(dtype).tensors)
    options = recipe.problem(dtype).options

    def step(target: Tensor, weight: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        problem = Problem(dict(zip(names, tensors, strict=True)), target, weight, options, {})
        return tuple(results(problem, problem.tensors).values())

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for index, shape in enumerate([(6, 4), (8, 2), (9, 7)]):
        problem = resized(recipe, shape).problem(dtype)
        assert problem.class_weight is not None
        leaves = [t.requires_grad_() for t in problem.tensors.values()]
        given = (problem.target, problem.class_weight, *leaves)
        for used in (1, 4):  # the loss alone, and all that is differentiable
            outcomes = []
            for function in (compiled, step):
                with torch.compiler.set_stance("fail_on_recompile" if index else "default"):
                    found = function(*given)
                gradients = list(problem.gradients.values())[:used]
                outcomes.append(
                    [*found, *torch.autograd.grad(list(found[:used]), leaves, gradients)]
                )
            torch.testing.assert_close(outcomes[0], outcomes[1])


@not_on_host
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_by_inductor_equals_eager() -> None:
    problem = replace(SMALL, features=3).problem(torch.float32)
    leaves = tuple(t.requires_grad_() for t in problem.tensors.values())

    def step(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        loss = F.linear_cross_entropy(torch.tanh(hidden), weight, problem.target, bias)
        return loss * 2 + F.cross_entropy(hidden @ weight.T + bias, problem.target)

    found = torch.compile(step, fullgraph=True, dynamic=True)(*leaves)
    expected = step(*leaves)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves)
    )


@not_on_host
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("features", [None, 3], ids=["logits", "linear"])
def test_exported_losses_equal_eager_for_all_shapes(features: int | None, reduction: str) -> None:
    recipe = replace(SMALL, features=features, reduction=reduction)
    names, options = (
        list(recipe.problem(torch.float32).tensors),
        SMALL.problem(torch.float32).options,
    )

    class Loss(torch.nn.Module):
        def forward(self, target: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            given = dict(zip(names, tensors, strict=True))
            problem = Problem(given, target, None, options, {})
            return tuple(results(problem, problem.tensors).values())

    def arguments(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        problem = resized(recipe, shape).problem(torch.float32)
        return problem.target, *problem.tensors.values()

    dims = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    others = tuple(None for _ in names[1:])
    exported = torch.export.export(
        Loss(), arguments((5, 3)), dynamic_shapes=(dims, (dims, *others))
    ).module()
    for shape in [(5, 3), (7, 2), (2, 9)]:
        given = arguments(shape)
        for found, expected in zip(exported(*given), Loss()(*given), strict=True):
            assert torch.equal(found, expected)
