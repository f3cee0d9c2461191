"""What seqkern.functional.lstm refuses, naming the argument, what was given and expected."""

from typing import Any

import pytest
import torch
from torch import Tensor

import seqkern.functional as F
from helpers import LSTM_ARGUMENTS

T, N, D, H = 3, 2, 4, 5
SHAPES = {
    "input": (T, N, D),
    "h_0": (N, H),
    "c_0": (N, H),
    "weight_ih": (4 * H, D),
    "weight_hh": (4 * H, H),
    "bias_ih": (4 * H,),
    "bias_hh": (4 * H,),
}


def call(grad: bool, **changed: Any) -> tuple[Tensor, ...]:
    """Run the layer on zeros, with some arguments changed."""
    arguments = {name: torch.zeros(shape) for name, shape in SHAPES.items()} | changed
    if grad:
        arguments = {
            name: t.requires_grad_() if isinstance(t, Tensor) and t.is_floating_point() else t
            for name, t in arguments.items()
        }
    return F.lstm(**arguments)


@pytest.fixture(params=[False, True], ids=["inference", "training"])
def grad(request: pytest.FixtureRequest) -> bool:
    """Whether the arguments require gradients: another path to the same checks."""
    return bool(request.param)


def test_the_unchanged_call_is_accepted(grad: bool) -> None:
    assert call(grad)[0].shape == (T, N, H)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("input", (N, D), "3 dimensions"),
        ("input", (1, T, N, D), "3 dimensions"),
        ("h_0", (N + 1, H), r"\[2, 5\]"),
        ("h_0", (N, H + 1), r"\[2, 5\]"),
        ("h_0", (1, N, H), r"\[2, 5\]"),
        ("h_0", (H,), r"\[2, 5\]"),
        ("c_0", (N, 1), r"\[2, 5\]"),
        ("c_0", (1, H), r"\[2, 5\]"),
        ("weight_ih", (4 * H, D + 1), r"\[20, 4\]"),
        ("weight_ih", (D, 4 * H), r"\[20, 4\]"),
        ("weight_ih", (3 * H, D), r"\[20, 4\]"),
        ("weight_hh", (H, 4 * H), r"4 \* H, H"),
        ("weight_hh", (4 * H,), r"4 \* H, H"),
        ("bias_ih", (4 * H + 1,), r"\[20\]"),
        ("bias_hh", (1,), r"\[20\]"),
        ("bias_hh", (1, 4 * H), r"\[20\]"),
    ],
)
def test_shape_that_does_not_fit_is_refused(
    grad: bool, name: str, shape: tuple[int, ...], expected: str
) -> None:
    given = ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=rf"^{name} has shape \[{given}\], expected .*{expected}"):
        call(grad, **{name: torch.zeros(shape)})


def test_shape_that_does_not_fit_is_refused_even_without_steps(grad: bool) -> None:
    with pytest.raises(ValueError, match=r"^c_0 has shape \[3, 5\], expected \[2, 5\]"):
        call(grad, input=torch.zeros(0, N, D), c_0=torch.zeros(3, H))


@pytest.mark.parametrize("name", LSTM_ARGUMENTS[1:])
def test_dtype_unlike_the_input_is_refused(grad: bool, name: str) -> None:
    message = rf"^{name} has dtype Double, expected Float as input has"
    with pytest.raises(TypeError, match=message):
        call(grad, **{name: torch.zeros(SHAPES[name], dtype=torch.float64)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64, torch.complex64, torch.bool])
def test_unsupported_dtype_is_refused(dtype: torch.dtype) -> None:
    arguments = {name: torch.zeros(shape, dtype=dtype) for name, shape in SHAPES.items()}
    with pytest.raises(TypeError, match="^input has dtype .*expected .*float"):
        call(False, **arguments)


@pytest.mark.parametrize("name", LSTM_ARGUMENTS)
def test_argument_on_another_device_is_refused(grad: bool, name: str) -> None:
    """A mixture with the meta device must neither compute nor return unwritten memory."""
    blamed = "[a-z_0]+" if name == "input" else name  # the input is what the others are held to
    with pytest.raises(ValueError, match=rf"^{blamed} is on (meta|cpu), expected (cpu|meta)"):
        call(grad, **{name: torch.zeros(SHAPES[name], device="meta")})


def test_tensors_on_the_meta_device_give_shapes(grad: bool) -> None:
    on_meta = {name: torch.zeros(shape, device="meta") for name, shape in SHAPES.items()}
    results = call(grad, **on_meta)
    assert [tuple(r.shape) for r in results] == [(T, N, H), (N, H), (N, H)]
    assert all(r.device.type == "meta" for r in results)


@pytest.mark.parametrize("name", LSTM_ARGUMENTS[:5])
def test_required_argument_of_none_is_refused(grad: bool, name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} has"):
        call(grad, **{name: None})
