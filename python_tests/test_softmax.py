"""seqkern.functional.cross_entropy without options: the float64 reference and torch's function."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu
from helpers import (
    error,
    examples,
    generator,
    loss_reference,
    normal,
    strided,
    threads,
    to_array,
)
from softmax_cases import SOFTMAX_DTYPES

EPS = {
    torch.float32: 1.2e-7,
    torch.float64: 2.3e-16,
    torch.bfloat16: 7.9e-3,
    torch.float16: 9.8e-4,
}
# The loss of half-precision logits is float32.
LOSS_EPS = EPS | dict.fromkeys((torch.bfloat16, torch.float16), EPS[torch.float32])


def draw_target(
    shape: tuple[int, ...], classes: int, ignore_index: int, ignored: float, random: torch.Generator
) -> Tensor:
    """Draw classes, a part of them replaced by `ignore_index`."""
    target = torch.randint(classes, shape, generator=random)
    target[torch.rand(shape, generator=random) < ignored] = ignore_index
    return target


def loss_and_gradient(
    logits: Tensor, target: Tensor, ignore_index: int = -1, d_loss: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Run forward and backward."""
    leaf = logits.detach().requires_grad_()
    loss = F.cross_entropy(leaf, target, ignore_index=ignore_index)
    (gradient,) = torch.autograd.grad(loss, leaf, torch.tensor(d_loss, dtype=loss.dtype))
    return loss.detach(), gradient


def assert_matches(logits: Tensor, target: Tensor, ignore_index: int, d_loss: float = 1.0) -> None:
    """Check loss and gradient against the reference, and that they have the right dtypes."""
    loss, gradient = loss_and_gradient(logits, target, ignore_index, d_loss)
    expected, d_logits = loss_reference(logits, target, ignore_index)
    assert loss.dtype == (torch.float64 if logits.dtype == torch.float64 else torch.float32)
    assert loss.shape == ()
    assert gradient.dtype == logits.dtype
    assert torch.equal(
        F.cross_entropy(logits, target, ignore_index=ignore_index), loss
    )  # without gradient
    # The greatest logit is subtracted and added again: rounding is relative to it, too.
    scale = abs(expected) + float(logits.abs().max()) if logits.numel() else 0.0
    assert abs(loss.item() - expected) <= 4 * LOSS_EPS[logits.dtype] * scale
    assert error(gradient, d_logits * d_loss) <= 8 * EPS[logits.dtype]


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES)
@examples(40)
@example((3, 5), 10007, -1, 0.3, 1.0, 1.0, False, 0)
@example((7,), 1000, 3, 0.5, 1.0, -2.5, True, 1)
@example((1,), 1, -1, 0.0, 1.0, 1.0, False, 2)
@given(
    shape=st.sampled_from([(), (0,), (1,), (7,), (3, 5), (2, 0, 3), (2, 3, 4)]),
    classes=st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 100, 1000]),
    ignore_index=st.sampled_from([-1, -100, 0, 5, 10**9]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 20.0]),
    d_loss=st.sampled_from([1.0, 0.0, -2.5, 1024.0]),
    views=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_loss_and_gradient_match_the_reference(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    classes: int,
    ignore_index: int,
    ignored: float,
    scale: float,
    d_loss: float,
    views: bool,
    seed: int,
) -> None:
    random = generator(seed)
    logits = (normal((*shape, classes), torch.float64, random) * scale).to(dtype)
    target = draw_target(shape, classes, ignore_index, ignored, random)
    if views:
        logits, target = strided(logits), target.expand(2, *shape)[1]
    assert_matches(logits, target, ignore_index, d_loss)


@pytest.mark.parametrize(("rows", "classes"), [(64, 17), (64, 1000), (64, 10007), (4, 131072)])
def test_float32_is_at_most_twice_as_wrong_as_cross_entropy(rows: int, classes: int) -> None:
    """A wide range of logits is the hardest: many small terms are added to a large sum."""
    random = generator(classes)
    logits = normal((rows, classes), torch.float32, random) * 3
    target = draw_target((rows,), classes, -1, 0.2, random)
    expected, d_logits = loss_reference(logits, target, -1)

    def errors(function: Callable[..., Tensor]) -> tuple[float, float]:
        leaf = logits.clone().requires_grad_()
        loss = function(leaf, target, ignore_index=-1)
        (gradient,) = torch.autograd.grad(loss, leaf)
        positive = d_logits > 0  # the probabilities, each by itself
        relative = abs(to_array(gradient) - d_logits)[positive] / d_logits[positive]
        return abs(loss.item() - expected) / expected, float(relative.max())

    of_torch = errors(torch.nn.functional.cross_entropy)
    for actual, of_peer in zip(errors(F.cross_entropy), of_torch, strict=True):
        assert actual <= 2 * max(of_peer, EPS[torch.float32])


def test_every_row_of_the_gradient_sums_to_zero() -> None:
    random = generator(1)
    logits, target = normal((20, 10007), torch.float32, random), torch.arange(20) * 500
    _, gradient = loss_and_gradient(logits, target)
    np.testing.assert_allclose(to_array(gradient).sum(axis=1) * 20, 0, atol=8 * EPS[torch.float32])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exp_and_log_are_accurate_everywhere(dtype: torch.dtype) -> None:
    """With two classes, the loss is log(1 + exp(x)) and a gradient is exp(x) / (1 + exp(x))."""
    for x in torch.cat([torch.linspace(-80, 80, 161), torch.tensor([-1e-4, 1e-4])]).to(dtype):
        logits, first = torch.stack([x.new_zeros(()), x])[None], torch.zeros(1, dtype=torch.int64)
        loss, gradient = loss_and_gradient(logits, first)
        expected = np.logaddexp(0, x.double().item())
        np.testing.assert_allclose(loss.item(), expected, rtol=2 * EPS[dtype], atol=EPS[dtype] / 2)
        share = 1 / (1 + np.exp(-x.double().item()))
        np.testing.assert_allclose(gradient[0, 1].item(), share, rtol=4 * EPS[dtype])


# --- values at the edge of the number range ------------------------------------------------------


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_logits_are_exact(dtype: torch.dtype, size: float) -> None:
    size = min(size, torch.finfo(dtype).max)
    logits = torch.zeros(2, 17, dtype=dtype)
    logits[0, 3], logits[1, 0] = size, size
    loss, gradient = loss_and_gradient(logits, torch.tensor([3, 16]))
    np.testing.assert_allclose(loss.item(), logits[1, 0].double().item() / 2, rtol=1e-7)
    expected = torch.zeros(2, 17, dtype=dtype)
    expected[1, 0], expected[1, 16] = 0.5, -0.5
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES)
def test_infinitely_unlikely_classes_have_no_gradient(dtype: torch.dtype) -> None:
    """Logits of minus infinity mask classes out."""
    logits = normal((3, 33), dtype, generator(2))
    logits[:, 5:29] = -torch.inf
    loss, gradient = loss_and_gradient(logits, torch.tensor([0, 4, 30]))
    left = torch.cat([logits[:, :5], logits[:, 29:]], dim=1)
    expected, d_left = loss_reference(left, torch.tensor([0, 4, 6]), -1)
    np.testing.assert_allclose(loss.item(), expected, rtol=4 * LOSS_EPS[dtype])
    assert not gradient[:, 5:29].any()
    assert error(torch.cat([gradient[:, :5], gradient[:, 29:]], dim=1), d_left) <= 8 * EPS[dtype]


def test_infinitely_unlikely_target_has_an_infinite_loss() -> None:
    logits = torch.zeros(1, 33)
    logits[0, 7] = -torch.inf
    loss, gradient = loss_and_gradient(logits, torch.tensor([7]))
    assert loss.item() == torch.inf
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES)
@pytest.mark.parametrize("column", [0, 16, 32])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_stays_in_its_row_and_reaches_the_loss(
    dtype: torch.dtype, column: int, value: float
) -> None:
    logits = normal((3, 33), dtype, generator(3))
    _, clean = loss_and_gradient(logits, torch.tensor([1, 2, 3]))
    logits[1, column] = value
    loss, gradient = loss_and_gradient(logits, torch.tensor([1, 2, 3]))
    assert loss.isnan()
    assert gradient[1].isnan().any()
    assert torch.equal(gradient[[0, 2]], clean[[0, 2]])


def test_nan_in_ignored_rows_counts_for_nothing() -> None:
    logits = normal((3, 33), torch.float32, generator(4))
    expected, d_logits = loss_reference(logits[::2], torch.tensor([1, 3]), -1)
    logits[1] = torch.nan
    loss, gradient = loss_and_gradient(logits, torch.tensor([1, -1, 3]))
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-6)
    assert error(gradient[::2], d_logits) < 1e-6
    assert not gradient[1].any()


# --- ignored and empty ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES)
@pytest.mark.parametrize("ignore_index", [-1, -100, 3])
@pytest.mark.parametrize("shape", [(4, 3), (0,), (5, 0)])
def test_nothing_to_predict_gives_zero_and_zero_gradients(
    dtype: torch.dtype, ignore_index: int, shape: tuple[int, ...]
) -> None:
    logits = normal((*shape, 17), dtype, generator(5))
    loss, gradient = loss_and_gradient(logits, torch.full(shape, ignore_index), ignore_index)
    assert loss.item() == 0.0
    assert gradient.shape == logits.shape
    assert not gradient.any()


# --- autograd ------------------------------------------------------------------------------------


@pytest.fixture
def problem() -> tuple[Tensor, Tensor]:
    """Logits that require gradients, and targets."""
    random = generator(6)
    logits = normal((5, 4, 33), torch.float32, random).requires_grad_()
    return logits, draw_target((5, 4), 33, -1, 0.2, random)


def test_a_second_backward_over_a_retained_graph_gives_the_same_gradient(
    problem: tuple[Tensor, Tensor],
) -> None:
    logits, target = problem
    loss = F.cross_entropy(logits, target, ignore_index=-1)
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    kept = first.clone()
    first.zero_()  # what is done to one gradient must not reach the next
    (second,) = torch.autograd.grad(loss, logits, retain_graph=True)
    assert error(second, to_array(kept)) <= 4 * EPS[torch.float32]  # it begins from rounded sums
    (scaled,) = torch.autograd.grad(loss, logits, torch.tensor(4.0))
    assert torch.equal(scaled, 4 * second)


def test_gradients_of_a_loss_used_twice_add_up(problem: tuple[Tensor, Tensor]) -> None:
    logits, target = problem
    _, once = loss_and_gradient(logits, target)
    loss = F.cross_entropy(logits, target, ignore_index=-1)
    (loss + 0.5 * loss).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, 1.5 * once, rtol=1e-6, atol=0)
    F.cross_entropy(logits, target, ignore_index=-1).backward()
    torch.testing.assert_close(logits.grad, 2.5 * once, rtol=1e-6, atol=1e-9)


def test_inference_writes_no_gradient(problem: tuple[Tensor, Tensor]) -> None:
    logits, target = problem
    with torch.no_grad():
        assert not F.cross_entropy(logits, target, ignore_index=-1).requires_grad
    assert F.cross_entropy(logits, target, ignore_index=-1).requires_grad
    options = (-1, 0.0, 0.0, 0.0, 1.0, 0, 0, 1, False)
    *_, gradient = torch.ops.seqkern.softmax_loss(logits.detach(), target, None, *options, False)
    assert gradient.numel() == 0


def test_logits_are_left_as_they_were(problem: tuple[Tensor, Tensor]) -> None:
    logits, target = problem
    before = logits.detach().clone()
    F.cross_entropy(logits, target, ignore_index=-1).backward()
    assert torch.equal(logits, before)


# --- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES)
def test_result_is_bitwise_the_same_in_each_run_and_on_two_threads(dtype: torch.dtype) -> None:
    random = generator(7)
    logits = normal((37, 1001), dtype, random)
    target = draw_target((37,), 1001, -1, 0.2, random)
    first = loss_and_gradient(logits, target)
    for count in (1, 2, 2, 2, 2):
        with threads(count):
            again = loss_and_gradient(logits, target)
        assert torch.equal(again[0], first[0])
        assert torch.equal(again[1], first[1])


# --- bad arguments -------------------------------------------------------------------------------

LOGITS, TARGET = torch.zeros(3, 2, 7), torch.zeros(3, 2, dtype=torch.int64)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    ("logits", "target", "expected", "message"),
    [
        (LOGITS, TARGET[:2], ValueError, r"^target has shape \[2, 2\], expected \[3, 2\]"),
        (LOGITS, TARGET[0], ValueError, r"^target has shape \[2\], expected \[3, 2\]"),
        (LOGITS, TARGET.flatten(), ValueError, r"^target has shape \[6\], expected \[3, 2\]"),
        (LOGITS[..., :0], TARGET, ValueError, r"^logits has shape \[3, 2, 0\], expected .*V > 0"),
        (torch.zeros(()), TARGET, ValueError, r"^logits has shape \[\], expected \(\.\.\., V\)"),
        (LOGITS, TARGET.int(), TypeError, "^target has dtype Int, expected int64"),
        (LOGITS, TARGET.float(), ValueError, r"^target has shape \[3, 2\], expected \[3, 2, 7\]"),
        (
            LOGITS.to(torch.complex64),
            TARGET,
            TypeError,
            "^logits has dtype ComplexFloat, expected a floating",
        ),
        (LOGITS.to("meta"), TARGET, ValueError, "^target is on cpu, expected meta"),
        (LOGITS, TARGET.to("meta"), ValueError, "^target is on meta, expected cpu"),
        (LOGITS, None, (TypeError, ValueError), "^target has"),
    ],
)
def test_bad_arguments_are_refused(
    grad: bool, logits: Any, target: Any, expected: Any, message: str
) -> None:
    with pytest.raises(expected, match=message):
        F.cross_entropy(logits.detach().requires_grad_(grad), target)


def test_integer_logits_are_refused() -> None:
    with pytest.raises(TypeError, match="^logits has dtype Long, expected a floating-point dtype"):
        F.cross_entropy(LOGITS.long(), TARGET)


@on_cpu
@pytest.mark.parametrize("bad", [-2, 7, 2**40, -(2**62)])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_target_out_of_range_is_refused(grad: bool, bad: int) -> None:
    target = TARGET.clone()
    target[1, 1] = bad
    message = rf"^target holds {bad} at position 3, expected 0 <= target < V = 7 or ignore_index ="
    with pytest.raises(IndexError, match=message):
        F.cross_entropy(LOGITS.clone().requires_grad_(grad), target)


@on_cpu
def test_the_default_ignore_index_is_out_of_range_under_another() -> None:
    with pytest.raises(IndexError, match=r"^target holds -1 .* or ignore_index = -100"):
        F.cross_entropy(LOGITS, TARGET - 1)


def test_loss_of_equal_logits_is_the_logarithm_of_their_number() -> None:
    loss = F.cross_entropy(LOGITS, TARGET)
    np.testing.assert_allclose(loss.item(), math.log(7), rtol=1e-7)


def test_time_softmax_loss_is_cross_entropy_that_ignores_minus_one(
    problem: tuple[Tensor, Tensor],
) -> None:
    logits, target = problem
    expected, gradient = loss_and_gradient(logits, target)
    loss = F.time_softmax_loss(logits, target)
    assert torch.equal(loss, expected)
    assert torch.equal(torch.autograd.grad(loss, logits)[0], gradient)
    moved = torch.where(target == -1, 5, target)
    assert torch.equal(
        F.time_softmax_loss(logits, moved, 5), F.cross_entropy(logits, moved, ignore_index=5)
    )
