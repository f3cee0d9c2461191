"""n-gram language model with add-k smoothing, counted in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkern.models.layers import check_sizes

Ids = NDArray[np.int64]


class NgramModel:
    """Probability of a token after the n - 1 before it, from counts.

    P(w | context) = (count(context w) + k) / (count(context) + k V), where count(context) is the
    number of tokens that follow the context in the text (add-k, or Lidstone, smoothing: Manning and
    Schütze 1999, section 6.2). A context that the text does not have makes all tokens equally
    probable. With a `prior`, the k V that are added in all are spread as that model of shorter
    n-grams has it: (count(context w) + k V P_prior(w)) / (count(context) + k V), interpolation with
    weights that follow from the counts (MacKay and Peto 1995).

    Parameters
    ----------
    tokens : Tensor
        int64, shape (length,): the text to count.
    vocab_size : int
        V.
    n : int
        Tokens of an n-gram; 1 for a unigram model.
    k : float
        Added to every count, positive. An attribute: set it anew to try another without counting.
    prior : NgramModel, optional
        Of no longer n-grams and the same vocabulary.

    Attributes
    ----------
    counts : ndarray
        int64, shape (distinct n-grams,): how often each occurs.

    Raises
    ------
    ValueError
        If `vocab_size` or `n` is below 1, `k` not positive, `tokens` not 1-D int64 or shorter than
        n, or `prior` of longer n-grams or another vocabulary.
    IndexError
        If a token is outside 0 ... V - 1.

    Notes
    -----
    n-grams are numbered level by level: one of m tokens is the pair of the number of its first
    m - 1 tokens and its last token, as one integer, so n is bounded by nothing but the text.

    Examples
    --------
    >>> model = NgramModel(torch.tensor([0, 1, 0, 1, 0, 2]), vocab_size=3, n=2, k=1.0)
    >>> model.probabilities([0])
    tensor([0.1667, 0.5000, 0.3333], dtype=torch.float64)
    >>> round(model.perplexity(torch.tensor([0, 1, 0, 1])), 4)
    1.8821
    """

    def __init__(
        self,
        tokens: Tensor,
        vocab_size: int,
        n: int = 3,
        k: float = 1.0,
        prior: NgramModel | None = None,
    ) -> None:
        check_sizes(vocab_size=vocab_size, n=n)
        if not 0 < k < math.inf:
            raise ValueError(f"k must be positive and finite, got {k}")
        if prior is not None and (prior.n > n or prior.vocab_size != vocab_size):
            raise ValueError(
                f"prior must have n up to {n} and vocab_size {vocab_size}, "
                f"got {prior.n} and {prior.vocab_size}"
            )
        self.vocab_size: int = vocab_size
        self.n: int = n
        self.k: float = k
        self.prior: NgramModel | None = prior
        ids = self._check(tokens)
        # Of each level, the sorted pairs: number of the n-gram one shorter * V + last token.
        self._levels: list[Ids] = []
        number = np.zeros(1, dtype=np.int64)
        for column in _columns(ids, n):
            level, number = np.unique(number * vocab_size + column, return_inverse=True)
            self._levels.append(level)
        self.counts: Ids = np.bincount(number)
        self._context_counts = np.bincount(self._levels[-1] // vocab_size, self.counts)

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """Log-probability of every token that has n - 1 tokens before it.

        Parameters
        ----------
        tokens : Tensor
            int64, shape (length,).

        Returns
        -------
        Tensor
            float64, shape (length - n + 1,), on the CPU, in nats.

        Raises
        ------
        ValueError, IndexError
            As the constructor, for `tokens`.
        """
        ids = self._check(tokens)
        return torch.from_numpy(np.log(self._probabilities(_columns(ids, self.n))))

    def perplexity(self, tokens: Tensor) -> float:
        """exp(-mean log-probability) of the tokens that have n - 1 tokens before them."""
        return math.exp(-self.log_probabilities(tokens).mean().item())

    def probabilities(self, context: Sequence[int]) -> Tensor:
        """Probability of every token after a context.

        Parameters
        ----------
        context : sequence of int
            At least n - 1 token ids, of which the last n - 1 count.

        Returns
        -------
        Tensor
            float64, shape (V,), on the CPU; the sum is 1.

        Raises
        ------
        ValueError
            If the context is too short.
        IndexError
            If a token is outside 0 ... V - 1.
        """
        if len(context) < self.n - 1:
            raise ValueError(f"context must hold at least {self.n - 1} tokens, got {len(context)}")
        ids = torch.tensor([*context[len(context) - self.n + 1 :], 0], dtype=torch.int64)
        *last, _ = _columns(self._check(ids), self.n)
        return torch.from_numpy(self._probabilities([*last, np.arange(self.vocab_size)]))

    def sample(
        self, prompt: Sequence[int], length: int, generator: torch.Generator | None = None
    ) -> list[int]:
        """Continue a prompt by drawing one token after another.

        Parameters
        ----------
        prompt : sequence of int
            At least n - 1 token ids.
        length : int
            Tokens to draw.
        generator : torch.Generator, optional
            A CPU generator, for samples that repeat.

        Returns
        -------
        list of int
            The `length` new ids, without the prompt.

        Raises
        ------
        ValueError
            If the prompt is too short or `length` negative.
        IndexError
            If a token is outside 0 ... V - 1.
        """
        if length < 0:
            raise ValueError(f"length must be at least 0, got {length}")
        ids = list(prompt)
        for _ in range(length):
            probabilities = self.probabilities(ids)
            ids.append(int(torch.multinomial(probabilities, 1, generator=generator)))
        return ids[len(prompt) :]

    def _probabilities(self, columns: Sequence[Ids]) -> NDArray[np.float64]:
        """Of the n-grams whose m-th tokens are the m-th column; columns of length 1 broadcast."""
        number = np.zeros(1, dtype=np.int64)
        for level, column in zip(self._levels, columns, strict=True):
            context = number
            pairs = np.where(context < 0, -1, context * self.vocab_size + column)
            place = np.minimum(np.searchsorted(level, pairs), len(level) - 1)
            number = np.where(level[place] == pairs, place, -1)
        # The zero at the end is the count of what was not found, which has number -1.
        counts = np.append(self.counts, 0)[number]
        totals = np.append(self._context_counts, 0)[context]
        added = self.k * self.vocab_size
        if self.prior is None:
            return (counts + self.k) / (totals + added)
        prior = self.prior._probabilities(columns[self.n - self.prior.n :])
        return (counts + added * prior) / (totals + added)

    def _check(self, tokens: Tensor) -> Ids:
        if tokens.dim() != 1 or tokens.dtype != torch.int64:
            shape = tuple(tokens.shape)
            raise ValueError(f"tokens must be int64 of shape (length,), got {tokens.dtype} {shape}")
        if len(tokens) < self.n:
            raise ValueError(f"text too short: {len(tokens)} tokens, but n is {self.n}")
        ids = tokens.cpu().numpy()
        wrong = ids[(ids < 0) | (ids >= self.vocab_size)]
        if len(wrong):
            raise IndexError(f"token {wrong[0]} is outside a vocabulary of {self.vocab_size:,}")
        return ids


def _columns(ids: Ids, n: int) -> list[Ids]:
    """The first, second, ..., n-th tokens of all n-grams of a text."""
    return [ids[m : len(ids) - n + 1 + m] for m in range(n)]
