"""What the models of unequal sequences share: recurrent layers and a loss of either backend."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqkern import nn
from seqkern.functional import linear_cross_entropy

BACKENDS = ("seqkern", "torch")
CELLS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}

State = Tensor | tuple[Tensor, Tensor]
"""h of shape (layers * directions, N, H), or the pair (h, c) of an LSTM."""


def recurrent_layers(
    backend: str,
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    bidirectional: bool = False,
) -> torch.nn.RNNBase:
    """Layers of a backend, dropout between them; parameters start as torch.nn's."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
    layers = getattr(nn if backend == "seqkern" else torch.nn, CELLS[cell])
    return layers(
        input_size,
        hidden_size,
        num_layers,
        dropout=dropout if num_layers > 1 else 0.0,
        bidirectional=bidirectional,
    )


def run(
    layers: torch.nn.RNNBase, input: Tensor, lengths: Tensor | None, state: State | None = None
) -> tuple[Tensor, State]:
    """Run layers over sequences, each up to its own end.

    Parameters
    ----------
    layers : torch.nn.RNNBase
        Of either backend.
    input : Tensor
        Shape (T, N, D), or token ids (T, N), which stand for one-hot vectors.
    lengths : Tensor, optional
        int64, shape (N,); default T of each. From 1 on with torch's layers, from 0 with seqkern's.
    state : State, optional
        Before the first step; default zero.

    Returns
    -------
    output : Tensor
        Shape (T, N, directions * H), zero past the ends.
    state : State
        After each sequence's last step.
    """
    if not isinstance(layers, torch.nn.RNN | torch.nn.LSTM | torch.nn.GRU):
        return layers(input, state, lengths=lengths)
    if input.dim() == 2:
        one_hot = torch.nn.functional.one_hot(input, layers.input_size)
        input = one_hot.to(next(layers.parameters()).dtype)
    if lengths is None:
        return layers(input, state)
    # torch takes the lengths on the CPU, wherever the input is.
    packed = pack_padded_sequence(input, lengths.cpu(), enforce_sorted=False)
    output, state = layers(packed, state)
    return pad_packed_sequence(output, total_length=len(input))[0], state


def last_hidden(layers: torch.nn.RNNBase, state: State) -> Tensor:
    """The top layer's h after the last step, (N, directions * H)."""
    h = state if isinstance(state, Tensor) else state[0]
    return torch.cat(h[-2:].unbind(), -1) if layers.bidirectional else h[-1]


def linear_loss(
    backend: str,
    linear: torch.nn.Linear,
    hidden: Tensor,
    targets: Tensor,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of a linear layer's logits, in nats, over the targets that are not -1."""
    weight, bias = linear.weight, linear.bias
    if backend == "seqkern":
        return linear_cross_entropy(
            hidden, weight, targets, bias, class_weight=class_weight, ignore_index=-1
        )
    return torch.nn.functional.cross_entropy(
        linear(hidden).flatten(0, -2), targets.flatten(), class_weight, ignore_index=-1
    )


def within(lengths: Tensor, steps: int) -> Tensor:
    """Which of the steps (T, N) lie within the sequences' lengths (N,)."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def check_lengths(lengths: Tensor | None, input: Tensor) -> None:
    """Raise ValueError unless there is one length a sequence of (T, N, ...)."""
    if lengths is not None and lengths.shape != input.shape[1:2]:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)}, expected {tuple(input.shape[1:2])} = (N,)"
        )
