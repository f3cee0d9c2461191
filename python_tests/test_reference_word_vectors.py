"""The reference layers of word vectors: gradients against central differences, and refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from reference import (
    CBOW,
    EmbeddingDot,
    NegativeSamplingLoss,
    SigmoidWithLoss,
    SimpleCBOW,
    SimpleSkipGram,
    SkipGram,
)
from reference_cases import assert_gradients

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

N, C, K, D, V = 5, 4, 3, 2, 6


def draw_words(rng: Generator, *shape: int) -> Any:
    """Draw word numbers: of V = 6, so that many are there twice."""
    return rng.integers(V, size=shape)


def test_gradients_of_embedding_dot(rng: Generator) -> None:
    W, h, words = rng.normal(size=(V, D)), rng.normal(size=(N, D)), draw_words(rng, N)
    layer, dout = EmbeddingDot(W), rng.normal(size=N)

    def loss() -> float:
        return float(layer.forward(h, words) @ dout)

    loss()
    dh = layer.backward(dout)
    assert_gradients(loss, [(dh, h), (layer.grads[0], W)])


def test_gradients_of_sigmoid_with_loss(rng: Generator) -> None:
    x, t = rng.normal(size=N), rng.integers(2, size=N)
    layer = SigmoidWithLoss()
    layer.forward(x, t)
    assert_gradients(lambda: 3.0 * layer.forward(x, t), [(layer.backward(3.0), x)])


def test_sigmoid_with_loss_is_exact_for_large_scores() -> None:
    layer = SigmoidWithLoss()
    assert layer.forward(np.array([800.0, -800.0]), np.array([0, 1])) == 800.0
    np.testing.assert_array_equal(layer.backward(), [0.5, -0.5])
    loss = layer.forward(np.array([-40.0, 40.0]), np.array([0, 1]))
    np.testing.assert_allclose(loss, np.exp(-40.0), rtol=1e-15)
    np.testing.assert_allclose(layer.backward(2.0), np.exp(-40.0) * np.array([1, -1]), rtol=1e-15)


def test_gradients_of_negative_sampling_loss(rng: Generator) -> None:
    W, h = rng.normal(size=(V, D)), rng.normal(size=(N, D))
    target, negatives = draw_words(rng, N), draw_words(rng, N, K)
    layer = NegativeSamplingLoss(W)

    def loss() -> float:
        return 3.0 * layer.forward(h, target, negatives)

    loss()
    dh = layer.backward(3.0)
    assert_gradients(loss, [(dh, h), (layer.grads[0], W)])


def test_gradients_of_cbow_with_padding(rng: Generator) -> None:
    contexts, target, negatives = (draw_words(rng, *s) for s in ((N, C), (N,), (N, K)))
    contexts[0, 1:] = contexts[1, ::2] = contexts[2] = -1  # the third has no context at all
    layer = CBOW(*rng.normal(size=(2, V, D)))

    def loss() -> float:
        return layer.forward(contexts, target, negatives)

    loss()
    layer.backward()
    assert_gradients(loss, zip(layer.grads, layer.params, strict=True))


def test_gradients_of_skip_gram(rng: Generator) -> None:
    contexts, target, negatives = (draw_words(rng, *s) for s in ((N, C), (N,), (N, C, K)))
    layer = SkipGram(*rng.normal(size=(2, V, D)))

    def loss() -> float:
        return layer.forward(contexts, target, negatives)

    loss()
    layer.backward()
    assert_gradients(loss, zip(layer.grads, layer.params, strict=True))


@pytest.mark.parametrize("model", [SimpleCBOW, SimpleSkipGram])
def test_gradients_of_the_simple_models(
    rng: Generator, model: type[SimpleCBOW] | type[SimpleSkipGram]
) -> None:
    words = np.eye(V)
    contexts, target = words[draw_words(rng, N, C)], words[draw_words(rng, N)]
    layer = model(rng.normal(size=(V, D)), rng.normal(size=(D, V)))

    def loss() -> float:
        return layer.forward(contexts, target)

    loss()
    layer.backward()
    assert_gradients(loss, zip(layer.grads, layer.params, strict=True))


def test_skip_gram_of_one_context_is_negative_sampling_of_the_middle_words_vectors(
    rng: Generator,
) -> None:
    W_in, W_out = rng.normal(size=(2, V, D))
    context, target, negatives = (draw_words(rng, *s) for s in ((N,), (N,), (N, K)))
    expected = NegativeSamplingLoss(W_out).forward(W_in[target], context, negatives)
    layer = SkipGram(W_in, W_out)
    assert layer.forward(context[:, None], target, negatives[:, None]) == expected
    of_cbow = CBOW(W_in, W_out).forward(target[:, None], context, negatives)
    np.testing.assert_allclose(of_cbow, expected, rtol=1e-15)


def test_no_samples_and_no_negatives_are_fine() -> None:
    W, none = np.ones((V, D)), np.zeros((0, K), dtype=np.int64)
    layer = NegativeSamplingLoss(W)
    assert layer.forward(np.zeros((0, D)), none[:, 0], none) == 0.0
    assert layer.backward().shape == (0, D)
    one = np.zeros((1, 0), dtype=np.int64)
    np.testing.assert_allclose(layer.forward(np.zeros((1, D)), np.array([2]), one), np.log(2.0))


H, ONE, TWO = np.zeros((2, D)), np.array([0, 1]), np.array([[0], [1]])
WORDS = np.eye(V)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: EmbeddingDot(np.ones((V, D), dtype=np.float32)), TypeError),
        (lambda: EmbeddingDot(np.ones((V, D))).forward(H, ONE[:1]), ValueError),
        (lambda: EmbeddingDot(np.ones((V, D))).forward(H, ONE - 1), IndexError),
        (lambda: SigmoidWithLoss().forward(np.zeros(2), np.array([0, 2])), ValueError),
        (lambda: NegativeSamplingLoss(np.ones((V, D))).forward(H, ONE, TWO + V), IndexError),
        (lambda: NegativeSamplingLoss(np.ones((V, D))).forward(H, ONE, TWO[:1]), ValueError),
        (lambda: CBOW(H, H).forward(TWO - 2, ONE, TWO), IndexError),
        (lambda: SimpleCBOW(np.ones((V, D)), np.ones((V, D))), ValueError),
        (lambda: SimpleCBOW(WORDS, WORDS).forward(WORDS[TWO] * 2, WORDS[ONE]), ValueError),
        (lambda: SimpleSkipGram(WORDS, WORDS).forward(WORDS[TWO], WORDS[:1]), ValueError),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], object], expected: type[Exception]) -> None:
    with pytest.raises(expected):
        call()
