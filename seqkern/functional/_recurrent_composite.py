"""The recurrent layer in plain torch operations: the definition of every cell and option.

Slow, and differentiable in every way that torch knows: any number of times, in forward mode, and
under torch.func's transforms. Nothing here looks at the values of tensors.

Inside, the last axis is split into heads: h (N, K, R), c (N, K, H), gates (N, K, G * H).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from seqkern.functional._autograd import without_autocast
from seqkern.functional._recurrent_arguments import CELLS, check_arguments, sum_type

# h and rows of weight_hh to their product, in layers with norm_hh normalised, plus bias_hh.
Product = Callable[..., Tensor]
# Input part of the gates, h, c, product, peephole weights (P, K, H), what h shows of c; to h and c.
Step = Callable[
    [Tensor, Tensor, Tensor, Product, Tensor | None, Callable[[Tensor], Tensor]],
    tuple[Tensor, Tensor],
]


def _rnn_tanh(
    x: Tensor, h: Tensor, c: Tensor, product: Product, *_: object
) -> tuple[Tensor, Tensor]:
    return (x + product(h)).tanh(), c


def _rnn_relu(
    x: Tensor, h: Tensor, c: Tensor, product: Product, *_: object
) -> tuple[Tensor, Tensor]:
    return (x + product(h)).relu(), c


def _lstm(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    product: Product,
    peepholes: Tensor | None,
    shown: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Hochreiter and Schmidhuber 1997, Gers et al. 2000; peepholes: Gers and Schmidhuber 2000."""
    i, f, g, o = (x + product(h)).chunk(4, dim=-1)
    if peepholes is not None:
        i, f = i + peepholes[0] * c, f + peepholes[1] * c
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    if peepholes is not None:
        o = o + peepholes[2] * c
    return o.sigmoid() * shown(c).tanh(), c


def _gru(x: Tensor, h: Tensor, c: Tensor, product: Product, *_: object) -> tuple[Tensor, Tensor]:
    """The reset gate is applied after the product, as in torch.nn.GRU."""
    x_r, x_z, x_n = x.chunk(3, dim=-1)
    p_r, p_z, p_n = product(h).chunk(3, dim=-1)
    r, z = (x_r + p_r).sigmoid(), (x_z + p_z).sigmoid()
    n = (x_n + r * p_n).tanh()
    return (1 - z) * n + z * h, c


def _gru_reset_before(
    x: Tensor, h: Tensor, c: Tensor, product: Product, *_: object
) -> tuple[Tensor, Tensor]:
    """The reset gate is applied before the product (Cho et al. 2014)."""
    H = h.shape[-1]
    x_r, x_z, x_n = x.chunk(3, dim=-1)
    p_r, p_z = product(h, slice(0, 2 * H)).chunk(2, dim=-1)
    r, z = (x_r + p_r).sigmoid(), (x_z + p_z).sigmoid()
    n = (x_n + product(r * h, slice(2 * H, 3 * H))).tanh()
    return (1 - z) * n + z * h, c


def _mgu(x: Tensor, h: Tensor, c: Tensor, product: Product, *_: object) -> tuple[Tensor, Tensor]:
    """The minimal gated unit (Zhou et al. 2016)."""
    H = h.shape[-1]
    x_f, x_n = x.chunk(2, dim=-1)
    f = (x_f + product(h, slice(0, H))).sigmoid()
    n = (x_n + product(f * h, slice(H, 2 * H))).tanh()
    return (1 - f) * h + f * n, c


_STEPS: dict[str, Step] = {
    "rnn_tanh": _rnn_tanh,
    "rnn_relu": _rnn_relu,
    "lstm": _lstm,
    "lstm_peephole": _lstm,
    "gru": _gru,
    "gru_reset_before": _gru_reset_before,
    "mgu": _mgu,
}


def recurrent_composite(
    cell: str, tensors: Sequence[Tensor | None], reset_to_initial: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Return output and h_n, in cells with a cell state c_n and the cell states of all steps too.

    Parameters
    ----------
    tensors
        Those of :func:`seqkern.functional.recurrent`, but no token ids, in the order of
        ``ARGUMENTS``.
    """
    T, N, G, H, R, K = check_arguments(cell, tensors)
    input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, weight_cell, weight_hr, *rest = tensors
    norm_hh, norm_c, norm_c_bias, lengths, resets, recurrent_mask, zoneout_h, zoneout_c = rest
    assert input is not None
    assert weight_hh is not None
    dtype, sums = input.dtype, sum_type(input.dtype)

    def by_head(tensor: Tensor | None, size: int) -> Tensor | None:
        return None if tensor is None else tensor.to(sums).unflatten(-1, (K, size))

    with without_autocast(input.device.type):
        taken = None
        if lengths is not None:
            taken = torch.arange(T, device=input.device).unsqueeze(1) < lengths
            taken = taken[:, :, None, None]
            # Where a step is not taken there may be anything, and 0 * NaN is a gradient of NaN.
            input = torch.where(taken[:, :, 0], input, 0)
            zoneout_h, zoneout_c = (
                None if factor is None else torch.where(taken[:, :, 0], factor, 0)
                for factor in (zoneout_h, zoneout_c)
            )

        x = input.to(sums)
        if weight_ih is not None:
            x = linear(x, weight_ih.to(sums))
        if bias_ih is not None:
            x = x + bias_ih
        x = x.unflatten(-1, (K, G * H))

        weight = weight_hh.to(sums).reshape(K, G * H, R).mT
        bias, mask = by_head(bias_hh, G * H), by_head(recurrent_mask, R)
        scale_hh = by_head(norm_hh, G * H)

        def product(h: Tensor, rows: slice = slice(None)) -> Tensor:
            masked = h if mask is None else h * mask
            found = torch.matmul(masked.transpose(0, 1), weight[:, :, rows]).transpose(0, 1)
            if scale_hh is not None:
                found = layer_norm(found, (G * H,)) * scale_hh
            return found if bias is None else found + bias[:, rows]

        scale_c, shift_c = by_head(norm_c, H), by_head(norm_c_bias, H)

        def shown(c: Tensor) -> Tensor:
            if scale_c is None:
                return c
            normed = layer_norm(c, (H,)) * scale_c
            return normed if shift_c is None else normed + shift_c

        def initial(state: Tensor | None, size: int) -> Tensor:
            given = input.new_zeros(N, K * size) if state is None else state.clone()
            return given.to(sums).unflatten(-1, (K, size))

        h_initial, c_initial = initial(h_0, R), initial(c_0, H)
        h_reset, c_reset = h_initial, c_initial
        if not reset_to_initial:
            h_reset, c_reset = torch.zeros_like(h_initial), torch.zeros_like(c_initial)
        peepholes, projection = by_head(weight_cell, H), weight_hr
        keep_h, keep_c = by_head(zoneout_h, H), by_head(zoneout_c, H)

        h, c = h_initial, c_initial
        outputs, cells = [], []
        for t in reversed(range(T)) if reverse else range(T):
            h_before, c_before = h, c
            if resets is not None:
                reset = resets[t][:, None, None]
                h_before = torch.where(reset, h_reset, h)
                c_before = torch.where(reset, c_reset, c)
            h_new, c_new = _STEPS[cell](x[t], h_before, c_before, product, peepholes, shown)
            if projection is not None:
                h_new = linear(h_new, projection.to(sums))
            if keep_h is not None:
                h_new = keep_h[t] * h_before + (1 - keep_h[t]) * h_new
            if keep_c is not None:
                c_new = keep_c[t] * c_before + (1 - keep_c[t]) * c_new
            h_new = h_new.to(dtype).to(sums)
            if taken is None:
                h, c = h_new, c_new
            else:
                h, c = torch.where(taken[t], h_new, h), torch.where(taken[t], c_new, c)
                h_new, c_new = torch.where(taken[t], h_new, 0), torch.where(taken[t], c_new, 0)
            outputs.append(h_new)
            cells.append(c_new)

        def in_time_order(steps: list[Tensor], like: Tensor) -> Tensor:
            if not steps:
                return like.new_empty(0, *like.shape).flatten(2)
            return torch.stack(steps[::-1] if reverse else steps).flatten(2)

        results = in_time_order(outputs, h).to(dtype), h.flatten(1).to(dtype)
        if not CELLS[cell].has_cell_state:
            return results
        return (*results, c.flatten(1).to(dtype), in_time_order(cells, c))
