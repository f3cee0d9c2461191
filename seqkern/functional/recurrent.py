"""Recurrent layers over a whole sequence: one native call a layer, direction and pass."""

from typing import NamedTuple

import torch
from torch import Tensor

from seqkern.functional._autograd import autocast, distinct, needs_gradient, transforms_active
from seqkern.functional._recurrent_arguments import MASKS, check_lengths, find_cell
from seqkern.functional._recurrent_composite import recurrent_composite
from seqkern.functional._recurrent_op import Recurrent, recurrent_forward
from seqkern.functional.columns import is_integer, project_tokens


class RecurrentResult(NamedTuple):
    """What a recurrent layer returns.

    Parameters
    ----------
    output
        (T, N, K * R): the hidden state after each step; zeros where a step was not taken.
    h_n
        (N, K * R): the hidden state after the last step taken (the initial one if there is none).
    c_n
        (N, K * H): the cell state after the last step taken; None for cells without one.
    cells
        (T, N, K * H): the cell state after each step, if asked for, zeros where a step was not
        taken; float64 for float64 tensors, else float32.
    """

    output: Tensor
    h_n: Tensor
    c_n: Tensor | None = None
    cells: Tensor | None = None


def recurrent(
    cell: str,
    input: Tensor,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    weight_ih: Tensor | None = None,
    weight_hh: Tensor | None = None,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    weight_cell: Tensor | None = None,
    weight_hr: Tensor | None = None,
    norm_hh: Tensor | None = None,
    norm_c: Tensor | None = None,
    norm_c_bias: Tensor | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reset_to_initial: bool = False,
    recurrent_mask: Tensor | None = None,
    zoneout_h: Tensor | None = None,
    zoneout_c: Tensor | None = None,
    reverse: bool = False,
    return_cells: bool = False,
    recompute: int = 0,
) -> RecurrentResult:
    """One recurrent layer in one direction over a whole sequence, with any cell and option.

    T steps, N sequences, D input features, H hidden units, G gates of the cell, R features of the
    hidden state (H unless projected), K heads (1 unless ``weight_hh`` has three dimensions).
    Options may be combined unless it says otherwise; None means without.

    Parameters
    ----------
    cell
        ``"rnn_tanh"``, ``"rnn_relu"`` (G = 1), ``"lstm"``, ``"lstm_peephole"`` (G = 4, gates i, f,
        g, o), ``"gru"``, ``"gru_reset_before"`` (G = 3, gates r, z, n) or ``"mgu"`` (G = 2, gates
        f, n).
    input
        (T, N, D); T, N and D may be 0. float32, float64 or bfloat16 on the CPU; float16 besides on
        CUDA. All other arguments have its dtype unless it says otherwise, and its device; under
        autocast all are cast. Without ``weight_ih``: (T, N, K * G * H), the input's product.
        Or (T, N) integers in [0, D): token ids, which stand for their one-hot encoding. Only the
        columns of ``weight_ih`` that they name are read, and have a gradient.
    h_0, c_0
        (N, K * R) and (N, K * H): the initial hidden state and cell state; None means zeros.
    weight_ih
        (G * H, D): input weights.
    weight_hh
        (G * H, R): recurrent weights; required. Or (K, G * H, H): K independent recurrences side by
        side; ``weight_ih`` is then None, and wherever K is a factor of a size, the axis is ordered
        head by head.
    bias_ih, bias_hh
        (K * G * H): both are added.
    weight_cell
        (3, K * H): peephole weights to i, f and o; for ``"lstm_peephole"``, which requires them.
    weight_hr
        (R, H): projection of the hidden state, h = W_hr h_cell (proj_size of torch.nn.LSTM). For
        ``"lstm"`` and ``"lstm_peephole"``; not with heads or ``zoneout_h``.
    norm_hh
        (K * G * H): scale of a layer norm of W_hh h, over the G * H values of a step, sequence and
        head; bias_hh is added to the norm. Not for ``"gru_reset_before"`` and ``"mgu"``.
    norm_c, norm_c_bias
        (K * H): scale and shift of a layer norm of c where h shows it, h = o tanh(LN(c)), over the
        H values of a step, sequence and head; c itself is carried on as it is.
    lengths
        (N) int64 in [0, T]: the first so many steps of each sequence are taken (with ``reverse``,
        from the last of them). Nothing past them is looked at.
    resets
        (T, N) bool: steps before which the state is set to zeros. Gradients do not cross them.
    reset_to_initial
        Resets set the state to (h_0, c_0).
    recurrent_mask
        (N, K * R): factor of h in the product with W_hh, the same at all steps.
    zoneout_h, zoneout_c
        (T, N, K * H): factors in [0, 1], state = new + factor * (previous - new).
    reverse
        Run from the last step to the first; outputs stay in the order of the input.
    return_cells
        Return the cell states of all steps; for cells that have one.
    recompute
        0: training keeps the gates of all steps for backward. m > 0: it keeps h and c of all steps
        only, and backward computes the gates again, m steps at a time.

    Returns
    -------
    RecurrentResult
        ``output``, ``h_n``, ``c_n`` and ``cells``.

    Raises
    ------
    TypeError
        If dtypes are unsupported or differ, or a required argument is None.
    ValueError
        If shapes or devices do not fit together, a length is not in [0, T] (on the CPU), or
        arguments exclude each other.
    IndexError
        If a token id within the lengths is out of range, on the CPU.

    Notes
    -----
    With a = W_ih x + b_ih + W_hh h + b_hh and s for sigmoid:

    - rnn_tanh, rnn_relu: h' = tanh(a), h' = max(a, 0) (Elman 1990).
    - lstm: c' = s(a_f) c + s(a_i) tanh(a_g), h' = s(a_o) tanh(c') (Hochreiter and Schmidhuber 1997,
      forget gate of Gers et al. 2000; the equations of torch.nn.LSTM). lstm_peephole adds p_i c,
      p_f c and p_o c' to a_i, a_f and a_o (Gers and Schmidhuber 2000).
    - gru: r, z = s(a_r), s(a_z), n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h
      (torch.nn.GRU). gru_reset_before: n = tanh(W_in x + b_in + W_hn (r h) + b_hn) (Cho et al.
      2014).
    - mgu: f = s(a_f), n = tanh(W_in x + b_in + W_hn (f h) + b_hn), h' = (1 - f) h + f n (Zhou et
      al. 2016).

    Layer norms: Ba et al. 2016. recurrent_mask: Gal and Ghahramani 2016. Zoneout: Krueger et al.
    2017. Sums, gates and cell states are float32 for half-precision inputs.

    Second derivatives, forward-mode differentiation, torch.func transforms, and masks or zoneout
    factors that require gradients are supported by a slower path of plain torch operations.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> result = F.recurrent("gru", torch.randn(7, 2, 3), weight_ih=torch.randn(15, 3),
    ...                      weight_hh=torch.randn(15, 5), lengths=torch.tensor([7, 4]))
    >>> result.output.shape, bool((result.output[3, 1] == result.h_n[1]).all())
    (torch.Size([7, 2, 5]), True)
    """
    kind = find_cell(cell)
    if input is None or weight_hh is None:
        raise TypeError(f"{'input' if input is None else 'weight_hh'} is None, expected a tensor")
    if return_cells and not kind.has_cell_state:
        raise ValueError(f"return_cells is True, but cell {cell!r} has no cell state")
    if recompute < 0:
        raise ValueError(f"recompute is {recompute}, expected a number of steps, or 0")
    tensors = autocast(
        (
            *(input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, weight_cell, weight_hr),
            *(norm_hh, norm_c, norm_c_bias, lengths, resets, recurrent_mask, zoneout_h, zoneout_c),
        )
    )
    if is_integer(input):
        tensors = project_tokens(tensors)
    transforms = transforms_active()
    if transforms or needs_gradient(*tensors[MASKS]):
        if lengths is not None and not transforms:
            check_lengths(lengths, input.shape[0])
        found = recurrent_composite(cell, tensors, reset_to_initial, reverse)
        return RecurrentResult(*(found if return_cells else found[:3]))
    if needs_gradient(*tensors):
        if torch.compiler.is_compiling():
            tensors = distinct(tensors)
        options = reset_to_initial, reverse, return_cells, recompute
        return RecurrentResult(*Recurrent.apply(cell, *options, *tensors))
    output, h_n, c_n, cells, _ = recurrent_forward(
        cell, *tensors, reset_to_initial, reverse, return_cells, False
    )
    if not kind.has_cell_state:
        return RecurrentResult(output, h_n)
    return RecurrentResult(output, h_n, c_n, cells if return_cells else None)


def lstm(
    input: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    weight_hr: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer of torch.nn.LSTM in one direction over a whole sequence.

    :func:`recurrent` with the cell ``"lstm"`` says what the arguments are and raise; it has more.

    Parameters
    ----------
    input
        (T, N, D), or token ids (T, N).
    h_0, c_0
        (N, R) and (N, H), R being H without ``weight_hr``; None means zeros.
    weight_ih, weight_hh
        (4 * H, D) and (4 * H, R), gates in torch's order i, f, g, o.
    bias_ih, bias_hh
        (4 * H), or None.
    weight_hr
        (R, H), or None: projection of the hidden state.
    lengths
        (N) int64, or None: the steps that each sequence has.
    reverse
        Run from the last step to the first; outputs stay in the order of the input.

    Returns
    -------
    output
        (T, N, R): the hidden state after each step.
    h_n, c_n
        (N, R) and (N, H): the states after the last step taken.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> output, h_n, c_n = F.lstm(torch.randn(7, 2, 3), torch.zeros(2, 5), torch.zeros(2, 5),
    ...                           torch.randn(20, 3), torch.randn(20, 5))
    >>> output.shape, bool((output[-1] == h_n).all())
    (torch.Size([7, 2, 5]), True)
    """
    output, h_n, c_n, _ = recurrent(
        "lstm",
        input,
        h_0,
        c_0,
        weight_ih,
        weight_hh,
        bias_ih,
        bias_hh,
        weight_hr=weight_hr,
        lengths=lengths,
        reverse=reverse,
    )
    assert c_n is not None
    return output, h_n, c_n


def gru(
    input: Tensor,
    h_0: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """One layer of torch.nn.GRU in one direction over a whole sequence.

    :func:`recurrent` with the cell ``"gru"`` says what the arguments are and raise; it has more.

    Parameters
    ----------
    input
        (T, N, D), or token ids (T, N).
    h_0
        (N, H); None means zeros.
    weight_ih, weight_hh
        (3 * H, D) and (3 * H, H), gates in torch's order r, z, n.
    bias_ih, bias_hh
        (3 * H), or None.
    lengths
        (N) int64, or None: the steps that each sequence has.
    reverse
        Run from the last step to the first; outputs stay in the order of the input.

    Returns
    -------
    output
        (T, N, H): the hidden state after each step.
    h_n
        (N, H): the state after the last step taken.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> output, h_n = F.gru(torch.randn(7, 2, 3), None, torch.randn(15, 3), torch.randn(15, 5))
    >>> output.shape, bool((output[-1] == h_n).all())
    (torch.Size([7, 2, 5]), True)
    """
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    return recurrent("gru", input, h_0, None, *weights, lengths=lengths, reverse=reverse)[:2]


def rnn(
    input: Tensor,
    h_0: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """One layer of torch.nn.RNN in one direction over a whole sequence.

    :func:`recurrent` with the cell ``"rnn_tanh"`` or ``"rnn_relu"`` says what the arguments are and
    raise; it has more.

    Parameters
    ----------
    input
        (T, N, D), or token ids (T, N).
    h_0
        (N, H); None means zeros.
    weight_ih, weight_hh
        (H, D) and (H, H).
    bias_ih, bias_hh
        (H), or None.
    nonlinearity
        ``"tanh"`` or ``"relu"``.
    lengths
        (N) int64, or None: the steps that each sequence has.
    reverse
        Run from the last step to the first; outputs stay in the order of the input.

    Returns
    -------
    output
        (T, N, H): the hidden state after each step.
    h_n
        (N, H): the state after the last step taken.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> output, h_n = F.rnn(torch.randn(7, 2, 3), None, torch.randn(5, 3), torch.randn(5, 5))
    >>> output.shape, bool((output[-1] == h_n).all())
    (torch.Size([7, 2, 5]), True)
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'")
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    cell = f"rnn_{nonlinearity}"
    return recurrent(cell, input, h_0, None, *weights, lengths=lengths, reverse=reverse)[:2]
