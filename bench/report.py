"""Time every case of the suites on both peers, and write the table of docs/results.

    python bench/report.py --out docs/results

Both peers run in one process and take turns, run by run, so that what disturbs the machine disturbs
both. Times are medians; the spread is the distance of the quartiles. Writes cpu.md and cpu.json.
"""

import argparse
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import test_training_step
import torch
from case import PEERS
from tables import table, timing_text
from timing import WARM_UP_RUNS, Result, environment, machine_of, measure, versions_of

import test_recurrent
import test_softmax

CASES = [*test_recurrent.CASES, *test_softmax.CASES, *test_training_step.CASES]


def table_of(results: list[Result]) -> list[str]:
    """Return the rows of one group in Markdown, and the geometric mean."""
    with_flops = all(result.flops for result in results)
    head = ["size", "seqkern, ms", "torch, ms", "speed-up"]
    head += ["seqkern, GFLOP/s", "torch, GFLOP/s"] if with_flops else []
    rows = []
    for result in results:
        row = [result.name, *(timing_text(result.times[peer]) for peer in PEERS)]
        row.append(f"{result.speedup:.2f}")
        row += [f"{result.gflops(peer):.0f}" for peer in PEERS] if with_flops else []
        rows.append(row)
    mean = statistics.geometric_mean(result.speedup for result in results)
    slowest = min(result.speedup for result in results)
    sums = f"Geometric mean of the speed-ups {mean:.2f}, least {slowest:.2f}."
    return [*table(head, rows), "", sums]


def markdown(facts: dict[str, Any], results: list[Result]) -> str:
    """Return the whole report."""
    rounds = [result.rounds for result in results]
    lines = [
        "# Benchmarks on the CPU",
        "",
        f"`{facts['command']}`, {facts['date']}",
        "",
        f"- {machine_of(facts)}; load average before the run {facts['load_average_before']}",
        f"- {versions_of(facts)}",
        f"- both sides in one process, in turns: at most {WARM_UP_RUNS} runs of warm-up, then "
        f"{min(rounds)} to {max(rounds)} runs each",
        "- float32; medians, with the distance of the quartiles in percent",
        "",
    ]
    for group in dict.fromkeys(result.group for result in results):
        of_group = [result for result in results if result.group == group]
        lines += [f"## {group}", "", *table_of(of_group), ""]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, help="folder for cpu.md and cpu.json; default: print only"
    )
    parser.add_argument("--threads", type=int, default=2, help="of both peers (default 2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="per case (default 10)")
    parser.add_argument("--quick", action="store_true", help="a rough look: 0.3 seconds a case")
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    facts = {"command": shlex.join(["python", "bench/report.py", *arguments]), **environment()}
    results = []
    for case in CASES:
        if options.only in str(case):
            results.append(measure(case, 0.3 if options.quick else options.seconds))
            print(f"{case}: {results[-1].speedup:.2f}", file=sys.stderr, flush=True)
    if not results:
        parser.error(f"no case contains {options.only!r}")
    report = markdown(facts, results)
    print(report)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "cpu.md").write_text(report)
        rows = [result.row() | {"speedup": result.speedup} for result in results]
        data = json.dumps({**facts, "results": rows}, indent=1)
        (options.out / "cpu.json").write_text(data + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
