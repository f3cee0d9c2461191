"""Modules of negative sampling: dots with rows of a weight, and the loss upon them."""

from typing import Protocol

import torch
from torch import Tensor, nn

from seqkern.functional import embedding_dot, negative_sampling_loss
from seqkern.functional._negative_sampling_op import REDUCTIONS
from seqkern.functional.softmax import Reduction


class NegativesSampler(Protocol):
    """What a loss needs of a sampler of negatives."""

    def negatives(
        self, target: Tensor, num_negatives: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw K words for each of the targets (B,): (B, K), or (K,) for all, int64."""


class _Vectors(nn.Module):
    """A vector a word, normal with a standard deviation of 1 / sqrt(D)."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        sparse: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.sparse = sparse
        shape = (num_embeddings, embedding_dim)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight anew."""
        nn.init.normal_(self.weight, std=max(self.embedding_dim, 1) ** -0.5)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, sparse={self.sparse}"


class EmbeddingDot(_Vectors):
    """Dot products of hidden states with vectors of words.

    Parameters
    ----------
    num_embeddings, embedding_dim
        V and D.
    sparse
        Whether the gradient of weight is sparse.
    device, dtype
        Of weight.

    Attributes
    ----------
    weight : torch.nn.Parameter
        (V, D).

    Notes
    -----
    Shapes, dtypes, errors and the equation: :func:`seqkern.functional.embedding_dot`.

    Examples
    --------
    >>> import torch, seqkern
    >>> dot = seqkern.nn.EmbeddingDot(10, 4)
    >>> dot(torch.zeros(2, 4), torch.tensor([[1, 2, 3], [4, 5, 6]])).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, sparse, device, dtype)

    def forward(self, hidden: Tensor, idx: Tensor) -> Tensor:
        """Hidden states (B, D) and words, (B,) or (B, K), to products of the words' shape."""
        return embedding_dot(hidden, self.weight, idx, sparse=self.sparse)


class NegativeSamplingLoss(_Vectors):
    """Loss of telling the word that was seen from K that a sampler draws.

    Parameters
    ----------
    num_embeddings, embedding_dim
        V and D.
    sampler
        Draws the negatives where a call is given none: any object with a method
        ``negatives(target, num_negatives, generator=None)``.
    num_negatives
        K: how many it is asked for.
    reduction, sparse
        As of :func:`seqkern.functional.negative_sampling_loss`.
    device, dtype
        Of weight.

    Attributes
    ----------
    weight : torch.nn.Parameter
        (V, D): the words' vectors on the side of the output.

    Raises
    ------
    TypeError
        If the sampler has no method ``negatives``.
    ValueError
        If ``num_negatives`` is negative, or ``reduction`` is none of the three; when called: if
        there are neither negatives nor a sampler.

    Notes
    -----
    Shapes, dtypes, errors and the equation: :func:`seqkern.functional.negative_sampling_loss`.

    Examples
    --------
    >>> import torch, seqkern
    >>> loss = seqkern.nn.NegativeSamplingLoss(10, 4)
    >>> hidden, target, negatives = torch.zeros(2, 4), torch.tensor([1, 2]), torch.tensor([3, 4])
    >>> loss(hidden, target, negatives).detach()
    tensor(2.0794)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        sampler: NegativesSampler | None = None,
        num_negatives: int = 5,
        *,
        reduction: Reduction = "mean",
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if sampler is not None and not callable(getattr(sampler, "negatives", None)):
            raise TypeError(
                f"sampler is {type(sampler).__name__}, expected an object with a method negatives"
            )
        if num_negatives < 0:
            raise ValueError(f"num_negatives is {num_negatives}, expected num_negatives >= 0")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction is {reduction!r}, expected 'none', 'mean' or 'sum'")
        super().__init__(num_embeddings, embedding_dim, sparse, device, dtype)
        self.sampler = sampler
        self.num_negatives = num_negatives
        self.reduction: Reduction = reduction

    def extra_repr(self) -> str:
        options = f"num_negatives={self.num_negatives}, reduction={self.reduction!r}"
        return f"{super().extra_repr()}, {options}"

    def forward(
        self,
        hidden: Tensor,
        target: Tensor,
        negatives: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Hidden states (B, D) and targets (B,) to a scalar, or (B,).

        Parameters
        ----------
        hidden, target
            As of :func:`seqkern.functional.negative_sampling_loss`.
        negatives
            (B, K), or (K,) for all examples; None: the sampler draws them.
        generator
            Of the sampler's random numbers.
        """
        if negatives is None:
            if self.sampler is None:
                raise ValueError("negatives is None, expected a tensor where there is no sampler")
            negatives = self.sampler.negatives(target, self.num_negatives, generator=generator)
        return negative_sampling_loss(
            *(hidden, self.weight, target, negatives), reduction=self.reduction, sparse=self.sparse
        )
