"""Measure the softmax losses on the CPU beside torch, and write docs/results/softmax-cpu.

    python bench/softmax_report.py --out docs/results

Writes softmax-cpu.json (all figures), softmax-cpu.md and softmax-cpu.svg. Takes about 15 minutes.
Needs matplotlib, and a C++ compiler for torch.compile.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from case import Case
from losses import (
    COMPILED,
    EAGER,
    linear_case,
    logits_case,
    precision_case,
    result_bytes,
    tied_case,
)
from memory import peak_memory
from tables import table, timing_text
from timing import WARM_UP_RUNS, Result, environment, machine_of, measure, versions_of

LOGITS_SIZES = [(700, 10000), (8192, 1000), (512, 50257)]
LINEAR_SIZES = [(700, 100, 10000), (700, 650, 10000), (2048, 512, 50257), (4096, 1024, 32000)]
# What seqkern's speed is to be, in units of eager torch's and of the best other peer's.
TARGETS = {"logits": (2.5, 1.2), "linear": (2.0, 1.3)}
BFLOAT16_TARGET = 1.5
TIED_SIZES = (700, 128, 200_000)
MEMORY_TARGET = 1 / 8


def best_other(result: Result) -> str:
    """Return the fastest peer that is neither seqkern nor eager torch."""
    others = [peer for peer in result.times if peer not in ("seqkern", EAGER)]
    return min(others, key=lambda peer: result.times[peer].median)


def extra_memory(case: Case, peer: str) -> int:
    """Return the peak memory of a run beyond its results, in a process of its own."""
    return max(0, peak_memory(case, peer) - result_bytes(case.sizes))


def tied_memory(case: Case, seconds: float) -> Result:
    """Measure time, and the peak memory in units of the weight's size."""
    memory = {peer: peak_memory(case, peer) for peer in case.peers}
    return replace(measure(case, seconds), memory=memory)


def with_memory(case: Case, seconds: float) -> Result:
    """Measure time, and the extra memory of all but compiled peers: a compiler needs its own."""
    peers = [peer for peer in case.peers if peer != COMPILED]
    memory = {peer: extra_memory(case, peer) for peer in peers}
    return replace(measure(case, seconds), memory=memory)


def mark(ratio: float, target: float) -> str:
    """Return a ratio, and whether it misses its target."""
    return f"{ratio:.2f}" if ratio >= target else f"{ratio:.2f} (short of {target:g})"


def times_table(results: Sequence[Result]) -> list[str]:
    """Return the rows of a group, and their ratios."""
    peers = list(results[0].times)
    eager_target, other_target = TARGETS[results[0].group]
    head = ["size", *(f"{peer}, ms" for peer in peers), "over torch", "over the best other"]
    rows = []
    for result in results:
        other = best_other(result)
        row = [result.name, *(timing_text(result.times[peer]) for peer in peers)]
        row.append(mark(result.ratio(EAGER, "seqkern"), eager_target))
        row.append(f"{mark(result.ratio(other, 'seqkern'), other_target)}, {other}")
        rows.append(row)
    return table(head, rows)


def memory_table(results: Sequence[Result]) -> list[str]:
    """Return MiB a peer, and seqkern's share of eager torch's."""
    peers = list(results[0].memory)
    rows = []
    for result in results:
        share = result.memory["seqkern"] / result.memory[EAGER]
        missed = "" if share <= MEMORY_TARGET else " (above 1/8)"
        mebibytes = [f"{result.memory[peer] / 2**20:.0f}" for peer in peers]
        rows.append([result.name, *mebibytes, f"1/{1 / share:.1f}{missed}"])
    return table(["size", *(f"{peer}, MiB" for peer in peers), "seqkern / torch"], rows)


def precision_table(results: Sequence[Result]) -> list[str]:
    """Return bfloat16 beside float32."""
    rows = [
        [
            result.name,
            *(timing_text(result.times[peer]) for peer in ("bfloat16", "float32")),
            mark(result.ratio("float32", "bfloat16"), BFLOAT16_TARGET),
            *(f"{result.gflops(peer):.0f}" for peer in ("bfloat16", "float32")),
        ]
        for result in results
    ]
    head = ["size", "bfloat16, ms", "float32, ms", "speed-up", "bfloat16, GFLOP/s"]
    return table([*head, "float32, GFLOP/s"], rows)


def tied_table(results: Sequence[Result]) -> list[str]:
    """Return time, and memory in units of the weight's size."""
    rows = []
    for result in results:
        weight = 4 * result.sizes["V"] * result.sizes["H"]
        for peer, memory in result.memory.items():
            time = timing_text(result.times[peer])
            rows.append([result.name, peer, time, f"{memory / weight:.2f}"])
    return table(["size", "", "ms", "peak memory / weight"], rows)


def markdown(facts: dict[str, Any], results: Sequence[Result], plot: str) -> str:
    """Return the whole page."""

    def group(name: str, body: Callable[[Sequence[Result]], list[str]]) -> list[str]:
        found = [result for result in results if result.group == name]
        return body(found) if found else ["Not measured."]

    return "\n".join(
        [
            "# Softmax losses on the CPU",
            "",
            f"`{facts['command']}`, {facts['date']}",
            "",
            f"- {machine_of(facts)}; load average before the run {facts['load_average_before']}",
            f"- {versions_of(facts)}",
            f"- forward + backward, all peers of a size in one process, in turns (A B B A): at "
            f"most {WARM_UP_RUNS} runs of warm-up, then at least 5 each; medians, with the "
            "distance of the quartiles in percent",
            "- targets: "
            + "; ".join(
                f"{name}: {eager:g} times torch, {other:g} times the best other"
                for name, (eager, other) in TARGETS.items()
            )
            + f"; bfloat16: {BFLOAT16_TARGET:g} times float32; extra memory: 1/8 of torch's",
            "",
            "What bounds them, and how much of torch's time is page faults: "
            "[softmax-cpu-tried.md](softmax-cpu-tried.md).",
            "",
            f"![Speed over the peers, by size]({plot})",
            "",
            "## The loss of logits",
            "",
            "float32. `torch` is F.cross_entropy, `torch.compile` the same, compiled.",
            "",
            *group("logits", times_table),
            "",
            "## The loss of a linear layer",
            "",
            "float32; gradients of hidden states and weight. `torch` is F.cross_entropy of F.linear"
            ", `torch chunked` F.linear_cross_entropy with LinearCrossEntropyOptions, by default "
            "and with batch_chunk_size 256 and 1024.",
            "",
            *group("linear", times_table),
            "",
            "Extra memory: the growth of the peak resident memory by one run in a fresh process, "
            "less the gradients that it returns.",
            "",
            *group("linear", memory_table),
            "",
            "## The linear loss in bfloat16",
            "",
            "Both seqkern's.",
            "",
            *group("bfloat16", precision_table),
            "",
            "## A weight that is the embedding, too",
            "",
            "Peak memory of a run, its result included, in units of the weight's size: `tied` is "
            "seqkern with functional.tie and a sparse embedding.",
            "",
            *group("tied", tied_table),
            "",
        ]
    )


def save_plot(results: Sequence[Result], path: Path) -> None:
    """Save bars of seqkern's speed over every peer's, a panel a group, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "", "font.size": 8})
    groups = [
        (name, [result for result in results if result.group == name])
        for name in TARGETS
        if any(result.group == name for result in results)
    ]
    figure = Figure(figsize=(7.2, 2.8 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
    for axes, (name, found) in zip(panels, groups, strict=True):
        peers = [peer for peer in found[0].times if peer != "seqkern"]
        width = 0.8 / len(peers)
        for index, peer in enumerate(peers):
            at = [i + width * (index - (len(peers) - 1) / 2) for i in range(len(found))]
            heights = [result.ratio(peer, "seqkern") for result in found]
            bars = axes.bar(at, heights, width, label=peer, color=colors[index])
            axes.bar_label(bars, fmt="%.1f", fontsize=6, padding=1)
        axes.axhline(1, color="black", linewidth=1)
        axes.set_xticks(range(len(found)), [result.name.replace(" ", "\n") for result in found])
        axes.set(title=f"{name}: time of the peer / time of seqkern", yscale="log")
        axes.margins(y=0.12)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main(arguments: list[str]) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the three files")
    parser.add_argument("--threads", type=int, default=2, help="of every peer (default 2)")
    parser.add_argument("--seconds", type=float, default=20.0, help="a size (default 20)")
    parser.add_argument("--only", default="", help="sizes whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; softmax-cpu-quick.*")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    facts = {"command": shlex.join(["python", *sys.argv[:1], *arguments]), **environment()}
    logits_sizes, linear_sizes, tied_sizes = LOGITS_SIZES, LINEAR_SIZES, TIED_SIZES
    if options.quick:
        logits_sizes, linear_sizes, tied_sizes = [(3, 50)], [(1024, 8, 4096)], (16, 64, 100_000)
    cases = [
        *(logits_case(*sizes) for sizes in logits_sizes),
        *(linear_case(*sizes) for sizes in linear_sizes),
        *(precision_case(*sizes) for sizes in linear_sizes),
        tied_case(*tied_sizes),
    ]
    results = []
    for case in cases:
        if options.only in str(case):
            how = {"linear": with_memory, "tied": tied_memory}.get(case.group, measure)
            results.append(how(case, options.seconds))
            times = {peer: round(t.median * 1e3, 2) for peer, t in results[-1].times.items()}
            print(f"{case}: {times}", file=sys.stderr, flush=True)
    if not results:
        parser.error(f"no case contains {options.only!r}")
    options.out.mkdir(parents=True, exist_ok=True)
    stem = "softmax-cpu-quick" if options.quick else "softmax-cpu"
    rows = ",\n".join(json.dumps(result.row()) for result in results)
    text = f'{{"facts": {json.dumps(facts)}, "results": [\n{rows}\n]}}\n'
    (options.out / f"{stem}.json").write_text(text)
    save_plot(results, options.out / f"{stem}.svg")
    page = markdown(facts, results, f"{stem}.svg")
    (options.out / f"{stem}.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(sys.argv[1:])
