"""Train the book's language models on seqkern and on torch, one run after the other.

    python bench/gpu_training.py --data FOLDER --out build/training.json --seconds 500

Every run is `seqkern train PRESET`, on torch with `--backend torch`, and with the same seed; the
first of a pair takes at most half of the time that is left. A run whose time is up is tested where
it stands, and goes on from there when this is called again with the same --out.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import told_by
from zoo_runs import INTERRUPTED, OURS, TORCH, Experiment, Job, command, events, finished, start

from seqkern.tasks import preset_config

# What is trained: the short one first, and float32 before the rest.
PAIRS = [
    ("rnnlm", "float32"),
    ("better-rnnlm", "float32"),
    ("rnnlm", "bfloat16"),
    ("better-rnnlm", "bfloat16"),
]
# Of a run besides its training: the program's start, the data, the test.
OVERHEAD_SECONDS = 15.0
LEAST_SECONDS = 5.0  # of training, for which a run is begun


@dataclass(frozen=True)
class Training:
    """A run, and the dtype of its layers' arithmetic."""

    job: Job
    dtype: str

    def arguments(self, data: Path, device: str, seconds: float) -> list[str]:
        """Return those of `seqkern`, to begin or to go on; on a CPU an epoch is enough to see."""
        arguments = command(self.job, data.parent, ["--device", device])
        if "--resume" not in arguments:
            arguments += ["--dtype", self.dtype, *(["--epochs", "1"] if device == "cpu" else [])]
        return [*arguments, "--max-seconds", f"{seconds:.0f}"]

    def told(self) -> dict[str, Any]:
        """Return what the run's log tells; the test's figures also where its time was up."""
        found = {**told_by(self.job), "dtype": self.dtype}
        last = events(self.job.folder)[-1]
        return {**found, "split": "test", "figures": last["test"]} if "test" in last else found


def trainings(data: Path, runs: Path) -> list[Training]:
    """Return the runs in their order; what is compared stands side by side."""
    found = []
    for preset, dtype in PAIRS:
        one = Experiment(preset, data.name, torch_epochs=preset_config(preset).epochs)
        for peer in (OURS, TORCH):
            job = Job(one, one.seeds[0], peer, runs / f"{preset}-{dtype}-{peer}")
            found.append(Training(job, dtype))
    return found


def share(number: int, left: float) -> float:
    """Return the seconds of training that a run may take, of those that are left."""
    own = left / 2 if number % 2 == 0 else left  # the first of a pair, or the second
    return own - OVERHEAD_SECONDS


def train(planned: Sequence[Training], data: Path, device: str, seconds: float, out: Path) -> int:
    """Run what is not finished, and write what all logs tell after each; returns a status."""
    end = time.monotonic() + seconds
    failed, status = [], 0
    for number, one in enumerate(planned):
        allowed = share(number, end - time.monotonic())
        if allowed >= LEAST_SECONDS and not finished(one.job):
            status = start(one.arguments(data, device, allowed))
            failed += [one.job.folder.name] if status else []
        begun = [one for one in planned if events(one.job.folder)]
        out.write_text(json.dumps([one.told() for one in begun], indent=1) + "\n")
        if status == INTERRUPTED:
            break
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def main(arguments: Sequence[str]) -> int:
    """Train and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of PTB")
    parser.add_argument("--out", type=Path, required=True, help="file of JSON, goes on beside it")
    parser.add_argument("--seconds", type=float, default=500, help="of all (default 500)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a pair")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if started in the background
    data = options.data.resolve()
    planned = trainings(data, options.out.with_suffix(""))
    if options.device == "cpu":
        del planned[2:]
    return train(planned, data, options.device, options.seconds, options.out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
