"""Recurrent language models after "Deep Learning from Scratch 2" (K. Saito), chapters 5 and 6.

embedding -> dropout -> recurrent layers, dropout between them -> dropout -> linear

Parameters start as the book's do (`seqkern.models.layers.initialise`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqkern.models.layers import State, initialise, linear_loss, recurrent_layer
from seqkern.models.pretrained import Pretrained


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
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
        "rnn" has tanh.

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
        if tied and embed_size != hidden_size:
            raise ValueError(
                f"tied needs embed_size equal to hidden_size, got {embed_size} and {hidden_size}"
            )
        self.backend = backend
        self.embedding = torch.nn.Embedding(vocab_size, embed_size)
        self.recurrent = recurrent_layer(
            cell, embed_size, hidden_size, num_layers, backend, dropout
        )
        self.linear = torch.nn.Linear(hidden_size, vocab_size)
        self.dropout = torch.nn.Dropout(dropout)
        if tied:
            self.linear.weight = self.embedding.weight
        initialise(self.recurrent, self.linear, self.embedding)

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
