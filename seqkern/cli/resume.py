"""`seqkern train --resume RUN`: go on with a run, exactly where it stopped."""

from __future__ import annotations

import argparse
from dataclasses import replace

from seqkern.cli.evaluate import load_task
from seqkern.cli.options import (
    add_settings,
    given_settings,
    joined_processes,
    use_machine,
)
from seqkern.cli.train import add_process_options, train
from seqkern.training import Run, RunConfig


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options; other settings stay as the run has them."""
    parser.add_argument("--resume", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--data", help="where the run's data is now")
    add_process_options(parser)
    add_settings(parser, RunConfig, wanted=lambda about: about.resumable)


def run(args: argparse.Namespace) -> int:
    """Train; returns 130 after Ctrl-C."""
    with joined_processes(args) as (rank, _):
        device = use_machine(args)
        record = Run.open(args.resume)
        chosen = given_settings(args, type(record.config))
        task = load_task(replace(record, config=replace(record.config, **chosen)), args.data)
        record = replace(record, config=task.config)
        return train(args, record, task, device, rank, resume=True)
