"""The softmax loss of a vocabulary that is split over processes.

Each process holds the logits, or the rows of the last linear layer's weight, of its own classes.
Forward: the processes gather the sums of each other's part of a row, and merge them. Backward: each
computes the gradient of its own classes; that of hidden states is summed over the processes.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from seqkern.functional._autograd import create_graph_requested, needs_gradient
from seqkern.functional._softmax_op import (
    LOG_SUM,
    LOSS,
    MASS,
    MEAN,
    PEAK,
    PULL,
    REDUCTIONS,
    SHARE,
    TARGET,
    Form,
    gradients_of_numbers,
    outputs,
)

_ops = torch.ops.seqkern


class VocabularyShard(NamedTuple):
    """The classes of a vocabulary that this process holds.

    Attributes
    ----------
    begin, end
        They are [begin, end): those of the logits, or of the weight's rows, at hand.
    classes
        The size of the whole vocabulary.
    group
        The processes that hold it together; None: all of torch.distributed's.

    Examples
    --------
    On each process, which holds ``weight[shard.begin:shard.end]`` and all hidden states::

        shard = VocabularyShard.of_rank(classes)
        loss = linear_cross_entropy(hidden, weight_here, target, shard=shard)
    """

    begin: int
    end: int
    classes: int
    group: dist.ProcessGroup | None = None

    @classmethod
    def of_rank(cls, classes: int, group: dist.ProcessGroup | None = None) -> "VocabularyShard":
        """The share of this process where all hold equally many classes, or one more.

        Parameters
        ----------
        classes
            The size of the whole vocabulary.
        group
            The processes that hold it together; None: all.
        """
        rank, ranks = dist.get_rank(group), dist.get_world_size(group)
        return cls(classes * rank // ranks, classes * (rank + 1) // ranks, classes, group)


def cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None, form: Form, shard: VocabularyShard
) -> tuple[Any, ...]:
    """As softmax.cross_entropy, with a shard; target and loss are the same on all processes."""
    form = _form_here(form, shard, logits.shape[-1], "logits", weight)
    return _without_ranks(_SoftmaxLoss.apply(logits, target, weight, form, shard))


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    form: Form,
    workspace: int,
    shard: VocabularyShard,
) -> tuple[Any, ...]:
    """As softmax.linear_cross_entropy; hidden, too, is the same on all processes."""
    form = _form_here(form, shard, weight.shape[0], "weight", class_weight)
    arguments = (hidden, weight, bias, target, class_weight, form, workspace, shard)
    return _without_ranks(_LinearSoftmaxLoss.apply(*arguments))


def _form_here(
    form: Form, shard: VocabularyShard, classes: int, name: str, class_weight: Tensor | None
) -> Form:
    if needs_gradient(class_weight):
        raise NotImplementedError("class weights have no gradient over a split vocabulary")
    if classes != shard.end - shard.begin:
        raise ValueError(
            f"{name} has {classes} classes, expected {shard.end - shard.begin} as the shard "
            f"[{shard.begin}, {shard.end}) has"
        )
    options = form.options._replace(first_class=shard.begin, all_classes=shard.classes)
    return form._replace(options=options)


def _without_ranks(found: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return found if len(found) == 1 else (*found[:4], None, found[5])


def _gathered(tensor: Tensor, shard: VocabularyShard) -> Tensor:
    """That of all processes, along a new first dimension."""
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(shard.group))]
    dist.all_gather(parts, tensor.contiguous(), shard.group)
    return torch.stack(parts)


def _merged(
    numbers: Tensor,
    ranks: Tensor,
    target: Tensor,
    weight: Tensor | None,
    form: Form,
    shard: VocabularyShard,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, numbers, ranks and denominator of all shards, merged as csrc/math/softmax.h says."""
    parts = _gathered(numbers, shard)  # [processes, numbers, R]
    peaks = parts[:, PEAK]
    peak = peaks.amax(0)
    merged = torch.zeros_like(numbers)
    shift = torch.where(peaks.isneginf(), 0.0, peaks) - torch.where(peak.isneginf(), 0.0, peak)
    log_sums = parts[:, LOG_SUM] + shift
    merged[PEAK] = peak
    merged[LOG_SUM] = torch.logsumexp(log_sums, 0)
    shares = torch.exp(log_sums - merged[LOG_SUM])
    merged[MEAN] = torch.where(shares == 0, 0.0, shares * (parts[:, MEAN] + shift)).sum(0)
    for of, by in ((TARGET, SHARE), (PULL, MASS)):
        merged[of] = (parts[:, of] + parts[:, by] * shift).sum(0)
        merged[by] = parts[:, by].sum(0)
    counts = target.flatten() != form.options.ignore_index
    log_sum_exp = peak + merged[LOG_SUM]
    loss = merged[MASS] * merged[LOG_SUM] - merged[PULL]
    if form.options.z_loss:
        loss = loss + form.options.z_loss * log_sum_exp**2
    merged = torch.where(counts, merged, 0.0)
    merged[LOSS] = loss = torch.where(counts, loss, 0.0)

    denominator = counts.sum().to(numbers.dtype)
    if weight is not None:
        place = target.flatten() - shard.begin
        here = counts & (place >= 0) & (place < len(weight))
        of_place = weight.to(numbers.dtype)[torch.where(here, place, 0)]
        denominator = torch.where(here, of_place, 0.0).sum()
        dist.all_reduce(denominator, group=shard.group)
    loss = loss.view(target.shape).clone() if form.reduction == "none" else loss.sum()
    if form.reduction == "mean":
        loss = torch.where(denominator == 0, 0.0, loss / denominator)
    if form.statistics:
        of_process = peaks.argmax(0)  # the first one: the classes of processes are in order
        best = _gathered(ranks[1], shard).gather(0, of_process.unsqueeze(0)).squeeze(0)
        ranks = torch.stack([torch.full_like(best, -1), best])
    return loss, merged, ranks, denominator


def _refuse_second_derivatives() -> None:
    if create_graph_requested():
        raise NotImplementedError("a loss over a split vocabulary has no second derivative")


class _SoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        form: Form,
        shard: VocabularyShard,
    ) -> tuple[Tensor, ...]:
        results = _ops.softmax_loss(
            logits, target, weight, *form.options, REDUCTIONS["none"], form.statistics, False
        )
        results = _merged(results[1], results[2], target, weight, form, shard)
        ctx.save_for_backward(logits, target, weight, results[1], results[3])
        ctx.form = form
        found = outputs(results, logits.shape[:-1], form)
        ctx.mark_non_differentiable(*found[4:])
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        logits, target, weight, numbers, denominator = ctx.saved_tensors
        d_numbers = gradients_of_numbers(gradients, numbers, denominator, ctx.form)
        d_logits = _ops.softmax_loss_backward(
            logits, target, weight, *ctx.form.options, numbers, d_numbers
        )
        return d_logits, None, None, None, None


class _LinearSoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        class_weight: Tensor | None,
        form: Form,
        workspace: int,
        shard: VocabularyShard,
    ) -> tuple[Tensor, ...]:
        tensors = (hidden, weight, bias, target, class_weight)
        options = (*form.options, REDUCTIONS["none"], form.statistics, [False] * 3, workspace)
        results = _ops.linear_softmax_loss(*tensors, *options)
        results = _merged(results[1], results[2], target, class_weight, form, shard)
        ctx.save_for_backward(*tensors, results[1], results[3])
        ctx.form, ctx.workspace, ctx.shard = form, workspace, shard
        found = outputs(results, hidden.shape[:-1], form)
        ctx.mark_non_differentiable(*found[4:])
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        *tensors, numbers, denominator = ctx.saved_tensors
        d_numbers = gradients_of_numbers(gradients, numbers, denominator, ctx.form)
        wanted = list(ctx.needs_input_grad[:3])
        d = _ops.linear_softmax_loss_backward(
            *tensors, *ctx.form.options, numbers, d_numbers, wanted, ctx.workspace
        )
        if wanted[0]:
            dist.all_reduce(d[0], group=ctx.shard.group)
        return *(g if of else None for g, of in zip(d, wanted, strict=True)), *(None,) * 5
