"""Array types of the reference layers, and the checks that keep NumPy from guessing.

NumPy would broadcast a state of one row over a batch, wrap index -1 to the last row and compute in
float32 when handed float32 weights. An oracle must refuse instead.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IndexArray = NDArray[np.integer[Any]]


def require_float64(name: str, array: Array) -> None:
    """Raise TypeError unless `array` is a float64 array."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        given = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name}: given {given}, expected a float64 array")


def require_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `array` has exactly this shape."""
    if array.shape != shape:
        raise ValueError(f"{name}: given shape {array.shape}, expected {shape}")


def require_rank(name: str, array: NDArray[Any], axes: str) -> None:
    """Raise ValueError unless `array` has as many axes as `axes` names, such as "N, T, D"."""
    if array.ndim != len(axes.split(",")):
        raise ValueError(f"{name}: given shape {array.shape}, expected ({axes})")


def require_indices(name: str, indices: IndexArray, size: int) -> None:
    """Raise TypeError unless integers, IndexError unless all are in 0 .. size - 1."""
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"{name}: given {indices.dtype}, expected integers")
    bad = indices[(indices < 0) | (indices >= size)]
    if bad.size:
        raise IndexError(f"{name}: given {bad[0]}, expected 0 to {size - 1}")
