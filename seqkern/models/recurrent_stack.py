"""Recurrent layers on top of each other, with residual connections and halves that run backward."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from seqkern.models.layers import check_sizes, recurrent_layer, run_layer

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
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
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
        check_sizes(num_layers=num_layers)
        if bidirectional and hidden_size % 2:
            raise ValueError(f"bidirectional needs an even hidden_size, got {hidden_size}")
        units = hidden_size // 2 if bidirectional else hidden_size
        self.layers = torch.nn.ModuleList(
            recurrent_layer(cell, size, units, 1, backend, bidirectional=bidirectional)
            for size in [input_size, *[hidden_size] * (num_layers - 1)]
        )
        self.dropout = torch.nn.Dropout(dropout)
        self.cell = cell
        self.residual = residual

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
            before: Any = None if state is None else tuple(s[i : i + 1] for s in state)
            if before is not None and len(before) == 1:
                (before,) = before
            output, after = run_layer(cast(torch.nn.RNNBase, layer), x, before, lengths)
            x = output + x if self.residual and i else output
            parts = (after,) if isinstance(after, Tensor) else after
            # Both directions of a state, (directions, N, units), are one of H units.
            states.append(tuple(s.transpose(0, 1).flatten(1) for s in parts))
        return x, tuple(torch.stack(s) for s in zip(*states, strict=True))
