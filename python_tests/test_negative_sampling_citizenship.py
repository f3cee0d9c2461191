"""What torch expects of negative sampling: opcheck, derivatives of any order, compile, export, DDP.

And of its modules.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.library import opcheck

import seqkern.functional as F
import seqkern.nn
from backend import not_on_host
from helpers import generator, normal
from negative_sampling_cases import (
    REDUCTIONS,
    SAMPLING_DTYPES,
    Problem,
    Recipe,
    dense,
    fused,
    fused_loss,
    op_arguments,
    plain_loss,
)

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")

ops = torch.ops.seqkern
SMALL = Recipe(examples=3, negatives=2, features=3, words=4)
RECIPES = {
    "hidden": SMALL,
    "hidden, sum": replace(SMALL, reduction="sum", shared=True),
    "hidden, none": replace(SMALL, reduction="none"),
    "contexts": replace(SMALL, contexts=3),
    "contexts, none": replace(SMALL, contexts=2, reduction="none", shared=True),
}
recipes = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)

Loss = Callable[..., Tensor]


def function_of(problem: Problem, loss: Callable[..., Tensor] = fused_loss) -> Loss:
    """The loss as a function of the tensors."""

    def function(*tensors: Tensor) -> Tensor:
        return loss(problem, dict(zip(problem.tensors, tensors, strict=True)))

    return function


def dot_arguments(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight and words."""
    hidden, weight = (normal(s, dtype, generator(1)) for s in ((3, 4), (5, 4)))
    return hidden, weight, torch.tensor([[0, 3], [3, 3], [4, 1]])


# --- opcheck -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SAMPLING_DTYPES, ids=str)
@pytest.mark.parametrize("op", op_arguments(torch.float32))
def test_ops_pass_opcheck(op: str, dtype: torch.dtype) -> None:
    opcheck(getattr(ops, op).default, op_arguments(dtype)[op])


@pytest.mark.parametrize("reduction", range(3))
@pytest.mark.parametrize("wanted", [[False, False], [True, False], [False, True], [True, True]])
@pytest.mark.parametrize("sparse", [False, True])
def test_ops_pass_opcheck_whatever_they_are_asked_for(
    sparse: bool, wanted: list[bool], reduction: int
) -> None:
    *bags, _, _, _ = op_arguments(torch.float32)["negative_sampling_loss"]
    *given, d_losses, _, _ = op_arguments(torch.float32)["negative_sampling_loss_backward"]
    for arguments in (bags, given):
        opcheck(ops.negative_sampling_loss.default, (*arguments, reduction, wanted, sparse))
        opcheck(ops.negative_sampling_loss_backward.default, (*arguments, d_losses, wanted, sparse))
    *dots, _, _ = op_arguments(torch.float32)["embedding_dot_backward"]
    opcheck(ops.embedding_dot_backward.default, (*dots, wanted, sparse))


@pytest.mark.parametrize("op", op_arguments(torch.float32))
def test_direct_calls_that_need_a_gradient_are_refused(op: str) -> None:
    first, *rest = op_arguments(torch.float32)[op]
    assert isinstance(first, Tensor)
    with pytest.raises(NotImplementedError, match=f"^seqkern::{op} has no autograd formula"):
        getattr(ops, op)(first.requires_grad_(), *rest)


# --- derivatives ---------------------------------------------------------------------------------


@recipes
def test_gradients_pass_gradcheck_to_the_second_order(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float64)
    leaves = tuple(t.requires_grad_() for t in problem.tensors.values())
    assert gradcheck(function_of(problem), leaves, check_batched_grad=True)
    assert gradgradcheck(function_of(problem), leaves)


def test_dots_pass_gradcheck_to_the_second_order() -> None:
    hidden, weight, ids = dot_arguments()
    leaves = (hidden.requires_grad_(), weight.requires_grad_())
    for idx in (ids, ids[:, 0]):
        assert gradcheck(lambda h, w, i=idx: F.embedding_dot(h, w, i), leaves)
        assert gradgradcheck(lambda h, w, i=idx: F.embedding_dot(h, w, i), leaves)


@recipes
def test_gradients_with_a_graph_equal_those_without(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float64)
    leaves = [t.requires_grad_() for t in problem.tensors.values()]
    loss = function_of(problem)(*leaves).sum()
    without = torch.autograd.grad(loss, leaves, retain_graph=True)
    with_graph = torch.autograd.grad(loss, leaves, create_graph=True)
    assert all(d.requires_grad for d in with_graph)
    torch.testing.assert_close(with_graph, without)


@recipes
def test_forward_mode_gives_the_tangents_of_plain_operations(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float64)
    tangents = [torch.randn_like(t) for t in problem.tensors.values()]

    def of(function: Loss) -> Tensor | None:
        with forward_ad.dual_level():
            pairs = zip(problem.tensors.values(), tangents, strict=True)
            duals = [forward_ad.make_dual(t.clone(), d) for t, d in pairs]
            return forward_ad.unpack_dual(function(*duals)).tangent

    torch.testing.assert_close(of(function_of(problem)), of(function_of(problem, plain_loss)))


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
    first, other = problem.tensors.values()

    def of(function: Loss) -> Any:
        return transform(lambda x: function(x, other).sum(), first)

    torch.testing.assert_close(of(function_of(problem)), of(function_of(problem, plain_loss)))


def test_transforms_of_dots_give_what_plain_operations_do() -> None:
    hidden, weight, ids = dot_arguments()

    def of(dot: Loss) -> Any:
        return torch.func.jacrev(lambda h: dot(h, weight))(hidden)

    plain = of(lambda h, w: (w[ids] * h[:, None]).sum(-1))
    torch.testing.assert_close(of(lambda h, w: F.embedding_dot(h, w, ids)), plain)


# --- autocast ------------------------------------------------------------------------------------


@pytest.mark.parametrize("contexts", [None, 3])
def test_under_autocast_the_loss_is_computed_in_the_dtype_of_the_weight(
    contexts: int | None,
) -> None:
    problem = replace(SMALL, contexts=contexts).problem(torch.float32)
    source, weight = problem.tensors
    half = problem.tensors[source].bfloat16()
    problem.tensors[source] = half.float()
    expected = fused(problem)
    leaves = {source: half.requires_grad_(), weight: problem.tensors[weight].requires_grad_()}
    with torch.autocast("cpu", torch.bfloat16):
        loss = fused_loss(problem, leaves)
    assert torch.equal(loss.detach(), expected["loss"])
    d_source, d_weight = torch.autograd.grad(loss, list(leaves.values()))
    assert d_source.dtype == torch.bfloat16
    assert torch.equal(d_source, expected[f"d_{source}"].bfloat16())
    assert torch.equal(d_weight, expected["d_weight"])
    hidden, weight_of_dot, ids = dot_arguments(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        dots = F.embedding_dot(hidden.bfloat16(), weight_of_dot, ids)
    assert dots.dtype == torch.float32


# --- compile and export --------------------------------------------------------------------------


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Forget the graphs of other tests."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@not_on_host
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("contexts", [None, 3], ids=["hidden", "contexts"])
def test_compiled_losses_equal_eager_for_all_shapes_with_one_graph(
    contexts: int | None, reduction: str, dtype: torch.dtype, sparse: bool
) -> None:
    recipe = replace(SMALL, contexts=contexts, reduction=reduction, sparse=sparse)

    def step(words: list[Tensor], *tensors: Tensor) -> Tensor:
        loss: Any = F.negative_sampling_loss if contexts is None else F.cbow_negative_sampling_loss
        found: Tensor = loss(*tensors, *words, reduction=reduction, sparse=sparse)
        return found

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for index, size in enumerate([6, 4, 9]):
        problem = replace(recipe, examples=size, negatives=size + 5, seed=size).problem(dtype)
        words = [problem.target, problem.negatives]
        if problem.contexts is not None:
            words.insert(0, problem.contexts)
        leaves = [t.requires_grad_() for t in problem.tensors.values()]
        outcomes = []
        for function in (compiled, step):
            with torch.compiler.set_stance("fail_on_recompile" if index else "default"):
                loss = function(words, *leaves)
            gradients = torch.autograd.grad(loss, leaves, problem.d_loss)
            outcomes.append([loss, *map(dense, gradients)])
        torch.testing.assert_close(*outcomes)


@not_on_host
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_by_inductor_equals_eager() -> None:
    problem = replace(SMALL, contexts=3).problem(torch.float32)
    assert problem.contexts is not None
    words = (problem.contexts, problem.target, problem.negatives)
    leaves = tuple(t.requires_grad_() for t in problem.tensors.values())

    def step(embedding: Tensor, weight: Tensor) -> Tensor:
        loss = F.cbow_negative_sampling_loss(torch.tanh(embedding), weight, *words)
        hidden = embedding[:3] * 2
        dots = F.embedding_dot(hidden, weight, words[2])
        return loss * 2 + dots.sum() + F.negative_sampling_loss(hidden, weight, *words[1:])

    found = torch.compile(step, fullgraph=True, dynamic=True)(*leaves)
    expected = step(*leaves)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves)
    )


@not_on_host
@pytest.mark.usefixtures("fresh_compiler")
def test_one_matrix_may_be_embedding_and_weight_in_a_compiled_function() -> None:
    problem = replace(SMALL, contexts=3, words=9, padded=0.0).problem(torch.float64)
    shared = problem.tensors["embedding"].requires_grad_()
    words = (problem.contexts, problem.target, problem.negatives)

    def step(matrix: Tensor) -> Tensor:
        return F.cbow_negative_sampling_loss(matrix, matrix, *words)  # type: ignore[arg-type]

    expected = torch.autograd.grad(step(shared), shared)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(shared), shared), expected)


@not_on_host
@pytest.mark.parametrize("contexts", [None, 3], ids=["hidden", "contexts"])
def test_exported_losses_equal_eager_for_all_shapes(contexts: int | None) -> None:
    class Module(torch.nn.Module):
        def forward(self, words: list[Tensor], source: Tensor, weight: Tensor) -> Tensor:
            if contexts is None:
                return F.negative_sampling_loss(source, weight, words[0], words[1])
            return F.cbow_negative_sampling_loss(source, weight, *words)

    def arguments(size: int) -> tuple[list[Tensor], Tensor, Tensor]:
        recipe = replace(SMALL, examples=size, negatives=size + 2, contexts=contexts)
        problem = recipe.problem(torch.float32)
        words = [problem.target, problem.negatives]
        if problem.contexts is not None:
            words.insert(0, problem.contexts)
        source, weight = problem.tensors.values()
        return words, source, weight

    dynamic = torch.export.Dim.DYNAMIC
    shapes: list[Any] = [{0: dynamic}, {0: dynamic, 1: dynamic}]
    if contexts is not None:
        shapes.insert(0, {0: dynamic})
    source = {0: dynamic} if contexts is None else None
    exported = torch.export.export(
        Module(), arguments(3), dynamic_shapes=(shapes, source, None)
    ).module()
    for size in (3, 5, 2):
        assert torch.equal(exported(*arguments(size)), Module()(*arguments(size)))


def test_the_meta_device_gives_shapes() -> None:
    for reduction in REDUCTIONS:
        problem = replace(SMALL, contexts=3, reduction=reduction).problem(torch.bfloat16)
        assert problem.contexts is not None
        words = [t.to("meta") for t in (problem.contexts, problem.target, problem.negatives)]
        leaves = [t.to("meta").requires_grad_() for t in problem.tensors.values()]
        loss = F.cbow_negative_sampling_loss(*leaves, *words, reduction=reduction)  # type: ignore[call-arg, misc, arg-type]
        assert loss.dtype == torch.float32
        gradients = torch.autograd.grad(loss.sum(), leaves)
        assert [d.shape for d in gradients] == [leaf.shape for leaf in leaves]


# --- modules -------------------------------------------------------------------------------------


class Counting:
    """A sampler that hands out the words in turn."""

    def negatives(
        self, target: Tensor, num_negatives: int, generator: torch.Generator | None = None
    ) -> Tensor:
        first = 0 if generator is None else generator.initial_seed()
        return (target.unsqueeze(-1) + torch.arange(num_negatives) + 1 + first) % 7


@pytest.fixture
def module() -> seqkern.nn.NegativeSamplingLoss:
    """A loss whose negatives follow from the targets."""
    return seqkern.nn.NegativeSamplingLoss(7, 4, Counting(), 2, reduction="sum")


TARGET = torch.tensor([3, 6, 3])


def test_the_module_asks_its_sampler_for_negatives(
    module: seqkern.nn.NegativeSamplingLoss,
) -> None:
    hidden, negatives = torch.randn(3, 4), torch.tensor([[4, 5], [0, 1], [4, 5]])
    expected = F.negative_sampling_loss(hidden, module.weight, TARGET, negatives, reduction="sum")
    assert torch.equal(module(hidden, TARGET), expected)
    assert torch.equal(module(hidden, TARGET, negatives), expected)
    moved = module(hidden, TARGET, generator=generator(1))
    assert torch.equal(moved, module(hidden, TARGET, (negatives + 1) % 7))


def test_modules_are_copied_pickled_and_stored(module: seqkern.nn.NegativeSamplingLoss) -> None:
    hidden = torch.randn(3, 4)
    expected = module(hidden, TARGET)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(hidden, TARGET), expected)
    dot = seqkern.nn.EmbeddingDot(7, 4)
    dot.load_state_dict(module.state_dict())
    torch.testing.assert_close(dot(hidden, TARGET), (module.weight[TARGET] * hidden).sum(1))
    assert repr(dot) == "EmbeddingDot(7, 4, sparse=False)"
    assert repr(module) == (
        "NegativeSamplingLoss(7, 4, sparse=False, num_negatives=2, reduction='sum')"
    )


def test_modules_have_sparse_gradients_if_asked_to() -> None:
    loss = seqkern.nn.NegativeSamplingLoss(7, 4, Counting(), sparse=True, dtype=torch.bfloat16)
    dot = seqkern.nn.EmbeddingDot(7, 4, sparse=True)
    loss(torch.randn(3, 4).bfloat16(), TARGET).backward()
    dot(torch.randn(3, 4), TARGET).sum().backward()
    for weight in (loss.weight, dot.weight):
        assert weight.grad is not None
        assert weight.grad.is_sparse


def test_bad_arguments_of_modules_are_refused() -> None:
    with pytest.raises(TypeError, match="^sampler is int, expected an object with a method neg"):
        seqkern.nn.NegativeSamplingLoss(7, 4, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^num_negatives is -1, expected num_negatives >= 0"):
        seqkern.nn.NegativeSamplingLoss(7, 4, num_negatives=-1)
    with pytest.raises(ValueError, match="^reduction is 'max', expected"):
        seqkern.nn.NegativeSamplingLoss(7, 4, reduction="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^negatives is None, expected a tensor where there is no"):
        seqkern.nn.NegativeSamplingLoss(7, 4)(torch.zeros(3, 4), TARGET)
