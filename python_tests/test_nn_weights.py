"""Weights that change between two calls of a layer: every call packs or reads them anew."""

from typing import Any

import pytest
import torch
from torch import Tensor

from backend import not_on_host
from nn_layers import KINDS, assert_close, draw, pair, results, states

D, H = 4, 40


def step(optimizer: Any, rate: float) -> Any:
    """Return a change of a layer: an optimizer's step by gradients of its own."""

    def change(layer: Any, x: Tensor) -> None:
        layer(x)[0].square().mean().backward()
        optimizer(layer.parameters(), lr=rate).step()

    return change


def write(layer: Any, _: Tensor) -> None:
    """Change the parameters' memory without autograd's notice."""
    for parameter in layer.parameters():
        parameter.data.copy_(parameter.data / 2)


def replace(layer: Any, _: Tensor) -> None:
    """Give the parameters other memory."""
    for parameter in layer.parameters():
        parameter.data = parameter.data / 2


def load(layer: Any, _: Tensor) -> None:
    layer.load_state_dict({name: tensor / 2 for name, tensor in layer.state_dict().items()})


@not_on_host
@pytest.mark.parametrize(
    "change",
    [step(torch.optim.SGD, 1.0), step(torch.optim.Adam, 0.01), write, replace, load],
    ids=["SGD", "Adam", "write", "replace", "load"],
)
@pytest.mark.parametrize("lead", [(1, 1), (16, 1), (20, 6)], ids=str)  # the last one packs
@pytest.mark.parametrize("kind", KINDS)
def test_changed_weights_count_from_the_next_call(
    kind: str, lead: tuple[int, int], change: Any
) -> None:
    layer, fresh = pair(kind, D, H)
    x, hx = draw(layer, *lead)

    def outcomes(one: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            inferred, final = one(x, hx)
        names = ("inferred", "inferred h", "inferred c")
        return results(one, x, hx) | dict(zip(names, (inferred, *states(final)), strict=False))

    before = outcomes(layer)
    change(layer, x)
    fresh.load_state_dict(layer.state_dict())
    after = outcomes(layer)
    assert_close(after, outcomes(fresh))
    for name, found in after.items():
        assert not torch.allclose(found, before[name], rtol=1e-3), name
