"""`seqkern eval word2vec`: word vectors against human judgements, and on analogies."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from seqkern.training.word_run import load_vectors
from seqkern.vectors import KeyedVectors


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "vectors",
        metavar="RUN|VECTORS",
        help="folder of a run, or a file: .safetensors, .bin (word2vec's binary format) or text",
    )
    parser.add_argument(
        "--pairs", metavar="FILE", help="two words and a judgement a line, such as wordsim353.tsv"
    )
    parser.add_argument(
        "--analogies",
        metavar="FILE",
        help="four words a line, in sections, such as questions-words.txt",
    )
    parser.add_argument(
        "--restrict-vocab",
        type=int,
        default=300_000,
        metavar="N",
        help="take the first N words only (default 300000)",
    )
    parser.add_argument(
        "--case-sensitive", action="store_true", help="tell upper from lower case in FILEs"
    )
    parser.add_argument(
        "--no-header", action="store_true", help="VECTORS is a text without a first line of sizes"
    )


def run(args: argparse.Namespace) -> int:
    """Print the figures, that of the last file alone on the last line."""
    if args.pairs is None and args.analogies is None:
        raise ValueError("--pairs or --analogies is missing: a file to evaluate with")
    for file in (args.pairs, args.analogies):
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f"no such file: {file}")
    vectors = load_vectors(args.vectors, no_header=args.no_header)
    print(f"{len(vectors):,} vectors of {vectors.vector_size} numbers")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if args.pairs is not None:
            show_pairs(vectors, args)
        if args.analogies is not None:
            show_analogies(vectors, args)
    for warning in caught:
        print(f"seqkern: note: {warning.message}", file=sys.stderr)
    return 0


def show_pairs(vectors: KeyedVectors, args: argparse.Namespace) -> None:
    """Print correlations, Spearman's last."""
    found = vectors.evaluate_word_pairs(
        args.pairs,
        restrict_vocab=args.restrict_vocab,
        case_insensitive=not args.case_sensitive,
    )
    print(f"{args.pairs}: {found.oov_ratio:.1f} % of the pairs have an unknown word")
    print(f"Pearson's correlation  {found.pearson.statistic:.4f}  (p {found.pearson.pvalue:.1e})")
    print(f"Spearman's correlation  (p {found.spearman.pvalue:.1e}):")
    print(f"{found.spearman.statistic:.4f}")


def show_analogies(vectors: KeyedVectors, args: argparse.Namespace) -> None:
    """Print the percentage solved of each section, that of all last."""
    score, sections = vectors.evaluate_word_analogies(
        args.analogies,
        restrict_vocab=args.restrict_vocab,
        case_insensitive=not args.case_sensitive,
    )
    asked = [len(s["correct"]) + len(s["incorrect"]) for s in sections]
    width = max(len(s["section"]) for s in sections)
    print(f"{args.analogies}: of the questions whose words are known, solved in percent")
    for section, questions in zip(sections[:-1], asked[:-1], strict=True):
        share = f"{100 * len(section['correct']) / questions:5.1f}" if questions else "    -"
        print(f"  {section['section']:{width}}  {share}  of {questions:,}")
    print(f"all {asked[-1]:,}:")
    print(f"{100 * score:.2f}")
