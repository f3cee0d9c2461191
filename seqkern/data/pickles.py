"""Pickles of NumPy arrays, read without running anything that they name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

# What makes arrays is taken from this NumPy: in NumPy 2 its modules were renamed.
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
for _core in ("core", "_core"):
    _ADMITTED[f"numpy.{_core}.multiarray", "_reconstruct"] = np.empty(0).__reduce__()[0]
    _ADMITTED[f"numpy.{_core}.numeric", "_frombuffer"] = np.empty(1).__reduce_ex__(5)[0]


class _ArrayUnpickler(pickle.Unpickler):
    """Admits NumPy arrays, numbers, strings and the built-in containers, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted, NumPy arrays only")
        return _ADMITTED[module, name]


def load_array_pickle(path: str | Path) -> Any:
    """Read NumPy arrays, numbers and strings, in lists, tuples and dicts, from a pickle.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, or names anything else.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "arrays.pkl"
    >>> _ = path.write_bytes(pickle.dumps([np.ones(2)]))
    >>> load_array_pickle(path)
    [array([1., 1.])]
    """
    try:
        with Path(path).open("rb") as file:
            return _ArrayUnpickler(file).load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} is not a pickle of arrays: {error}") from error
