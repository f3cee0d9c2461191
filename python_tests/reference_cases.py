"""Small sizes, arguments and comparisons, shared by the tests of the reference and by others.

`recurrent_arguments` draws the arguments of any cell with any of its options, as float64 arrays by
the names that `RecurrentReference.forward` and `seqkern.functional.recurrent` share.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from reference import CELLS, TimeLSTM, TimeRNN, numerical_gradient

Array = NDArray[np.float64]

N, T, D, H, V = 3, 4, 5, 2, 6


def recurrent_params(rng: Generator, gates: int) -> tuple[Array, Array, Array]:
    """Draw Wx, Wh and b, small enough that no gate is saturated."""
    shapes = ((D, gates * H), (H, gates * H), (gates * H,))
    w_x, w_h, b = (rng.normal(scale=0.5, size=shape) for shape in shapes)
    return w_x, w_h, b


def assert_equal(actual: Iterable[Any], expected: Iterable[Any]) -> None:
    """Check that all arrays are the same in all bits."""
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def state(layer: TimeRNN | TimeLSTM) -> list[Array]:
    """Return h, or h and c."""
    arrays = [layer.h, layer.c] if isinstance(layer, TimeLSTM) else [layer.h]
    return [array for array in arrays if array is not None]


def assert_gradients(
    loss: Callable[[], float], pairs: Iterable[tuple[Array, Array]], step: float = 1e-5
) -> None:
    """Check pairs of (gradient, array), by element and as a whole, against central differences."""
    for gradient, array in [(gradient.copy(), array) for gradient, array in pairs]:
        expected = numerical_gradient(loss, array, step)
        scale = np.abs(expected).max()
        assert scale > 1e-3, "the loss does not depend on this array, so the check is empty"
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7 * scale)
        assert np.linalg.norm(gradient - expected) < 1e-7 * np.linalg.norm(expected)


# --- arguments of RecurrentReference -------------------------------------------------------------

OPTIONS = (
    "h_0",
    "c_0",
    "bias_ih",
    "bias_hh",
    "lengths",
    "resets",
    "reset_to_initial",
    "recurrent_mask",
    "zoneout_h",
    "zoneout_c",
    "weight_hr",
    "norm_hh",
    "norm_c",
    "norm_c_bias",
    "projected_input",
    "heads",
    "ids",
    "reverse",
)
PLAIN = ("h_0", "c_0", "bias_ih", "bias_hh")


def options_of(cell: str) -> tuple[str, ...]:
    """Return the options that the cell knows."""
    unknown: set[str] = set()
    if not CELLS[cell].has_cell_state:
        unknown |= {"c_0", "zoneout_c", "norm_c", "norm_c_bias", "weight_hr"}
    if CELLS[cell].reset_before:
        unknown |= {"norm_hh"}
    return tuple(option for option in OPTIONS if option not in unknown)


def recurrent_arguments(
    rng: Generator,
    cell: str,
    options: Iterable[str] = PLAIN,
    *,
    steps: int = 4,
    sequences: int = 3,
    features: int = 2,
    hidden: int = 3,
    projected: int = 2,
    heads: int = 2,
) -> dict[str, Any]:
    """Draw the arguments of one call, weights small enough that no gate is saturated.

    Parameters
    ----------
    options : names out of OPTIONS
        What to give beside the input and the weights that the cell must have. An option that the
        cell does not know is left out, so that one set of options serves all cells.
    features : int
        D; with "ids" the number of tokens.
    projected, heads : int
        R where "weight_hr" and K where "heads" is among the options.
    """
    options = set(options) & set(options_of(cell))
    T, N, H = steps, sequences, hidden
    R, K = projected if "weight_hr" in options else H, heads if "heads" in options else 1
    units, rows = K * H, K * CELLS[cell].gates * H
    state = K * R

    def weight(*shape: int) -> Array:
        return rng.normal(scale=0.5, size=shape)

    resets = rng.random((T, N)) < 0.3
    # Sequence 0: one in the middle, so that initial and final states matter in both directions.
    resets[:, :1] = (np.arange(T)[:, None] == T // 2) & (T > 2)
    drawn: dict[str, Any] = {
        "h_0": rng.normal(size=(N, state)),
        "c_0": rng.normal(size=(N, units)),
        "bias_ih": weight(rows),
        "bias_hh": weight(rows),
        # From 0 to T, in any order.
        "lengths": rng.permutation(np.arange(N, dtype=np.int64) * T // max(N - 1, 1)),
        "resets": resets,
        "reset_to_initial": True,
        "recurrent_mask": rng.uniform(0.5, 1.5, size=(N, state)),
        "zoneout_h": rng.random((T, N, units)),
        "zoneout_c": rng.random((T, N, units)),
        "weight_hr": weight(R, H),
        "norm_hh": rng.uniform(0.5, 1.5, size=rows),
        "norm_c": rng.uniform(0.5, 1.5, size=units),
        "norm_c_bias": weight(units),
        "reverse": True,
    }
    arguments = {name: value for name, value in drawn.items() if name in options}
    shape = (rows // K, R)
    arguments["weight_hh"] = weight(K, *shape) if "heads" in options else weight(*shape)
    if CELLS[cell].peepholes:
        arguments["weight_cell"] = weight(CELLS[cell].peepholes, units)
    if options & {"heads", "projected_input"}:
        return arguments | {"input": rng.normal(size=(T, N, rows))}
    ids = "ids" in options
    input = rng.integers(features, size=(T, N)) if ids else rng.normal(size=(T, N, features))
    return arguments | {"input": input, "weight_ih": weight(rows, features)}
