"""Gradients through time: norms against explicit products, and that they explode and vanish."""

from pathlib import Path

import numpy as np
import pytest
import torch

import seqkern.nn
from backend import not_on_host
from helpers import normal
from seqkern.analysis import (
    gradient_norms,
    linear_gradient_norms,
    plot_lines,
    weight_gradient_norms,
)

pytestmark = not_on_host

N, D, H, T = 2, 4, 3, 20


def book_weight() -> np.ndarray:
    """Wh of the book's ch06/rnn_gradient_graph.py, whose seed is 3."""
    return np.random.RandomState(3).randn(H, H)


@pytest.mark.parametrize(("factor", "explodes"), [(1.0, True), (0.5, False)])
def test_the_books_gradients_explode_and_vanish(factor: float, explodes: bool) -> None:
    wh = factor * book_weight()
    dh, expected = np.ones((N, H)), []
    for _ in range(T):
        dh = dh @ wh.T
        expected.append(np.sqrt((dh**2).sum()) / N)
    found = linear_gradient_norms(torch.from_numpy(wh.T), T, N)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found[-1] > 10 * found[0]) == explodes
    assert (found[-1] < 0.01 * found[0]) != explodes


@pytest.mark.parametrize("package", [seqkern.nn, torch.nn])
def test_norms_of_a_tanh_rnn_are_an_explicit_product(package: object) -> None:
    layer = package.RNN(D, H).double()  # type: ignore[attr-defined]
    x = torch.randn(T, N, D, dtype=torch.float64)
    h = layer(x)[0].detach().numpy()
    w_ih, w_hh = (p.detach().numpy() for p in (layer.weight_ih_l0, layer.weight_hh_l0))
    dh, states, inputs = np.ones((N, H)), [], []
    for t in reversed(range(T)):
        states.append(np.linalg.norm(dh) / N)
        da = dh * (1 - h[t] ** 2)
        inputs.append(np.linalg.norm(da @ w_ih) / N)
        dh = da @ w_hh
    of_state, of_input = gradient_norms(layer, x)
    np.testing.assert_allclose(of_state, states[::-1], rtol=1e-10)
    np.testing.assert_allclose(of_input, inputs[::-1], rtol=1e-10)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_input_norms_are_those_of_the_whole_sequence(name: str) -> None:
    layer = getattr(seqkern.nn, name)(D, H, num_layers=2).double()
    x = normal((T, N, D), torch.float64, torch.Generator().manual_seed(1)).requires_grad_()
    layer(x)[0][-1].sum().backward()
    assert x.grad is not None
    of_state, of_input = gradient_norms(layer, x)
    np.testing.assert_allclose(of_input, x.grad.flatten(1).norm(dim=1).numpy() / N, rtol=1e-10)
    assert of_state[-1] == pytest.approx((N * H) ** 0.5 / N)
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_lstm_norms_hold_the_cell_state() -> None:
    """With the forget gate open and all else shut, the gradient of c stays as it is."""
    layer = seqkern.nn.LSTM(D, H).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0[H : 2 * H] = 100.0
    of_state, of_input = gradient_norms(layer, torch.randn(T, N, D, dtype=torch.float64))
    # dc = o (1 - tanh(c)^2) = 0.5 for each of N H elements.
    np.testing.assert_allclose(of_state[:-1], 0.5 * (N * H) ** 0.5 / N, rtol=1e-10)
    assert not of_input.any()


def test_weight_norms_and_clipping() -> None:
    layer = seqkern.nn.RNN(D, H).double()
    with torch.no_grad():
        layer.weight_hh_l0.mul_(4)
    x = 0.1 * torch.randn(6, N, D, dtype=torch.float64)
    expected = []
    for t in range(1, 7):
        gradients = torch.autograd.grad(layer(x[:t])[0][-1].sum(), tuple(layer.parameters()))
        expected.append(torch.cat([g.flatten() for g in gradients]).norm().item())
    found = weight_gradient_norms(layer, x)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    clip = float(np.median(expected))
    clipped = weight_gradient_norms(layer, x, max_norm=clip)
    np.testing.assert_allclose(clipped, np.minimum(expected, clip), rtol=1e-5)
    assert all(parameter.grad is None for parameter in layer.parameters())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weight_hh must be \(H, H\), got \(3, 2\)"):
        linear_gradient_norms(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        linear_gradient_norms(torch.zeros(3, 3), steps=0)
    x = torch.zeros(T, N, D)
    with pytest.raises(ValueError, match="layer must be time-major and in one direction"):
        gradient_norms(seqkern.nn.RNN(D, H, bidirectional=True), x)
    with pytest.raises(ValueError, match=r"input must be \(T, N, D\), T positive, got \(0, 2, 4\)"):
        weight_gradient_norms(seqkern.nn.RNN(D, H), x[:0])


def test_figure_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    steps, weight = range(1, T + 1), torch.from_numpy(book_weight())
    lines = {f"{c} W_hh": (steps, linear_gradient_norms(c * weight)) for c in (1.0, 0.5)}
    plot_lines(tmp_path / "norms.png", lines, xlabel="steps back", ylabel="norm", yscale="log")
    assert (tmp_path / "norms.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="yscale must be one of linear, log, got 'cubic'"):
        plot_lines(tmp_path / "norms.png", lines, xlabel="", ylabel="", yscale="cubic")
