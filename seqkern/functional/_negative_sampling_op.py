"""The ops of negative sampling: their fake implementations, and what they stand for.

csrc/math/negative_sampling.h has the formulas.
"""

import torch
import torch.nn.functional
from torch import Tensor

from seqkern.functional._autograd import check_devices
from seqkern.functional._softmax_op import sum_dtype

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def dot_composite(hidden: Tensor, weight: Tensor, ids: Tensor, sparse: bool = False) -> Tensor:
    """The products in plain torch operations, differentiable any number of times."""
    return scores(hidden, weight, ids, sparse).to(hidden.dtype)


def scores(hidden: Tensor, weight: Tensor, ids: Tensor, sparse: bool) -> Tensor:
    """The products of hidden (B, D) with the rows of ids, (B,) or (B, K), in the dtype of sums."""
    dtype = sum_dtype(hidden.dtype)
    rows = torch.nn.functional.embedding(ids, weight, sparse=sparse).to(dtype)
    hidden = hidden.to(dtype)
    return (rows * (hidden if ids.dim() == 1 else hidden.unsqueeze(1))).sum(-1)


def mean_of_contexts(embedding: Tensor, contexts: Tensor, padding_idx: int, sparse: bool) -> Tensor:
    """The means of the rows that are not padding, in the dtype of sums; 0 where all are."""
    there = contexts != padding_idx
    # Padding stands for a row that is used anyway, if there is one: no other gets a gradient.
    used = torch.where(there, contexts, 0)
    if contexts.shape[1]:
        used = torch.where(there, contexts, used.amax(-1, keepdim=True))
    rows = torch.nn.functional.embedding(used, embedding, sparse=sparse)
    rows = torch.where(there.unsqueeze(-1), rows.to(sum_dtype(embedding.dtype)), 0)
    return rows.sum(1) / there.sum(1, keepdim=True).clamp(1)


def composite(
    source: Tensor,
    weight: Tensor,
    contexts: Tensor | None,
    padding_idx: int,
    target: Tensor,
    negatives: Tensor,
    reduction: int,
    sparse: bool = False,
) -> Tensor:
    """The loss in plain torch operations, differentiable any number of times."""
    hidden = source
    if contexts is not None:
        hidden = mean_of_contexts(source, contexts, padding_idx, sparse)
    if negatives.dim() == 1:
        negatives = negatives.expand(target.shape[0], -1)
    ids = torch.cat([target.unsqueeze(1), negatives], 1)
    found = scores(hidden, weight, ids, sparse)
    log_sigmoid = torch.nn.functional.logsigmoid
    losses = -(log_sigmoid(found[:, 0]) + log_sigmoid(-found[:, 1:]).sum(1))
    if reduction == REDUCTIONS["none"]:
        return losses
    total = losses.sum()
    return total / max(target.shape[0], 1) if reduction == REDUCTIONS["mean"] else total


def gradient_of_losses(d_loss: Tensor, examples: int, reduction: int) -> Tensor:
    """The gradients of the examples' losses (B,), of that of the reduced loss."""
    if reduction == REDUCTIONS["mean"]:
        d_loss = d_loss / max(examples, 1)
    return d_loss.expand(examples)


# --- fake implementations ------------------------------------------------------------------------


def _fake_gradient(
    wanted: bool, sparse: bool, matrix: Tensor, uses: int | torch.SymInt
) -> tuple[Tensor, Tensor]:
    """Values and rows of the gradient of a matrix."""
    no_rows = torch.empty(0, dtype=torch.int64, device=matrix.device)
    if not wanted:
        return torch.empty(0, dtype=matrix.dtype, device=matrix.device), no_rows
    if not sparse:
        return torch.empty(matrix.shape, dtype=matrix.dtype, device=matrix.device), no_rows
    return matrix.new_empty(uses, matrix.shape[1]), no_rows.new_empty(1, uses)


@torch.library.register_fake("seqkern::embedding_dot")
def _(hidden: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
    check_devices(hidden, "hidden", weight=weight, ids=ids)
    return torch.empty(ids.shape, dtype=hidden.dtype, device=hidden.device)


@torch.library.register_fake("seqkern::embedding_dot_backward")
def _(
    d_scores: Tensor, hidden: Tensor, weight: Tensor, ids: Tensor, wanted: list[bool], sparse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    d_hidden, _ = _fake_gradient(wanted[0], False, hidden, 0)
    return d_hidden, *_fake_gradient(wanted[1], sparse, weight, ids.numel())


def _fake_gradients(
    source: Tensor,
    weight: Tensor,
    contexts: Tensor | None,
    target: Tensor,
    negatives: Tensor,
    wanted: list[bool],
    sparse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    context_uses = 0 if contexts is None else contexts.numel()
    uses = target.shape[0] * (negatives.shape[-1] + 1)
    return (
        *_fake_gradient(wanted[0], sparse and contexts is not None, source, context_uses),
        *_fake_gradient(wanted[1], sparse, weight, uses),
    )


@torch.library.register_fake("seqkern::negative_sampling_loss")
def _(
    source: Tensor,
    weight: Tensor,
    contexts: Tensor | None,
    padding_idx: int,
    target: Tensor,
    negatives: Tensor,
    reduction: int,
    wanted: list[bool],
    sparse: bool,
) -> tuple[Tensor, ...]:
    others = {"weight": weight, "contexts": contexts, "target": target, "negatives": negatives}
    check_devices(source, "hidden" if contexts is None else "embedding", **others)
    shape = target.shape if reduction == REDUCTIONS["none"] else ()
    loss = torch.empty(shape, dtype=sum_dtype(source.dtype), device=source.device)
    return loss, *_fake_gradients(source, weight, contexts, target, negatives, wanted, sparse)


@torch.library.register_fake("seqkern::negative_sampling_loss_backward")
def _(
    source: Tensor,
    weight: Tensor,
    contexts: Tensor | None,
    padding_idx: int,
    target: Tensor,
    negatives: Tensor,
    d_losses: Tensor,
    wanted: list[bool],
    sparse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _fake_gradients(source, weight, contexts, target, negatives, wanted, sparse)
