"""Run commands one after the other, each within its time, whatever becomes of the ones before."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

GRACE_SECONDS = 8.0  # between asking a process to stop and killing it
MOST_TRIES = 12
TAIL_LINES = 30
MARK = "\n##### "  # begins a stage in the log


@dataclass(frozen=True)
class Stage:
    """A command with a time limit.

    Parameters
    ----------
    name
        What the report calls it.
    command
        Makes the command, given the seconds it may take.
    limit
        Seconds at most.
    least
        Seconds that the stages before leave to it.
    needs
        Stages that must have passed.
    missing
        Why it cannot run here, if so.
    goes_on
        Whether it is started again where it fails, because it goes on where it stopped.
    folder, environment
        Where it runs, and variables besides this process's own.
    """

    name: str
    command: Callable[[float], Sequence[str]]
    limit: float
    least: float = 0.0
    needs: Sequence[str] = ()
    missing: str = ""
    goes_on: bool = False
    folder: Path = Path()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """What became of a stage: "passed", "failed", "out of time" or "not run"."""

    name: str
    outcome: str
    seconds: float = 0.0
    limit: float = 0.0
    note: str = ""
    tail: Sequence[str] = ()  # of what it printed, unless it passed


def run_command(stage: Stage, limit: float, log: Path) -> int | None:
    """Run a stage's command, appending what it prints; return its exit status, None: out of time.

    Out of time, it is interrupted, so that it can write what it has, and then killed with all that
    it started.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            stage.command(limit),
            cwd=stage.folder,
            env={**os.environ, **stage.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=os.setpgrp,
        )
        status: int | None = None
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return status


def run_stage(stage: Stage, seconds: float, log: Path) -> Record:
    """Run a stage within so many seconds, grace included."""
    limit = max(seconds - GRACE_SECONDS, 0.0)
    with log.open("a") as output:
        print(f"{MARK}{stage.name}, {limit:.0f} s", file=output)
    start = time.monotonic()
    status: int | None = None
    tries = 0
    while tries < (MOST_TRIES if stage.goes_on else 1) and time.monotonic() - start < limit:
        tries += 1
        try:
            status = run_command(stage, limit - (time.monotonic() - start), log)
        except OSError as error:  # no such command
            return Record(stage.name, "failed", note=str(error))
        if not status:
            break
    outcome = {0: "passed", None: "out of time"}.get(status, "failed")
    notes = [f"exit status {status}"] if status else []
    notes += [f"started {tries} times"] if tries > 1 else []
    tail = [] if outcome == "passed" else printed(log).splitlines()[-TAIL_LINES:]
    return Record(stage.name, outcome, time.monotonic() - start, limit, "; ".join(notes), tail)


def printed(log: Path) -> str:
    """Return what the last stage printed."""
    return log.read_text(errors="replace").rpartition(MARK)[2].partition("\n")[2]


def run_stages(stages: Sequence[Stage], seconds: float, log: Path) -> Iterator[Record]:
    """Run stages within so many seconds in all, and yield what became of each as it ends."""
    end = time.monotonic() + seconds
    outcomes: dict[str, str] = {}
    for number, stage in enumerate(stages):
        kept = sum(later.least for later in stages[number + 1 :] if not later.missing)
        allowed = min(stage.limit, end - time.monotonic() - kept)
        lacking = [name for name in stage.needs if outcomes.get(name, "passed") != "passed"]
        if stage.missing:
            record = Record(stage.name, "not run", note=stage.missing)
        elif lacking:
            record = Record(stage.name, "not run", note=f"for want of {', '.join(lacking)}")
        elif allowed <= GRACE_SECONDS:
            record = Record(stage.name, "not run", note="no time was left")
        else:
            record = run_stage(stage, allowed, log)
        outcomes[stage.name] = record.outcome
        yield record
