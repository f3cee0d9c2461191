"""What the commands about language models share: their runs and texts."""

from __future__ import annotations

import argparse
from pathlib import Path

from seqkern.cli.options import add_machine_options
from seqkern.data import Corpus, Vocabulary, load_corpus
from seqkern.training import Run, RunConfig


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
