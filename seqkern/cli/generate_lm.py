"""`seqkern generate lm`: text from a trained language model."""

from __future__ import annotations

import argparse
import secrets
from typing import cast

from seqkern.cli.evaluate import load_task, open_run
from seqkern.cli.options import add_run_options, use_machine
from seqkern.data import Vocabulary, detokenize
from seqkern.data.contexts import seeded_generator
from seqkern.data.text import UNK
from seqkern.models import generate
from seqkern.tasks.language import TOKENS, LanguageConfig, prompt_tokens


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_run_options(parser)
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="text to continue (default: the start of a line); give several for one sample of each",
    )
    parser.add_argument(
        "--count", type=int, default=1, metavar="N", help="samples of each prompt (default 1)"
    )
    parser.add_argument("--length", type=int, default=100, help="tokens to generate (default 100)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0 takes the likeliest token (default 1)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="sample from the K likeliest tokens")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="sample from the likeliest that sum to P only"
    )
    parser.add_argument("--stop", metavar="TOKEN", help="token that ends a sample, such as '<eos>'")
    parser.add_argument(
        "--skip",
        nargs="+",
        metavar="TOKEN",
        help=f"tokens never to generate, such as N {UNK} $ (default {UNK})",
    )
    parser.add_argument("--seed", type=int, help="for samples that repeat")


def run(args: argparse.Namespace) -> int:
    """Print prompts and continuations, a blank line between two."""
    if args.count < 1:
        raise ValueError(f"--count must be at least 1, got {args.count}")
    if args.seed is not None and args.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {args.seed}")
    device = use_machine(args)
    record = open_run(args.run, args.what)
    config = cast(LanguageConfig, record.config)
    vocabulary = (record.vocabularies or load_task(record, args.data).vocabularies)[TOKENS]
    level = config.level or "word"
    texts = [text for text in args.prompt or [""] for _ in range(args.count)]
    prompts = [prompt_tokens(text, level) for text in texts]
    stop = [] if args.stop is None else [args.stop]
    skip = [UNK] * (UNK in vocabulary) if args.skip is None else args.skip
    required = [("--prompt", prompt) for prompt in prompts]
    for option, tokens in (*required, ("--skip", skip), ("--stop", stop)):
        _require(option, tokens, vocabulary)
    # A generator of its own, so that a sample does not depend on those beside it.
    seed = secrets.randbits(63) if args.seed is None else args.seed
    generators = [seeded_generator(seed, i % args.count) for i in range(len(texts))]
    samples = generate(
        record.load_model(args.checkpoint, device),
        [vocabulary.encode(prompt).tolist() for prompt in prompts],
        args.length,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        skip=vocabulary.encode(skip).tolist(),
        stop=vocabulary.encode(stop).tolist()[0] if stop else None,
        generator=generators,
    )
    shown = (prompt if text else [] for text, prompt in zip(texts, prompts, strict=True))
    told = [
        detokenize([*before, *vocabulary.decode(ids)], level)
        for before, ids in zip(shown, samples, strict=True)
    ]
    print("\n\n".join(told))
    return 0


def _require(option: str, tokens: list[str], vocabulary: Vocabulary) -> None:
    unknown = [token for token in tokens if token not in vocabulary]
    if unknown:
        raise ValueError(f"{option}: not in the vocabulary: {', '.join(unknown)}")
