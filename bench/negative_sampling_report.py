"""Measure negative sampling on the CPU beside torch, and write docs/results/negative-sampling-cpu.

    python bench/negative_sampling_report.py --out docs/results

Writes negative-sampling-cpu.json (all figures) and negative-sampling-cpu.md. Takes about 5 minutes,
and 3 GB of memory. Needs a C++ compiler for torch.compile.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from case import Case
from negative_sampling import C, D, K, case
from tables import by_group, table, timing_text
from timing import WARM_UP_RUNS, Result, environment, machine_of, measure, versions_of

TARGET = 5.0  # times torch
BATCHES, VOCABULARIES = (100, 4096), (10_000, 1_000_000)
NOTES = {
    "loss": "The loss of hidden states (B, D), with gradients of these and of a weight (V, D).",
    "CBOW": f"Hidden states are means of {C} rows of an embedding (V, D), whose gradient is taken "
    "besides; `torch` has F.embedding_bag for them.",
    "SGD": "With a step of torch.optim.SGD, which is the same for all and moves all V rows.",
    "SparseAdam": "With a step of torch.optim.SparseAdam, which is the same for all.",
}


def cases(quick: bool) -> list[Case]:
    """Return all cases, or a few tiny ones."""
    batches, vocabularies = ((3,), (50,)) if quick else (BATCHES, VOCABULARIES)
    kinds = [
        (False, False, None),
        (True, False, None),
        (False, True, None),
        (True, True, None),
        (False, False, "SGD"),
        (True, False, "SparseAdam"),
    ]
    return [case(b, v, *kind) for kind in kinds for v in vocabularies for b in batches]


def ratio_text(result: Result) -> str:
    """Return how many times faster seqkern is, and whether that misses the target."""
    ratio = result.ratio("torch", "seqkern")
    has_target = result.group in ("loss, dense", "loss, sparse")
    return f"{ratio:.1f}" + (f" (short of {TARGET:g})" if has_target and ratio < TARGET else "")


def quiet_ratio(result: Result) -> str:
    """Return the same of the first quartiles, which other work on the machine disturbs less."""
    return f"{result.times['torch'].low / result.times['seqkern'].low:.1f}"


def times_table(results: Sequence[Result]) -> list[str]:
    """Return the rows of a group."""
    peers = list(results[0].times)
    rows = [
        [r.name, *(timing_text(r.times[peer]) for peer in peers), ratio_text(r), quiet_ratio(r)]
        for r in results
    ]
    head = ["size", *(f"{peer}, ms" for peer in peers), "torch / seqkern", "of first quartiles"]
    return table(head, rows)


def markdown(facts: dict[str, Any], results: Sequence[Result]) -> str:
    """Return the whole page."""
    lines = [
        "# Negative sampling on the CPU",
        "",
        f"`{facts['command']}`, {facts['date']}",
        "",
        f"- {machine_of(facts)}; load average before the run {facts['load_average_before']}",
        f"- {versions_of(facts)}",
        f"- float32, D={D}, K={K}; forward + backward, all peers of a size in one process, in "
        f"turns (A B B A): at most {WARM_UP_RUNS} runs of warm-up, then at least 5 each; medians, "
        "with the distance of the quartiles in percent",
        "- `torch` is the loss composed of F.embedding (of target and negatives at once), bmm and "
        "F.logsigmoid; `torch.compile` the same, compiled",
        "- words are drawn as those of a text: the r-th one with a probability of about 1 / r",
        f"- target: {TARGET:g} times torch, for the loss of given hidden states",
    ]
    for name, group in by_group(results).items():
        kind, layout, *step = name.split(", ")
        note = NOTES[step[0] if step else kind]
        title = f"{kind}, {layout} gradients" + (f", with {step[0]}" if step else "")
        lines += ["", f"## {title[0].upper()}{title[1:]}", "", note, "", *times_table(group)]
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--threads", type=int, default=2, help="of every peer (default 2)")
    parser.add_argument("--seconds", type=float, default=8.0, help="a size (default 8)")
    parser.add_argument("--only", default="", help="sizes whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; *-quick.*")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    facts = {"command": shlex.join(["python", *sys.argv[:1], *arguments]), **environment()}
    results = []
    for one in cases(options.quick):
        if options.only in str(one):
            results.append(measure(one, options.seconds))
            times = {peer: round(t.median * 1e3, 4) for peer, t in results[-1].times.items()}
            print(f"{one}: {times}", file=sys.stderr, flush=True)
    if not results:
        parser.error(f"no case contains {options.only!r}")
    options.out.mkdir(parents=True, exist_ok=True)
    stem = "negative-sampling-cpu-quick" if options.quick else "negative-sampling-cpu"
    rows = ",\n".join(json.dumps(result.row()) for result in results)
    text = f'{{"facts": {json.dumps(facts)}, "results": [\n{rows}\n]}}\n'
    (options.out / f"{stem}.json").write_text(text)
    page = markdown(facts, results)
    (options.out / f"{stem}.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(sys.argv[1:])
