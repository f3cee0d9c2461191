"""RecurrentReference agrees with torch, with the time layers and with other forms of itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import layer_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from reference import CELLS, LayerNorm, RecurrentReference, TimeLSTM, TimeRNN, Variable, mapping
from reference_cases import Array, D, H, N, T, recurrent_arguments, recurrent_params

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

MODULES: dict[str, tuple[str, Callable[..., torch.nn.RNNBase], dict[str, Any]]] = {
    "rnn_tanh": ("rnn_tanh", torch.nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": ("rnn_relu", torch.nn.RNN, {"nonlinearity": "relu"}),
    "gru": ("gru", torch.nn.GRU, {}),
    "lstm": ("lstm", torch.nn.LSTM, {}),
    "lstm, projected": ("lstm", torch.nn.LSTM, {"proj_size": 1}),
}


def assert_agree(actual: Array | None, expected: Array | Tensor | None) -> None:
    """Check equality up to the rounding of another order of summation in float64."""
    assert actual is not None
    assert expected is not None
    other = expected.detach().numpy() if isinstance(expected, Tensor) else expected
    np.testing.assert_allclose(actual, other, rtol=1e-11, atol=1e-14)


def uniform(rng: Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.uniform(-1.0, 1.0, size=shape))


@pytest.mark.parametrize("name", MODULES)
def test_both_directions_of_a_packed_batch_agree_with_torch(rng: Generator, name: str) -> None:
    cell, make, options = MODULES[name]
    theirs = make(D, H, bidirectional=True, dtype=torch.float64, **options)
    lengths, R = np.array([2, T, 1]), theirs.proj_size or H
    x, h_0, c_0 = (uniform(rng, *shape) for shape in ((T, N, D), (2, N, R), (2, N, H)))
    leaves = [leaf.requires_grad_() for leaf in ((x, h_0, c_0) if cell == "lstm" else (x, h_0))]
    packed = pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)
    out, final = theirs(packed, tuple(leaves[1:]) if cell == "lstm" else h_0)
    output = pad_packed_sequence(out, total_length=T)[0]
    finals = list(final) if cell == "lstm" else [final]
    d_output, d_finals = uniform(rng, T, N, 2 * R), [uniform(rng, *f.shape) for f in finals]
    torch.autograd.backward([output, *finals], [d_output, *d_finals])

    d_input = np.zeros((T, N, D))
    for k, suffix in enumerate(["_l0", "_l0_reverse"]):
        weights = {
            full.removesuffix(suffix): parameter
            for full, parameter in theirs.named_parameters()
            if full.endswith(suffix)
        }
        ours, columns = RecurrentReference(cell), slice(k * R, (k + 1) * R)
        arrays: dict[str, Any] = {key: weight.detach().numpy() for key, weight in weights.items()}
        states = [leaf.detach()[k].numpy() for leaf in leaves[1:]]
        arrays |= dict(zip(["h_0", "c_0"], states, strict=False))
        result = ours.forward(x.detach().numpy(), **arrays, lengths=lengths, reverse=bool(k))
        assert_agree(result.output, output[:, :, columns])
        for actual, expected in zip(result[1:], finals, strict=False):
            assert_agree(actual, expected[k])

        gradients = ours.backward(
            d_output.numpy()[:, :, columns], *[gradient[k].numpy() for gradient in d_finals]
        )
        for key, weight in weights.items():
            assert_agree(gradients[f"d_{key}"], weight.grad)
        for key, leaf in zip(["d_h_0", "d_c_0"], leaves[1:], strict=False):
            assert leaf.grad is not None
            assert_agree(gradients[key], leaf.grad[k])
        d_x = gradients["d_input"]
        assert d_x is not None
        d_input += d_x
    assert_agree(d_input, x.grad)


def test_layer_norm_agrees_with_torch(rng: Generator) -> None:
    x, scale, shift, dy = (uniform(rng, *shape) for shape in ((N, 7), (7,), (7,), (N, 7)))
    leaves = [leaf.requires_grad_() for leaf in (x, scale, shift)]
    y = layer_norm(x, (7,), scale, shift)
    torch.autograd.backward(y, dy)
    variables = [Variable.of(leaf.detach().numpy()) for leaf in (scale, shift)]
    layer = LayerNorm(*variables)
    assert_agree(layer.forward(x.detach().numpy()), y)
    actual = [layer.backward(dy.numpy()), *[variable.grad for variable in variables]]
    for gradient, leaf in zip(actual, leaves, strict=True):
        assert_agree(gradient, leaf.grad)


def test_relu_has_torchs_slope_at_its_kink_and_at_nan() -> None:
    x = torch.tensor([-1.0, -0.0, 0.0, 1.0, np.nan], dtype=torch.float64)
    y = torch.relu(x.requires_grad_())
    y.sum().backward()
    layer = RecurrentReference("rnn_relu")
    result = layer.forward(x.detach().numpy()[None, None], weight_hh=np.zeros((5, 5)))
    np.testing.assert_array_equal(result.h_n[0], y.detach())
    assert x.grad is not None
    d_x = layer.backward(np.ones((1, 1, 5)))["d_input"]
    assert d_x is not None
    np.testing.assert_array_equal(d_x[0, 0], x.grad)


def test_norm_hh_is_torch_layer_norm_of_the_product_before_the_bias(rng: Generator) -> None:
    given = recurrent_arguments(rng, "rnn_tanh", ("h_0", "bias_hh", "norm_hh"), steps=1)
    result = RecurrentReference("rnn_tanh").forward(**given)
    a = {name: torch.from_numpy(array) for name, array in given.items()}
    product = layer_norm(a["h_0"] @ a["weight_hh"].T, (3,), a["norm_hh"])
    expected = torch.tanh(a["input"][0] @ a["weight_ih"].T + product + a["bias_hh"])
    assert_agree(result.h_n, expected)


def test_norm_c_is_torch_layer_norm_of_what_h_shows_of_the_cell(rng: Generator) -> None:
    given = recurrent_arguments(rng, "lstm", ("h_0", "c_0", "norm_c", "norm_c_bias"), steps=1)
    normed = RecurrentReference("lstm").forward(**given)
    scale, shift = (torch.from_numpy(given.pop(name)) for name in ("norm_c", "norm_c_bias"))
    plain = RecurrentReference("lstm").forward(**given)
    assert plain.c_n is not None
    np.testing.assert_array_equal(normed.c_n, plain.c_n)
    c = torch.from_numpy(plain.c_n)
    shown = torch.tanh(layer_norm(c, (3,), scale, shift)).numpy()
    expected = plain.h_n / np.tanh(plain.c_n) * shown
    assert_agree(normed.h_n, expected)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm"])
def test_time_layer_of_the_book_gives_the_same(rng: Generator, cell: str) -> None:
    params = recurrent_params(rng, gates=CELLS[cell].gates)
    xs, h, dhs = (rng.normal(size=shape) for shape in ((N, T, D), (N, H), (N, T, H)))
    theirs: TimeRNN | TimeLSTM
    if cell == "lstm":
        theirs, to_torch = TimeLSTM(*params, stateful=True), mapping.lstm_to_torch
        to_torch_gradients = mapping.lstm_gradients_to_torch
    else:
        theirs, to_torch = TimeRNN(*params, stateful=True), mapping.rnn_to_torch
        to_torch_gradients = mapping.rnn_gradients_to_torch
    theirs.set_state(h)
    hs = theirs.forward(xs)
    dxs = theirs.backward(dhs)

    weight_ih, weight_hh, bias_ih, bias_hh = to_torch(*params)
    ours = RecurrentReference(cell)
    result = ours.forward(
        mapping.sequence_to_torch(xs), h, None, weight_ih, weight_hh, bias_ih, bias_hh
    )
    gradients = ours.backward(mapping.sequence_to_torch(dhs))
    assert_agree(result.output, mapping.sequence_to_torch(hs))
    assert_agree(gradients["d_input"], mapping.sequence_to_torch(dxs))
    assert_agree(gradients["d_h_0"], theirs.dh)
    names = ["d_weight_ih", "d_weight_hh", "d_bias_ih", "d_bias_hh"]
    for name, expected in zip(names, to_torch_gradients(*theirs.grads), strict=True):
        assert_agree(gradients[name], expected)


# --- cells and options that are others in another form -------------------------------------------


def outputs(cell: str, arguments: dict[str, Any]) -> Array:
    return RecurrentReference(cell).forward(**arguments).output


def test_reset_before_and_after_a_diagonal_product_without_bias_are_one(rng: Generator) -> None:
    given = recurrent_arguments(rng, "gru", ("h_0", "bias_ih"), hidden=3)
    assert np.abs(outputs("gru", given) - outputs("gru_reset_before", given)).max() > 1e-3
    given["weight_hh"][6:] = np.diag(np.diag(given["weight_hh"][6:]))
    assert_agree(outputs("gru_reset_before", given), outputs("gru", given))


def test_minimal_gated_unit_is_a_reset_before_gru_with_tied_gates(rng: Generator) -> None:
    given = recurrent_arguments(rng, "mgu", hidden=3)
    expected = outputs("mgu", given)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        f, n = np.split(given[name], 2)
        given[name] = np.concatenate([f, -f, n])  # r = f, z = 1 - f
    assert_agree(outputs("gru_reset_before", given), expected)


def test_peepholes_of_zeros_make_an_lstm(rng: Generator) -> None:
    given = recurrent_arguments(rng, "lstm_peephole")
    with_peepholes = outputs("lstm_peephole", given)
    plain = outputs("lstm", {k: v for k, v in given.items() if k != "weight_cell"})
    assert np.abs(with_peepholes - plain).max() > 1e-3
    given["weight_cell"][...] = 0.0
    np.testing.assert_array_equal(outputs("lstm_peephole", given), plain)


def test_input_and_forget_peepholes_see_the_old_cell_and_output_the_new_one() -> None:
    # One unit a gate to look at; a huge peephole shuts or opens it by the sign of what it sees.
    shut, eye = -1000.0, np.eye(3)
    given: dict[str, Any] = {
        "input": np.concatenate(
            [np.zeros((1, 1, 6)), np.full((1, 1, 3), 0.5), np.zeros((1, 1, 3))], 2
        ),
        "weight_hh": np.zeros((12, 3)),
        "c_0": np.array([[2.0, 2.0, -0.25]]),
        "weight_cell": shut * eye,  # row k shuts gate k (i, f, o) of unit k where it sees c > 0
    }
    h, c = RecurrentReference("lstm_peephole").forward(**given)[1:3]
    g = np.tanh(0.5)
    # Unit 2's cell was negative, but becomes positive: 0.5 * (g - 0.25) > 0 shuts its output.
    expected_c = np.array([[1.0, 0.5 * g, 0.5 * g - 0.125]])
    assert_agree(c, expected_c)
    assert_agree(h, np.array([[0.5, 0.5, 0.0]]) * np.tanh(expected_c))


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_mask_scales_the_columns_of_weight_hh(rng: Generator, cell: str) -> None:
    given = recurrent_arguments(rng, cell, sequences=1)
    mask = np.array([[0.0, 1.0, 1.25]])
    masked = outputs(cell, given | {"recurrent_mask": mask})
    assert_agree(masked, outputs(cell, given | {"weight_hh": given["weight_hh"] * mask}))


@pytest.mark.parametrize("cell", CELLS)
def test_projected_input_gives_the_same(rng: Generator, cell: str) -> None:
    given = recurrent_arguments(rng, cell)
    projected = given["input"] @ given["weight_ih"].T
    other = {k: v for k, v in given.items() if k != "weight_ih"} | {"input": projected}
    assert_agree(outputs(cell, other), outputs(cell, given))


def test_token_ids_stand_for_their_one_hot_encoding(rng: Generator) -> None:
    given = recurrent_arguments(rng, "gru", ("ids", "lengths"), features=5)
    by_id, by_vector = RecurrentReference("gru"), RecurrentReference("gru")
    result = by_id.forward(**given)
    expected = by_vector.forward(**given | {"input": np.eye(5)[given["input"]]})
    np.testing.assert_array_equal(result.output, expected.output)
    gradients = [layer.backward(expected.output) for layer in (by_id, by_vector)]
    np.testing.assert_array_equal(gradients[0]["d_weight_ih"], gradients[1]["d_weight_ih"])
    assert gradients[0]["d_input"] is None
