"""seqkern.nn.convert: torch.nn.LSTM becomes seqkern.nn.LSTM in place."""

import copy

import pytest
import torch
from torch import Tensor

from seqkern.nn import LSTM, convert


class Model(torch.nn.Module):
    """Nested layers, one of them used under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.ModuleDict({"low": torch.nn.LSTM(4, 6, batch_first=True)})
        self.stack = torch.nn.ModuleList([torch.nn.LSTM(6, 6, 2, dropout=0.5, batch_first=True)])
        self.again = self.stack[0]
        self.head = torch.nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.encoder["low"], self.stack[0], self.again):
            x, _ = layer(x)
        return self.head(x)


@pytest.fixture
def model() -> Model:
    """Return a model out of training, so that its dropout does nothing."""
    return Model().eval()


def test_outputs_and_gradients_stay_the_same(model: Model) -> None:
    x = torch.randn(2, 5, 4)
    expected = model(x)
    expected_gradients = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    assert convert(model) is model
    actual = model(x)
    gradients = torch.autograd.grad(actual.square().sum(), list(model.parameters()))
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradients, expected_gradients)


def test_every_layer_is_replaced_once_and_keeps_its_identity(model: Model) -> None:
    before = {name: id(module) for name, module in model.named_modules()}
    parameters = [id(parameter) for parameter in model.parameters()]
    convert(model)
    layers = [model.encoder["low"], model.stack[0], model.again]
    assert [type(layer) for layer in layers] == [LSTM, LSTM, LSTM]
    assert model.again is model.stack[0]
    assert {name: id(module) for name, module in model.named_modules()} == before
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert not any(module.training for module in model.modules())


def test_an_lstm_by_itself_is_converted() -> None:
    layer = torch.nn.LSTM(4, 6)
    assert convert(layer) is layer
    assert type(layer) is LSTM


def test_optimizer_made_before_trains_the_converted_model(model: Model) -> None:
    twin = copy.deepcopy(model)
    x = torch.randn(2, 5, 4)
    for one in (model, twin):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9)
        for step in range(3):
            if one is model and step == 1:
                convert(one)
            optimizer.zero_grad()
            one(x).square().mean().backward()
            optimizer.step()
    assert type(model.again) is LSTM
    torch.testing.assert_close(model.state_dict(), twin.state_dict())


def test_hooks_stay(model: Model) -> None:
    seen: list[str] = []
    model.again.register_forward_hook(lambda *_: seen.append("forward"))
    convert(model)
    model(torch.randn(2, 5, 4))
    assert seen == ["forward", "forward"]


def test_a_second_conversion_changes_nothing(model: Model) -> None:
    convert(model)
    state = copy.deepcopy(model.state_dict())
    convert(model)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


def test_converted_model_is_deep_copied_and_loads_the_original_state(model: Model) -> None:
    x, state = torch.randn(2, 5, 4), copy.deepcopy(model.state_dict())
    expected = model(x)
    other = copy.deepcopy(convert(model))
    assert type(other.again) is LSTM
    other.load_state_dict(state, strict=True)
    torch.testing.assert_close(other(x), expected)


def test_subclasses_and_other_recurrent_layers_are_left_alone() -> None:
    class Own(torch.nn.LSTM):
        pass

    modules = torch.nn.ModuleList([Own(4, 6), torch.nn.GRU(4, 6), torch.nn.LSTMCell(4, 6)])
    convert(modules)
    assert [type(module) for module in modules] == [Own, torch.nn.GRU, torch.nn.LSTMCell]


def test_proj_size_is_refused_and_leaves_the_model_unchanged(model: Model) -> None:
    model.add_module("projected", torch.nn.LSTM(6, 6, proj_size=3))
    with pytest.raises(NotImplementedError, match="proj_size"):
        convert(model)
    layers = [module for module in model.modules() if isinstance(module, torch.nn.RNNBase)]
    assert [type(layer) for layer in layers] == [torch.nn.LSTM] * 3
