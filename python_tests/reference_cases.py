"""Small sizes, parameters and comparisons, shared by the tests of the reference layers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from reference import TimeLSTM, TimeRNN

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
