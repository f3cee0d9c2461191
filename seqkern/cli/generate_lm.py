"""`seqkern generate lm`: text from a trained language model."""

from __future__ import annotations

import argparse
from typing import cast

import torch

from seqkern.cli.evaluate import load_task, open_run
from seqkern.cli.options import add_run_options, use_machine
from seqkern.data import Vocabulary, detokenize
from seqkern.models import Rnnlm
from seqkern.tasks.language import TOKENS, LanguageConfig, prompt_tokens
from seqkern.training import generate as sample


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_run_options(parser)
    parser.add_argument(
        "--prompt", default="", help="text to continue (default: the start of a line)"
    )
    parser.add_argument("--length", type=int, default=100, help="tokens to generate (default 100)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0 takes the likeliest token (default 1)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="sample from the K likeliest tokens")
    parser.add_argument(
        "--skip",
        nargs="+",
        default=[],
        metavar="TOKEN",
        help="tokens never to generate, such as N '<unk>' $",
    )
    parser.add_argument("--seed", type=int, help="for samples that repeat")


def run(args: argparse.Namespace) -> int:
    """Print prompt and continuation."""
    device = use_machine(args)
    record = open_run(args.run, args.what)
    config = cast(LanguageConfig, record.config)
    vocabulary = (record.vocabularies or load_task(record, args.data).vocabularies)[TOKENS]
    level = config.level or "word"
    prompt = prompt_tokens(args.prompt, level)
    _require("--prompt", prompt, vocabulary)
    _require("--skip", args.skip, vocabulary)
    generator = torch.Generator()
    if args.seed is None:
        generator.seed()
    else:
        generator.manual_seed(args.seed)
    model = cast(Rnnlm, record.load_model(args.checkpoint, device))
    ids = sample(
        model,
        vocabulary.encode(prompt).tolist(),
        args.length,
        temperature=args.temperature,
        top_k=args.top_k,
        skip=vocabulary.encode(args.skip).tolist(),
        generator=generator,
    )
    shown = prompt if args.prompt else []
    print(detokenize([*shown, *vocabulary.decode(ids)], level))
    return 0


def _require(option: str, tokens: list[str], vocabulary: Vocabulary) -> None:
    unknown = [token for token in tokens if token not in vocabulary]
    if unknown:
        raise ValueError(f"{option}: not in the vocabulary: {', '.join(unknown)}")
