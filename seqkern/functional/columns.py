"""Columns of a weight by token ids: the product with the ids' one-hot encoding, without either."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqkern.functional._autograd import check_devices, needs_gradient, transforms_active
from seqkern.functional._recurrent_arguments import LENGTHS

_ops = torch.ops.seqkern


def gather_columns(weight: Tensor, ids: Tensor) -> Tensor:
    """Columns of ``weight``, one for each id.

    Equal to ``one_hot(ids, V) @ weight.T``; the gradient touches only the columns named.

    Parameters
    ----------
    weight
        (R, V): float32, float64 or bfloat16 on the CPU; float16 besides on CUDA.
    ids
        (...): integers in [0, V).

    Returns
    -------
    Tensor
        (..., R), of the dtype of ``weight``.

    Raises
    ------
    TypeError
        If weight is not of a supported floating-point dtype, or ids are not integers.
    ValueError
        If weight does not have two dimensions, or ids are on another device.
    IndexError
        If an id is out of range, on the CPU.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> F.gather_columns(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([2, 0]))
    tensor([[3., 6.],
            [1., 4.]])
    """
    if not is_integer(ids):
        raise TypeError(f"ids have dtype {ids.dtype}, expected integers")
    if weight.dim() != 2:
        raise ValueError(f"weight has shape {list(weight.shape)}, expected 2 dimensions (R, V)")
    flat = ids.flatten().to(torch.int64)
    return _gather(weight, flat).unflatten(0, ids.shape)


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor holds integers; bool is not one."""
    dtype = tensor.dtype
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def project_tokens(tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Replace token ids and weight_ih by the projected input and None.

    Parameters
    ----------
    tensors
        Of a recurrent layer, in the order of ``ARGUMENTS``.
    """
    input, h_0, c_0, weight_ih, weight_hh, *others = tensors
    assert input is not None
    assert weight_hh is not None
    if input.dim() != 2:
        shape = list(input.shape)
        raise ValueError(f"input has shape {shape}, expected 2 dimensions (T, N) of token ids")
    if weight_ih is None:
        raise ValueError("weight_ih is None, expected a tensor where input holds token ids")
    if weight_hh.dim() != 2:
        raise ValueError(
            f"weight_hh has shape {list(weight_hh.shape)}, expected 2 dimensions where input holds "
            "token ids: with heads, pass projected input"
        )
    if weight_ih.dim() != 2 or weight_ih.shape[0] != weight_hh.shape[0]:
        raise ValueError(
            f"weight_ih has shape {list(weight_ih.shape)}, "
            f"expected ({weight_hh.shape[0]}, D), rows as weight_hh has"
        )
    lengths = others[LENGTHS - 5]
    if lengths is not None and lengths.shape == input.shape[1:] and lengths.device == input.device:
        # Others are refused with the rest of the arguments.
        taken = torch.arange(input.shape[0], device=input.device).unsqueeze(1) < lengths
        input = torch.where(taken, input, 0)
    return (gather_columns(weight_ih, input), h_0, c_0, None, weight_hh, *others)


# The two are linear, and each is the gradient of the other.
def _gather(weight: Tensor, ids: Tensor) -> Tensor:
    """(R, V) and (M) to (M, R)."""
    if transforms_active():
        return torch.nn.functional.embedding(ids, weight.t())
    if needs_gradient(weight):
        return _GatherColumns.apply(weight, ids)
    return _ops.gather_columns(weight, ids)


def _scatter(rows: Tensor, ids: Tensor, columns: int) -> Tensor:
    """(M, R) and (M) to (R, columns): the sum of the rows of each id."""
    if transforms_active():
        return rows.new_zeros(columns, rows.shape[1]).index_add(0, ids, rows).t()
    if needs_gradient(rows):
        return _ScatterColumns.apply(rows, ids, columns)
    return _ops.scatter_columns(rows, ids, columns)


class _GatherColumns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.columns = weight.shape[1]
        return _ops.gather_columns(weight, ids)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (ids,) = ctx.saved_tensors
        return _scatter(gradients[0], ids, ctx.columns), None


class _ScatterColumns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, ids: Tensor, columns: int) -> Tensor:
        ctx.save_for_backward(ids)
        return _ops.scatter_columns(rows, ids, columns)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (ids,) = ctx.saved_tensors
        return _gather(gradients[0], ids), None, None


@torch.library.register_fake("seqkern::gather_columns")
def _gather_columns_fake(weight: Tensor, ids: Tensor) -> Tensor:
    check_devices(weight, "weight", ids=ids)
    return weight.new_empty(ids.shape[0], weight.shape[0])


@torch.library.register_fake("seqkern::scatter_columns")
def _scatter_columns_fake(d: Tensor, ids: Tensor, columns: int) -> Tensor:
    check_devices(d, "d", ids=ids)
    return d.new_empty(d.shape[1], columns)
