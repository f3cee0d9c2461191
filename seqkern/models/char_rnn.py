"""Character model of "Dive into Deep Learning" (d2l), chapter 9: one-hot -> recurrent -> linear.

No one-hot vector is made with seqkern's layers, which take the columns of their weights by token
ids. Parameters start as torch.nn's do, which d2l's concise version leaves as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqkern.models.layers import State, linear_loss, recurrent_layer, run_layer
from seqkern.models.pretrained import Pretrained


class CharRnn(Pretrained):
    """Recurrent language model without an embedding, for small vocabularies.

    Parameters
    ----------
    vocab_size : int
        V.
    hidden_size : int
        H.
    num_layers : int
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
    backend : {"seqkern", "torch"}
        "torch" builds the same model on torch.nn's layers.

    Raises
    ------
    ValueError
        If `cell` or `backend` is unknown.

    Examples
    --------
    >>> model = CharRnn(vocab_size=28, hidden_size=16)
    >>> logits, h = model(torch.zeros(5, 2, dtype=torch.int64))
    >>> logits.shape, h.shape
    (torch.Size([5, 2, 28]), torch.Size([1, 2, 16]))
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        num_layers: int = 1,
        cell: str = "rnn",
        backend: str = "seqkern",
    ) -> None:
        super().__init__()
        self.backend = backend
        self.recurrent = recurrent_layer(cell, vocab_size, hidden_size, num_layers, backend)
        self.linear = torch.nn.Linear(hidden_size, vocab_size)

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
            Shape (T, N, V); or, with `targets`, their mean cross-entropy in nats, a scalar.
        state : State
            Recurrent state after the last step.
        """
        hidden, state = run_layer(self.recurrent, tokens, state)
        if targets is None:
            return self.linear(hidden), state
        return linear_loss(self.linear, hidden, targets, self.backend), state
