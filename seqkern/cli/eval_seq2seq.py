"""`seqkern eval seq2seq`: how many answers of a trained model are right."""

from __future__ import annotations

import argparse
from typing import cast

from seqkern.cli.evaluate import add_options, load_task, open_run
from seqkern.cli.options import given_settings, use_machine
from seqkern.models.seq2seq import EncoderDecoder
from seqkern.tasks.seq2seq import Seq2seqTask, mean_loss, right_answers

__all__ = ["add_options", "run"]

EXAMPLES = 5  # of right answers, and of wrong ones


def run(args: argparse.Namespace) -> int:
    """Print examples, count and loss; the share of right answers in per cent on the last line."""
    device = use_machine(args)
    record = open_run(args.run, args.what)
    model = cast(EncoderDecoder, record.load_model(args.checkpoint, device))
    task = cast(Seq2seqTask, load_task(record, args.data))
    pairs = task.split(args.split)
    size = given_settings(args, task.Config).get("eval_batch_size", task.config.eval_batch_size)
    right = right_answers(model, pairs, size).cpu()
    print(f"{task.summary}; {args.split}:")
    for kind in (right, ~right):
        some = kind.nonzero()[:EXAMPLES, 0]
        if len(some):
            print("\n".join(task.samples(model, pairs.select(some))))
    loss = mean_loss(model, pairs, size)
    print(f"{int(right.sum()):,} of {len(right):,} answers right, loss {loss:.4f}; per cent:")
    print(f"{100 * right.double().mean().item():.2f}")
    return 0
