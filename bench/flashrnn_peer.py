"""FlashRNN's kernels as a layer beside torch.nn's: the same parameters and input, in its layouts.

FlashRNN 1.0.8 (Apache-2.0) takes the projected input, so that its product is part of the layer's
time here. It compiles its kernels at the first call of each size.
"""

import importlib.util

import torch
from case import Run
from recurrent import Sizes, new, one_pass, random_input
from torch import Tensor
from torch.nn import functional

FUNCTIONS = {"LSTM": "lstm", "GRU": "gru", "RNN": "elman"}
DTYPES = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}


def is_installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec("flashrnn") is not None


def recurrent_parameters(
    cell: str, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """Return FlashRNN's weight [gates, heads = 1, H, H] and bias [gates, 1, H] of torch's.

    Gates come in torch's order, but for the GRU: its candidate's product with the hidden state is
    the first of three, and has a bias of its own, as the candidate's part of the input has, the
    last of four.
    """
    weight = weight_hh.unflatten(0, (-1, weight_hh.shape[1]))  # [gates, H, H]
    b_ih, b_hh = (b.unflatten(0, (-1, weight_hh.shape[1])) for b in (bias_ih, bias_hh))
    bias = b_ih + b_hh
    if cell == "GRU":  # torch: r, z, n
        weight = weight[[2, 0, 1]]
        bias = torch.stack((b_hh[2], bias[0], bias[1], b_ih[2]))
    return weight.unsqueeze(1), bias.unsqueeze(1)


def make_flashrnn(cell: str, sizes: Sizes, backward: bool, dtype: torch.dtype) -> Run:
    """Make a layer of FlashRNN's kernels, and torch's input; on a CPU in plain torch, its own."""
    from flashrnn import flashrnn

    layer = new("torch", cell, sizes["D"], sizes["H"], dtype=dtype)
    x = random_input(sizes, dtype, backward)
    backend = "cuda_fused" if x.is_cuda else "vanilla"

    def output() -> Tensor:
        weight_ih, weight_hh, bias_ih, bias_hh = layer.parameters()
        projected = functional.linear(x.transpose(0, 1), weight_ih)  # [N, T, gates H]
        projected = projected.unflatten(2, (-1, 1, sizes["H"]))  # [N, T, gates, heads, H]
        weight, bias = recurrent_parameters(cell, weight_hh, bias_ih, bias_hh)
        options = {"function": FUNCTIONS[cell], "backend": backend, "dtype": DTYPES[dtype]}
        states, _ = flashrnn(projected, weight, bias, **options)  # [states, N, T, heads, H]
        return states[0, :, :, 0].transpose(0, 1)

    return one_pass(output, layer, [x], sizes, backward)
