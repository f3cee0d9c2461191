"""`seqkern train lm`: train a language model, or resume training."""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqkern.cli.options import add_machine_options, use_machine
from seqkern.cli.runs import data_path, load_run_corpus
from seqkern.data import Corpus, evaluation_blocks, load_corpus
from seqkern.training import (
    PRESETS,
    ConsoleProgress,
    JsonLog,
    Run,
    RunConfig,
    Trainer,
    build_model,
    evaluate,
)
from seqkern.training.run import CONFIG, LOG

# May be given with --resume, too; every other setting stays as the run has it.
_RESUMABLE = {"epochs", "checkpoint_seconds", "checkpoint_iterations"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--data", help="folder with train/valid/test text, one text file, or pydoc")
    parser.add_argument("--preset", choices=PRESETS, help="settings to start from (default rnnlm)")
    parser.add_argument("--out", help="folder of the run, to be made (default: runs/PRESET-TIME)")
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with this run, exactly where it stopped"
    )
    add_machine_options(parser)

    group = parser.add_argument_group(
        "settings (default: the preset's)", argument_default=argparse.SUPPRESS
    )
    group.add_argument("--embed-size", type=int, metavar="D")
    group.add_argument("--hidden-size", type=int, metavar="H")
    group.add_argument("--layers", type=int, dest="num_layers", metavar="N")
    group.add_argument("--dropout", type=float, metavar="P")
    group.add_argument(
        "--tied",
        action=argparse.BooleanOptionalAction,
        help="use the embedding's matrix for the output",
    )
    group.add_argument(
        "--baseline", action="store_const", const="torch", dest="backend",
        help="build the same model on torch.nn.LSTM and F.cross_entropy",
    )  # fmt: skip
    group.add_argument("--level", help="word, text (punctuation apart) or char")
    group.add_argument(
        "--max-words", type=int, metavar="N", help="train on the first N words only (0: all)"
    )
    group.add_argument(
        "--max-vocabulary", type=int, metavar="N", help="most frequent words to keep, with <unk>"
    )
    group.add_argument("--batch-size", type=int, metavar="N")
    group.add_argument("--steps", type=int, metavar="T", help="steps of truncated back-propagation")
    group.add_argument("--batching", help="sequential (state carried) or random (state reset)")
    group.add_argument("--optimizer", help="sgd or adam")
    group.add_argument("--lr", type=float)
    group.add_argument(
        "--lr-decay", type=float, help="divides lr after an epoch without a new best (1: never)"
    )
    group.add_argument("--monitor", help="perplexity that tells the best epoch: valid or train")
    group.add_argument(
        "--clip", type=float, metavar="NORM", help="limit of the gradients' norm (0: none)"
    )
    group.add_argument("--epochs", type=int)
    group.add_argument("--eval-batch-size", type=int, metavar="N")
    group.add_argument("--eval-steps", type=int, metavar="T")
    group.add_argument("--seed", type=int)
    group.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    group.add_argument("--compile", action="store_true", help="use torch.compile")
    group.add_argument(
        "--checkpoint-seconds", type=float, metavar="S", help="time between checkpoints"
    )
    group.add_argument(
        "--checkpoint-iterations", type=int, metavar="N", help="iterations between checkpoints"
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns 130 after Ctrl-C."""
    device = use_machine(args)
    settings = {
        f.name: getattr(args, f.name)
        for f in fields(RunConfig)
        if f.name != "data" and f.name in args
    }
    if args.resume is not None:
        record, corpus = _open(args, settings)
    else:
        record, corpus = _create(args, settings)
    print(
        f"{record.config.model} on {record.config.data}: {len(corpus.train):,} training tokens, "
        f"vocabulary {len(corpus.vocabulary):,}, device {device}, run {record.folder}"
    )
    tested = record.config.monitor == "valid"
    if tested:  # a text too short for it is told before training
        evaluation_blocks(corpus.test, record.config.eval_batch_size, record.config.eval_steps)
    reason = fit(record, corpus, device, resume=args.resume is not None)
    if tested:
        report_test(record, corpus, device)
    return 130 if reason == "interrupted" else 0


def _create(args: argparse.Namespace, settings: dict[str, Any]) -> tuple[Run, Corpus]:
    if args.data is None:
        raise ValueError("--data is missing: a folder, a text file, or pydoc")
    preset = args.preset or "rnnlm"
    for name in ("max_words", "clip"):
        if settings.get(name) == 0:
            settings[name] = None
    config = replace(PRESETS[preset], data=data_path(args.data), **settings)
    corpus = load_corpus(
        config.data,
        settings.get("level"),
        max_words=config.max_words,
        max_vocabulary=config.max_vocabulary,
    )
    config = replace(config, level=corpus.level, vocab_size=len(corpus.vocabulary))
    folder = args.out or f"runs/{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Run(Path(folder), config, corpus.vocabulary), corpus


def _open(args: argparse.Namespace, settings: dict[str, Any]) -> tuple[Run, Corpus]:
    fixed = [name for name in settings if name not in _RESUMABLE]
    fixed += [name for name in ("preset", "out") if getattr(args, name) is not None]
    if fixed:
        options = {"num_layers": "layers", "backend": "baseline"}
        names = ", ".join("--" + options.get(name, name).replace("_", "-") for name in fixed)
        raise ValueError(f"--resume keeps the run's own settings; {names} cannot be given with it")
    record = Run.open(args.resume)
    record = replace(record, config=replace(record.config, **settings))
    return record, load_run_corpus(record, args.data)


def fit(
    record: Run,
    corpus: Corpus,
    device: torch.device,
    *,
    resume: bool,
    max_seconds: float | None = None,
) -> str:
    """Seed, build, train with log and progress bar; returns why training ended.

    The folder of a new run is made once model and data are known to fit.
    """
    config = record.config
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)  # noqa: NPY002
    torch.manual_seed(config.seed)
    with ConsoleProgress() as progress:
        trainer = Trainer(
            build_model(config).to(device),
            corpus.train,
            config,
            validation=corpus.valid if config.monitor == "valid" else None,
            run=record,
            listeners=(JsonLog(record.folder / LOG), progress),
        )
        if resume:
            trainer.resume()
            config.save(record.folder / CONFIG)
        else:
            record.create()
        return trainer.fit(max_seconds)


def report_test(record: Run, corpus: Corpus, device: torch.device) -> float:
    """Print and return the best weights' perplexity on the test text."""
    model = record.load_model(device=device)
    value = evaluate(model, corpus.test, record.config.eval_batch_size, record.config.eval_steps)
    print(f"test perplexity {value:.2f}")
    return value
