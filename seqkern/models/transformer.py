"""Transformer on torch's own layers, for comparison with the recurrent models."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seqkern.models.layers import within
from seqkern.models.seq2seq import EncoderDecoder, Memory


class TransformerSeq2seq(EncoderDecoder):
    """Transformer with encoder and decoder (Vaswani et al., 2017, "Attention is all you need").

    Layers are `torch.nn.TransformerEncoderLayer` and `torch.nn.TransformerDecoderLayer`. Matrices
    start from the uniform distribution of Glorot and Bengio (2010), embeddings from N(0, 1 / D).

    Parameters
    ----------
    vocab_size : int
        V of the sources, and of the targets too where `target_vocab_size` is not given.
    embed_size : int
        D, size of embeddings and of all layers' outputs; even.
    target_vocab_size : int, optional
        V of the targets.
    num_layers, num_heads, feedforward_size : int
        Layers of the encoder, and of the decoder; their heads; units of their feed-forward parts.
    dropout : float
        Probability of dropping an element of the embeddings, and within the layers.
    backend : str
        Whose loss of the last linear layer: "seqkern" or "torch".

    Raises
    ------
    ValueError
        If D is not even or no multiple of `num_heads`, or `backend` is unknown.

    Notes
    -----
    Search keeps the tokens so far for a state, and runs the decoder over all of them at each step.

    Examples
    --------
    >>> model = TransformerSeq2seq(vocab_size=13, embed_size=32)
    >>> source, target = torch.randint(13, (7, 2)), torch.randint(13, (5, 2))
    >>> logits, _, _ = model.decode(target[:-1], model.encode(source))
    >>> model(source, target).shape, logits.shape
    (torch.Size([]), torch.Size([4, 2, 13]))
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 128,
        target_vocab_size: int | None = None,
        num_layers: int = 2,
        num_heads: int = 4,
        feedforward_size: int = 512,
        dropout: float = 0.1,
        backend: str = "seqkern",
    ) -> None:
        if embed_size % 2 or embed_size % num_heads:
            raise ValueError(
                f"embed_size must be even and a multiple of num_heads {num_heads}, got {embed_size}"
            )
        sizes = embed_size, num_layers, num_heads, feedforward_size, dropout
        target_vocab_size = vocab_size if target_vocab_size is None else target_vocab_size
        encoder = _TransformerEncoder(vocab_size, *sizes)
        super().__init__(encoder, _TransformerDecoder(target_vocab_size, *sizes), backend)
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                torch.nn.init.normal_(parameter, std=embed_size**-0.5)
            elif parameter.dim() > 1:
                torch.nn.init.xavier_uniform_(parameter)


class _Embedding(torch.nn.Module):
    """Embeddings with positions added, and dropout."""

    def __init__(self, vocab_size: int, embed_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, embed_size)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (T, N) to (T, N, D)."""
        size = self.embedding.embedding_dim
        x = self.embedding(tokens) * math.sqrt(size)
        return self.dropout(x + _positions(len(tokens), size, x))


def _positions(steps: int, size: int, like: Tensor) -> Tensor:
    """Encodings of positions, (T, 1, D): sin(t w_i), then cos(t w_i), w_i = 10000^(-2 i / D)."""
    exponents = torch.arange(0, size, 2, device=like.device) / size
    angles = torch.arange(steps, device=like.device)[:, None] * 10000.0**-exponents
    return torch.cat([angles.sin(), angles.cos()], -1)[:, None].to(like.dtype)


class _TransformerEncoder(torch.nn.Module):
    def __init__(
        self, vocab_size: int, size: int, layers: int, heads: int, units: int, dropout: float
    ) -> None:
        super().__init__()
        self.embed = _Embedding(vocab_size, size, dropout)
        layer = torch.nn.TransformerEncoderLayer(size, heads, units, dropout)
        self.layers = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, source: Tensor, lengths: Tensor | None = None) -> Memory:
        mask = None
        if lengths is not None:
            source = source.clamp(min=0)
            mask = within(lengths, source.shape[0])
        hidden = self.layers(self.embed(source), src_key_padding_mask=_ignored(mask))
        return Memory(hidden, hidden[:0], mask)


class _TransformerDecoder(torch.nn.Module):
    def __init__(
        self, vocab_size: int, size: int, layers: int, heads: int, units: int, dropout: float
    ) -> None:
        super().__init__()
        self.embed = _Embedding(vocab_size, size, dropout)
        layer = torch.nn.TransformerDecoderLayer(size, heads, units, dropout)
        self.layers = torch.nn.TransformerDecoder(layer, layers)
        self.linear = torch.nn.Linear(size, vocab_size)

    def forward(
        self, tokens: Tensor, memory: Memory, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...], None]:
        new = len(tokens)
        tokens = tokens.clamp(min=0)
        if state is not None:
            tokens = torch.cat([state[0], tokens])
        steps = len(tokens)
        future = torch.ones(steps, steps, dtype=torch.bool, device=tokens.device).triu(1)
        features = self.layers(
            self.embed(tokens),
            memory.hidden,
            tgt_mask=future,
            tgt_is_causal=True,  # else torch looks at the mask's values, and so waits for a GPU
            memory_key_padding_mask=_ignored(memory.mask),
        )
        return features[steps - new :], (tokens,), None


def _ignored(mask: Tensor | None) -> Tensor | None:
    """The mask of a Memory as torch's layers take it: (N, S), true where there is no token."""
    return None if mask is None else ~mask.T
