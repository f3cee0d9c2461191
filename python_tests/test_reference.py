"""The NumPy reference layers: gradients against central differences, states, dropout and labels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator, default_rng

from reference import (
    LSTM,
    RNN,
    CrossEntropy,
    Embedding,
    LinearCrossEntropy,
    SoftmaxWithLoss,
    TimeAffine,
    TimeDropout,
    TimeEmbedding,
    TimeLSTM,
    TimeRNN,
    TimeSoftmaxWithLoss,
)
from reference_cases import (
    Array,
    D,
    H,
    N,
    T,
    V,
    assert_equal,
    assert_gradients,
    recurrent_params,
    state,
)

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")


def weighted_sum(forward: Callable[[Any], Array], x: Any, weight: Array) -> Callable[[], float]:
    """Return a loss whose gradient at the output of `forward` is `weight`."""
    return lambda: float((forward(x) * weight).sum())


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


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy_gradients(
    rng: Generator, reduction: str, softcap: float | None, soft: bool
) -> None:
    options = {"label_smoothing": 0.2, "z_loss": 0.1, "temperature": 0.7, "softcap": softcap}
    layer = LinearCrossEntropy(CrossEntropy(rng.uniform(size=V), reduction=reduction, **options))
    hidden, weight, bias = (rng.normal(size=shape) for shape in ((N, H), (V, H), (V,)))
    target = rng.dirichlet(np.ones(V), N) if soft else np.array([2, -100, V - 1])
    d_loss = rng.normal(size=(N,) if reduction == "none" else ())
    d_rows = rng.normal(size=(3, N))

    def loss() -> float:
        found = layer.forward(hidden, weight, target, bias)
        rows = (found.log_probability, found.logsumexp, found.entropy)
        return float((d_loss * found.loss).sum() + (d_rows * rows).sum())

    loss()
    gradients = layer.backward(d_loss, *d_rows)
    assert_gradients(loss, zip(gradients, (hidden, weight, bias), strict=True))
    for terms, gradient in zip(layer.terms, gradients, strict=True):
        assert (terms >= abs(gradient)).all()


def test_cross_entropy_counts_the_classes_before_the_target() -> None:
    logits = np.array([[1.0, 3.0, 2.0, 3.0]] * 5)
    result = CrossEntropy(reduction="sum").forward(logits, np.array([0, 1, 2, 3, -100]))
    assert result.rank.tolist() == [3, 0, 2, 1, -1]
    assert result.argmax.tolist() == [1, 1, 1, 1, -1]


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
