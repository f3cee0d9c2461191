"""Recurrent layers over a whole sequence: one native call a layer, direction and pass."""

from typing import Any

import torch
from torch import Tensor

from seqkern.functional._autograd import (
    autocast,
    check_devices,
    composite_gradients,
    create_graph_requested,
    needs_gradient,
    transforms_active,
)

_ops = torch.ops.seqkern

LstmResult = tuple[Tensor, Tensor, Tensor]


def lstm(
    input: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    reverse: bool = False,
) -> LstmResult:
    """One LSTM layer in one direction over a whole sequence.

    Parameters
    ----------
    input
        (T, N, D): T steps of N sequences with D features; T and N may be 0. float32, float64 or
        bfloat16 on the CPU; float16 besides on CUDA. All other arguments have its dtype and device;
        under autocast all are cast.
    h_0, c_0
        (N, H): the initial hidden state and cell state.
    weight_ih
        (4 * H, D): input weights, gates in torch's order i, f, g, o.
    weight_hh
        (4 * H, H): recurrent weights.
    bias_ih, bias_hh
        (4 * H), or None: both are added.
    reverse
        Run from the last step to the first; outputs stay in the order of the input.

    Returns
    -------
    output
        (T, N, H): the hidden state after each step.
    h_n, c_n
        (N, H): the states after the last step taken (the initial ones if T is 0).

    Raises
    ------
    TypeError
        If dtypes are unsupported or differ.
    ValueError
        If shapes or devices do not fit together.

    Notes
    -----
    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o); g = tanh(a_g); c' = f c + i g;
    h' = o tanh(c'), where a = W_ih x + b_ih + W_hh h + b_hh (Hochreiter and Schmidhuber 1997,
    forget gate of Gers et al. 2000; the equations of torch.nn.LSTM). Gates and cell states are
    computed in float32 for half-precision inputs. Training keeps (T, N, 5 H) values for backward.

    Second derivatives, forward-mode differentiation and torch.func transforms are supported by a
    slower path of plain torch operations.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> output, h_n, c_n = F.lstm(torch.randn(7, 2, 3), torch.zeros(2, 5), torch.zeros(2, 5),
    ...                           torch.randn(20, 3), torch.randn(20, 5))
    >>> output.shape, bool((output[-1] == h_n).all())
    (torch.Size([7, 2, 5]), True)
    """
    if c_0 is h_0:
        c_0 = c_0.view_as(c_0)  # torch.compile takes no tensor twice
    tensors = autocast((input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh))
    if transforms_active():
        return lstm_composite(*tensors, reverse=reverse)  # type: ignore[arg-type]
    if needs_gradient(*tensors):
        return _Lstm.apply(*tensors, reverse)
    return _ops.lstm_forward(*tensors, reverse, False)[:3]


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> LstmResult:
        input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, reverse = args
        output, h_n, c_n, gates, cells = _ops.lstm_forward(*args, True)
        # Biases are saved for second derivatives only.
        ctx.save_for_backward(
            input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, output, gates, cells
        )
        ctx.reverse = reverse
        ctx.set_materialize_grads(False)
        return output, h_n, c_n

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, *kept = ctx.saved_tensors
        if create_graph_requested():
            inputs = (input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh)
            found = composite_gradients(
                lambda *args: lstm_composite(*args, reverse=ctx.reverse), inputs, gradients
            )
            return (*found, None)
        *first, d_bias = _ops.lstm_backward(
            *gradients, input, h_0, c_0, weight_ih, weight_hh, *kept, ctx.reverse
        )
        d_bias_ih = None if bias_ih is None else d_bias
        d_bias_hh = None if bias_hh is None else d_bias.clone()
        return (*first, d_bias_ih, d_bias_hh, None)


def lstm_composite(
    input: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    *,
    reverse: bool,
) -> LstmResult:
    """:func:`lstm` in plain torch operations, differentiable any number of times."""
    h, c = h_0, c_0
    projected = torch.nn.functional.linear(input, weight_ih, bias_ih)
    steps = range(input.shape[0])
    outputs = []
    for t in reversed(steps) if reverse else steps:
        gates = projected[t] + torch.nn.functional.linear(h, weight_hh, bias_hh)
        i, f, g, o = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    if reverse:
        outputs.reverse()
    stacked = torch.stack(outputs) if outputs else h_0.new_empty(0, *h_0.shape)
    return stacked, h, c


@torch.library.register_fake("seqkern::lstm_forward")
def _lstm_forward_fake(
    input: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, ...]:
    check_devices(
        input,
        "input",
        h_0=h_0,
        c_0=c_0,
        weight_ih=weight_ih,
        weight_hh=weight_hh,
        bias_ih=bias_ih,
        bias_hh=bias_hh,
    )
    steps, batch = input.shape[:2]
    hidden = weight_hh.shape[1]
    sums = torch.float64 if input.dtype == torch.float64 else torch.float32
    output = input.new_empty(steps, batch, hidden)
    h_n, c_n = input.new_empty(batch, hidden), input.new_empty(batch, hidden)
    if not keep:
        return output, h_n, c_n, input.new_empty(0, dtype=sums), input.new_empty(0, dtype=sums)
    gates = input.new_empty(steps, batch, 4 * hidden, dtype=sums)
    return output, h_n, c_n, gates, input.new_empty(steps, batch, hidden, dtype=sums)


@torch.library.register_fake("seqkern::lstm_backward")
def _lstm_backward_fake(
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    input: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    output: Tensor,
    gates: Tensor,
    cells: Tensor,
    reverse: bool,
) -> tuple[Tensor, ...]:
    like = [t.new_empty(t.shape) for t in (input, h_0, c_0, weight_ih, weight_hh)]
    return (*like, weight_hh.new_empty(weight_hh.shape[0]))
