"""seqkern.nn.LSTM beside torch.nn.LSTM with the same parameters, and the loss module."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pack_sequence

import seqkern
from seqkern.nn import LSTM, TimeSoftmaxLoss

T, N, D, H = 5, 3, 4, 17
State = tuple[Tensor, Tensor]


def pair(*sizes: int, **options: Any) -> tuple[LSTM, torch.nn.LSTM]:
    """Make both layers with the same parameters."""
    theirs = torch.nn.LSTM(*sizes, **options)
    ours = LSTM(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def inputs(layer: torch.nn.RNNBase, *lead: int) -> tuple[Tensor, State]:
    """Draw an input whose first dimensions are given, and initial states."""
    dtype = next(layer.parameters()).dtype
    batch = (lead[0] if layer.batch_first else lead[1],) if len(lead) == 2 else ()
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    h_0, c_0 = (torch.randn(count, *batch, layer.hidden_size, dtype=dtype) for _ in "hc")
    return torch.randn(*lead, layer.input_size, dtype=dtype), (h_0, c_0)


def results(layer: torch.nn.RNNBase, x: Tensor, state: State | None) -> dict[str, Tensor]:
    """Outputs, and gradients of everything, of a loss that uses every output."""
    x = x.detach().requires_grad_()
    states = [t.detach().requires_grad_() for t in state] if state else []
    output, (h_n, c_n) = layer(x, tuple(states) if state else None)
    loss = (output**2).sum() + (h_n * 2 - c_n).sum()
    gradients = torch.autograd.grad(loss, [x, *states, *layer.parameters()])
    names = ["x", *("h_0", "c_0")[: len(states)], *(name for name, _ in layer.named_parameters())]
    found = {f"d_{name}": g for name, g in zip(names, gradients, strict=True)}
    return {"output": output, "h_n": h_n, "c_n": c_n, **found}


def assert_same(ours: LSTM, theirs: torch.nn.LSTM, x: Tensor, state: State | None) -> None:
    """Check that outputs and gradients have the same shape and dtype, and agree up to rounding."""
    expected = results(theirs, x, state)
    tolerance = 64 * torch.finfo(x.dtype).eps
    for name, actual in results(ours, x, state).items():
        scale = expected[name].abs().max().item() + 1e-3
        assert actual.dtype == expected[name].dtype, name
        assert actual.shape == expected[name].shape, name
        assert (actual - expected[name]).abs().max() <= tolerance * scale, name


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
def test_lstm_equals_torch(
    options: dict[str, Any], lead: tuple[int, ...], with_state: bool
) -> None:
    ours, theirs = pair(D, H, **options)
    x, state = inputs(theirs, *lead)
    assert_same(ours, theirs, x, state if with_state else None)


def test_bfloat16_layer_returns_bfloat16_close_to_float32() -> None:
    ours, theirs = pair(D, H, num_layers=2, bidirectional=True)
    x, state = inputs(theirs, T, N)
    expected = results(theirs, x, state)
    halved = results(ours.bfloat16(), x.bfloat16(), (state[0].bfloat16(), state[1].bfloat16()))
    for name, actual in halved.items():
        assert actual.dtype == torch.bfloat16
        difference = torch.linalg.vector_norm(actual - expected[name])
        assert difference < 0.03 * torch.linalg.vector_norm(expected[name]), name


@pytest.mark.parametrize("lead", [(0, N), (T, 0), (0,), (0, 0)])
def test_empty_sequences_and_batches_have_the_shapes_of_full_ones(lead: tuple[int, ...]) -> None:
    layer = LSTM(D, H, num_layers=2, bidirectional=True)
    x, state = inputs(layer, *lead)
    output, (h_n, c_n) = layer(x, state)
    assert output.shape == (*lead, 2 * H)
    assert h_n.shape == c_n.shape == state[0].shape
    if lead[0] == 0:
        assert torch.equal(h_n, state[0])
        assert torch.equal(c_n, state[1])
    (output.sum() + h_n.sum() + c_n.sum()).backward()
    assert not any(p.grad.any() for p in layer.parameters() if p.grad is not None)


def test_final_state_continues_a_sequence() -> None:
    layer = LSTM(D, H, num_layers=2)
    x, state = inputs(layer, T, N)
    whole, end = layer(x, state)
    first, middle = layer(x[:2], state)
    second, last = layer(x[2:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)


# --- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"batch_first": True}], ids=str)
def test_dropout_in_training_draws_torchs_masks(options: dict[str, Any]) -> None:
    ours, theirs = pair(D, H, num_layers=3, dropout=0.5, **options)
    x, state = inputs(theirs, T, T)  # T = N: either layout of the mask has this shape
    torch.manual_seed(1)
    expected, _ = theirs(x, state)
    torch.manual_seed(1)
    actual, _ = ours(x, state)
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


def test_dropout_in_evaluation_is_none() -> None:
    ours, theirs = pair(D, H, num_layers=3, dropout=0.9)
    x, state = inputs(theirs, T, N)
    assert_same(ours.eval(), theirs.eval(), x, state)


def test_dropout_of_one_leaves_the_upper_layer_without_input() -> None:
    ours, theirs = pair(D, H, num_layers=2, dropout=1.0)
    x, state = inputs(theirs, T, N)
    assert_same(ours, theirs, x, state)


# --- parameters ----------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"num_layers": 3, "bidirectional": True},
    {"bias": False, "num_layers": 2},
    {"dtype": torch.bfloat16},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_parameters_are_torchs_in_name_order_and_initial_value(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    ours = list(LSTM(D, H, **options).named_parameters())
    torch.manual_seed(1)
    theirs = list(torch.nn.LSTM(D, H, **options).named_parameters())
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_state_dict_loads_both_ways(options: dict[str, Any]) -> None:
    ours, theirs = LSTM(D, H, **options), torch.nn.LSTM(D, H, **options)
    for source, target in ((ours, theirs), (theirs, LSTM(D, H, **options))):
        target.load_state_dict(source.state_dict(), strict=True)
        for a, b in zip(source.parameters(), target.parameters(), strict=True):
            assert torch.equal(a, b)


def test_all_weights_are_torchs() -> None:
    ours, theirs = pair(D, H, num_layers=2, bidirectional=True)
    for of_ours, of_theirs in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(of_ours, of_theirs, strict=True))
    ours.flatten_parameters()  # there for code that calls it


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copy_computes_the_same_with_parameters_of_its_own(copied: Any) -> None:
    layer = LSTM(D, H, num_layers=2, batch_first=True)
    other = copied(layer)
    x, state = inputs(layer, N, T)
    expected = layer(x, state)[0]
    assert torch.equal(other(x, state)[0], expected)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    assert torch.equal(other(x, state)[0], expected)
    assert not layer(x)[0].any()


def test_parametrized_weight_is_used_and_trained() -> None:
    class Doubled(torch.nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    layer, plain = pair(D, H)
    x, state = inputs(layer, T, N)
    parametrize.register_parametrization(layer, "weight_hh_l0", Doubled())
    with torch.no_grad():
        plain.weight_hh_l0.mul_(2)
    torch.testing.assert_close(layer(x, state)[0], plain(x, state)[0])
    layer(x, state)[0].sum().backward()
    plain(x, state)[0].sum().backward()
    original = layer.get_parameter("parametrizations.weight_hh_l0.original")
    assert plain.weight_hh_l0.grad is not None
    torch.testing.assert_close(original.grad, 2 * plain.weight_hh_l0.grad)


def test_repr_is_torchs_and_shows_what_is_not_default() -> None:
    options = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5}
    ours, theirs = LSTM(3, 5, **options), torch.nn.LSTM(3, 5, **options)
    assert repr(ours) == repr(theirs)
    assert repr(LSTM(3, 5)) == "LSTM(3, 5)"
    assert repr(TimeSoftmaxLoss(-100)) == "TimeSoftmaxLoss(ignore_index=-100)"


# --- bad arguments -------------------------------------------------------------------------------


def test_proj_size_is_named_as_not_there_yet() -> None:
    with pytest.raises(NotImplementedError, match="proj_size=3"):
        LSTM(D, H, proj_size=3)


def test_packed_sequences_are_named_as_not_there_yet() -> None:
    with pytest.raises(NotImplementedError, match="PackedSequence"):
        LSTM(D, H)(pack_sequence([torch.randn(3, D), torch.randn(2, D)]))


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        ({"hidden_size": 0}, ValueError, "hidden_size"),
        ({"hidden_size": 2.5}, TypeError, "hidden_size"),
        ({"num_layers": 0}, ValueError, "num_layers"),
        ({"dropout": 1.5}, ValueError, "dropout"),
    ],
)
def test_bad_sizes_are_refused(
    arguments: dict[str, Any], expected: type[Exception], message: str
) -> None:
    with pytest.raises(expected, match=message):
        LSTM(**({"input_size": D, "hidden_size": H} | arguments))


STATE = (torch.zeros(2, N, H), torch.zeros(2, N, H))


@pytest.mark.parametrize(
    ("x", "state", "expected", "message"),
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
        (torch.zeros(T, N, D), (STATE[0],), ValueError, "hx"),
        (torch.zeros(T, N, D).double(), None, TypeError, "dtype"),
        (torch.zeros(T, N, D).long(), None, TypeError, "^input has dtype Long"),
        (torch.zeros(T, N, D), (STATE[0].double(), STATE[1]), TypeError, "^h_0 has dtype Double"),
        (torch.zeros(T, N, D), (STATE[0], STATE[1].to("meta")), ValueError, "^c_0 is on meta"),
        (torch.zeros(T, N, D, device="meta"), None, ValueError, "is on cpu, expected meta"),
    ],
)
def test_bad_inputs_are_refused(
    x: Tensor, state: Any, expected: type[Exception], message: str
) -> None:
    with pytest.raises(expected, match=message):
        LSTM(D, H, num_layers=2)(x, state)


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
    assert seqkern.nn.__all__ == ["LSTM", "TimeSoftmaxLoss", "convert"]
