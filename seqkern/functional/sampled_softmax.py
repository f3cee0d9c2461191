"""The softmax loss over the target and a few candidates that stand for all other classes."""

from typing import NamedTuple

import torch
from torch import Tensor

from seqkern.functional._autograd import autocast, check_devices, transforms_active
from seqkern.functional._softmax_op import sum_dtype
from seqkern.functional.softmax import Reduction, cross_entropy


class Candidates(NamedTuple):
    """Classes that a sampler drew, for all positions of a batch.

    Attributes
    ----------
    ids
        (S,), S > 0: int64 class indices in [0, V), perhaps with repetitions.
    log_expected_count
        (S,), floating-point: the log of how often a draw like this one has each of them, on
        average; infinity takes a candidate out. None: all classes are drawn alike.
    """

    ids: Tensor
    log_expected_count: Tensor | None = None


def sampled_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    candidates: Candidates,
    bias: Tensor | None = None,
    *,
    target_log_expected_count: Tensor | None = None,
    remove_accidental_hits: bool = True,
    sparse: bool = False,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of a softmax over the target and S candidates instead of all V classes.

    Time and memory grow with S rather than V. The loss is for training: corrected by the expected
    counts, it is least where the full softmax's loss is, and its gradient approaches that of
    :func:`linear_cross_entropy` as S grows; but its value is not a likelihood of the model.

    Parameters
    ----------
    hidden
        (..., H): float32, float64, bfloat16 or float16.
    weight
        (V, H), of hidden's dtype.
    target
        (...): int64 class indices in [0, V), or ``ignore_index``.
    candidates
        The classes that stand for all others at every position; a sampler's ``draw``.
    bias
        (V,), of hidden's dtype.
    target_log_expected_count
        (...), floating-point: the log of how often the draw has each target, on average; the
        sampler's ``log_expected_count(target, S)``. Given if and only if ``candidates`` has its
        own. Values of ignored positions do not matter.
    remove_accidental_hits
        Whether a candidate that is a position's target does not count there. Right where no
        candidate counts twice; where some may, keep the hits (see the notes).
    sparse
        Whether the gradient of weight is a sparse tensor of the rows that were used. Weight must
        then be a leaf of the graph that nothing else uses densely.
    ignore_index
        The target of positions that count neither in the sum nor in the mean.
    reduction
        "none": a loss a position. "mean": over the positions that count; 0 where none does. "sum".

    Returns
    -------
    Tensor
        The loss in nats: scalar, or (...) without reduction; float64 for float64 hidden, else
        float32.

    Raises
    ------
    TypeError
        If a tensor does not have a supported dtype.
    ValueError
        If shapes or devices do not fit, only one of the expected counts is given, or an option is
        out of its range.
    IndexError
        If a target or candidate is out of range, on the CPU. On CUDA a wrong target's loss is NaN;
        a wrong candidate is a device assertion.

    Notes
    -----
    With t the target, C the candidates, Q(v) the expected count of class v in C::

        z_v = weight_v . hidden + bias_v - log Q(v)
        loss = -z_t + log(exp z_t + sum_{c in C, c != t} exp z_c)

    (Bengio and Senécal 2008; Jean et al. 2015, section 3; as TensorFlow's sampled_softmax_loss.)

    This is the posterior of the target, given the candidates and the target in no order, and so has
    the full softmax as its optimum for any S, if either the candidates are distinct, Q(v) is the
    probability of v to be among them, and hits are removed (up to how much the draws depend on each
    other); or if they are independent draws, repetitions count, and hits are kept. With repetitions
    counted and hits removed, the likeliest classes come out too likely.

    Products of half-precision tensors are summed in float32; under torch.autocast the rows that are
    used are cast, not the whole weight.

    Examples
    --------
    All classes as candidates, each once: the loss of the full softmax.

    >>> import torch, seqkern.functional as F
    >>> from seqkern.functional.sampled_softmax import Candidates, sampled_softmax_loss
    >>> hidden, weight = torch.zeros(3, 2, 4), torch.ones(10, 4)
    >>> target = torch.tensor([[1, 2], [3, -100], [0, 0]])
    >>> sampled_softmax_loss(hidden, weight, target, Candidates(torch.arange(10)))
    tensor(2.3026)
    """
    _check(hidden, weight, target, candidates, bias, target_log_expected_count)
    counts, valid = check_targets(target, weight.shape[0], ignore_index)
    _check_candidates(candidates.ids, weight.shape[0])

    # Where there is no target, the first candidate: no other row gets a gradient, be it of zeros.
    place = torch.where(valid, target, candidates.ids[0])
    ids = torch.cat([candidates.ids, place.flatten()])
    split = [candidates.ids.shape[0], target.numel()]
    rows = torch.nn.functional.embedding(ids, weight, sparse=sparse)
    hidden_cast, rows_cast = autocast((hidden, rows))
    assert hidden_cast is not None
    assert rows_cast is not None
    of_candidates, of_targets = rows_cast.split(split)
    dtype = sum_dtype(hidden_cast.dtype)

    scores = torch.nn.functional.linear(hidden_cast, of_candidates).to(dtype)
    of_targets = of_targets.unflatten(0, target.shape) if target.dim() else of_targets[0]
    true = (hidden_cast.to(dtype) * of_targets.to(dtype)).sum(-1)
    if bias is not None:
        biases = torch.nn.functional.embedding(ids, bias.unsqueeze(1)).squeeze(1).to(dtype)
        of_candidates, of_targets = biases.split(split)
        scores, true = scores + of_candidates, true + of_targets.view(target.shape)
    if candidates.log_expected_count is not None:
        assert target_log_expected_count is not None
        scores = scores - candidates.log_expected_count.to(dtype)
        true = true - torch.where(valid, target_log_expected_count.to(dtype), 0)
    if remove_accidental_hits:
        scores = scores.masked_fill(candidates.ids == place.unsqueeze(-1), -torch.inf)

    scores = torch.cat([true.unsqueeze(-1), scores], -1)
    # Class 0 is the target; what is out of range here as there is the fused loss's to refuse.
    found = torch.where(counts, torch.where(valid, 0, scores.shape[-1]), -1)
    return cross_entropy(scores, found, ignore_index=-1, reduction=reduction)


def check_targets(target: Tensor, classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Find which targets are not ignored, and which of these are classes.

    Only the CPU can look at them without waiting, and only outside of graphs that are being traced.

    Raises
    ------
    IndexError
        If one is neither a class nor ``ignore_index``, on the CPU.
    """
    counts = target != ignore_index
    valid = counts & (target >= 0) & (target < classes)
    if _may_look(target) and not torch.equal(counts, valid):
        flat = target.flatten()
        position = int((counts & ~valid).flatten().nonzero()[0])
        raise IndexError(
            f"target holds {int(flat[position])} at position {position}, "
            f"expected 0 <= target < {classes} or ignore_index = {ignore_index}"
        )
    return counts, valid


def _may_look(tensor: Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not transforms_active()
    )


def _check_candidates(ids: Tensor, classes: int) -> None:
    if _may_look(ids):
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            raise IndexError(f"candidates.ids holds {wrong}, expected 0 <= id < V = {classes}")


def _check(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    candidates: Candidates,
    bias: Tensor | None,
    target_log_expected_count: Tensor | None,
) -> None:
    ids, log_expected_count = candidates
    if not hidden.is_floating_point():
        raise TypeError(f"hidden has dtype {hidden.dtype}, expected a floating-point dtype")
    if hidden.dim() < 1:
        raise ValueError("hidden has shape [], expected (..., H)")
    width = hidden.shape[-1]
    if weight.dim() != 2 or weight.shape[0] == 0 or weight.shape[1] != width:
        raise ValueError(
            f"weight has shape {list(weight.shape)}, expected (V, {width}) = (V, H) with V > 0"
        )
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is None:
            continue
        cast = autocast((hidden[..., :0], parameter[:0]))
        if not parameter.is_floating_point() or cast[0].dtype != cast[1].dtype:  # type: ignore[union-attr]
            raise TypeError(
                f"{name} has dtype {parameter.dtype}, expected {hidden.dtype} as hidden has"
            )
    for name, indices in (("target", target), ("candidates.ids", ids)):
        if indices.dtype != torch.int64:
            raise TypeError(f"{name} has dtype {indices.dtype}, expected int64")
    if ids.dim() != 1 or ids.shape[0] == 0:
        raise ValueError(f"candidates.ids has shape {list(ids.shape)}, expected (S,) with S > 0")
    if (log_expected_count is None) != (target_log_expected_count is None):
        given = "candidates has" if target_log_expected_count is None else "only the targets have"
        raise ValueError(
            f"{given} log_expected_count, expected both it and target_log_expected_count, or none"
        )
    shapes = (
        ("target", target, hidden.shape[:-1], "hidden's without its last dimension"),
        ("bias", bias, weight.shape[:1], "(V,)"),
        ("candidates.log_expected_count", log_expected_count, ids.shape, "(S,)"),
        ("target_log_expected_count", target_log_expected_count, target.shape, "target's shape"),
    )
    for name, tensor, shape, meaning in shapes:
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, expected {list(shape)} = {meaning}"
            )
    check_devices(hidden, "hidden", weight=weight, target=target, bias=bias)
    check_devices(
        hidden,
        "hidden",
        **{
            "candidates.ids": ids,
            "candidates.log_expected_count": log_expected_count,
            "target_log_expected_count": target_log_expected_count,
        },
    )
