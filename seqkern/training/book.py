"""Models saved by the code of "Deep Learning from Scratch 2": a pickled list of NumPy arrays.

Rnnlm: embed_W (V, D); Wx (D, 4H), Wh (H, 4H), b (4H) of each LSTM layer; affine_W (H, V), affine_b
(V). The book multiplies row vectors, x @ Wx, and orders the gates f, g, i, o; torch multiplies x @
weight_ih.T and orders i, f, g, o.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqkern.models import Rnnlm

_ADMITTED = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")
}


class _ArrayUnpickler(pickle.Unpickler):
    """Admits NumPy arrays and the built-in containers, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted, NumPy arrays only")
        if name == "_reconstruct":  # its module was renamed in NumPy 2: take this NumPy's
            return np.empty(0).__reduce__()[0]
        return getattr(np, name)


def load_book_arrays(path: str | Path) -> list[np.ndarray]:
    """Read a pickled list of NumPy arrays without running anything the file names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, or holds anything but a list of floating-point arrays.
    """
    try:
        with Path(path).open("rb") as file:
            arrays = _ArrayUnpickler(file).load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} is no model of the book: {error}") from error
    if not isinstance(arrays, list) or not all(
        isinstance(a, np.ndarray) and np.issubdtype(a.dtype, np.floating) for a in arrays
    ):
        raise ValueError(
            f"{path} is no model of the book: expected a list of floating-point arrays"
        )
    return arrays


def rnnlm_from_book(arrays: list[np.ndarray]) -> Rnnlm:
    """Build a float32 Rnnlm from the book's parameters.

    Parameters
    ----------
    arrays : list of ndarray
        In the book's order; see the module's description.

    Returns
    -------
    Rnnlm

    Raises
    ------
    ValueError
        If number or shapes of the arrays are not those of an LSTM language model.

    Examples
    --------
    >>> shapes = [(50, 8), (8, 64), (16, 64), (64,), (16, 50), (50,)]
    >>> model = rnnlm_from_book([np.zeros(shape, np.float16) for shape in shapes])
    >>> model.recurrent.hidden_size
    16
    """
    layers = (len(arrays) - 3) // 3
    if len(arrays) != 3 + 3 * layers or layers < 1 or any(a.ndim == 0 for a in arrays):
        raise ValueError(
            f"expected 6 arrays, or 3 more for every further LSTM layer, got {len(arrays)}"
        )
    vocab_size, embed_size = arrays[0].shape[0], arrays[0].shape[-1]
    hidden_size = arrays[2].shape[0]
    expected: list[tuple[int, ...]] = [(vocab_size, embed_size)]
    for layer in range(layers):
        inputs = hidden_size if layer else embed_size
        expected += [(inputs, 4 * hidden_size), (hidden_size, 4 * hidden_size), (4 * hidden_size,)]
    expected += [(hidden_size, vocab_size), (vocab_size,)]
    shapes = [a.shape for a in arrays]
    if shapes != expected:
        raise ValueError(
            f"arrays do not make an LSTM language model: expected shapes {expected}, got {shapes}"
        )

    tensors = [torch.from_numpy(a.astype(np.float32)) for a in arrays]
    weights = {
        "embedding.weight": tensors[0],
        "linear.weight": tensors[-2].T,
        "linear.bias": tensors[-1],
    }
    for layer in range(layers):
        w_x, w_h, bias = (_torch_gates(t) for t in tensors[1 + 3 * layer : 4 + 3 * layer])
        weights |= {
            f"recurrent.weight_ih_l{layer}": w_x.T,
            f"recurrent.weight_hh_l{layer}": w_h.T,
            f"recurrent.bias_ih_l{layer}": bias,
            f"recurrent.bias_hh_l{layer}": torch.zeros_like(bias),
        }
    model = Rnnlm(vocab_size, embed_size, hidden_size, layers)
    model.load_state_dict(weights)
    return model


def _torch_gates(parameter: Tensor) -> Tensor:
    """Reorder the last dimension from the book's f, g, i, o to torch's i, f, g, o."""
    f, g, i, o = parameter.chunk(4, dim=-1)
    return torch.cat([i, f, g, o], dim=-1)
