"""`seqkern eval lm`: perplexity of a trained language model."""

from __future__ import annotations

import argparse

from seqkern.cli.options import use_machine
from seqkern.cli.runs import add_run_options, load_run_corpus
from seqkern.training import Run
from seqkern.training import evaluate as perplexity_of


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_run_options(parser)
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), default="test", help="default: test"
    )
    parser.add_argument(
        "--batch-size", type=int, help="lanes (default: the run's; 10 unless set in training)"
    )
    parser.add_argument(
        "--steps", type=int, help="steps of a block (default: the run's; 35 unless set)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the perplexity, the figure alone on the last line."""
    device = use_machine(args)
    record = Run.open(args.run)
    model = record.load_model(args.checkpoint, device)
    corpus = load_run_corpus(record, args.data)
    tokens = corpus.split(args.split)
    batch_size = record.config.eval_batch_size if args.batch_size is None else args.batch_size
    steps = record.config.eval_steps if args.steps is None else args.steps
    value = perplexity_of(model, tokens, batch_size, steps)
    print(
        f"perplexity of {len(tokens):,} {args.split} tokens, vocabulary {len(corpus.vocabulary):,}:"
    )
    print(f"{value:.2f}")
    return 0
