"""The random masks of the layers: recurrent and variational dropout, zoneout, weight drop."""

from typing import Any

import pytest
import torch
from torch import Tensor

from backend import not_on_host
from nn_layers import KINDS, draw, make
from seqkern.nn import LSTM, RNN

T, N, D, H = 6, 5, 4, 8
F64 = torch.float64

each_kind = pytest.mark.parametrize("kind", KINDS)


def counter(**options: Any) -> RNN:
    """Return an RNN of relu whose W_ih and W_hh are the identity: h' = x + h."""
    layer = RNN(400, 400, nonlinearity="relu", bias=False, dtype=F64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.eye(400, dtype=F64))
    return layer


def assert_rate(dropped: Tensor, probability: float) -> None:
    """Check the share of True, up to six standard deviations."""
    deviation = (probability * (1 - probability) / dropped.numel()) ** 0.5
    assert abs(dropped.double().mean().item() - probability) < 6 * deviation


def test_recurrent_dropout_has_one_mask_for_all_steps_of_a_sequence() -> None:
    output, _ = counter(recurrent_dropout=0.25)(torch.ones(4, 3, 400, dtype=F64))
    dropped = output[1] == 1
    scale = 1 / 0.75
    kept = torch.tensor([1, 1 + scale, 1 + scale + scale**2, 1 + scale + scale**2 + scale**3])
    expected = torch.where(dropped, 1.0, kept.double().view(4, 1, 1))
    torch.testing.assert_close(output, expected)
    assert_rate(dropped, 0.25)
    assert len(dropped.unique(dim=0)) == 3


def test_variational_dropout_has_one_mask_for_all_steps_of_the_input_of_each_layer() -> None:
    layer = counter(variational_dropout=0.25, num_layers=2)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.weight_hh_l1.zero_()
    result = layer(torch.ones(4, 3, 400, dtype=F64), return_layers=True)
    first, second = result.layers
    assert torch.equal(first, first[:1].expand_as(first))
    assert torch.equal(second, second[:1].expand_as(second))
    torch.testing.assert_close(first.unique(), torch.tensor([0, 1 / 0.75], dtype=F64))
    assert_rate(first[0] == 0, 0.25)
    assert_rate(second[0][first[0] != 0] == 0, 0.25)
    assert len(first[0].unique(dim=0)) == 3


@not_on_host
def test_variational_dropout_drops_the_same_tokens_wherever_they_stand() -> None:
    layer = counter(variational_dropout=0.25)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    ids = torch.randint(400, (2000, 3))
    output, _ = layer(ids)
    kept = output.sum(dim=2)  # of a one-hot vector
    torch.testing.assert_close(kept.unique(), torch.tensor([0, 1 / 0.75], dtype=F64))
    for n in range(3):
        by_token = torch.stack([ids[:, n], kept[:, n] != 0], dim=1).unique(dim=0)
        assert len(by_token) == len(ids[:, n].unique())
        assert_rate(by_token[:, 1] == 0, 0.25)


def test_zoneout_keeps_units_at_its_rate_in_training_and_their_mean_in_evaluation() -> None:
    layer = counter(zoneout_h=0.25)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    x = torch.arange(1, 5, dtype=F64).view(4, 1, 1).expand(4, 3, 400)
    h, held = torch.zeros(3, 400, dtype=F64), []
    for x_t, h_t in zip(x, layer(x)[0], strict=True):
        held.append(h_t == h)
        assert torch.equal(h_t, torch.where(held[-1], h, x_t))
        h = h_t
    assert_rate(torch.stack(held), 0.25)
    assert len(torch.stack(held).flatten(0, 1).unique(dim=0)) == 12
    h = torch.zeros(3, 400, dtype=F64)
    for x_t, h_t in zip(x, layer.eval()(x)[0], strict=True):
        h = 0.75 * x_t + 0.25 * h
        torch.testing.assert_close(h_t, h)


def test_zoneout_of_cells_holds_them_while_h_shows_the_new_ones() -> None:
    layer = LSTM(D, H, zoneout_c=1.0, dtype=F64)
    x, hx = draw(layer, 1, N)
    plain = LSTM(D, H, dtype=F64)
    plain.load_state_dict(layer.state_dict())
    for mode in (True, False):
        output, (_, c_n) = layer.train(mode)(x, hx)
        torch.testing.assert_close(c_n, hx[1])
        torch.testing.assert_close(output, plain(x, hx)[0])


def test_weight_drop_leaves_out_recurrent_weights_once_a_call() -> None:
    layer = LSTM(D, 50, weight_drop=0.25)
    x = torch.randn(T, N, D)
    masks = []
    for _ in range(3):
        (gradient,) = torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0)
        masks.append(gradient == 0)
    assert_rate(torch.stack(masks), 0.25)
    assert len(torch.stack(masks).unique(dim=0)) == 3


@pytest.mark.parametrize("option", ["recurrent_dropout", "variational_dropout", "weight_drop"])
@each_kind
def test_dropout_is_nothing_in_evaluation_and_something_in_training(kind: str, option: str) -> None:
    layer = make(kind, D, H, num_layers=2, **{option: 0.5})
    plain = make(kind, D, H, num_layers=2)
    plain.load_state_dict(layer.state_dict())
    x, hx = draw(layer, T, N)
    expected = plain(x, hx)[0]
    assert torch.equal(layer.eval()(x, hx)[0], expected)
    layer.train()
    torch.manual_seed(1)
    first = layer(x, hx)[0]
    assert not torch.equal(first, expected)
    assert not torch.equal(layer(x, hx)[0], first)
    torch.manual_seed(1)
    assert torch.equal(layer(x, hx)[0], first)


@pytest.mark.parametrize("option", ["recurrent_dropout", "weight_drop"])
@each_kind
def test_recurrent_dropout_of_one_cuts_the_recurrence(kind: str, option: str) -> None:
    layer = make(kind, D, H, bidirectional=True, **{option: 1.0})
    plain = make(kind, D, H, bidirectional=True)
    plain.load_state_dict(layer.state_dict())
    with torch.no_grad():
        plain.weight_hh_l0.zero_()
        plain.weight_hh_l0_reverse.zero_()
    x, hx = draw(layer, T, N)
    torch.testing.assert_close(layer(x, hx)[0], plain(x, hx)[0])
