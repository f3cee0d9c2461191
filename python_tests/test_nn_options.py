"""What the layers have beyond torch.nn's: norms, peepholes, heads, tokens, inner states."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, one_hot

from backend import not_on_host
from nn_layers import KINDS, assert_close, draw, make, results, states
from seqkern.nn import GRU, LSTM, RNN, Options

T, N, D, H = 6, 5, 4, 8
F64 = torch.float64

each_kind = pytest.mark.parametrize("kind", KINDS)

NOISE = ("recurrent_dropout", "variational_dropout", "weight_drop")

# Everything that changes what a layer computes in evaluation, for all kinds.
STRUCTURE: dict[str, dict[str, Any]] = {
    "layer norm": {"layer_norm": True},
    "heads": {"heads": 2},
    "heads and layer norm": {"heads": 4, "layer_norm": True},
    "zoneout": {"zoneout_h": 0.3},
    "recompute": {"recompute": 4},
}
EXTRA: dict[str, tuple[Any, dict[str, Any]]] = {
    f"{kind.__name__} {name}": (kind, options)
    for kind in (RNN, GRU, LSTM)
    for name, options in STRUCTURE.items()
} | {
    "LSTM peephole": (LSTM, {"peephole": True}),
    "LSTM everything": (LSTM, {"peephole": True, "heads": 2, "layer_norm": True, "zoneout_c": 0.5}),
    "LSTM projected": (LSTM, {"peephole": True, "layer_norm": True, "proj_size": 3}),
    "GRU reset before": (GRU, {"reset_after": False}),
    "GRU reset before heads": (GRU, {"reset_after": False, "heads": 2, "zoneout_h": 0.2}),
}


def randomised(layer: Any) -> Any:
    """Draw all parameters, so that norms are not the identity, and leave training."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return layer.eval()


# --- the cells of others, written as loops -------------------------------------------------------


def test_layer_normalised_lstm_is_that_of_ba_et_al() -> None:
    layer = randomised(LSTM(D, H, layer_norm=True, dtype=F64))
    x, (h_0, c_0) = draw(layer, T, N)
    w = {name.removesuffix("_l0"): p for name, p in layer.named_parameters()}
    h, c, outputs = h_0[0], c_0[0], []
    for x_t in x:
        a = layer_norm(x_t @ w["weight_ih"].T, (4 * H,), w["norm_ih"], w["bias_ih"])
        a = a + layer_norm(h @ w["weight_hh"].T, (4 * H,), w["norm_hh"], w["bias_hh"])
        i, f, g, o = a.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * layer_norm(c, (H,), w["norm_c"], w["norm_c_bias"]).tanh()
        outputs.append(h)
    output, (h_n, c_n) = layer(x, (h_0, c_0))
    torch.testing.assert_close(output, torch.stack(outputs))
    torch.testing.assert_close((h_n[0], c_n[0]), (h, c))


def test_layer_normalised_gru_norms_both_products() -> None:
    layer = randomised(GRU(D, H, layer_norm=True, dtype=F64))
    x, h_0 = draw(layer, T, N)
    w = {name.removesuffix("_l0"): p for name, p in layer.named_parameters()}
    h, outputs = h_0[0], []
    for x_t in x:
        a = layer_norm(x_t @ w["weight_ih"].T, (3 * H,), w["norm_ih"], w["bias_ih"]).chunk(3, dim=1)
        b = layer_norm(h @ w["weight_hh"].T, (3 * H,), w["norm_hh"], w["bias_hh"]).chunk(3, dim=1)
        r, z = (a[0] + b[0]).sigmoid(), (a[1] + b[1]).sigmoid()
        h = (1 - z) * (a[2] + r * b[2]).tanh() + z * h
        outputs.append(h)
    torch.testing.assert_close(layer(x, h_0)[0], torch.stack(outputs))


def test_peephole_lstm_is_that_of_gers_and_schmidhuber() -> None:
    layer = randomised(LSTM(D, H, peephole=True, dtype=F64))
    x, (h_0, c_0) = draw(layer, T, N)
    w = {name.removesuffix("_l0"): p for name, p in layer.named_parameters()}
    p_i, p_f, p_o = w["weight_cell"]
    h, c, outputs = h_0[0], c_0[0], []
    for x_t in x:
        a = x_t @ w["weight_ih"].T + h @ w["weight_hh"].T + w["bias_ih"] + w["bias_hh"]
        i, f, g, o = a.chunk(4, dim=1)
        c = (f + p_f * c).sigmoid() * c + (i + p_i * c).sigmoid() * g.tanh()
        h = (o + p_o * c).sigmoid() * c.tanh()
        outputs.append(h)
    torch.testing.assert_close(layer(x, (h_0, c_0))[0], torch.stack(outputs))


def test_gru_with_the_reset_before_the_product_is_that_of_cho_et_al() -> None:
    layer = randomised(GRU(D, H, reset_after=False, dtype=F64))
    x, h_0 = draw(layer, T, N)
    w = {name.removesuffix("_l0"): p for name, p in layer.named_parameters()}
    u_r, u_z, u_n = w["weight_hh"].chunk(3)
    h, outputs = h_0[0], []
    for x_t in x:
        a = (x_t @ w["weight_ih"].T + w["bias_ih"] + w["bias_hh"]).chunk(3, dim=1)
        r, z = (a[0] + h @ u_r.T).sigmoid(), (a[1] + h @ u_z.T).sigmoid()
        h = (1 - z) * (a[2] + (r * h) @ u_n.T).tanh() + z * h
        outputs.append(h)
    torch.testing.assert_close(layer(x, h_0)[0], torch.stack(outputs))


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [RNN, GRU, LSTM])
def test_heads_are_layers_side_by_side(kind: Any, bidirectional: bool, layer_norm: bool) -> None:
    options = {"bidirectional": bidirectional, "layer_norm": layer_norm, "dtype": F64}
    layer = randomised(kind(D, H, heads=2, **options))
    parts = [kind(D, H // 2, **options) for _ in range(2)]
    for head, part in enumerate(parts):
        part.load_state_dict(
            {
                name: p[head] if p.dim() == 3 else p.chunk(2)[head]
                for name, p in layer.state_dict().items()
            }
        )
    x, hx = draw(layer, T, N)
    expected = [
        part(x, tuple(s[head] for s in split) if kind is LSTM else split[0][head])
        for split in [[state.chunk(2, dim=2) for state in states(hx)]]
        for head, part in enumerate(parts)
    ]
    output, hn = layer(x, hx)
    directions = [one.chunk(2 if bidirectional else 1, dim=2) for one, _ in expected]
    side_by_side = [part for direction in zip(*directions, strict=True) for part in direction]
    torch.testing.assert_close(output, torch.cat(side_by_side, dim=2))
    for index, state in enumerate(states(hn)):
        torch.testing.assert_close(state, torch.cat([states(h)[index] for _, h in expected], 2))


# --- token ids, inner states ---------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@each_kind
def test_token_ids_are_their_one_hot_vectors(kind: str, options: dict[str, Any]) -> None:
    layer = make(kind, 9, H, dtype=F64, **options)
    ids, (_, hx) = torch.randint(9, (T, N)), draw(layer, T, N)
    expected = results(layer, one_hot(ids, 9).double(), hx)
    del expected["d x"]
    assert_close(results(layer, ids, hx), expected)
    output, _ = layer(ids, hx)
    torch.testing.assert_close(layer(ids[:, 0].int())[0], layer(ids)[0][:, 0])
    layer.batch_first = True
    torch.testing.assert_close(layer(ids.T, hx)[0], output.transpose(0, 1))


@pytest.mark.parametrize("name", EXTRA)
def test_token_ids_are_their_one_hot_vectors_with_every_option(name: str) -> None:
    kind, options = EXTRA[name]
    layer = randomised(kind(9, H, bidirectional=True, dtype=F64, **options))
    ids = torch.randint(9, (T, N))
    expected = results(layer, one_hot(ids, 9).double())
    del expected["d x"]
    assert_close(results(layer, ids), expected)


def test_cells_and_layers_of_all_steps_are_the_states_of_each() -> None:
    layer = LSTM(D, H, num_layers=2, bidirectional=True, batch_first=True, dtype=F64)
    x, hx = draw(layer, N, T)
    output, state = layer(x, hx)
    result = layer(x, hx, return_cells=True, return_layers=True)
    torch.testing.assert_close((result.output, result.state), (output, state))
    assert torch.equal(result.layers[1], output)
    for inner, final in zip((result.layers, result.cells), state, strict=True):
        assert [t.shape for t in inner] == [(N, T, 2 * H)] * 2
        for index in range(2):
            torch.testing.assert_close(inner[index][:, -1, :H], final[2 * index])
            torch.testing.assert_close(inner[index][:, 0, H:], final[2 * index + 1])
    lower = LSTM(D, H, bidirectional=True, batch_first=True, dtype=F64)
    lower.load_state_dict({k: v for k, v in layer.state_dict().items() if "_l0" in k})
    torch.testing.assert_close(result.layers[0], lower(x, tuple(s[:2] for s in hx))[0])


def test_inner_states_have_gradients_and_what_is_not_asked_for_is_none() -> None:
    layer = LSTM(D, H, dtype=F64)
    x = torch.randn(T, N, D, dtype=F64, requires_grad=True)
    result = layer(x, return_cells=True)
    assert result.layers is None
    assert layer(x, return_layers=True).cells is None
    (actual,) = torch.autograd.grad(result.cells[0].square().sum(), x)
    steps, state = [], None
    for t in range(T):
        _, state = layer(x[t : t + 1], state)
        steps.append(state[1][0])
    (expected,) = torch.autograd.grad(torch.stack(steps).square().sum(), x)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("kind", [RNN, GRU])
def test_cells_of_a_layer_without_them_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=rf"^return_cells: {kind.__name__} has no cell states"):
        kind(D, H)(torch.randn(T, N, D), return_cells=True)


# --- memory --------------------------------------------------------------------------------------


@not_on_host
@pytest.mark.parametrize("bidirectional", [False, True])
@each_kind
def test_recompute_keeps_less_and_gives_the_same_gradients(kind: str, bidirectional: bool) -> None:
    plain = make(kind, D, H, bidirectional=bidirectional, dtype=F64)
    x, hx = draw(plain, 50, N)

    def kept(layer: Any) -> int:
        """Return how many numbers a call keeps for backward."""
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(x, hx)
        return sum(sizes)

    for interval in (1, 7, 50, 100):
        layer = make(kind, D, H, bidirectional=bidirectional, dtype=F64, recompute=interval)
        layer.load_state_dict(plain.state_dict())
        assert_close(results(layer, x, hx), results(plain, x, hx))
        assert kept(layer) < kept(plain)


# --- options together ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXTRA)
def test_every_option_respects_lengths_and_gives_finite_gradients(name: str) -> None:
    kind, options = EXTRA[name]
    layer = randomised(kind(D, H, num_layers=2, bidirectional=True, dtype=F64, **options))
    lengths = torch.tensor([4, 0, 6, 1, 3])
    x, hx = draw(layer, T, N)
    x[torch.arange(T).unsqueeze(1) >= lengths] = torch.nan
    found = results(layer, x, hx, lengths=lengths)
    assert all(t.isfinite().all() for t in found.values())
    alone = [state[:, 2:3] for state in states(hx)]
    torch.testing.assert_close(
        found["output"][:, 2:3], layer(x[:, 2:3], tuple(alone) if kind is LSTM else alone[0])[0]
    )


@not_on_host
@pytest.mark.parametrize("name", EXTRA)
def test_every_option_trains_with_noise_and_copies(name: str) -> None:
    kind, options = EXTRA[name]
    noise = dict.fromkeys(NOISE, 0.3)
    layer = kind(D, H, num_layers=2, bidirectional=True, dropout=0.3, **noise, **options)
    x, hx = draw(layer, T, N)
    torch.manual_seed(1)
    expected = results(layer, x, hx)
    assert all(t.isfinite().all() for t in expected.values())
    assert all(expected[f"d {parameter}"].any() for parameter, _ in layer.named_parameters())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == repr(layer)
        torch.manual_seed(1)
        assert_close(results(other, x, hx), expected)


def test_norms_begin_as_the_identity_and_heads_as_layers_of_their_size() -> None:
    layer = LSTM(D, 64, heads=16, layer_norm=True, peephole=True)
    for name, parameter in layer.named_parameters():
        if name.startswith("norm_"):
            assert torch.equal(parameter, torch.full_like(parameter, "bias" not in name)), name
        else:
            assert 0.4 < parameter.abs().max() <= 0.5, name
    assert layer.weight_hh_l0.shape == (16, 16, 4)
    without = LSTM(D, H, layer_norm=True, bias=False)
    assert not [name for name, _ in without.named_parameters() if "bias" in name]


def test_default_options_leave_the_state_dict_as_torchs() -> None:
    plain = LSTM(D, H, **Options().__dict__)
    assert list(plain.state_dict()) == list(torch.nn.LSTM(D, H).state_dict())
    assert repr(plain) == "LSTM(4, 8)"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (LSTM, {"recurrent_dropout": 1.5}, "^recurrent_dropout is 1.5, expected"),
        (LSTM, {"zoneout_h": -0.1}, "^zoneout_h is -0.1, expected"),
        (LSTM, {"heads": 3}, "^heads is 3, expected a divisor of hidden_size = 8"),
        (LSTM, {"heads": 0}, "^heads is 0"),
        (LSTM, {"heads": 2, "proj_size": 2}, "^heads is 2, expected 1 with proj_size = 2"),
        (LSTM, {"zoneout_h": 0.1, "proj_size": 2}, "^zoneout_h is 0.1, expected 0 with proj_size"),
        (LSTM, {"recompute": -1}, "^recompute is -1"),
        (GRU, {"zoneout_c": 0.1}, "^zoneout_c is 0.1, expected 0"),
        (GRU, {"reset_after": False, "layer_norm": True}, "^layer_norm is True"),
    ],
)
def test_bad_options_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(D, H, **options)
