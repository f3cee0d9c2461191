"""Sequence to sequence models after "Deep Learning from Scratch 2" (K. Saito), chapters 7 and 8.

encoder: embedding -> recurrent layers
decoder: embedding -> recurrent layers, from the encoder's last h -> linear

The decoder's layers begin with h alone: the cell state of an LSTM begins at zero (Sutskever et al.,
2014, pass it on; the book does not). Where there is dropout, it is before, between and after the
recurrent layers, as in :class:`seqkern.models.Rnnlm`; so are the initial values of parameters.

Sequences are time-major. Ids of -1 are padding: they stand past the end of a target, where no token
is to be predicted, and past the end of a source whose `lengths` are given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqkern.models.attention import TimeAttention
from seqkern.models.layers import check_backend, initialise, linear_loss, within
from seqkern.models.pretrained import Pretrained
from seqkern.models.recurrent_stack import RecurrentStack, RecurrentState


class Memory(NamedTuple):
    """What a decoder knows of the source.

    Attributes
    ----------
    hidden
        (S, N, H): the encoder's output at every step.
    last
        (layers, N, H): h of the encoder's layers after their last step; (0, N, H) of an encoder
        that is not recurrent.
    mask
        bool, (S, N): true where there is a token; None where all sources have S tokens.
    """

    hidden: Tensor
    last: Tensor
    mask: Tensor | None


class Encoder(torch.nn.Module):
    """Embedding and recurrent layers.

    Parameters
    ----------
    vocab_size, embed_size, hidden_size : int
        V of the sources, D and H.
    dropout : float
        Probability of dropping an element before and between the recurrent layers.
    options
        The other arguments of :class:`RecurrentStack`.

    Examples
    --------
    >>> memory = Encoder(13, 16, 128)(torch.zeros(7, 2, dtype=torch.int64))
    >>> memory.hidden.shape, memory.last.shape
    (torch.Size([7, 2, 128]), torch.Size([1, 2, 128]))
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, embed_size)
        self.recurrent = RecurrentStack(embed_size, hidden_size, dropout=dropout, **options)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, source: Tensor, lengths: Tensor | None = None) -> Memory:
        """Read sources (S, N), of `lengths` (N,) in [1, S]; default: S each."""
        mask = None
        if lengths is not None:
            source = source.clamp(min=0)
            mask = within(lengths, source.shape[0])
        x = self.dropout(self.embedding(source))
        hidden, state = self.recurrent(x, lengths=lengths)
        return Memory(hidden, state[0], mask)


class Decoder(torch.nn.Module):
    """Embedding, recurrent layers that begin with the encoder's last h, and a linear layer.

    Parameters
    ----------
    vocab_size, embed_size, hidden_size : int
        V of the targets, D and H.
    dropout : float
        Probability of dropping an element before, between and after the recurrent layers.
    options
        The other arguments of :class:`RecurrentStack`.

    Attributes
    ----------
    linear : torch.nn.Linear
        From features to logits. Not a part of `forward`, so that a loss can take features.

    Examples
    --------
    >>> encoder, decoder = Encoder(13, 16, 128), Decoder(13, 16, 128)
    >>> memory = encoder(torch.zeros(7, 2, dtype=torch.int64))
    >>> features, state, weights = decoder(torch.zeros(4, 2, dtype=torch.int64), memory)
    >>> decoder.linear(features).shape
    torch.Size([4, 2, 13])
    """

    hidden_inputs = 0  # how many vectors of H numbers the recurrent layers take beside an embedding
    hidden_outputs = 1  # how many vectors of H numbers the linear layer takes

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        input_size = embed_size + self.hidden_inputs * hidden_size
        self.embedding = torch.nn.Embedding(vocab_size, embed_size)
        self.recurrent = RecurrentStack(input_size, hidden_size, dropout=dropout, **options)
        self.linear = torch.nn.Linear(self.hidden_outputs * hidden_size, vocab_size)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(
        self, tokens: Tensor, memory: Memory, state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState, Tensor | None]:
        """Features of every next token.

        Parameters
        ----------
        tokens : Tensor
            int64, shape (T, N); -1 is taken as 0.
        memory : Memory
            Of the sources.
        state : tuple of Tensor, optional
            What an earlier call returned, to go on from there; default: the beginning.

        Returns
        -------
        features : Tensor
            Shape (T, N, F), what the linear layer takes.
        state : tuple of Tensor
            After the last step; the batch is dimension 1.
        weights : Tensor or None
            Shape (T, N, S), of the attention, where there is one.
        """
        x = self.dropout(self.embedding(tokens.clamp(min=0)))
        if state is None:
            h = memory.last
            state = (h, torch.zeros_like(h)) if self.recurrent.cell == "lstm" else (h,)
        hidden, state = self.recurrent(self._input(x, memory), state)
        features, weights = self._features(self.dropout(hidden), memory)
        return features, state, weights

    def _input(self, x: Tensor, memory: Memory) -> Tensor:
        return x

    def _features(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None]:
        return hidden, None


class PeekyDecoder(Decoder):
    """Decoder whose recurrent and linear layers see the encoder's last h at every step.

    They take (h, embedding) and (h, hidden), joined in this order (Cho et al., 2014).

    Examples
    --------
    >>> decoder = PeekyDecoder(13, 16, 128)
    >>> decoder.recurrent.layers[0].input_size, decoder.linear.in_features
    (144, 256)
    """

    hidden_inputs = 1
    hidden_outputs = 2

    def _input(self, x: Tensor, memory: Memory) -> Tensor:
        return _peek(x, memory)

    def _features(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None]:
        return _peek(hidden, memory), None


def _peek(x: Tensor, memory: Memory) -> Tensor:
    return torch.cat([memory.last[-1].expand(x.shape[0], -1, -1), x], -1)


class AttentionDecoder(Decoder):
    """Decoder whose linear layer takes (context, hidden), joined in this order.

    The recurrent layers do not see the context, so attention is that of all steps at once.

    Examples
    --------
    >>> memory = Memory(torch.randn(7, 2, 128), torch.randn(1, 2, 128), mask=None)
    >>> decoder = AttentionDecoder(13, 16, 128)
    >>> features, _, weights = decoder(torch.zeros(4, 2, dtype=torch.int64), memory)
    >>> features.shape, weights.shape
    (torch.Size([4, 2, 256]), torch.Size([4, 2, 7]))
    """

    hidden_outputs = 2

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(vocab_size, embed_size, hidden_size, dropout, **options)
        self.attention = TimeAttention()

    def _features(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None]:
        context, weights = self.attention(hidden, memory.hidden, memory.mask)
        return torch.cat([context, hidden], -1), weights


class EncoderDecoder(Pretrained):
    """An encoder, a decoder and their loss; what search needs of a model.

    Parameters
    ----------
    encoder : torch.nn.Module
        From (source, lengths) to a Memory, as :class:`Encoder`.
    decoder : torch.nn.Module
        From (tokens, memory, state) to (features, state, weights), and its attribute `linear`, as
        :class:`Decoder`.
    backend : str
        Whose loss: "seqkern", which never holds all logits, or "torch".

    Raises
    ------
    ValueError
        If `backend` is unknown.

    Examples
    --------
    >>> encoder = Encoder(13, 16, 64, cell="gru", bidirectional=True)
    >>> model = EncoderDecoder(encoder, AttentionDecoder(20, 16, 64, cell="gru"))
    >>> model(torch.randint(13, (7, 2)), torch.randint(20, (5, 2))).shape
    torch.Size([])
    """

    encoder: Any
    decoder: Any

    def __init__(
        self, encoder: torch.nn.Module, decoder: torch.nn.Module, backend: str = "seqkern"
    ) -> None:
        super().__init__()
        check_backend(backend)
        self.encoder = encoder
        self.decoder = decoder
        self.backend = backend

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of the targets, every token given the true ones before it.

        Parameters
        ----------
        source : Tensor
            int64, shape (S, N).
        target : Tensor
            int64, shape (T, N), beginning with the start token; -1 past the end.
        lengths : Tensor, optional
            int64, shape (N,), of the sources, in [1, S]; default: S each.

        Returns
        -------
        Tensor
            A scalar, in nats.
        """
        features, _, _ = self.decoder(target[:-1], self.encode(source, lengths))
        return linear_loss(self.decoder.linear, features, target[1:], self.backend)

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> Memory:
        """What the decoder knows of sources (S, N) of `lengths` (N,)."""
        return self.encoder(source, lengths)

    def decode(
        self, tokens: Tensor, memory: Memory, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
        """Logits of every next token.

        Parameters
        ----------
        tokens : Tensor
            int64, shape (T, N).
        memory : Memory
            What `encode` returned.
        state : tuple of Tensor, optional
            What an earlier call returned, to go on from there; default: the beginning.

        Returns
        -------
        logits : Tensor
            Shape (T, N, V).
        state : tuple of Tensor
            After the last step; the batch is dimension 1.
        weights : Tensor or None
            Shape (T, N, S), of the attention, where there is one.
        """
        features, state, weights = self.decoder(tokens, memory, state)
        return self.decoder.linear(features), state, weights


class Seq2seq(EncoderDecoder):
    """Encoder and decoder, which knows the encoder's last h (Sutskever et al., 2014).

    Parameters
    ----------
    vocab_size : int
        V of the sources, and of the targets too where `target_vocab_size` is not given.
    embed_size, hidden_size : int
        D and H.
    target_vocab_size : int, optional
        V of the targets.
    num_layers : int
        Recurrent layers of the encoder, and of the decoder.
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
    dropout : float
        Probability of dropping an element before, between and after the recurrent layers.
    bidirectional : bool
        Whether half of the units of the encoder's layers run from the last step to the first.
    residual : bool
        Whether the input of every recurrent layer but the first is added to its output (Wu et al.,
        2016).
    backend : str
        "seqkern", or "torch" to build the same model on torch.nn's layers.

    Raises
    ------
    ValueError
        If `cell` or `backend` is unknown, `num_layers` below 1, or `bidirectional` and H is odd.

    Examples
    --------
    >>> model = Seq2seq(vocab_size=13)
    >>> source, target = torch.randint(13, (7, 2)), torch.randint(13, (5, 2))
    >>> loss = model(source, target)
    >>> logits, state, weights = model.decode(target[:-1], model.encode(source))
    >>> loss.shape, logits.shape
    (torch.Size([]), torch.Size([4, 2, 13]))
    """

    decoder_class: type[Decoder] = Decoder

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 16,
        hidden_size: int = 128,
        target_vocab_size: int | None = None,
        num_layers: int = 1,
        cell: str = "lstm",
        dropout: float = 0.0,
        bidirectional: bool = False,
        residual: bool = False,
        backend: str = "seqkern",
    ) -> None:
        sizes = embed_size, hidden_size, dropout
        options: dict[str, Any] = {
            "num_layers": num_layers,
            "cell": cell,
            "residual": residual,
            "backend": backend,
        }
        encoder = Encoder(vocab_size, *sizes, bidirectional=bidirectional, **options)
        target_vocab_size = vocab_size if target_vocab_size is None else target_vocab_size
        super().__init__(encoder, self.decoder_class(target_vocab_size, *sizes, **options), backend)
        initialise(self)


class PeekySeq2seq(Seq2seq):
    """Seq2seq with a :class:`PeekyDecoder`.

    Examples
    --------
    >>> PeekySeq2seq(vocab_size=13).decoder.linear
    Linear(in_features=256, out_features=13, bias=True)
    """

    decoder_class = PeekyDecoder


class AttentionSeq2seq(Seq2seq):
    """Seq2seq with an :class:`AttentionDecoder`.

    Examples
    --------
    >>> model = AttentionSeq2seq(vocab_size=13)
    >>> memory = model.encode(torch.randint(13, (7, 2)))
    >>> _, _, weights = model.decode(torch.randint(13, (4, 2)), memory)
    >>> weights.shape
    torch.Size([4, 2, 7])
    """

    decoder_class = AttentionDecoder
