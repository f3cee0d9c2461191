"""Ask the word vectors of "Deep Learning from Scratch 2", chapters 2 and 4, and write a page.

    seqkern train cbow --data ptb --threads 1 --seed 0 --out runs/cbow-0    # and 1, 2
    python bench/word_vectors_book.py --data ptb --runs runs/cbow-* --out docs/results

Writes word-vectors-book.md, and exits with 1 where it lacks what the book shows.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tables import table
from timing import environment, machine_of, versions_of

from seqkern.data import load_corpus
from seqkern.training import Run
from seqkern.vectors import KeyedVectors
from seqkern.vectors.count_based import fit_count_vectors

ANALOGIES = {  # a : b = c : ?, with what the book's vectors answer
    ("king", "man", "queen"): "woman",
    ("take", "took", "go"): "went",
    ("car", "cars", "child"): "children",
    ("good", "better", "bad"): None,
}
TOP = 5
NEAREST = ("you", "year", "car", "toyota")
CARS = {"motor", "nissan", "honda", "lexus"}
ADAMS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "default": {}}
STEPS = 50


@dataclass
class Trained:
    """A run's vectors, settings and log."""

    name: str
    vectors: KeyedVectors
    settings: dict[str, Any]
    epochs: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "Trained":
        """Read the folder."""
        lines = (folder / "log.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return cls(
            folder.name,
            KeyedVectors.load(folder / "vectors.safetensors"),
            asdict(Run.open(folder).config),
            [event for event in events if event["event"] == "epoch"],
        )

    @property
    def head(self) -> str:
        """What tells the run from others."""
        return f"seed {self.settings['seed']}, eps {self.settings['eps']:g}"

    def rank(self, question: tuple[str, str, str], answer: str, normalized: bool) -> int:
        """The place of the answer, from 1."""
        found = self.vectors.analogy(*question, topn=len(self.vectors), normalized=normalized)
        return [word for word, _ in found].index(answer) + 1

    def passes(self) -> bool:
        """Whether all answers of the book are among the first."""
        wanted = ((q, a) for q, a in ANALOGIES.items() if a)
        return all(self.rank(q, a, normalized=False) <= TOP for q, a in wanted)


def asked(question: tuple[str, str, str]) -> str:
    """The question as the book writes it."""
    return f"{question[0]}:{question[1]} = {question[2]}:?"


def listed(found: Sequence[tuple[str, float]]) -> str:
    """Words and their scores."""
    return ", ".join(f"{word} {score:.2f}" for word, score in found)


def adam_milliseconds(options: dict[str, bool], vocab_size: int, size: int) -> float:
    """Median time of a step on two matrices."""
    parameters = [torch.nn.Parameter(torch.randn(vocab_size, size) * 0.01) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
        parameter.grad[:600] = 1e-4  # the rows of a batch
    optimizer = torch.optim.Adam(parameters, lr=0.001, **options)
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def training(runs: Sequence[Trained]) -> list[str]:
    """Losses and times."""
    rows = []
    for run in runs:
        seconds = [epoch["seconds"] for epoch in run.epochs]
        rows.append(
            [
                run.head,
                *(f"{run.epochs[i]['train']['loss']:.4f}" for i in (0, 4, -1)),
                f"{min(seconds):.1f}",
                f"{statistics.median(seconds):.1f}",
                f"{sum(seconds):.0f}",
            ]
        )
    losses = ["loss, epoch 1", "epoch 5", f"epoch {len(runs[0].epochs)}"]
    times = ["fastest epoch, s", "median epoch, s", "all, s"]
    return table(["run", *losses, *times], rows)


def ranks(runs: Sequence[Trained]) -> list[str]:
    """The place of each answer in each run, by both ways."""
    head = ["run", *(f"{asked(q)} {a}" for q, a in ANALOGIES.items() if a), f"all in the top {TOP}"]
    rows = []
    for run in runs:
        found = [
            [run.rank(q, a, normalized) for normalized in (False, True)]
            for q, a in ANALOGIES.items()
            if a
        ]
        passed = "yes" if run.passes() else "no"
        rows.append([run.head, *(f"{plain} ({cosine})" for plain, cosine in found), passed])
    return table(head, rows)


def answers(runs: Sequence[Trained]) -> list[str]:
    """The first answers of each run."""
    lines = []
    for run in runs:
        rows = [
            [asked(q), listed(run.vectors.analogy(*q, topn=TOP, normalized=False))]
            for q in ANALOGIES
        ]
        rows += [[word, listed(run.vectors.most_similar(word, topn=TOP))] for word in NEAREST]
        lines += [f"### {run.head[0].upper()}{run.head[1:]}", "", *table(["", "found"], rows), ""]
    return lines


def main(arguments: list[str]) -> int:
    """Ask, print and write; returns 1 where something is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder of the Penn Treebank's text")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="of train cbow")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    facts = environment()
    runs = sorted(map(Trained.read, options.runs), key=lambda r: (-r.settings["eps"], r.name))
    s = runs[0].settings

    corpus = load_corpus(options.data)
    start = time.perf_counter()
    words = corpus.vocabulary.tokens
    counted = fit_count_vectors(corpus.train, words, window=2, vector_size=100)
    seconds = time.perf_counter() - start
    near = counted.most_similar("toyota", topn=TOP)
    cars = sorted(CARS & {word for word, _ in near})

    adam = {
        name: adam_milliseconds(given, len(words), s["hidden_size"])
        for name, given in ADAMS.items()
    }
    passed = [run.head for run in runs if run.passes()]
    command = shlex.join(["python", *sys.argv[:1], *arguments])
    page = [
        "# Word vectors of the book",
        "",
        f"`{command}`, {facts['date']}",
        "",
        f"- {machine_of(facts)}; load average before the page was made "
        f"{facts['load_average_before']}",
        f"- {versions_of(facts)}",
        f"- Penn Treebank as preprocessed by Mikolov: {len(corpus.train):,} words with `<eos>`, "
        f"vocabulary {len(words):,}, by first appearance",
        "- each run: `nice -n 10 seqkern train cbow --data ptb --threads 1 --seed S --eps E --out "
        "RUN`, on a machine that others were using: times are of the wall clock",
        "",
        '## CBOW ("Deep Learning from Scratch 2", chapter 4)',
        "",
        f"Window {s['window']}, vectors of {s['hidden_size']}, batches of {s['batch_size']}, "
        f"{s['negative']} distinct negatives without the word itself by counts to the power "
        f"{s['ns_exponent']}, weights from N(0, 0.01^2), Adam with lr {s['lr']:g}. Loss: mean over "
        "the batch of the sum of 6 binary cross-entropies, in nats. The book's Adam has an eps of "
        "1e-7, torch's 1e-8.",
        "",
        *training(runs),
        "",
        f"Adam moves all {2 * len(words) * s['hidden_size']:,} parameters in each of "
        f"{(len(corpus.train) - 2 * s['window']) // s['batch_size']:,} batches. A step of "
        "torch.optim.Adam alone: "
        + ", ".join(f"{milliseconds:.2f} ms ({name})" for name, milliseconds in adam.items())
        + "; `train cbow` takes the fused one.",
        "",
        "## Analogies",
        "",
        "The place of the book's answer among all words, by the book's method (vec(b) - vec(a) + "
        "vec(c) of the vectors as they are, brought to length 1, and its product with each word's "
        "vector; the three words left out), and in brackets by cosines of vectors of length 1.",
        "",
        *ranks(runs),
        "",
        f"All three among the first {TOP}: {'; '.join(passed) if passed else 'no run'}.",
        "",
        "## What they find",
        "",
        f"Analogies by the book's method, and the nearest words by the cosine; eps {s['eps']:g}.",
        "",
        *answers([run for run in runs if run.settings["eps"] == s["eps"]]),
        "## Counts: PPMI and SVD (chapter 2)",
        "",
        f"`fit_count_vectors(text, words, window=2, vector_size=100)`: {seconds:.1f} s.",
        "",
        *table(["", "found"], [["toyota", listed(near)]]),
        "",
        f"Among them: {', '.join(cars) if cars else 'none'} (of {', '.join(sorted(CARS))}).",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "word-vectors-book.md").write_text("\n".join(page))
    print("\n".join(page))
    return 0 if passed and cars else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
