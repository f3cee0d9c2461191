"""The arguments of a recurrent layer: their shapes, and which may not be given together."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import IndexArray, require_float64, require_rank, require_shape
from .cells import CELLS, Cell

Arguments = dict[str, NDArray[Any]]  # those that were given, by name


@dataclass
class Sizes:
    """The sizes of one call, by the letters of the shapes."""

    T: int  # steps
    N: int  # sequences
    G: int  # gates
    H: int  # hidden units of a head
    R: int  # hidden state of a head: H, or the rows of weight_hr
    K: int  # heads
    state: int  # K*R
    cell_state: int  # K*H, or 0 in cells that have none


def _sizes(cell: type[Cell], weight_hh: NDArray[Any], input: NDArray[Any]) -> Sizes:
    if weight_hh.ndim not in (2, 3):
        expected = "(G*H, R) or (K, G*H, H)"
        raise ValueError(f"weight_hh: given shape {weight_hh.shape}, expected {expected}")
    rows, R = weight_hh.shape[-2:]
    if rows % cell.gates:
        raise ValueError(f"weight_hh: given {rows} rows, expected a multiple of {cell.gates}")
    require_rank("input", input, "T, N" if is_ids(input) else "T, N, D")
    T, N = input.shape[:2]
    H, K = rows // cell.gates, len(weight_hh) if weight_hh.ndim == 3 else 1
    return Sizes(T, N, cell.gates, H, R, K, K * R, K * H if cell.has_cell_state else 0)


def is_ids(input: NDArray[Any]) -> bool:
    """Return whether the input holds token ids."""
    return np.issubdtype(input.dtype, np.integer)


def _refuse(name: str, when: bool, reason: str) -> None:
    if when:
        raise ValueError(f"{name}: given, expected none {reason}")


def _check_combination(name: str, cell: type[Cell], given: Arguments, heads: bool) -> None:
    """Raise ValueError if an argument is missing or does not go with the cell or another one."""
    for key in ("c_0", "zoneout_c", "norm_c", "norm_c_bias"):
        _refuse(key, key in given and not cell.has_cell_state, f"with {name}: it has no cell state")
    _refuse("norm_c_bias", "norm_c_bias" in given and "norm_c" not in given, "without norm_c")
    _refuse("norm_hh", "norm_hh" in given and cell.reset_before, f"with {name}")
    if ("weight_cell" in given) != (cell.peepholes > 0):
        state, wanted = ("given", "none") if "weight_cell" in given else ("absent", "an array")
        raise ValueError(f"weight_cell: {state}, expected {wanted} with {name}")
    if "weight_hr" in given:
        _refuse("weight_hr", name not in ("lstm", "lstm_peephole"), f"with {name}")
        _refuse("weight_hr", "zoneout_h" in given, "with zoneout_h")
        _refuse("weight_hr", heads, "with heads")
    _refuse("weight_ih", heads and "weight_ih" in given, "with heads: pass the projected input")


def check_arguments(name: str, given: Arguments) -> Sizes:
    """Return the sizes; raise TypeError or ValueError unless all arguments fit one another."""
    cell = CELLS[name]
    for key in ("input", "weight_hh"):
        if key not in given:
            raise TypeError(f"{key}: given None, expected an array")
    input, weight_hh = given["input"], given["weight_hh"]
    s = _sizes(cell, weight_hh, input)
    _check_combination(name, cell, given, heads=weight_hh.ndim == 3)
    if is_ids(input) and "weight_ih" not in given:
        raise ValueError("weight_ih: given None, expected an array where input holds token ids")
    if "weight_hr" not in given and s.R != s.H:
        raise ValueError(f"weight_hh: given {s.R} columns, expected {s.H} without weight_hr")

    units, rows = s.K * s.H, s.K * s.G * s.H
    columns = given["weight_ih"].shape[-1] if "weight_ih" in given else rows
    shapes: dict[str, tuple[int, ...]] = {
        "input": (s.T, s.N) if is_ids(input) else (s.T, s.N, columns),
        "h_0": (s.N, s.state),
        "c_0": (s.N, s.cell_state),
        "weight_ih": (rows, columns),
        "weight_hh": weight_hh.shape,
        "bias_ih": (rows,),
        "bias_hh": (rows,),
        "weight_cell": (cell.peepholes, units),
        "weight_hr": (s.R, s.H),
        "norm_hh": (rows,),
        "norm_c": (units,),
        "norm_c_bias": (units,),
        "lengths": (s.N,),
        "resets": (s.T, s.N),
        "recurrent_mask": (s.N, s.state),
        "zoneout_h": (s.T, s.N, units),
        "zoneout_c": (s.T, s.N, s.cell_state),
    }
    for key, array in given.items():
        require_shape(key, array, shapes[key])
        if key == "resets":
            if array.dtype != np.bool_:
                raise TypeError(f"resets: given {array.dtype}, expected bool")
        elif key == "lengths":
            _require_lengths(array, s.T)
        elif not (key == "input" and is_ids(array)):
            require_float64(key, array)
    return s


def _require_lengths(lengths: IndexArray, steps: int) -> None:
    if lengths.dtype != np.int64:
        raise TypeError(f"lengths: given {lengths.dtype}, expected int64")
    bad = lengths[(lengths < 0) | (lengths > steps)]
    if bad.size:
        raise ValueError(f"lengths: given {bad[0]}, expected 0 to {steps}")
