"""`seqkern demo`: a language model of the text inside Python, timed beside torch."""

from __future__ import annotations

import argparse
import statistics
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import torch

from seqkern.cli.generate_lm import prompt_tokens
from seqkern.cli.options import add_machine_options, use_machine
from seqkern.cli.train_lm import fit, report_test
from seqkern.data import Corpus, detokenize, load_corpus
from seqkern.data.text import UNK
from seqkern.training import PRESETS, Run, RunConfig, Trainer, build_model, generate

SETTINGS = replace(
    PRESETS["rnnlm"],
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
    corpus = load_corpus(SETTINGS.data)
    config = replace(SETTINGS, vocab_size=len(corpus.vocabulary))
    folder = args.out or f"runs/demo-{time.strftime('%Y%m%d-%H%M%S')}"
    record = Run(Path(folder), config, corpus.vocabulary)
    print(f"Text: the help topics of this Python, {len(corpus.train):,} training tokens.")
    print(f"Model: one LSTM layer, D = H = {config.hidden_size}, vocabulary {config.vocab_size:,}.")
    print(f"Device {device}, {torch.get_num_threads()} threads.\n")
    compare(corpus, config, device)
    print(f"\nTraining for at most {args.seconds:g} seconds:")
    reason = fit(record, corpus, device, resume=False, max_seconds=args.seconds)
    report_test(record, corpus, device)
    print("\nSamples:")
    show_samples(record, corpus, device)
    print("\nGo on with:")
    print(f"  seqkern generate lm {folder} --prompt 'The value of' --skip '{UNK}'")
    print(f"  seqkern train lm --resume {folder}")
    return 130 if reason == "interrupted" else 0


def compare(corpus: Corpus, config: RunConfig, device: torch.device) -> None:
    """Print tokens per second of training on seqkern's and on torch's layers, measured in turns."""
    config = replace(config, monitor="train")
    trainers = {}
    for backend in ("seqkern", "torch"):
        chosen = replace(config, backend=backend)
        trainers[backend] = Trainer(build_model(chosen).to(device), corpus.train, chosen)
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
    return iterations * trainer.config.batch_size * trainer.config.steps / elapsed


def show_samples(record: Run, corpus: Corpus, device: torch.device) -> None:
    """Print a continuation of each of PROMPTS."""
    model = record.load_model(device=device)
    generator = torch.Generator().manual_seed(record.config.seed)
    for text in PROMPTS:
        prompt = prompt_tokens(text, record.config.level)
        ids = generate(
            model,
            corpus.vocabulary.encode(prompt).tolist(),
            40,
            temperature=0.8,
            skip=corpus.vocabulary.encode([UNK]).tolist(),
            generator=generator,
        )
        sample = detokenize([*prompt, *corpus.vocabulary.decode(ids)], record.config.level)
        print(textwrap.indent(sample, "  "))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
