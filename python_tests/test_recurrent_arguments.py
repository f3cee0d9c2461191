"""What the recurrent functions refuse, naming the argument, what was given and expected."""

from typing import Any

import pytest
import torch
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu
from helpers import LSTM_ARGUMENTS
from seqkern.functional._recurrent_arguments import CELLS

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
        ("weight_hh", (4 * H,), "2 dimensions"),
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


@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float16, marks=on_cpu), torch.complex64, torch.bool]
)
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


@pytest.mark.parametrize("name", ["input", "weight_hh"])
def test_required_argument_of_none_is_refused(grad: bool, name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} is None, expected a tensor"):
        call(grad, **{name: None})


# --- cells and options ---------------------------------------------------------------------------


def options(cell: str, path: str, **changed: Any) -> F.RecurrentResult:
    """Run a layer of any cell on zeros; `path` says which implementation has to check.

    Parameters
    ----------
    changed
        Shapes of tensors, tensors, or None for an argument that is not there.
    """
    G = CELLS[cell].gates
    given = {
        "input": (T, N, D),
        "weight_ih": (G * H, D),
        "weight_hh": (G * H, H),
        "weight_cell": (3, H) if CELLS[cell].peepholes else None,
    }
    arguments = {
        name: torch.zeros(value) if isinstance(value, tuple) else value
        for name, value in (given | changed).items()
    }
    if path == "training":
        arguments["weight_hh"].requires_grad_()
    elif path == "composite":
        arguments.setdefault("recurrent_mask", torch.zeros(N, arguments["weight_hh"].shape[-1]))
        arguments["recurrent_mask"].requires_grad_()
    elif path == "meta":
        arguments = {n: t.to("meta") if isinstance(t, Tensor) else t for n, t in arguments.items()}
    return F.recurrent(cell, **arguments)


@pytest.fixture(params=["inference", "training", "composite", "meta"])
def path(request: pytest.FixtureRequest) -> str:
    """Which of the implementations has to check: they have no code in common."""
    return str(request.param)


@pytest.mark.parametrize("cell", CELLS)
def test_unchanged_options_are_accepted(cell: str, path: str) -> None:
    assert options(cell, path).output.shape == (T, N, H)


PROJECTED = {"weight_hh": (4 * H, 2), "weight_hr": (2, H)}
HEADS = {"weight_hh": (2, 4 * H, H), "weight_ih": None, "input": (T, N, 8 * H)}


@pytest.mark.parametrize(
    ("cell", "changed", "message"),
    [
        ("gru", {"c_0": (N, H)}, "c_0.* cell state"),
        ("mgu", {"zoneout_c": (T, N, H)}, "zoneout_c.* cell state"),
        ("rnn_tanh", {"norm_c": (H,), "norm_c_bias": (H,)}, "norm_c.* cell state"),
        ("lstm", {"norm_c_bias": (H,)}, "norm_c_bias is given.* without norm_c"),
        ("gru_reset_before", {"norm_hh": (3 * H,)}, "norm_hh .*gru_reset_before"),
        ("mgu", {"norm_hh": (2 * H,)}, "norm_hh .*mgu"),
        ("lstm", {"weight_cell": (3, H)}, "weight_cell is given, .*lstm"),
        ("lstm_peephole", {"weight_cell": None}, "weight_cell is None, .*lstm_peephole"),
        ("gru", {"weight_hh": (3 * H, 2), "weight_hr": (2, H)}, "weight_hr .*gru"),
        ("lstm", PROJECTED | {"zoneout_h": (T, N, H)}, "weight_hr"),
        ("lstm", HEADS | {"weight_hr": (H, H)}, "weight_hr .*heads"),
        ("lstm", HEADS | {"weight_ih": (4 * H, 8 * H)}, "weight_ih is given.* heads"),
        ("lstm", HEADS | {"input": (T, N, 4 * H)}, r"input has shape \[3, 2, 20\], expected .*40"),
        ("lstm", HEADS | {"h_0": (N, H)}, r"h_0 has shape \[2, 5\], expected \[2, 10\]"),
        ("lstm", PROJECTED | {"h_0": (N, H)}, r"h_0 has shape \[2, 5\], expected \[2, 2\]"),
        ("lstm", {"weight_hh": (4 * H, 2)}, r"weight_hh has shape \[20, 2\], expected .*H"),
        ("gru", {"weight_hh": (4 * H, H)}, r"weight_hh has shape \[20, 5\], expected .*3 \* H, H"),
        ("gru", {"norm_hh": (H,)}, r"norm_hh has shape \[5\], expected \[15\]"),
        ("lstm_peephole", {"weight_cell": (1, H)}, r"weight_cell has shape .* expected \[3, 5\]"),
        ("gru", {"lengths": torch.ones(3).long()}, r"lengths has shape \[3\], expected \[2\]"),
        (
            "gru",
            {"resets": torch.ones(N, T).bool()},
            r"resets has shape \[2, 3\], expected \[3, 2\]",
        ),
        ("gru", {"recurrent_mask": (1, H)}, r"recurrent_mask has shape .* expected \[2, 5\]"),
        ("gru", {"zoneout_h": (T, N, 1)}, r"zoneout_h has shape .* expected \[3, 2, 5\]"),
        ("lstm", {"zoneout_c": (1, N, H)}, r"zoneout_c has shape .* expected \[3, 2, 5\]"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    cell: str, changed: dict[str, Any], message: str, path: str
) -> None:
    with pytest.raises(ValueError, match=message):
        options(cell, path, **changed)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("lengths", torch.ones(N, dtype=torch.int32)),
        ("resets", torch.ones(T, N, dtype=torch.uint8)),
        ("recurrent_mask", torch.ones(N, H, dtype=torch.float64)),
        ("zoneout_h", torch.ones(T, N, H, dtype=torch.bfloat16)),
    ],
)
def test_options_of_another_dtype_are_refused(name: str, tensor: Tensor, path: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} has dtype .*, expected "):
        options("gru", path, **{name: tensor})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cell": "gnu"}, r"^cell is 'gnu', expected one of 'rnn_tanh', .*'mgu'"),
        ({"return_cells": True}, "^return_cells is True, but cell 'gru' has no cell state"),
        ({"recompute": -1}, "^recompute is -1, expected a number of steps, or 0"),
    ],
)
def test_values_that_are_no_tensors_are_checked(changed: dict[str, Any], message: str) -> None:
    x, w, u = torch.zeros(T, N, D), torch.zeros(3 * H, D), torch.zeros(3 * H, H)
    with pytest.raises(ValueError, match=message):
        F.recurrent(**({"cell": "gru", "input": x, "weight_ih": w, "weight_hh": u} | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input": torch.zeros(T, N, D).long()}, r"^input has shape \[3, 2, 4\], expected 2 dim"),
        ({"lengths": torch.ones(3).long()}, r"^lengths has shape \[3\], expected \[2\]"),
        ({"weight_ih": None}, "^weight_ih is None, expected a tensor where input holds token ids"),
        ({"weight_ih": (D, 3 * H)}, r"^weight_ih has shape \[4, 15\], expected \(15, D\)"),
        ({"weight_hh": (1, 3 * H, H)}, r"^weight_hh has shape \[1, 15, 5\], expected 2 dimensions"),
    ],
)
def test_token_ids_with_weights_that_do_not_fit_are_refused(
    changed: dict[str, Any], message: str, path: str
) -> None:
    tokens = {"input": torch.zeros(T, N, dtype=torch.int64)}
    with pytest.raises(ValueError, match=message):
        options("gru", path, **(tokens | changed))
