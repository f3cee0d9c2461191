"""Names as sequences of characters: which class is one of, and what are others like them.

NameClassifier   characters -> recurrent layers -> last state -> linear: many to one
NameGenerator    a language model of characters, from one class or vector: one to many

Both take the padded tensors of `seqkern.data.names`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqkern.models.layers import (
    State,
    check_lengths,
    check_sizes,
    evaluating,
    last_hidden,
    linear_loss,
    recurrent_layer,
    run_layer,
    within,
)
from seqkern.models.pretrained import Pretrained
from seqkern.models.sampling import check_sampling, draw


class NameClassifier(Pretrained):
    """Class of a name from the state after its last character.

    Parameters
    ----------
    vocab_size, num_classes : int
        V characters and C classes.
    embed_size : int, optional
        D of the characters' embedding; None takes one-hot vectors in its place.
    hidden_size : int
        H.
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
    num_layers : int
    bidirectional : bool
        Whether a second pass reads the name from its end; the states after both are joined.
    dropout : float
        Probability of dropping an element, before, between and after the recurrent layers; of
        one-hot vectors none is dropped.
    class_weight : Tensor, optional
        Shape (C,): a factor of each class in the loss, which is then a weighted mean.
    backend : str
        "seqkern", or "torch" to build the same model on torch.nn's layers.

    Raises
    ------
    ValueError
        If `cell` or `backend` is unknown, or `class_weight` not of shape (C,).

    Examples
    --------
    >>> model = NameClassifier(vocab_size=30, num_classes=18)
    >>> tokens, lengths = torch.zeros(7, 2, dtype=torch.int64), torch.tensor([7, 4])
    >>> model(tokens, lengths).shape, model(tokens, lengths, torch.tensor([3, 17])).shape
    (torch.Size([2, 18]), torch.Size([]))
    """

    class_weight: Tensor | None

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        embed_size: int | None = 32,
        hidden_size: int = 128,
        cell: str = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        class_weight: Tensor | None = None,
        backend: str = "seqkern",
    ) -> None:
        super().__init__()
        if class_weight is not None and class_weight.shape != (num_classes,):
            raise ValueError(
                f"class_weight has shape {tuple(class_weight.shape)}, expected ({num_classes},)"
            )
        self.backend = backend
        self.embedding = None if embed_size is None else torch.nn.Embedding(vocab_size, embed_size)
        input_size = vocab_size if embed_size is None else embed_size
        self.recurrent = recurrent_layer(
            cell, input_size, hidden_size, num_layers, backend, dropout, bidirectional
        )
        self.linear = torch.nn.Linear(hidden_size * (2 if bidirectional else 1), num_classes)
        self.dropout = torch.nn.Dropout(dropout)
        self.register_buffer("class_weight", class_weight)

    def forward(
        self, tokens: Tensor, lengths: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Logits of the classes, or their loss.

        Parameters
        ----------
        tokens : Tensor
            int64, shape (T, N).
        lengths : Tensor, optional
            int64, shape (N,), in 1 ... T; default T of each. What is past the ends has no
            influence.
        labels : Tensor, optional
            int64, shape (N,).

        Returns
        -------
        Tensor
            Logits (N, C); or, with `labels`, the mean cross-entropy in nats, a scalar.

        Raises
        ------
        ValueError
            If `lengths` is not of shape (N,).
        """
        check_lengths(lengths, tokens)
        input = tokens if self.embedding is None else self.dropout(self.embedding(tokens))
        _, state = run_layer(self.recurrent, input, lengths=lengths)
        hidden = self.dropout(last_hidden(self.recurrent, state))
        if labels is None:
            return self.linear(hidden)
        return linear_loss(self.linear, hidden, labels, self.backend, self.class_weight)


class NameGenerator(Pretrained):
    """Language model of the characters of names, of a class each if there are classes.

    A name is read after a boundary token and ends in one: as an input it is the start, as a target
    the end. Its id is V, next to the characters'.

    The condition is joined to the input of every step, and so cannot be forgotten on the way; it
    enters all kinds of cells alike.

    Parameters
    ----------
    vocab_size : int
        V characters.
    num_classes : int
        C; 0 for names without a condition.
    embed_size, condition_size, hidden_size : int
        Sizes of a character's vector, of a class's vector, and H.
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
    num_layers : int
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
    >>> model = NameGenerator(vocab_size=30, num_classes=2)
    >>> tokens, lengths = torch.zeros(7, 2, dtype=torch.int64), torch.tensor([7, 4])
    >>> model(tokens, lengths, torch.tensor([0, 1])).shape
    torch.Size([])
    >>> names, lengths = model.sample(3, torch.tensor([0, 1, 1]), max_length=9)
    >>> names.shape == (lengths.max(), 3)
    True
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int = 0,
        embed_size: int = 64,
        condition_size: int = 16,
        hidden_size: int = 256,
        cell: str = "lstm",
        num_layers: int = 1,
        dropout: float = 0.0,
        backend: str = "seqkern",
    ) -> None:
        super().__init__()
        self.backend = backend
        self.boundary = vocab_size
        self.embedding = torch.nn.Embedding(vocab_size + 1, embed_size)
        self.condition = torch.nn.Embedding(num_classes, condition_size) if num_classes else None
        input_size = embed_size + (condition_size if num_classes else 0)
        self.recurrent = recurrent_layer(
            cell, input_size, hidden_size, num_layers, backend, dropout
        )
        self.linear = torch.nn.Linear(hidden_size, vocab_size + 1)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor, condition: Tensor | None = None) -> Tensor:
        """Loss of names: of each character after those before it, and of the end.

        Parameters
        ----------
        tokens : Tensor
            int64, shape (T, N).
        lengths : Tensor
            int64, shape (N,), in 0 ... T. What is past the ends has no influence.
        condition : Tensor, optional
            int64, shape (N,): the classes; or floating-point, shape (N, condition_size): vectors.

        Returns
        -------
        Tensor
            The mean cross-entropy in nats, a scalar, over the sum of lengths + 1 characters: exp of
            it is the perplexity a character, the end being one.

        Raises
        ------
        ValueError
            If `lengths` is not of shape (N,), or there is a condition without classes or the other
            way round.
        """
        check_lengths(lengths, tokens)
        steps = len(tokens)
        start = tokens.new_full((1, tokens.shape[1]), self.boundary)
        inputs = torch.cat([start, tokens.where(within(lengths, steps), self.boundary)])
        targets = inputs.roll(-1, 0)  # the start goes to the end
        targets = targets.where(within(lengths + 1, steps + 1), -1)
        hidden, _ = self._run(inputs, lengths + 1, None, condition)
        return linear_loss(self.linear, hidden, targets, self.backend)

    def logits(
        self, tokens: Tensor, state: State | None = None, condition: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits of every next token.

        Parameters
        ----------
        tokens : Tensor
            int64, shape (T, N): characters, or the boundary before the first.
        state : State, optional
            Recurrent state before the first step; default zero.
        condition : Tensor, optional
            As of `forward`.

        Returns
        -------
        logits : Tensor
            Shape (T, N, V + 1), the boundary's last.
        state : State
            Recurrent state after the last step.
        """
        hidden, state = self._run(tokens, None, state, condition)
        return self.linear(hidden), state

    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        max_length: int = 30,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw names, character by character, the recurrent state carried.

        Parameters
        ----------
        n : int
            N: how many.
        condition : Tensor, optional
            As of `forward`.
        temperature : float
            Divides the logits; 0 takes the most probable character.
        top_k : int, optional
            Draw from the k most probable characters only.
        top_p : float
            Draw from the fewest characters whose probabilities add up to this, after `temperature`
            and `top_k`.
        max_length : int
            Where a name without an end is cut.
        generator : torch.Generator, optional
            On any device: a CPU generator makes the same random numbers for all devices.

        Returns
        -------
        tokens : Tensor
            int64, shape (T, N): T the greatest length; 0 after a name's end.
        lengths : Tensor
            int64, shape (N,), in 0 ... max_length; without the end.

        Raises
        ------
        ValueError
            If an argument is out of range, or the condition not of N rows or not as of `forward`.

        Notes
        -----
        Without dropout; the training mode is restored.
        """
        check_sampling(temperature, top_k, top_p)
        check_sizes(n=n, max_length=max_length)
        token = torch.full((n,), self.boundary, device=self.linear.weight.device)
        lengths = torch.zeros_like(token)
        ended = torch.zeros_like(token, dtype=torch.bool)
        names: list[Tensor] = []
        state: State | None = None
        with evaluating(self):
            while len(names) < max_length:
                logits, state = self.logits(token[None], state, condition)
                token = draw(logits[0], temperature, top_k, top_p, generator)
                ended |= token == self.boundary
                if ended.all():
                    break
                lengths += ~ended
                names.append(token.where(~ended, 0))
        return torch.stack(names) if names else token.new_empty(0, n), lengths

    def _run(
        self, tokens: Tensor, lengths: Tensor | None, state: State | None, condition: Tensor | None
    ) -> tuple[Tensor, State]:
        input = self.embedding(tokens)
        if (condition is None) != (self.condition is None):
            given, expected = ("none", "one") if condition is None else ("one", "none")
            raise ValueError(
                f"condition: got {given}, expected {expected} of a model "
                f"{'without' if self.condition is None else 'with'} classes"
            )
        if self.condition is not None and condition is not None:
            if len(condition) != tokens.shape[1]:
                raise ValueError(
                    f"condition is of {len(condition)} names, expected {tokens.shape[1]}"
                )
            vectors = condition if condition.is_floating_point() else self.condition(condition)
            input = torch.cat([input, vectors.expand(len(tokens), -1, -1)], -1)
        hidden, state = run_layer(self.recurrent, self.dropout(input), state, lengths)
        return self.dropout(hidden), state
