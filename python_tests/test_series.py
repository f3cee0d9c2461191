"""Series: windows, autoregressions by least squares, their RNN, and forecasts of many steps."""

import numpy as np
import pytest
import torch
from torch import Tensor

from backend import not_on_host
from helpers import error
from seqkern.data import noisy_sine, windows
from seqkern.models import (
    CELLS,
    SeriesRegressor,
    VectorAutoregression,
    WindowMLP,
    forecast_errors,
    window_forecast,
)

pytestmark = not_on_host

# A stable VAR(2) of two features.
COEFFICIENTS = np.array([[[0.5, 0.2], [-0.3, 0.4]], [[0.2, -0.1], [0.1, 0.25]]])
CONSTANT = np.array([1.0, -0.5])


def simulate(rng: np.random.Generator, length: int, noise: float) -> Tensor:
    values = list(rng.normal(size=(2, 2)))
    for _ in range(length - 2):
        mean = sum(a @ x for a, x in zip(COEFFICIENTS, values[:-3:-1], strict=True)) + CONSTANT
        values.append(mean + noise * rng.normal(size=2))
    return torch.from_numpy(np.array(values))


def loop_forecast(model: VectorAutoregression, series: Tensor, steps: int) -> np.ndarray:
    """Forecasts by the definition, one window and one step after another."""
    matrices = model.coefficients.numpy()
    constant = model.linear.bias.detach().numpy()
    rows = []
    for i in range(len(series) - model.order + 1):
        known = list(series[i : i + model.order].numpy())
        for _ in range(steps):
            past = known[: -model.order - 1 : -1]
            known.append(sum(a @ x for a, x in zip(matrices, past, strict=True)) + constant)
        rows.append(known[model.order :])
    return np.array(rows)


# Data


def test_noisy_sine_is_a_sine_with_noise() -> None:
    series = noisy_sine(20_000, noise=0.2, seed=1)
    assert series.shape == (20_000, 1)
    noise = series[:, 0] - torch.sin(0.01 * torch.arange(1, 20_001))
    assert abs(noise.mean()) < 5 * 0.2 / 20_000**0.5
    assert noise.std().item() == pytest.approx(0.2, rel=0.03)
    assert torch.equal(series, noisy_sine(20_000, noise=0.2, seed=1))
    assert not torch.equal(series, noisy_sine(20_000, noise=0.2, seed=2))


def test_windows_are_slices() -> None:
    series = torch.randn(9, 2)
    found = windows(series, 4)
    assert found.shape == (4, 6, 2)
    for i in range(6):
        assert torch.equal(found[:, i], series[i : i + 4])


# Autoregression


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_var_recovers_the_coefficients(rng: np.random.Generator, noise: float) -> None:
    # Without noise, before the series has settled, else all rows are alike.
    series = simulate(rng, 20_000 if noise else 20, noise)
    model = VectorAutoregression(features=2, order=2).double().fit(series)
    tolerance = 0.03 if noise else 1e-6
    np.testing.assert_allclose(model.coefficients.numpy(), COEFFICIENTS, atol=tolerance)
    np.testing.assert_allclose(model.linear.bias.detach().numpy(), CONSTANT, atol=3 * tolerance)


def test_fit_has_the_least_squares(rng: np.random.Generator) -> None:
    """The gradient of the sum of squares is zero."""
    series = simulate(rng, 60, 0.5)
    model = VectorAutoregression(features=2, order=3).double().fit(series)
    rows = windows(series, 4)
    (model(rows[:-1]) - rows[-1]).square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-9


def test_forecasts_are_those_of_a_loop(rng: np.random.Generator) -> None:
    series = simulate(rng, 30, 0.5)
    model = VectorAutoregression(features=2, order=2).double().fit(series)
    found = window_forecast(model, series, order=2, steps=5)
    np.testing.assert_allclose(found.numpy(), loop_forecast(model, series, 5), rtol=1e-10)


def test_errors_compare_each_prediction_with_its_time(rng: np.random.Generator) -> None:
    series = simulate(rng, 30, 0.5)
    model = VectorAutoregression(features=2, order=3).double().fit(series)
    forecast = window_forecast(model, series, order=3, steps=4)
    squares: dict[int, list[float]] = {k: [] for k in range(1, 5)}
    for i, row in enumerate(forecast.numpy()):
        for k, predicted in enumerate(row, 1):
            time = 3 + i + k - 1
            if time < len(series):
                squares[k].extend((predicted - series[time].numpy()) ** 2)
    expected = [np.mean(squares[k]) ** 0.5 for k in range(1, 5)]
    np.testing.assert_allclose(forecast_errors(forecast, series).numpy(), expected, rtol=1e-12)


# Its RNN


@pytest.mark.parametrize("backend", ["seqkern", "torch"])
@pytest.mark.parametrize(("features", "order"), [(1, 1), (1, 4), (2, 3)])
def test_an_rnn_computes_an_autoregression(backend: str, features: int, order: int) -> None:
    model = VectorAutoregression(features, order).double()
    series = torch.randn(25, features, dtype=torch.float64)
    rnn = SeriesRegressor.from_autoregression(model, backend)
    predictions, _ = rnn(series[:, None])
    expected = model(windows(series, order))
    torch.testing.assert_close(predictions[order - 1 :, 0], expected, rtol=1e-12, atol=1e-12)
    forecast = window_forecast(model, series, order, steps=6)
    torch.testing.assert_close(
        rnn.forecast(series, 6)[order - 1 :], forecast, rtol=1e-12, atol=1e-12
    )


def test_an_rnn_of_an_autoregression_can_be_trained() -> None:
    model = VectorAutoregression(1, 2)
    rnn = SeriesRegressor.from_autoregression(model)
    rnn(torch.randn(5, 2, 1))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in rnn.parameters())
    assert model.linear.weight.grad is None


# Recurrent regression


@pytest.mark.parametrize("cell", CELLS)
def test_backends_agree(cell: str) -> None:
    """Float32 predictions and gradients err at most twice as much with seqkern as with torch."""
    series, target = torch.randn(2, 10, 3, 2, dtype=torch.float64)
    ours = SeriesRegressor(2, 8, num_layers=2, cell=cell)
    found: dict[str, dict[str, Tensor]] = {}
    for name, backend, dtype in (
        ("ours", "seqkern", torch.float32),
        ("torch", "torch", torch.float32),
        ("exact", "torch", torch.float64),
    ):
        model = SeriesRegressor(2, 8, num_layers=2, cell=cell, backend=backend)
        model.load_state_dict(ours.state_dict())
        model.to(dtype)
        predictions, _ = model(series.to(dtype))
        torch.nn.functional.mse_loss(predictions, target.to(dtype)).backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        found[name] = {"predictions": predictions.detach(), **gradients}
    assert len(found["exact"]) == 1 + len(list(ours.parameters()))
    for key, exact in found["exact"].items():
        reference = exact.numpy()
        bound = max(2 * error(found["torch"][key], reference), 8 * np.finfo(np.float32).eps)
        assert error(found["ours"][key], reference) <= bound, key


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_forecast_feeds_predictions_back(cell: str) -> None:
    model = SeriesRegressor(2, 6, num_layers=2, cell=cell).double()
    series = torch.randn(7, 2, dtype=torch.float64)
    found = model.forecast(series, steps=3)
    assert found.shape == (7, 3, 2)
    for i in range(7):
        known = series[: i + 1]
        for k in range(3):
            predicted = model(known[:, None])[0][-1].detach()
            torch.testing.assert_close(found[i, k], predicted[0], rtol=1e-10, atol=1e-10)
            known = torch.cat([known, predicted])


def test_forecast_of_windows_by_a_recurrent_model() -> None:
    model = SeriesRegressor(1, 6, cell="gru").double()
    series = torch.randn(8, 1, dtype=torch.float64)
    found = window_forecast(lambda window: model(window)[0][-1], series, order=4, steps=2)
    for i in range(5):
        window = series[i : i + 4]
        first = model(window[:, None])[0][-1].detach()
        second = model(torch.cat([window[1:], first])[:, None])[0][-1].detach()
        torch.testing.assert_close(found[i], torch.cat([first, second]), rtol=1e-10, atol=1e-10)


def test_autocast_to_bfloat16() -> None:
    model = SeriesRegressor(1, 8, cell="gru")
    series = torch.randn(6, 1)
    expected = model.forecast(series, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.forecast(series, 3)
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


def test_a_network_of_windows_learns_the_sine() -> None:
    series = noisy_sine(600, noise=0.1)
    model = WindowMLP()
    rows = windows(series, 5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(rows[:-1]), rows[-1])
        loss.backward()
        optimizer.step()
    errors = forecast_errors(window_forecast(model, series, 4, 2), series)
    assert 0.1 < errors[0] < 0.15
    assert errors[0].item() == pytest.approx(loss.item() ** 0.5, rel=0.05)


# Bad input


def test_bad_arguments_are_refused() -> None:
    series = torch.zeros(6, 2)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        noisy_sine(0)
    with pytest.raises(ValueError, match="noise must be at least 0, got -1"):
        noisy_sine(5, noise=-1.0)
    with pytest.raises(ValueError, match=r"size must be in 1 ... 6, the series' length, got 7"):
        windows(series, 7)
    with pytest.raises(ValueError, match=r"series must be floating-point \(T, D\), T positive"):
        windows(torch.zeros(6), 2)
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        VectorAutoregression(2, 0)
    with pytest.raises(ValueError, match=r"series must be \(7 or more, 2\), got \(6, 2\)"):
        VectorAutoregression(2, 2).fit(series)
    with pytest.raises(ValueError, match="cell must be one of"):
        SeriesRegressor(cell="mgu")
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        SeriesRegressor(2).forecast(series, 0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        window_forecast(WindowMLP(2), series, 4, 0)
    with pytest.raises(ValueError, match=r"forecast must be \(M, steps, 2\) with steps < M <= 6"):
        forecast_errors(torch.zeros(3, 3, 2), series)
