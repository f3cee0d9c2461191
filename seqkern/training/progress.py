"""Listeners of a trainer: the log file and the console.

rich takes a while to import, and is imported when it is needed.
"""

from __future__ import annotations

import json
import sys
import time
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


class ConsoleProgress:
    """A line for every epoch; on a terminal, a bar with perplexity and tokens per second, too."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = console or Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn(
                "perplexity {task.fields[perplexity]:.2f}  {task.fields[speed]:,.0f} tokens/s"
            ),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=None, visible=False, epoch=0, perplexity=0.0, speed=0.0
        )

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
                perplexity=event["perplexity"],
                speed=event["tokens_per_second"],
            )
        elif kind == "epoch":
            valid = f"  valid {event['valid']:8.2f}" if "valid" in event else ""
            self.console.print(
                f"epoch {event['epoch']:3d}  perplexity: train {event['train']:8.2f}{valid}"
                f"  lr {event['lr']:g}  {event['tokens_per_second']:,.0f} tokens/s"
            )
        elif kind == "resume":
            self.console.print(
                f"resumed after epoch {event['epoch']}, iteration {event['iteration']}"
            )
        elif kind == "stop" and event["reason"] == "interrupted":
            self.console.print("interrupted; checkpoint saved")
        elif kind == "stop" and event["reason"] == "time":
            self.console.print("time is up; checkpoint saved")


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
