"""torch.nn.AdaptiveLogSoftmaxWithLoss on the fused softmax loss."""

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.adaptive import _ASMoutput

from seqkern.functional import linear_cross_entropy
from seqkern.functional._softmax_op import REDUCTIONS
from seqkern.functional.sampled_softmax import check_targets
from seqkern.functional.softmax import Reduction


class AdaptiveLogSoftmaxWithLoss(nn.AdaptiveLogSoftmaxWithLoss):
    """torch.nn.AdaptiveLogSoftmaxWithLoss that never holds all logits of the head or of a cluster.

    Parameters, ``state_dict``, ``log_prob`` and ``predict`` are torch's. Besides, positions may be
    ignored, the loss may have another reduction, and input may have any number of dimensions.

    Parameters
    ----------
    in_features
        H.
    n_classes
        V. Classes are sorted by falling frequency.
    cutoffs
        Increasing integers between 1 and V - 1: the first class of each cluster.
    div_value
        Cluster i = 1, 2, ... has a hidden layer of H // div_value ** i features.
    head_bias
        Whether the head has a bias.
    ignore_index
        The target of positions that count neither in the sum nor in the mean.
    reduction
        "none": a loss a position. "mean": over the positions that count; 0 where none does. "sum".
    static_shapes
        Whether every cluster is computed for all positions, so that no shape depends on the
        targets, as torch.compile(fullgraph=True) and CUDA graphs need, and every parameter has a
        gradient. Else each is computed for its own positions only, which on CUDA waits for the
        device, as torch's module does; parameters of a cluster without positions have none.

    Raises
    ------
    TypeError
        If a cutoff is not an integer.
    ValueError
        If the cutoffs or reduction are not as described, or a size is not greater than 0.

    Notes
    -----
    With h the head, c(t) the cluster of a target t that is not in the head, and h_c(t) its class
    in the head::

        log p(t) = log softmax(h)_t                                      in the head
        log p(t) = log softmax(h)_h_c(t) + log softmax(tail_c(t))_t      else

    (Grave et al. 2017, section 4.) Losses are computed by
    :func:`seqkern.functional.linear_cross_entropy`, and with them the gradients of ``loss``, but
    for the reduction "none"; gradients of ``output`` compute the logits again.

    Examples
    --------
    >>> import torch
    >>> from seqkern.nn.adaptive_softmax import AdaptiveLogSoftmaxWithLoss
    >>> criterion = AdaptiveLogSoftmaxWithLoss(16, 100, cutoffs=[10, 50])
    >>> target = torch.tensor([[1, 12], [99, -100]])
    >>> output, loss = criterion(torch.randn(2, 2, 16), target)
    >>> loss.backward()
    >>> output.shape, output[1, 1].item()
    (torch.Size([2, 2]), 0.0)
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        static_shapes: bool = False,
    ) -> None:
        cutoffs = _check_sizes(in_features, n_classes, cutoffs, div_value)
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction is {reduction!r}, expected 'none', 'mean' or 'sum'")
        super().__init__(in_features, n_classes, cutoffs, div_value, head_bias, device, dtype)
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction
        self.static_shapes = static_shapes

    def extra_repr(self) -> str:
        return (
            f"n_classes={self.n_classes}, cutoffs={self.cutoffs[:-1]}, "
            f"ignore_index={self.ignore_index}, reduction={self.reduction!r}, "
            f"static_shapes={self.static_shapes}"
        )

    def forward(self, input_: Tensor, target_: Tensor) -> _ASMoutput:
        """Compute log-probabilities and loss.

        Parameters
        ----------
        input_
            (..., H), of the parameters' dtype.
        target_
            (...): int64 class indices in [0, V), or ``ignore_index``.

        Returns
        -------
        output : Tensor
            (...): the log-probability of each target in nats, 0 where it is ignored; float64 for
            float64 input, else float32. Differentiable.
        loss : Tensor
            Scalar, or (...) without reduction; of the same dtype.

        Raises
        ------
        TypeError
            If a tensor does not have a supported dtype.
        ValueError
            If shapes or devices do not fit.
        IndexError
            If a target is out of range, on the CPU. On CUDA its log-probability is then NaN.
        """
        if input_.dim() < 1 or input_.shape[-1] != self.in_features:
            raise ValueError(
                f"input has shape {list(input_.shape)}, "
                f"expected (..., {self.in_features}) = (..., H)"
            )
        if target_.dtype != torch.int64:
            raise TypeError(f"target has dtype {target_.dtype}, expected int64")
        if target_.shape != input_.shape[:-1]:
            raise ValueError(
                f"target has shape {list(target_.shape)}, expected {list(input_.shape[:-1])} = "
                "input's without its last dimension"
            )
        input, target = input_.reshape(-1, self.in_features), target_.reshape(-1)
        counts, valid = check_targets(target, self.n_classes, self.ignore_index)

        bounds = list(pairwise(self.cutoffs))
        members = [valid & (target >= low) & (target < high) for low, high in bounds]
        # What is no class is none of the head either: the fused loss has to refuse it.
        of_head = torch.where(valid, target, self.head_size)
        for cluster, member in enumerate(members):
            of_head = torch.where(member, self.shortlist_size + cluster, of_head)
        loss, output = self._sum(input, self.head, torch.where(counts, of_head, -1))
        for (low, _), member, tail in zip(bounds, members, self.tail, strict=True):
            project, classes = tail.children()
            if self.static_shapes:
                relative = torch.where(member, target - low, -1)
                of_cluster, log_probability = self._sum(project(input), classes, relative)
                output = output + log_probability
            else:
                rows = member.nonzero().squeeze(1)
                if rows.shape[0] == 0:
                    continue
                hidden = project(input.index_select(0, rows))
                relative = target.index_select(0, rows) - low
                of_cluster, log_probability = self._sum(hidden, classes, relative)
                output = output.index_add(0, rows, log_probability)
            loss = loss + of_cluster
        output = output.view(target_.shape)
        if self.reduction == "none":
            loss = 0 - output
        elif self.reduction == "mean":
            loss = loss / counts.sum().clamp(min=1)
        return _ASMoutput(output, loss)

    def _sum(self, hidden: Tensor, layer: Any, target: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of a softmax's losses, and the log-probability of each target."""
        # Without reduction, the loss is made of the output: no gradient with forward.
        loss, statistics = linear_cross_entropy(
            hidden,
            layer.weight,
            target,
            layer.bias,
            ignore_index=-1,
            reduction="none" if self.reduction == "none" else "sum",
            statistics=True,
        )
        return loss.sum(), statistics.log_probability


def _check_sizes(
    in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float
) -> list[int]:
    for name, value in (("in_features", in_features), ("div_value", div_value)):
        if not value > 0:
            raise ValueError(f"{name} is {value}, expected {name} > 0")
    try:
        found = [operator.index(cutoff) for cutoff in cutoffs]
    except TypeError:
        raise TypeError(f"cutoffs is {cutoffs!r}, expected a sequence of integers") from None
    bounds = [0, *found, n_classes]
    if not found or any(low >= high for low, high in pairwise(bounds)):
        raise ValueError(
            f"cutoffs is {found}, expected at least one, increasing, between 1 and "
            f"n_classes - 1 = {n_classes - 1}"
        )
    return found
