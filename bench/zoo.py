"""Train the experiments of the model zoo, and write docs/results/zoo.md from their runs.

    python bench/zoo.py run --data-root FOLDER --out RUNS --threads 1 --max-seconds 3600
    python bench/zoo.py table RUNS --out docs/results

`run` starts what is missing of the runs listed in zoo_runs.py, and goes on with what was
interrupted; it writes nothing but the runs' folders in RUNS. `table` writes zoo.json, what the
page tells of each run, and from it zoo.md and zoo.svg (curves). Runs of an earlier zoo.json that
are not in RUNS keep their place.
"""

import argparse
import json
import math
import shutil
import signal
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tables import table
from zoo_runs import EXPERIMENTS, NGRAMS, OURS, TORCH, Experiment, Job, events, finished, jobs, run

from seqkern.cli.show import read_curves
from seqkern.tasks import PRESETS, preset_config
from seqkern.training import Run
from seqkern.training.progress import figure, figures
from seqkern.training.run import LOG

Record = dict[str, Any]
SPLITS = {"train": "training", "valid": "validation", "test": "test"}
CURVE_POINTS = 100  # of a run, about


def record(job: Job, out: Path) -> Record:
    """What the page tells of a run; ValueError where it is not the run of its job."""
    found = told_by(job)
    if job.peer == NGRAMS:
        return found
    run = Run.open(job.folder)
    check(job, run)
    return {
        **found,
        "curve": curve(run) if job.peer == OURS else [],
        "shown": samples(job, run, out) if job.peer == OURS and found["epoch"] else [],
    }


def told_by(job: Job) -> Record:
    """What the folder of a run tells, in figures."""
    one, told, done = job.experiment, events(job.folder), finished(job)
    found = {"preset": one.preset, "data": one.data, "peer": job.peer, "seed": job.seed}
    if job.peer == NGRAMS:
        return {**found, "finished": done, "split": "test", "figures": told[-1]["test"]}
    run = Run.open(job.folder)
    epochs = [event for event in told if event["event"] == "epoch"]
    best = next((event for event in reversed(epochs) if event["improved"]), {})
    tested = done and told[-1]["event"] == "test"
    # From the end of a session to the start of the next, nothing is trained.
    active = [(a, b) for a, b in pairwise(told) if b["event"] in ("step", "epoch", "stop")]
    return {
        **found,
        "finished": done,
        "epoch": epochs[-1]["epoch"] if epochs else 0,
        "epochs": run.config.epochs,
        "trained": trained(told) / run.config.epochs,
        "split": "test" if tested else run.config.monitor,
        "figures": told[-1]["test"] if tested else best.get(run.config.monitor),
        "seconds": sum(b["time"] - a["time"] for a, b in active),
        "unit": run.task.unit,
        "speeds": speeds(told, f"{run.task.unit}_per_second"),
        "score": run.task.score,
        "monitor": run.config.monitor,
    }


def curve(run: Run) -> list[tuple[int, float]]:
    """Epochs and their score, the last among them."""
    points = read_curves(run.folder / LOG).get(run.task.score, {}).get(run.config.monitor, [])
    return points[:: -math.ceil(len(points) / CURVE_POINTS)][::-1] if points else []


def trained(told: Sequence[Record]) -> float:
    """Epochs done, with the part of the one begun, by the last step that was reported."""
    steps = [event for event in told if event["event"] in ("step", "epoch")]
    if not steps or steps[-1]["event"] == "epoch":
        return steps[-1]["epoch"] if steps else 0
    return steps[-1]["epoch"] - 1 + steps[-1]["iteration"] / steps[-1]["iterations"]


def check(job: Job, run: Run) -> None:
    """ValueError if the settings of a run are not those of its job."""
    one = job.experiment
    epochs = one.torch_epochs if job.peer == TORCH else preset_config(one.preset).epochs
    settings = {"seed": job.seed, "backend": job.peer, "epochs": epochs}
    for name, wanted in {**PRESETS[one.preset].settings, **settings}.items():
        if name != "data" and (given := getattr(run.config, name)) != wanted:
            raise ValueError(f"{name} of run {job.folder} must be {wanted}, got {given}")


def speeds(told: Sequence[Record], name: str) -> dict[str, float]:
    """The median speed of the epochs on each machine; or that of the one begun."""
    found, begun, machine = defaultdict(list), {}, ""
    for event in told:
        if event["event"] == "start":
            machine = ", ".join(f"{fact} {value}" for fact, value in event["machine"].items())
        elif event["event"] == "epoch":
            found[machine].append(event[name])
        elif event["event"] == "step":
            begun[machine] = event[name]
    medians = {machine: statistics.median(values) for machine, values in found.items()}
    return {machine: speed for machine, speed in {**begun, **medians}.items() if machine}


def mean_and_range(values: Sequence[float]) -> str:
    """The mean; of several values, the least and the greatest in brackets."""
    mean = figure(statistics.fmean(values))
    return mean if len(values) == 1 else f"{mean} ({figure(min(values))} to {figure(max(values))})"


def result(records: Sequence[Record]) -> str:
    """Figures over the seeds of finished runs; how far others are."""
    done = [r for r in records if r["finished"]]
    parts = [
        f"{SPLITS[done[0]['split']]} {name} {mean_and_range([r['figures'][name] for r in done])}"
        for name in (done[0]["figures"] if done else ())
    ]
    for r in records:
        if not r["finished"]:
            sofar = f", {SPLITS[r['split']]} {figures(r['figures'])} so far" if r["figures"] else ""
            parts.append(f"seed {r['seed']}: epoch {r['epoch']} of {r['epochs']}{sofar}")
    return "; ".join(parts)


def beside(experiment: Experiment, by_peer: dict[str, list[Record]]) -> str:
    """Results of what the experiment is compared with."""
    parts = []
    if by_peer[TORCH]:
        epochs, seconds = experiment.torch_epochs, experiment.torch_seconds
        length = f"{epochs} epoch{'s' * (epochs > 1)}" if seconds == math.inf else f"{seconds:g} s"
        whole = seconds == math.inf and epochs == preset_config(experiment.preset).epochs
        told = result(by_peer[TORCH]) if whole else "for the speed only"
        parts.append(f"torch.nn, {length}: {told}")
    if by_peer[NGRAMS]:
        parts.append(f"n-grams, logistic regression: {result(by_peer[NGRAMS])}")
    return "; ".join(parts)


def speed(by_peer: dict[str, list[Record]], letters: dict[str, str]) -> str:
    """Medians over the runs on each machine, and the ratio where torch ran on it, too."""
    parts = []
    for machine, letter in letters.items():
        ours, theirs = (
            [r["speeds"][machine] for r in by_peer[peer] if machine in r["speeds"]]
            for peer in (OURS, TORCH)
        )
        if ours:
            median = statistics.median(ours)
            ratio = f", {median / statistics.median(theirs):.2f} times torch.nn's" if theirs else ""
            parts.append(f"{letter}: {median:,.0f} {by_peer[OURS][0]['unit']}/s{ratio}")
    return "; ".join(parts)


def row(experiment: Experiment, records: Sequence[Record], letters: dict[str, str]) -> list[str]:
    """An experiment's line of the table."""
    by_peer = {p: [r for r in records if r["peer"] == p] for p in (OURS, TORCH, NGRAMS)}
    seeds = ", ".join(str(r["seed"]) for r in by_peer[OURS])
    return [
        f"`seqkern train {experiment.preset} --data {experiment.data}`",
        seeds,
        PRESETS[experiment.preset].expected,
        result(by_peer[OURS]),
        beside(experiment, by_peer),
        duration(by_peer[OURS]),
        speed(by_peer, letters),
    ]


def duration(records: Sequence[Record]) -> str:
    """The mean time of finished runs; without any, that so far and at this pace."""
    if times := [r["seconds"] for r in records if r["finished"]]:
        return f"{statistics.fmean(times):,.0f} s"
    longest = max(records, key=lambda r: r["trained"])
    if not longest["trained"]:
        return ""
    seconds = longest["seconds"]
    return f"{seconds:,.0f} s so far, {seconds / longest['trained'] / 3600:,.1f} h at this pace"


def samples(job: Job, run: Run, out: Path) -> list[str]:
    """Of an experiment's first run: what `seqkern show` prints, and its attention, as lines."""
    preset = job.experiment.preset
    if job.seed != job.experiment.seeds[0]:
        return []
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        text = run.task.show(run, Path(folder))
        attention = Path(folder) / "attention-4.png"
        if attention.exists():
            picture = out / f"zoo-{preset}.png"
            shutil.copy(attention, picture)
            lines = ["", f"![attention of {preset}]({picture.name})"]
    if text:
        lines = ["", "```text", *text.splitlines(), "```", *lines]
    return ["", f"### {preset}, seed {job.seed}", *lines] if lines else []


def page(experiments: Sequence[Experiment], records: Sequence[Record]) -> str:
    """The whole page."""
    machines = list(dict.fromkeys(m for r in records for m in r.get("speeds", ())))
    letters = {machine: chr(ord("A") + i) for i, machine in enumerate(machines)}
    head = ["command", "seeds", "expected", "result", "beside", "time of a run", "speed"]
    rows, missing = [], []
    for one in experiments:
        found = [r for r in records if r["preset"] == one.preset]
        if any(r["peer"] == OURS for r in found):
            rows.append(row(one, found, letters))
        else:
            missing.append(one.preset)
    return "\n".join(
        [
            "# Model zoo",
            "",
            "Made by `python bench/zoo.py table RUNS --out docs/results` from the folders of runs "
            "that `python bench/zoo.py run --data-root FOLDER --out RUNS` trained; zoo.json keeps "
            "what the page tells of a run.",
            "",
            "- A result is the mean over the seeds, with the range, of the parameters of the best "
            "epoch: on the test part, or in training where the preset has no other part.",
            "- A time is that of training with its validation, without the start of the program.",
            "- A speed is the median over the epochs, validation left out, or that of the epoch "
            "begun where none is done; torch.nn's is that of "
            "the same model on torch.nn and F.cross_entropy (`--backend torch`), trained on the "
            "same machine right before it.",
            *(f"- {letter}: {machine}" for machine, letter in letters.items()),
            *([f"- Not run: {', '.join(missing)}."] if missing else []),
            "",
            *table(head, rows),
            "",
            "![curves](zoo.svg)",
            "",
            "## Samples",
            "",
            "What `seqkern show RUN` prints and draws of the first runs.",
            *(line for r in records for line in r.get("shown", ())),
            "",
        ]
    )


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw the curves, a panel an experiment and a line a seed, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "", "font.size": 8})
    matplotlib.rcParams["font.sans-serif"] = ["DejaVu Sans"]
    panels = defaultdict(list)
    for r in records:
        if r.get("curve"):
            panels[r["preset"]].append(r)
    rows = math.ceil(len(panels) / 3)
    picture = Figure(figsize=(9, 2.4 * max(rows, 1)), layout="constrained")
    for place, (preset, found) in enumerate(panels.items(), 1):
        axes = picture.add_subplot(rows, 3, place)
        for r in found:
            marker = "." if len(r["curve"]) <= 10 else ""
            axes.plot(*zip(*r["curve"], strict=True), marker=marker, label=f"seed {r['seed']}")
        ylabel = f"{SPLITS[found[0]['monitor']]} {found[0]['score']}"
        axes.set(title=preset, xlabel="epoch", ylabel=ylabel)
        axes.legend()
    picture.savefig(path, metadata={"Date": None})


def write_table(experiments: Sequence[Experiment], runs: Path, out: Path) -> None:
    """Write zoo.json, zoo.md and zoo.svg."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "zoo.json"
    earlier = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    known = {(r["preset"], r["peer"], r["seed"]): r for r in earlier}
    records = []
    for job in jobs(experiments, runs):
        name = job.experiment.preset, job.peer, job.seed
        if events(job.folder):
            records.append(record(job, out))
        elif name in known:
            records.append(known[name])
    if not records:
        raise ValueError(f"folder {runs} holds no run of an experiment")
    lines = ",\n".join(json.dumps(r, ensure_ascii=False) for r in records)
    kept.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (out / "zoo.md").write_text(page(experiments, records), encoding="utf-8")
    draw(records, out / "zoo.svg")


def chosen(only: Sequence[str] | None) -> list[Experiment]:
    """The experiments of some presets, or all; ValueError where there is none or no preset."""
    known = [one.preset for one in EXPERIMENTS]
    if unknown := [p for p in only or known if p not in known or p not in PRESETS]:
        raise ValueError(f"no experiment, or no preset: {', '.join(unknown)}")
    return [one for one in EXPERIMENTS if not only or one.preset in only]


def main(arguments: Sequence[str]) -> int:
    """Train, or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("run", help="train what is missing")
    train.add_argument("--data-root", type=Path, required=True, help="folder of all data")
    train.add_argument("--out", type=Path, required=True, help="folder of the runs' folders")
    train.add_argument("--max-seconds", type=float, default=math.inf, help="of all runs together")
    train.add_argument("--threads", default="1", help="of every run (default 1)")
    train.add_argument("--device", default="cpu", help="of every run (default cpu)")
    write = commands.add_parser("table", help="write the table")
    write.add_argument("runs", type=Path, help="folder of the runs' folders")
    write.add_argument("--out", type=Path, required=True, help="folder of the files")
    train.add_argument("--only", nargs="+", metavar="PRESET", help="these (default: all)")
    args = parser.parse_args(arguments)
    if args.command == "table":
        write_table(EXPERIMENTS, args.runs, args.out)
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if started in the background
    machine = ["--threads", args.threads, "--device", args.device]
    failed = run(chosen(args.only), args.out, args.data_root, machine, args.max_seconds)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
