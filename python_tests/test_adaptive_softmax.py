"""AdaptiveLogSoftmaxWithLoss against torch's class, which has no ignored targets or reductions."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from backend import not_on_host, on_cpu
from helpers import error, generator, to_array
from seqkern.nn.adaptive_softmax import AdaptiveLogSoftmaxWithLoss

WIDTH, CLASSES, CUTOFFS = 16, 40, [5, 12, 30]
SOME_IGNORED = [0, 4, 5, -100, 11, 12, 29, 30, 39, -100, 39, 2]
CASES = {
    "every cluster": [0, 4, 5, 11, 12, 29, 30, 39, 39, 2],
    "head only": [0, 4, 1, 1, 2],
    "one cluster": [12, 29, 20],
    "a cluster without targets": [3, 7, 39, 30, 5],
    "one position": [8],
}
OUTPUTS = ("output", "loss")
both_shapes = pytest.mark.parametrize("static_shapes", [False, True], ids=["rows", "static"])
head_biases = pytest.mark.parametrize("head_bias", [False, True], ids=["", "bias"])


def pair(
    dtype: torch.dtype = torch.float64, head_bias: bool = False, **options: Any
) -> tuple[AdaptiveLogSoftmaxWithLoss, torch.nn.AdaptiveLogSoftmaxWithLoss]:
    """A module and torch's, with the same parameters."""
    arguments = (WIDTH, CLASSES, CUTOFFS, 2.0, head_bias)
    peer = torch.nn.AdaptiveLogSoftmaxWithLoss(*arguments, dtype=dtype)
    module = AdaptiveLogSoftmaxWithLoss(*arguments, dtype=dtype, **options)
    module.load_state_dict(peer.state_dict())
    return module, peer


def results(
    module: torch.nn.Module, hidden: Tensor, target: Tensor, used: tuple[str, ...] = OUTPUTS
) -> dict[str, Tensor]:
    """Output, loss, and the gradients of a sum of those used; zeros where there is none."""
    leaf = hidden.detach().clone().requires_grad_()
    module.zero_grad()
    found = module(leaf, target)
    total = leaf.new_zeros((), dtype=found.loss.dtype)
    if "output" in used:
        total = total + found.output.flatten() @ torch.arange(target.numel()).to(found.loss.dtype)
    if "loss" in used:
        total = total + 3 * found.loss.sum()
    total.backward()
    assert leaf.grad is not None
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in module.named_parameters()
    }
    return {"output": found.output, "loss": found.loss, "hidden": leaf.grad} | gradients


def assert_equal(
    actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-12
) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        assert error(actual[name], to_array(value)) <= tolerance, name


# --- numbers -------------------------------------------------------------------------------------


@both_shapes
@head_biases
@pytest.mark.parametrize("used", [OUTPUTS, OUTPUTS[:1], OUTPUTS[1:]], ids="-".join)
@pytest.mark.parametrize("case", CASES)
def test_float64_equals_torch(
    static_shapes: bool, head_bias: bool, used: tuple[str, ...], case: str
) -> None:
    module, peer = pair(head_bias=head_bias, static_shapes=static_shapes)
    target = torch.tensor(CASES[case])
    hidden = torch.randn(len(target), WIDTH, dtype=torch.float64)
    assert_equal(results(module, hidden, target, used), results(peer, hidden, target, used))


@both_shapes
def test_float32_is_at_most_twice_as_wrong_as_torch(static_shapes: bool) -> None:
    module, peer = pair(torch.float32, True, static_shapes=static_shapes)
    target = torch.randint(CLASSES, (60,), generator=generator(1))
    hidden = torch.randn(60, WIDTH) * 3
    exact = results(copy.deepcopy(peer).double(), hidden.double(), target)
    actual, of_torch = results(module, hidden, target), results(peer, hidden, target)
    for name, value in exact.items():
        allowed = max(error(of_torch[name], to_array(value)), 1.2e-7)
        assert error(actual[name], to_array(value)) <= 2 * allowed, name


@both_shapes
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("ignore_index", [-100, -1, 10**6, 7])
def test_ignored_positions_are_as_if_they_were_not_there(
    static_shapes: bool, reduction: str, ignore_index: int
) -> None:
    options: dict[str, Any] = {"ignore_index": ignore_index, "reduction": reduction}
    module, peer = pair(static_shapes=static_shapes, **options)
    target = torch.tensor(SOME_IGNORED)
    kept = target != -100
    hidden = torch.randn(len(target), WIDTH, dtype=torch.float64)
    found = results(module, hidden, torch.where(kept, target, ignore_index), ("loss",))
    expected = results(peer, hidden[kept], target[kept], ("loss",))
    count = 1 if reduction == "mean" else int(kept.sum())
    gradients = {name: value * count for name, value in expected.items() if name not in OUTPUTS}
    loss = -expected["output"] if reduction == "none" else expected["loss"] * count
    assert not found["output"][~kept].any()
    assert not found["hidden"][~kept].any()
    for name in ("output", "hidden", *(("loss",) if reduction == "none" else ())):
        found[name] = found[name][kept]
    assert_equal(found, {"output": expected["output"], "loss": loss} | gradients)


@both_shapes
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(4,), (0,), (2, 3), ()])
def test_nothing_to_predict_gives_zero_and_zero_gradients(
    static_shapes: bool, reduction: str, shape: tuple[int, ...]
) -> None:
    module, _ = pair(static_shapes=static_shapes, reduction=reduction)
    hidden = torch.randn(*shape, WIDTH, dtype=torch.float64)
    found = results(module, hidden, torch.full(shape, -100))
    assert found["output"].shape == shape
    assert found["loss"].shape == (shape if reduction == "none" else ())
    for name, value in found.items():
        assert not value.any(), name


@both_shapes
def test_leading_dimensions_are_positions(static_shapes: bool) -> None:
    module, peer = pair(static_shapes=static_shapes)
    target = torch.randint(CLASSES, (3, 4), generator=generator(2))
    hidden = torch.randn(3, 4, WIDTH, dtype=torch.float64)
    found = results(module, hidden, target)
    expected = results(peer, hidden.flatten(0, 1), target.flatten())
    for name in ("output", "hidden"):
        expected[name] = expected[name].unflatten(0, (3, 4))
    assert_equal(found, expected)
    assert_equal(
        results(module, hidden[0, 0], target[0, 0]), results(peer, hidden[0, 0], target[0, 0])
    )


def test_log_prob_and_predict_are_torchs() -> None:
    module, peer = pair()
    hidden = torch.randn(20, WIDTH, dtype=torch.float64)
    assert torch.equal(module.log_prob(hidden), peer.log_prob(hidden))
    assert torch.equal(module.predict(hidden), peer.predict(hidden))
    target = torch.arange(20) * 2
    expected = module.log_prob(hidden).gather(1, target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(module(hidden, target).output, expected, rtol=1e-12, atol=0)


# --- autograd and modes --------------------------------------------------------------------------


@both_shapes
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradients_are_those_of_output_and_loss(static_shapes: bool, reduction: str) -> None:
    module, _ = pair(head_bias=True, static_shapes=static_shapes, reduction=reduction)
    target = torch.tensor([1, 6, -100, 31, 20])
    names, parameters = zip(*module.named_parameters(), strict=True)

    def both(hidden: Tensor, *values: Tensor) -> Any:
        state = dict(zip(names, values, strict=True))
        return tuple(torch.func.functional_call(module, state, (hidden, target)))

    hidden = torch.randn(5, WIDTH, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(both, (hidden, *parameters), fast_mode=True)
    torch.autograd.gradgradcheck(both, (hidden, *parameters), fast_mode=True)


def test_static_shapes_give_every_parameter_a_gradient() -> None:
    hidden, target = torch.randn(3, WIDTH, dtype=torch.float64), torch.tensor([0, 1, 2])
    static, _ = pair(static_shapes=True)
    static(hidden, target).loss.backward()
    assert all(p.grad is not None for p in static.parameters())
    by_rows, _ = pair()
    by_rows(hidden, target).loss.backward()
    assert [name for name, p in by_rows.named_parameters() if p.grad is not None] == ["head.weight"]


@both_shapes
def test_autocast_and_half_precision_return_float32(static_shapes: bool) -> None:
    module, _ = pair(torch.float32, True, static_shapes=static_shapes)
    target = torch.tensor(SOME_IGNORED)
    hidden = torch.randn(len(target), WIDTH)
    expected = results(module, hidden, target)
    with torch.autocast("cpu", torch.bfloat16):
        cast = results(module, hidden, target)
    half = results(copy.deepcopy(module).bfloat16(), hidden.bfloat16(), target)
    for name, value in expected.items():
        assert cast[name].dtype == torch.float32
        assert half[name].dtype == (torch.float32 if name in OUTPUTS else torch.bfloat16)
        assert error(cast[name], to_array(value)) < 0.03, name
        assert error(half[name], to_array(value)) < 0.03, name


@not_on_host
@pytest.mark.parametrize("used", [OUTPUTS, OUTPUTS[1:]], ids="-".join)
def test_compiled_static_shapes_equal_eager_for_all_sizes(used: tuple[str, ...]) -> None:
    torch.compiler.reset()
    module, _ = pair(torch.float32, True, static_shapes=True)
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager")
    for size in (12, 5, 30):
        target = torch.randint(-1, CLASSES, (size,), generator=generator(size))
        target = torch.where(target == -1, -100, target)
        hidden = torch.randn(size, WIDTH)
        expected = results(module, hidden, target, used)
        actual = results(compiled, hidden, target, used)
        actual = {name.removeprefix("_orig_mod."): value for name, value in actual.items()}
        torch.testing.assert_close(actual, expected)


# --- state ---------------------------------------------------------------------------------------


@head_biases
def test_state_goes_both_ways(head_bias: bool) -> None:
    module, peer = pair(head_bias=head_bias)
    assert isinstance(module, torch.nn.AdaptiveLogSoftmaxWithLoss)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    peer.load_state_dict(module.state_dict())
    for one, other in zip(module.parameters(), peer.parameters(), strict=True):
        assert torch.equal(one, other)
    assert "cutoffs=[5, 12, 30], ignore_index=-100" in repr(module)


def test_same_seed_same_parameters() -> None:
    torch.manual_seed(0)
    module = AdaptiveLogSoftmaxWithLoss(WIDTH, CLASSES, CUTOFFS[:2])
    torch.manual_seed(0)
    peer = torch.nn.AdaptiveLogSoftmaxWithLoss(WIDTH, CLASSES, CUTOFFS[:2])
    for one, other in zip(module.parameters(), peer.parameters(), strict=True):
        assert torch.equal(one, other)


# --- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"cutoffs": []}, ValueError, r"cutoffs is \[\], expected at least one"),
        ({"cutoffs": [5, 5]}, ValueError, r"cutoffs is \[5, 5\], expected .* increasing"),
        ({"cutoffs": [0, 5]}, ValueError, r"cutoffs is \[0, 5\]"),
        ({"cutoffs": [5, 40]}, ValueError, "n_classes - 1 = 39"),
        ({"cutoffs": [5.5]}, TypeError, r"cutoffs is \[5.5\], expected a sequence of integers"),
        ({"cutoffs": 5}, TypeError, "cutoffs is 5, expected a sequence"),
        ({"in_features": 0}, ValueError, "in_features is 0, expected in_features > 0"),
        ({"div_value": 0.0}, ValueError, "div_value is 0.0, expected div_value > 0"),
        ({"reduction": "all"}, ValueError, "reduction is 'all', expected 'none', 'mean' or 'sum'"),
    ],
)
def test_bad_options_are_named(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"in_features": WIDTH, "n_classes": CLASSES, "cutoffs": CUTOFFS}
    with pytest.raises(kind, match=message):
        AdaptiveLogSoftmaxWithLoss(**(arguments | change))


@both_shapes
def test_bad_arguments_are_named(static_shapes: bool) -> None:
    module, _ = pair(torch.float32, static_shapes=static_shapes)
    hidden, target = torch.zeros(3, WIDTH), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=r"input has shape \[3, 15\], expected \(..., 16\)"):
        module(hidden[:, 1:], target)
    with pytest.raises(ValueError, match=r"input has shape \[\]"):
        module(hidden[0, 0], target[0])
    with pytest.raises(TypeError, match="weight has dtype .*Float"):
        module(hidden.double(), target)
    with pytest.raises(TypeError, match="target has dtype torch.int32, expected int64"):
        module(hidden, target.int())
    with pytest.raises(ValueError, match=r"target has shape \[2\], expected \[3\]"):
        module(hidden, target[1:])
    for wrong in (-1, CLASSES, CLASSES + 1, -(10**12)):
        with pytest.raises(IndexError, match=f"holds {wrong} at position 1, expected 0 <= target"):
            module(hidden, torch.tensor([0, wrong, 2]))


@on_cpu
def test_a_compiled_graph_refuses_targets_that_are_no_classes() -> None:
    torch.compiler.reset()
    module, _ = pair(torch.float32, static_shapes=True)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for wrong in (-1, CLASSES):
        with pytest.raises(IndexError, match="target holds"):
            compiled(torch.zeros(2, WIDTH), torch.tensor([0, wrong]))
