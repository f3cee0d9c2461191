"""Attention: the NumPy layers, torch's beside them, and what masks do."""

import numpy as np
import pytest
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from reference import AttentionWeight, TimeAttention, WeightSum, mapping, numerical_gradient
from seqkern.models.attention import TimeAttention as Attention

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")


def leaf(array: NDArray[np.float64]) -> Tensor:
    """Time-major tensor of an array (N, T, H), to be differentiated."""
    return torch.tensor(mapping.sequence_to_torch(array), requires_grad=True)


@pytest.mark.parametrize("layer", [WeightSum(), AttentionWeight(), TimeAttention()])
def test_reference_gradients_are_those_of_central_differences(
    layer: WeightSum | AttentionWeight | TimeAttention, rng: Generator
) -> None:
    hs = rng.normal(size=(2, 4, 3))
    shape = {WeightSum: (2, 4), AttentionWeight: (2, 3), TimeAttention: (2, 5, 3)}[type(layer)]
    other = rng.normal(size=shape)
    weights = rng.normal(size=layer.forward(hs, other).shape)

    def loss() -> float:
        return float((layer.forward(hs, other) * weights).sum())

    loss()
    for array, gradient in zip((hs, other), layer.backward(weights), strict=True):
        np.testing.assert_allclose(gradient, numerical_gradient(loss, array), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 5, 4, 8), (2, 1, 6, 3)])
def test_agrees_with_the_reference(sizes: tuple[int, int, int, int], rng: Generator) -> None:
    N, T, S, H = sizes
    hs_enc, hs_dec, dout = (rng.normal(size=(N, steps, H)) for steps in (S, T, T))
    layer = TimeAttention()
    expected = layer.forward(hs_enc, hs_dec)
    memory, query = leaf(hs_enc), leaf(hs_dec)
    context, weights = Attention()(query, memory)
    found = [context, weights, *torch.autograd.grad(context, (memory, query), leaf(dout))]
    for tensor, array in zip(found, (expected, layer.weights, *layer.backward(dout)), strict=True):
        np.testing.assert_allclose(
            mapping.sequence_from_torch(tensor.detach().numpy()), array, rtol=1e-12, atol=1e-12
        )


def test_gradients_under_a_mask() -> None:
    query, memory = (torch.randn(t, 2, 3, dtype=torch.float64, requires_grad=True) for t in (4, 5))
    mask = torch.arange(5)[:, None] < torch.tensor([5, 2])
    assert torch.autograd.gradcheck(Attention(), (query, memory, mask))


def test_steps_past_the_end_have_no_weight() -> None:
    query, memory = torch.randn(3, 2, 4), torch.randn(5, 2, 4)
    mask = torch.arange(5)[:, None] < torch.tensor([5, 2])
    context, weights = Attention()(query, memory, mask)
    alone, _ = Attention()(query[:, 1:], memory[:2, 1:])
    assert not weights[:, 1, 2:].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2))
    torch.testing.assert_close(context[:, 1:], alone)


def test_a_sequence_without_tokens_has_equal_weights() -> None:
    _, weights = Attention()(torch.randn(3, 1, 4), torch.randn(5, 1, 4), torch.zeros(5, 1).bool())
    torch.testing.assert_close(weights, torch.full((3, 1, 5), 0.2))
