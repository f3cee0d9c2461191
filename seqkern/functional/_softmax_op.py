"""The ops of the softmax loss: their options, their fake implementations, and what they stand for.

csrc/math/softmax.h has the formulas, and the meaning of a row's numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional
from torch import Tensor

from seqkern.functional._autograd import check_devices

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}

# Rows of the matrix `numbers` of the ops, and of the gradients that their backward takes.
LOSS, PEAK, LOG_SUM, TARGET, SHARE, PULL, MASS, MEAN = range(8)
NUMBERS = 8
GRADIENTS = 4  # of loss, log-probability, log-sum-exp and entropy


class Options(NamedTuple):
    """What every op takes of a loss, in the order of the schema."""

    ignore_index: int
    label_smoothing: float
    z_loss: float
    softcap: float  # 0: none
    temperature: float
    first_class: int = 0
    all_classes: int = 0  # 0: V


class Form(NamedTuple):
    """What a loss is asked for."""

    options: Options
    reduction: str
    nan_if_empty: bool
    statistics: bool


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums and of the loss."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def outputs(results: Sequence[Tensor], shape: torch.Size, form: Form) -> tuple[Tensor, ...]:
    """What a function returns of an op's first results.

    Parameters
    ----------
    results
        Loss, numbers, ranks and denominator.
    shape
        Of the positions.

    Returns
    -------
    tuple of Tensor
        The loss, and, if they are asked for, the fields of SoftmaxStatistics.
    """
    loss, numbers, ranks, denominator = results
    if form.nan_if_empty and form.reduction == "mean":
        loss = torch.where(denominator == 0, torch.nan, loss)
    if not form.statistics:
        return (loss,)
    log_sum = numbers[LOG_SUM]
    found = (
        numbers[TARGET] - numbers[SHARE] * log_sum,
        numbers[PEAK] + log_sum,
        log_sum - numbers[MEAN],
        ranks[0],
        ranks[1],
    )
    return (loss, *(of_rows.clone().view(shape) for of_rows in found))


def gradients_of_numbers(
    gradients: Sequence[Tensor | None], numbers: Tensor, denominator: Tensor, form: Form
) -> Tensor:
    """The matrix that backward ops take, of the gradients of :func:`outputs`."""
    rows = numbers.shape[1]
    found = [
        numbers.new_zeros(rows) if d is None else d.reshape(-1).to(numbers.dtype)
        for d in gradients[:GRADIENTS]
    ]
    if form.reduction == "mean":
        found[0] = torch.where(denominator == 0, 0.0, found[0] / denominator)
    found += [numbers.new_zeros(rows)] * (GRADIENTS - len(found))
    return torch.stack([d.expand(rows) for d in found])


def composite(
    logits: Tensor,
    target: Tensor,
    class_weight: Tensor | None,
    form: Form,
    like: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """:func:`outputs` in plain torch operations, differentiable any number of times.

    Probabilities are taken in the dtype of `like`, by default logits.
    """
    options = form.options
    dtype = sum_dtype(logits.dtype)
    z, weight = logits.to(dtype), None if class_weight is None else class_weight.to(dtype)
    soft = target.is_floating_point()
    like = logits if like is None else like
    q = target.to(like.dtype).to(dtype) if soft else None
    counts = (
        torch.ones_like(z[..., 0], dtype=torch.bool) if soft else target != options.ignore_index
    )
    z = torch.where(counts.unsqueeze(-1), z, 0.0)  # an ignored row may hold anything
    if options.softcap:
        z = options.softcap * torch.tanh(z / options.softcap)
    z = z / options.temperature
    log_p = torch.log_softmax(z, -1)

    def counted(of_row: Tensor) -> Tensor:
        return torch.where(counts, of_row, 0)

    if q is not None:
        log_probability = _times_log(q, log_p).sum(-1)
        of_target = _times_log(q if weight is None else q * weight, log_p).sum(-1)
        denominator = counts.sum().to(dtype)
    else:
        place = torch.where(counts, target, 0)
        log_probability = log_p.gather(-1, place.unsqueeze(-1)).squeeze(-1)
        of_place = torch.ones_like(log_probability) if weight is None else weight[place]
        of_target = of_place * log_probability
        denominator = counted(of_place).sum()
    smoothing = options.label_smoothing
    loss = -(1 - smoothing) * of_target
    if smoothing:
        spread = (log_p if weight is None else log_p * weight).sum(-1)
        loss = loss - smoothing / z.shape[-1] * spread
    log_sum_exp = torch.logsumexp(z, -1)
    if options.z_loss:
        loss = loss + options.z_loss * log_sum_exp**2
    loss = counted(loss)
    if form.reduction != "none":
        loss = loss.sum()
    if form.reduction == "mean":
        empty = denominator == 0
        of_none = torch.nan if form.nan_if_empty else 0.0
        loss = torch.where(empty, of_none, loss / torch.where(empty, 1.0, denominator))
    if not form.statistics:
        return (loss,)
    entropy = -_times_log(log_p.exp(), log_p).sum(-1)
    place = (place if q is None else q.argmax(-1)).unsqueeze(-1)
    of_place = z.gather(-1, place)
    earlier = torch.arange(z.shape[-1], device=z.device) < place
    rank = ((z > of_place) | ((z == of_place) & earlier)).sum(-1)
    return (
        loss,
        *map(counted, (log_probability, log_sum_exp, entropy)),
        torch.where(counts, rank, -1),
        torch.where(counts, z.argmax(-1), -1),
    )


def _times_log(p: Tensor, log: Tensor) -> Tensor:
    """p * log, 0 where p is."""
    return p * torch.where(p == 0, 0.0, log)


def linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Logits in the dtype of sums."""
    dtype = sum_dtype(hidden.dtype)
    bias = None if bias is None else bias.to(dtype)
    return torch.nn.functional.linear(hidden.to(dtype), weight.to(dtype), bias)


# --- fake implementations ------------------------------------------------------------------------


def _fake_results(
    like: Tensor, target: Tensor, reduction: int, statistics: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = sum_dtype(like.dtype)
    leading = like.shape[:-1]
    rows = math.prod(leading)
    return (
        like.new_empty(leading if reduction == REDUCTIONS["none"] else (), dtype=dtype),
        like.new_empty((NUMBERS, rows), dtype=dtype),
        like.new_empty((2, rows if statistics else 0), dtype=torch.int64),
        like.new_empty((), dtype=dtype),
    )


def _fake_gradient(wanted: bool, like: Tensor | None) -> Tensor:
    assert like is not None
    return torch.empty(like.shape if wanted else (0,), dtype=like.dtype, device=like.device)


@torch.library.register_fake("seqkern::scale_")
def _(tensor: Tensor, by: Tensor) -> None:
    return


@torch.library.register_fake("seqkern::softmax_loss")
def _(
    logits: Tensor,
    target: Tensor,
    class_weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
    temperature: float,
    first_class: int,
    all_classes: int,
    reduction: int,
    statistics: bool,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    check_devices(logits, "logits", target=target, **{"class weight": class_weight})
    results = _fake_results(logits, target, reduction, statistics)
    return (*results, _fake_gradient(with_gradient, logits))


@torch.library.register_fake("seqkern::softmax_loss_backward")
def _(
    logits: Tensor,
    target: Tensor,
    class_weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
    temperature: float,
    first_class: int,
    all_classes: int,
    numbers: Tensor,
    d_numbers: Tensor,
) -> Tensor:
    return _fake_gradient(True, logits)


@torch.library.register_fake("seqkern::linear_softmax_loss")
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
    temperature: float,
    first_class: int,
    all_classes: int,
    reduction: int,
    statistics: bool,
    wanted: list[bool],
    workspace: int,
) -> tuple[Tensor, ...]:
    others = {"target": target, "class weight": class_weight}
    check_devices(hidden, "hidden", weight=weight, bias=bias, **others)
    results = _fake_results(hidden, target, reduction, statistics)
    return (*results, *_fake_gradients(hidden, weight, wanted))


@torch.library.register_fake("seqkern::linear_softmax_loss_backward")
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
    temperature: float,
    first_class: int,
    all_classes: int,
    numbers: Tensor,
    d_numbers: Tensor,
    wanted: list[bool],
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_gradients(hidden, weight, wanted)


def _fake_gradients(
    hidden: Tensor, weight: Tensor, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _fake_gradient(wanted[0], hidden),
        _fake_gradient(wanted[1], weight),
        _fake_gradient(wanted[2], weight[:, 0]),
    )
