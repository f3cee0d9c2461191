"""Recurrent layers by name, of seqkern or torch.nn, for models that let one choose."""

from __future__ import annotations

import torch

from seqkern import nn
from seqkern.models.rnnlm import BACKENDS

CELLS = ("rnn", "rnn_relu", "lstm", "gru")


def recurrent_layer(
    cell: str, input_size: int, hidden_size: int, num_layers: int = 1, backend: str = "seqkern"
) -> torch.nn.RNNBase:
    """A stack of recurrent layers.

    Parameters
    ----------
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
        "rnn" has tanh.
    input_size, hidden_size, num_layers : int
    backend : {"seqkern", "torch"}

    Raises
    ------
    ValueError
        If `cell` or `backend` is unknown.

    Examples
    --------
    >>> recurrent_layer("rnn_relu", 3, 5)
    RNN(3, 5)
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
    package = nn if backend == "seqkern" else torch.nn
    if cell == "rnn_relu":
        return package.RNN(input_size, hidden_size, num_layers, nonlinearity="relu")
    return getattr(package, cell.upper())(input_size, hidden_size, num_layers)
