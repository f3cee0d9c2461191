"""The recurrent layers in torch's modes: compile, export, autocast, torch.func, meta device."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils.rnn import pack_padded_sequence

from backend import not_on_host
from nn_layers import KINDS, draw, make, pair, results, states

T, N, D, H = 5, 3, 4, 8

each_kind = pytest.mark.parametrize("kind", KINDS)

# Keyword arguments of a call, given T and N, and of the constructor.
CALLS: dict[str, Any] = {
    "plain": lambda steps, batch: {},
    "lengths and resets": lambda steps, batch: {
        "lengths": torch.arange(batch) % (steps + 1),
        "resets": torch.rand(steps, batch) < 0.3,
    },
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "norm and heads": {"layer_norm": True, "heads": 2},
    "recompute": {"recompute": 2},
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget the graphs of other tests."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def step(layer: Any, function: Any, x: Tensor, hx: Any, **keywords: Any) -> list[Tensor]:
    """Return outputs and gradients of a call of `function`, which is the layer in some mode."""
    layer.zero_grad()
    output, hn = function(x, hx, **keywords)
    loss = output.square().sum() + sum(state.sum() for state in states(hn))
    return [output, *states(hn), *torch.autograd.grad(loss, list(layer.parameters()))]


@not_on_host
@pytest.mark.parametrize("call", CALLS)
@each_kind
def test_compiled_layer_equals_eager_for_all_shapes_with_one_graph(kind: str, call: str) -> None:
    layer = make(kind, D, H, num_layers=2, bidirectional=True)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for index, (steps, batch) in enumerate([(6, 3), (5, 2), (9, 7)]):
        x, hx = draw(layer, steps, batch)
        keywords = CALLS[call](steps, batch)
        with torch.compiler.set_stance("fail_on_recompile" if index else "default"):
            actual = step(layer, compiled, x, hx, **keywords)
        torch.testing.assert_close(actual, step(layer, layer, x, hx, **keywords))


@not_on_host
@pytest.mark.parametrize("name", ["norm and heads", "recompute"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru"])
def test_compiled_options_equal_eager(kind: str, name: str) -> None:
    layer = make(kind, D, H, batch_first=True, **OPTIONS[name])
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    x, hx = draw(layer, N, T)
    torch.testing.assert_close(step(layer, compiled, x, hx), step(layer, layer, x, hx))
    noisy = make(kind, D, H, recurrent_dropout=1.0, variational_dropout=1.0, zoneout_h=1.0)
    compiled = torch.compile(noisy, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], noisy(x)[0])


@not_on_host
def test_compiled_token_ids_and_inner_states_equal_eager() -> None:
    layer = make("lstm", 9, H, num_layers=2)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in [(6, 3), (5, 2)]:
        ids = torch.randint(9, shape)
        keywords = {"return_cells": True, "return_layers": True}
        torch.testing.assert_close(compiled(ids, **keywords), layer(ids, **keywords))


@not_on_host
def test_packed_sequences_between_compiled_parts_equal_eager() -> None:
    layer = make("gru", D, H)
    packed = pack_padded_sequence(
        torch.randn(T, N, D), torch.tensor([2, 5, 1]), enforce_sorted=False
    )
    compiled = torch.compile(layer, backend="aot_eager")
    torch.testing.assert_close(compiled(packed), layer(packed))


@not_on_host
@pytest.mark.parametrize("call", CALLS)
@each_kind
def test_exported_layer_equals_the_layer_for_all_shapes(kind: str, call: str) -> None:
    layer = make(kind, D, H, num_layers=2, bidirectional=True).eval()
    dynamic = torch.export.Dim.DYNAMIC
    keywords = CALLS[call](4, 3)
    shapes = {"lengths": {0: dynamic}, "resets": {0: dynamic, 1: dynamic}}
    program = torch.export.export(
        layer,
        (torch.randn(4, 3, D),),
        keywords,
        dynamic_shapes={"input": {0: dynamic, 1: dynamic}} | {k: shapes[k] for k in keywords},
    )
    for steps, batch in [(4, 3), (7, 2), (2, 9), (1, 1)]:
        x, keywords = torch.randn(steps, batch, D), CALLS[call](steps, batch)
        with torch.no_grad():
            actual, expected = program.module()(x, **keywords), layer(x, **keywords)
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", OPTIONS)
@each_kind
def test_autocast_computes_in_bfloat16_and_trains_float32_parameters(kind: str, name: str) -> None:
    if kind == "lstm_projected" and "heads" in OPTIONS[name]:
        kind = "lstm"
    layer = make(kind, D, H, bidirectional=True, **OPTIONS[name])
    x, hx = draw(layer, T, N)
    exact = results(layer, x, hx)
    halves = tuple(state.bfloat16() for state in states(hx))
    rounded = results(
        copy.deepcopy(layer).bfloat16(), x.bfloat16(), halves if len(halves) > 1 else halves[0]
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results(layer, x, hx)
    for key, wanted in exact.items():
        assert found[key].dtype == (torch.float32 if key.startswith("d ") else torch.bfloat16)
        error, allowed = (torch.dist(r[key].float(), wanted) for r in (found, rounded))
        assert error <= 2 * allowed + 0.01 * wanted.norm(), key
        assert error > 0, key


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru"])
def test_an_ensemble_of_weights_is_mapped(kind: str, name: str) -> None:
    layers = [make(kind, D, H, num_layers=2, **OPTIONS[name]).eval() for _ in range(3)]
    x, hx = draw(layers[0], T, N)
    parameters, buffers = stack_module_state(layers)
    skeleton = copy.deepcopy(layers[0]).to("meta")

    def call(parameters: Any, buffers: Any) -> Any:
        return functional_call(skeleton, (parameters, buffers), (x, hx))[0]

    actual = vmap(call)(parameters, buffers)
    torch.testing.assert_close(actual, torch.stack([layer(x, hx)[0] for layer in layers]))


@each_kind
def test_functional_gradient_equals_autograds(kind: str) -> None:
    layer = make(kind, D, H)
    x, hx = draw(layer, T, N)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(layer, parameters, (x, hx))[0].square().sum()

    found = grad(loss)(dict(layer.named_parameters()))
    expected = torch.autograd.grad(loss(dict(layer.named_parameters())), list(layer.parameters()))
    torch.testing.assert_close(tuple(found.values()), expected)


@pytest.mark.parametrize("name", OPTIONS)
@each_kind
def test_layer_made_on_the_meta_device_is_materialised_and_loaded(kind: str, name: str) -> None:
    if kind == "lstm_projected" and "heads" in OPTIONS[name]:
        kind = "lstm"
    layer = make(kind, D, H, num_layers=2, bidirectional=True, **OPTIONS[name])
    with torch.device("meta"):
        empty = make(kind, D, H, num_layers=2, bidirectional=True, **OPTIONS[name])
        shape = empty(torch.empty(T, N, D))[0].shape
    x, hx = draw(layer, T, N)
    loaded = empty.to_empty(device="cpu")
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded(x, hx)[0], layer(x, hx)[0])
    assert shape == layer(x, hx)[0].shape


@each_kind
def test_second_derivatives_equal_torchs(kind: str) -> None:
    found = []
    for layer in pair(kind, D, H, dtype=torch.float64):
        torch.manual_seed(1)
        x, hx = draw(layer, T, N)
        x.requires_grad_()
        loss = layer(x, hx)[0].square().sum()
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), list(layer.parameters())))
    torch.testing.assert_close(*found)
