"""What several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from seqkern.data import Corpus, Vocabulary, load_corpus
from seqkern.training import Run, RunConfig

Command = Callable[[argparse.Namespace], int]


def add_task_parser(
    commands: argparse._SubParsersAction, name: str, help: str, run: Command
) -> argparse.ArgumentParser:
    """Add `seqkern NAME lm`; returns the parser that takes the options."""
    tasks = commands.add_parser(name, help=help).add_subparsers(
        title="tasks", required=True, metavar="TASK"
    )
    parser = tasks.add_parser(
        "lm", help="a language model", description=f"{help} (a language model)"
    )
    parser.set_defaults(command=run)
    return parser


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add --device and --threads."""
    parser.add_argument(
        "--device", default="cpu", help="torch device: cpu, cuda, cuda:1 (default cpu)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add RUN, --checkpoint, --data and the machine's options."""
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        help="weights to take (default: best where there is one)",
    )
    parser.add_argument("--data", help="folder, text file or pydoc (default: the run's own)")
    add_machine_options(parser)


def use_machine(args: argparse.Namespace) -> torch.device:
    """Set the number of threads; return the device, checked."""
    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {args.threads}")
        torch.set_num_threads(args.threads)
    try:
        device = torch.device(args.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {args.device} cannot be used here: {reason}") from error
    return device


def data_path(source: str) -> str:
    """The source as a configuration stores it: "pydoc", or an absolute path."""
    return source if source == "pydoc" else str(Path(source).resolve())


def load_run_corpus(run: Run, source: str | None) -> Corpus:
    """A corpus numbered by the run's vocabulary, or, for a run without one, by its own.

    Raises
    ------
    ValueError
        If neither the run nor `source` names data, or the vocabulary's size is not the model's.
    """
    config = run.config
    source = source or config.data
    if not source:
        raise ValueError(f"run {run.folder} names no data of its own: give --data")
    corpus = load_corpus(
        source,
        config.level,
        max_words=config.max_words,
        max_vocabulary=config.max_vocabulary,
        vocabulary=run.vocabulary,
    )
    check_vocabulary(corpus.vocabulary, config, source)
    return corpus


def check_vocabulary(vocabulary: Vocabulary, config: RunConfig, source: str) -> None:
    """ValueError unless the vocabulary has as many tokens as the model."""
    if len(vocabulary) != config.vocab_size:
        raise ValueError(
            f"vocabulary mismatch: {len(vocabulary):,} tokens in that of {source}, "
            f"{config.vocab_size:,} in the model's"
        )
