"""Time every case of the suites on both peers, and write the table of docs/results.

    python bench/report.py --out docs/results

Both peers run in one process and take turns, run by run, so that what disturbs the machine disturbs
both. Times are medians; the spread is the distance of the quartiles. Writes cpu.md and cpu.json.
"""

import argparse
import gc
import json
import os
import shlex
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import test_training_step
import torch
from case import PEERS, Case, Run

import seqkern
import test_recurrent
import test_softmax

CASES = [*test_recurrent.CASES, *test_softmax.CASES, *test_training_step.CASES]
WARM_UP_RUNS = 5
FEWEST_ROUNDS, MOST_ROUNDS = 5, 5000


@dataclass(frozen=True)
class Timing:
    """Seconds a run: the median, and the first and third quartile."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """One case: a timing a peer, and how many times each ran."""

    group: str
    name: str
    flops: float
    rounds: int
    seqkern: Timing
    torch: Timing

    @property
    def speedup(self) -> float:
        """How many times faster seqkern is."""
        return self.torch.median / self.seqkern.median


def seconds_of(run: Run) -> float:
    """Time one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def timing_of(samples: list[float]) -> Timing:
    """Sum samples up."""
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Timing(median, low, high)


def measure(case: Case, seconds: float) -> Result:
    """Run the peers of a case in turns for about this long."""
    runs = {peer: case.make(peer) for peer in PEERS}
    for _ in range(WARM_UP_RUNS):
        a_round = sum(seconds_of(run) for run in runs.values())
    rounds = min(max(round(seconds / a_round), FEWEST_ROUNDS), MOST_ROUNDS)
    samples: dict[str, list[float]] = {peer: [] for peer in PEERS}
    gc.disable()
    try:
        for _ in range(rounds):
            for peer, run in runs.items():
                samples[peer].append(seconds_of(run))
    finally:
        gc.enable()
    timings = {peer: timing_of(samples[peer]) for peer in PEERS}
    return Result(case.group, case.name, case.flops, rounds, **timings)


def environment(arguments: list[str]) -> dict[str, Any]:
    """Describe the machine, the versions and the command."""
    info = seqkern.build_info()
    wanted = ("cpu", "threads", "isa", "seqkern", "torch", "python", "compiler")
    return {
        "command": shlex.join(["python", "bench/report.py", *arguments]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **{key: info[key] for key in wanted},
        "cores": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def timing_text(timing: Timing) -> str:
    """Return milliseconds, and the spread in percent."""
    spread = 100 * (timing.high - timing.low) / timing.median
    return f"{timing.median * 1e3:.3f} ({spread:.0f} %)"


def table(results: list[Result]) -> list[str]:
    """Return the rows of one group in Markdown, and the geometric mean."""
    with_flops = all(result.flops for result in results)
    head = ["size", "seqkern, ms", "torch, ms", "speed-up"]
    head += ["seqkern, GFLOP/s", "torch, GFLOP/s"] if with_flops else []
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for result in results:
        cells = [result.name, timing_text(result.seqkern), timing_text(result.torch)]
        cells.append(f"{result.speedup:.2f}")
        if with_flops:
            peers = (result.seqkern, result.torch)
            cells += [f"{result.flops / timing.median / 1e9:.0f}" for timing in peers]
        lines.append(f"| {' | '.join(cells)} |")
    mean = statistics.geometric_mean(result.speedup for result in results)
    slowest = min(result.speedup for result in results)
    return [*lines, "", f"Geometric mean of the speed-ups {mean:.2f}, least {slowest:.2f}."]


def markdown(facts: dict[str, Any], results: list[Result]) -> str:
    """Return the whole report."""
    rounds = [result.rounds for result in results]
    machine = f"{facts['cpu']}, {facts['cores']} cores, {facts['isa']}, {facts['threads']} threads"
    versions = (
        f"seqkern {facts['seqkern']} ({facts['compiler']}), torch {facts['torch']}, "
        f"Python {facts['python']}"
    )
    lines = [
        "# Benchmarks on the CPU",
        "",
        f"`{facts['command']}`, {facts['date']}",
        "",
        f"- {machine}; load average before the run {facts['load_average_before']}",
        f"- {versions}",
        f"- both sides in one process, in turns: {WARM_UP_RUNS} runs of warm-up, then "
        f"{min(rounds)} to {max(rounds)} runs each",
        "- float32; medians, with the distance of the quartiles in percent",
        "",
    ]
    for group in dict.fromkeys(result.group for result in results):
        of_group = [result for result in results if result.group == group]
        lines += [f"## {group}", "", *table(of_group), ""]
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
    facts = environment(arguments)
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
        rows = [asdict(result) | {"speedup": result.speedup} for result in results]
        data = json.dumps({**facts, "results": rows}, indent=1)
        (options.out / "cpu.json").write_text(data + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
