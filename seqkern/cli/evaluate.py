"""`seqkern eval TASK`: figures of a trained model."""

from __future__ import annotations

import argparse
from dataclasses import replace

from seqkern.cli.options import (
    add_run_options,
    add_settings,
    data_source,
    given_settings,
    use_machine,
)
from seqkern.tasks import task_class
from seqkern.training import Run, Task
from seqkern.training.progress import figure, figures


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, with those of the task."""
    add_run_options(parser)
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), default="test", help="default: test"
    )
    config = task_class(parser.get_default("what")).Config
    add_settings(parser, config, wanted=lambda about: about.evaluation)


def run(args: argparse.Namespace) -> int:
    """Print the figures, the task's score alone on the last line."""
    device = use_machine(args)
    record = open_run(args.run, args.what)
    model = record.load_model(args.checkpoint, device)
    record = replace(
        record, config=replace(record.config, **given_settings(args, type(record.config)))
    )
    task = load_task(record, args.data)
    scores = task.evaluate(model, args.split)
    if report := task.report(model, args.split):
        print(report)
    print(f"{task.summary}; {args.split} {figures(scores)}; {task.score}:")
    print(figure(scores[task.score]))
    return 0


def open_run(folder: str, family: str) -> Run:
    """A run of a family of tasks; ValueError if it is one of another."""
    record = Run.open(folder)
    if record.task.family != family:
        raise ValueError(f"run {folder} is one of task {record.task.family}, not of {family}")
    return record


def load_task(record: Run, source: str | None) -> Task:
    """The run's task, on its own data or on `source`; ValueError if there is neither."""
    config, cls = record.config, record.task
    if source is not None:
        config = replace(config, data=data_source(source, cls.sources))
    if not config.data:
        raise ValueError(f"run {record.folder} names no data of its own: give --data")
    return cls.load(config, record.vocabularies)
