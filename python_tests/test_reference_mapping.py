"""The mapping between the conventions of reference and torch, and their agreement through it.

The layers must agree with torch.nn in float64 to a few roundings. That makes them an oracle for
kernels which follow torch's conventions.
"""

from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.random import Generator

from reference import CrossEntropy, TimeLSTM, TimeRNN, TimeSoftmaxWithLoss, mapping
from reference_cases import Array, D, H, N, T, V, assert_equal, recurrent_params, state

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")


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


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy_agrees_with_torch(rng: Generator, reduction: str, soft: bool) -> None:
    logits, weight = leaf(rng, N, V), rng.uniform(size=V)
    target = rng.dirichlet(np.ones(V), N) if soft else np.array([1, -100, V - 1])
    loss = torch.nn.functional.cross_entropy(
        logits,
        torch.from_numpy(target),
        torch.from_numpy(weight),
        reduction=reduction,
        label_smoothing=0.2,
    )
    d_loss = rng.normal(size=loss.shape)
    torch.autograd.backward(loss, torch.from_numpy(np.asarray(d_loss)))
    layer = CrossEntropy(weight, reduction=reduction, label_smoothing=0.2)
    assert_agree([layer.forward(value(logits), target).loss], values([loss]))
    assert_agree([layer.backward(d_loss)], values([logits.grad]))
