"""Cases of reading texts: words counted, and texts written as ids, beside gensim and plain Python.

    python bench/text_words.py

prints a table of words per second. gensim takes part where it is installed: the vocabulary pass of
its Word2Vec over the same file (`scan_vocab`), which is Python on one thread. It has no pass that
compares with encoding: it looks words up again in every epoch.
"""

import argparse
import collections
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from case import Case, Run
from tables import table
from timing import Result, environment, machine_of, measure, versions_of

from seqkern.data import count_words, encode_words

WORDS, SENTENCE = 10_000_000, 20
VOCABULARIES = (10_000, 1_000_000)
LETTERS = "etaoinshrdlcumwfgypbvkjxqz"


def write_zipf_text(path: Path, words: int, vocabulary: int, seed: int = 0) -> int:
    """Write sentences of 20 words, word r as often as 1/r, rarer words longer; return the bytes.

    Words have their rank in base 26, of letters, at their end, which makes them distinct.
    """
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, vocabulary + 1)
    sums = np.cumsum(shares / shares.sum())
    names = np.array([_name(rank, generator) for rank in range(vocabulary)], dtype=object)
    with path.open("w") as file:
        for start in range(0, words, 10_000 * SENTENCE):
            drawn = generator.random(min(10_000 * SENTENCE, words - start))
            ids = np.searchsorted(sums, drawn).clip(max=vocabulary - 1)
            text = names[ids].tolist()
            for place in range(0, len(text), SENTENCE):
                file.write(" ".join(text[place : place + SENTENCE]) + "\n")
    return path.stat().st_size


def _name(rank: int, generator: np.random.Generator) -> str:
    letters = [LETTERS[i] for i in generator.integers(0, 26, generator.integers(0, 6))]
    number = rank
    while True:
        letters.append(LETTERS[number % 26].upper())
        number //= 26
        if number == 0:
            return "".join(letters)


def count_case(path: Path, words: int, vocabulary: int) -> Case:
    """Count the words of a file."""
    peers = ["seqkern", "seqkern, 1 thread", "Counter"]
    if importlib.util.find_spec("gensim"):
        peers.append("gensim")

    def make(peer: str) -> Run:
        if peer == "gensim":
            from gensim.models import Word2Vec

            model = Word2Vec(min_count=1)
            return lambda: model.scan_vocab(corpus_file=str(path))
        if peer == "Counter":
            return lambda: _plain_counts(path)
        threads = 1 if "1" in peer else None
        return lambda: count_words(path, threads=threads)

    return Case("count", {"words": words, "vocabulary": vocabulary}, make, peers=tuple(peers))


def _plain_counts(path: Path) -> collections.Counter[str]:
    counter: collections.Counter[str] = collections.Counter()
    with path.open() as file:
        for line in file:
            counter.update(line.split())
    return counter


def encode_case(path: Path, words: int, vocabulary: int) -> Case:
    """Write a file as ids of its words."""

    def make(peer: str) -> Run:
        known = count_words(path).words
        threads = 1 if "1" in peer else None
        return lambda: encode_words(path, known, threads=threads)

    sizes = {"words": words, "vocabulary": vocabulary}
    return Case("encode", sizes, make, peers=("seqkern", "seqkern, 1 thread"))


def section(results: Sequence[Result]) -> list[str]:
    """Return a table: millions of words per second, a line a case."""
    peers = list(dict.fromkeys(peer for result in results for peer in result.times))
    rows = [
        [
            result.group,
            f"{result.sizes['words']:,}",
            f"{result.sizes['vocabulary']:,}",
            *(_speed(result, peer) for peer in peers),
        ]
        for result in results
    ]
    return table(["pass", "words", "vocabulary", *peers], rows)


def _speed(result: Result, peer: str) -> str:
    if peer not in result.times:
        return ""
    return f"{result.sizes['words'] / result.times[peer].median / 1e6:.3g} M/s"


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="of seqkern (default 2)")
    parser.add_argument("--seconds", type=float, default=20.0, help="a case (default 20)")
    parser.add_argument("--words", type=int, default=WORDS, help="of the text")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    facts = environment()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for vocabulary in VOCABULARIES:
            path = Path(folder) / "zipf.txt"
            write_zipf_text(path, options.words, vocabulary)
            for make_case in (count_case, encode_case):
                case = make_case(path, options.words, vocabulary)
                results.append(measure(case, options.seconds))
                print(case, file=sys.stderr, flush=True)
    print("\n".join([machine_of(facts), versions_of(facts), "", *section(results)]))


if __name__ == "__main__":
    main(sys.argv[1:])
