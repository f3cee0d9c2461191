"""`seqkern train PRESET`: train a model of a preset's task."""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqkern import build_info
from seqkern.cli.options import (
    add_machine_options,
    add_settings,
    data_source,
    given_settings,
    joined_processes,
    use_machine,
)
from seqkern.tasks import PRESETS, preset_config, task_class
from seqkern.training import ConsoleProgress, JsonLog, Run, Task, TensorBoard, Trainer
from seqkern.training.config import parse_settings, settings
from seqkern.training.processes import rank_and_world
from seqkern.training.progress import figures
from seqkern.training.run import LOG, read_toml
from seqkern.training.trainer import Listener


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, with those of the preset's task."""
    name = parser.get_default("what")
    preset = PRESETS[name]
    task = task_class(preset.task)
    names = ", ".join(task.sources)
    help = "path of the data" + (f", or {names}" if names else "")
    parser.add_argument("--data", help=f"{help} (default {preset.settings.get('data', 'none')})")
    parser.add_argument(
        "--out", metavar="RUN", help="folder of the run, to be made (default: runs/PRESET-TIME)"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file with settings, such as a run's config.toml"
    )
    add_process_options(parser)
    add_settings(parser, task.Config, preset_config(name))


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Add the machine's options, --max-seconds and --tensorboard."""
    add_machine_options(parser)
    parser.add_argument(
        "--max-seconds", type=float, help="end after so long; --resume goes on (default: no limit)"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write figures for TensorBoard into the run, too"
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns 130 after Ctrl-C."""
    with joined_processes(args) as (rank, _):
        device = use_machine(args)
        name = args.what
        cls = task_class(PRESETS[name].task)
        chosen = given_settings(args, cls.Config)
        if args.config is not None:
            chosen = {**_from_file(args.config, cls), **chosen}
        if args.data is not None:
            chosen["data"] = args.data
        config = preset_config(name, **chosen)
        if not config.data:
            names = "".join(f", or {source}" for source in cls.sources)
            raise ValueError(f"--data is missing: a path{names}")
        config = preset_config(name, **{**chosen, "data": data_source(config.data, cls.sources)})
        task = cls.load(config)
        folder = Path(args.out or f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}")
        record = Run(folder, cls, task.config, task.vocabularies, name)
        return train(args, record, task, device, rank)


def _from_file(path: str, task: type[Task[Any]]) -> dict[str, Any]:
    """A file's settings, without what the data decides."""
    values = read_toml(path)
    values.pop("preset", None)
    family = values.pop("task", task.family)
    if family != task.family:
        raise ValueError(f"--config {path} is of task {family}, the preset of {task.family}")
    try:
        chosen = parse_settings(task.Config, values)
    except ValueError as error:
        raise ValueError(f"--config {path}: {error}") from error
    about = settings(task.Config)
    return {n: v for n, v in chosen.items() if n == "data" or not about[n].decided}


def train(
    args: argparse.Namespace,
    record: Run,
    task: Task[Any],
    device: torch.device,
    rank: int,
    resume: bool = False,
) -> int:
    """Train, test and report, in one of the processes; returns the command's status."""
    if rank == 0:
        print(f"{task.summary}, device {device}, run {record.folder}", flush=True)
    reason = fit(
        record,
        task,
        device,
        rank,
        resume=resume,
        tensorboard=args.tensorboard,
        max_seconds=args.max_seconds,
    )
    if rank == 0 and record.config.monitor == "valid":
        report_test(record, task, device)
    return 130 if reason == "interrupted" else 0


def fit(
    record: Run,
    task: Task[Any],
    device: torch.device,
    rank: int = 0,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    max_seconds: float | None = None,
) -> str:
    """Seed, build, train with log and progress bar; returns why training ended.

    The folder of a new run is made once model and data are known to fit.
    """
    seed = record.config.seed
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    model = task.build_model(record.config).to(device)
    if rank != 0:
        torch.manual_seed(seed + rank)  # each process draws its own dropout
    with ConsoleProgress() as progress:
        listeners: list[Listener] = [JsonLog(record.folder / LOG), progress]
        if tensorboard:
            listeners.append(TensorBoard(record.folder / "tensorboard"))
        trainer = Trainer(model, task, record, listeners if rank == 0 else ())
        if resume:
            trainer.resume()
        if rank == 0:
            record.save_config() if resume else record.create()
        for listener in trainer.listeners:
            listener({"event": "start", "machine": _machine(device)})
        reason = trainer.fit(max_seconds)
    if rank == 0 and (told := task.finish(model, record.folder)):
        print(told)
    return reason


def _machine(device: torch.device) -> dict[str, Any]:
    """What times of training depend on."""
    info = build_info()
    names = ("gpu",) if device.type == "cuda" else ("cpu", "threads", "isa")
    facts = {name: info[name] for name in (*names, "torch", "seqkern")}
    return {**facts, "processes": rank_and_world()[1]}


def report_test(record: Run, task: Task[Any], device: torch.device) -> dict[str, float]:
    """Print, log and return the best weights' figures on the test data."""
    scores = task.evaluate(record.load_model(device=device), "test")
    JsonLog(record.folder / LOG)({"event": "test", "test": scores})
    print(f"test {figures(scores)}")
    return scores
