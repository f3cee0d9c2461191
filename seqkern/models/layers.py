"""What the models are built of: recurrent layers of either backend, how they run and begin, a loss.

A model whose `backend` is "torch" is the same model on torch.nn's layers and losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqkern import nn
from seqkern.functional import linear_cross_entropy

BACKENDS = ("seqkern", "torch")
CELLS = ("rnn", "rnn_relu", "lstm", "gru")

State = Tensor | tuple[Tensor, Tensor]
"""h of shape (layers * directions, N, H), or the pair (h, c) of an LSTM."""


def recurrent_layer(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    backend: str = "seqkern",
    dropout: float = 0.0,
    bidirectional: bool = False,
    **options: Any,
) -> torch.nn.RNNBase:
    """A stack of recurrent layers; parameters start as torch.nn's.

    Parameters
    ----------
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
        "rnn" has tanh.
    input_size, hidden_size, num_layers : int
    backend : {"seqkern", "torch"}
    dropout : float
        Probability of dropping an element between the layers.
    bidirectional : bool
    options
        Others of the backend's layer.

    Raises
    ------
    ValueError
        If `cell` or `backend` is unknown.

    Examples
    --------
    >>> recurrent_layer("rnn_relu", 3, 5)
    RNN(3, 5)
    """
    check_backend(backend)
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
    if cell == "rnn_relu":
        options["nonlinearity"] = "relu"
    layer = getattr(nn if backend == "seqkern" else torch.nn, cell.partition("_")[0].upper())
    return layer(
        input_size,
        hidden_size,
        num_layers,
        dropout=dropout if num_layers > 1 else 0.0,  # torch warns of one that drops nothing
        bidirectional=bidirectional,
        **options,
    )


def run_layer(
    layer: torch.nn.RNNBase,
    input: Tensor,
    state: State | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Run recurrent layers over sequences, each up to its own end.

    Parameters
    ----------
    layer : torch.nn.RNNBase
        Of either backend.
    input : Tensor
        Shape (T, N, D), or token ids (T, N), which stand for one-hot vectors.
    state : State, optional
        Before the first step; default zero.
    lengths : Tensor, optional
        int64, shape (N,); default T of each. From 1 on with torch's layers, from 0 with seqkern's.

    Returns
    -------
    output : Tensor
        Shape (T, N, directions * H), zero past the ends.
    state : State
        After each sequence's last step.
    """
    if not isinstance(layer, torch.nn.RNN | torch.nn.LSTM | torch.nn.GRU):
        return layer(input, state, lengths=lengths)
    if input.dim() == 2:
        one_hot = torch.nn.functional.one_hot(input, layer.input_size)
        input = one_hot.to(next(layer.parameters()).dtype)
    if lengths is None:
        return layer(input, state)
    # torch takes the lengths on the CPU, wherever the input is.
    packed = pack_padded_sequence(input, lengths.cpu(), enforce_sorted=False)
    output, state = layer(packed, state)
    return pad_packed_sequence(output, total_length=len(input))[0], state


def last_hidden(layer: torch.nn.RNNBase, state: State) -> Tensor:
    """The top layer's h after the last step, (N, directions * H)."""
    h = state if isinstance(state, Tensor) else state[0]
    return torch.cat(h[-2:].unbind(), -1) if layer.bidirectional else h[-1]


def join_states(states: Sequence[State], dim: int) -> State:
    """States side by side: h, and c where there is one, joined along a dimension."""
    if isinstance(states[0], Tensor):
        return torch.cat([state for state in states if isinstance(state, Tensor)], dim)
    h, c = zip(*states, strict=True)
    return torch.cat(h, dim), torch.cat(c, dim)


def linear_loss(
    linear: torch.nn.Linear,
    hidden: Tensor,
    targets: Tensor,
    backend: str,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of a linear layer's logits, in nats, over the targets that are not -1.

    hidden (..., H), targets (...) int64; seqkern's backend never holds all logits.
    """
    if backend == "seqkern":
        weight, bias = linear.weight, linear.bias
        return linear_cross_entropy(
            hidden, weight, targets, bias, class_weight=class_weight, ignore_index=-1
        )
    logits = linear(hidden).flatten(0, -2)
    return torch.nn.functional.cross_entropy(
        logits, targets.flatten(), class_weight, ignore_index=-1
    )


@torch.no_grad()
def initialise(*modules: torch.nn.Module) -> None:
    """Give parameters the initial values of "Deep Learning from Scratch 2".

    Embeddings are from N(0, 0.01^2), every other weight matrix from N(0, 1 / fan_in), biases zero.
    Of torch's two biases of a recurrent layer, bias_hh stays zero and is not trained: the book has
    one, and training the sum of two doubles its learning rate.
    """
    for part in (part for module in modules for part in module.modules()):
        for name, parameter in part.named_parameters(recurse=False):
            if name.startswith("bias"):
                parameter.zero_()
                parameter.requires_grad_(not name.startswith("bias_hh"))
            elif isinstance(part, torch.nn.Embedding):
                parameter.normal_(std=0.01)
            else:
                parameter.normal_(std=parameter.shape[1] ** -0.5)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode before returns afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def within(lengths: Tensor, steps: int) -> Tensor:
    """Which of the steps (T, N) lie within the sequences' lengths (N,)."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def check_lengths(lengths: Tensor | None, input: Tensor) -> None:
    """Raise ValueError unless there is one length a sequence of (T, N, ...)."""
    if lengths is not None and lengths.shape != input.shape[1:2]:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)}, expected {tuple(input.shape[1:2])} = (N,)"
        )


def check_backend(backend: str) -> None:
    """Raise ValueError if there is no such backend."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless all are at least 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
