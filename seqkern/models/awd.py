"""AWD-LSTM: a regularised language model after Merity, Keskar and Socher.

"Regularizing and Optimizing LSTM Language Models", 2017 (arXiv 1708.02182); "the paper" below.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from seqkern.models.layers import State, check_sizes, join_states, linear_loss, recurrent_layer
from seqkern.models.pretrained import Pretrained
from seqkern.nn.options import dropout_mask


class LockedDropout(torch.nn.Module):
    """Dropout with one mask for all steps of a sequence (Gal and Ghahramani, 2016).

    Parameters
    ----------
    p : float
        Probability of dropping a feature; what is kept is divided by 1 - p.

    Examples
    --------
    >>> dropped = LockedDropout(0.5)(torch.ones(7, 2, 3))
    >>> bool((dropped == dropped[0]).all())
    True
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """A sequence (T, N, D) of any floating-point dtype, less some features, (T, N, D)."""
        if not self.training or self.p == 0:
            return input
        return input * dropout_mask(self.p, input, *input.shape[1:])

    def extra_repr(self) -> str:
        return f"p={self.p}"


class AwdRnnlm(Pretrained):
    """Language model with dropped weights, locked dropout and activation penalties (AWD-LSTM).

    embedding -> recurrent layers -> linear, all but the last layer of H units. Dropout takes whole
    words at the embedding, elements of the recurrent weights once a call (DropConnect), and, with
    one mask for all steps, features before, between and after the layers. Evaluation has none of
    it.

    Parameters
    ----------
    vocab_size : int
        V.
    embed_size, hidden_size : int
        D and H.
    num_layers : int
        Recurrent layers.
    dropout : float
        Of the last layer's output.
    tied : bool
        Whether the linear layer uses the embedding's matrix (Press and Wolf, 2017); the last layer
        then has D units, else H.
    backend : str
        "seqkern", or "torch" to build the same model on torch.nn's layers.
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
        "rnn" has tanh.
    embedding_dropout : float
        Of words: all places of a dropped word have a zero embedding.
    input_dropout, hidden_dropout : float
        Of the first layer's input, and of the outputs of all layers but the last.
    weight_drop : float
        Of the elements of every layer's weight_hh.
    alpha, beta : float
        Factors of the penalties of `activation_penalty`.

    Raises
    ------
    ValueError
        If `backend` or `cell` is unknown, `num_layers` below 1, a dropout outside [0, 1], or a
        factor negative.

    Notes
    -----
    The default sizes, dropouts and factors are the paper's for the Penn Treebank. Parameters start
    as there: the embedding, and an untied linear layer's weight, from U(-0.1, 0.1), the linear
    layer's bias from zero, recurrent layers as torch.nn's.

    Examples
    --------
    >>> model = AwdRnnlm(vocab_size=50, embed_size=8, hidden_size=16)
    >>> logits, (h, c) = model(torch.zeros(5, 2, dtype=torch.int64))
    >>> logits.shape, h.shape
    (torch.Size([5, 2, 50]), torch.Size([1, 2, 40]))
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 400,
        hidden_size: int = 1150,
        num_layers: int = 3,
        dropout: float = 0.4,
        tied: bool = True,
        backend: str = "seqkern",
        cell: str = "lstm",
        *,
        embedding_dropout: float = 0.1,
        input_dropout: float = 0.4,
        hidden_dropout: float = 0.3,
        weight_drop: float = 0.5,
        alpha: float = 2.0,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes(num_layers=num_layers)
        for name, value in (
            ("dropout", dropout),
            ("embedding_dropout", embedding_dropout),
            ("input_dropout", input_dropout),
            ("hidden_dropout", hidden_dropout),
            ("weight_drop", weight_drop),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        self.backend = backend
        self.embedding_dropout = embedding_dropout
        self.weight_drop = weight_drop
        self.alpha, self.beta = alpha, beta
        self.embedding = torch.nn.Embedding(vocab_size, embed_size)
        last = embed_size if tied else hidden_size
        sizes = [embed_size, *[hidden_size] * (num_layers - 1), last]
        options: dict[str, Any] = {"weight_drop": weight_drop} if backend == "seqkern" else {}
        self.recurrent = torch.nn.ModuleList(
            recurrent_layer(cell, fan_in, units, backend=backend, **options)
            for fan_in, units in pairwise(sizes)
        )
        self._units = sizes[1:]
        self.linear = torch.nn.Linear(last, vocab_size)
        self.input_dropout = LockedDropout(input_dropout)
        self.hidden_dropout = LockedDropout(hidden_dropout)
        self.output_dropout = LockedDropout(dropout)
        if tied:
            self.linear.weight = self.embedding.weight
        torch.nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        if not tied:
            torch.nn.init.uniform_(self.linear.weight, -0.1, 0.1)
        torch.nn.init.zeros_(self.linear.bias)

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
            Shape (T, N, V); or, with `targets`, their mean cross-entropy in nats, a scalar. In
            training the scalar carries the gradients of the penalties too, but not their values:
            exp(loss) is always a perplexity.
        state : State
            Recurrent state after the last step: h, or the pair (h, c) of an LSTM, with the layers'
            units side by side, shape (1, N, sum of all layers' units).
        """
        hidden = self.input_dropout(self._embed(tokens))
        states = self._split(state)
        finals = []
        for index, layer in enumerate(self.recurrent):
            if index:
                hidden = self.hidden_dropout(hidden)
            hidden, final = self._run(layer, hidden, states[index])
            finals.append(final)
        dropped = self.output_dropout(hidden)
        if targets is None:
            return self.linear(dropped), join_states(finals, dim=-1)
        loss = linear_loss(self.linear, dropped, targets, self.backend)
        if self.training and (self.alpha or self.beta):
            penalty = activation_penalty(hidden, dropped, self.alpha, self.beta)
            loss = loss + (penalty - penalty.detach())
        return loss, join_states(finals, dim=-1)

    def _embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (T, N, D), zero for the words that are dropped."""
        embedded = self.embedding(tokens)
        if not self.training or self.embedding_dropout == 0:
            return embedded
        kept = dropout_mask(self.embedding_dropout, embedded, self.embedding.num_embeddings, 1)
        return embedded * kept[tokens]

    def _run(self, layer: Any, input: Tensor, state: State | None) -> tuple[Tensor, State]:
        """One layer; seqkern's drop their weights themselves."""
        if self.backend == "seqkern" or not self.training or self.weight_drop == 0:
            return layer(input, state)
        weight = torch.nn.functional.dropout(layer.weight_hh_l0, self.weight_drop)
        return torch.func.functional_call(layer, {"weight_hh_l0": weight}, (input, state))

    def _split(self, state: State | None) -> list[State | None]:
        """The state of each layer."""
        if state is None:
            return [None] * len(self._units)
        if isinstance(state, Tensor):
            return [*_parts(state, self._units)]
        h, c = (_parts(each, self._units) for each in state)
        return [*zip(h, c, strict=True)]


def activation_penalty(hidden: Tensor, dropped: Tensor, alpha: float, beta: float) -> Tensor:
    """Activation regularisation and temporal activation regularisation of the paper, section 4.5.

    alpha mean((m h_t)^2) + beta mean((h_t - h_t+1)^2): large outputs cost, and large changes do.

    Parameters
    ----------
    hidden, dropped : Tensor
        Shape (T, N, H): the last layer's output h, and what dropout's mask m leaves of it.
    alpha, beta : float

    Returns
    -------
    Tensor
        A scalar. The second term is zero for one step.

    Examples
    --------
    >>> hidden = torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
    >>> activation_penalty(hidden, hidden, alpha=2.0, beta=1.0)
    tensor(14.)
    """
    penalty = alpha * dropped.square().mean()
    if beta and len(hidden) > 1:
        penalty = penalty + beta * torch.nn.functional.mse_loss(hidden[1:], hidden[:-1])
    return penalty


def _parts(state: Tensor, units: list[int]) -> tuple[Tensor, ...]:
    if state.shape[-1] != sum(units):
        raise ValueError(
            f"state has {state.shape[-1]} units, expected {sum(units)}, the layers' {units}"
        )
    # torch.nn's layers take contiguous states only.
    return tuple(part.contiguous() for part in state.split(units, dim=-1))
