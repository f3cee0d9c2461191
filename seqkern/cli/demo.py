"""`seqkern demo`: a language model of the text inside Python, timed beside torch."""

from __future__ import annotations

import argparse
import statistics
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from seqkern.cli.options import add_machine_options, use_machine
from seqkern.cli.train import fit, report_test
from seqkern.data import detokenize
from seqkern.data.text import UNK
from seqkern.models import Rnnlm, generate
from seqkern.tasks.language import LanguageConfig, LanguageTask, prompt_tokens
from seqkern.training import Run, Trainer

SETTINGS = LanguageConfig(
    data="pydoc",
    level="text",
    embed_size=256,
    hidden_size=256,
    dropout=0.5,
    tied=True,
    batch_size=10,
    epochs=40,
)
ROUNDS = 5
ROUND_SECONDS = 1.5  # of each backend
PROMPTS = ("The", "If the", "A class")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--seconds", type=float, default=95.0, help="longest time to train (default 95)"
    )
    parser.add_argument("--out", help="folder of the run, to be made (default: runs/demo-TIME)")
    add_machine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, train, evaluate, sample."""
    device = use_machine(args)
    task = LanguageTask.load(SETTINGS)
    config = task.config
    folder = args.out or f"runs/demo-{time.strftime('%Y%m%d-%H%M%S')}"
    record = Run(Path(folder), LanguageTask, config, task.vocabularies)
    print(f"Text: the help topics of this Python, {len(task.corpus.train):,} training tokens.")
    print(f"Model: one LSTM layer, D = H = {config.hidden_size}, vocabulary {config.vocab_size:,}.")
    print(f"Device {device}, {torch.get_num_threads()} threads.\n")
    compare(task, device)
    print(f"\nTraining for at most {args.seconds:g} seconds:")
    reason = fit(record, task, device, max_seconds=args.seconds)
    report_test(record, task, device)
    print("\nSamples:")
    show_samples(record, task, device)
    print("\nGo on with:")
    print(f"  seqkern generate lm {folder} --prompt 'The value of'")
    print(f"  seqkern train --resume {folder}")
    return 130 if reason == "interrupted" else 0


def compare(task: LanguageTask, device: torch.device) -> None:
    """Print tokens per second of training on seqkern's and on torch's layers, measured in turns."""
    trainers = {}
    for backend in ("seqkern", "torch"):
        chosen = LanguageTask(replace(task.config, backend=backend), task.corpus)
        trainers[backend] = Trainer(chosen.build_model(chosen.config).to(device), chosen)
        measure(trainers[backend], device)  # warm-up
    speeds: dict[str, list[float]] = {backend: [] for backend in trainers}
    for _ in range(ROUNDS):
        for backend, trainer in trainers.items():
            speeds[backend].append(measure(trainer, device))
    median = {backend: statistics.median(values) for backend, values in speeds.items()}
    names = {"seqkern": "seqkern", "torch": "torch.nn.LSTM + F.cross_entropy"}
    print(f"Speed of training, medians of {ROUNDS} rounds in turns:")
    for backend, values in speeds.items():
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        print(f"  {names[backend]:32} {median[backend]:9,.0f} tokens/s  {spread}")
    print(f"  ratio {median['seqkern'] / median['torch']:.2f}")


def measure(trainer: Trainer, device: torch.device) -> float:
    """Tokens per second over ROUND_SECONDS of training."""
    _synchronize(device)
    start = time.perf_counter()
    iterations = 0
    while (elapsed := time.perf_counter() - start) < ROUND_SECONDS:
        trainer.step()
        _synchronize(device)
        iterations += 1
    return iterations * trainer.task.items / elapsed


def show_samples(record: Run, task: LanguageTask, device: torch.device) -> None:
    """Print a continuation of each of PROMPTS."""
    model = cast(Rnnlm, record.load_model(device=device))
    vocabulary, level = task.corpus.vocabulary, task.corpus.level
    generator = torch.Generator().manual_seed(task.config.seed)
    for text in PROMPTS:
        prompt = prompt_tokens(text, level)
        ids = generate(
            model,
            vocabulary.encode(prompt).tolist(),
            40,
            temperature=0.8,
            skip=vocabulary.encode([UNK]).tolist(),
            generator=generator,
        )
        sample = detokenize([*prompt, *vocabulary.decode(ids)], level)
        print(textwrap.indent(sample, "  "))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
