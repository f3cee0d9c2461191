"""`seqkern eval names`: figures of a model of names, or the classes of names given."""

from __future__ import annotations

import argparse
from typing import cast

from seqkern.cli import evaluate
from seqkern.cli.options import use_machine
from seqkern.tasks.names import NamesConfig, classify
from seqkern.training import Run

GENERATION = "name-generation"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    evaluate.add_options(parser)
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="tell the classes of these names instead"
    )


def run(args: argparse.Namespace) -> int:
    """Print the figures, the score alone on the last line; or each name's class, probability."""
    if args.names is None:
        if Run.open(args.run).task.family == GENERATION:
            args.what = GENERATION
        return evaluate.run(args)
    device = use_machine(args)
    record = evaluate.open_run(args.run, args.what)
    config = cast(NamesConfig, record.config)
    model = record.load_model(args.checkpoint, device)
    found = classify(model, args.names, record.vocabularies, config.lower)
    for name, (label, probability) in zip(args.names, found, strict=True):
        print(f"{name}\t{label}\t{probability:.4f}")
    return 0
