"""torch.compile and torch.export: one graph for all shapes, with the numbers of eager mode."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import seqkern.functional as F
import seqkern.nn
from backend import not_on_host
from recurrent_cases import NAMES, OPTIONS, allowed, differentiable, draw

pytestmark = not_on_host

VOCABULARY = 23


class Model(torch.nn.Module):
    """Tokens and targets, (T, N) each, to the loss of a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, 8)
        self.recurrent = seqkern.nn.LSTM(8, 16)
        self.linear = torch.nn.Linear(16, VOCABULARY)
        self.loss = seqkern.nn.TimeSoftmaxLoss()

    def forward(self, tokens: Tensor, target: Tensor) -> Tensor:
        return self.loss(self.linear(self.recurrent(self.embedding(tokens))[0]), target)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget the graphs of other tests."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def batch(steps: int, size: int) -> tuple[Tensor, Tensor]:
    """Draw tokens, and targets of which some are ignored."""
    tokens = torch.randint(VOCABULARY, (steps, size))
    return tokens, torch.randint(-1, VOCABULARY, (steps, size))


def loss_and_gradients(model: Any, *arguments: Tensor) -> list[Tensor]:
    """Run a training step without the optimizer's."""
    model.zero_grad()
    loss = model(*arguments)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) == len(list(model.parameters()))
    return [loss.detach(), *gradients]


def test_compiled_training_step_equals_eager_for_all_shapes_with_one_graph() -> None:
    eager = Model()
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, dynamic=True)
    shapes = [(6, 3), (5, 2), (9, 7)]
    for index, shape in enumerate(shapes):
        arguments = batch(*shape)
        with torch.compiler.set_stance("fail_on_recompile" if index else "default"):
            actual = loss_and_gradients(compiled, *arguments)
        torch.testing.assert_close(actual, loss_and_gradients(eager, *arguments))


def test_compiled_state_and_autocast_equal_eager() -> None:
    layer = seqkern.nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True)

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output, (h_n, c_n) = layer(x, (h, c))
        return output, h_n, c_n

    arguments = torch.randn(3, 5, 8), torch.randn(4, 3, 16), torch.randn(4, 3, 16)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    parameters = list(layer.parameters())
    results = []
    for function in (compiled, step):
        outputs = function(*arguments)
        loss = torch.stack([t.float().square().sum() for t in outputs]).sum()
        results.append([*outputs, *torch.autograd.grad(loss, parameters)])
    torch.testing.assert_close(*results)


def test_one_tensor_may_be_both_states_of_a_compiled_layer() -> None:
    x, w, u = torch.randn(3, 2, 4), torch.randn(20, 4), torch.randn(20, 5).requires_grad_()
    zeros = torch.zeros(2, 5)

    def layer(u: Tensor) -> Tensor:
        return F.lstm(x, zeros, zeros, w, u)[0]

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(u), layer(u))


@pytest.mark.parametrize("cell", NAMES)
def test_compiled_options_equal_eager_for_all_shapes_with_one_graph(cell: str) -> None:
    options = allowed(cell, (*OPTIONS, "cells")) - {"heads", "projected", "weight_hr"}

    def results(arguments: dict[str, Tensor]) -> list[Tensor]:
        cells = cell.startswith("lstm")
        results = F.recurrent(
            cell, **arguments, reverse=True, reset_to_initial=True, return_cells=cells
        )
        return [tensor for tensor in results if tensor is not None]

    compiled = torch.compile(results, fullgraph=True, dynamic=True, backend="aot_eager")
    for index, (steps, size) in enumerate([(6, 5), (5, 2), (9, 7)]):
        problem = draw(cell, (steps, size, 4, 8), torch.float32, index, options)
        masks = ("recurrent_mask", "zoneout_h", "zoneout_c")
        names = [name for name in differentiable(problem) if name not in masks]
        leaves = [problem.arguments[name].requires_grad_() for name in names]
        with torch.compiler.set_stance("fail_on_recompile" if index else "default"):
            actual = compiled(problem.arguments)
        expected = results(problem.arguments)
        for found in (actual, expected):
            loss = torch.stack([tensor.square().sum() for tensor in found]).sum()
            found += torch.autograd.grad(loss, leaves)
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("recompute", [0, 2])
def test_compiled_token_ids_and_recomputation_equal_eager(recompute: int) -> None:
    weights = [torch.randn(12, VOCABULARY).requires_grad_(), torch.randn(12, 4).requires_grad_()]
    lengths = torch.tensor([5, 0, 3])

    def results(tokens: Tensor, w: Tensor, u: Tensor) -> list[Tensor]:
        arguments = {"weight_ih": w, "weight_hh": u, "lengths": lengths, "recompute": recompute}
        return list(F.recurrent("gru", tokens, **arguments)[:2])

    tokens, _ = batch(6, 3)
    compiled = torch.compile(results, fullgraph=True, dynamic=True)
    found = []
    for function in (compiled, results):
        outputs = function(tokens, *weights)
        loss = outputs[0].square().sum() + outputs[1].sum()
        found.append([*outputs, *torch.autograd.grad(loss, weights)])
    torch.testing.assert_close(*found)


def test_one_tensor_may_be_several_arguments_of_a_compiled_layer() -> None:
    x, u, b = torch.randn(3, 2, 20), torch.randn(20, 5).requires_grad_(), torch.randn(20)
    factor = torch.full((3, 2, 5), 0.5)

    def layer(u: Tensor) -> Tensor:
        options = {"bias_ih": b, "bias_hh": b, "norm_hh": b, "zoneout_h": factor}
        return F.recurrent("lstm", x, weight_hh=u, **options, zoneout_c=factor).output

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(u), layer(u))


def test_compiled_gradients_share_no_memory() -> None:
    compiled = torch.compile(Model(), fullgraph=True, backend="aot_eager")
    gradients = loss_and_gradients(compiled, *batch(4, 3))
    assert len({g.untyped_storage().data_ptr() for g in gradients}) == len(gradients)


def test_compiled_second_derivatives_are_refused() -> None:
    """A compiled graph has none: to drop them in silence would be wrong."""
    x, w, u = torch.randn(3, 2, 4), torch.randn(20, 4), torch.randn(20, 5).requires_grad_()
    h, c = torch.zeros(2, 5), torch.zeros(2, 5)
    compiled = torch.compile(
        lambda u: F.lstm(x, h, c, w, u)[0], fullgraph=True, backend="aot_eager"
    )
    with pytest.raises(RuntimeError, match="double backward"):
        (gradient,) = torch.autograd.grad(compiled(u).sum(), u, create_graph=True)
        torch.autograd.grad(gradient.square().sum(), u)


# --- export --------------------------------------------------------------------------------------


@pytest.fixture
def exported_and_model() -> tuple[torch.nn.Module, Model]:
    """Return a model exported for sequences and batches of any size, and the model."""
    model, arguments = Model(), batch(4, 3)
    dims = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, arguments, dynamic_shapes=(dims, dims))
    return program.module(), model


def test_exported_model_equals_the_model(
    exported_and_model: tuple[torch.nn.Module, Model],
) -> None:
    exported, model = exported_and_model
    for shape in [(4, 3), (7, 2), (2, 9)]:
        arguments = batch(*shape)
        with torch.no_grad():
            assert torch.equal(exported(*arguments), model(*arguments))


@pytest.mark.parametrize("cell", NAMES)
def test_exported_layer_with_lengths_takes_any_number_of_steps_and_sequences(cell: str) -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            problem = draw(cell, (1, 1, 4, 8), torch.float32, 1, ["bias_hh"])
            for name, tensor in problem.arguments.items():
                if name != "input":
                    self.register_buffer(name, tensor)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return F.recurrent(cell, x, **dict(self.named_buffers()), lengths=lengths).output

    def arguments(steps: int, size: int) -> tuple[Tensor, Tensor]:
        return torch.randn(steps, size, 4), torch.randint(steps + 1, (size,))

    layer, dynamic = Layer(), torch.export.Dim.DYNAMIC
    shapes = {0: dynamic, 1: dynamic}, {0: dynamic}
    exported = torch.export.export(layer, arguments(5, 3), dynamic_shapes=shapes).module()
    for sizes in [(5, 3), (7, 2), (2, 9)]:
        given = arguments(*sizes)
        assert torch.equal(exported(*given), layer(*given))


def test_gradients_of_an_exported_model_are_right_or_refused(
    exported_and_model: tuple[torch.nn.Module, Model],
) -> None:
    exported, model = exported_and_model
    arguments = batch(4, 3)
    expected = loss_and_gradients(model, *arguments)
    exported.zero_grad()  # its parameters may be the model's
    try:
        loss = exported(*arguments)
        loss.backward()
    except RuntimeError:
        return
    found = dict(exported.named_parameters())
    actual = [loss.detach(), *(found[name].grad for name, _ in model.named_parameters())]
    torch.testing.assert_close(actual, expected)
