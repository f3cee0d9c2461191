"""seqkern.nn.convert and revert: recurrent layers of torch.nn become seqkern's, and back."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize, weight_norm

import seqkern.nn
from seqkern.nn import LSTM, convert, revert

NAMES = ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell")


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


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_converted_and_reverted(name: str) -> None:
    layer = getattr(torch.nn, name)(4, 6)
    x = torch.randn(5, 4)
    expected = layer(x)
    attributes = dict(vars(layer))
    assert type(convert(layer)) is getattr(seqkern.nn, name)
    torch.testing.assert_close(layer(x), expected)
    assert type(revert(layer)) is getattr(torch.nn, name)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
    assert vars(layer).keys() == attributes.keys()


@pytest.mark.parametrize(
    "options",
    [
        {"proj_size": 3},
        {"num_layers": 2, "bidirectional": True, "bias": False},
        {"batch_first": True, "dropout": 0.5, "num_layers": 2},
    ],
    ids=str,
)
def test_options_of_torch_are_kept(options: dict[str, object]) -> None:
    layer = torch.nn.LSTM(4, 6, **options).eval()
    x = torch.randn(2, 5, 4)
    expected = layer(x)
    shown = repr(layer)
    assert repr(convert(layer)) == shown
    torch.testing.assert_close(layer(x), expected)


def test_nonlinearity_is_kept() -> None:
    x = torch.randn(5, 4)
    for layer in (torch.nn.RNN(4, 6, 1, "relu"), torch.nn.RNNCell(4, 6, nonlinearity="relu")):
        expected = layer(x)
        torch.testing.assert_close(convert(layer)(x), expected)


def test_layers_made_by_seqkern_are_reverted() -> None:
    layer = seqkern.nn.GRU(4, 6)
    x = torch.randn(5, 2, 4)
    expected = layer(x)
    assert type(revert(layer)) is torch.nn.GRU
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    "layer",
    [
        seqkern.nn.GRU(4, 6, reset_after=False),
        seqkern.nn.LSTM(4, 6, peephole=True),
        seqkern.nn.RNN(4, 6, zoneout_h=0.5),
    ],
    ids=str,
)
def test_what_torch_does_not_have_is_not_reverted_and_leaves_the_model_unchanged(
    layer: torch.nn.Module,
) -> None:
    model = torch.nn.ModuleDict({"first": seqkern.nn.LSTM(4, 6), "second": layer})
    with pytest.raises(ValueError, match=r"^torch.nn has no counterpart of .*, which is second"):
        revert(model)
    assert type(model["first"]) is LSTM


@pytest.mark.parametrize("name", NAMES)
def test_parametrized_layers_are_converted_and_reverted(name: str) -> None:
    layer = getattr(torch.nn, name)(4, 6)
    weight = "weight_hh" if name.endswith("Cell") else "weight_hh_l0"
    parametrizations.weight_norm(layer, weight)
    x = torch.randn(5, 4)
    expected = layer(x)
    convert(layer)
    assert isinstance(layer, getattr(seqkern.nn, name))
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(copy.deepcopy(layer)(x), expected)
    revert(layer)
    assert isinstance(layer, getattr(torch.nn, name))
    torch.testing.assert_close(layer(x), expected)
    convert(layer)
    parametrize.remove_parametrizations(layer, weight)
    assert type(layer) is getattr(seqkern.nn, name)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_layers_with_weight_norm_by_hooks_are_converted() -> None:
    layer = weight_norm(torch.nn.GRU(4, 6), "weight_hh_l0")
    x = torch.randn(5, 2, 4)
    expected = layer(x)
    torch.testing.assert_close(convert(layer)(x), expected)


def test_subclasses_of_others_are_left_alone() -> None:
    class Own(torch.nn.LSTM):
        pass

    class OwnCell(seqkern.nn.GRUCell):
        pass

    modules = torch.nn.ModuleList([Own(4, 6), OwnCell(4, 6), torch.nn.Linear(4, 6)])
    kinds = [type(module) for module in modules]
    assert [type(module) for module in convert(modules)] == kinds
    assert [type(module) for module in revert(modules)] == kinds
