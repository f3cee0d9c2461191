"""Recurrent language models after "Deep Learning from Scratch 2" (K. Saito), chapters 5 and 6.

embedding -> dropout -> recurrent layers, dropout between them -> dropout -> linear

Parameters start as the book's do: the embedding from N(0, 0.01^2), every other weight matrix from
N(0, 1 / fan_in), biases from zero. Of torch's two biases of a recurrent layer, bias_hh stays zero
and is not trained: the book has one, and training the sum of two doubles its learning rate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqkern import nn
from seqkern.functional import linear_cross_entropy
from seqkern.models.pretrained import Pretrained

State = Tensor | tuple[Tensor, Tensor]
"""h of shape (layers, N, H), or the pair (h, c) of an LSTM."""

BACKENDS = ("seqkern", "torch")
CELLS = ("lstm", "gru", "rnn")


def recurrent_class(cell: str, backend: str) -> Callable[..., torch.nn.RNNBase]:
    """The recurrent layer of a cell on a backend; ValueError if either is unknown."""
    for name, value, known in (("backend", backend, BACKENDS), ("cell", cell, CELLS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return getattr(nn if backend == "seqkern" else torch.nn, cell.upper())


def linear_loss(linear: torch.nn.Linear, hidden: Tensor, targets: Tensor, backend: str) -> Tensor:
    """Mean cross-entropy of a linear layer's logits over the targets that are not -1.

    hidden (T, N, H), targets (T, N) int64; seqkern's backend never holds all logits.
    """
    if backend == "seqkern":
        return linear_cross_entropy(hidden, linear.weight, targets, linear.bias, ignore_index=-1)
    logits = linear(hidden).flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=-1)


class Rnnlm(Pretrained):
    """Recurrent language model.

    Parameters
    ----------
    vocab_size : int
        V.
    embed_size, hidden_size : int
        D and H.
    num_layers : int
        Recurrent layers.
    dropout : float
        Probability of dropping an element, before, between and after the recurrent layers.
    tied : bool
        Whether the linear layer uses the embedding's matrix (Press and Wolf, 2017); needs D = H.
    backend : str
        "seqkern", or "torch" to build the same model on torch.nn's layers.
    cell : str
        "lstm", "gru" or "rnn" (tanh).

    Raises
    ------
    ValueError
        If `backend` or `cell` is unknown, or `tied` and D differs from H.

    Examples
    --------
    >>> model = Rnnlm(vocab_size=50, embed_size=8, hidden_size=16)
    >>> logits, (h, c) = model(torch.zeros(5, 2, dtype=torch.int64))
    >>> logits.shape, h.shape
    (torch.Size([5, 2, 50]), torch.Size([1, 2, 16]))
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 100,
        hidden_size: int = 100,
        num_layers: int = 1,
        dropout: float = 0.0,
        tied: bool = False,
        backend: str = "seqkern",
        cell: str = "lstm",
    ) -> None:
        super().__init__()
        layer = recurrent_class(cell, backend)
        if tied and embed_size != hidden_size:
            raise ValueError(
                f"tied needs embed_size equal to hidden_size, got {embed_size} and {hidden_size}"
            )
        self.backend = backend
        self.embedding = torch.nn.Embedding(vocab_size, embed_size)
        self.recurrent = layer(
            embed_size, hidden_size, num_layers, dropout=dropout if num_layers > 1 else 0.0
        )
        self.linear = torch.nn.Linear(hidden_size, vocab_size)
        self.dropout = torch.nn.Dropout(dropout)
        if tied:
            self.linear.weight = self.embedding.weight
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        for name, parameter in (
            *self.recurrent.named_parameters(),
            *self.linear.named_parameters(),
        ):
            if name.startswith("bias"):
                parameter.zero_()
                parameter.requires_grad_(not name.startswith("bias_hh"))
            else:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
        self.embedding.weight.normal_(std=0.01)

    def forward(
        self, tokens: Tensor, state: State | None = None, targets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits of every next token, or their loss.

        Parameters
        ----------
        tokens : Tensor
            int64, shape (T, N).
        state : State, optional
            Recurrent state before the first step; default zero.
        targets : Tensor, optional
            int64, shape (T, N): the next tokens; -1 where none is to be predicted.

        Returns
        -------
        logits : Tensor
            Shape (T, N, V); or, with `targets`, their mean cross-entropy in nats, a scalar, for
            which seqkern's backend never holds all logits.
        state : State
            Recurrent state after the last step.
        """
        hidden, state = self.recurrent(self.dropout(self.embedding(tokens)), state)
        hidden = self.dropout(hidden)
        if targets is None:
            return self.linear(hidden), state
        return linear_loss(self.linear, hidden, targets, self.backend), state


class BetterRnnlm(Rnnlm):
    """Rnnlm with two layers, dropout and tied weights (Zaremba et al., 2014).

    Examples
    --------
    >>> model = BetterRnnlm(vocab_size=50, embed_size=8, hidden_size=8)
    >>> model.linear.weight is model.embedding.weight
    True
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 650,
        hidden_size: int = 650,
        num_layers: int = 2,
        dropout: float = 0.5,
        tied: bool = True,
        backend: str = "seqkern",
        cell: str = "lstm",
    ) -> None:
        sizes = vocab_size, embed_size, hidden_size, num_layers
        super().__init__(*sizes, dropout, tied, backend, cell)


class SimpleRnnlm(Rnnlm):
    """Rnnlm with a tanh RNN for the LSTM.

    Examples
    --------
    >>> model = SimpleRnnlm(vocab_size=50)
    >>> logits, h = model(torch.zeros(5, 2, dtype=torch.int64))
    >>> h.shape
    torch.Size([1, 2, 100])
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 100,
        hidden_size: int = 100,
        num_layers: int = 1,
        dropout: float = 0.0,
        tied: bool = False,
        backend: str = "seqkern",
        cell: str = "rnn",
    ) -> None:
        sizes = vocab_size, embed_size, hidden_size, num_layers
        super().__init__(*sizes, dropout, tied, backend, cell)


MODELS: dict[str, type[Rnnlm]] = {
    "simple-rnnlm": SimpleRnnlm,
    "rnnlm": Rnnlm,
    "better-rnnlm": BetterRnnlm,
}
"""Model classes by the names of the presets."""
