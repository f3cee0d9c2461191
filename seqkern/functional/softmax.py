"""The softmax loss over time: loss and gradient in one pass over the logits."""

from typing import Any

import torch
from torch import Tensor

from seqkern.functional._autograd import (
    check_devices,
    composite_gradients,
    create_graph_requested,
    needs_gradient,
    transforms_active,
)

_ops = torch.ops.seqkern


def time_softmax_loss(logits: Tensor, target: Tensor, ignore_index: int = -1) -> Tensor:
    """Mean cross-entropy of softmax(logits) over the positions that are not ignored.

    Parameters
    ----------
    logits
        (..., V), V > 0: unnormalised log-probabilities, for example (T, N, V). float32, float64 or
        bfloat16 on the CPU; float16 besides on CUDA.
    target
        (...): int64 class indices in [0, V), or ``ignore_index``.
    ignore_index
        The target of positions that count neither in the sum nor in the mean.

    Returns
    -------
    Tensor
        Scalar, in nats: float64 for float64 logits, else float32. Where every target is ignored,
        or there is none, the loss is 0 and its gradient zero
        (torch.nn.functional.cross_entropy gives NaN there).

    Raises
    ------
    TypeError
        If logits are not of a supported floating-point dtype, or target is not int64.
    ValueError
        If target does not have the shape of logits without its last dimension, or is on another
        device.
    IndexError
        If a target is out of range, on the CPU. On CUDA the loss is then NaN, and the gradient of
        that row too.

    Notes
    -----
    loss = mean_r [log sum_v exp(x_rv) - x_r,target(r)]; its gradient is
    (softmax(x_r) - onehot(target(r))) / count, computed in the same call where logits require it
    (Goodfellow et al., Deep Learning, 6.2.2.3; the layer "TimeSoftmaxWithLoss" of Saito, Deep
    Learning from Scratch 2).

    Second derivatives, forward-mode differentiation and torch.func transforms are supported by a
    slower path of plain torch operations.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> F.time_softmax_loss(torch.zeros(3, 2, 10), torch.tensor([[1, 2], [3, -1], [-1, -1]]))
    tensor(2.3026)
    """
    if transforms_active():
        return time_softmax_loss_composite(logits, target, ignore_index)
    if needs_gradient(logits):
        return _TimeSoftmaxLoss.apply(logits, target, ignore_index)
    return _ops.time_softmax_loss(logits, target, ignore_index, False)[0]


class _TimeSoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        loss, d_logits = _ops.time_softmax_loss(logits, target, ignore_index, True)
        compiling = torch.compiler.is_compiling()
        ctx.save_for_backward(logits, target, d_logits if compiling else None)
        # Not a saved tensor: backward hands it over to autograd, to scale and keep.
        ctx.d_logits = None if compiling else d_logits
        ctx.ignore_index = ignore_index
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (d_loss,) = gradients
        logits, target, d_logits = ctx.saved_tensors
        if create_graph_requested():
            (found,) = composite_gradients(
                lambda x: time_softmax_loss_composite(x, target, ctx.ignore_index),
                [logits],
                [d_loss],
            )
            return found, None, None
        if d_logits is not None:  # compiled
            return d_logits * d_loss, None, None
        d_logits, ctx.d_logits = ctx.d_logits, None
        if d_logits is None:  # backward once more through a retained graph
            d_logits = _ops.time_softmax_loss(logits, target, ctx.ignore_index, True)[1]
        if transforms_active():
            return d_logits * d_loss, None, None
        # The usual loss.backward() needs no scaling; only the CPU can look without waiting.
        if d_loss.device.type == "cpu" and d_loss.item() == 1:
            return d_logits, None, None
        return d_logits.mul_(d_loss), None, None


def time_softmax_loss_composite(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """:func:`time_softmax_loss` in plain torch operations, differentiable any number of times."""
    loss_type = torch.float64 if logits.dtype == torch.float64 else torch.float32
    total = torch.nn.functional.cross_entropy(
        logits.to(loss_type).flatten(0, -2),
        target.flatten(),
        ignore_index=ignore_index,
        reduction="sum",
    )
    return total / (target != ignore_index).sum().clamp(min=1)


@torch.library.register_fake("seqkern::time_softmax_loss")
def _time_softmax_loss_fake(
    logits: Tensor, target: Tensor, ignore_index: int, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    check_devices(logits, "logits", target=target)
    sums = torch.float64 if logits.dtype == torch.float64 else torch.float32
    d_logits = logits.new_empty(logits.shape if with_gradient else (0,))
    return logits.new_empty((), dtype=sums), d_logits
