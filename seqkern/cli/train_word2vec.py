"""`seqkern train word2vec`: word vectors of a text, or resume their training."""

from __future__ import annotations

import argparse
import inspect
import math
import time
from pathlib import Path
from typing import Any

import torch

from seqkern.cli.options import add_machine_options, joined_processes, use_machine
from seqkern.training.interrupt import catch_interrupt
from seqkern.training.progress import JsonLog, WordProgress
from seqkern.training.trainer import Listener
from seqkern.training.word_run import TASK, WordRun, is_binary
from seqkern.vectors.word2vec import TrainingReport, Word2Vec

# Arguments of Word2Vec, which has their types and defaults.
SETTINGS = {
    "vector_size": "numbers of a vector",
    "window": "the furthest distance of a context word",
    "shrink_windows": "draw each window from 1 to --window",
    "sg": "skip-gram in place of CBOW",
    "negative": "negatives of an example",
    "ns_exponent": "power of the counts by which negatives are drawn",
    "shared_negatives": "skip-gram: one draw of negatives for all context words of a word",
    "hs": "hierarchical softmax in place of negative sampling",
    "cbow_mean": "CBOW takes the mean of the context's vectors, else their sum",
    "cbow_update": "word2vec (a mean's gradient goes to each of its vectors whole) or exact",
    "min_count": "rarer words are left out",
    "max_vocab_size": "bounds the memory of counting, at the price of exact counts of rare words",
    "max_final_vocab": "raises --min-count until the vocabulary fits",
    "sample": "threshold of the subsampling of frequent words; 0 keeps all",
    "epochs": "times the text is read",
    "alpha": "learning rate at the start",
    "min_alpha": "learning rate at the end",
    "bucket": "rows that character n-grams share, as in fastText; 0 for none",
    "min_n": "shortest n-gram",
    "max_n": "longest n-gram",
    "seed": "of all random numbers",
    "deterministic": "the same result for every number of threads, more slowly",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--data", metavar="FILE", help="text: words between white space, a sentence a line"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="of the run, to be made: checkpoint, settings, log, vectors "
        "(default: runs/word2vec-TIME, and none with --export)",
    )
    parser.add_argument(
        "--export",
        metavar="FILE",
        help="write the vectors in word2vec's format: binary to .bin, text to other names; "
        ".gz compresses",
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with this run, exactly where it stopped"
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=300.0,
        metavar="S",
        help="time between checkpoints (default 300)",
    )
    add_machine_options(parser, "--workers")
    group = parser.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    parameters = inspect.signature(Word2Vec).parameters
    for name, help in SETTINGS.items():
        parameter = parameters[name]
        option, default = "--" + name.replace("_", "-"), parameter.default
        if parameter.annotation == "bool":
            help += f" (default {int(default)})"
            group.add_argument(
                option, type=_switch, nargs="?", const=True, metavar="0|1", help=help
            )
        else:
            kind = {"int": int, "float": float, "str": str}[parameter.annotation.split()[0]]
            help += f" (default {'none' if default is None else default})"
            metavar = {int: "N", float: "X", str: "NAME"}[kind]
            group.add_argument(option, type=kind, metavar=metavar, help=help)


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"expected 0 or 1, got {text!r}")
    return text == "1"


def run(args: argparse.Namespace) -> int:
    """Train; returns 130 after Ctrl-C."""
    settings = {name: getattr(args, name) for name in SETTINGS if name in args}
    with joined_processes(args) as (rank, processes):
        device = use_machine(args)
        resumed = args.resume is not None
        record = (_open if resumed else _new)(args, settings, processes)
        kept = rank == 0 and (resumed or args.out is not None or args.export is None)
        if kept and not resumed:
            record.check_new()  # before the text is read
        if args.export is not None and not Path(args.export).absolute().parent.is_dir():
            raise FileNotFoundError(f"--export {args.export}: there is no such folder")
        model, what = _model(record, args, device)
        if kept and not resumed:
            record.create()
        if rank == 0:
            place = f", run {record.folder}" if kept else ""
            print(f"word2vec on {record.settings['data']}: {what}, device {device}{place}")
        reason = _fit(model, record, args, rank, processes, kept)
        if rank == 0:
            if kept:
                model.wv.save(record.vectors)
            if args.export is not None:
                model.wv.save_word2vec_format(args.export, binary=is_binary(Path(args.export)))
            saved = [str(record.folder)] * kept + [args.export] * (args.export is not None)
            print(f"saved in {' and '.join(saved)}")
    return 130 if reason == "interrupted" else 0


def _new(args: argparse.Namespace, settings: dict[str, Any], processes: int) -> WordRun:
    if args.data is None:
        raise ValueError("--data is missing: a text file")
    defaults = {name: inspect.signature(Word2Vec).parameters[name].default for name in SETTINGS}
    folder = args.out or f"runs/{TASK}-{time.strftime('%Y%m%d-%H%M%S')}"
    data = str(Path(args.data).resolve())
    fixed = {"task": TASK, "data": data, "processes": processes}
    return WordRun(Path(folder), {**fixed, **defaults, **settings})


def _open(args: argparse.Namespace, settings: dict[str, Any], processes: int) -> WordRun:
    given = [*settings, *(["out"] if args.out is not None else [])]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(f"--resume keeps the run's own settings; {names} cannot be given with it")
    record = WordRun.open(args.resume)
    if record.settings["processes"] != processes:
        raise ValueError(
            f"run {record.folder} is one of {record.settings['processes']} processes, got "
            f"{processes}: each has its part of the text"
        )
    if args.data is not None:
        record.settings["data"] = args.data
    return record


def _model(record: WordRun, args: argparse.Namespace, device: torch.device) -> tuple[Word2Vec, str]:
    """The model of a run, new or as its checkpoint has it, and what to say about it."""
    if args.resume is not None and record.checkpoint.exists():
        model = Word2Vec.load(record.checkpoint, device)
        model.workers = args.threads
        if not model.interrupted:
            raise ValueError(f"run {record.folder} has ended, all its {model.epochs} epochs done")
        words = "resumed"
    else:  # as well where a run ended before its first checkpoint
        arguments = {name: record.settings[name] for name in SETTINGS}
        model = Word2Vec(**arguments, workers=args.threads, device=device)
        counts = model.build_vocab(corpus_file=record.settings["data"])
        words = f"{counts.total:,} words"
    kind = "skip-gram" if model.objective.sg else "CBOW"
    size = model.objective.vector_size
    return model, f"{words}, vocabulary {len(model.words):,}, {kind}, vectors of {size} numbers"


class _Stop(Exception):
    """Ctrl-C, seen between two parts of training, where a checkpoint can be resumed exactly."""


class _Reports:
    """Turns the reports of training into events for listeners, of all processes together."""

    def __init__(self, listeners: list[Listener], processes: int) -> None:
        self.listeners, self.processes = listeners, processes
        self.since: tuple[float, int] | None = None  # time and words of the epoch's beginning

    def tell(self, event: str, **values: Any) -> None:
        for listener in self.listeners:
            listener({"event": event, **values})

    def __call__(self, now: TrainingReport) -> None:
        if not math.isfinite(now.loss):
            raise FloatingPointError(
                f"training diverged in epoch {now.epoch + 1} at alpha {now.learning_rate:g}"
            )
        clock, speed = time.perf_counter(), now.words_per_second
        if self.since is not None:
            speed = (now.words - self.since[1]) / (clock - self.since[0])
        if self.since is None or now.epoch_ended:
            self.since = (clock, now.words)
        self.tell(
            "epoch" if now.epoch_ended else "step",
            epoch=now.epoch + 1,
            words=now.words * self.processes,
            total_words=now.total_words * self.processes,
            words_per_second=speed * self.processes,
            loss=now.epoch_loss,
            learning_rate=now.learning_rate,
        )


def _fit(
    model: Word2Vec,
    record: WordRun,
    args: argparse.Namespace,
    rank: int,
    processes: int,
    kept: bool,
) -> str:
    """Train with log and progress bar; returns "finished" or "interrupted"."""
    resume, reason = model.interrupted, "finished"
    with catch_interrupt() as interrupted, WordProgress() as progress:
        listeners: list[Listener] = [progress] if rank == 0 else []
        if kept:
            listeners.append(JsonLog(record.log))
        reports = _Reports(listeners, processes)

        def callback(report: TrainingReport) -> None:
            reports(report)
            if interrupted() and report.words < report.total_words:
                raise _Stop

        if resume:
            reports.tell("resume")
        try:
            model.train(
                corpus_file=record.settings["data"],
                resume=resume,
                checkpoint=record.checkpoint if kept else None,
                checkpoint_seconds=args.checkpoint_seconds,
                callback=callback,
            )
        except _Stop:
            reason = "interrupted"
        except RuntimeError:
            if rank == 0 or not interrupted():
                raise
            reason = "interrupted"  # the other processes went first
        reports.tell("stop", reason=reason)
    return reason
