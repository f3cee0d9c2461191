"""What the tests of the kernels share: the oracle, the peer in torch, and the measure of error.

An oracle takes the same rounded numbers as the kernel, and computes in float64 with the NumPy
layers of `reference`. A kernel may then err at most twice as much as torch does in the same dtype,
or by a few roundings of the result: a fixed tolerance would hide a wrong term that is small.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import settings
from numpy.typing import NDArray
from torch import Tensor

import backend
from reference import TimeLSTM, TimeSoftmaxWithLoss, mapping

Array = NDArray[np.float64]

LSTM_ARGUMENTS = ("input", "h_0", "c_0", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
LSTM_OUTPUTS = ("output", "h_n", "c_n")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
KERNEL_DTYPES = (*DTYPES, torch.float16) if backend.NAME in backend.CUDA else DTYPES

# Kernels run thread by thread: tests take smaller sizes and fewer examples.
SLOW = backend.NAME == "cuda-on-host"


def examples(count: int) -> settings:
    """Return the settings of a property test: the same examples in each run, on each machine."""
    count = max(2, count // 12) if SLOW else count
    return settings(deadline=None, derandomize=True, database=None, max_examples=count)


def generator(seed: int) -> torch.Generator:
    """Return a fresh generator, for tests that may not use the fixtures (hypothesis)."""
    return torch.Generator().manual_seed(seed)


def normal(shape: tuple[int, ...], dtype: torch.dtype, random: torch.Generator) -> Tensor:
    """Draw normal numbers in float64 and round them: the same numbers in each dtype."""
    return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)


def strided(tensor: Tensor) -> Tensor:
    """Return the same values as a slice of a larger, transposed buffer of NaN (or -9, or true)."""
    shape = tuple(size + 3 for size in reversed(tensor.shape))
    filler = torch.nan if tensor.is_floating_point() else -9
    buffer = torch.full(shape, filler, dtype=tensor.dtype)
    buffer = buffer.permute(*reversed(range(tensor.dim())))
    view = buffer[tuple(slice(1, size + 1) for size in tensor.shape)]
    view.copy_(tensor)
    return view


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch, and so seqkern, use this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def to_array(tensor: Tensor) -> Array:
    """Return the values in float64."""
    array: Array = tensor.detach().double().numpy()
    return array


def error(actual: Tensor, expected: Array) -> float:
    """Return the greater of two relative errors: of the norm, and of the worst element.

    The worst element is measured against the greatest. Both are 0 for empty arrays.
    """
    assert tuple(actual.shape) == expected.shape
    if expected.size == 0:
        return 0.0
    difference = to_array(actual) - expected
    norm, greatest = np.linalg.norm(expected), np.abs(expected).max()
    if norm == 0.0:
        return 0.0 if not difference.any() else np.inf
    return max(float(np.linalg.norm(difference) / norm), float(np.abs(difference).max() / greatest))


@dataclass(frozen=True)
class LstmProblem:
    """Arguments of one LSTM layer, in the order of `LSTM_ARGUMENTS`, and its outputs' gradients.

    None stands for an absent bias, or for an output that the loss does not use.
    """

    arguments: tuple[Tensor | None, ...]
    gradients: tuple[Tensor | None, ...]
    reverse: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of all tensors."""
        return self.present()[0].dtype

    def present(self) -> list[Tensor]:
        """Return the arguments that are there."""
        return [argument for argument in self.arguments if argument is not None]

    def to(self, dtype: torch.dtype) -> "LstmProblem":
        """Return the problem in another dtype."""
        return replace(
            self,
            arguments=tuple(t if t is None else t.to(dtype) for t in self.arguments),
            gradients=tuple(t if t is None else t.to(dtype) for t in self.gradients),
        )


def lstm_problem(
    steps: int,
    batch: int,
    input_size: int,
    hidden_size: int,
    dtype: torch.dtype,
    seed: int,
    *,
    reverse: bool = False,
    biases: tuple[bool, bool] = (True, True),
    used: tuple[bool, bool, bool] = (True, True, True),
) -> LstmProblem:
    """Draw a layer whose gates are neither saturated nor linear.

    Parameters
    ----------
    biases
        Whether bias_ih and bias_hh are there.
    used
        Whether output, h_n and c_n have gradients.
    """
    random = generator(seed)
    state, sequence = (batch, hidden_size), (steps, batch, hidden_size)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (normal(shape, torch.float64, random) * scale).to(dtype)

    rows = 4 * hidden_size
    arguments = [draw(steps, batch, input_size), draw(*state), draw(*state)]
    arguments += [draw(rows, n, scale=max(n, 1) ** -0.5) for n in (input_size, hidden_size)]
    return LstmProblem(
        (*arguments, *(draw(rows, scale=0.5) if there else None for there in biases)),
        tuple(
            draw(*shape) if wanted else None
            for shape, wanted in zip((sequence, state, state), used, strict=True)
        ),
        reverse,
    )


def lstm_reference(problem: LstmProblem) -> dict[str, Array]:
    """Outputs, and gradients (prefix "d_") of all arguments that are there, in float64."""
    x, h_0, c_0, *weights = (None if t is None else to_array(t) for t in problem.arguments)
    d_output, d_h_n, d_c_n = (None if t is None else to_array(t) for t in problem.gradients)
    assert x is not None
    if problem.reverse:
        x = x[::-1]
        d_output = None if d_output is None else d_output[::-1]
    layer = TimeLSTM(*mapping.lstm_from_torch(*weights), stateful=True)  # type: ignore[arg-type]
    assert h_0 is not None
    layer.set_state(h_0, c_0)
    hs = layer.forward(mapping.sequence_from_torch(x))
    d_hs = np.zeros(hs.shape) if d_output is None else mapping.sequence_from_torch(d_output)
    d_xs = layer.backward(d_hs, d_h_n, d_c_n)
    output, d_x = mapping.sequence_to_torch(hs), mapping.sequence_to_torch(d_xs)
    if problem.reverse:
        output, d_x = output[::-1], d_x[::-1]
    assert layer.h is not None
    assert layer.c is not None
    values = [d_x, layer.dh, layer.dc, *mapping.lstm_gradients_to_torch(*layer.grads)]
    found = {
        f"d_{name}": value
        for name, value, argument in zip(LSTM_ARGUMENTS, values, problem.arguments, strict=True)
        if argument is not None
    }
    return {"output": output, "h_n": layer.h, "c_n": layer.c, **found}


def differentiate(
    outputs: tuple[Tensor, ...], problem: LstmProblem, wanted: list[str], leaves: list[Tensor]
) -> dict[str, Tensor]:
    """Outputs by name, and the gradients of `leaves`, whose names are `wanted`."""
    pairs = [
        (output, gradient)
        for output, gradient in zip(outputs, problem.gradients, strict=True)
        if gradient is not None
    ]
    found = torch.autograd.grad(
        [output for output, _ in pairs], leaves, [gradient for _, gradient in pairs]
    )
    return dict(zip(LSTM_OUTPUTS, outputs, strict=True)) | {
        f"d_{name}": gradient for name, gradient in zip(wanted, found, strict=True)
    }


def lstm_torch(problem: LstmProblem) -> dict[str, Tensor]:
    """Outputs and gradients of torch.nn.LSTM, as `lstm_reference` names them (T and N positive)."""
    x, h_0, c_0, *weights = (None if t is None else t.detach().clone() for t in problem.arguments)
    assert x is not None
    assert h_0 is not None
    assert c_0 is not None
    layer = torch.nn.LSTM(x.shape[2], h_0.shape[1], dtype=problem.dtype)
    parameters = [p for p, weight in zip(layer.parameters(), weights, strict=True)]
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.zero_() if weight is None else parameter.copy_(weight)
    leaves = [t.requires_grad_() for t in (x, h_0, c_0)] + parameters
    output, (h_n, c_n) = layer(x.flip(0) if problem.reverse else x, (h_0[None], c_0[None]))
    output = output.flip(0) if problem.reverse else output
    everything = differentiate((output, h_n[0], c_n[0]), problem, list(LSTM_ARGUMENTS), leaves)
    absent = {n for n, t in zip(LSTM_ARGUMENTS, problem.arguments, strict=True) if t is None}
    return {name: t for name, t in everything.items() if name.removeprefix("d_") not in absent}


def loss_reference(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[float, Array]:
    """Return the loss and its gradient in float64, for logits (..., V) and target (...)."""
    layer, classes = TimeSoftmaxWithLoss(ignore_index), logits.shape[-1]
    x = to_array(logits).reshape(1, target.numel(), classes)
    loss = layer.forward(x, target.numpy().reshape(1, target.numel()))
    return loss, layer.backward().reshape(tuple(logits.shape))
