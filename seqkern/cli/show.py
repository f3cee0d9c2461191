"""`seqkern show RUN`: curves of its training, and what else its task has to show."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqkern.analysis.figures import png_figure
from seqkern.cli.options import data_source
from seqkern.training import Run
from seqkern.training.run import LOG

Curves = dict[str, dict[str, list[tuple[int, float]]]]

COLOURS = {"train": "C0", "valid": "C1", "": "C2"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument("--data", help="other data (default: the run's own)")


def run(args: argparse.Namespace) -> int:
    """Write pictures into the run's folder `plots`, and print samples."""
    record = Run.open(args.run)
    if args.data is not None:
        data = data_source(args.data, record.task.sources)
        record = replace(record, config=replace(record.config, data=data))
    curves = read_curves(record.folder / LOG)
    plots = record.folder / "plots"
    plots.mkdir(exist_ok=True)
    if curves:  # an imported model has none
        draw(curves, plots / "curves.png")
    samples = record.task.show(record, plots)
    pictures = sorted(plots.glob("*.png"))
    if not samples and not pictures:
        raise ValueError(f"run {args.run} has no epoch yet, and no data of its own: give --data")
    if samples:
        print(samples)
    for path in pictures:
        print(f"wrote {path}")
    return 0


def read_curves(log: Path) -> Curves:
    """Figures of every epoch, by figure and split; of an epoch that was trained twice, the last.

    The learning rate is among them where it changes.

    Raises
    ------
    ValueError
        If the log is no JSON lines.
    """
    epochs: dict[int, dict[str, Any]] = {}
    try:
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
            event = json.loads(line)
            if event["event"] == "epoch":
                epochs[event["epoch"]] = event
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{log} is not the log of a run: {error!r}") from error
    curves: Curves = defaultdict(lambda: defaultdict(list))
    for epoch, event in sorted(epochs.items()):
        for split in ("train", "valid"):
            for name, value in event.get(split, {}).items():
                curves[name][split].append((epoch, value))
    rates = [(epoch, event["lr"]) for epoch, event in sorted(epochs.items())]
    if len({rate for _, rate in rates}) > 1:
        curves["learning rate"][""] = rates
    return curves


def draw(curves: Curves, path: Path) -> None:
    """Draw an axis for each figure; ImportError if there is no matplotlib."""
    picture = png_figure(path, 6, 2.6 * len(curves))
    axes = picture.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, lines) in zip(axes, curves.items(), strict=True):
        for split, points in lines.items():
            axis.plot(*zip(*points, strict=True), COLOURS[split], marker=".", label=split)
        axis.set_ylabel(name)
        if any(lines):
            axis.legend()
    axes[-1].set_xlabel("epoch")
    picture.savefig(path)
