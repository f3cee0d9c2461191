"""The recurrent ops: their autograd formula and fake implementations."""

from typing import Any

import torch
from torch import Tensor

from seqkern.functional._autograd import composite_gradients, create_graph_requested
from seqkern.functional._recurrent_arguments import (
    ARGUMENTS,
    CELLS,
    DIFFERENTIABLE,
    Sizes,
    check_arguments,
    sum_type,
)
from seqkern.functional._recurrent_composite import recurrent_composite

_ops = torch.ops.seqkern
recurrent_forward = _ops.recurrent_forward.default
_recurrent_backward = _ops.recurrent_backward.default


class Recurrent(torch.autograd.Function):
    """Output and h_n; in cells with a cell state c_n, and the cell states of all steps if asked."""

    @staticmethod
    def forward(
        ctx: Any,
        cell: str,
        reset_to_initial: bool,
        reverse: bool,
        return_cells: bool,
        recompute: int,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        output, h_n, c_n, cells, kept = recurrent_forward(
            cell, *tensors, reset_to_initial, reverse, True, not recompute
        )
        # Biases are saved for second derivatives only.
        ctx.save_for_backward(*tensors, output, cells, kept)
        ctx.options = cell, reset_to_initial, reverse, recompute
        ctx.set_materialize_grads(False)
        if return_cells:
            return output, h_n, c_n, cells
        return (output, h_n, c_n) if CELLS[cell].has_cell_state else (output, h_n)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        cell, reset_to_initial, reverse, recompute = ctx.options
        tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[5:]
        if create_graph_requested():
            found = composite_gradients(
                lambda *args: recurrent_composite(cell, args, reset_to_initial, reverse)[
                    : len(gradients)
                ],
                tensors[: len(ARGUMENTS)],
                gradients,
            )
        else:
            found = _recurrent_backward(
                cell,
                *gradients,
                *(None,) * (4 - len(gradients)),
                *tensors,
                reset_to_initial,
                reverse,
                recompute,
                needed[0],
                any(needed[3:DIFFERENTIABLE]),
            )
        wanted = [d if n else None for d, n in zip(found, needed[:DIFFERENTIABLE], strict=False)]
        return (*(None,) * 5, *wanted, *(None,) * (len(ARGUMENTS) - DIFFERENTIABLE))


def _kept_size(cell: str, sizes: Sizes, tensors: tuple[Tensor | None, ...]) -> int:
    """Number of values that forward keeps of a step and sequence."""
    given = dict(zip(ARGUMENTS, tensors, strict=True))
    _, _, G, H, _, K = sizes
    size = (G + CELLS[cell].candidate_apart) * H
    if given["weight_hr"] is not None:
        size += H
    if given["norm_hh"] is not None:
        size += G * H + 1
    if given["norm_c"] is not None:
        size += H + 1
    return K * size


@torch.library.register_fake("seqkern::recurrent_forward")
def _forward_fake(cell: str, *arguments: Any) -> tuple[Tensor, ...]:
    *tensors, _, _, keep_cells, keep = arguments
    sizes = check_arguments(cell, tensors)
    T, N, _, H, R, K = sizes
    input, sums = tensors[0], sum_type(tensors[0].dtype)
    cells = keep_cells and CELLS[cell].has_cell_state
    kept = (T, N, _kept_size(cell, sizes, tuple(tensors))) if keep else (0,)
    return (
        input.new_empty(T, N, K * R),
        input.new_empty(N, K * R),
        input.new_empty((N, K * H) if CELLS[cell].has_cell_state else (0,)),
        input.new_empty((T, N, K * H) if cells else (0,), dtype=sums),
        input.new_empty(kept, dtype=sums),
    )


@torch.library.register_fake("seqkern::recurrent_backward")
def _backward_fake(cell: str, *arguments: Any) -> tuple[Tensor, ...]:
    tensors = arguments[4 : 4 + len(ARGUMENTS)]
    *_, input_gradient, weight_gradients = arguments
    check_arguments(cell, tensors)
    like = tensors[0]
    wanted = (input_gradient, True, True, *(weight_gradients,) * (DIFFERENTIABLE - 3))
    return tuple(
        like.new_empty(0) if tensor is None or not there else like.new_empty(tensor.shape)
        for tensor, there in zip(tensors, wanted, strict=False)
    )
