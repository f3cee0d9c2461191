"""The experiments of docs/results/zoo.md, and how their runs are started."""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seqkern.tasks import PRESETS, task_class
from seqkern.training import JsonLog, Run
from seqkern.training.run import LOG

OURS, TORCH, NGRAMS = "seqkern", "torch", "n-grams"
INTERRUPTED = 130  # the status of a command that stopped at Ctrl-C

Event = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """A preset, and what it is run with."""

    preset: str
    data: str  # a path below the folder of all data, or the name of data that the task makes
    seeds: Sequence[int] = (0,)
    torch_epochs: int = 0  # of the run on torch's layers for each seed, 0: none
    torch_seconds: float = math.inf  # its longest time
    ngrams: Sequence[str] | None = None  # flags of name_baseline.py, None: not beside n-grams


TIME_MACHINE = "timemachine/timemachine.txt"

# What takes long stands last: a run with a limited time gets there when all else is done.
EXPERIMENTS = [
    Experiment("simple-rnnlm", "ptb", range(3), torch_epochs=100),
    Experiment("timemachine", TIME_MACHINE, range(3), torch_epochs=500),
    Experiment("timemachine-gru", TIME_MACHINE, range(3), torch_epochs=2),
    Experiment("names-gender", "names_gender_en", range(5), torch_epochs=2, ngrams=["--lower"]),
    Experiment("names-languages", "names_languages", range(5), torch_epochs=2, ngrams=["--lower"]),
    Experiment("names-transliterated", "names_transliterated", range(3), torch_epochs=2),
    Experiment("addition", "addition", range(3), torch_epochs=2),
    Experiment("addition-reversed", "addition", range(3), torch_epochs=2),
    Experiment("addition-peeky", "addition", range(3), torch_epochs=2),
    Experiment("addition-reversed-peeky", "addition", range(3), torch_epochs=2),
    Experiment("dates", "dates", range(3), torch_epochs=2),
    Experiment("dates-transformer", "dates"),
    Experiment("dates-plain", "dates"),
    Experiment("dates-peeky", "dates"),
    Experiment("dates-gnmt", "dates"),
    Experiment("names-by-language", "names_languages"),
    Experiment("restoration", "pydoc"),
    Experiment("sine", "sine"),
    Experiment("sine-mlp", "sine"),
    Experiment("cbow", "ptb"),
    Experiment("skip-gram", "ptb"),
    Experiment("rnnlm", "ptb", range(3), torch_epochs=1),
    Experiment("rnnlm-gru", "ptb", torch_epochs=1),
    Experiment("awd-small", "ptb", torch_epochs=1, torch_seconds=120),
    Experiment("better-rnnlm", "ptb", torch_epochs=1, torch_seconds=120),
    Experiment("awd-lstm", "ptb", torch_epochs=1, torch_seconds=120),
]


class Job(NamedTuple):
    """A run of an experiment: which seed, on whose layers, and the run's folder."""

    experiment: Experiment
    seed: int
    peer: str
    folder: Path


def jobs(experiments: Sequence[Experiment], runs: Path) -> Iterator[Job]:
    """The runs of all experiments; what is compared with a run comes right before it."""
    for one in experiments:
        peers = [TORCH] * (one.torch_epochs > 0) + [NGRAMS] * (one.ngrams is not None)
        for seed in one.seeds:
            for peer in (*peers, OURS):
                yield Job(one, seed, peer, runs / f"{one.preset}-{peer}-{seed}")


def events(folder: Path) -> list[Event]:
    """What the log of a run tells; nothing where there is none."""
    log = folder / LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def time_limit(job: Job) -> float:
    """The run's longest time, in seconds, where it is for the speed only."""
    return job.experiment.torch_seconds if job.peer == TORCH else math.inf


def finished(job: Job) -> bool:
    """Whether all epochs are done, or the time limit is up, and the test where there is one."""
    told = events(job.folder)
    reasons = [event["reason"] for event in told if event["event"] == "stop"]
    if reasons[-1:] != ["finished"] and (time_limit(job) == math.inf or reasons[-1:] != ["time"]):
        return False
    last = told[-1]["event"]
    return last == "test" or (last == "stop" and Run.open(job.folder).config.monitor == "train")


def command(job: Job, data_root: Path, machine: Sequence[str]) -> list[str]:
    """The `seqkern` command that begins the run of a job, or goes on with it."""
    one, sources = job.experiment, task_class(PRESETS[job.experiment.preset].task).sources
    data = ["--data", one.data if one.data in sources else str(data_root / one.data)]
    if (job.folder / "last.safetensors").exists():
        return ["train", "--resume", str(job.folder), *data, *machine]
    settings = ["--seed", str(job.seed), "--backend", job.peer]
    if job.peer == TORCH:
        settings += ["--epochs", str(one.torch_epochs)]
    return ["train", one.preset, "--out", str(job.folder), *data, *settings, *machine]


def start(arguments: Sequence[str]) -> int:
    """Run `seqkern ARGUMENTS`; returns its status."""
    command = [sys.executable, "-m", "seqkern.cli", *arguments]
    process = subprocess.Popen(command, start_new_session=True)  # so that Ctrl-C comes here only
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # it writes a checkpoint
        process.wait()
        return INTERRUPTED


def classify_ngrams(job: Job, data_root: Path) -> None:
    """Write the log of a run of name_baseline.py."""
    from name_baseline import row  # needs scikit-learn

    flags = {flag.removeprefix("--"): True for flag in job.experiment.ngrams or ()}
    options = {"lower": False, "balanced": False, **flags, "seed": job.seed}
    _, _, valid, test, *_ = row(str(data_root / job.experiment.data), **options)
    job.folder.mkdir(parents=True, exist_ok=True)
    log = JsonLog(job.folder / LOG)
    log({"event": "stop", "reason": "finished", "valid": {"accuracy": valid}})
    log({"event": "test", "test": {"accuracy": test}})


def run(
    experiments: Sequence[Experiment],
    runs: Path,
    data_root: Path,
    machine: Sequence[str],
    max_seconds: float,
) -> list[str]:
    """Start what is missing, one after the other, until the time is up; returns what failed."""
    deadline, failed = time.monotonic() + max_seconds, []
    for job in jobs(experiments, runs):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        if finished(job):
            continue
        if job.peer == NGRAMS:
            classify_ngrams(job, data_root)
            continue
        seconds = min(left, time_limit(job))
        limit = [] if seconds == math.inf else ["--max-seconds", str(seconds)]
        status = start([*command(job, data_root, machine), *limit])
        if status == INTERRUPTED:
            break
        if status != 0:
            failed.append(job.folder.name)
    return failed
