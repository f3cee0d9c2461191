"""Layers of seqkern and of torch with the same parameters, and what both compute."""

from typing import Any

import torch
from torch import Tensor

import seqkern.nn

# Arguments of the constructors of both.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "lstm_projected": ("LSTM", {"proj_size": 5}),
    "gru": ("GRU", {}),
}


def make(kind: str, *sizes: int, **options: Any) -> Any:
    """Make a layer of seqkern."""
    name, fixed = KINDS[kind]
    return getattr(seqkern.nn, name)(*sizes, **fixed, **options)


def pair(kind: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    """Make a layer of seqkern and one of torch with the same parameters."""
    name, fixed = KINDS[kind]
    theirs = getattr(torch.nn, name)(*sizes, **fixed, **options)
    ours = make(kind, *sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def states(hx: Any) -> tuple[Tensor, ...]:
    """Return the states of any layer as a tuple."""
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def draw_state(layer: torch.nn.RNNBase, *batch: int) -> Any:
    """Draw an initial state as the layer takes it."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    dtype = next(layer.parameters()).dtype
    h_0 = torch.randn(count, *batch, layer.proj_size or layer.hidden_size, dtype=dtype)
    if layer.mode != "LSTM":
        return h_0
    return h_0, torch.randn(count, *batch, layer.hidden_size, dtype=dtype)


def draw(layer: torch.nn.RNNBase, *lead: int) -> tuple[Tensor, Any]:
    """Draw an input whose first dimensions are given, and an initial state."""
    batch = (lead[0] if layer.batch_first else lead[1],) if len(lead) == 2 else ()
    x = torch.randn(*lead, layer.input_size, dtype=next(layer.parameters()).dtype)
    return x, draw_state(layer, *batch)


def results(layer: Any, x: Any, hx: Any = None, **keywords: Any) -> dict[str, Tensor]:
    """Outputs, and gradients of everything, of a loss that uses every output."""
    data = x.data if isinstance(x, tuple) else x
    leaves = {}
    if data.is_floating_point():
        data = data.detach().requires_grad_()
        leaves["x"] = data
        x = x._replace(data=data) if isinstance(x, tuple) else data
    if hx is not None:
        given = [t.detach().requires_grad_() for t in states(hx)]
        leaves |= {f"state {index}": t for index, t in enumerate(given)}
        hx = given[0] if isinstance(hx, Tensor) else tuple(given)
    leaves |= dict(layer.named_parameters())
    output, hn = layer(x, hx, **keywords)
    output = output.data if isinstance(output, tuple) else output
    final = states(hn)
    loss = output.square().sum()
    for factor, state in zip((2.0, -1.0), final, strict=False):
        loss = loss + (factor * state).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return {
        "output": output,
        **{f"final state {index}": t for index, t in enumerate(final)},
        **{f"d {name}": g for name, g in zip(leaves, gradients, strict=True)},
    }


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Check that results have the same shapes and dtypes, and agree up to rounding."""
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        found = actual[name]
        assert found.dtype == wanted.dtype, name
        assert found.shape == wanted.shape, name
        if wanted.numel():
            scale = wanted.abs().max().item() + 1e-3
            error = (found - wanted).abs().max().item()  # NaN fails
            assert error <= 64 * torch.finfo(wanted.dtype).eps * scale, (name, error, scale)


def assert_same(ours: Any, theirs: Any, x: Any, hx: Any = None) -> None:
    """Check the outputs and gradients of two layers."""
    assert_close(results(ours, x, hx), results(theirs, x, hx))
