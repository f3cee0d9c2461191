"""seqkern.functional.tie: one gradient of a weight that is used twice."""

import pytest
import torch
from torch import Tensor

import seqkern.functional as F

IDS, TARGET = torch.tensor([[1, 4, 1], [0, 6, -100]]), torch.tensor([[4, 1, 0], [6, 2, -100]])


def loss(first: Tensor, second: Tensor, sparse: bool) -> Tensor:
    hidden = torch.nn.functional.embedding(IDS.clamp(0), first, sparse=sparse)
    return F.linear_cross_entropy(hidden.tanh(), second, TARGET)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_gradient_is_the_sum_of_both(sparse: bool) -> None:
    weight = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(loss(weight, weight, False), weight)
    loss(*F.tie(weight), sparse).backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, expected, rtol=1e-14, atol=1e-15)


def test_the_embedding_adds_into_the_gradient_of_the_linear_layer() -> None:
    weight = torch.randn(7, 5, requires_grad=True)
    first, second = F.tie(weight)
    places = []
    second.register_hook(lambda gradient: places.append(gradient.data_ptr()))
    loss(first, second, sparse=True).backward()
    assert weight.grad is not None
    assert [weight.grad.data_ptr()] == places


@pytest.mark.parametrize("use", ["embedding", "linear"])
def test_one_use_alone_has_its_own_gradient(use: str) -> None:
    weight = torch.randn(7, 5, requires_grad=True)
    first, second = F.tie(weight)
    both = (first, weight.detach()) if use == "embedding" else (weight.detach(), second)
    loss(*both, sparse=False).backward()
    alone = weight.detach().clone().requires_grad_()
    plain = (alone, weight.detach()) if use == "embedding" else (weight.detach(), alone)
    (expected,) = torch.autograd.grad(loss(*plain, sparse=False), alone)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, expected)


def test_second_derivatives_are_those_of_the_plain_weight() -> None:
    weight = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)

    def second_gradient(pair: tuple[Tensor, Tensor]) -> Tensor:
        (first,) = torch.autograd.grad(loss(*pair, sparse=False), weight, create_graph=True)
        return torch.autograd.grad(first.square().sum(), weight)[0]

    expected = second_gradient((weight, weight))
    torch.testing.assert_close(second_gradient(F.tie(weight)), expected, rtol=1e-10, atol=1e-12)
