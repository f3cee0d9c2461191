"""Negative sampling and the dots it is made of: numbers, layouts, autograd, refusals."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu, on_cuda
from helpers import examples, generator, normal, threads, to_array
from negative_sampling_cases import (
    REDUCTIONS,
    SAMPLING_DTYPES,
    Problem,
    Recipe,
    check,
    dense,
    differentiated,
    fused,
    fused_loss,
    recipes,
    reference,
)
from reference import EmbeddingDot
from softmax_cases import ROUNDINGS

dtypes = pytest.mark.parametrize("dtype", SAMPLING_DTYPES, ids=str)

# --- numbers -------------------------------------------------------------------------------------


@dtypes
@examples(60)
@example(Recipe())
@example(Recipe(examples=100, features=100, words=300, sparse=True))
@example(Recipe(examples=100, features=100, words=300, contexts=10))
@example(Recipe(examples=100, features=100, words=300, contexts=10, sparse=True, views=True))
@example(Recipe(features=15, contexts=4))  # whole vectors but for an element: of AVX2, AVX-512
@example(Recipe(features=31, contexts=4))
@example(Recipe(features=127, contexts=4))
@example(Recipe(examples=1000, negatives=5, shared=True, features=20, words=9))
@given(recipe=recipes())
def test_loss_and_gradients_match_the_reference(dtype: torch.dtype, recipe: Recipe) -> None:
    if dtype == torch.float16 and abs(recipe.d_loss) > 1:
        recipe = replace(recipe, d_loss=1.0)
    problem = recipe.problem(dtype)
    found = fused(problem)
    check(problem, found)
    no_gradient = fused_loss(problem, problem.tensors)
    assert torch.equal(no_gradient, found["loss"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_log_sigmoid_and_its_slope_are_accurate_everywhere(dtype: torch.dtype) -> None:
    """With one feature and no negative, the loss is log(1 + exp(-h)) and its slope a sigmoid."""
    h = torch.cat([torch.linspace(-80, 80, 641), torch.tensor([-1e-4, 0.0, 1e-4, 1e-30])]).to(dtype)
    weight, zeros = torch.ones(1, 1, dtype=dtype), torch.zeros(len(h), dtype=torch.int64)
    hidden = h.unsqueeze(1).requires_grad_()
    loss = F.negative_sampling_loss(hidden, weight, zeros, zeros[:0], reduction="none")
    (d_hidden,) = torch.autograd.grad(loss, hidden, torch.ones_like(loss))
    x, eps = h.double().numpy(), torch.finfo(dtype).eps
    smaller = np.exp(-np.abs(x))
    expected = np.maximum(-x, 0) + np.log1p(smaller)
    np.testing.assert_allclose(to_array(loss), expected, rtol=4 * eps)
    expected = -np.where(x > 0, smaller, 1) / (1 + smaller)
    np.testing.assert_allclose(to_array(d_hidden)[:, 0], expected, rtol=4 * eps)


@pytest.mark.parametrize("contexts", [None, 3])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_scores_have_finite_losses_and_gradients(size: float, contexts: int | None) -> None:
    problem = Recipe(features=16, contexts=contexts, padded=0.0).problem(torch.float32)
    for name in ("hidden", "embedding"):
        if name in problem.tensors:
            problem.tensors[name].mul_(size)
    found = fused(problem)
    assert all(t.isfinite().all() for t in found.values())
    expected = reference(problem)
    np.testing.assert_allclose(found["loss"].item(), expected.arrays["loss"], rtol=1e-5)


@dtypes
def test_nan_stays_in_its_example(dtype: torch.dtype) -> None:
    problem = replace(Recipe(reduction="none"), words=300).problem(dtype)
    clean = fused(problem)
    problem.tensors["hidden"][3, 5] = torch.nan
    found = fused(problem)
    assert found["loss"][3].isnan()
    assert found["d_hidden"][3].isnan().all()
    others = torch.arange(7) != 3
    assert torch.equal(found["loss"][others], clean["loss"][others])
    assert torch.equal(found["d_hidden"][others], clean["d_hidden"][others])
    used = torch.cat([problem.target[3:4], problem.negatives[3]]).unique()
    rest = torch.ones(300, dtype=torch.bool)
    rest[used] = False
    assert found["d_weight"][used].isnan().any(1).all()
    assert torch.equal(found["d_weight"][rest], clean["d_weight"][rest])


def test_infinite_rows_that_no_context_names_do_not_matter() -> None:
    problem = Recipe(contexts=4, words=9).problem(torch.float32)
    assert problem.contexts is not None
    problem.contexts[problem.contexts == 0] = 1
    clean = fused(problem)
    problem.tensors["embedding"][0] = torch.inf
    found = fused(problem)
    assert all(torch.equal(found[name], clean[name]) for name in clean)


def test_the_loss_of_orthogonal_vectors_is_the_logarithm_of_two_a_word() -> None:
    hidden, weight = torch.zeros(3, 4), torch.ones(5, 4)
    target, negatives = torch.arange(3), torch.ones(3, 6, dtype=torch.int64)
    for reduction, count in (("sum", 3), ("mean", 1)):
        loss = F.negative_sampling_loss(hidden, weight, target, negatives, reduction=reduction)  # type: ignore[arg-type]
        np.testing.assert_allclose(loss.item(), 7 * count * math.log(2), rtol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("contexts", [None, 3])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_no_examples_have_no_loss_and_zero_gradients(
    sparse: bool, contexts: int | None, reduction: str
) -> None:
    recipe = Recipe(examples=0, contexts=contexts, sparse=sparse, reduction=reduction)
    found = fused(recipe.problem(torch.float32))
    assert found.pop("loss").sum() == 0
    assert not any(dense(gradient).any() for gradient in found.values())


# --- dots ----------------------------------------------------------------------------------------


@dtypes
@examples(30)
@example(100, 5, 100, 300, False, 0)
@given(
    count=st.sampled_from([0, 1, 7, 43]),
    words=st.sampled_from([None, 0, 1, 5, 17]),
    features=st.sampled_from([0, 1, 4, 15, 16, 31, 33, 100, 127, 129]),
    size=st.sampled_from([1, 9, 300]),
    views=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_dots_and_their_gradients_match_the_reference(
    dtype: torch.dtype,
    count: int,
    words: int | None,
    features: int,
    size: int,
    views: bool,
    seed: int,
) -> None:
    random = generator(seed)
    shape = (count,) if words is None else (count, words)
    ids = torch.randint(size, shape, generator=random)
    tensors = [normal(s, dtype, random) for s in ((count, features), (size, features), shape)]
    if views:
        tensors, ids = [strided_leaf(t) for t in tensors], strided_leaf(ids)
    hidden, weight, d = tensors

    h, W, dout = (to_array(t) for t in (hidden, weight, d))
    columns = ids.numpy().reshape(count, -1).T if count else ids.numpy().reshape(words or 1, 0)
    expected, d_h, d_W = np.zeros((len(columns), count)), np.zeros_like(h), np.zeros_like(W)
    scales = [np.zeros_like(array) for array in (expected, d_h, d_W)]
    for k, column in enumerate(columns):
        layer, of_sizes = EmbeddingDot(W), EmbeddingDot(np.abs(W))
        expected[k], scales[0][k] = layer.forward(h, column), of_sizes.forward(np.abs(h), column)
        d_column = dout.reshape(count, -1)[:, k] if count else np.zeros(0)
        d_h += layer.backward(d_column)
        scales[1] += of_sizes.backward(np.abs(d_column))
        d_W += layer.grads[0]
        scales[2] += of_sizes.grads[0]

    for sparse in (False, True):
        leaves = [hidden.detach().requires_grad_(), weight.detach().requires_grad_()]
        found = F.embedding_dot(leaves[0], leaves[1], ids, sparse=sparse)
        assert found.shape == shape
        d_hidden, d_weight = torch.autograd.grad(found, leaves, d)
        assert d_weight.layout == (torch.sparse_coo if sparse else torch.strided)
        results = (found, d_hidden, dense(d_weight))
        wanted = (expected.T.reshape(shape), d_h, d_W)
        of_terms = (scales[0].T.reshape(shape), *scales[1:])
        for actual, array, scale in zip(results, wanted, of_terms, strict=True):
            assert actual.dtype == dtype
            bound = ROUNDINGS[dtype] * torch.finfo(dtype).eps
            difference = np.abs(to_array(actual) - array)
            assert (difference <= bound * scale + torch.finfo(dtype).tiny).all()


def strided_leaf(tensor: Tensor) -> Tensor:
    """Return the same values with every other column of a wider array."""
    wide = torch.zeros(*tensor.shape, 2, dtype=tensor.dtype)
    wide[..., 0] = tensor
    return wide[..., 0]


# --- sparse gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("contexts", [None, 4])
def test_sparse_gradients_name_rows_that_are_used_and_no_others(contexts: int | None) -> None:
    """SparseAdam moves every row that a gradient names, be it by zero."""
    problem = Recipe(sparse=True, contexts=contexts, words=300, padded=0.5).problem(torch.float32)
    found = fused(problem)
    used = set(problem.target.tolist()) | set(problem.negatives.flatten().tolist())
    assert set(found["d_weight"].coalesce().indices()[0].tolist()) == used
    if problem.contexts is not None:
        there = set(problem.contexts[problem.contexts >= 0].tolist())
        assert set(found["d_embedding"].coalesce().indices()[0].tolist()) == there


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SparseAdam(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
    ],
    ids=["SparseAdam", "SGD", "Adagrad"],
)
def test_optimizers_take_sparse_gradients(
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> None:
    problem = Recipe(contexts=4).problem(torch.float32)
    moved = []
    for plain in (False, True):
        leaves = {n: torch.nn.Parameter(t.clone()) for n, t in problem.tensors.items()}
        steps = optimizer(list(leaves.values()))
        for _ in range(3):
            steps.zero_grad()
            if plain:
                sparse = replace(problem, options=problem.options | {"sparse": False})
                fused_loss(sparse, leaves).backward()
                for leaf in leaves.values():
                    assert leaf.grad is not None
                    rows = leaf.grad.any(1).nonzero()[:, 0]
                    leaf.grad = torch.sparse_coo_tensor(
                        *(rows[None], leaf.grad[rows], leaf.shape), check_invariants=True
                    )
            else:
                fused_loss(problem, leaves, sparse=True).backward()
            steps.step()
        moved.append([leaf.detach() for leaf in leaves.values()])
    for actual, expected in zip(*moved, strict=True):
        torch.testing.assert_close(actual, expected)


# --- autograd ------------------------------------------------------------------------------------

layouts = pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
sources = pytest.mark.parametrize("contexts", [None, 4], ids=["hidden", "contexts"])


@layouts
@sources
@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_gradients_that_nobody_wants_are_not_made(
    wanted: tuple[bool, bool], contexts: int | None, sparse: bool
) -> None:
    problem = Recipe(contexts=contexts, sparse=sparse).problem(torch.float32)
    expected = fused(problem)
    leaves = {
        name: t.detach().requires_grad_(needed)
        for (name, t), needed in zip(problem.tensors.items(), wanted, strict=True)
    }
    fused_loss(problem, leaves).backward()
    for (name, leaf), needed in zip(leaves.items(), wanted, strict=True):
        assert (leaf.grad is not None) == needed
        if leaf.grad is not None:
            assert torch.equal(dense(leaf.grad), dense(expected[f"d_{name}"]))


@layouts
@sources
@dtypes
def test_a_second_backward_over_a_retained_graph_gives_the_same_gradients(
    dtype: torch.dtype, contexts: int | None, sparse: bool
) -> None:
    problem = Recipe(contexts=contexts, sparse=sparse).problem(dtype)
    leaves = {name: t.detach().requires_grad_() for name, t in problem.tensors.items()}
    loss, tensors = fused_loss(problem, leaves), list(leaves.values())
    first = torch.autograd.grad(loss, tensors, retain_graph=True)
    kept = [dense(d).clone() for d in first]
    for gradient in first:
        gradient.zero_()  # what is done to one gradient must not reach the next
    second = torch.autograd.grad(loss, tensors, retain_graph=True)
    assert all(torch.equal(dense(d), k) for d, k in zip(second, kept, strict=True))
    scaled = torch.autograd.grad(loss, tensors, torch.full_like(loss, 4.0))
    for gradient, of_one in zip(scaled, kept, strict=True):
        # What float16 rounds to a denormal number has fewer digits.
        tiny = torch.finfo(dtype).tiny if dtype == torch.float16 else 0.0
        torch.testing.assert_close(dense(gradient), 4 * of_one, rtol=0, atol=tiny)


@sources
def test_gradients_of_a_loss_used_twice_add_up(contexts: int | None) -> None:
    problem = Recipe(contexts=contexts).problem(torch.float64)
    once = fused(problem)

    def twice(tensors: dict[str, Tensor]) -> Tensor:
        loss = fused_loss(problem, tensors)
        return loss + 0.5 * loss

    for name, gradient in differentiated(problem, twice).items():
        torch.testing.assert_close(gradient, 1.5 * once[name])


def test_one_matrix_may_be_embedding_and_weight() -> None:
    problem = Recipe(contexts=3, words=9, padded=0.2).problem(torch.float64)
    assert problem.contexts is not None
    shared = problem.tensors["embedding"].clone().requires_grad_()
    words = (problem.contexts, problem.target, problem.negatives)
    (found,) = torch.autograd.grad(F.cbow_negative_sampling_loss(shared, shared, *words), shared)
    apart = [shared.detach().clone().requires_grad_() for _ in range(2)]
    gradients = torch.autograd.grad(F.cbow_negative_sampling_loss(*apart, *words), apart)
    torch.testing.assert_close(found, gradients[0] + gradients[1])


def test_arguments_are_left_as_they_were() -> None:
    problem = Recipe(contexts=4).problem(torch.float32)
    assert problem.contexts is not None
    tensors = [*problem.tensors.values(), problem.contexts, problem.target, problem.negatives]
    before = [t.clone() for t in tensors]
    fused(problem)
    assert all(torch.equal(t, b) for t, b in zip(tensors, before, strict=True))


@layouts
def test_a_gradient_that_autograd_accumulates_is_not_copied(sparse: bool) -> None:
    problem = Recipe(sparse=sparse).problem(torch.float32)
    leaves = {name: t.detach().requires_grad_() for name, t in problem.tensors.items()}
    made = []
    leaves["weight"].register_hook(lambda d: made.append((d._values() if sparse else d).data_ptr()))
    fused_loss(problem, leaves).backward()
    kept = leaves["weight"].grad
    assert kept is not None
    assert [(kept._values() if sparse else kept).data_ptr()] == made


# --- threads -------------------------------------------------------------------------------------


@layouts
@sources
@dtypes
def test_results_are_bitwise_the_same_in_each_run_and_on_two_threads(
    dtype: torch.dtype, contexts: int | None, sparse: bool
) -> None:
    recipe = Recipe(examples=400, features=100, words=50, contexts=contexts, sparse=sparse)
    problem = recipe.problem(dtype)
    first = fused(problem)
    for count in (1, 2, 2, 2, 3):
        with threads(count):
            again = fused(problem)
        for name in first:
            assert torch.equal(dense(again[name]), dense(first[name]))


# --- bad arguments -------------------------------------------------------------------------------

H, W = torch.zeros(3, 4), torch.zeros(7, 4)
IDS, TWO = torch.zeros(3, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64)
SAMPLED = {"hidden": H, "weight": W, "target": IDS, "negatives": TWO}
BAGS = {"embedding": W, "weight": W, "contexts": TWO, "target": IDS, "negatives": TWO}


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    ("wrong", "expected", "message"),
    [
        ({"hidden": H[0]}, ValueError, r"^hidden has shape \[4\], expected 2 dimensions"),
        ({"hidden": H.long()}, TypeError, "^hidden has dtype Long, expected a floating-point"),
        ({"weight": W.double()}, TypeError, "^weight has dtype Double, expected Float as hidden"),
        ({"weight": W[:, :3]}, ValueError, r"^weight has shape \[7, 3\], expected \(V, 4\)"),
        ({"weight": W.to("meta")}, ValueError, "^weight is on meta, expected cpu"),
        ({"target": IDS[:2]}, ValueError, r"^target has shape \[2\], expected \[3\] = \(B,\)"),
        ({"target": TWO}, ValueError, r"^target has shape \[3, 2\], expected \[3\]"),
        ({"target": IDS.int()}, TypeError, "^target has dtype Int, expected int64"),
        ({"negatives": TWO[:2]}, ValueError, r"^negatives has shape \[2, 2\], expected \(3, K\)"),
        ({"negatives": TWO.float()}, TypeError, "^negatives has dtype Float, expected int64"),
        ({"negatives": TWO[None]}, ValueError, r"^negatives has shape \[1, 3, 2\], expected"),
        ({"reduction": "max"}, ValueError, "^reduction is 'max', expected 'none', 'mean' or"),
    ],
)
def test_bad_arguments_of_the_loss_are_refused(
    grad: bool, wrong: dict[str, Any], expected: Any, message: str
) -> None:
    given = SAMPLED | wrong
    if given["hidden"].is_floating_point():
        given["hidden"] = given["hidden"].detach().requires_grad_(grad)
    with pytest.raises(expected, match=message):
        F.negative_sampling_loss(**given)


@pytest.mark.parametrize(
    ("wrong", "expected", "message"),
    [
        ({"embedding": W[0]}, ValueError, r"^embedding has shape \[4\], expected 2 dimensions"),
        ({"contexts": IDS}, ValueError, r"^contexts has shape \[3\], expected \(B, C\)"),
        ({"contexts": TWO.int()}, TypeError, "^contexts has dtype Int, expected int64"),
        ({"contexts": TWO[:2]}, ValueError, r"^target has shape \[3\], expected \[2\] = \(B,\)"),
        ({"contexts": None}, TypeError, r"^contexts is None, expected a tensor \(B, C\)"),
    ],
)
def test_bad_contexts_are_refused(wrong: dict[str, Any], expected: Any, message: str) -> None:
    with pytest.raises(expected, match=message):
        F.cbow_negative_sampling_loss(**(BAGS | wrong))


@pytest.mark.parametrize(
    ("idx", "expected", "message"),
    [
        (IDS[:2], ValueError, r"^ids has shape \[2\], expected \(3,\) = \(B,\) or \(3, K\)"),
        (TWO[None], ValueError, r"^ids has shape \[1, 3, 2\], expected \(3,\)"),
        (IDS.float(), TypeError, "^ids has dtype Float, expected int64"),
    ],
)
def test_bad_ids_of_dots_are_refused(idx: Tensor, expected: Any, message: str) -> None:
    with pytest.raises(expected, match=message):
        F.embedding_dot(H, W, idx)


@on_cpu
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("bad", [-1, 7, 2**40, -(2**62)])
def test_words_out_of_range_are_refused(bad: int, grad: bool) -> None:
    weight = W.clone().requires_grad_(grad)
    one, two = IDS.clone(), TWO.clone()
    one[2], two[1, 1] = bad, bad
    with pytest.raises(
        IndexError, match=f"^target holds {bad} at position 2, expected 0 <= id < V = 7"
    ):
        F.negative_sampling_loss(H, weight, one, TWO)
    with pytest.raises(IndexError, match=f"^negatives holds {bad} at position 3, expected 0 <= id"):
        F.negative_sampling_loss(H, weight, IDS, two)
    with pytest.raises(IndexError, match=f"^ids holds {bad} at position 3, expected 0 <= id < V"):
        F.embedding_dot(H, weight, two)
    if bad != -1:
        with pytest.raises(IndexError, match=f"^contexts holds {bad} .* E = 7 or padding_idx = -1"):
            F.cbow_negative_sampling_loss(W, weight, two, IDS, TWO)
    with pytest.raises(IndexError, match=r"^contexts holds -1 .* or padding_idx = 3"):
        F.cbow_negative_sampling_loss(W, weight, TWO - 1, IDS, TWO, padding_idx=3)


@on_cuda
@layouts
@dtypes
def test_words_out_of_range_make_the_loss_nan_and_scatter_nothing(
    dtype: torch.dtype, sparse: bool
) -> None:
    for contexts in (None, 4):
        recipe = Recipe(contexts=contexts, sparse=sparse, reduction="none", padded=0.0)
        problem = recipe.problem(dtype)
        expected_of = replace(problem, d_loss=problem.d_loss.clone())
        bad = torch.tensor([-2, 11, 1 << 62, -(1 << 62)])
        problem.target[0], problem.negatives[2, 1:4] = bad[0], bad[1:]
        rows = [0, 2]
        if problem.contexts is not None:
            problem.contexts[4] = torch.tensor([-2, 14, 1 << 62, 0])
            rows.append(4)
        found = fused(problem)
        assert found["loss"][rows].isnan().all()
        assert not found["loss"][[1, 3, 5, 6]].isnan().any()
        # What is left is what there is without the examples that are wrong.
        good = [b for b in range(7) if b not in rows]
        left = replace(
            expected_of,
            tensors={
                name: t[good] if name == "hidden" else t for name, t in problem.tensors.items()
            },
            contexts=None if problem.contexts is None else problem.contexts[good],
            target=problem.target[good],
            negatives=problem.negatives[good],
            d_loss=problem.d_loss[good],
        )
        clean = fused(left)
        for name in ("weight", "embedding"):
            if name in problem.tensors:
                actual, expected = dense(found[f"d_{name}"]), dense(clean[f"d_{name}"])
                torch.testing.assert_close(actual, expected)
        if contexts is None:
            assert found["d_hidden"][rows].isnan().all()
            assert torch.equal(found["d_hidden"][good], clean["d_hidden"])


def test_what_the_cases_draw_is_what_they_say() -> None:
    problem: Problem = Recipe(contexts=4, padding_idx=0).problem(torch.float32)
    assert problem.contexts is not None
    assert (problem.contexts == 0).any()
    assert problem.contexts.max() < len(problem.tensors["embedding"])
