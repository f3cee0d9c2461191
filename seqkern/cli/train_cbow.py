"""`seqkern train cbow`: CBOW or skip-gram through autograd, or resume its training."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from seqkern.cli.options import add_machine_options, data_source, use_machine
from seqkern.data import Vocabulary, load_corpus
from seqkern.models import CBOW, SkipGram
from seqkern.nn import UnigramSampler
from seqkern.training.progress import JsonLog, WordProgress
from seqkern.training.trainer import Listener
from seqkern.training.word_run import WordRun, is_binary
from seqkern.training.word_trainer import WordTrainer
from seqkern.vectors import KeyedVectors

TASK, VOCABULARY = "cbow", "vocab.json"

# Name, default ("Deep Learning from Scratch 2", chapter 4), type, help.
SETTINGS: dict[str, tuple[Any, type, str]] = {
    "window": (5, int, "words of a context on each side"),
    "hidden_size": (100, int, "numbers of a vector"),
    "negative": (5, int, "negatives of an example: distinct, and never the word itself"),
    "ns_exponent": (0.75, float, "power of the counts by which negatives are drawn"),
    "batch_size": (100, int, "words of a batch"),
    "epochs": (10, int, "times the text is read"),
    "lr": (0.001, float, "Adam's learning rate"),
    "eps": (1e-7, float, "Adam's eps"),
    "max_words": (0, int, "train on the first N words only; 0 for all"),
    "max_vocabulary": (0, int, "most frequent words to keep, with <unk>; 0 for all"),
    "seed": (0, int, "of all random numbers"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        'CBOW as chapter 4 of "Deep Learning from Scratch 2" trains it: torch.nn.Module, autograd '
        "and Adam, a word a line end. For large texts, `seqkern train word2vec` is far faster."
    )
    parser.add_argument("--data", help="folder with train/valid/test text, one text file, or pydoc")
    parser.add_argument(
        "--out", metavar="FOLDER", help="of the run, to be made (default: runs/cbow-TIME)"
    )
    parser.add_argument(
        "--export",
        metavar="FILE",
        help="write the vectors in word2vec's format: binary to .bin, text to other names",
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with this run, exactly where it stopped"
    )
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="S", help="between checkpoints"
    )
    add_machine_options(parser)
    group = parser.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    group.add_argument("--sg", action="store_true", help="skip-gram in place of CBOW")
    for name, (default, kind, help) in SETTINGS.items():
        option, metavar = "--" + name.replace("_", "-"), "X" if kind is float else "N"
        text = f"{help} (default {default})"
        group.add_argument(option, type=kind, metavar=metavar, help=text)


def run(args: argparse.Namespace) -> int:
    """Train; returns 130 after Ctrl-C."""
    device = use_machine(args)
    if args.export is not None and not Path(args.export).absolute().parent.is_dir():
        raise FileNotFoundError(f"--export {args.export}: there is no such folder")
    settings = {name: getattr(args, name) for name in (*SETTINGS, "sg") if name in args}
    resumed = args.resume is not None
    record = (_open if resumed else _new)(args, settings)
    s = record.settings
    vocabulary = Vocabulary.load(record.folder / VOCABULARY) if resumed else None
    corpus = load_corpus(
        s["data"],
        max_words=s["max_words"] or None,
        max_vocabulary=s["max_vocabulary"] or None,
        vocabulary=vocabulary,
    )
    words = corpus.vocabulary.tokens
    counts = torch.bincount(corpus.train, minlength=len(words))
    torch.manual_seed(s["seed"])
    cls = SkipGram if s["sg"] else CBOW
    sampler = UnigramSampler(counts, s["ns_exponent"])
    model = cls(len(words), s["hidden_size"], sampler, s["negative"]).to(device)
    with WordProgress() as progress:
        listeners: list[Listener] = [JsonLog(record.log), progress]
        trainer = WordTrainer(
            model,
            corpus.train,
            window=s["window"],
            batch_size=s["batch_size"],
            epochs=s["epochs"],
            lr=s["lr"],
            eps=s["eps"],
            seed=s["seed"],
            checkpoint=record.checkpoint,
            checkpoint_seconds=args.checkpoint_seconds,
            listeners=listeners,
        )
        if resumed:
            trainer.resume()
        else:
            record.create()
            corpus.vocabulary.save(record.folder / VOCABULARY)
        print(
            f"{'skip-gram' if s['sg'] else 'CBOW'} on {s['data']}: {len(corpus.train):,} words, "
            f"vocabulary {len(words):,}, device {device}, run {record.folder}"
        )
        reason = trainer.fit()
    vectors = KeyedVectors(words, model.vectors.cpu(), counts)
    vectors.save(record.vectors)
    if args.export is not None:
        vectors.save_word2vec_format(args.export, binary=is_binary(Path(args.export)))
    print(f"saved in {record.folder}{'' if args.export is None else f' and {args.export}'}")
    return 130 if reason == "interrupted" else 0


def _new(args: argparse.Namespace, settings: dict[str, Any]) -> WordRun:
    if args.data is None:
        raise ValueError("--data is missing: a folder, a text file, or pydoc")
    defaults = {name: default for name, (default, _, _) in SETTINGS.items()}
    folder = args.out or f"runs/{TASK}-{time.strftime('%Y%m%d-%H%M%S')}"
    fixed = {"task": TASK, "data": data_source(args.data, ("pydoc",)), "sg": False}
    record = WordRun(Path(folder), {**fixed, **defaults, **settings})
    record.check_new()
    return record


def _open(args: argparse.Namespace, settings: dict[str, Any]) -> WordRun:
    given = [name for name in settings if name != "epochs"]
    given += ["out"] if args.out is not None else []
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(f"--resume keeps the run's own settings; {names} cannot be given with it")
    record = WordRun.open(args.resume, TASK)
    record.settings.update(settings)
    if args.data is not None:
        record.settings["data"] = data_source(args.data, ("pydoc",))
    return record
