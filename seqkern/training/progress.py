"""Listeners of a trainer: the log file, TensorBoard, the console.

rich takes a while to import, and is imported when it is needed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from seqkern.training.trainer import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class JsonLog:
    """Appends every event to a file, one JSON object a line, with the time (seconds since 1970)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        line = json.dumps({"time": round(time.time(), 3), **event})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


class TensorBoard:
    """Writes every event's figures for TensorBoard.

    Parameters
    ----------
    folder : Path
        Where the files go.

    Raises
    ------
    ImportError
        If tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                f"--tensorboard needs tensorboard: pip install 'seqkern[tensorboard]' ({error})"
            ) from error
        self._open, self._folder = SummaryWriter, folder
        self._writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        kind = event["event"]
        if kind == "step":
            step = (event["epoch"] - 1) * event["iterations"] + event["iteration"]
            self._write("step", {k: v for k, v in event.items() if isinstance(v, float)}, step)
        elif kind == "epoch":
            for split in ("train", "valid"):
                self._write(split, event.get(split, {}), event["epoch"])
            self._write("epoch", {"lr": event["lr"]}, event["epoch"])
        elif kind == "stop" and self._writer is not None:
            self._writer.close()

    def _write(self, group: str, figures: Mapping[str, float], step: int) -> None:
        if self._writer is None:  # once there is something to write
            self._writer = self._open(str(self._folder))
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)


class ConsoleProgress:
    """A line for every epoch; on a terminal, a bar with the task's figures and the speed, too."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = console or Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, visible=False, epoch=0, figures="")

    def __enter__(self) -> ConsoleProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        kind = event["event"]
        if kind == "step":
            self._bar.update(
                self._task,
                visible=True,
                completed=event["iteration"],
                total=event["iterations"],
                epoch=event["epoch"],
                figures=f"{figures(event['train'])}  {_speed(event)}",
            )
        elif kind == "epoch":
            parts = [f"{s}: {figures(event[s])}" for s in ("train", "valid") if s in event]
            self.console.print(
                f"epoch {event['epoch']:3d}  {'  '.join(parts)}  lr {event['lr']:g}  "
                f"{_speed(event)}"
            )
        elif kind == "resume":
            self.console.print(
                f"resumed after epoch {event['epoch']}, iteration {event['iteration']}"
            )
        elif kind == "stop" and event["reason"] == "interrupted":
            self.console.print("interrupted; checkpoint saved")
        elif kind == "stop" and event["reason"] == "time":
            self.console.print("time is up; checkpoint saved")


def figure(value: float) -> str:
    """Four digits behind the point below 10, two above.

    Examples
    --------
    >>> figure(0.98765), figure(136.049)
    ('0.9877', '136.05')
    """
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def figures(scores: Mapping[str, float]) -> str:
    """Scores in a line.

    Examples
    --------
    >>> figures({"accuracy": 0.5, "loss": 1.25})
    'accuracy 0.5000, loss 1.2500'
    """
    return ", ".join(f"{name} {figure(value)}" for name, value in scores.items())


def _speed(event: Event) -> str:
    """The event's `UNIT_per_second`."""
    name, value = next((n, v) for n, v in event.items() if n.endswith("_per_second"))
    return f"{value:,.0f} {name.removesuffix('_per_second')}/s"


class WordProgress:
    """A line for every epoch; on a terminal, a bar with loss and words per second, too."""

    def __init__(self) -> None:
        self._bar = _word_bar() if sys.stdout.isatty() else None

    def __enter__(self) -> WordProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        kind = event["event"]
        if kind in ("step", "epoch") and self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                visible=True,
                completed=event["words"],
                total=event["total_words"],
                epoch=event["epoch"],
                loss=event["loss"],
                speed=event["words_per_second"],
            )
        if kind == "epoch":
            self._print(
                f"epoch {event['epoch']:3d}  loss {event['loss']:.4f}"
                f"  {event['words_per_second']:,.0f} words/s  alpha {event['learning_rate']:.5f}"
            )
        elif kind == "stop" and event["reason"] == "interrupted":
            self._print("interrupted")

    def _print(self, line: str) -> None:
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.console.print(line)


def _word_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:,.0f} words/s"),
        TimeRemainingColumn(),
        console=Console(highlight=False, soft_wrap=True),
        transient=True,
    )
    bar.add_task("", total=None, visible=False, epoch=0, loss=0.0, speed=0.0)
    return bar
