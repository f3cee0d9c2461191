"""Samplers of classes, and the softmax loss of a linear layer over what they draw."""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqkern.functional import linear_cross_entropy
from seqkern.functional._softmax_op import REDUCTIONS
from seqkern.functional.columns import is_integer
from seqkern.functional.sampled_softmax import Candidates, sampled_softmax_loss
from seqkern.functional.sampling import (
    AliasTable,
    alias_table,
    draw_seed,
    sample,
    sample_distinct,
)
from seqkern.functional.softmax import Reduction


class Sampler(ABC):
    """Draws classes, each draw by the same distribution P; a subclass says which.

    Parameters
    ----------
    n_classes
        V, 0 < V < 2^31.
    unique
        Whether a class counts once however often :meth:`draw` has it: its repetitions stay, so that
        shapes do not depend on what is drawn, but their expected count is infinite, which takes
        them out of :func:`seqkern.functional.sampled_softmax_loss`.

    Notes
    -----
    The expected count of class k among S draws is S P(k); with ``unique`` it is the probability to
    be among them, 1 - (1 - P(k)) ** S.

    Classes are drawn from an alias table (:func:`seqkern.functional.sampling.alias_table`, 16 bytes
    a class), where the tensors are: it is copied to a device when it is first needed there. Nothing
    waits for the device, and the same seed gives the same draws on each.
    """

    def __init__(self, n_classes: int, unique: bool) -> None:
        self.n_classes = _positive("n_classes", n_classes)
        self.unique = unique
        self._alias: _Copies | None = None
        self._n_drawable = 0

    @abstractmethod
    def log_probability(self, ids: Tensor) -> Tensor:
        """Log P, float64, of ids in [0, V), of any shape."""

    def draw(
        self, num_sampled: int, generator: torch.Generator | None = None, device: Any = None
    ) -> Candidates:
        """Draw classes that stand for all others at every position of a batch.

        Parameters
        ----------
        num_sampled
            S > 0: the number of draws.
        generator
            Of random numbers; torch's global one if None.
        device
            Where to draw; if None, the generator's device, or torch's default.

        Returns
        -------
        Candidates
            ids (S,) int64, sorted if they are to be unique, and their log expected counts (S,)
            float64.

        Raises
        ------
        TypeError, ValueError
            If ``num_sampled`` is not an integer greater than 0.
        """
        size = _positive("num_sampled", num_sampled)
        seed = draw_seed(generator, device)
        ids = torch.ops.seqkern.sample_alias(self._table(seed.device).table, seed, size)
        if not self.unique:
            return Candidates(ids, self.log_expected_count(ids, size))
        ids = ids.sort().values
        repeated = ids.diff(prepend=torch.full_like(ids[:1], -1)) == 0
        log_expected_count = self.log_expected_count(ids, size)
        return Candidates(ids, log_expected_count.masked_fill(repeated, torch.inf))

    def negatives(
        self,
        target: Tensor,
        num_negatives: int,
        generator: torch.Generator | None = None,
        *,
        distinct: bool = True,
    ) -> Tensor:
        """Draw negatives of each target.

        Parameters
        ----------
        target
            (...): integers below V. Negative ones, such as padding, exclude nothing.
        num_negatives
            K > 0; if they are to be distinct, less than the number of classes of positive
            probability.
        generator
            Of random numbers, on target's device; torch's global one if None.
        distinct
            Whether a target's negatives are distinct and exclude it: draws without replacement from
            the other classes. Otherwise draws are independent, and may repeat or hit the target.

        Returns
        -------
        Tensor
            (..., K) int64, on target's device.

        Raises
        ------
        TypeError
            If target does not hold integers, or ``num_negatives`` is not one.
        ValueError
            If ``num_negatives`` is not as described.
        IndexError
            If negatives are to be distinct and a target is V or greater, on the CPU. On CUDA it
            excludes nothing.

        Notes
        -----
        How they are drawn: :func:`seqkern.functional.sampling.sample_distinct` and
        :func:`seqkern.functional.sampling.sample`.

        Examples
        --------
        >>> import torch
        >>> from seqkern.nn.samplers import UnigramSampler
        >>> sampler = UnigramSampler([16, 1, 1])
        >>> sampler.negatives(torch.tensor([0, 2, -100]), 2)[:2].sort().values
        tensor([[1, 2],
                [0, 1]])
        >>> sampler.negatives(torch.tensor([[0, 2]]), 5, distinct=False).shape
        torch.Size([1, 2, 5])
        """
        if not is_integer(target):
            raise TypeError(f"target has dtype {target.dtype}, expected integers")
        count = _positive("num_negatives", num_negatives)
        table = self._table(target.device)
        if not distinct:
            found = sample(table, target.numel() * count, generator)
        elif count < self._n_drawable:
            found = sample_distinct(table, target.flatten(), count, generator)
        else:
            raise ValueError(
                f"num_negatives is {count}, expected fewer than the {self._n_drawable} classes of "
                "positive probability, as they are distinct and exclude the target"
            )
        return found.view(*target.shape, count)

    def _table(self, device: torch.device) -> AliasTable:
        if self._alias is None:
            classes = torch.arange(self.n_classes, device="cpu")
            self._set_weights(self.log_probability(classes).exp())
        assert self._alias is not None
        return AliasTable(*self._alias.on(device))

    def _set_weights(self, weights: Tensor) -> None:
        """Make the table: in the constructor, where draws are to be compiled."""
        self._alias = _Copies(*alias_table(weights))
        self._n_drawable = int(weights.count_nonzero())

    def log_expected_count(self, ids: Tensor, num_sampled: int) -> Tensor:
        """Log of how often S draws have each class, on average.

        Parameters
        ----------
        ids
            (...): int64.
        num_sampled
            S > 0.

        Returns
        -------
        Tensor
            (...), float64; minus infinity for ids that are not in [0, V).
        """
        inside = (ids >= 0) & (ids < self.n_classes)
        found = self.log_probability(torch.where(inside, ids, 0))
        if self.unique:
            found = (-torch.expm1(num_sampled * torch.log1p(-found.exp()))).log()
        else:
            found = found + math.log(num_sampled)
        return torch.where(inside, found, -torch.inf)


class LogUniformSampler(Sampler):
    """Draws classes by the log-uniform (Zipfian) distribution; for classes by falling frequency.

    Parameters
    ----------
    n_classes
        V > 0.
    unique
        As of :class:`Sampler`.

    Raises
    ------
    TypeError, ValueError
        If ``n_classes`` is not an integer greater than 0.

    Notes
    -----
    P(k) = (log(k + 2) - log(k + 1)) / log(V + 1), as TensorFlow's log_uniform_candidate_sampler.

    Examples
    --------
    >>> import torch
    >>> from seqkern.nn.samplers import LogUniformSampler
    >>> sampler = LogUniformSampler(3)
    >>> sampler.log_probability(torch.arange(3)).exp()
    tensor([0.5000, 0.2925, 0.2075], dtype=torch.float64)
    >>> sampler.draw(5, torch.Generator().manual_seed(0)).ids.shape
    torch.Size([5])
    """

    def __init__(self, n_classes: int, unique: bool = True) -> None:
        super().__init__(n_classes, unique)
        self._table(torch.device("cpu"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_classes}, unique={self.unique})"

    def log_probability(self, ids: Tensor) -> Tensor:
        share = torch.log1p(1 / (ids.double() + 1))
        return share.log() - math.log(math.log1p(self.n_classes))


class UnigramSampler(Sampler):
    """Draws classes by a power of their counts.

    Parameters
    ----------
    counts
        (V,), V > 0: how often each class occurs in the data; finite, not negative, not all 0. A
        class of count 0 is never drawn, and its loss as a target is NaN.
    power
        At least 0; 0.75 is word2vec's, 1 the distribution of the data.
    unique
        As of :class:`Sampler`.

    Raises
    ------
    TypeError
        If the counts are not numbers, or power is not one.
    ValueError
        If they are not as described.

    Notes
    -----
    P(k) = counts_k ** power / sum_v counts_v ** power (Mikolov et al. 2013, section 2.2). The
    probabilities' logarithms are a float64 table beside the one that is drawn from.

    Examples
    --------
    >>> import torch
    >>> from seqkern.nn.samplers import UnigramSampler
    >>> sampler = UnigramSampler([16, 1, 0, 1])
    >>> sampler.log_probability(torch.arange(4)).exp()
    tensor([0.8000, 0.1000, 0.0000, 0.1000], dtype=torch.float64)
    >>> sampler.draw(5, torch.Generator().manual_seed(0)).ids.shape
    torch.Size([5])
    """

    def __init__(
        self, counts: Tensor | Sequence[float], power: float = 0.75, unique: bool = True
    ) -> None:
        if not isinstance(counts, Tensor):
            counts = torch.as_tensor(np.asarray(counts))  # Python's numbers as 64-bit ones
        if counts.is_complex() or counts.dtype == torch.bool:
            raise TypeError(f"counts has dtype {counts.dtype}, expected integers or floating-point")
        if counts.dim() != 1 or counts.shape[0] == 0:
            raise ValueError(f"counts has shape {list(counts.shape)}, expected (V,) with V > 0")
        counts = counts.detach().cpu().double()
        wrong = ~(counts.isfinite() & (counts >= 0))
        if wrong.any():
            position = int(wrong.nonzero()[0])
            raise ValueError(
                f"counts holds {float(counts[position])} at position {position}, "
                "expected finite counts >= 0"
            )
        if not counts.any():
            raise ValueError("counts are all 0, expected at least one greater than 0")
        if isinstance(power, bool) or not isinstance(power, (int, float)):
            raise TypeError(f"power is {power!r}, expected a number")
        if not 0 <= power < math.inf:
            raise ValueError(f"power is {power}, expected 0 <= power < infinity")
        super().__init__(counts.shape[0], unique)
        self.power = power
        weights = (counts / counts.max()) ** power
        self._log_probability = _Copies((weights / weights.sum()).log())
        self._set_weights(weights)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(n_classes={self.n_classes}, power={self.power}, "
            f"unique={self.unique})"
        )

    def log_probability(self, ids: Tensor) -> Tensor:
        return self._log_probability.on(ids.device)[0][ids]


class SampledSoftmaxLoss(nn.Module):
    """A linear layer and its softmax loss: over sampled classes in training, else over all.

    Parameters
    ----------
    in_features
        H.
    n_classes
        V.
    num_sampled
        S: how many classes a call draws, for all its positions.
    sampler
        A :class:`Sampler` of V classes; by default :class:`LogUniformSampler`, for classes by
        falling frequency.
    bias
        Whether the layer has a bias.
    sparse, ignore_index, reduction
        As in :func:`seqkern.functional.sampled_softmax_loss`. Accidental hits are removed if the
        sampler's draws are unique, as is right.

    Attributes
    ----------
    weight, bias
        (V, H) and (V,): the parameters of torch.nn.Linear(H, V), with its names and initial values.

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If a size is not greater than 0, the sampler is of another number of classes, or reduction
        is not one of the three.

    Notes
    -----
    Shapes, dtypes, errors and the equation: :func:`seqkern.functional.sampled_softmax_loss` and
    :func:`seqkern.functional.linear_cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> from seqkern.nn.samplers import SampledSoftmaxLoss
    >>> criterion = SampledSoftmaxLoss(8, 1000, num_sampled=20)
    >>> hidden, target = torch.randn(3, 2, 8), torch.tensor([[1, 2], [3, -100], [0, 999]])
    >>> criterion(hidden, target).backward()
    >>> perplexity = criterion.eval()(hidden, target).exp()
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        num_sampled: int,
        sampler: Sampler | None = None,
        bias: bool = True,
        *,
        sparse: bool = False,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = _positive("in_features", in_features)
        self.n_classes = _positive("n_classes", n_classes)
        self.num_sampled = _positive("num_sampled", num_sampled)
        if sampler is not None and sampler.n_classes != n_classes:
            raise ValueError(f"sampler is of {sampler.n_classes} classes, expected {n_classes}")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction is {reduction!r}, expected 'none', 'mean' or 'sum'")
        self.sampler: Sampler = sampler or LogUniformSampler(n_classes)
        self.sparse = sparse
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction
        self.weight = nn.Parameter(torch.empty(n_classes, in_features, device=device, dtype=dtype))
        self.bias: nn.Parameter | None
        if bias:
            self.bias = nn.Parameter(torch.empty(n_classes, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias from [-1 / sqrt(H), 1 / sqrt(H)], as torch.nn.Linear does."""
        bound = self.in_features**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, n_classes={self.n_classes}, "
            f"num_sampled={self.num_sampled}, sampler={self.sampler}, "
            f"bias={self.bias is not None}, ignore_index={self.ignore_index}, "
            f"reduction={self.reduction!r}"
        )

    def forward(
        self, hidden: Tensor, target: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        hidden
            (..., H).
        target
            (...): int64 class indices in [0, V), or ``ignore_index``.
        generator
            Of the classes drawn in training, on hidden's device; torch's global one if None.

        Returns
        -------
        Tensor
            Scalar, or (...) without reduction.
        """
        if not self.training:
            return linear_cross_entropy(
                hidden,
                self.weight,
                target,
                self.bias,
                ignore_index=self.ignore_index,
                reduction=self.reduction,
            )
        return sampled_softmax_loss(
            hidden,
            self.weight,
            target,
            self.sampler.draw(self.num_sampled, generator, hidden.device),
            self.bias,
            target_log_expected_count=self.sampler.log_expected_count(target, self.num_sampled),
            remove_accidental_hits=self.sampler.unique,
            sparse=self.sparse,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class _Copies:
    """Tensors on the CPU, and copies of them where they are needed."""

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = {torch.device("cpu"): tensors}

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        if device not in self._tensors:
            origin = self._tensors[torch.device("cpu")]
            self._tensors[device] = tuple(tensor.to(device) for tensor in origin)
        return self._tensors[device]

    def __getstate__(self) -> dict[str, Any]:
        cpu = torch.device("cpu")
        return {"_tensors": {cpu: self._tensors[cpu]}}


def _positive(name: str, value: int) -> int:
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer") from None
    if found <= 0:
        raise ValueError(f"{name} is {value}, expected {name} > 0")
    return found
