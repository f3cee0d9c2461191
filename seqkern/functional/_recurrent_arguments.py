"""The cells, and what the arguments of a recurrent layer must be for each of them.

The ops check their arguments themselves; this is for what runs without them: the composite, and
the fake implementations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Cell(NamedTuple):
    """What sets a cell apart from the others, its equations aside (see csrc/math/cell.h)."""

    gates: int
    has_cell_state: bool = False
    peepholes: int = 0  # rows of weight_cell
    candidate_apart: bool = False  # backward needs the candidate's input and hidden part apart
    candidate_gated: bool = False  # a gate is applied to h before the candidate's product
    projectable: bool = False  # weight_hr may project h


CELLS = {
    "rnn_tanh": Cell(1),
    "rnn_relu": Cell(1),
    "lstm": Cell(4, has_cell_state=True, projectable=True),
    "lstm_peephole": Cell(4, has_cell_state=True, peepholes=3, projectable=True),
    "gru": Cell(3, candidate_apart=True),
    "gru_reset_before": Cell(3, candidate_gated=True),
    "mgu": Cell(2, candidate_gated=True),
}

# Tensors in the order of the ops, which give gradients to the first DIFFERENTIABLE of them.
ARGUMENTS = (
    "input",
    "h_0",
    "c_0",
    "weight_ih",
    "weight_hh",
    "bias_ih",
    "bias_hh",
    "weight_cell",
    "weight_hr",
    "norm_hh",
    "norm_c",
    "norm_c_bias",
    "lengths",
    "resets",
    "recurrent_mask",
    "zoneout_h",
    "zoneout_c",
)
DIFFERENTIABLE = 12
LENGTHS = ARGUMENTS.index("lengths")
MASKS = slice(ARGUMENTS.index("recurrent_mask"), None)


class Sizes(NamedTuple):
    """Sizes of one layer and direction."""

    steps: int  # T
    batch: int  # N
    gates: int  # G
    hidden: int  # H: units of a head
    state: int  # R: features of a head's hidden state
    heads: int  # K


def find_cell(name: str) -> Cell:
    """Return the cell of this name; raise ValueError if there is none."""
    cell = CELLS.get(name)
    if cell is None:
        raise ValueError(f"cell is {name!r}, expected one of {', '.join(map(repr, CELLS))}")
    return cell


def sum_type(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of sums and cell states for tensors of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_arguments(cell: str, tensors: Sequence[Tensor | None]) -> Sizes:
    """Return the sizes; raise TypeError or ValueError unless the arguments fit one another.

    Parameters
    ----------
    tensors
        In the order of ``ARGUMENTS``.
    """
    kind = find_cell(cell)
    given = {name: t for name, t in zip(ARGUMENTS, tensors, strict=True) if t is not None}
    for name in ("input", "weight_hh"):
        if name not in given:
            raise TypeError(f"{name} is None, expected a tensor")
    sizes = _sizes(cell, kind, given)
    _check_combination(cell, kind, given)

    input = given["input"]
    T, N, G, H, R, K = sizes
    features = input.shape[2] if "weight_ih" in given else K * G * H
    shapes = {
        "input": ((T, N, features), "(T, N, D), or (T, N, K * G * H) without weight_ih"),
        "h_0": ((N, K * R), "(N, K * R)"),
        "c_0": ((N, K * H), "(N, K * H)"),
        "weight_ih": ((G * H, features), "(G * H, D)"),
        "bias_ih": ((K * G * H,), "(K * G * H)"),
        "bias_hh": ((K * G * H,), "(K * G * H)"),
        "weight_cell": ((kind.peepholes, K * H), "(P, K * H)"),
        "weight_hr": ((R, H), "(R, H)"),
        "norm_hh": ((K * G * H,), "(K * G * H)"),
        "norm_c": ((K * H,), "(K * H)"),
        "norm_c_bias": ((K * H,), "(K * H)"),
        "lengths": ((N,), "(N)"),
        "resets": ((T, N), "(T, N)"),
        "recurrent_mask": ((N, K * R), "(N, K * R)"),
        "zoneout_h": ((T, N, K * H), "(T, N, K * H)"),
        "zoneout_c": ((T, N, K * H), "(T, N, K * H)"),
    }
    for name, tensor in given.items():
        if name in shapes:
            expected, meaning = shapes[name]
            if tuple(tensor.shape) != expected:
                raise ValueError(
                    f"{name} has shape {list(tensor.shape)}, "
                    f"expected {list(expected)} = {meaning} for cell {cell!r}"
                )
        dtype = {"lengths": torch.int64, "resets": torch.bool}.get(name, input.dtype)
        if tensor.dtype != dtype:
            as_input = " as input has" if name not in ("lengths", "resets") else ""
            raise TypeError(f"{name} has dtype {tensor.dtype}, expected {dtype}{as_input}")
        if tensor.device != input.device:
            raise ValueError(f"{name} is on {tensor.device}, expected {input.device} as input is")
    return sizes


def _sizes(cell: str, kind: Cell, given: dict[str, Tensor]) -> Sizes:
    input, weight_hh, weight_hr = given["input"], given["weight_hh"], given.get("weight_hr")
    if not input.is_floating_point():
        raise TypeError(f"input has dtype {input.dtype}, expected a floating-point dtype")
    if input.dim() != 3:
        shape = list(input.shape)
        raise ValueError(f"input has shape {shape}, expected 3 dimensions (T, N, D)")
    if weight_hr is not None and weight_hr.dim() != 2:
        shape = list(weight_hr.shape)
        raise ValueError(f"weight_hr has shape {shape}, expected 2 dimensions (R, H)")
    if weight_hh.dim() in (2, 3):
        state = weight_hh.shape[-1]
        hidden = state if weight_hr is None else weight_hr.shape[1]
        if weight_hh.shape[-2] == kind.gates * hidden:
            heads = weight_hh.shape[0] if weight_hh.dim() == 3 else 1
            return Sizes(input.shape[0], input.shape[1], kind.gates, hidden, state, heads)
    G = kind.gates
    expected = f"({G} * H, H), (K, {G} * H, H) with heads, or ({G} * H, R) with weight_hr (R, H)"
    raise ValueError(
        f"weight_hh has shape {list(weight_hh.shape)}, expected {expected} for cell {cell!r}"
    )


def _check_combination(cell: str, kind: Cell, given: dict[str, Tensor]) -> None:
    """Raise ValueError if an argument is missing, or does not go with the cell or another one."""

    def refuse(name: str, when: bool, reason: str) -> None:
        if when and name in given:
            raise ValueError(f"{name} is given, expected none {reason}")

    for name in ("c_0", "norm_c", "norm_c_bias", "zoneout_c"):
        refuse(name, not kind.has_cell_state, f"for cell {cell!r}, which has no cell state")
    refuse("norm_c_bias", "norm_c" not in given, "without norm_c")
    refuse("norm_hh", kind.candidate_gated, f"for cell {cell!r}, whose product is in two parts")
    refuse("weight_cell", not kind.peepholes, f"for cell {cell!r}")
    refuse("weight_hr", not kind.projectable, f"for cell {cell!r}")
    refuse("weight_hr", "zoneout_h" in given, "with zoneout_h")
    heads = given["weight_hh"].dim() == 3
    refuse("weight_hr", heads, "with heads (weight_hh has 3 dimensions)")
    refuse("weight_ih", heads, "with heads (weight_hh has 3 dimensions): pass projected input")
    if kind.peepholes and "weight_cell" not in given:
        raise ValueError(f"weight_cell is None, expected a tensor for cell {cell!r}")


def check_lengths(lengths: Tensor, steps: int) -> None:
    """Raise ValueError if a length is out of range, as the op does: only the CPU can look."""
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        for n, length in enumerate(lengths.tolist()):
            if not 0 <= length <= steps:
                raise ValueError(f"lengths[{n}] is {length}, expected 0 to T = {steps}")
