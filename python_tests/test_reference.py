"""The NumPy reference layers: gradients against central differences, states, labels, and torch.

torch appears only at the end: the layers, with `reference.mapping`, must agree with torch.nn in
float64 to a few roundings. That makes them an oracle for kernels which follow torch's conventions.
"""

import ast
import doctest
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

import reference
from reference import (
    LSTM,
    RNN,
    Embedding,
    SoftmaxWithLoss,
    TimeAffine,
    TimeDropout,
    TimeEmbedding,
    TimeLSTM,
    TimeRNN,
    TimeSoftmaxWithLoss,
    mapping,
    numerical_gradient,
)

Array = NDArray[np.float64]

N, T, D, H, V = 3, 4, 5, 2, 6
MODULES = sorted(module.name for module in pkgutil.iter_modules(reference.__path__, "reference."))


def recurrent_params(rng: Generator, gates: int) -> tuple[Array, Array, Array]:
    """Draw Wx, Wh and b, small enough that no gate is saturated."""
    shapes = ((D, gates * H), (H, gates * H), (gates * H,))
    w_x, w_h, b = (rng.normal(scale=0.5, size=shape) for shape in shapes)
    return w_x, w_h, b


def assert_gradients(loss: Callable[[], float], pairs: Iterable[tuple[Array, Array]]) -> None:
    """Check pairs of (gradient, array), by element and as a whole, against central differences."""
    for gradient, array in [(gradient.copy(), array) for gradient, array in pairs]:
        expected = numerical_gradient(loss, array)
        scale = np.abs(expected).max()
        assert scale > 1e-3, "the loss does not depend on this array, so the check is empty"
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7 * scale)
        assert np.linalg.norm(gradient - expected) < 1e-7 * np.linalg.norm(expected)


def weighted_sum(forward: Callable[[Any], Array], x: Any, weight: Array) -> Callable[[], float]:
    """Return a loss whose gradient at the output of `forward` is `weight`."""
    return lambda: float((forward(x) * weight).sum())


def assert_equal(actual: Iterable[Any], expected: Iterable[Any]) -> None:
    """Check that all arrays are the same in all bits."""
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# --- gradients -----------------------------------------------------------------------------------


def test_rnn_step_gradients(rng: Generator) -> None:
    layer = RNN(*recurrent_params(rng, gates=1))
    x, h, weight = (rng.normal(size=(N, size)) for size in (D, H, H))

    def loss() -> float:
        return float((layer.forward(x, h) * weight).sum())

    loss()
    gradients = [*layer.backward(weight), *layer.grads]
    assert_gradients(loss, zip(gradients, [x, h, *layer.params], strict=True))


def test_lstm_step_gradients(rng: Generator) -> None:
    layer = LSTM(*recurrent_params(rng, gates=4))
    x, h, c, weight_h, weight_c = (rng.normal(size=(N, size)) for size in (D, H, H, H, H))

    def loss() -> float:
        h_next, c_next = layer.forward(x, h, c)
        return float((h_next * weight_h).sum() + (c_next * weight_c).sum())

    loss()
    gradients = [*layer.backward(weight_h, weight_c), *layer.grads]
    assert_gradients(loss, zip(gradients, [x, h, c, *layer.params], strict=True))


def test_time_rnn_gradients_with_initial_and_final_state(rng: Generator) -> None:
    layer = TimeRNN(*recurrent_params(rng, gates=1), stateful=True)
    xs, weight = rng.normal(size=(N, T, D)), rng.normal(size=(N, T, H))
    h, weight_h = rng.normal(size=(2, N, H))

    def loss() -> float:
        layer.set_state(h)
        hs = layer.forward(xs)
        assert layer.h is not None
        return float((hs * weight).sum() + (layer.h * weight_h).sum())

    loss()
    gradients = [layer.backward(weight, dh_n=weight_h), layer.dh, *layer.grads]
    assert_gradients(loss, zip(gradients, [xs, h, *layer.params], strict=True))


def test_time_lstm_gradients_with_initial_and_final_state(rng: Generator) -> None:
    layer = TimeLSTM(*recurrent_params(rng, gates=4), stateful=True)
    xs, weight = rng.normal(size=(N, T, D)), rng.normal(size=(N, T, H))
    h, c, weight_h, weight_c = rng.normal(size=(4, N, H))

    def loss() -> float:
        layer.set_state(h, c)
        hs = layer.forward(xs)
        assert layer.h is not None
        assert layer.c is not None
        final = (layer.h * weight_h).sum() + (layer.c * weight_c).sum()
        return float((hs * weight).sum() + final)

    loss()
    dxs = layer.backward(weight, dh_n=weight_h, dc_n=weight_c)
    gradients = [dxs, layer.dh, layer.dc, *layer.grads]
    assert_gradients(loss, zip(gradients, [xs, h, c, *layer.params], strict=True))


def test_embedding_gradient_adds_repeated_words(rng: Generator) -> None:
    layer = Embedding(rng.normal(size=(V, D)))
    indices, weight = np.array([2, 0, 2, 5, 2]), rng.normal(size=(5, D))
    loss = weighted_sum(layer.forward, indices, weight)
    loss()
    layer.backward(weight)
    layer.backward(weight)  # overwrites the first result
    assert_gradients(loss, zip(layer.grads, layer.params, strict=True))


def test_time_affine_gradients(rng: Generator) -> None:
    layer = TimeAffine(rng.normal(size=(D, V)), rng.normal(size=V))
    xs, weight = rng.normal(size=(N, T, D)), rng.normal(size=(N, T, V))
    loss = weighted_sum(layer.forward, xs, weight)
    loss()
    gradients = [layer.backward(weight), *layer.grads]
    assert_gradients(loss, zip(gradients, [xs, *layer.params], strict=True))


def test_tied_embedding_and_affine_gradients_sum_to_that_of_the_table(rng: Generator) -> None:
    table = rng.normal(size=(V, D))
    embedding, affine = TimeEmbedding(table), TimeAffine(table.T, rng.normal(size=V))
    xs, weight = rng.integers(V, size=(N, T)), rng.normal(size=(N, T, V))

    def loss() -> float:
        return float((affine.forward(embedding.forward(xs)) * weight).sum())

    loss()
    embedding.backward(affine.backward(weight))
    assert_gradients(loss, [(embedding.grads[0] + affine.grads[0].T, table)])


def test_time_embedding_gradient(rng: Generator) -> None:
    layer = TimeEmbedding(rng.normal(size=(V, D)))
    xs, weight = rng.integers(V, size=(N, T)), rng.normal(size=(N, T, D))
    loss = weighted_sum(layer.forward, xs, weight)
    loss()
    layer.backward(weight)
    assert_gradients(loss, zip(layer.grads, layer.params, strict=True))


def test_time_dropout_gradient(rng: Generator) -> None:
    layer = TimeDropout(0.4, rng)
    xs, weight = rng.normal(size=(2, N, T, D))

    def loss() -> float:
        layer.rng = default_rng(5)  # the same mask each time
        return float((layer.forward(xs) * weight).sum())

    loss()
    assert_gradients(loss, [(layer.backward(weight), xs)])


def test_softmax_with_loss_gradient(rng: Generator) -> None:
    layer = SoftmaxWithLoss()
    x, t = rng.normal(size=(N, V)), rng.integers(V, size=N)

    def loss() -> float:
        return 3.0 * layer.forward(x, t)

    loss()
    assert_gradients(loss, [(layer.backward(3.0), x)])


def test_time_softmax_with_loss_gradient_with_ignored_steps(rng: Generator) -> None:
    layer = TimeSoftmaxWithLoss()
    xs, ts = rng.normal(size=(N, T, V)), rng.integers(V, size=(N, T))
    ts[0, 1:] = -1

    def loss() -> float:
        return 3.0 * layer.forward(xs, ts)

    loss()
    assert_gradients(loss, [(layer.backward(3.0), xs)])


# --- time layers and their states ----------------------------------------------------------------

MakeLayer = Callable[..., TimeRNN | TimeLSTM]


@pytest.fixture(params=["TimeRNN", "TimeLSTM"])
def make(request: pytest.FixtureRequest, rng: Generator) -> MakeLayer:
    """Maker of layers with the same parameters; it takes the keyword `stateful`."""
    if request.param == "TimeRNN":
        params = recurrent_params(rng, gates=1)
        return lambda **kwargs: TimeRNN(*params, **kwargs)
    params = recurrent_params(rng, gates=4)
    return lambda **kwargs: TimeLSTM(*params, **kwargs)


def state(layer: TimeRNN | TimeLSTM) -> list[Array]:
    """Return h, or h and c."""
    arrays = [layer.h, layer.c] if isinstance(layer, TimeLSTM) else [layer.h]
    return [array for array in arrays if array is not None]


def test_time_layer_gradients_of_the_outputs_alone(rng: Generator, make: MakeLayer) -> None:
    layer = make()
    xs, weight = rng.normal(size=(N, T, D)), rng.normal(size=(N, T, H))
    loss = weighted_sum(layer.forward, xs, weight)
    loss()
    gradients = [layer.backward(weight), *layer.grads]
    assert_gradients(loss, zip(gradients, [xs, *layer.params], strict=True))


def test_backward_overwrites_gradients_in_place(rng: Generator, make: MakeLayer) -> None:
    layer = make()
    held = list(layer.grads)
    layer.forward(rng.normal(size=(N, T, D)))
    layer.backward(np.ones((N, T, H)))
    first = [grad.copy() for grad in held]
    layer.backward(np.ones((N, T, H)))
    assert all(grad is array for grad, array in zip(layer.grads, held, strict=True))
    assert_equal(held, first)


def test_stateful_calls_on_two_parts_equal_one_call_on_the_whole(
    rng: Generator, make: MakeLayer
) -> None:
    layer, xs = make(stateful=True), rng.normal(size=(N, T, D))
    parts = [layer.forward(xs[:, :1]), layer.forward(xs[:, 1:])]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), make().forward(xs))


def test_stateless_layer_forgets_between_calls(rng: Generator, make: MakeLayer) -> None:
    layer, xs = make(), rng.normal(size=(N, T, D))
    np.testing.assert_array_equal(layer.forward(xs), layer.forward(xs))


def test_reset_state_starts_from_zeros(rng: Generator, make: MakeLayer) -> None:
    layer, xs = make(stateful=True), rng.normal(size=(N, T, D))
    first, carried = layer.forward(xs), layer.forward(xs)
    layer.reset_state()
    np.testing.assert_array_equal(layer.forward(xs), first)
    assert np.abs(carried - first).max() > 1e-3


def test_set_state_hands_a_state_over_without_its_gradient(rng: Generator, make: MakeLayer) -> None:
    first, xs = rng.normal(size=(2, N, T, D))
    carried, given = make(stateful=True), make(stateful=True)
    carried.forward(first)
    given.set_state(*state(carried))
    np.testing.assert_array_equal(given.forward(xs), carried.forward(xs))
    for layer in (carried, given):
        layer.backward(np.ones((N, T, H)))
    assert_equal(carried.grads, given.grads)  # nothing of the first call is in them


def test_no_steps_leave_the_state_and_its_gradient(rng: Generator, make: MakeLayer) -> None:
    layer = make(stateful=True)
    h, dh = rng.normal(size=(2, N, H))
    layer.set_state(h)
    assert layer.forward(np.empty((N, 0, D))).shape == (N, 0, H)
    assert layer.backward(np.empty((N, 0, H)), dh_n=dh).shape == (N, 0, D)
    assert_equal([state(layer)[0], layer.dh], [h, dh])
    assert not any(grad.any() for grad in layer.grads)


def test_set_state_of_a_stateless_layer_is_refused(make: MakeLayer) -> None:
    with pytest.raises(RuntimeError, match="stateful=True"):
        make().set_state(np.zeros((N, H)))


def test_state_of_another_batch_size_is_refused(make: MakeLayer) -> None:
    layer = make(stateful=True)
    layer.set_state(np.zeros((1, H)))
    with pytest.raises(ValueError, match=r"^h: given shape \(1, 2\), expected \(3, 2\)"):
        layer.forward(np.zeros((N, T, D)))


def test_gradient_that_would_broadcast_is_refused(make: MakeLayer) -> None:
    layer = make()
    layer.forward(np.zeros((N, T, D)))
    with pytest.raises(ValueError, match=r"^dhs: given shape \(1, 4, 2\), expected \(3, 4, 2\)"):
        layer.backward(np.ones((1, T, H)))


@pytest.mark.parametrize(("layer", "gates"), [(TimeRNN, 1), (TimeLSTM, 4), (RNN, 1), (LSTM, 4)])
def test_float32_weights_are_refused(rng: Generator, layer: Callable[..., Any], gates: int) -> None:
    w_x, w_h, b = recurrent_params(rng, gates)
    with pytest.raises(TypeError, match=r"^Wh: given float32, expected a float64 array"):
        layer(w_x, w_h.astype(np.float32), b)


def test_lstm_set_state_without_cell_starts_the_cell_from_zeros(rng: Generator) -> None:
    layer = TimeLSTM(*recurrent_params(rng, gates=4), stateful=True)
    layer.set_state(np.ones((N, H)), np.ones((N, H)))
    layer.set_state(np.ones((N, H)))
    assert_equal(state(layer), [np.ones((N, H)), np.zeros((N, H))])


@pytest.mark.filterwarnings("error")
def test_lstm_gates_saturate_without_a_warning() -> None:
    layer = LSTM(np.zeros((D, 4)), np.zeros((1, 4)), np.array([-1000.0, 0.0, -1000.0, 1000.0]))
    h, c = layer.forward(np.zeros((1, D)), np.zeros((1, 1)), np.ones((1, 1)))
    assert (h.item(), c.item()) == (0.0, 0.0)


# --- dropout -------------------------------------------------------------------------------------


def test_dropout_keeps_the_expected_value(rng: Generator) -> None:
    ratio, count = 0.3, 200_000
    out = TimeDropout(ratio, rng).forward(np.ones((1, 1, count)))
    deviation = np.sqrt(ratio / (1.0 - ratio) / count)  # of the mean of `count` scaled Bernoullis
    assert abs(out.mean() - 1.0) < 6.0 * deviation
    np.testing.assert_array_equal(np.unique(out), [0.0, 1.0 / 0.7])


def test_dropout_masks_every_step_apart(rng: Generator) -> None:
    out = TimeDropout(0.5, rng).forward(np.ones((2, 3, 64)))
    assert len(np.unique(out.reshape(6, 64), axis=0)) == 6


def test_dropout_out_of_training_is_the_identity_both_ways(rng: Generator) -> None:
    layer, xs = TimeDropout(0.5, rng), rng.normal(size=(N, T, D))
    layer.forward(xs)
    assert_equal([layer.forward(xs, train=False), layer.backward(xs)], [xs, xs])


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_dropout_ratio_out_of_range_is_refused(rng: Generator, ratio: float) -> None:
    with pytest.raises(ValueError, match=r"^dropout_ratio: given"):
        TimeDropout(ratio, rng)


# --- loss ----------------------------------------------------------------------------------------


def test_ignored_steps_change_neither_loss_nor_gradient(rng: Generator) -> None:
    layer = TimeSoftmaxWithLoss()
    xs, ts = rng.normal(size=(N, T, V)), rng.integers(V, size=(N, T))
    expected, expected_dxs = layer.forward(xs, ts), layer.backward()

    padded_xs = np.concatenate([xs, np.full((N, 2, V), np.nan)], axis=1)
    padded_ts = np.concatenate([ts, np.full((N, 2), -1)], axis=1)
    assert layer.forward(padded_xs, padded_ts) == expected
    dxs = layer.backward()
    assert_equal([dxs[:, :T], dxs[:, T:]], [expected_dxs, np.zeros((N, 2, V))])


def test_all_ignored_gives_loss_zero_and_gradient_zero(rng: Generator) -> None:
    layer = TimeSoftmaxWithLoss(ignore_label=-100)
    assert layer.forward(rng.normal(size=(N, T, V)), np.full((N, T), -100)) == 0.0
    np.testing.assert_array_equal(layer.backward(), np.zeros((N, T, V)))


def test_ignore_label_may_be_a_word(rng: Generator) -> None:
    xs, ts = rng.normal(size=(1, 3, V)), np.array([[0, 2, 0]])
    actual = TimeSoftmaxWithLoss(ignore_label=0).forward(xs, ts)
    assert actual == SoftmaxWithLoss().forward(xs[0, 1:2], ts[0, 1:2])


def test_loss_of_huge_logits_is_exact() -> None:
    layer = SoftmaxWithLoss()
    assert layer.forward(np.array([[0.0, 1e4], [1e4, 0.0]]), np.array([0, 0])) == 5e3
    np.testing.assert_array_equal(layer.backward(), [[-0.5, 0.5], [0.0, 0.0]])


@pytest.mark.parametrize("bad", [-1, V])
def test_index_out_of_range_is_refused(bad: int) -> None:
    message = f"given {bad}, expected 0 to {V - 1}"
    with pytest.raises(IndexError, match=f"^t: {message}"):
        TimeSoftmaxWithLoss(ignore_label=-100).forward(np.zeros((1, 1, V)), np.array([[bad]]))
    with pytest.raises(IndexError, match=f"^indices: {message}"):
        TimeEmbedding(np.zeros((V, D))).forward(np.array([[bad]]))


# --- mapping -------------------------------------------------------------------------------------


@pytest.fixture(params=["lstm", "rnn"])
def maps(request: pytest.FixtureRequest, rng: Generator) -> SimpleNamespace:
    """Hold the four functions of one cell, its rows in units of H, and parameters to map."""
    gates = 4 if request.param == "lstm" else 1
    return SimpleNamespace(
        rows=gates * H,
        params=recurrent_params(rng, gates),
        from_torch=getattr(mapping, f"{request.param}_from_torch"),
        to_torch=getattr(mapping, f"{request.param}_to_torch"),
        gradients_from_torch=getattr(mapping, f"{request.param}_gradients_from_torch"),
        gradients_to_torch=getattr(mapping, f"{request.param}_gradients_to_torch"),
    )


def test_weights_survive_the_round_trip(maps: SimpleNamespace) -> None:
    weights = maps.to_torch(*maps.params)
    shapes = [(maps.rows, D), (maps.rows, H), (maps.rows,), (maps.rows,)]
    assert [weight.shape for weight in weights] == shapes
    assert_equal(maps.from_torch(*weights), maps.params)


def test_gradients_survive_the_round_trip(maps: SimpleNamespace) -> None:
    dweight_ih, dweight_hh, dbias_ih, dbias_hh = maps.gradients_to_torch(*maps.params)
    np.testing.assert_array_equal(dbias_ih, dbias_hh)
    back = maps.gradients_from_torch(dweight_ih, dweight_hh, dbias_hh)
    assert_equal(back, maps.params)


def test_missing_biases_count_as_zeros(maps: SimpleNamespace) -> None:
    weight_ih, weight_hh, bias, zeros = maps.to_torch(*maps.params)
    assert_equal(
        maps.from_torch(weight_ih, weight_hh), maps.from_torch(weight_ih, weight_hh, zeros, zeros)
    )
    assert_equal(maps.from_torch(weight_ih, weight_hh, None, bias), maps.params)


def test_mapped_arrays_are_float64_and_share_no_memory(maps: SimpleNamespace) -> None:
    there = maps.to_torch(*maps.params)
    for given, result in (
        (maps.params, there),
        (there, maps.from_torch(*there)),
        (maps.params, maps.gradients_to_torch(*maps.params)),
        (there[:3], maps.gradients_from_torch(*there[:3])),
    ):
        assert not any(np.shares_memory(a, b) for a in given for b in result)
    single = [array.astype(np.float32) for array in maps.params]
    assert all(array.dtype == np.float64 for array in maps.to_torch(*single))


def test_arrays_in_the_other_layout_are_refused(maps: SimpleNamespace) -> None:
    w_x, w_h, b = maps.params
    with pytest.raises(ValueError, match=r"^weight_ih: given shape"):
        maps.from_torch(w_x, w_h.T)
    with pytest.raises(ValueError, match=r"^bias_hh: given shape"):
        maps.from_torch(w_x.T, w_h.T, b, b[:1])
    with pytest.raises(ValueError, match=r"^dbias: given shape"):
        maps.gradients_from_torch(w_x.T, w_h.T, b[:1])
    with pytest.raises(ValueError, match=r"^Wx: given shape"):
        maps.to_torch(w_x.T, w_h, b)
    with pytest.raises(ValueError, match=r"^db: given shape"):
        maps.gradients_to_torch(w_x, w_h, b[:1])


@pytest.mark.parametrize(("batch_first", "shape"), [(False, (T, N, D)), (True, (N, T, D))])
def test_sequences_survive_the_round_trip(
    rng: Generator, batch_first: bool, shape: tuple[int, ...]
) -> None:
    xs = rng.normal(size=(N, T, D))
    there = mapping.sequence_to_torch(xs, batch_first)
    assert there.shape == shape
    np.testing.assert_array_equal(mapping.sequence_from_torch(there, batch_first), xs)


# --- torch ---------------------------------------------------------------------------------------


def leaf(rng: Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=shape)).requires_grad_()


def value(tensor: torch.Tensor | None) -> Array:
    assert tensor is not None
    array: Array = tensor.detach().numpy()
    return array


def values(tensors: Iterable[torch.Tensor | None]) -> list[Array]:
    return [value(tensor) for tensor in tensors]


def assert_agree(actual: Iterable[Array], expected: Iterable[Array]) -> None:
    """Check equality up to the rounding of another order of summation in float64."""
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("batch_first", [False, True])
def test_time_lstm_agrees_with_torch(rng: Generator, batch_first: bool) -> None:
    theirs = torch.nn.LSTM(D, H, batch_first=batch_first, dtype=torch.float64)
    x = leaf(rng, *((N, T, D) if batch_first else (T, N, D)))
    h_0, c_0 = leaf(rng, 1, N, H), leaf(rng, 1, N, H)
    output, (h_n, c_n) = theirs(x, (h_0, c_0))
    outputs = (output, h_n, c_n)
    doutputs = tuple(torch.from_numpy(rng.normal(size=out.shape)) for out in outputs)
    torch.autograd.backward(outputs, doutputs)
    weights = list(theirs.parameters())
    dweights = values(weight.grad for weight in weights)

    ours = TimeLSTM(*mapping.lstm_from_torch(*values(weights)), stateful=True)
    ours.set_state(value(h_0[0]), value(c_0[0]))
    hs = ours.forward(mapping.sequence_from_torch(value(x), batch_first))
    dhs, dh_n, dc_n = values(doutputs)
    dxs = ours.backward(mapping.sequence_from_torch(dhs, batch_first), dh_n[0], dc_n[0])

    assert_agree(
        [mapping.sequence_to_torch(hs, batch_first), *state(ours)],
        values([output, h_n[0], c_n[0]]),
    )
    assert_agree(
        [mapping.sequence_to_torch(dxs, batch_first), ours.dh[None], ours.dc[None]],
        values([x.grad, h_0.grad, c_0.grad]),
    )
    assert_agree(mapping.lstm_gradients_to_torch(*ours.grads), dweights)
    assert_agree(ours.grads, mapping.lstm_gradients_from_torch(*dweights[:3]))


def test_time_rnn_agrees_with_torch(rng: Generator) -> None:
    theirs = torch.nn.RNN(D, H, dtype=torch.float64)
    x, h_0 = leaf(rng, T, N, D), leaf(rng, 1, N, H)
    outputs = theirs(x, h_0)
    doutputs = tuple(torch.from_numpy(rng.normal(size=out.shape)) for out in outputs)
    torch.autograd.backward(outputs, doutputs)
    weights = list(theirs.parameters())
    dweights = values(weight.grad for weight in weights)

    ours = TimeRNN(*mapping.rnn_from_torch(*values(weights)), stateful=True)
    ours.set_state(value(h_0[0]))
    hs = ours.forward(mapping.sequence_from_torch(value(x)))
    dhs, dh_n = values(doutputs)
    dxs = ours.backward(mapping.sequence_from_torch(dhs), dh_n[0])

    output, h_n = outputs
    assert_agree([mapping.sequence_to_torch(hs), *state(ours)], values([output, h_n[0]]))
    assert_agree([mapping.sequence_to_torch(dxs), ours.dh[None]], values([x.grad, h_0.grad]))
    assert_agree(mapping.rnn_gradients_to_torch(*ours.grads), dweights)
    assert_agree(ours.grads, mapping.rnn_gradients_from_torch(*dweights[:3]))


def test_time_softmax_with_loss_agrees_with_torch(rng: Generator) -> None:
    logits, ts = leaf(rng, N, T, V), rng.integers(-1, V, size=(N, T))
    ts[0, 0], ts[0, 1] = -1, V - 1
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(N * T, V), torch.from_numpy(ts.reshape(N * T)), ignore_index=-1
    )
    torch.autograd.backward(3.0 * loss)

    layer = TimeSoftmaxWithLoss()
    assert_agree([np.array(layer.forward(value(logits), ts))], values([loss]))
    assert_agree([layer.backward(3.0)], values([logits.grad]))


# --- the package ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert result.attempted > 0 or name == "reference._arrays"  # helpers, without examples


@pytest.mark.parametrize("name", MODULES)
def test_reference_imports_no_torch(name: str) -> None:
    source = importlib.import_module(name).__file__
    assert source is not None
    nodes = list(ast.walk(ast.parse(Path(source).read_text())))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "numpy" in imported
    assert not any(package.split(".")[0] == "torch" for package in imported)
