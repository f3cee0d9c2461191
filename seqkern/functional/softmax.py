"""The softmax loss of logits, and of a linear layer's logits that are never held all at once."""

from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from seqkern.functional import _vocabulary_parallel as parallel
from seqkern.functional._autograd import (
    autocast,
    composite_gradients,
    create_graph_requested,
    distinct,
    needs_gradient,
    transforms_active,
    without_autocast,
)
from seqkern.functional._softmax_op import (
    REDUCTIONS,
    Form,
    Options,
    composite,
    gradients_of_numbers,
    linear,
    outputs,
)
from seqkern.functional._vocabulary_parallel import VocabularyShard

_ops = torch.ops.seqkern

Reduction = Literal["none", "mean", "sum"]

WORKSPACE = {"cpu": 64 << 20, "cuda": 512 << 20}  # bytes, where none are given


class SoftmaxStatistics(NamedTuple):
    """What a loss knows of each position; (...) like the positions, 0 where they are ignored.

    Attributes
    ----------
    log_probability
        Of the target, in nats; of a target of probabilities q, sum_v q_v log p_v. Differentiable.
    logsumexp
        log sum_v exp(z_v) of the logits z as the loss takes them (after soft-cap and temperature).
        Differentiable.
    entropy
        -sum_v p_v log p_v in nats. Differentiable.
    rank
        int64: how many classes come before the target: those with a greater logit, and those of
        the same logit and a smaller index. 0 where the prediction is right. Of a target of
        probabilities: of its likeliest class. -1 where the target is ignored. None where the
        vocabulary is split.
    argmax
        int64: the first class with the greatest logit; -1 where the target is ignored.
    """

    log_probability: Tensor
    logsumexp: Tensor
    entropy: Tensor
    rank: Tensor | None
    argmax: Tensor

    def accuracy(self, k: int = 1) -> Tensor:
        """Share of the positions that count whose target is among the first ``k`` classes.

        Parameters
        ----------
        k
            1 for accuracy, 5 for top-5 accuracy.

        Returns
        -------
        Tensor
            float32 scalar; NaN where no position counts.

        Raises
        ------
        ValueError
            If there are no ranks, since the vocabulary is split.
        """
        if self.rank is None:
            raise ValueError("accuracy needs ranks, which a split vocabulary does not have")
        counts = self.rank >= 0
        return (counts & (self.rank < k)).sum() / counts.sum()


@overload
def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = ...,
    *,
    statistics: Literal[True],
    **_: Any,
) -> tuple[Tensor, SoftmaxStatistics]: ...
@overload
def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = ...,
    *,
    statistics: Literal[False] = ...,
    **_: Any,
) -> Tensor: ...
def cross_entropy(  # type: ignore[misc]  # the overloads abbreviate the options
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0,
    z_loss: float = 0,
    softcap: float | None = None,
    temperature: float = 1,
    nan_if_empty: bool = False,
    statistics: bool = False,
    shard: VocabularyShard | None = None,
) -> Tensor | tuple[Tensor, SoftmaxStatistics]:
    """Cross-entropy of softmax(logits): loss and gradient in one pass over the logits.

    Names, defaults and values are those of torch.nn.functional.cross_entropy, but classes are the
    last dimension whatever the number of dimensions, and the loss of half-precision logits is
    float32.

    Parameters
    ----------
    logits
        (..., V), V > 0: unnormalised log-probabilities, for example (T, N, V). float32, float64,
        bfloat16 or float16.
    target
        (...): int64 class indices in [0, V), or ``ignore_index``; or (..., V) floating-point:
        probabilities, converted to the dtype of logits.
    weight
        (V,), floating-point: a factor of each class.
    ignore_index
        The target of positions that count neither in the sum nor in the mean.
    reduction
        "none": a loss a position. "mean": their sum, divided by the number of positions that count
        (with ``weight`` and class indices: by the sum of their targets' weights). "sum".
    label_smoothing
        In [0, 1]: the share of the target that is spread over all classes.
    z_loss
        The factor of logsumexp ** 2, which is added to a position's loss.
    softcap
        Logits x are taken as softcap * tanh(x / softcap); None: as they are.
    temperature
        Logits are divided by it, after the soft-cap.
    nan_if_empty
        Whether the mean is NaN, as torch's, where no position counts; else it is 0. Gradients are
        zero either way.
    statistics
        Whether to return :class:`SoftmaxStatistics` as well.
    shard
        Where the vocabulary is split over processes: the classes that are here. See
        :class:`VocabularyShard`; targets are then class indices of the whole vocabulary.

    Returns
    -------
    Tensor, or (Tensor, SoftmaxStatistics)
        The loss in nats: scalar, or (...) without reduction; float64 for float64 logits, else
        float32.

    Raises
    ------
    TypeError
        If a tensor does not have a supported dtype.
    ValueError
        If shapes or devices do not fit, or an option is out of its range.
    IndexError
        If a target is out of range, on the CPU. On CUDA its loss is then NaN, and the gradient of
        that position too.

    Notes
    -----
    With z = softcap tanh(logits / softcap) / temperature, p = softmax(z), q the target's
    probabilities, s the smoothing, w the weights and k the z-loss::

        loss = -sum_v w_v ((1 - s) q_v + s / V) log p_v + k logsumexp(z) ** 2

    (Goodfellow et al., Deep Learning, 6.2.2.3; label smoothing: Szegedy et al. 2016; z-loss:
    Chowdhery et al. 2022; soft-cap: Gemma Team 2024.)

    Second derivatives, gradients of ``weight`` and of probabilities, forward-mode differentiation
    and torch.func transforms are supported by a slower path of plain torch operations.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> F.cross_entropy(torch.zeros(3, 2, 10), torch.tensor([[1, 2], [3, -100], [0, 0]]))
    tensor(2.3026)
    """
    form = _form(
        reduction,
        nan_if_empty,
        statistics,
        ignore_index,
        label_smoothing,
        z_loss,
        softcap,
        temperature,
    )
    if shard is not None:
        return _result(parallel.cross_entropy(logits, target, weight, form, shard), form)
    if transforms_active() or needs_gradient(weight, target):
        if not transforms_active():
            with torch.no_grad():
                _softmax_loss(logits, target, weight, form, False)  # checks them
        return _result(composite(logits, target, weight, form), form)
    if needs_gradient(logits):
        return _result(_SoftmaxLoss.apply(logits, target, weight, form), form)
    results = _softmax_loss(logits, target, weight, form, False)
    return _result(outputs(results[:4], logits.shape[:-1], form), form)


@overload
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = ...,
    *,
    statistics: Literal[True],
    **_: Any,
) -> tuple[Tensor, SoftmaxStatistics]: ...
@overload
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = ...,
    *,
    statistics: Literal[False] = ...,
    **_: Any,
) -> Tensor: ...
def linear_cross_entropy(  # type: ignore[misc]  # the overloads abbreviate the options
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0,
    z_loss: float = 0,
    softcap: float | None = None,
    temperature: float = 1,
    nan_if_empty: bool = False,
    statistics: bool = False,
    shard: VocabularyShard | None = None,
    workspace: int | None = None,
) -> Tensor | tuple[Tensor, SoftmaxStatistics]:
    """Cross-entropy of softmax(hidden @ weight.T + bias), without ever holding all logits.

    The value is that of :func:`cross_entropy` of torch.nn.functional.linear(hidden, weight, bias).
    Logits are computed for some positions at a time, and their gradients at once where a gradient
    will be needed; memory does not grow with the number of positions times V.

    Parameters
    ----------
    hidden
        (..., H): float32, float64, bfloat16 or float16.
    weight
        (V, H), of hidden's dtype: the last linear layer's, perhaps an embedding's.
    target
        (...): int64 class indices in [0, V), or ``ignore_index``; or (..., V): probabilities.
    bias
        (V,), of hidden's dtype.
    class_weight
        (V,), floating-point: a factor of each class (``weight`` of :func:`cross_entropy`).
    ignore_index, reduction, label_smoothing, z_loss, softcap, temperature, nan_if_empty, statistics
        As in :func:`cross_entropy`.
    shard
        Where the vocabulary is split over processes: the classes that ``weight``, ``bias`` and
        ``class_weight`` hold. See :class:`VocabularyShard`.
    workspace
        Bytes of working memory; by default 64 MiB on the CPU and 512 MiB on CUDA. One position's
        logits are held even if they need more.

    Returns
    -------
    Tensor, or (Tensor, SoftmaxStatistics)
        As of :func:`cross_entropy`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`cross_entropy`.

    Notes
    -----
    Besides the working memory there are the results: gradients of hidden, weight and bias. The
    weight's gradient is summed in float32, so half-precision tensors hold it in float32 until it is
    complete. With ``reduction="none"``, in float16, or where gradients of the statistics are asked
    for, backward computes the logits again.

    Under torch.autocast, hidden, weight and bias are cast as torch.nn.functional.linear's are.

    A weight that is tied to an embedding gets the sum of both gradients; with
    :func:`seqkern.functional.tie` there is no second (V, H) gradient on the way.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> hidden, weight = torch.zeros(3, 2, 4), torch.ones(10, 4)
    >>> F.linear_cross_entropy(hidden, weight, torch.tensor([[1, 2], [3, -100], [0, 0]]))
    tensor(2.3026)
    """
    form = _form(
        reduction,
        nan_if_empty,
        statistics,
        ignore_index,
        label_smoothing,
        z_loss,
        softcap,
        temperature,
    )
    if workspace is None:
        workspace = WORKSPACE["cuda" if hidden.device.type == "cuda" else "cpu"]
    hidden_cast, weight_cast, bias = autocast((hidden, weight, bias))
    assert hidden_cast is not None
    assert weight_cast is not None
    hidden, weight = hidden_cast, weight_cast
    if shard is not None:
        arguments = (hidden, weight, bias, target, class_weight, form, workspace, shard)
        return _result(parallel.linear_cross_entropy(*arguments), form)
    tensors = (hidden, weight, bias, target, class_weight)
    if transforms_active() or needs_gradient(class_weight, target):
        if not transforms_active():
            with torch.no_grad():
                _linear_softmax_loss(*tensors, form, [False] * 3, workspace)  # checks them
        with without_autocast(hidden.device.type):
            logits = linear(hidden, weight, bias)
            return _result(composite(logits, target, class_weight, form, hidden), form)
    if needs_gradient(hidden, weight, bias):
        found = _LinearSoftmaxLoss.apply(
            *distinct((hidden, weight, bias)), target, class_weight, form, workspace
        )
        return _result(found, form)
    results = _linear_softmax_loss(*tensors, form, [False] * 3, workspace)
    return _result(outputs(results[:4], hidden.shape[:-1], form), form)


def time_softmax_loss(logits: Tensor, target: Tensor, ignore_index: int = -1) -> Tensor:
    """Mean cross-entropy of softmax(logits) over the steps that are not ignored.

    :func:`cross_entropy` with the convention of "Deep Learning from Scratch 2" (Saito), whose layer
    TimeSoftmaxWithLoss it is: steps of the target -1 are padding.

    Parameters
    ----------
    logits
        (..., V), for example (T, N, V): see :func:`cross_entropy`.
    target
        (...): int64 class indices in [0, V), or ``ignore_index``.
    ignore_index
        The target of steps that count neither in the sum nor in the mean.

    Returns
    -------
    Tensor
        Scalar, in nats: float64 for float64 logits, else float32. 0 where every target is ignored.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`cross_entropy`.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> F.time_softmax_loss(torch.zeros(3, 2, 10), torch.tensor([[1, 2], [3, -1], [-1, -1]]))
    tensor(2.3026)
    """
    return cross_entropy(logits, target, ignore_index=ignore_index)


# Defaults are whole numbers, which torch.compile(dynamic=True) takes as constants.
def _form(
    reduction: str,
    nan_if_empty: bool,
    statistics: bool,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    temperature: float,
) -> Form:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, expected 'none', 'mean' or 'sum'")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap is {softcap}, expected softcap > 0, or None")
    if not 0 <= label_smoothing <= 1:
        expected = "0 <= label_smoothing <= 1"
        raise ValueError(f"label_smoothing is {label_smoothing}, expected {expected}")
    if not z_loss >= 0:
        raise ValueError(f"z_loss is {z_loss}, expected z_loss >= 0")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected temperature > 0")
    options = Options(ignore_index, label_smoothing, z_loss, softcap or 0, temperature)
    return Form(options, reduction, nan_if_empty, statistics)


def _result(found: tuple[Any, ...], form: Form) -> Tensor | tuple[Tensor, SoftmaxStatistics]:
    return (found[0], SoftmaxStatistics(*found[1:])) if form.statistics else found[0]


def _softmax_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None, form: Form, with_gradient: bool
) -> tuple[Tensor, ...]:
    reduction = REDUCTIONS[form.reduction]
    options = (*form.options, reduction, form.statistics, with_gradient)
    return _ops.softmax_loss(logits, target, weight, *options)


def _linear_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    form: Form,
    wanted: list[bool],
    workspace: int,
) -> tuple[Tensor, ...]:
    options = (*form.options, REDUCTIONS[form.reduction], form.statistics, wanted, workspace)
    return _ops.linear_softmax_loss(hidden, weight, bias, target, class_weight, *options)


def _keep(ctx: Any, saved: list[Tensor | None], gradients: list[Tensor]) -> None:
    """Save tensors, and the gradients that forward has computed, or none.

    Backward hands these over to autograd, to scale and keep; so they are saved tensors only where
    they must be, in compiled functions.
    """
    compiling = torch.compiler.is_compiling()
    ctx.save_for_backward(*saved, *(gradients if compiling else ()))
    ctx.gradients = None if compiling or not gradients else gradients


def _take(ctx: Any, saved_gradients: tuple[Tensor, ...]) -> list[Tensor] | None:
    """The gradients of :func:`_keep`, once; None if there are none left."""
    if saved_gradients:
        return list(saved_gradients)
    gradients, ctx.gradients = ctx.gradients, None
    return gradients


def _scaled(gradients: list[Tensor], by: Tensor) -> list[Tensor]:
    """The gradients times `by`, in place where nothing forbids it."""
    if torch.compiler.is_compiling() or transforms_active():
        return [gradient * by for gradient in gradients]
    for gradient in gradients:
        if by.dim() == 0:  # 1 in the usual loss.backward()
            _ops.scale_(gradient, by)
        else:
            gradient.mul_(by)
    return gradients


class _SoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None, form: Form
    ) -> tuple[Tensor, ...]:
        with_gradient = logits.dtype != torch.float16  # see _LinearSoftmaxLoss
        *results, d_logits = _softmax_loss(logits, target, weight, form, with_gradient)
        saved = [logits, target, weight, results[1], results[3]]
        _keep(ctx, saved, [d_logits] if with_gradient else [])
        found = outputs(results, logits.shape[:-1], form)
        ctx.form = form
        ctx.mark_non_differentiable(*found[4:])
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        logits, target, weight, numbers, denominator, *saved = ctx.saved_tensors
        form: Form = ctx.form
        if create_graph_requested():
            (found,) = composite_gradients(
                lambda x: composite(x, target, weight, form)[:4], [logits], gradients[:4]
            )
            return found, None, None, None
        d_loss, *others = gradients[:4]
        kept = None
        if d_loss is not None and all(d is None for d in others):
            kept = _take(ctx, tuple(saved))
        if kept is not None:
            by = d_loss.unsqueeze(-1) if form.reduction == "none" else d_loss
            return _scaled(kept, by)[0], None, None, None
        d_numbers = gradients_of_numbers(gradients, numbers, denominator, form)
        d_logits = _ops.softmax_loss_backward(
            logits, target, weight, *form.options, numbers, d_numbers
        )
        return d_logits, None, None, None


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
    ) -> tuple[Tensor, ...]:
        tensors = (hidden, weight, bias, target, class_weight)
        # Backward begins anew without reduction, when each position's loss has a factor of its own;
        # and in float16, where a gradient scaler's factor must come before the rounding.
        at_once = form.reduction != "none" and hidden.dtype != torch.float16
        wanted = [needed and at_once for needed in ctx.needs_input_grad[:3]]
        results = _linear_softmax_loss(*tensors, form, wanted, workspace)
        gradients = [g for g, of in zip(results[4:], wanted, strict=True) if of]
        _keep(ctx, [*tensors, results[1], results[3]], gradients)
        found = outputs(results[:4], hidden.shape[:-1], form)
        ctx.form, ctx.workspace = form, workspace
        ctx.mark_non_differentiable(*found[4:])
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        *tensors, numbers, denominator = ctx.saved_tensors[:7]
        hidden, weight, bias, target, class_weight = tensors
        form: Form = ctx.form
        wanted = list(ctx.needs_input_grad[:3])
        none = (None,) * 4
        if create_graph_requested():
            found = composite_gradients(
                lambda h, w, b: composite(linear(h, w, b), target, class_weight, form, h)[:4],
                [hidden, weight, bias],
                gradients[:4],
            )
            return *found, *none
        d_loss, *others = gradients[:4]
        kept = None
        if d_loss is not None and all(d is None for d in others):
            kept = _take(ctx, ctx.saved_tensors[7:])
        if kept is not None:
            scaled = iter(_scaled(kept, d_loss))
            return *(next(scaled) if of else None for of in wanted), *none
        d_numbers = gradients_of_numbers(gradients, numbers, denominator, form)
        d = _ops.linear_softmax_loss_backward(
            *tensors, *form.options, numbers, d_numbers, wanted, ctx.workspace
        )
        return *(g if of else None for g, of in zip(d, wanted, strict=True)), *none
