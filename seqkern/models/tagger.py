"""A label for every step of a sequence: many to many, aligned.

tokens or features -> recurrent layers in both directions -> linear
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqkern.models.layers import (
    check_lengths,
    evaluating,
    linear_loss,
    recurrent_layer,
    run_layer,
    within,
)
from seqkern.models.pretrained import Pretrained


class BiLstmTagger(Pretrained):
    """Tag of every step from the states of both directions (Graves and Schmidhuber, 2005).

    Parameters
    ----------
    vocab_size : int, optional
        V tokens; None for sequences of features, which take the place of the tokens' embeddings.
    num_tags : int
        C.
    embed_size : int
        D of the tokens' embedding, or of the features.
    hidden_size : int
        H of each direction.
    num_layers : int
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
    bidirectional : bool
        False leaves the second direction out, to see what it is worth.
    dropout : float
        Probability of dropping an element, before, between and after the recurrent layers.
    backend : str
        "seqkern", or "torch" to build the same model on torch.nn's layers.

    Raises
    ------
    ValueError
        If `cell` or `backend` is unknown.

    Examples
    --------
    >>> tokens, lengths = torch.zeros(7, 2, dtype=torch.int64), torch.tensor([7, 4])
    >>> model = BiLstmTagger(vocab_size=30, num_tags=5)
    >>> model(tokens, lengths).shape, model(tokens, lengths, tags=tokens).shape
    (torch.Size([7, 2, 5]), torch.Size([]))
    >>> model.predict(tokens, lengths)[:, 1].ge(0)
    tensor([ True,  True,  True,  True, False, False, False])

    Frames of 13 features in place of tokens:

    >>> BiLstmTagger(None, num_tags=5, embed_size=13)(torch.randn(7, 2, 13), lengths).shape
    torch.Size([7, 2, 5])
    """

    def __init__(
        self,
        vocab_size: int | None,
        num_tags: int,
        embed_size: int = 64,
        hidden_size: int = 128,
        num_layers: int = 1,
        cell: str = "lstm",
        bidirectional: bool = True,
        dropout: float = 0.0,
        backend: str = "seqkern",
    ) -> None:
        super().__init__()
        self.backend = backend
        self.embedding = None if vocab_size is None else torch.nn.Embedding(vocab_size, embed_size)
        self.recurrent = recurrent_layer(
            cell, embed_size, hidden_size, num_layers, backend, dropout, bidirectional
        )
        self.linear = torch.nn.Linear(hidden_size * (2 if bidirectional else 1), num_tags)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(
        self, input: Tensor, lengths: Tensor | None = None, tags: Tensor | None = None
    ) -> Tensor:
        """Logits of every step's tag, or their loss.

        Parameters
        ----------
        input : Tensor
            Token ids, int64, shape (T, N); or features, floating-point, shape (T, N, D).
        lengths : Tensor, optional
            int64, shape (N,), in 1 ... T; default T of each. What is past the ends has no
            influence.
        tags : Tensor, optional
            int64, shape (T, N); -1 where none is to be predicted, anything past the ends.

        Returns
        -------
        Tensor
            Logits (T, N, C); or, with `tags`, the mean cross-entropy in nats over the steps within
            the lengths, a scalar.

        Raises
        ------
        ValueError
            If the input is tokens for a model of features or the other way round, or `lengths` not
            of shape (N,).
        """
        dimensions = 3 if self.embedding is None else 2
        if input.dim() != dimensions:
            shape = "(T, N, D), features" if self.embedding is None else "(T, N), tokens"
            raise ValueError(f"input has shape {tuple(input.shape)}, expected {shape}")
        check_lengths(lengths, input)
        vectors = input if self.embedding is None else self.embedding(input)
        hidden, _ = run_layer(self.recurrent, self.dropout(vectors), lengths=lengths)
        hidden = self.dropout(hidden)
        if tags is None:
            return self.linear(hidden)
        if lengths is not None:
            tags = tags.where(within(lengths, len(tags)), -1)
        return linear_loss(self.linear, hidden, tags, self.backend)

    def predict(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Most probable tags, int64, shape (T, N); -1 past the ends.

        Without dropout; the training mode is restored.
        """
        with evaluating(self):
            tags = self(input, lengths).argmax(-1)
        return tags if lengths is None else tags.where(within(lengths, len(tags)), -1)
