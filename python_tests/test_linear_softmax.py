"""seqkern.functional.linear_cross_entropy: numbers, memory, gradients, and what is refused."""

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu
from helpers import SLOW, examples, threads
from softmax_cases import (
    DIFFERENTIABLE,
    LINEAR,
    SOFTMAX_DTYPES,
    Problem,
    Recipe,
    call,
    check,
    differentiated,
    fused,
    recipes,
    reference,
    results,
    scaled_error,
    variations,
)
from test_softmax_options import BAD_OPTIONS, KINDS

ops = torch.ops.seqkern
ALL = (True, True, True, True)
PLAIN = Recipe(features=17)
RICH = replace(
    PLAIN,
    class_weight=True,
    label_smoothing=0.1,
    z_loss=1e-2,
    softcap=5.0,
    temperature=0.7,
    used=ALL,
)
LOSS = (True, False, False, False)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("used", [LOSS, ALL], ids=["loss", "all"])
def test_loss_statistics_and_gradients_match_the_reference(
    kind: str, dtype: torch.dtype, used: tuple[bool, ...]
) -> None:
    shape, classes = ((7,), 101) if SLOW else ((7, 3), 1001)
    recipe = Recipe(shape, classes, features=33, kind=kind, used=used)
    problem = recipe.problem(dtype)
    check(problem, fused(problem))


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@examples(40)
@example(replace(RICH, shape=(2, 3), classes=1003, features=130))
@example(replace(RICH, shape=(7,), classes=257, soft=True, views=True, reduction="none"))
@given(recipe=recipes(features=True))
def test_options_together_match_the_reference(dtype: torch.dtype, recipe: Recipe) -> None:
    problem = recipe.problem(dtype)
    check(problem, fused(problem))


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("workspace", [1, 1 << 15, 1 << 18])
@pytest.mark.parametrize("recipe", [PLAIN, RICH, replace(RICH, soft=True, reduction="none")])
def test_any_working_memory_and_threads_give_the_same(
    recipe: Recipe, workspace: int, count: int, dtype: torch.dtype
) -> None:
    shape, classes = ((7,), 60) if SLOW else ((67,), 601)
    problem = replace(recipe, shape=shape, classes=classes).problem(dtype)
    with threads(count):
        check(problem, fused(problem, workspace=workspace))


@pytest.mark.parametrize("recipe", variations(PLAIN, 6))
def test_loss_is_that_of_cross_entropy_of_the_logits(recipe: Recipe) -> None:
    problem = recipe.problem(torch.float64)
    hidden, weight, bias = (problem.tensors[name] for name in LINEAR)
    of_logits = replace(
        problem, tensors={"logits": torch.nn.functional.linear(hidden, weight, bias)}
    )
    expected = results(of_logits, of_logits.tensors)
    for name, found in results(problem, problem.tensors).items():
        torch.testing.assert_close(found, expected[name])


@pytest.mark.parametrize("recipe", variations(RICH, 6))
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


# --- ignored and empty ---------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", variations(replace(RICH, ignored=1.0), 3))
@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
def test_nothing_to_predict_gives_zeros_and_zero_gradients(
    recipe: Recipe, dtype: torch.dtype
) -> None:
    problem = recipe.problem(dtype)
    found = fused(problem)
    for name in ("rank", "argmax"):
        assert (found.pop(name) == -1).all()
    assert not any(t.any() for t in found.values())
    loss = call(problem, problem.tensors, nan_if_empty=True)
    assert loss.isnan().all() == (recipe.reduction == "mean")


@pytest.mark.parametrize("recipe", variations(replace(RICH, ignored=0.0, shape=(9,)), 3))
@pytest.mark.parametrize("workspace", [1, 1 << 20])
def test_nan_in_ignored_rows_counts_for_nothing(recipe: Recipe, workspace: int) -> None:
    problem = recipe.problem(torch.float32)
    problem.target[1] = recipe.ignore_index
    expected = fused(problem, workspace=workspace)
    problem.tensors["hidden"][1] = torch.nan
    for name, found in fused(problem, workspace=workspace).items():
        assert torch.equal(found, expected[name]), name
    assert not expected["d_hidden"][1].any()


@pytest.mark.parametrize(("shape", "features"), [((0,), 5), ((3, 0), 5), ((4,), 0), ((0,), 0)])
@pytest.mark.parametrize("used", [LOSS, ALL], ids=["loss", "all"])
def test_no_positions_or_no_features(
    shape: tuple[int, ...], features: int, used: tuple[bool, ...]
) -> None:
    problem = replace(RICH, shape=shape, features=features, used=used).problem(torch.float32)
    check(problem, fused(problem))


# --- which gradients -----------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("recipe", [replace(RICH, used=LOSS), RICH], ids=["loss", "all"])
def test_frozen_tensors_get_no_gradient_and_others_the_same(
    wanted: tuple[bool, ...], recipe: Recipe
) -> None:
    problem = recipe.problem(torch.float32)
    expected = fused(problem)
    leaves = {
        name: t.detach().requires_grad_(of)
        for (name, t), of in zip(problem.tensors.items(), wanted, strict=True)
    }
    found = results(problem, leaves)
    assert found["loss"].requires_grad == any(wanted)
    if any(wanted):
        torch.autograd.backward(
            [found[name] for name in problem.gradients], list(problem.gradients.values())
        )
    for (name, leaf), of in zip(leaves.items(), wanted, strict=True):
        assert (leaf.grad is not None) == of
        assert leaf.grad is None or torch.equal(leaf.grad, expected[f"d_{name}"])


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3)))
def test_ops_yield_the_wanted_gradients_alone(wanted: tuple[bool, ...]) -> None:
    hidden, weight, bias = torch.randn(5, 3), torch.randn(7, 3), torch.randn(7)
    options = (-100, 0.0, 0.0, 0.0, 1.0, 0, 0)
    given = (hidden, weight, bias, torch.arange(5), None, *options)
    results = ops.linear_softmax_loss(*given, 1, False, list(wanted), 1 << 20)
    d_numbers = torch.randn(4, 5)
    again = ops.linear_softmax_loss_backward(*given, results[1], d_numbers, list(wanted), 1 << 20)
    for found in (results[4:], again):
        for d, like, of in zip(found, (hidden, weight, bias), wanted, strict=True):
            assert d.shape == (like.shape if of else (0,))


def test_evaluation_keeps_nothing() -> None:
    problem = RICH.problem(torch.float32)
    for tensor in problem.tensors.values():
        tensor.requires_grad_()
    with torch.no_grad():
        found = results(problem, problem.tensors)
    assert not any(t.requires_grad for t in found.values())
    assert all(t.grad_fn is None for t in found.values())


@pytest.mark.parametrize("sparse", [False, True])
def test_weight_tied_to_an_embedding_gets_both_gradients(sparse: bool) -> None:
    embedding = torch.nn.Embedding(23, 5, sparse=sparse, dtype=torch.float64)
    tokens, target = torch.randint(23, (4, 3)), torch.randint(23, (4, 3))

    def gradient(loss: Any) -> Tensor:
        embedding.zero_grad()
        loss(torch.tanh(embedding(tokens)), embedding.weight).backward()
        assert embedding.weight.grad is not None
        return embedding.weight.grad.to_dense().clone()

    found = gradient(lambda h, w: F.linear_cross_entropy(h, w, target))
    again = gradient(lambda h, w: F.linear_cross_entropy(h, w, target))
    expected = gradient(
        lambda h, w: torch.nn.functional.cross_entropy((h @ w.T).flatten(0, 1), target.flatten())
    )
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, again)


@pytest.mark.parametrize("used", [LOSS, ALL], ids=["loss", "all"])
def test_hidden_and_weight_may_be_the_same_tensor(used: tuple[bool, ...]) -> None:
    recipe = replace(RICH, shape=(19,), classes=19, features=19, bias=True, used=used)
    problem = recipe.problem(torch.float64)
    problem.tensors["hidden"] = problem.tensors["weight"]
    found = differentiated(
        replace(problem, tensors={"both": problem.tensors["weight"]}),
        lambda leaf: results(
            problem, {**problem.tensors, "hidden": leaf["both"], "weight": leaf["both"]}
        ),
    )
    expected = reference(problem).arrays
    total = expected["d_hidden"] + expected["d_weight"]
    assert scaled_error(found["d_both"], total, abs(total)) < 1e-14


# --- autograd ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", variations(replace(RICH, scale=2.0), 4))
def test_a_retained_graph_gives_the_same_gradients_again(recipe: Recipe) -> None:
    problem = replace(recipe, used=LOSS).problem(torch.float32)
    leaves = [t.requires_grad_() for t in problem.tensors.values()]
    loss, upstream = call(problem, problem.tensors), problem.gradients["loss"]
    first = torch.autograd.grad(loss, leaves, upstream, retain_graph=True)
    kept = [d.clone() for d in first]
    for d in first:
        d.zero_()  # what is done to one gradient must not reach the next
    second = torch.autograd.grad(loss, leaves, upstream, retain_graph=True)
    fourfold = torch.autograd.grad(loss, leaves, 4 * upstream)
    found = fused(problem)
    for gradients in (kept, second, [d / 4 for d in fourfold]):
        named = {f"d_{name}": d for name, d in zip(problem.tensors, gradients, strict=True)}
        check(problem, found | named)


def test_gradients_of_a_loss_used_twice_add_up() -> None:
    problem = RICH.problem(torch.float64)
    leaves = [t.requires_grad_() for t in problem.tensors.values()]
    once = torch.autograd.grad(call(problem, problem.tensors), leaves)
    loss = call(problem, problem.tensors)
    (loss + 0.5 * loss).backward()
    for leaf, d in zip(leaves, once, strict=True):
        torch.testing.assert_close(leaf.grad, 1.5 * d)


def test_arguments_are_left_as_they_were() -> None:
    problem = RICH.problem(torch.float32)
    before = {name: t.clone() for name, t in problem.tensors.items()}
    fused(problem)
    assert all(torch.equal(t, before[name]) for name, t in problem.tensors.items())


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_result_is_bitwise_the_same_in_each_run(dtype: torch.dtype, count: int) -> None:
    recipe = replace(RICH, shape=(37,), classes=101 if SLOW else 601, features=33)
    for problem in (recipe.problem(dtype), replace(recipe, used=LOSS).problem(dtype)):
        with threads(count):
            first = fused(problem, workspace=1 << 17)
            for _ in range(1 if SLOW else 3):
                again = fused(problem, workspace=1 << 17)
                assert all(torch.equal(again[name], first[name]) for name in first)


# --- memory --------------------------------------------------------------------------------------

ROWS, CLASSES, FEATURES, WORKSPACE = 2048, 20000, 64, 8 << 20


def status_bytes(key: str) -> int:
    """A size of this process (VmRSS: memory in use, VmHWM: its peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def growth(case: str) -> int:
    """By how much a training step raises the peak of this process."""
    torch.set_num_threads(2)
    hidden, weight, bias = (
        torch.randn(s) for s in ((ROWS, FEATURES), (CLASSES, FEATURES), CLASSES)
    )
    for tensor in (hidden, weight, bias):
        tensor.requires_grad_(case != "evaluation")
    target = torch.randint(CLASSES, (ROWS,))
    F.linear_cross_entropy(hidden[:2, :4], weight[:9, :4], target[:2] % 9, bias[:9]).clone()
    before = status_bytes("VmRSS")
    reduction = "none" if case == "without reduction" else "mean"
    loss = F.linear_cross_entropy(
        hidden, weight, target, bias, reduction=reduction, workspace=WORKSPACE
    )
    if case != "evaluation":
        loss.sum().backward()
    return status_bytes("VmHWM") - before


@on_cpu
@pytest.mark.parametrize("case", ["training", "without reduction", "evaluation"])
def test_memory_is_that_of_workspace_and_results(case: str) -> None:
    """All logits would take 164 MB, and their gradient as much."""
    command = [
        sys.executable,
        "-c",
        f"import {Path(__file__).stem} as m; print(m.growth({case!r}))",
    ]
    found = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60, check=True
    )
    grown = int(found.stdout)
    results = 4 * (10 * ROWS + (FEATURES * (ROWS + CLASSES) + CLASSES) * (case != "evaluation"))
    assert grown <= WORKSPACE + results + (4 << 20)


# --- the slower path -----------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", variations(replace(RICH, soft=True), 6))
def test_slower_path_gives_the_same(recipe: Recipe) -> None:
    """It is taken where a gradient of the class weights or of probabilities is needed."""
    problem: Problem = replace(recipe, class_weight=True).problem(torch.float64)
    assert problem.class_weight is not None
    slow = replace(problem, class_weight=problem.class_weight.double().requires_grad_())
    check(problem, fused(slow))


# --- autocast ------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True], ids=["fused", "slower path"])
def test_autocast_computes_in_bfloat16_and_gradients_are_float32(soft: bool) -> None:
    problem = replace(RICH, soft=soft, classes=101).problem(torch.float32)
    if soft:
        problem.target.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused(problem)
    half = {name: t.to(torch.bfloat16) for name, t in problem.tensors.items()}
    expected = fused(replace(problem, tensors=half))
    for name, tensor in found.items():
        assert tensor.dtype == (torch.int64 if name in ("rank", "argmax") else torch.float32)
        if soft and name.startswith("d_"):  # torch's products, which autocast rounds in backward
            rounded = expected[name].float()
            assert (tensor - rounded).norm() <= 2**-8 * rounded.norm()  # one rounding, at most
        else:
            assert torch.equal(tensor, expected[name].to(tensor.dtype))
    assert not torch.equal(found["loss"], fused(problem)["loss"])  # bfloat16 was in it


# --- bad arguments -------------------------------------------------------------------------------

HIDDEN, WEIGHT, BIAS = torch.zeros(3, 2, 4), torch.zeros(7, 4), torch.zeros(7)
TARGET = torch.zeros(3, 2, dtype=torch.int64)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        *BAD_OPTIONS,
        ({"workspace": 0}, "^workspace is 0, expected a number of bytes > 0"),
        ({"workspace": -5}, "^workspace is -5, expected"),
    ],
)
def test_options_out_of_range_are_refused(
    grad: bool, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        F.linear_cross_entropy(HIDDEN.clone().requires_grad_(grad), WEIGHT, TARGET, **options)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    ("changed", "expected", "message"),
    [
        ({"weight": WEIGHT[:, :3]}, ValueError, r"^weight has shape \[7, 3\], expected \(V, 4\)"),
        ({"weight": WEIGHT[:0]}, ValueError, r"^weight has shape \[0, 4\], expected .* V > 0"),
        ({"weight": WEIGHT[0]}, ValueError, r"^weight has shape \[4\], expected \(V, 4\)"),
        ({"weight": WEIGHT.double()}, TypeError, "^weight has dtype Double, expected Float"),
        ({"bias": BIAS[:6]}, ValueError, r"^bias has shape \[6\], expected \[7\]"),
        ({"bias": BIAS.double()}, TypeError, "^bias has dtype Double, expected Float"),
        ({"bias": BIAS.to("meta")}, ValueError, "^bias is on meta, expected cpu"),
        ({"weight": WEIGHT.to("meta")}, ValueError, "^weight is on meta, expected cpu"),
        ({"target": TARGET[:2]}, ValueError, r"^target has shape \[2, 2\], expected \[3, 2\]"),
        ({"target": TARGET.int()}, TypeError, "^target has dtype Int, expected int64"),
        ({"target": TARGET.to("meta")}, ValueError, "^target is on meta, expected cpu"),
        ({"class_weight": BIAS[:6]}, ValueError, r"^class weight has shape \[6\], expected \[7\]"),
        ({"class_weight": BIAS.int()}, TypeError, "^class weight has dtype Int, expected a float"),
        ({"hidden": torch.zeros(())}, ValueError, r"^hidden has shape \[\], expected \(\.\.\., H"),
        ({"hidden": HIDDEN.double()}, TypeError, "^weight has dtype Float, expected Double"),
    ],
)
def test_bad_arguments_are_refused(
    grad: bool, changed: dict[str, Any], expected: Any, message: str
) -> None:
    given: dict[str, Any] = {"hidden": HIDDEN, "weight": WEIGHT, "target": TARGET, "bias": BIAS}
    given |= changed
    given["hidden"] = given["hidden"].clone().requires_grad_(grad)
    with pytest.raises(expected, match=message):
        F.linear_cross_entropy(**given)


def test_unsupported_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="^hidden has dtype Long, expected a"):
        F.linear_cross_entropy(HIDDEN.long(), WEIGHT.long(), TARGET)
    with pytest.raises(TypeError, match="^hidden has dtype ComplexFloat, expected a"):
        F.linear_cross_entropy(HIDDEN.to(torch.complex64), WEIGHT.to(torch.complex64), TARGET)


@on_cpu
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("bad", [-1, 7, 2**40])
def test_target_out_of_range_is_refused(grad: bool, bad: int) -> None:
    target = TARGET.clone()
    target[1, 1] = bad
    with pytest.raises(IndexError, match=rf"^target holds {bad} at position 3, expected"):
        F.linear_cross_entropy(HIDDEN.clone().requires_grad_(grad), WEIGHT, target)
