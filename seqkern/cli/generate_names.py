"""`seqkern generate names`: names from a trained generator."""

from __future__ import annotations

import argparse
from typing import cast

import torch

from seqkern.cli.evaluate import open_run
from seqkern.cli.options import add_machine_options, use_machine
from seqkern.data import Vocabulary
from seqkern.models import NameGenerator
from seqkern.tasks.name_generation import sample_names
from seqkern.tasks.names import CHARACTERS, CLASSES


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument("--checkpoint", choices=("best", "last"), help="weights (default: best)")
    parser.add_argument("--count", type=int, default=20, help="names to draw (default 20)")
    parser.add_argument("--condition", metavar="LABEL", help="class of the names")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0 takes the likeliest character (default 1)"
    )
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="draw from the K likeliest characters"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="draw from the fewest characters of probability P together (default 1)",
    )
    parser.add_argument("--max-length", type=int, default=30, help="characters (default 30)")
    parser.add_argument("--seed", type=int, help="for samples that repeat")
    add_machine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the names, one a line."""
    if args.count < 1:
        raise ValueError(f"--count must be at least 1, got {args.count}")
    device = use_machine(args)
    record = open_run(args.run, "name-generation")
    generator = torch.Generator()
    if args.seed is None:
        generator.seed()
    else:
        generator.manual_seed(args.seed)
    names = sample_names(
        cast(NameGenerator, record.load_model(args.checkpoint, device)),
        args.count,
        record.vocabularies[CHARACTERS],
        _condition(args.condition, record.vocabularies.get(CLASSES), args.count),
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        max_length=args.max_length,
        generator=generator,
    )
    print("\n".join(names))
    return 0


def _condition(label: str | None, classes: Vocabulary | None, count: int) -> torch.Tensor | None:
    if classes is None:
        if label is not None:
            raise ValueError(f"--condition {label}: the run's names have no classes")
        return None
    if label is None or label not in classes:
        expected = ", ".join(classes.tokens)
        raise ValueError(f"--condition must be one of {expected}, got {label}")
    return classes.encode([label]).expand(count)
