"""Measure draws of negatives on the CPU beside torch, and write docs/results/sampling-cpu.

    python bench/sampling_report.py --out docs/results

Writes sampling-cpu.json (all figures) and sampling-cpu.md. Takes about 3 minutes.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sampling import (
    DISTINCT,
    HARD,
    INDEPENDENT,
    SKEW,
    TABLE,
    negatives_case,
    skewed_case,
    table_case,
)
from tables import table, timing_text
from timing import WARM_UP_RUNS, Result, environment, machine_of, measure, versions_of

VOCABULARIES = (10**4, 10**6, 10**7)
NEGATIVES = 5
ROWS = 200_000
TARGET = 10e6  # draws/s of a core, of both kinds
WEIGHTS_OF_TORCH = 10**7  # at most; a row of V for each target
ONLY = ("seqkern",)


def rate(result: Result, peer: str, of: int = 1) -> float:
    """Return rows/s of a peer, or draws/s if ``of`` is their number in a row."""
    return result.sizes["R"] * of / result.times[peer].median


def short(number: float) -> str:
    """Return a number with three digits."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.3g}"


def rates_table(results: Sequence[Result], draws: bool) -> list[str]:
    """Return a row a size: times, and draws/s or rows/s."""
    peers = list(results[0].times)
    unit = "draws/s" if draws else "rows/s"
    head = ["size", *(f"{peer}, ms" for peer in peers), *(f"{peer}, {unit}" for peer in peers)]
    rows = []
    for result in results:
        rates = {peer: rate(result, peer, result.sizes["K"] if draws else 1) for peer in peers}
        row = [result.name, *(timing_text(result.times[peer]) for peer in peers)]
        row += [short(found) for found in rates.values()]
        if draws and rates["seqkern"] < TARGET:
            row[-len(peers)] += f" (short of {short(TARGET)})"
        if "torch" in peers:
            row.append(f"{result.speedup:.3g}")
        rows.append(row)
    return table([*head, *(["over torch"] if "torch" in peers else [])], rows)


def times_table(results: Sequence[Result]) -> list[str]:
    """Return a row a size: times alone."""
    rows = [[result.name, timing_text(result.times["seqkern"])] for result in results]
    return table(["size", "ms"], rows)


def markdown(facts: dict[str, Any], results: Sequence[Result]) -> str:
    """Return the whole page."""

    def group(
        name: str, body: Callable[[Sequence[Result]], list[str]], beside_torch: bool = False
    ) -> list[str]:
        found = [r for r in results if r.group == name and ("torch" in r.times) == beside_torch]
        return body(found) if found else ["Not measured."]

    def by_draws(found: Sequence[Result]) -> list[str]:
        return rates_table(found, draws=True)

    def by_rows(found: Sequence[Result]) -> list[str]:
        return rates_table(found, draws=False)

    return "\n".join(
        [
            "# Draws of negatives on the CPU",
            "",
            f"`{facts['command']}`, {facts['date']}",
            "",
            f"- {machine_of(facts)}; load average before the run {facts['load_average_before']}",
            f"- {versions_of(facts)}",
            f"- all peers of a size in one process, in turns (A B B A): at most {WARM_UP_RUNS} "
            "runs of warm-up, then at least 5 each; medians, with the distance of the quartiles "
            "in percent",
            "- V classes whose counts fall as in text (1 / rank), power 0.75; K negatives of each "
            "of R targets",
            f"- target: {short(TARGET)} draws/s with one thread, of both kinds",
            "",
            "## Independent draws",
            "",
            "They may repeat or hit the target. `torch` is torch.multinomial with replacement.",
            "",
            *group(INDEPENDENT, by_draws, beside_torch=True),
            "",
            "## Distinct negatives that exclude the target",
            "",
            *group(DISTINCT, by_draws),
            "",
            "Beside torch.multinomial without replacement, which takes a row of weights for each "
            "target (made before the time is taken), so that R is small:",
            "",
            *group(DISTINCT, by_rows, beside_torch=True),
            "",
            f"Where all classes but the first share {SKEW:g} of the weight, so that rejection "
            "finds next to nothing, and what is missing is drawn by inversion:",
            "",
            *group(HARD, by_draws),
            "",
            "## The construction of a sampler",
            "",
            *group(TABLE, times_table),
            "",
        ]
    )


def main(arguments: list[str]) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--threads", type=int, default=1, help="of every peer (default 1)")
    parser.add_argument("--seconds", type=float, default=6.0, help="a size (default 6)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; sampling-cpu-quick.*")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    facts = {"command": shlex.join(["python", *sys.argv[:1], *arguments]), **environment()}
    vocabularies, rows = ((100,), 20) if options.quick else (VOCABULARIES, ROWS)
    most = WEIGHTS_OF_TORCH if not options.quick else 1000
    near = vocabularies[0] // 10
    cases = [
        *(negatives_case(v, NEGATIVES, rows, distinct=False) for v in vocabularies),
        *(negatives_case(v, NEGATIVES, rows, distinct=True, peers=ONLY) for v in vocabularies),
        *(negatives_case(v, NEGATIVES, max(most // v, 1), distinct=True) for v in vocabularies),
        *(negatives_case(near, k, 100, distinct=True) for k in (near // 2, near - 2)),
        *(skewed_case(v, NEGATIVES, rows // 10) for v in vocabularies),
        *(table_case(v) for v in vocabularies),
    ]
    results = []
    for case in cases:
        results.append(measure(case, options.seconds))
        times = {peer: round(t.median * 1e3, 3) for peer, t in results[-1].times.items()}
        print(f"{case}: {times} ms", file=sys.stderr, flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = "sampling-cpu-quick" if options.quick else "sampling-cpu"
    lines = ",\n".join(json.dumps(result.row()) for result in results)
    text = f'{{"facts": {json.dumps(facts)}, "results": [\n{lines}\n]}}\n'
    (options.out / f"{stem}.json").write_text(text)
    page = markdown(facts, results)
    (options.out / f"{stem}.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(sys.argv[1:])
