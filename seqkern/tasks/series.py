"""Time series: the next value of a series of numbers, and those after it."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from seqkern.analysis import plot_lines
from seqkern.data import Vocabulary, noisy_sine, windows
from seqkern.data.series import check_series
from seqkern.models import (
    CELLS,
    SeriesRegressor,
    VectorAutoregression,
    WindowMLP,
    forecast_errors,
    window_forecast,
)
from seqkern.tasks import _models
from seqkern.training.config import RunConfig, setting
from seqkern.training.progress import figures
from seqkern.training.run import Run
from seqkern.training.state import State
from seqkern.training.task import Batches, ExampleBatches, Task, evaluating

AHEAD = (1, 4, 16, 64)
"""How many steps ahead forecasts are judged."""

MODELS: dict[str, type[torch.nn.Module]] = {
    "regressor": SeriesRegressor,
    "window-mlp": WindowMLP,
}
"""Model classes by name."""


@dataclass(frozen=True)
class SeriesConfig(RunConfig):
    """Settings of a model of a series; the defaults are those of the preset sine."""

    batch_size: int = 16
    lr: float = 0.01
    epochs: int = 10
    model: str = setting("regressor", "which model", choices=tuple(MODELS))
    cell: str | None = setting(None, "recurrent cell (default: by the model)", choices=CELLS)
    hidden_size: int = setting(32, "units of a hidden layer, H", at_least=1)
    num_layers: int = setting(1, "recurrent layers", at_least=1)
    order: int = setting(4, "values of a window, and of the autoregression beside", at_least=1)
    steps: int | None = setting(
        50, "steps of back-propagation through time (none: all of the training part)", at_least=1
    )
    features: int = setting(0, "numbers of a value, 0 until it is known", decided=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _models.check(MODELS, self, shared=("order",))
        if self.model == "window-mlp" and self.steps != type(self).steps:
            raise ValueError(f"model window-mlp takes no steps, got {self.steps}")


class SeriesTask(Task[SeriesConfig]):
    """Training on the first 60 % of a series, validation on the next 20 %, test on the last.

    Numbers are taken as they are. Beside the model's forecasts stand those of a linear
    autoregression of order `order`, fitted to the training part by least squares.

    Parameters
    ----------
    config : SeriesConfig
    series : Tensor
        Shape (length, D), floating-point.

    Raises
    ------
    ValueError
        If the series has another shape, another D than the model's, or too few values.
    """

    family = "series"
    Config = SeriesConfig
    sources = ("sine",)
    score = "rmse"

    def __init__(self, config: SeriesConfig, series: Tensor) -> None:
        check_series(series)
        length, features = series.shape
        if config.features not in (0, features):
            raise ValueError(
                f"{config.data} has {features} numbers in a value, the model {config.features}"
            )
        self.config = replace(config, features=features)
        self.series = series
        first, second = length * 6 // 10, length * 8 // 10
        self.parts = {"train": (config.order, first), "valid": (first, second)}
        self.parts["test"] = (second, length)
        needed = max(self._inputs(first) + 1, config.order * (features + 1) + 1)
        if first < needed or length - second < AHEAD[-1]:
            raise ValueError(
                f"series too short: {length} values, of which {needed} are needed to train on "
                f"(the first 60 %) and {AHEAD[-1]} to test (the last 20 %)"
            )
        self.vocabularies: Mapping[str, Vocabulary] = {}
        self.checksum = zlib.crc32(series[:first].contiguous().numpy().data)

    @classmethod
    def load(
        cls, config: SeriesConfig, vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> SeriesTask:
        """Make the noisy sine of d2l, or read the file that `config.data` names."""
        return cls(config, noisy_sine() if config.data == "sine" else read_series(config.data))

    @staticmethod
    def build_model(config: SeriesConfig) -> torch.nn.Module:
        """The model of the settings, freshly initialised from torch's global generator."""
        return _models.build(MODELS, config)

    @property
    def summary(self) -> str:
        """Model, length."""
        return f"{self.config.model} on {self.config.data}: {len(self.series):,} values"

    def batches(self, device: torch.device, rank: int = 0, world: int = 1) -> Batches:
        """Windows (T + 1, N / world, D): T inputs, each with the next as its target."""
        config, first = self.config, self.parts["train"][1]
        rows = windows(self.series[:first].to(device), self._inputs(first) + 1)
        return ExampleBatches(
            rows.shape[1],
            config.batch_size,
            lambda indices: rows[:, indices.to(device)],
            config.seed,
            rank,
            world,
        )

    def _inputs(self, train: int) -> int:
        """Inputs of an example."""
        if self.config.model == "window-mlp":
            return self.config.order
        return self.config.steps or train - 1

    def loss(
        self, model: Callable[..., Any], batch: Tensor, state: State | None
    ) -> tuple[Tensor, State | None]:
        """Mean squared error: of the value after a window, or of those after every step."""
        if self.config.model == "window-mlp":
            return torch.nn.functional.mse_loss(model(batch[:-1]), batch[-1]), None
        return torch.nn.functional.mse_loss(model(batch[:-1])[0], batch[1:]), None

    def training_scores(self, loss: float) -> dict[str, float]:
        """Root mean square error."""
        return {"rmse": math.sqrt(loss)}

    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """Root mean square error of the values in a split, all values before them being known.

        That is of one step ahead; but for "valid", which training watches, 4, 16 and 64 steps
        ahead, too, and those of the autoregression (ar).
        """
        part, device = self.parts[split], next(model.parameters()).device
        with evaluating(model):
            if split == "valid":
                (error,) = self._errors(forecast(model, self.series.to(device), *part, 1), split)
                return {"rmse": error}
            found = {
                "rmse": forecast(model, self.series.to(device), *part, AHEAD[-1]),
                "ar": forecast(self.baseline, self.series, *part, AHEAD[-1]),
            }
        errors = {name: self._errors(values, split) for name, values in found.items()}
        return {
            name if k == 1 else f"{name}_{k}": values[k - 1]
            for name, values in errors.items()
            for k in AHEAD
        }

    def _errors(self, found: Tensor, split: str) -> list[float]:
        start, end = self.parts[split]
        return forecast_errors(found.cpu(), self.series[start - 1 : end]).tolist()

    @cached_property
    def baseline(self) -> VectorAutoregression:
        """The autoregression, fitted to the training part."""
        config = self.config
        model = VectorAutoregression(config.features, config.order)
        return model.fit(self.series[: self.parts["train"][1]])

    @classmethod
    def show(cls, run: Run, plots: Path) -> str:
        """Draw the forecasts 1, 4, 16 and 64 steps ahead of the test part's first number."""
        task, model = cls.load(cast(SeriesConfig, run.config)), run.load_model()
        start, end = task.parts["test"]
        with evaluating(model):
            found = forecast(model, task.series, start, end, AHEAD[-1])
        lines = {"series": (np.arange(start, end), task.series[start:end, 0].numpy())}
        for k in AHEAD:
            values = found[: end - start - k + 1, k - 1, 0]
            lines[f"{k} ahead"] = (np.arange(start + k - 1, end), values.numpy())
        plot_lines(plots / "forecasts.png", lines, xlabel="time", ylabel="value")
        return f"test {figures(task.evaluate(model, 'test'))}"


def forecast(model: torch.nn.Module, series: Tensor, start: int, end: int, steps: int) -> Tensor:
    """The next `steps` values, as expected before each of start ... end.

    Parameters
    ----------
    model : SeriesRegressor, WindowMLP or VectorAutoregression
    series : Tensor
        Shape (length, D). The values of a window must come before `start`.
    start, end, steps : int

    Returns
    -------
    Tensor
        Shape (end - start + 1, steps, D): row i begins with the value at start + i.

    Examples
    --------
    >>> series = noisy_sine(100)
    >>> forecast(WindowMLP(order=4), series, 80, 100, 7).shape
    torch.Size([21, 7, 1])
    """
    if isinstance(model, SeriesRegressor):
        if steps == 1:  # in one call
            return model(series[:end, None])[0][start - 1 :]
        return model.forecast(series[:end], steps)[start - 1 :]
    order = cast(int, model.order)
    return window_forecast(model, series[start - order : end], order, steps)


def read_series(path: str | Path) -> Tensor:
    """Read a series from a CSV file: a line for each time, D numbers between commas, no header.

    Returns
    -------
    Tensor
        float32, shape (length, D).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds anything but finite numbers, as many in every line.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "series.csv"
    >>> _ = path.write_text("1,2\\n3,4\\n5,6\\n")
    >>> read_series(path).shape
    torch.Size([3, 2])
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such series file: {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, told below
            series = np.loadtxt(path, dtype=np.float32, delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is not a CSV file of numbers: {error}") from error
    if series.size == 0 or not np.isfinite(series).all():
        raise ValueError(f"{path} is not a CSV file of numbers: empty, or one is not finite")
    return torch.from_numpy(series)
