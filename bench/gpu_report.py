"""What gpu_check.py found, in Markdown, JSON and SVG; reads figures alone, and needs no seqkern.

    python bench/gpu_report.py docs/results/nvidia-h100-80gb-hbm3/gpu-check.json

writes the page and its plot anew, for which the machine with the GPU may lack matplotlib.
"""

import argparse
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from gpu_estimates import outcomes, predictions, published, synchronisation
from tables import by_group, grid_table, milliseconds, table, timing_text
from timing import Result

GRIDS = ("layers", "shapes")  # sections of points over N and H
COPY_SHARE = 0.9  # of a copy's bandwidth, which the loss of logits should reach, with its gradient
MOST_LISTED = 60  # rows of a list of points or failures
# Relative differences from torch that rounding may explain, over hundreds of steps and rows.
PLAUSIBLE = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1}


@dataclass(frozen=True)
class Row:
    """A measured point, as gpu_bench.py writes it."""

    end: str  # the point's name
    section: str
    precision: str
    sets: int
    target: float | None
    modes: Mapping[str, str]
    errors: Mapping[str, str]
    differences: Mapping[str, float]  # relative, from torch's results
    result: Result
    predicted: Mapping[str, float] = field(default_factory=dict)  # microseconds a step, by kernel

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Row":
        """Read a line."""
        return cls(**{**line, "result": Result.from_row(line["result"])})

    @property
    def compared(self) -> bool:
        """Whether there are times of seqkern and torch."""
        return self.has("seqkern", "torch")

    def has(self, *peers: str) -> bool:
        """Whether there are times of these peers."""
        return {*peers} <= {*self.result.times}

    def step(self, peer: str) -> float:
        """Return a peer's microseconds a time step."""
        return self.result.times[peer].median / self.result.sizes["T"] * 1e6

    def time(self, peer: str) -> str:
        """Return a peer's time, or a dash."""
        times = self.result.times
        return timing_text(times[peer]) if peer in times else "–"


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return what gpu_bench.py wrote; its last line may be cut short."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def unfinished(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the points that were begun and never ended, and why, where that is known."""
    ended = {line["end"] for line in lines if "end" in line}
    begun = [line["begin"] for line in lines if "begin" in line]
    why = {line["lost"]: line["error"] for line in lines if "lost" in line}
    return [f"{name}: {why.get(name, 'no word')}" for name in begun if name not in ended]


def page_of(data: Mapping[str, Any]) -> Path:
    """Return the name of the page: in a folder of the GPU, but for a dry run."""
    if data["device"] == "cpu":
        return Path("gpu-check-dry-run.md")
    gpu = re.sub(r"[^a-z0-9]+", "-", data["facts"]["gpu"].lower()).strip("-")
    return Path(gpu) / "gpu-check.md"


def cut(lines: list[str]) -> list[str]:
    """Shorten a list, and say so."""
    left = len(lines) - MOST_LISTED
    return [*lines[:MOST_LISTED], f"- and {left} more"] if left > 0 else lines


def cell_text(text: str) -> str:
    """Return text that may stand in a table or list."""
    return " ".join(text.replace("|", "\\|").split())


def environment(data: Mapping[str, Any], build: Mapping[str, Any]) -> list[str]:
    """Return the machine and the versions."""
    facts = data["facts"]

    def said(state: Mapping[str, str]) -> str:
        return ", ".join(f"{key} {value}" for key, value in state.items()) or "nvidia-smi not there"

    lines = []
    if facts.get("gpu"):
        lines += [
            f"- {facts['gpu']}: compute capability {facts['capability']}, "
            f"{facts['multiprocessors']} multiprocessors, {facts['memory_gib']} GiB, "
            f"L2 {facts['l2_mb']} MB",
            f"- before: {said(facts['idle'])}",
            f"- after the benchmarks: {said(data.get('after') or {})}",
            f"- measured ceilings: a copy moves {facts['copy_tb_per_s']} TB/s (read and written), "
            f"products of size 8192 run at {facts['bf16_tflops']} TFLOP/s in bf16, "
            f"{facts['tf32_tflops']} in TF32",
        ]
    names = ("torch", "cuda", "cudnn", "nvcc", "python")
    lines.append("- " + ", ".join(f"{name} {facts[name]}" for name in names if name in facts))
    built = ("seqkern", "compiler", "cuda_version", "cuda_architectures", "cpu")
    lines.append("- " + (", ".join(f"{k} {build[k]}" for k in built if k in build) or "no build"))
    return lines


def stages(data: Mapping[str, Any]) -> list[str]:
    """Return a row a stage."""
    rows = [
        [s["name"], s["outcome"], f"{s['seconds']:.0f}", f"{s['limit']:.0f}", cell_text(s["note"])]
        for s in data["stages"]
    ]
    return table(["stage", "outcome", "seconds", "limit", ""], rows)


def tests(data: Mapping[str, Any]) -> list[str]:
    """Return the counts, and what failed."""
    kinds = ("passed", "failed", "skipped")
    rows = [[name, *(str(found[kind]) for kind in kinds)] for name, found in data["tests"].items()]
    failures = [
        f"- `{failure['test']}`: {cell_text(failure['message'])}"
        for found in data["tests"].values()
        for failure in found["failures"]
    ]
    if not rows:
        return ["No results."]
    return [*table(["", *kinds], rows), *([""] if failures else []), *cut(failures)]


def sanitizers(data: Mapping[str, Any]) -> list[str]:
    """Return what each tool of compute-sanitizer said."""
    rows = [
        [tool, cell_text("; ".join(found["summary"]) or "no summary"), found["covered"] or "–"]
        for tool, found in data["sanitizers"].items()
    ]
    return table(["tool", "summary", "runs of gpu_sanitize.py"], rows) if rows else ["Not run."]


def targets(rows: Sequence[Row]) -> list[str]:
    """Return the points that have a target."""
    head = ["", "size", "seqkern, ms", "target, ms", "", "torch, ms", "µs a step", "torch's"]
    lines = []
    for row in rows:
        if row.target is None:
            continue
        ours, theirs = (peer in row.result.times for peer in ("seqkern", "torch"))
        met = ours and row.result.times["seqkern"].median <= row.target
        lines.append(
            [
                row.result.group,
                row.result.name,
                row.time("seqkern"),
                milliseconds(row.target),
                "met" if met else "**missed**",
                row.time("torch"),
                f"{row.step('seqkern'):.2f}" if ours else "–",
                f"{row.step('torch'):.2f}" if theirs else "–",
            ]
        )
    return table(head, lines) if lines else ["Not measured."]


def speedups(rows: Sequence[Row]) -> list[str]:
    """Return geometric means by cell and precision, and how many points are slower than torch."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.section in GRIDS and row.compared:
            kind, _, of_pass = row.result.group.rpartition(", ")
            found.setdefault(kind, {}).setdefault(of_pass, []).append(row.result.speedup)
    passes = ("forward", "forward + backward")
    lines = []
    for kind, by_pass in found.items():
        ratios = [ratio for of_pass in by_pass.values() for ratio in of_pass]
        texts = (
            f"{geometric_mean(by_pass[p]):.2f} ({min(by_pass[p]):.2f} to {max(by_pass[p]):.2f})"
            if p in by_pass
            else "–"
            for p in passes
        )
        slower = sum(ratio < 1 for ratio in ratios)
        lines.append([kind, *texts, f"{slower} of {len(ratios)}"])
    return table(["", *passes, "slower than torch"], lines) if lines else ["Not measured."]


def slower(rows: Sequence[Row]) -> list[str]:
    """Return the points at which torch is faster, the worst first."""
    found = [row for row in rows if row.compared and row.result.speedup < 1]
    return cut(
        [
            f"- {row.end}: {row.result.speedup:.2f} "
            f"({row.time('seqkern')} against {row.time('torch')} ms)"
            for row in sorted(found, key=lambda row: row.result.speedup)
        ]
    ) or ["None."]


def logits(rows: Sequence[Row]) -> list[str]:
    """Return the loss of logits beside torch's and a copy of as many bytes."""
    head = ["", "size", "seqkern, ms", "torch, ms", "speed-up", "copy, ms", "of its bandwidth", ""]
    lines = []
    for row in rows:
        if row.section != "logits":
            continue
        share = row.result.ratio("copy", "seqkern") if row.has("copy", "seqkern") else None
        verdict = "–"
        if share is not None and row.result.group.endswith("backward"):
            verdict = "met" if share >= COPY_SHARE else "**missed**"
        lines.append(
            [
                row.result.group,
                row.result.name,
                row.time("seqkern"),
                row.time("torch"),
                f"{row.result.speedup:.2f}" if row.compared else "–",
                row.time("copy"),
                "–" if share is None else f"{share:.0%}",
                verdict,
            ]
        )
    return table(head, lines) if lines else ["Not measured."]


def least_table(
    rows: Sequence[Row],
    unit: str,
    values: Callable[[Row], Mapping[str, float]],
    text: Callable[[Row, str], str],
) -> list[str]:
    """Return a row a point with the value of each peer, the least one in bold."""
    if not rows:
        return ["Not measured."]
    peers = list(dict.fromkeys(p for row in rows for p in (*row.result.times, *row.errors)))
    lines = []
    for row in rows:
        known = values(row)
        least = min(known, key=known.__getitem__, default=None)
        texts = {peer: text(row, peer) if peer in known else "–" for peer in peers}
        cells = (f"**{texts[peer]}**" if peer == least else texts[peer] for peer in peers)
        lines.append([row.result.group, row.result.name, *cells])
    return table(["", "size", *(f"{peer}, {unit}" for peer in peers)], lines)


def peers_table(rows: Sequence[Row]) -> list[str]:
    """Return the times of the peers."""

    def medians(row: Row) -> dict[str, float]:
        return {peer: timing.median for peer, timing in row.result.times.items()}

    return least_table(rows, "ms", medians, Row.time)


def memory_table(rows: Sequence[Row]) -> list[str]:
    """Return the peak memory of the peers."""

    def mebibytes(row: Row, peer: str) -> str:
        return f"{row.result.memory[peer] / 2**20:.0f}"

    return least_table(rows, "MiB", lambda row: row.result.memory, mebibytes)


def words(rows: Sequence[Row]) -> list[str]:
    """Return words a second, and what they move of what a copy does."""
    head = ["", "size", "words/s", "CPU, words/s", "speed-up", "moved, TB/s"]
    lines = []
    for row in rows:
        if row.section != "words":
            continue
        sizes, times = row.result.sizes, row.result.times
        rate = {peer: sizes["words"] / timing.median for peer, timing in times.items()}
        ours, cpu = rate.get("seqkern"), rate.get("cpu")
        moved = None if ours is None else ours * sizes["rows"] * sizes["d"] * 4 / 1e12
        lines.append(
            [
                row.result.group,
                row.result.name,
                "–" if ours is None else f"{ours / 1e6:.1f} M",
                "–" if cpu is None else f"{cpu / 1e6:.2f} M",
                "–" if ours is None or cpu is None else f"{ours / cpu:.1f}",
                "–" if moved is None else f"{moved:.2f}",
            ]
        )
    return table(head, lines) if lines else ["Not measured."]


def layers(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table over N and H for each cell, precision and pass."""
    by_result = {id(row.result): row for row in rows if row.section in GRIDS and row.compared}

    def text(results: list[Result]) -> str:
        if not results:
            return "–"
        (row,) = (by_result[id(result)] for result in results)
        return f"{row.result.speedup:.2f}: {row.step('seqkern'):.2f} / {row.step('torch'):.2f}"

    groups = by_group([row.result for row in by_result.values()])
    if not groups:
        yield "Not measured."
    for name, group in groups.items():
        yield from (f"### {name}", "", *grid_table(group, text), "")


def training(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what each training gave and took, and how far it came."""
    speed = {
        (record["preset"], record["dtype"], record["peer"]): of_machine
        for record in records
        for of_machine in record["speeds"].values()
    }
    lines = []
    for record in records:
        preset, dtype, peer = (record[key] for key in ("preset", "dtype", "peer"))
        score, figures = record["score"], record["figures"] or {}
        ours, theirs = (speed.get((preset, dtype, of)) for of in (peer, "torch"))
        lines.append(
            [
                preset,
                dtype,
                peer,
                f"{record['epoch']} of {record['epochs']}"
                + ("" if record["finished"] else ", **time was up**"),
                f"{record['split']} {score} {figures[score]:.2f}" if score in figures else "–",
                f"{record['seconds']:.0f}",
                f"{ours:,.0f} {record['unit']}/s" if ours else "–",
                f"{ours / theirs:.2f}" if ours and theirs else "–",
            ]
        )
    head = ["preset", "dtype", "on", "epochs", "result", "seconds", "speed", "of torch's"]
    return table(head, lines) if lines else ["Not run."]


def remarks(data: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Return what a reader of the figures must know: what is not measured, or not as said."""
    lost, planned = data["unfinished"], data["planned"]
    lines = [f"- {len(rows)} of {planned} points were measured, the most important first"]
    lines += [f"- hung or took the process down: {cell_text(name)}" for name in lost]
    eager = [
        f"- called eagerly, for it could not be captured: {row.end}, {peer}"
        for row in rows
        for peer, mode in row.modes.items()
        if mode == "eager"
    ]
    differing = [
        f"- **results differ**, by {difference:.2g}: {row.end}, {peer}"
        for row in rows
        for peer, difference in row.differences.items()
        if not difference <= PLAUSIBLE[row.precision]  # NaN too
    ]
    failed: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for peer, error in row.errors.items():
            failed.setdefault((peer, error), []).append(row.end)
    errors = [
        f"- {peer} raised {cell_text(error)}: {len(names)} points, such as {names[0]}"
        for (peer, error), names in failed.items()
    ]
    known: dict[str, float] = {}
    for row in rows:
        for difference in row.differences.values():
            known[row.precision] = max(known.get(row.precision, 0.0), difference)
    greatest = ", ".join(f"{precision} {most:.2g}" for precision, most in known.items())
    lines.append(f"- greatest relative difference from torch's results: {greatest or 'unknown'}")
    return [*lines, *cut(differing), *cut(errors), *cut(eager)]


def summary(data: Mapping[str, Any]) -> list[str]:
    """Return the head of the page: what passed, and the sums of the figures."""
    rows = [Row.of(line) for line in data["rows"]]
    dry = data["device"] == "cpu"
    title = "Dry run of the GPU check: no GPU, the times mean nothing" if dry else "GPU check"
    return [
        f"# {title}" if dry else f"# {title}: {data['facts']['gpu']}",
        "",
        *(
            f"- `{one['command']}`, {one['date']}, commit {one['commit']}"
            for one in data["commands"]
        ),
        "",
        *environment(data, data["build"]),
        "",
        *stages(data),
        "",
        "## Tests on the device",
        "",
        *tests(data),
        "",
        "## compute-sanitizer",
        "",
        *sanitizers(data),
        "",
        "## Handing on data from block to block",
        "",
        "Microseconds of a step in which every block writes its part of so many bytes and reads "
        "all of them, once they are there (`bench/synchronisation.cuh`); in brackets the distance "
        "of the least and the greatest of the launches, then what `cuda/recurrent_plan.cu` "
        "expects, where it knows the way. The recurrence of H = 768, N = 16 in bf16 hands on "
        "24 KiB.",
        "",
        *synchronisation(data["synchronisation"]),
        "",
        "## Targets",
        "",
        *targets(rows),
        "",
        "## Published figures",
        "",
        "Of others, on an H100, for the same LSTM: forward / forward + backward.",
        "",
        *published(rows),
        "",
        "## Speed-up over torch.nn and cuDNN",
        "",
        "One layer, one direction and T = 256 where nothing else is said. Geometric mean, least "
        "and greatest over the sizes measured.",
        "",
        *speedups(rows),
        "",
        "## Training",
        "",
        "`seqkern train PRESET`, on torch with `--backend torch`, the same seed: perplexity on the "
        "test part with the parameters of the best epoch, the time of training and validation, and "
        "the median speed of an epoch, without validation. Products of float32 may be rounded to "
        "TF32, on seqkern and on torch alike.",
        "",
        *training(data["training"]),
        "",
        "## Remarks",
        "",
        *remarks(data, rows),
        "",
    ]


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Draw the speed-ups over H, a row of panels a cell and precision; whether there is a plot."""
    groups = by_group([row.result for row in rows if row.section == "layers" and row.compared])
    if not groups or importlib.util.find_spec("matplotlib") is None:
        return False
    from plot import Panel, save_panels

    kinds = dict.fromkeys(name.rpartition(", ")[0] for name in groups)
    titles = [[f"{kind}, {way}" for way in ("forward", "forward + backward")] for kind in kinds]
    save_panels([[Panel(t, groups.get(t, [])) for t in of_kind] for of_kind in titles], path)
    return True


def markdown(data: Mapping[str, Any], plot: str = "") -> str:
    """Return the whole page; ``plot`` is the name of its plot's file, if there is one."""
    rows = [Row.of(line) for line in data["rows"]]
    linear = [row for row in rows if row.section in ("linear", "others")]
    how = (
        "Times are medians by CUDA events of graph replays, with the distance of the quartiles in "
        "percent; all peers in one process, in turns (A B B A), after a warm-up. Copies of a "
        "point's tensors are used in turn, so that a call does not find its own in the L2 cache. "
        "tf32: TF32 products allowed for cuBLAS and cuDNN alike. `forward` runs under no_grad in "
        "eval mode; `forward + backward` yields the gradients of input and parameters."
    )
    lines = [
        *summary(data),
        *(
            [f"![Speed-up over torch.nn by cell, precision and pass, over H]({plot})", ""]
            * bool(plot)
        ),
        "## How it was measured",
        "",
        how,
        "",
        "## Points slower than torch",
        "",
        *slower(rows),
        "",
        "## The loss of logits",
        "",
        "Beside `F.cross_entropy`, and a copy of as many bytes as the loss must move: it reads "
        "logits once, and writes their gradient once. With the gradient, "
        f"{COPY_SHARE:.0%} of the copy's bandwidth are the target.",
        "",
        *logits(rows),
        "",
        "## The loss of a linear layer",
        "",
        "Gradients of hidden states and weight. `torch` is `F.cross_entropy` of `F.linear`, `torch "
        "chunked` is `F.linear_cross_entropy` with LinearCrossEntropyOptions, by default and with "
        "batch_chunk_size 256 and 1024. In the rows with QuACK, Liger or Cut Cross-Entropy (by "
        "default and exact), all peers are called without a graph, for some wait for the device.",
        "",
        *peers_table(linear),
        "",
        "Peak device memory of a call above what was there before; the gradients are part of it.",
        "",
        *memory_table(linear),
        "",
        "## Word vectors",
        "",
        "Window 5, 5 negatives, all words stay; rows: so many rows of d floats are read or written "
        "for a word if none is kept from one word to the next, and `moved` are their bytes, to be "
        "compared with the copy above (frequent rows come from the L2 cache). Called, not "
        "captured.",
        "",
        *words(rows),
        "",
        "## Recurrent kernels",
        "",
        "seqkern's kernels, each selected by `seqkern.cuda.recurrent_kernel`, and torch.",
        "",
        *peers_table([row for row in rows if row.section == "tuning"]),
        "",
        "## Token ids",
        "",
        "Beside torch's layer on `one_hot(ids, V)`, which is part of its time.",
        "",
        *peers_table([row for row in rows if row.section == "tokens"]),
        "",
        "## Layers",
        "",
        "D = H, and T = 256 where nothing else is said. Speed-up: microseconds a time step of "
        "seqkern / of torch. Sequences of unequal lengths are called, not captured: torch packs "
        "them, and copies lengths from the host.",
        "",
        *layers(rows),
        "## Beside FlashRNN",
        "",
        "FlashRNN's kernels (the fused ones, but for the GRU, which has none) with the product of "
        "the input before them, on torch's parameters; all called, not captured. It compiles its "
        "kernels at the first call of a size, which is not timed.",
        "",
        *peers_table([row for row in rows if row.section == "FlashRNN"]),
        "",
        "## Predictions and outcomes",
        "",
        "Microseconds a time step of one layer, products over all steps included: as "
        "`cuda/recurrent_plan.cu` predicts it, by which a kernel is chosen, and as measured.",
        "",
        *outcomes(rows),
        "",
        "### Each point",
        "",
        *predictions(rows),
        "",
    ]
    failed = [stage for stage in data["stages"] if stage["tail"]]
    for stage in failed:
        lines += [f"## End of the log of {stage['name']}", "", "```", *stage["tail"], "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def json_text(data: Mapping[str, Any]) -> str:
    """Return JSON with a line a point."""
    head = json.dumps({key: value for key, value in data.items() if key != "rows"}, indent=1)
    rows = ",\n".join(json.dumps(row) for row in data["rows"])
    return f'{head[:-2]},\n "rows": [\n{rows}\n]}}\n'


def write(data: Mapping[str, Any], folder: Path) -> Path:
    """Write page, JSON and plot below a folder, and return the page."""
    page = folder / page_of(data)
    page.parent.mkdir(parents=True, exist_ok=True)
    plot = page.with_suffix(".svg")
    drawn = draw([Row.of(line) for line in data["rows"]], plot)
    page.write_text(markdown(data, plot.name if drawn else ""))
    page.with_suffix(".json").write_text(json_text(data))
    return page


def main(arguments: list[str]) -> None:
    """Write the page and the plot of a JSON file anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, help="gpu-check.json in the folder of the GPU")
    file = parser.parse_args(arguments).results
    data = json.loads(file.read_text())
    print(write(data, file.parents[len(page_of(data).parts) - 1]))


if __name__ == "__main__":
    main(sys.argv[1:])
