"""RNN, LSTM and GRU of seqkern.nn beside torch.nn's with the same parameters; the loss module."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize, prune, weight_norm

import seqkern
from backend import not_on_host
from nn_layers import KINDS, assert_same, draw, draw_state, make, pair, results, states
from seqkern.nn import GRU, LSTM, RNN, TimeSoftmaxLoss

T, N, D, H = 5, 3, 4, 17

each_kind = pytest.mark.parametrize("kind", KINDS)


# --- outputs and gradients -----------------------------------------------------------------------


@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize(
    ("options", "lead"),
    [
        ({}, (T, N)),
        ({}, (T,)),
        ({}, (1, 1)),
        ({"num_layers": 2}, (T, N)),
        ({"num_layers": 3, "bidirectional": True}, (T, N)),
        ({"bidirectional": True}, (T, N)),
        ({"bidirectional": True}, (T,)),
        ({"bias": False}, (T, N)),
        ({"bias": False, "num_layers": 2, "bidirectional": True}, (T,)),
        ({"batch_first": True}, (N, T)),
        ({"batch_first": True}, (T,)),
        ({"batch_first": True, "num_layers": 2, "bidirectional": True}, (N, T)),
        ({"dtype": torch.float64, "num_layers": 2, "bidirectional": True}, (T, N)),
        ({"dropout": 0.0, "num_layers": 2}, (T, N)),
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@each_kind
def test_layer_equals_torch(
    kind: str, training: bool, options: dict[str, Any], lead: tuple[int, ...], with_state: bool
) -> None:
    ours, theirs = pair(kind, D, H, **options)
    x, hx = draw(theirs, *lead)
    assert_same(ours.train(training), theirs.train(training), x, hx if with_state else None)


@not_on_host
def test_more_steps_than_16_bits_count() -> None:
    ours, theirs = pair("rnn_tanh", 1, 2)
    x, hx = draw(theirs, 65600, 1)
    assert_same(ours, theirs, x, hx)


@each_kind
def test_bfloat16_layer_returns_bfloat16_close_to_float32(kind: str) -> None:
    ours, theirs = pair(kind, D, H, num_layers=2, bidirectional=True)
    x, hx = draw(theirs, T, N)
    expected = results(theirs, x, hx)
    halves = [state.bfloat16() for state in states(hx)]
    actual = results(
        ours.bfloat16(), x.bfloat16(), tuple(halves) if len(halves) == 2 else halves[0]
    )
    for name, found in actual.items():
        assert found.dtype == torch.bfloat16
        difference = torch.linalg.vector_norm(found - expected[name])
        assert difference < 0.04 * torch.linalg.vector_norm(expected[name]), name


@pytest.mark.parametrize("lead", [(0, N), (T, 0), (0,), (0, 0)])
@each_kind
def test_empty_sequences_and_batches_have_the_shapes_of_full_ones(
    kind: str, lead: tuple[int, ...]
) -> None:
    layer = make(kind, D, H, num_layers=2, bidirectional=True)
    x, hx = draw(layer, *lead)
    output, hn = layer(x.requires_grad_(), hx)
    assert output.shape == (*lead, 2 * (layer.proj_size or H))
    for state, final in zip(states(hx), states(hn), strict=True):
        assert final.shape == state.shape
        assert lead[0] != 0 or torch.equal(final, state)
    sum([output.sum(), *(state.sum() for state in states(hn))]).backward()
    assert not any(p.grad.any() for p in layer.parameters() if p.grad is not None)


@each_kind
def test_batch_of_none_is_as_torchs(kind: str) -> None:
    ours, theirs = pair(kind, D, H)
    x, hx = draw(theirs, T, 0)
    assert_same(ours, theirs, x, hx)


@each_kind
def test_final_state_continues_a_sequence(kind: str) -> None:
    layer = make(kind, D, H, num_layers=2)
    x, hx = draw(layer, T, N)
    whole, end = layer(x, hx)
    first, middle = layer(x[:2], hx)
    second, last = layer(x[2:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)


# --- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"batch_first": True}], ids=str)
@each_kind
def test_dropout_in_training_draws_torchs_masks(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = pair(kind, D, H, num_layers=3, dropout=0.5, **options)
    x, hx = draw(theirs, T, T)  # T = N: either layout of the mask has this shape
    torch.manual_seed(1)
    expected, _ = theirs(x, hx)
    torch.manual_seed(1)
    actual, _ = ours(x, hx)
    torch.testing.assert_close(actual, expected)


def test_dropout_drops_between_layers_at_its_rate() -> None:
    """A dropped unit of the lower layer leaves its column of the upper weights without gradient."""
    size, draws = 300, 40
    layer = LSTM(1, size, num_layers=2, dropout=0.25)
    dropped = []
    for _ in range(draws):
        output, _ = layer(torch.randn(1, 1, 1))
        (gradient,) = torch.autograd.grad(output.sum(), layer.weight_ih_l1)
        dropped.append((gradient == 0).all(dim=0))
    rate = torch.stack(dropped).float().mean()
    assert abs(rate - 0.25) < 6 * np.sqrt(0.25 * 0.75 / (size * draws))
    assert len(torch.stack(dropped).unique(dim=0)) == draws


@each_kind
def test_dropout_in_evaluation_is_none(kind: str) -> None:
    ours, theirs = pair(kind, D, H, num_layers=3, dropout=0.9)
    x, hx = draw(theirs, T, N)
    assert_same(ours.eval(), theirs.eval(), x, hx)


@each_kind
def test_dropout_of_one_leaves_the_upper_layer_without_input(kind: str) -> None:
    ours, theirs = pair(kind, D, H, num_layers=2, dropout=1.0)
    x, hx = draw(theirs, T, N)
    assert_same(ours, theirs, x, hx)


# --- parameters ----------------------------------------------------------------------------------

each_option = pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 3, "bidirectional": True},
        {"bias": False, "num_layers": 2},
        {"dtype": torch.bfloat16},
    ],
    ids=str,
)


@each_option
@each_kind
def test_parameters_are_torchs_in_name_order_and_initial_value(
    kind: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    ours = list(make(kind, D, H, **options).named_parameters())
    torch.manual_seed(1)
    name, fixed = KINDS[kind]
    theirs = list(getattr(torch.nn, name)(D, H, **fixed, **options).named_parameters())
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True))


@each_option
@each_kind
def test_state_dict_loads_both_ways(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = pair(kind, D, H, **options)
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


@each_kind
def test_all_weights_are_torchs(kind: str) -> None:
    ours, theirs = pair(kind, D, H, num_layers=2, bidirectional=True)
    for of_ours, of_theirs in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(of_ours, of_theirs, strict=True))
    ours.flatten_parameters()  # there for code that calls it


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
@each_kind
def test_copy_computes_the_same_with_parameters_of_its_own(kind: str, copied: Any) -> None:
    layer = make(kind, D, H, num_layers=2, batch_first=True)
    other = copied(layer)
    x, hx = draw(layer, N, T)
    expected = layer(x, hx)[0]
    assert torch.equal(other(x, hx)[0], expected)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    assert torch.equal(other(x, hx)[0], expected)
    assert not layer(x)[0].any()


class Doubled(torch.nn.Module):
    """A parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@each_kind
def test_parametrized_weight_is_used_and_trained(kind: str) -> None:
    layer, plain = pair(kind, D, H)
    x, hx = draw(layer, T, N)
    parametrize.register_parametrization(layer, "weight_hh_l0", Doubled())
    with torch.no_grad():
        plain.weight_hh_l0.mul_(2)
    for one in (layer, copy.deepcopy(layer)):
        torch.testing.assert_close(one(x, hx)[0], plain(x, hx)[0])
    layer(x, hx)[0].sum().backward()
    plain(x, hx)[0].sum().backward()
    original = layer.get_parameter("parametrizations.weight_hh_l0.original")
    torch.testing.assert_close(original.grad, 2 * plain.weight_hh_l0.grad)


@not_on_host
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: parametrize.register_parametrization(layer, "weight_hh_l0", Doubled()),
        lambda layer: torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0"),
        lambda layer: weight_norm(layer, "weight_hh_l0"),
        lambda layer: prune.random_unstructured(layer, "weight_ih_l0", 3),
    ],
    ids=["parametrize", "weight norm", "weight norm by hooks", "prune"],
)
@each_kind
def test_changed_weights_train_as_torchs(kind: str, change: Any) -> None:
    ours, theirs = pair(kind, D, H, bidirectional=True)
    for layer in (ours, theirs):
        torch.manual_seed(1)
        change(layer)
    x, hx = draw(theirs, T, N)
    for _ in range(2):
        assert_same(ours, theirs, x, hx)
        for layer in (ours, theirs):
            optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
            layer(x, hx)[0].square().mean().backward()
            optimizer.step()


def test_repr_is_torchs_and_shows_what_is_not_default() -> None:
    options = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5}
    for kind in KINDS:
        ours, theirs = pair(kind, 30, 50, **options)
        assert repr(ours) == repr(theirs)
    assert repr(LSTM(3, 5)) == "LSTM(3, 5)"
    more = LSTM(3, 4, heads=2, zoneout_h=0.5, peephole=True)
    assert repr(more) == "LSTM(3, 4, zoneout_h=0.5, heads=2, peephole=True)"
    assert repr(GRU(3, 5, reset_after=False)) == "GRU(3, 5, reset_after=False)"
    assert repr(TimeSoftmaxLoss(-100)) == "TimeSoftmaxLoss(ignore_index=-100)"


# --- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "arguments", "expected", "message"),
    [
        (LSTM, {"hidden_size": 2.5}, TypeError, "hidden_size"),
        (GRU, {"num_layers": 0}, ValueError, "num_layers"),
        (GRU, {"dropout": 1.5}, ValueError, "dropout"),
        (LSTM, {"proj_size": H}, ValueError, "proj_size"),
        (GRU, {"proj_size": 2}, TypeError, "proj_size"),
        (RNN, {"nonlinearity": "selu"}, ValueError, "^nonlinearity is 'selu', expected .*tanh"),
        (RNN, {"peephole": True}, TypeError, "peephole"),
    ],
)
def test_bad_sizes_are_refused(
    layer: Any, arguments: dict[str, Any], expected: type[Exception], message: str
) -> None:
    with pytest.raises(expected, match=message):
        layer(**({"input_size": D, "hidden_size": H} | arguments))


@pytest.mark.parametrize("sizes", [(D, 0), (D, -1)], ids=str)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_sizes_below_one_are_refused_as_by_torch(name: str, sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be greater than zero") as expected:
        getattr(torch.nn, name)(*sizes)
    with pytest.raises(ValueError) as actual:
        getattr(seqkern.nn, name)(*sizes)
    assert str(actual.value) == str(expected.value)


STATE = (torch.zeros(2, N, H), torch.zeros(2, N, H))


@pytest.mark.parametrize(
    ("x", "hx", "expected", "message"),
    [
        (torch.zeros(D), None, ValueError, r"^input has shape \(4,\), expected 2 .* or 3"),
        (torch.zeros(1, T, N, D), None, ValueError, r"^input has shape \(1, 5, 3, 4\)"),
        (torch.zeros(T, N, D + 1), None, ValueError, r"^input .*\(5, 3, 5\).* input_size = 4"),
        (
            torch.zeros(T, N, D),
            (STATE[0][:1], STATE[1]),
            ValueError,
            r"^h_0 has shape \(1, 3, 17\), expected \(2, 3, 17\)",
        ),
        (torch.zeros(T, N, D), (STATE[0], STATE[1][:, :2]), ValueError, r"^c_0 .*\(2, 2, 17\)"),
        (torch.zeros(T, N, D), (STATE[0][0], STATE[1][0]), ValueError, r"^h_0 .*\(3, 17\)"),
        (torch.zeros(T, D), STATE, ValueError, r"^h_0 has shape \(2, 3, 17\), expected \(2, 17\)"),
        (torch.zeros(T, N, D), (STATE[0],), ValueError, "hx is 1 tensors"),
        (torch.zeros(T, N, D), STATE[0], ValueError, "hx is a tensor"),
        (torch.zeros(T, N, D).double(), None, TypeError, "dtype"),
        (torch.zeros(T, N, D).long(), None, ValueError, "^input has dtype torch.int64 and shape"),
        (torch.zeros(T, N, D), (STATE[0].double(), STATE[1]), TypeError, "^h_0 has dtype Double"),
        (torch.zeros(T, N, D), (STATE[0], STATE[1].to("meta")), ValueError, "^c_0 is on meta"),
        (torch.zeros(T, N, D, device="meta"), None, ValueError, "is on cpu, expected meta"),
    ],
)
def test_bad_inputs_of_an_lstm_are_refused(
    x: Tensor, hx: Any, expected: type[Exception], message: str
) -> None:
    with pytest.raises(expected, match=message):
        LSTM(D, H, num_layers=2)(x, hx)


@pytest.mark.parametrize("kind", ["gru", "rnn_relu"])
def test_bad_states_without_cells_are_refused(kind: str) -> None:
    layer, x = make(kind, D, H), torch.zeros(T, N, D)
    with pytest.raises(ValueError, match=r"^hx is of type tuple, expected the tensor h_0"):
        layer(x, (draw_state(layer, N), draw_state(layer, N)))
    with pytest.raises(ValueError, match=r"^h_0 has shape \(1, 4, 17\), expected \(1, 3, 17\)"):
        layer(x, draw_state(layer, N + 1))


# --- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ignore_index", [-1, -100, 2])
def test_loss_module_is_cross_entropy_over_the_kept_positions(ignore_index: int) -> None:
    logits = torch.randn(T, N, 33, dtype=torch.float64, requires_grad=True)
    target = torch.randint(33, (T, N))
    target[2:, 1] = ignore_index
    loss = TimeSoftmaxLoss(ignore_index)(logits, target)
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=ignore_index
    )
    torch.testing.assert_close(loss, expected)
    actual_gradient, expected_gradient = (
        torch.autograd.grad(one, logits)[0] for one in (loss, expected)
    )
    torch.testing.assert_close(actual_gradient, expected_gradient)


def test_public_names_are_there() -> None:
    layers = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "Options", "RNNCell", "RecurrentOutput"]
    losses = ["CrossEntropyLoss", "LinearCrossEntropyLoss", "TimeSoftmaxLoss"]
    large = ["AdaptiveLogSoftmaxWithLoss", "SampledSoftmaxLoss"]
    large += ["EmbeddingDot", "NegativeSamplingLoss"]
    samplers = ["LogUniformSampler", "Sampler", "UnigramSampler"]
    names = [*layers, *losses, *large, *samplers, "convert", "revert"]
    assert sorted(seqkern.nn.__all__) == sorted(names)
