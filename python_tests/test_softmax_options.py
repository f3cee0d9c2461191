"""seqkern.functional.cross_entropy: every option, the statistics, and what is refused."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu
from helpers import error, examples, generator, normal, to_array
from softmax_cases import (
    DIFFERENTIABLE,
    SOFTMAX_DTYPES,
    Problem,
    Recipe,
    call,
    check,
    composed,
    differentiated,
    fused,
    recipes,
    reference,
    results,
    variations,
)

KINDS = ("random", "peaked", "huge", "constant", "masked")
ALL = (True, True, True, True)
RICH = Recipe(
    class_weight=True, label_smoothing=0.1, z_loss=1e-2, softcap=5.0, temperature=0.7, used=ALL
)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("used", [(True, False, False, False), ALL], ids=["loss", "all"])
def test_loss_statistics_and_gradient_match_the_reference(
    kind: str, dtype: torch.dtype, used: tuple[bool, ...]
) -> None:
    problem = Recipe(kind=kind, classes=1001, shape=(7, 3), used=used).problem(dtype)
    check(problem, fused(problem))


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@examples(40)
@example(replace(RICH, shape=(2, 3), classes=10007))
@example(replace(RICH, shape=(7,), classes=257, soft=True, views=True, reduction="none"))
@given(recipe=recipes(features=False))
def test_options_together_match_the_reference(dtype: torch.dtype, recipe: Recipe) -> None:
    problem = recipe.problem(dtype)
    check(problem, fused(problem))


@pytest.mark.parametrize("recipe", variations(Recipe(), 6))
def test_loss_is_the_same_with_and_without_gradient_and_statistics(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float32)
    tensors = problem.tensors
    expected = results(problem, tensors)
    leaves = {name: t.detach().requires_grad_() for name, t in tensors.items()}
    assert torch.equal(call(problem, tensors), expected["loss"])
    assert torch.equal(call(problem, leaves), expected["loss"])
    for name, found in results(problem, leaves).items():
        assert torch.equal(found, expected[name])
        assert found.requires_grad == (name in DIFFERENTIABLE)


def test_scaled_gradients_of_float16_keep_small_probabilities() -> None:
    """A scaled loss is how float16 is trained: what it saves may not be lost before."""
    logits = normal((128, 5000), torch.float16, generator(1))
    problem = replace(
        Recipe(shape=(128,), classes=5000).problem(torch.float16),
        tensors={"logits": logits},
        gradients={"loss": torch.tensor(2.0**16)},
    )
    expected = reference(problem).arrays["d_logits"]
    small = (expected > 0) & (expected < np.quantile(expected[expected > 0], 0.2))

    def relative(d: Tensor) -> float:
        return float(np.abs(to_array(d)[small] / expected[small] - 1).max())

    bound = max(2 * relative(composed(problem)["d_logits"]), torch.finfo(torch.float16).eps)
    assert relative(fused(problem)["d_logits"]) <= bound


# --- ignored, empty, masked ----------------------------------------------------------------------


@pytest.mark.parametrize("recipe", variations(replace(RICH, ignored=1.0), 3))
@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
def test_nothing_to_predict_gives_zeros_and_zero_gradients(
    recipe: Recipe, dtype: torch.dtype
) -> None:
    problem = recipe.problem(dtype)
    problem.tensors["logits"][0] = torch.nan
    found = fused(problem)
    for name in ("rank", "argmax"):
        assert (found.pop(name) == -1).all()
    assert not any(t.any() for t in found.values())


@pytest.mark.parametrize("shape", [(4, 3), (0,), (5, 0)])
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
def test_mean_of_nothing_is_nan_if_asked_for_and_gradients_are_zero(
    shape: tuple[int, ...], soft: bool
) -> None:
    if soft and 0 not in shape:
        pytest.skip("probabilities are never ignored")
    problem = Recipe(shape=shape, ignored=1.0, soft=soft).problem(torch.float32)
    found = differentiated(
        problem, lambda t: {"loss": torch.as_tensor(call(problem, t, nan_if_empty=True))}
    )
    assert found["loss"].isnan()
    assert not found["d_logits"].any()
    for reduction in ("sum", "none"):  # which divide by nothing
        options = problem.options | {"reduction": reduction}
        loss = call(replace(problem, options=options), problem.tensors, nan_if_empty=True)
        assert not loss.any()


@pytest.mark.parametrize("recipe", variations(replace(RICH, shape=(0,)), 6))
def test_statistics_of_no_positions_have_gradients(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float32)
    check(problem, fused(problem))


def test_nan_if_empty_changes_nothing_where_something_counts() -> None:
    problem = RICH.problem(torch.float32)
    assert torch.equal(
        call(problem, problem.tensors, nan_if_empty=True), call(problem, problem.tensors)
    )


def test_weights_of_zero_count_as_nothing() -> None:
    logits, target = torch.randn(3, 5), torch.tensor([1, 1, 1])
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])
    assert F.cross_entropy(logits, target, weight).item() == 0
    assert F.cross_entropy(logits, target, weight, nan_if_empty=True).isnan()


@pytest.mark.parametrize("recipe", variations(replace(RICH, ignored=0.0), 3))
def test_nan_in_ignored_rows_counts_for_nothing(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float32)
    problem.target[1] = recipe.ignore_index
    expected = fused(problem)
    problem.tensors["logits"][1] = torch.nan
    for name, found in fused(problem).items():
        assert torch.equal(found, expected[name]), name
    assert not expected["d_logits"][1].any()


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
def test_masked_classes_of_no_probability_add_nothing(dtype: torch.dtype) -> None:
    """The same with the classes left out; torch yields NaN here."""
    full = replace(RICH, softcap=None, label_smoothing=0.0, soft=True).problem(dtype)
    left = [v for v in range(33) if not 10 <= v < 20]
    full.tensors["logits"][..., 10:20] = -torch.inf
    full.target[..., 10:20] = 0
    assert full.class_weight is not None
    problem = replace(
        full,
        tensors={"logits": full.tensors["logits"][..., left]},
        target=full.target[..., left],
        class_weight=full.class_weight[left],
    )
    found = fused(full)
    assert not found["d_logits"][..., 10:20].any()
    check(problem, found | fused(problem) | {"d_logits": found["d_logits"][..., left]})
    for name in DIFFERENTIABLE:
        assert error(found[name], reference(problem).arrays[name]) <= 8 * 1.2e-7


# --- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("classes", [7, 100, 1003])
def test_accuracy_is_that_of_topk(dtype: torch.dtype, classes: int) -> None:
    logits = torch.randperm(64 * classes).view(64, classes).argsort(-1).to(dtype)  # distinct
    if classes > 256:
        logits = (logits / 8).to(dtype)  # so that half types know fewer: then there are ties
    target = torch.randint(classes, (64,))
    target[::5] = -100
    _, statistics = F.cross_entropy(logits, target, statistics=True)
    assert statistics.rank is not None
    counts = target != -100
    exact = classes <= 256
    for k in (1, 2, 5):
        hits = (logits.topk(k).indices == target[:, None]).any(1)[counts]
        if exact:
            assert statistics.accuracy(k).item() == pytest.approx(hits.float().mean().item())
        by_rank = (statistics.rank[counts] < k).float().mean()
        assert statistics.accuracy(k).item() == pytest.approx(by_rank.item())
    assert statistics.accuracy(classes) == 1
    assert statistics.accuracy().dtype == torch.float32


@pytest.mark.parametrize("classes", [1, 2, 16, 17, 100, 1001])
def test_of_equal_logits_the_first_comes_first(classes: int) -> None:
    """The rank of the target is then its index, and argmax the first."""
    target = torch.arange(classes)
    logits = torch.full((classes, classes), -2.5)
    _, statistics = F.cross_entropy(logits, target, statistics=True)
    assert statistics.rank is not None
    assert torch.equal(statistics.rank, target)
    assert not statistics.argmax.any()
    logits[:, classes // 2 :: 3] = 1.0  # the greater ones, too, are several
    _, statistics = F.cross_entropy(logits, target, statistics=True)
    greater = logits[0] == 1.0
    expected = torch.where(greater, greater.cumsum(0) - 1, greater.sum() + (~greater).cumsum(0) - 1)
    assert statistics.rank is not None
    assert torch.equal(statistics.rank, expected)
    assert (statistics.argmax == classes // 2).all()


def test_accuracy_is_nan_where_nothing_counts() -> None:
    _, statistics = F.cross_entropy(torch.zeros(2, 3), torch.tensor([-100, -100]), statistics=True)
    assert statistics.accuracy().isnan()


def test_accuracy_needs_ranks() -> None:
    _, statistics = F.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), statistics=True)
    with pytest.raises(
        ValueError, match="^accuracy needs ranks, which a split vocabulary does not"
    ):
        statistics._replace(rank=None).accuracy()


def test_loss_and_perplexity_follow_from_the_statistics() -> None:
    problem = Recipe(ignored=0.0).problem(torch.float64)
    found = results(problem, problem.tensors)
    torch.testing.assert_close(found["loss"], -found["log_probability"].mean())
    log_p = torch.log_softmax(problem.tensors["logits"], -1)
    torch.testing.assert_close(found["entropy"], -(log_p.exp() * log_p).sum(-1))


# --- the slower path: gradients of weights and probabilities -------------------------------------


@pytest.mark.parametrize("recipe", variations(replace(RICH, soft=True), 6))
def test_slower_path_gives_the_same(recipe: Recipe) -> None:
    """It is taken where a gradient of the class weights or of probabilities is needed."""
    problem = replace(recipe, class_weight=True).problem(torch.float64)
    expected = reference(problem)
    assert problem.class_weight is not None
    weight = problem.class_weight.double().requires_grad_()
    slow = replace(problem, class_weight=weight)
    check(problem, fused(slow), expected)
    assert fused(slow).keys() == fused(problem).keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_slower_path_rounds_probabilities_as_the_kernels_do(dtype: torch.dtype) -> None:
    problem = Recipe(soft=True).problem(dtype)
    slow = replace(problem, target=problem.target.clone().requires_grad_())
    torch.testing.assert_close(
        call(slow, slow.tensors).detach(), call(problem, problem.tensors), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
def test_gradients_of_class_weights_and_probabilities_pass_gradcheck(
    reduction: str, soft: bool
) -> None:
    recipe = replace(RICH, reduction=reduction, soft=soft, shape=(3,), classes=5)
    problem = recipe.problem(torch.float64)
    assert problem.class_weight is not None
    given = [problem.tensors["logits"], problem.class_weight.double()]
    given += [problem.target.double()] if soft else []

    def function(logits: Tensor, weight: Tensor, *target: Tensor) -> Any:
        moved = replace(problem, class_weight=weight, target=target[0] if soft else problem.target)
        return call(moved, {"logits": logits})

    leaves = [t.clone().requires_grad_() for t in given]
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


# --- autograd ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", variations(replace(RICH, scale=2.0), 4))
def test_a_retained_graph_gives_the_same_gradient_again(recipe: Recipe) -> None:
    problem = replace(recipe, used=(True, False, False, False)).problem(torch.float32)
    leaf = problem.tensors["logits"].requires_grad_()
    loss = call(problem, problem.tensors)
    upstream = problem.gradients["loss"]
    (first,) = torch.autograd.grad(loss, leaf, upstream, retain_graph=True)
    kept = first.clone()
    first.zero_()  # what is done to one gradient must not reach the next
    (second,) = torch.autograd.grad(loss, leaf, upstream, retain_graph=True)
    (fourfold,) = torch.autograd.grad(loss, leaf, 4 * upstream)
    found = fused(problem)
    check(problem, found | {"d_logits": kept})
    check(problem, found | {"d_logits": second})
    torch.testing.assert_close(fourfold, 4 * second, rtol=1e-6, atol=1e-9)


def test_gradients_of_a_loss_used_twice_add_up() -> None:
    problem = RICH.problem(torch.float64)
    leaf = problem.tensors["logits"].requires_grad_()
    (once,) = torch.autograd.grad(call(problem, problem.tensors), leaf)
    loss = call(problem, problem.tensors)
    (loss + 0.5 * loss).backward()
    torch.testing.assert_close(leaf.grad, 1.5 * once)


# --- bad arguments -------------------------------------------------------------------------------

LOGITS, TARGET = torch.zeros(3, 2, 7), torch.zeros(3, 2, dtype=torch.int64)
SOFT = torch.full((3, 2, 7), 1 / 7)
BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"reduction": "avg"}, "^reduction is 'avg', expected 'none', 'mean' or 'sum'"),
    ({"label_smoothing": -0.1}, "^label_smoothing is -0.1, expected 0 <= label_smoothing <= 1"),
    ({"label_smoothing": 1.5}, "^label_smoothing is 1.5, expected"),
    ({"label_smoothing": math.nan}, "^label_smoothing is nan, expected"),
    ({"z_loss": -1.0}, r"^z_loss is -1(\.0)?, expected z_loss >= 0"),
    ({"z_loss": math.nan}, "^z_loss is nan, expected"),
    ({"softcap": 0.0}, "^softcap is 0.0, expected softcap > 0, or None"),
    ({"softcap": -3.0}, "^softcap is -3.0, expected"),
    ({"softcap": math.nan}, "^softcap is nan, expected"),
    ({"temperature": 0.0}, r"^temperature is 0(\.0)?, expected temperature > 0"),
    ({"temperature": -1.0}, r"^temperature is -1(\.0)?, expected"),
    ({"temperature": math.nan}, "^temperature is nan, expected"),
]


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_options_out_of_range_are_refused(
    grad: bool, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        F.cross_entropy(LOGITS.clone().requires_grad_(grad), TARGET, **options)


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_options_out_of_range_are_refused_on_the_slower_path(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        F.cross_entropy(LOGITS, TARGET, torch.ones(7, requires_grad=True), **options)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    ("target", "weight", "expected", "message"),
    [
        (SOFT[..., :6], None, ValueError, r"^target has shape \[3, 2, 6\], expected \[3, 2, 7\]"),
        (SOFT[0], None, ValueError, r"^target has shape \[2, 7\], expected \[3, 2, 7\]"),
        (SOFT.long(), None, ValueError, r"^target has shape \[3, 2, 7\], expected \[3, 2\]"),
        (TARGET, torch.ones(6), ValueError, r"^class weight has shape \[6\], expected \[7\]"),
        (TARGET, torch.ones(1, 7), ValueError, r"^class weight has shape \[1, 7\], expected \[7\]"),
        (
            TARGET,
            torch.ones(7).int(),
            TypeError,
            "^class weight has dtype Int, expected a",
        ),
        (TARGET, torch.ones(7).to("meta"), ValueError, "^class weight is on meta, expected cpu"),
        (SOFT.to("meta"), None, ValueError, "^target is on meta, expected cpu"),
    ],
)
def test_bad_targets_and_weights_are_refused(
    grad: bool, target: Any, weight: Any, expected: Any, message: str
) -> None:
    with pytest.raises(expected, match=message):
        F.cross_entropy(LOGITS.clone().requires_grad_(grad), target, weight)


@pytest.mark.parametrize(
    ("logits", "target", "expected", "message"),
    [
        (LOGITS, TARGET[:1], ValueError, r"^target has shape \[1, 2\], expected \[3, 2\]"),
        (LOGITS, SOFT[0], ValueError, r"^target has shape \[2, 7\], expected \[3, 2, 7\]"),
        (LOGITS, TARGET.int(), TypeError, "^target has dtype Int, expected int64"),
        (LOGITS.long(), TARGET, TypeError, "^logits has dtype Long, expected a floating-point"),
        (LOGITS[..., :6], TARGET, ValueError, r"^class weight has shape \[7\], expected \[6\]"),
        pytest.param(LOGITS, TARGET + 7, IndexError, "^target holds 7 at position 0", marks=on_cpu),
    ],
)
def test_bad_arguments_are_refused_on_the_slower_path(
    logits: Any, target: Any, expected: Any, message: str
) -> None:
    """Plain torch operations would broadcast some of them."""
    with pytest.raises(expected, match=message):
        F.cross_entropy(logits, target, torch.ones(7, requires_grad=True))


@on_cpu
def test_target_out_of_range_is_refused_whatever_the_options() -> None:
    options: dict[str, Any] = {"reduction": "none", "label_smoothing": 0.1}
    with pytest.raises(IndexError, match=r"^target holds 7 at position 0, expected 0 <= target"):
        F.cross_entropy(LOGITS, TARGET + 7, **options)


def test_helpers_find_an_error() -> None:
    """The measure is sharp: a loss that is wrong in the fifth digit is found."""
    problem: Problem = RICH.problem(torch.float32)
    found = fused(problem)
    for name in (*DIFFERENTIABLE, "d_logits"):
        with pytest.raises(AssertionError, match=f"^{name}: error"):
            check(problem, found | {name: found[name] * 1.00001})
