"""The softmax loss over time: loss and gradient in one pass over the logits."""

from typing import Any

import torch
from torch import Tensor

from seqkern.functional._autograd import (
    composite_gradients,
    create_graph_requested,
    needs_gradient,
)

_ops = torch.ops.seqkern


def time_softmax_loss(logits: Tensor, target: Tensor, ignore_index: int = -1) -> Tensor:
    """Mean cross-entropy of softmax(logits) over all positions whose target is not ``ignore_index``.

    Parameters
    ----------
    logits
        (..., V), V > 0: unnormalised log-probabilities, for example (T, N, V). float32, float64 or bfloat16 on the CPU;
        float16 besides on CUDA.
    target
        (...): int64 class indices in [0, V), or ``ignore_index``.
    ignore_index
        The target of positions that count neither in the sum nor in the mean.

    Returns
    -------
    Tensor
        Scalar, in nats: float64 for float64 logits, else float32. Where every target is ignored, or there is none, the
        loss is 0 and its gradient zero (torch.nn.functional.cross_entropy gives NaN there).

    Raises
    ------
    TypeError
        If logits are not of a supported floating-point dtype, or target is not int64.
    ValueError
        If target does not have the shape of logits without its last dimension, or is on another device.
    IndexError
        If a target is out of range, on the CPU. On CUDA the loss is then NaN, and the gradient of that row too.

    Notes
    -----
    loss = mean_r [log sum_v exp(x_rv) - x_r,target(r)]; its gradient is (softmax(x_r) - onehot(target(r))) / count, computed
    in the same call where logits require it (Goodfellow et al., Deep Learning, 6.2.2.3; the layer "TimeSoftmaxWithLoss" of
    Saito, Deep Learning from Scratch 2). Second derivatives are supported by a slower path of plain torch operations.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> F.time_softmax_loss(torch.zeros(3, 2, 10), torch.tensor([[1, 2], [3, -1], [-1, -1]]))
    tensor(2.3026)
    """
    if needs_gradient(logits):
        return _TimeSoftmaxLoss.apply(logits, target, ignore_index)  # type: ignore[no-untyped-call, no-any-return]
    return _ops.time_softmax_loss(logits, target, ignore_index, False)[0]  # type: ignore[no-any-return]


class _TimeSoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        loss, d_logits = _ops.time_softmax_loss(logits, target, ignore_index, True)
        # Logits are saved for second derivatives only.
        ctx.save_for_backward(logits, target, d_logits)
        ctx.ignore_index = ignore_index
        return loss  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        logits, target, d_logits = ctx.saved_tensors
        if create_graph_requested():
            (found,) = composite_gradients(
                lambda x: time_softmax_loss_composite(x, target, ctx.ignore_index), [logits], [d_loss]
            )
            return found, None, None
        # The usual case of loss.backward(): nothing to scale. Only the CPU can look without waiting for the device.
        if d_loss.device.type == "cpu" and not torch.compiler.is_compiling() and d_loss.item() == 1:
            return d_logits, None, None
        return d_logits * d_loss, None, None


def time_softmax_loss_composite(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """:func:`time_softmax_loss` in plain torch operations, differentiable any number of times."""
    loss_type = torch.float64 if logits.dtype == torch.float64 else torch.float32
    total = torch.nn.functional.cross_entropy(
        logits.to(loss_type).flatten(0, -2), target.flatten(), ignore_index=ignore_index, reduction="sum"
    )
    return total / (target != ignore_index).sum().clamp(min=1)


@torch.library.register_fake("seqkern::time_softmax_loss")
def _time_softmax_loss_fake(
    logits: Tensor, target: Tensor, ignore_index: int, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    sums = torch.float64 if logits.dtype == torch.float64 else torch.float32
    d_logits = logits.new_empty(logits.shape if with_gradient else (0,))
    return logits.new_empty((), dtype=sums), d_logits
