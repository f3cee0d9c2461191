"""The work of the recurrent benchmarks, as cases: layers, streaming, token ids, lengths, recompute.

Every peer starts from the same seed, so weights, inputs and output gradients are equal. A backward
pass yields the gradients of all parameters, and of the input where it is floating-point.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from case import Case, Run
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqkern.functional
import seqkern.nn

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
CELLS = tuple(GATES)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STREAMED_STEPS = 64  # calls in a run
KEEP = "keep gates"  # a peer of the recompute cases; "recompute 16" is 16 steps at a time

Sizes = Mapping[str, int]


def new(
    peer: str, module: str, *sizes: int, dtype: torch.dtype | None = None, **options: object
) -> nn.Module:
    """Make a module of seqkern.nn or torch.nn with the parameters that are both peers'."""
    torch.manual_seed(0)
    namespace = {"seqkern": seqkern.nn, "torch": torch.nn}[peer]
    return getattr(namespace, module)(*sizes, dtype=dtype, **options)


def one_pass(
    output: Callable[[], Tensor],  # [T, N, H]
    module: nn.Module,
    inputs: Sequence[Tensor],
    sizes: Sizes,
    backward: bool,
) -> Run:
    """Make a run of ``output`` without gradients, or with those of ``inputs`` and parameters."""
    module.train(backward)
    leaves = [*inputs, *module.parameters()]
    d_output = torch.randn(sizes["T"], sizes["N"], sizes["H"]).to(leaves[0].dtype)

    def forward() -> object:
        with torch.no_grad():
            return output()

    def forward_and_backward() -> object:
        return torch.autograd.grad(output(), leaves, d_output)

    return forward_and_backward if backward else forward


def pass_name(backward: bool) -> str:
    """Return how groups call it."""
    return "forward + backward" if backward else "forward"


def flops_of(cell: str, sizes: Sizes, backward: bool) -> float:
    """Count those of the products; a backward pass has twice the products of a forward pass."""
    rows = sizes["N"] * sizes["T"]
    forward = 2.0 * rows * GATES[cell] * sizes["H"] * (sizes["D"] + sizes["H"])
    return 3 * forward if backward else forward


def random_input(sizes: Sizes, dtype: torch.dtype, backward: bool) -> Tensor:
    """Return an input (T, N, D)."""
    shape = sizes["T"], sizes["N"], sizes["D"]
    return torch.randn(shape).to(dtype).requires_grad_(backward)


def make_layer(
    peer: str, cell: str, sizes: Sizes, backward: bool, dtype: torch.dtype = torch.float32
) -> Run:
    """Make a layer of a cell, and an input."""
    layer = new(peer, cell, sizes["D"], sizes["H"], dtype=dtype)
    x = random_input(sizes, dtype, backward)
    return one_pass(lambda: layer(x)[0], layer, [x], sizes, backward)


def layer_case(cell: str, sizes: Sizes, backward: bool, dtype: torch.dtype = torch.float32) -> Case:
    """One layer beside torch.nn's."""
    return Case(
        group=f"{cell}, {pass_name(backward)}",
        sizes=sizes,
        make=partial(make_layer, cell=cell, sizes=sizes, backward=backward, dtype=dtype),
        flops=flops_of(cell, sizes, backward),
    )


def make_precision(peer: str, cell: str, sizes: Sizes, backward: bool) -> Run:
    """Make seqkern's layer in a dtype."""
    return make_layer("seqkern", cell, sizes, backward, DTYPES[peer])


def precision_case(cell: str, sizes: Sizes, backward: bool) -> Case:
    """seqkern's layer in bfloat16 beside the same in float32."""
    return Case(
        group=f"{cell}, {pass_name(backward)}",
        sizes=sizes,
        make=partial(make_precision, cell=cell, sizes=sizes, backward=backward),
        flops=flops_of(cell, sizes, backward),
        peers=("bfloat16", "float32"),
    )


def make_stream(peer: str, module: str, sizes: Sizes) -> Run:
    """Make a module that is called once a step, and is handed its own state."""
    is_cell = module.endswith("Cell")
    net = new(peer, module, sizes["D"], sizes["H"]).eval()
    shape = (1, sizes["D"]) if is_cell else (1, 1, sizes["D"])
    steps = list(torch.randn(STREAMED_STEPS, *shape))
    state_shape = (1, sizes["H"]) if is_cell else (1, 1, sizes["H"])
    zeros = torch.zeros(state_shape)
    state_0 = (zeros, zeros.clone()) if "LSTM" in module else zeros

    def stream_cell() -> object:
        state = state_0
        with torch.no_grad():
            for x in steps:
                state = net(x, state)
        return state

    def stream_layer() -> object:
        state = state_0
        with torch.no_grad():
            for x in steps:
                output, state = net(x, state)
        return output

    return stream_cell if is_cell else stream_layer


def stream_case(module: str, hidden_size: int) -> Case:
    """Inference of one sequence, one step a call, beside torch.nn's."""
    sizes = {"N": 1, "T": 1, "D": hidden_size, "H": hidden_size}
    return Case(
        group=module,
        sizes=sizes,
        make=partial(make_stream, module=module, sizes=sizes),
        flops=flops_of(module.removesuffix("Cell"), sizes, backward=False),
        calls=STREAMED_STEPS,
    )


def make_tokens(peer: str, cell: str, sizes: Sizes, backward: bool) -> Run:
    """Make token ids, and a layer that takes them: torch's through their one-hot encoding."""
    vocabulary = sizes["V"]
    layer = new(peer, cell, vocabulary, sizes["H"])
    ids = torch.randint(vocabulary, (sizes["T"], sizes["N"]))

    def output() -> Tensor:
        if peer == "seqkern":
            return layer(ids)[0]
        return layer(nn.functional.one_hot(ids, vocabulary).to(torch.float32))[0]

    return one_pass(output, layer, [], sizes, backward)


def token_case(cell: str, sizes: Sizes, backward: bool) -> Case:
    """Token ids beside torch.nn's layer on their one-hot encoding."""
    return Case(
        group=f"{cell}, {pass_name(backward)}",
        sizes=sizes,
        make=partial(make_tokens, cell=cell, sizes=sizes, backward=backward),
    )


def make_lengths(peer: str, cell: str, sizes: Sizes, full: bool, backward: bool) -> Run:
    """Make a padded batch of sequences of length T, or of 1 to T (the longest is T)."""
    steps, batch = sizes["T"], sizes["N"]
    layer = new("torch" if peer == "torch packed" else "seqkern", cell, sizes["D"], sizes["H"])
    x = random_input(sizes, torch.float32, backward)
    lengths = torch.full((batch,), steps) if full else torch.randint(1, steps + 1, (batch,))
    lengths[0] = steps

    def output() -> Tensor:
        if peer == "padded":
            return layer(x)[0]
        if peer == "lengths":
            return layer(x, lengths=lengths)[0]
        packed = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))[0]
        return pad_packed_sequence(packed, total_length=steps)[0]

    return one_pass(output, layer, [x], sizes, backward)


def lengths_case(cell: str, sizes: Sizes, full: bool, backward: bool) -> Case:
    """lengths= beside the padded batch without it, and torch.nn's layer on a packed sequence."""
    return Case(
        group=f"{cell}, {pass_name(backward)}, lengths {'all T' if full else '1 to T'}",
        sizes=sizes,
        make=partial(make_lengths, cell=cell, sizes=sizes, full=full, backward=backward),
        peers=("lengths", "padded", "torch packed"),
    )


def make_recompute(peer: str, sizes: Sizes) -> Run:
    """Make a training pass of an LSTM that keeps its gates, or computes them again."""
    if peer == "torch":
        return make_layer(peer, "LSTM", sizes, backward=True)
    layer = new("torch", "LSTM", sizes["D"], sizes["H"])
    x = random_input(sizes, torch.float32, backward=True)
    weight_ih, weight_hh, bias_ih, bias_hh = layer.parameters()
    steps = 0 if peer == KEEP else int(peer.removeprefix("recompute "))

    def output() -> Tensor:
        return seqkern.functional.recurrent(
            "lstm",
            x,
            weight_ih=weight_ih,
            weight_hh=weight_hh,
            bias_ih=bias_ih,
            bias_hh=bias_hh,
            recompute=steps,
        ).output

    return one_pass(output, layer, [x], sizes, backward=True)


def recompute_case(sizes: Sizes, intervals: Sequence[int]) -> Case:
    """An LSTM's training pass that computes gates again, beside one that keeps them."""
    return Case(
        group=f"LSTM, {pass_name(True)}",
        sizes=sizes,
        make=partial(make_recompute, sizes=sizes),
        peers=(KEEP, *(f"recompute {steps}" for steps in intervals), "torch"),
    )
