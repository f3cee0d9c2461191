"""Recurrent layers on top of each other, with residual connections and halves that run backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkern import nn
from seqkern.models.rnnlm import BACKENDS

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}

RecurrentState = tuple[Tensor, ...]
"""(h,), or (h, c) of LSTM layers; both of shape (layers, N, H)."""


class RecurrentStack(torch.nn.Module):
    """Recurrent layers of one size on top of each other.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    num_layers : int
        Layers.
    cell : str
        "lstm", "gru" or "rnn".
    dropout : float
        Probability of dropping an element between layers.
    bidirectional : bool
        Whether half of the H units of each layer run from the last step to the first.
    residual : bool
        Whether the input of every layer but the first is added to its output: x_{l+1} = f_l(x_l) +
        x_l (Wu et al., 2016, "Google's neural machine translation system", equation 6).
    backend : str
        "seqkern", or "torch" to build the same layers of torch.nn.

    Attributes
    ----------
    layers : torch.nn.ModuleList
        Layers of `seqkern.nn` or `torch.nn`, of one layer each.

    Raises
    ------
    ValueError
        If `cell` or `backend` is unknown, `num_layers` below 1, or `bidirectional` and H is odd.

    Examples
    --------
    >>> stack = RecurrentStack(3, 8, num_layers=2, bidirectional=True)
    >>> output, (h, c) = stack(torch.randn(5, 2, 3))
    >>> output.shape, h.shape
    (torch.Size([5, 2, 8]), torch.Size([2, 2, 8]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        dropout: float = 0.0,
        bidirectional: bool = False,
        residual: bool = False,
        backend: str = "seqkern",
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if bidirectional and hidden_size % 2:
            raise ValueError(f"bidirectional needs an even hidden_size, got {hidden_size}")
        make: Any = getattr(nn if backend == "seqkern" else torch.nn, CELLS[cell])
        units = hidden_size // 2 if bidirectional else hidden_size
        self.layers = torch.nn.ModuleList(
            make(hidden_size if i else input_size, units, bidirectional=bidirectional)
            for i in range(num_layers)
        )
        self.dropout = torch.nn.Dropout(dropout)
        self.cell = cell
        self.residual = residual
        self.backend = backend

    def forward(
        self, x: Tensor, state: RecurrentState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Run the layers.

        Parameters
        ----------
        x : Tensor
            Shape (T, N, D).
        state : tuple of Tensor, optional
            (h,) or (h, c), each of shape (layers, N, H), before the first step; default zero. Not
            for bidirectional layers.
        lengths : Tensor, optional
            int64, shape (N,), in [1, T]: the steps of each sequence.

        Returns
        -------
        output : Tensor
            Shape (T, N, H), of the last layer; zero past the end of a sequence.
        state : tuple of Tensor
            After the last step of each sequence.
        """
        states = []
        for i, layer in enumerate(self.layers):
            if i:
                x = self.dropout(x)
            before = None if state is None else tuple(s[i : i + 1] for s in state)
            output, after = self._run(layer, x, before, lengths)
            x = output + x if self.residual and i else output
            # Both directions of a state, (directions, N, units), are one of H units.
            states.append(tuple(s.transpose(0, 1).flatten(1) for s in after))
        return x, tuple(torch.stack(s) for s in zip(*states, strict=True))

    def _run(
        self, layer: Any, x: Tensor, state: RecurrentState | None, lengths: Tensor | None
    ) -> tuple[Tensor, RecurrentState]:
        single = self.cell != "lstm"
        hx = state[0] if state is not None and single else state
        if self.backend == "seqkern":
            output, after = layer(x, hx, lengths=lengths)
        elif lengths is None:
            output, after = layer(x, hx)
        else:
            rnn = torch.nn.utils.rnn  # takes lengths on the CPU alone
            packed = rnn.pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
            output, after = layer(packed, hx)
            output, _ = rnn.pad_packed_sequence(output, total_length=len(x))
        return output, (after,) if single else after
