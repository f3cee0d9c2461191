"""`seqkern import-book`: a model trained by the code of "Deep Learning from Scratch 2"."""

from __future__ import annotations

import argparse
from pathlib import Path

from seqkern.tasks.language import LanguageConfig, LanguageTask
from seqkern.training import Run, load_book_arrays, rnnlm_from_book, save_checkpoint
from seqkern.training.checkpoint import model_tensors


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", metavar="FILE", help="pickled list of NumPy arrays")
    parser.add_argument("out", metavar="OUT", help="folder of the run, to be made")


def run(args: argparse.Namespace) -> int:
    """Write a run folder; its vocabulary comes from the --data of later commands."""
    try:
        model = rnnlm_from_book(load_book_arrays(args.file))
    except ValueError as error:
        raise ValueError(f"--file {args.file}: {error}") from error
    vocab_size, embed_size = model.embedding.weight.shape
    config = LanguageConfig(
        model="rnnlm",
        vocab_size=vocab_size,
        embed_size=embed_size,
        hidden_size=model.recurrent.hidden_size,
        num_layers=model.recurrent.num_layers,
    )
    record = Run(Path(args.out), LanguageTask, config).create()
    save_checkpoint(record.checkpoint("best"), model_tensors(model), {})
    print(f"{args.out}: rnnlm, vocabulary {vocab_size:,}, D {embed_size}, H {config.hidden_size}")
    print(f"next: seqkern eval lm {args.out} --data FOLDER (with the text it was trained on)")
    return 0
