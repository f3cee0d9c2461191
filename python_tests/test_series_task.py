"""Forecasts of a series, through the loop and the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import error_line
from seqkern.cli import main
from seqkern.data import noisy_sine, windows
from seqkern.models import SeriesRegressor, VectorAutoregression
from seqkern.tasks.series import SeriesConfig, SeriesTask, forecast, read_series
from seqkern.training import Run, Trainer

pytestmark = pytest.mark.backends("cpu", reason="about training, not the kernels")


def rmse(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean()))


@pytest.mark.parametrize("settings", [{"model": "window-mlp"}, {"cell": "gru"}])
def test_errors_are_of_each_value_of_the_split_given_all_before(settings: dict) -> None:
    series = noisy_sine(500)
    task = SeriesTask(SeriesConfig(data="sine", order=3, hidden_size=5, **settings), series)
    assert task.parts == {"train": (3, 300), "valid": (300, 400), "test": (400, 500)}
    model = task.build_model(task.config)

    def predict(known: torch.Tensor) -> torch.Tensor:
        """The value after those that are known (T, D)."""
        if isinstance(model, SeriesRegressor):
            return model(known[:, None])[0][-1]
        return model(known[-3:, None])

    with torch.no_grad():
        one = np.array([predict(series[:t]).item() for t in range(300, 400)])
        assert task.evaluate(model, "valid") == {
            "rmse": pytest.approx(rmse(one, series[300:400, 0].numpy()), rel=1e-5)
        }
        four = []
        for t in range(400, 497):
            known = series[:t]
            for _ in range(4):
                known = torch.cat([known, predict(known)])
            four.append(known[-1].item())
    scores = task.evaluate(model, "test")
    assert model.training
    assert scores["rmse_4"] == pytest.approx(
        rmse(np.array(four), series[403:, 0].numpy()), rel=1e-4
    )
    assert list(scores) == ["rmse", "rmse_4", "rmse_16", "rmse_64", "ar", "ar_4", "ar_16", "ar_64"]

    rows = windows(series[:300].double(), 4)[..., 0].numpy()
    coefficients, *_ = np.linalg.lstsq(np.vstack([rows[:3], np.ones(297)]).T, rows[3])
    rows = windows(series[397:].double(), 4)[..., 0].numpy()
    found = np.vstack([rows[:3], np.ones(100)]).T @ coefficients
    assert scores["ar"] == pytest.approx(rmse(found, rows[3]), rel=1e-5)


def test_an_autoregressive_series_is_forecast_as_well_as_it_can_be() -> None:
    random = torch.Generator().manual_seed(1)
    values = [torch.zeros(2), torch.zeros(2)]
    for _ in range(598):
        noise = 0.1 * torch.randn(2, generator=random)
        values.append(0.5 * values[-1] - 0.3 * values[-2].flip(0) + noise)
    task = SeriesTask(SeriesConfig(order=2), torch.stack(values))
    found = task.baseline.coefficients
    expected = torch.stack([0.5 * torch.eye(2), -0.3 * torch.eye(2).flip(0)])
    torch.testing.assert_close(found, expected, atol=0.15, rtol=0)
    scores = task.evaluate(SeriesRegressor.from_autoregression(task.baseline), "test")
    for k in ("", "_4", "_16", "_64"):
        assert scores[f"rmse{k}"] == pytest.approx(scores[f"ar{k}"], rel=1e-4)
    assert 0.09 < scores["ar"] < 0.115


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "window-mlp", "hidden_size": 10, "epochs": 5},
        {"cell": "rnn", "hidden_size": 8, "epochs": 2},
        {"steps": None, "batch_size": 1, "hidden_size": 8, "epochs": 40},
    ],
    ids=["window-mlp", "windows", "whole"],
)
def test_training_learns_the_sine(settings: dict) -> None:
    task = SeriesTask.load(SeriesConfig(data="sine", **settings))
    trainer = Trainer(task.build_model(task.config), task)
    trainer.fit()
    assert trainer.best is not None
    assert trainer.best < 0.35  # 0.2 is the noise, 0.7 the sine


def test_examples_are_inputs_and_their_next_values() -> None:
    series = torch.arange(400.0)[:, None]
    for settings, inputs in (({"steps": 7}, 7), ({"model": "window-mlp", "order": 3}, 3)):
        task = SeriesTask(SeriesConfig(batch_size=5, **settings), series)
        batches = task.batches(torch.device("cpu"))
        assert len(batches) == (240 - inputs) // 5
        batch = batches.next()
        assert batch.shape == (inputs + 1, 5, 1)
        assert (batch.diff(dim=0) == 1).all()
        assert 0 <= batch.min() <= batch.max() < 240
        # A step further than right.
        model = (lambda x: x[-1] + 2) if inputs == 3 else (lambda x: (x + 2, None))
        loss, state = task.loss(model, batch, None)
        assert (loss.item(), state) == (1.0, None)


def test_command_line_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path, run = tmp_path / "waves.csv", tmp_path / "run"
    times = np.arange(400)[:, None] * np.array([0.05, 0.1])
    np.savetxt(path, np.sin(times), delimiter=",")
    options = ["--data", str(path), "--out", str(run), "--epochs", "1", "--hidden-size", "4"]
    assert main(["train", "sine", *options]) == 0
    record = Run.open(run)
    assert (record.config.features, record.config.data) == (2, str(path))
    capsys.readouterr()
    assert main(["eval", "series", str(run)]) == 0
    figure = capsys.readouterr().out.splitlines()[-1]
    scores = SeriesTask.load(record.config).evaluate(record.load_model(), "test")
    assert figure == f"{scores['rmse']:.4f}"
    assert main(["show", str(run)]) == 0
    assert "ar_64 " in capsys.readouterr().out
    assert (run / "plots" / "forecasts.png").stat().st_size > 10_000

    np.savetxt(path, times[:, :1], delimiter=",")
    message = error_line(capsys, ["eval", "series", str(run)])
    assert "has 1 numbers in a value, the model 2" in message
    np.savetxt(path, times[:90], delimiter=",")
    assert "series too short: 90 values" in error_line(capsys, ["eval", "series", str(run)])
    assert "model window-mlp takes no cell, got 'gru'" in error_line(
        capsys, ["train", "sine-mlp", "--cell", "gru"]
    )
    assert "model window-mlp takes no steps, got 9" in error_line(
        capsys, ["train", "sine-mlp", "--steps", "9"]
    )


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "1,2\n3\n", "1,nan\n2,3\n"])
def test_files_of_anything_else_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "series.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"series\.csv is not a CSV file of numbers"):
        read_series(path)
    with pytest.raises(FileNotFoundError, match="no such series file"):
        read_series(tmp_path / "absent.csv")


def test_forecast_of_a_line_goes_on() -> None:
    line = torch.arange(300.0)[:, None]
    model = VectorAutoregression(1, 2).fit(line[:100])
    found = forecast(model, line, 290, 300, 8)
    expected = torch.arange(290.0, 301.0)[:, None] + torch.arange(8.0)
    torch.testing.assert_close(found[..., 0], expected)
