"""Dots of hidden states with rows of a weight, and the loss of negative sampling upon them."""

from typing import Any

import torch
from torch import Tensor

from seqkern._build_info import extension
from seqkern.functional._autograd import (
    autocast_enabled,
    composite_gradients,
    create_graph_requested,
    needs_gradient,
    transforms_active,
    without_autocast,
)
from seqkern.functional._negative_sampling_op import (
    REDUCTIONS,
    composite,
    dot_composite,
    gradient_of_losses,
)
from seqkern.functional.softmax import Reduction

_ops = torch.ops.seqkern
_NONE_WANTED = [False, False]


def embedding_dot(hidden: Tensor, weight: Tensor, idx: Tensor, *, sparse: bool = False) -> Tensor:
    """Dot products of hidden states with rows of a weight, which are gathered nowhere.

    Parameters
    ----------
    hidden
        (B, D): float32, float64, bfloat16 or float16.
    weight
        (V, D), of hidden's dtype.
    idx
        (B,) or (B, K): int64 rows of weight in [0, V), for each example.
    sparse
        Whether the gradient of weight is a sparse tensor (COO, not coalesced) of the rows that were
        used, as that of torch.nn.functional.embedding.

    Returns
    -------
    Tensor
        (B,) or (B, K), of hidden's dtype; summed in float32, or float64 for float64.

    Raises
    ------
    TypeError
        If a tensor does not have a supported dtype.
    ValueError
        If shapes or devices do not fit.
    IndexError
        If a row is out of range, on the CPU. On CUDA its product is NaN, and it gets no gradient.

    Notes
    -----
    out[b, k] = hidden[b] . weight[idx[b, k]]

    Under torch.autocast, hidden is taken in the dtype of weight: V rows are not cast for the few
    that are used.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> F.embedding_dot(torch.tensor([[2.0, 3.0]]), weight, torch.tensor([[0, 2, 2]]))
    tensor([[2., 5., 5.]])
    """
    if torch._C._is_any_autocast_enabled():
        hidden = _in_dtype_of(weight, hidden)
    if transforms_active():
        return dot_composite(hidden, weight, idx)
    if sparse and torch.compiler.is_compiling():  # which knows no sparse tensors but torch's own
        return dot_composite(hidden, weight, idx, sparse)
    if needs_gradient(hidden, weight):
        return _EmbeddingDot.apply(hidden, weight, idx, sparse)
    return _ops.embedding_dot(hidden, weight, idx)


def negative_sampling_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    *,
    reduction: Reduction = "mean",
    sparse: bool = False,
) -> Tensor:
    """Loss of telling the word that was seen from K others, in one pass: rows, loss and gradients.

    Parameters
    ----------
    hidden
        (B, D): float32, float64, bfloat16 or float16. An example a row.
    weight
        (V, D), of hidden's dtype: a vector a word.
    target
        (B,): int64 words in [0, V) that were seen.
    negatives
        (B, K), or (K,) for all examples: int64 words in [0, V) that were drawn; K may be 0.
    reduction
        "none": a loss an example. "mean": over the B examples (0 where there are none), as the
        losses of torch.nn default to. "sum".
    sparse
        Whether the gradient of weight is a sparse tensor (COO, not coalesced) of the rows that were
        used, as that of torch.nn.functional.embedding. It then costs nothing of the order of V.

    Returns
    -------
    Tensor
        The loss in nats: scalar, or (B,) without reduction; float64 for float64 hidden, else
        float32.

    Raises
    ------
    TypeError
        If a tensor does not have a supported dtype.
    ValueError
        If shapes or devices do not fit, or ``reduction`` is none of the three.
    IndexError
        If a word is out of range, on the CPU. On CUDA its example's loss and the gradient of its
        hidden state are then NaN, and weight gets nothing of that example.

    Notes
    -----
    With h the hidden state, w the vectors, t the target and n_1 to n_K the negatives, an example's
    loss is the sum of K + 1 binary cross-entropies::

        loss = -log sigmoid(w_t . h) - sum_k log sigmoid(-w_{n_k} . h)

    (Mikolov et al. 2013, "Distributed representations of words and phrases and their
    compositionality", equation 4.)

    The gradients are computed with the loss, and backward hands them over; without reduction, in
    float16, or in a second backward through a retained graph it computes them anew. Sums are taken
    in float32 (float64 for float64) and in a fixed order: results do not change from run to run.

    Under torch.autocast, hidden is taken in the dtype of weight: V rows are not cast for the few
    that are used.

    Second derivatives, forward-mode differentiation and torch.func transforms are supported by a
    slower path of plain torch operations.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> hidden, weight = torch.zeros(2, 4), torch.ones(10, 4)
    >>> F.negative_sampling_loss(hidden, weight, torch.tensor([1, 2]), torch.tensor([[3], [7]]))
    tensor(1.3863)
    """
    if torch._C._is_any_autocast_enabled():
        hidden = _in_dtype_of(weight, hidden)
    return _loss(hidden, weight, None, -1, target, negatives, reduction, sparse)


def cbow_negative_sampling_loss(
    embedding: Tensor,
    weight: Tensor,
    contexts: Tensor,
    target: Tensor,
    negatives: Tensor,
    *,
    padding_idx: int = -1,
    reduction: Reduction = "mean",
    sparse: bool = False,
) -> Tensor:
    """:func:`negative_sampling_loss` of means of context vectors, without their (B, C, D) array.

    Parameters
    ----------
    embedding
        (E, D): float32, float64, bfloat16 or float16.
    weight
        (V, D), of the embedding's dtype.
    contexts
        (B, C): int64 rows of embedding in [0, E), or ``padding_idx``.
    target, negatives
        As of :func:`negative_sampling_loss`.
    padding_idx
        Stands for no word, where an example has fewer than C contexts. The mean is over those that
        are there; where none is, it is zero.
    reduction
        As of :func:`negative_sampling_loss`.
    sparse
        As of :func:`negative_sampling_loss`, for the gradients of both embedding and weight.

    Returns
    -------
    Tensor
        As of :func:`negative_sampling_loss`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`negative_sampling_loss`. On CUDA, of an example with a context out of range, the
        loss is NaN, and neither embedding nor weight gets anything.

    Notes
    -----
    With c_1 to c_m the contexts that are there, h = (1 / m) sum_i embedding[c_i]; the loss is that
    of :func:`negative_sampling_loss` (Mikolov et al. 2013).

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> embedding, weight = torch.zeros(10, 4), torch.ones(10, 4)
    >>> contexts = torch.tensor([[1, 3], [2, -1]])
    >>> target, negatives = torch.tensor([2, 1]), torch.tensor([[5], [6]])
    >>> F.cbow_negative_sampling_loss(embedding, weight, contexts, target, negatives)
    tensor(1.3863)
    """
    if contexts is None:
        raise TypeError("contexts is None, expected a tensor (B, C)")
    if torch._C._is_any_autocast_enabled():
        embedding = _in_dtype_of(weight, embedding)
    return _loss(embedding, weight, contexts, padding_idx, target, negatives, reduction, sparse)


def _in_dtype_of(weight: Tensor, other: Tensor) -> Tensor:
    """The other tensor as autocast hands it to a loss of weight's dtype."""
    if other.dtype == weight.dtype or not autocast_enabled(weight.device.type):
        return other
    return other.to(weight.dtype)


def _loss(
    source: Tensor,
    weight: Tensor,
    contexts: Tensor | None,
    padding_idx: int,
    target: Tensor,
    negatives: Tensor,
    reduction: str,
    sparse: bool,
) -> Tensor:
    kind = REDUCTIONS.get(reduction)
    if kind is None:
        raise ValueError(f"reduction is {reduction!r}, expected 'none', 'mean' or 'sum'")
    given = (source, weight, contexts, padding_idx, target, negatives, kind)
    sparse_graph = sparse and torch.compiler.is_compiling()  # as in embedding_dot
    if transforms_active() or sparse_graph:
        with without_autocast(weight.device.type):
            return composite(*given, sparse_graph)
    if needs_gradient(source, weight):
        if source is weight:  # torch.compile takes no tensor twice
            weight = weight.view_as(weight)
        # In float16 a gradient scaler's factor must come before the rounding, and without reduction
        # each example has a factor of its own: backward computes the gradients then.
        at_once = kind != REDUCTIONS["none"] and weight.dtype != torch.float16
        if at_once and not torch.compiler.is_compiling():
            return extension.negative_sampling_loss(source, weight, *given[2:], sparse)
        return _NegativeSamplingLoss.apply(source, weight, *given[2:], sparse, at_once)
    return _ops.negative_sampling_loss(*given, _NONE_WANTED, sparse)[0]


def _gradient(shape: torch.Size, values: Tensor, rows: Tensor, sparse: bool) -> Tensor:
    """The gradient of a matrix of this shape, of an op's results."""
    if not sparse:
        return values
    return torch.sparse_coo_tensor(rows, values, shape, check_invariants=False)


class _EmbeddingDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, idx: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(hidden, weight, idx)
        ctx.sparse = sparse
        return _ops.embedding_dot(hidden, weight, idx)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        hidden, weight, idx = ctx.saved_tensors
        if create_graph_requested():
            found = composite_gradients(
                lambda h, w: dot_composite(h, w, idx), [hidden, weight], gradients
            )
            return *found, None, None
        wanted = list(ctx.needs_input_grad[:2])
        d_hidden, d_weight, rows = _ops.embedding_dot_backward(
            gradients[0], hidden, weight, idx, wanted, ctx.sparse
        )
        return (
            d_hidden if wanted[0] else None,
            _gradient(weight.shape, d_weight, rows, ctx.sparse) if wanted[1] else None,
            None,
            None,
        )


def gradients_anew(
    source: Tensor,
    weight: Tensor,
    contexts: Tensor | None,
    padding_idx: int,
    target: Tensor,
    negatives: Tensor,
    reduction: int,
    sparse: bool,
    d_loss: Tensor,
    create_graph: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of source and weight, with a graph of their own if that is asked for."""
    if create_graph:
        d_source, d_weight = composite_gradients(
            lambda s, w: composite(s, w, contexts, padding_idx, target, negatives, reduction),
            [source, weight],
            [d_loss],
        )
        return d_source, d_weight
    wanted = [source.requires_grad, weight.requires_grad]
    values, source_rows, weight_values, weight_rows = _ops.negative_sampling_loss_backward(
        *(source, weight, contexts, padding_idx, target, negatives),
        *(gradient_of_losses(d_loss, target.shape[0], reduction), wanted, sparse),
    )
    sparse_source = sparse and contexts is not None
    return (
        _gradient(source.shape, values, source_rows, sparse_source) if wanted[0] else None,
        _gradient(weight.shape, weight_values, weight_rows, sparse) if wanted[1] else None,
    )


class _NegativeSamplingLoss(torch.autograd.Function):
    """What ops/negative_sampling_node.cpp does not do: compiled graphs, and gradients anew."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        weight: Tensor,
        contexts: Tensor | None,
        padding_idx: int,
        target: Tensor,
        negatives: Tensor,
        reduction: int,
        sparse: bool,
        at_once: bool,
    ) -> Tensor:
        wanted = list(ctx.needs_input_grad[:2]) if at_once else _NONE_WANTED
        loss, d_source, _, d_weight, _ = _ops.negative_sampling_loss(
            source, weight, contexts, padding_idx, target, negatives, reduction, wanted, sparse
        )
        kept = (d_source, d_weight) if at_once else ()
        ctx.save_for_backward(source, weight, contexts, target, negatives, *kept)
        ctx.options = padding_idx, reduction, sparse
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (d_loss,) = gradients
        source, weight, contexts, target, negatives, *kept = ctx.saved_tensors
        if kept:  # in compiled graphs, where gradients are dense
            found = [
                d * d_loss if needed else None
                for d, needed in zip(kept, ctx.needs_input_grad[:2], strict=True)
            ]
        else:
            padding_idx, reduction, sparse = ctx.options
            words = (contexts, padding_idx, target, negatives)
            again = create_graph_requested()
            found = list(gradients_anew(source, weight, *words, reduction, sparse, d_loss, again))
        return *found, *(None,) * 7
