"""`seqkern import-book`: a model trained by the code of "Deep Learning from Scratch 2"."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seqkern.data.pickles import load_array_pickle
from seqkern.models.book import load_book_arrays, read_book_model
from seqkern.tasks import task_class
from seqkern.training import Run, save_checkpoint
from seqkern.training.checkpoint import model_tensors
from seqkern.training.word_run import VECTORS
from seqkern.vectors.book import load_book_vectors

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "Rnnlm": ("lm", {"model": "rnnlm"}),
    "BetterRnnlm": ("lm", {"model": "better-rnnlm", "dropout": 0.5, "tied": True}),
    "Seq2seq": ("seq2seq", {"model": "seq2seq"}),
    "PeekySeq2seq": ("seq2seq", {"model": "peeky-seq2seq"}),
    "AttentionSeq2seq": ("seq2seq", {"model": "attention-seq2seq"}),
}
"""Family and settings of each model of the book, besides its sizes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a pickle: Rnnlm, BetterRnnlm, Seq2seq, PeekySeq2seq, AttentionSeq2seq, cbow_params",
    )
    parser.add_argument("out", metavar="OUT", help="folder of the run, to be made")
    parser.add_argument(
        "--reversed",
        action="store_true",
        help="a Seq2seq was trained on sources from their last token to their first",
    )


def run(args: argparse.Namespace) -> int:
    """Write a run's folder; a model's vocabulary comes from the --data of later commands."""
    vectors = isinstance(load_array_pickle(args.file), dict)
    (import_vectors if vectors else import_model)(args.file, Path(args.out), args.reversed)
    return 0


def import_model(file: str, out: Path, is_reversed: bool) -> None:
    """Write the run of a language model, or of one from sequence to sequence."""
    name, sizes, weights = read_book_model(load_book_arrays(file))
    family, chosen = TASKS[name]
    if family == "seq2seq":
        sizes = {**sizes, "source_vocab_size": sizes["vocab_size"], "reversed": is_reversed}
        del sizes["vocab_size"]
    elif is_reversed:
        raise ValueError(f"--reversed is for a Seq2seq, {file} holds one of class {name}")
    task = task_class(family)
    config = task.Config(**chosen, **sizes)
    model = task.build_model(config)
    model.load_state_dict(weights)
    record = Run(out, task, config).create()
    save_checkpoint(record.checkpoint("best"), model_tensors(model), {})
    print(f"{out}: {name}, " + ", ".join(f"{key} {value}" for key, value in sizes.items()))
    print(f"next: seqkern eval {family} {out} --data PATH (with what it was trained on)")


def import_vectors(file: str, out: Path, is_reversed: bool) -> None:
    """Write a folder that `seqkern eval word2vec` takes."""
    if is_reversed:
        raise ValueError(f"--reversed is for a Seq2seq, {file} holds word vectors")
    vectors, path = load_book_vectors(file), out / VECTORS
    if path.exists():
        raise FileExistsError(f"folder {out} already holds word vectors; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    vectors.save(path)
    print(f"{out}: {len(vectors):,} word vectors of {vectors.vector_size} numbers")
    print(f"next: seqkern eval word2vec {out} --analogies FILE")
