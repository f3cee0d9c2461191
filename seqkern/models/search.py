"""Greedy and beam search for the likeliest targets of a batch of sources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from seqkern.models.layers import check_sizes, evaluating
from seqkern.models.seq2seq import EncoderDecoder, Memory


class SearchResult(NamedTuple):
    """Targets found; a beam search has a dimension K more, its hypotheses, the best first.

    Attributes
    ----------
    tokens
        int64, (T, N) or (T, N, K): without the start token, with the end token where it was
        reached; -1 past it.
    scores
        float32, (N,) or (N, K). Of a greedy search: log-probabilities, in nats. Of a beam search:
        those divided by the length penalty; -inf where there are less than K hypotheses.
    lengths
        int64, (N,) or (N, K): numbers of tokens, the end token counted.
    weights
        (T, N, S) or (T, N, K, S): the attention, where the model has one; 0 past the end.
    """

    tokens: Tensor
    scores: Tensor
    lengths: Tensor
    weights: Tensor | None


def greedy_search(
    model: EncoderDecoder,
    source: Tensor,
    start: int,
    max_length: int,
    end: int | None = None,
    lengths: Tensor | None = None,
) -> SearchResult:
    """Take the likeliest token at each step.

    Parameters
    ----------
    model : EncoderDecoder
        Used without dropout; its training mode is restored.
    source : Tensor
        int64, shape (S, N).
    start : int
        Id of the start token.
    max_length : int
        Tokens of a target at most; without `end`, of every target.
    end : int, optional
        Id of the token after which a target ends.
    lengths : Tensor, optional
        int64, shape (N,), of the sources; default: S each.

    Returns
    -------
    SearchResult

    Raises
    ------
    ValueError
        If `max_length` is below 1.

    Examples
    --------
    >>> from seqkern.models import AttentionSeq2seq
    >>> result = greedy_search(AttentionSeq2seq(13), torch.randint(13, (7, 2)), 6, max_length=4)
    >>> result.tokens.shape, result.scores.shape, result.weights.shape
    (torch.Size([4, 2]), torch.Size([2]), torch.Size([4, 2, 7]))
    """
    check_sizes(max_length=max_length)
    N = source.shape[1]
    tokens = source.new_full((N,), start)
    going = torch.ones_like(tokens, dtype=torch.bool)
    scores = torch.zeros(N, device=source.device)
    state: tuple[Tensor, ...] | None = None
    chosen, attention = [], []
    with evaluating(model):
        memory = model.encode(source, lengths)
        for _ in range(max_length):
            logits, state, weights = model.decode(tokens[None], memory, state)
            best, tokens = logits[0].float().log_softmax(-1).max(-1)
            scores += best * going
            chosen.append(tokens.where(going, -1))
            if weights is not None:
                attention.append(weights[0] * going[:, None])
            if end is not None:
                going = going & (tokens != end)
                if not going.any():
                    break
    found = torch.stack(chosen)
    return SearchResult(
        found, scores, (found >= 0).sum(0), torch.stack(attention) if attention else None
    )


def beam_search(
    model: EncoderDecoder,
    source: Tensor,
    start: int,
    max_length: int,
    end: int | None = None,
    lengths: Tensor | None = None,
    beam_size: int = 5,
    length_penalty: float = 0.6,
) -> SearchResult:
    """Keep the K best hypotheses at each step.

    score(Y) = log P(Y | source) / ((5 + |Y|) / 6)^length_penalty

    where |Y| counts the tokens so far, an end token among them (Wu et al., 2016, "Google's neural
    machine translation system", equation 14, without its coverage). A hypothesis that has ended
    stays in the beam by its score; one that has not at `max_length` counts as it is.

    Parameters
    ----------
    model, source, start, max_length, end, lengths
        As of :func:`greedy_search`.
    beam_size : int
        K; 1 is a greedy search.
    length_penalty : float
        At least 0; 0 compares plain log-probabilities, which favours short targets.

    Returns
    -------
    SearchResult
        With a dimension K, the best hypothesis first.

    Raises
    ------
    ValueError
        If `max_length` or `beam_size` is below 1, or `length_penalty` negative.

    Examples
    --------
    >>> from seqkern.models import Seq2seq
    >>> result = beam_search(Seq2seq(13), torch.randint(13, (7, 2)), 6, max_length=4, beam_size=3)
    >>> result.tokens.shape, result.scores.shape
    (torch.Size([4, 2, 3]), torch.Size([2, 3]))
    """
    check_sizes(max_length=max_length, beam_size=beam_size)
    if not length_penalty >= 0:
        raise ValueError(f"length_penalty must be at least 0, got {length_penalty}")
    N, K, device = source.shape[1], beam_size, source.device
    firsts = torch.arange(N, device=device)[:, None] * K  # rows of the batch (N * K,)
    tokens = source.new_full((N * K,), start)
    count = torch.zeros(N, K, dtype=torch.int64, device=device)
    ended = torch.zeros(N, K, dtype=torch.bool, device=device)
    log_p = torch.full((N, K), -torch.inf, device=device)
    log_p[:, 0] = 0  # all begin alike: one hypothesis
    scores = log_p
    state: tuple[Tensor, ...] | None = None
    chosen = source.new_empty(0, N * K)
    attention: Tensor | None = None
    with evaluating(model):
        memory = model.encode(source, lengths)
        memory = Memory(*_rows(memory, (firsts // K).expand(N, K).flatten()))
        for _ in range(max_length):
            logits, state, weights = model.decode(tokens[None], memory, state)
            step = logits[0].float().log_softmax(-1).view(N, K, -1)
            if end is not None:  # what has ended has one continuation, itself
                step = step.masked_fill(ended[..., None], -torch.inf)
                step[..., end] = step[..., end].masked_fill(ended, 0)
            count = count + ~ended
            totals = log_p[..., None] + step
            penalised = totals / ((5 + count[..., None]) / 6) ** length_penalty
            scores, best = penalised.flatten(1).topk(K)
            log_p = totals.flatten(1).gather(1, best)
            parents, found = best // step.shape[-1], best % step.shape[-1]
            count, ended = count.gather(1, parents), ended.gather(1, parents)
            rows = (firsts + parents).flatten()
            chosen = torch.cat([chosen[:, rows], found.where(~ended, -1).view(1, -1)])
            if weights is not None:
                attention = weights if attention is None else torch.cat([attention, weights])
                attention = attention[:, rows]
            state = tuple(_rows(state, rows))
            tokens = found.flatten()
            if end is not None:
                ended = ended | (found == end)
                if ended.all():
                    break
    if attention is not None:
        attention = (attention * (chosen >= 0)[..., None]).unflatten(1, (N, K))
    return SearchResult(chosen.unflatten(1, (N, K)), scores, count, attention)


def _rows(tensors: Iterable[Tensor | None], rows: Tensor) -> list:
    """These rows of the batch, which is dimension 1."""
    return [None if tensor is None else tensor.index_select(1, rows) for tensor in tensors]
