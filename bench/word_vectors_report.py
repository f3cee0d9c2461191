"""Measure the training of word vectors beside gensim, and write docs/results/word-vectors-cpu.

    python bench/word_vectors_report.py --ptb PTB_FOLDER --out docs/results

Needs gensim, and the Penn Treebank's ptb.train.txt for quality and for one of the speeds. Writes
word-vectors-cpu.json (all figures) and word-vectors-cpu.md. Takes about 15 minutes.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tables import table
from text_words import count_case, encode_case, section
from timing import (
    Result,
    environment,
    machine_of,
    measure,
    seconds_of,
    timing_of,
    turns,
    versions_of,
)
from word_vector_peers import (
    VOCABULARY,
    Text,
    correlations,
    loss_of,
    repeated_text,
    trained,
    training,
    versions,
    zipf_text,
)

GENSIM, SEQKERN = "gensim", "seqkern"
SHARED, DETERMINISTIC = "seqkern, shared negatives", "seqkern, deterministic"
KINDS = {1: "skip-gram", 0: "CBOW"}
TARGETS = {100: 5.0, 300: 2.5}
MARGIN = 0.02  # of correlations
EPOCHS_OF_SPEED, EPOCHS_OF_QUALITY = 2, 5
SEEDS = 5

Rates = dict[str, list[float]]


def options_of(size: int, sg: int) -> dict[str, Any]:
    """What both peers are given for speed: window 5 that shrinks, 5 negatives, no subsampling."""
    return {"vector_size": size, "sg": sg, "window": 5, "negative": 5, "sample": 0, "min_count": 1}


def speeds(text: Text, size: int, sg: int, peers: Sequence[str], threads: int, rounds: int) -> Any:
    """Words/s of each peer, in turns."""
    options = options_of(size, sg)
    runs: dict[str, Callable[[], None]] = {}
    for peer in peers:
        model = trained(peer, text, options, threads)
        runs[peer] = training(peer, model, text, EPOCHS_OF_SPEED)
    seconds: dict[str, list[float]] = {peer: [] for peer in peers}
    for peer in turns(peers, rounds):
        seconds[peer].append(seconds_of(runs[peer]))
    rates = {
        peer: [text.words * EPOCHS_OF_SPEED / s for s in found] for peer, found in seconds.items()
    }
    row = {"text": text.name, "words": text.words, "d": size, "kind": KINDS[sg], "rates": rates}
    print(row, flush=True)
    return row


def processes(text: Text, sg: int, threads: int, rounds: int, folder: Path) -> Any:
    """Seconds of whole processes, from a text file to a file of vectors."""
    cli = ["-m", "seqkern.cli", "train", "word2vec", "--data", str(text.path)]
    cli += ["--vector-size", "100", "--sample", "0", "--epochs", "1", "--workers", str(threads)]
    cli += ["--out", str(folder / "run"), "--export", str(folder / "ours.bin")]
    cli += ["--sg"] if sg else []
    script = [str(Path(__file__).with_name("word_vector_peers.py")), str(text.path)]
    script += [str(folder / "gensim.bin"), str(sg), str(threads), "1"]
    commands = {SEQKERN: cli, GENSIM: script}
    seconds: dict[str, list[float]] = {peer: [] for peer in commands}
    for peer in turns(commands, rounds):
        subprocess.run(["rm", "-rf", str(folder / "run")], check=True)
        run = [sys.executable, *commands[peer]]
        seconds[peer].append(
            seconds_of(lambda run=run: subprocess.run(run, check=True, capture_output=True))
        )
    row = {"text": text.name, "words": text.words, "kind": KINDS[sg], "seconds": seconds}
    print(row, flush=True)
    return row


def quality(text: Text, sg: int, threads: int) -> list[Any]:
    """Correlations and loss of each peer and seed."""
    peers = (GENSIM, SEQKERN, *([SHARED] if sg else []), DETERMINISTIC)
    rows = []
    for seed in range(1, SEEDS + 1):
        options = {**options_of(100, sg), "min_count": 5, "epochs": EPOCHS_OF_QUALITY, "seed": seed}
        for peer in peers:
            model = trained(peer, text, options, threads)
            training(peer, model, text, EPOCHS_OF_QUALITY)()
            found = {**correlations(model.wv), "loss": loss_of(peer, model, text, options)}
            rows.append({"kind": KINDS[sg], "peer": peer, "seed": seed, **found})
            print(rows[-1], flush=True)
    return rows


def speed_table(rows: Sequence[Any]) -> list[str]:
    """Return the table of words/s."""
    head = ["text", "d", "model", "peer", "M words/s", "spread", "over gensim", "target"]
    lines = []
    for row in rows:
        base = statistics.median(row["rates"][GENSIM])
        for peer, rates in row["rates"].items():
            timing = timing_of(rates)
            ratio = timing.median / base
            target = TARGETS[row["d"]]
            exact = peer == SEQKERN
            met = f"{target:g}{'' if ratio >= target else ', missed'}" if exact else ""
            spread = f"{100 * (timing.high - timing.low) / timing.median:.0f} %"
            lines.append(
                [
                    row["text"],
                    str(row["d"]),
                    row["kind"],
                    peer,
                    f"{timing.median / 1000000.0:.3g}",
                    spread,
                    "" if peer == GENSIM else f"{ratio:.2f}",
                    met,
                ]
            )
    return table(head, lines)


def process_table(rows: Sequence[Any]) -> list[str]:
    """Return the table of whole processes."""
    head = ["text", "words", "model", "seqkern, s", "gensim, s", "ratio"]
    lines = []
    for row in rows:
        ours, theirs = (statistics.median(row["seconds"][peer]) for peer in (SEQKERN, GENSIM))
        lines.append(
            [
                row["text"],
                f"{row['words'] / 1000000.0:g} M",
                row["kind"],
                f"{ours:.2f}",
                f"{theirs:.2f}",
                f"{theirs / ours:.2f}",
            ]
        )
    return table(head, lines)


def quality_table(rows: Sequence[Any]) -> list[str]:
    """Return the table of means and ranges over the seeds."""
    measures = [key for key in rows[0] if key not in ("kind", "peer", "seed")]
    head = ["model", "peer", *measures, f"within {MARGIN} of gensim or above"]
    lines = []
    for kind in KINDS.values():
        means: dict[str, dict[str, float]] = {}
        for peer in dict.fromkeys(row["peer"] for row in rows if row["kind"] == kind):
            found = [row for row in rows if row["kind"] == kind and row["peer"] == peer]
            means[peer] = {m: statistics.fmean(row[m] for row in found) for m in measures}
            cells = [
                f"{means[peer][m]:.3f} ({min(r[m] for r in found):.3f} to "
                f"{max(r[m] for r in found):.3f})"
                for m in measures
            ]
            verdict = ""
            if peer != GENSIM:
                short = [m for m in measures[:-1] if means[peer][m] < means[GENSIM][m] - MARGIN]
                verdict = f"no: {', '.join(short)}" if short else "yes"
            lines.append([kind, peer, *cells, verdict])
    return table(head, lines)


def markdown(results: Any) -> str:
    """Return the whole page."""
    facts = results["facts"]
    return "\n".join(
        [
            "# Training of word vectors on the CPU",
            "",
            f"`{facts['command']}`, {facts['date']}",
            "",
            f"- {machine_of(facts)}; load average before the run {facts['load_average_before']}",
            f"- {versions_of(facts)}; {facts['versions']}",
            "- peers in turns (A B B A) on the same text, vocabulary and options; gensim reads the "
            "file (`corpus_file`, its faster way with several workers); medians, with the distance "
            "of the quartiles",
            "",
            "## Speed",
            "",
            f"`train()` of {EPOCHS_OF_SPEED} epochs with {facts['threads']} workers: words of the "
            "text a second, reading and encoding of the file included. Window 5 (shrinking), 5 "
            "negatives, no subsampling. `seqkern, shared negatives` draws negatives once for all "
            "context words of a word; `seqkern, deterministic` gives the same result for every "
            "number of workers.",
            "",
            *speed_table(results["speeds"]),
            "",
            "## Whole processes",
            "",
            "From a text file to a file of vectors (word2vec's binary format), one epoch, start of "
            "Python, imports and vocabulary pass included: `seqkern train word2vec` beside a "
            "script that calls gensim (`bench/word_vector_peers.py`).",
            "",
            *process_table(results["processes"]),
            "",
            "## Reading of the text",
            "",
            "Words a second: the vocabulary pass (gensim's is Python on one thread), and the text "
            "as ids, which gensim has no pass for: it looks words up again in every epoch.",
            "",
            *section([Result.from_row(row) for row in results["passes"]]),
            "",
            "## Quality",
            "",
            f"Penn Treebank, {EPOCHS_OF_QUALITY} epochs, d = 100, `min_count` 5, no subsampling, "
            f"{SEEDS} seeds: mean (range). Spearman's correlation with the word pairs that gensim "
            "ships. The loss is that of an example (nats) over the text after training, computed "
            "for all peers by the same code, with negatives that were not trained with.",
            "",
            *quality_table(results["quality"]),
            "",
        ]
    )


def main(arguments: list[str]) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--ptb", type=Path, required=True, help="folder with ptb.train.txt")
    parser.add_argument("--threads", type=int, default=2, help="of every peer (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="of every peer (default 3)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    facts = {**environment(), "versions": versions()}
    facts["command"] = shlex.join(["python", "bench/word_vectors_report.py", *arguments])
    results: dict[str, Any] = {
        "facts": facts,
        "speeds": [],
        "processes": [],
        "passes": [],
        "quality": [],
    }
    ptb = args.ptb / "ptb.train.txt"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [zipf_text(folder, 20), zipf_text(folder, 1000), repeated_text(folder, ptb, 3)]
        for sg in KINDS:
            peers = [GENSIM, SEQKERN, *([SHARED] if sg else [])]
            for text in texts:
                of_text = [*peers, DETERMINISTIC] if text is texts[0] else peers
                results["speeds"].append(speeds(text, 100, sg, of_text, args.threads, args.rounds))
            found = speeds(texts[0], 300, sg, [GENSIM, SEQKERN], args.threads, args.rounds)
            results["speeds"].append(found)
        long = zipf_text(folder, 20, 10_000_000)
        for sg in KINDS:
            results["processes"].append(processes(long, sg, args.threads, args.rounds, folder))
        for make_case in (count_case, encode_case):
            case = make_case(long.path, long.words, VOCABULARY)
            results["passes"].append(measure(case, 10.0).row())
        source = Text("Penn Treebank", ptb, 0)
        results["quality"] = [row for sg in KINDS for row in quality(source, sg, args.threads)]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "word-vectors-cpu.json").write_text(json.dumps(results, indent=1) + "\n")
    (args.out / "word-vectors-cpu.md").write_text(markdown(results))


if __name__ == "__main__":
    main(sys.argv[1:])
