"""`seqkern analyse TASK`: what counts of a text and norms of gradients show."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from seqkern import nn
from seqkern.analysis import gradient_norms, linear_gradient_norms, plot_lines, plot_zipf, zipf
from seqkern.data import LEVELS, Corpus, detokenize, load_corpus
from seqkern.models import NgramModel

STEPS = 20  # that gradients go back through
ADDED = [10.0**exponent for exponent in range(-6, 1)]  # k's to choose from


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the task that the parser is of."""
    task = parser.get_default("what")
    if task == "gradients":
        parser.add_argument(
            "--hidden-size", type=int, default=32, metavar="H", help="of the layers (default 32)"
        )
    else:
        parser.add_argument(
            "--data", required=True, help="text file, folder with train/valid/test text, or pydoc"
        )
        parser.add_argument("--level", choices=LEVELS, help="what a token is (default: by data)")
        parser.add_argument("--n", type=int, default=3, help="longest n-grams (default 3)")
    if task == "ngram":
        parser.add_argument("--length", type=int, default=50, help="of the sample (default 50)")
    else:
        parser.add_argument("--out", metavar="FOLDER", help="where a picture is to go")
    parser.add_argument("--seed", type=int, default=3, help="of what is random (default 3)")


def run(args: argparse.Namespace) -> int:
    """Print the figures; write the picture if there is a place for it."""
    for name in ("n", "hidden_size", "length"):
        if getattr(args, name, 1) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be at least 1, got {getattr(args, name)}")
    {"zipf": _zipf, "ngram": _ngram, "gradients": _gradients}[args.what](args)
    return 0


def _zipf(args: argparse.Namespace) -> None:
    corpus = load_corpus(args.data, args.level)
    tokens = corpus.vocabulary.decode(corpus.train.tolist())
    print(f"{len(tokens):,} training tokens of {args.data}, vocabulary {len(corpus.vocabulary):,}")
    _table("n", "distinct", "once", "most frequent")
    for n in range(1, args.n + 1):
        _, frequencies = zipf(corpus.train, n)
        top = Counter(zip(*(tokens[i:] for i in range(n)), strict=False)).most_common(3)
        told = [f"{detokenize(gram, corpus.level)!r} {count:,}" for gram, count in top]
        once = int((frequencies == 1).sum())
        _table(str(n), f"{len(frequencies):,}", f"{once:,}", ", ".join(told))
    if args.out is not None:
        plot_zipf(corpus.train, _picture(args.out, "zipf.png"))


def _ngram(args: argparse.Namespace) -> None:
    """Both kinds of models of every order, each with the k that is best on validation text."""
    corpus = load_corpus(args.data, args.level)
    print(
        f"{len(corpus.train):,} training tokens of {args.data}, vocabulary "
        f"{len(corpus.vocabulary):,}; perplexities, k by validation"
    )
    _table("n", "k", "valid", "test", "shorter n-grams as prior: k", "valid", "test")
    prior, row = _fitted(corpus, 1)
    _table("1", *row, *row)
    for n in range(2, args.n + 1):
        _, row = _fitted(corpus, n)
        prior, mixed_row = _fitted(corpus, n, prior)
        _table(str(n), *row, *mixed_row)
    random = torch.Generator().manual_seed(args.seed)
    ids = prior.sample(corpus.train[: args.n].tolist(), args.length, random)
    print(detokenize(corpus.vocabulary.decode(ids), corpus.level))


def _fitted(
    corpus: Corpus, n: int, prior: NgramModel | None = None
) -> tuple[NgramModel, list[str]]:
    """A model; and, as a table has them, its k, validation and test perplexity."""
    model = NgramModel(corpus.train, len(corpus.vocabulary), n, prior=prior)
    scores: dict[float, float] = {}
    for model.k in ADDED:
        scores[model.k] = model.perplexity(corpus.valid)
    model.k = min(scores, key=lambda k: scores[k])
    test = model.perplexity(corpus.test)
    return model, [f"{model.k:g}", f"{scores[model.k]:.2f}", f"{test:.2f}"]


def _gradients(args: argparse.Namespace) -> None:
    """The book's experiment (section 6.1.4), then layers as they start, through autograd."""
    weight = torch.from_numpy(np.random.RandomState(args.seed).randn(3, 3)).T
    norms = {}
    for name, factor in (("W_hh", 1.0), ("0.5 W_hh", 0.5)):
        greatest = torch.linalg.svdvals(factor * weight)[0].item()
        label = f"{name}, greatest singular value {greatest:.2f}"
        norms[label] = linear_gradient_norms(factor * weight, STEPS)
    generator = torch.manual_seed(args.seed)
    series = torch.randn(STEPS + 1, 2, args.hidden_size, generator=generator)
    for layer in (nn.RNN, nn.LSTM, nn.GRU):
        of_state, _ = gradient_norms(layer(args.hidden_size, args.hidden_size), series)
        norms[f"{layer.__name__}, H {args.hidden_size}"] = of_state[-2::-1]
    told = (1, 5, 10, 15, 20)
    _table("norm of dh after steps back", *map(str, told))
    for name, values in norms.items():
        _table(name, *(f"{values[step - 1]:.3g}" for step in told))
    if args.out is not None:
        steps = np.arange(1, STEPS + 1)
        plot_lines(
            _picture(args.out, "gradients.png"),
            {name: (steps, values) for name, values in norms.items()},
            xlabel="steps back",
            ylabel="norm of dh",
            yscale="log",
        )


def _table(*cells: str) -> None:
    print("\t".join(cells))


def _picture(folder: str, name: str) -> Path:
    """Where the picture goes, in a folder that is made."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"writes {path}")
    return path
