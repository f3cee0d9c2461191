"""Time seqkern beside torch.nn and cuDNN on a GPU, point by point, the most important first.

    python bench/gpu_bench.py --results build/points.jsonl --seconds 240
    python bench/gpu_bench.py --results build/points.jsonl --only targets "LSTM, bf16"

The peers of a point take turns in one process, on equal weights and inputs. A run is a CUDA graph
of as many calls as there are copies of the point's tensors, so that no call finds its own in the L2
cache; it is timed by CUDA events. What cannot be captured is called eagerly, and marked so.

A line of JSON is written before and after each point. Points that the file has are not measured
again: where a kernel hangs or takes the device down, the process ends, and the next goes on behind.
"""

import argparse
import faulthandler
import gc
import json
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import step_budget
import torch
from case import Run
from gpu_facts import gpu_state
from gpu_points import KERNELS, Point, points, precision_of
from gpu_report import read_lines
from recurrent import GATES
from timing import Result, seconds_of, timing_of, turns
from torch import Tensor

import seqkern
from seqkern.cuda import H100, Device

FEWEST_ROUNDS, MOST_ROUNDS = 5, 200
FULL_BYTES = 16 * 2**30  # of device memory, where cached memory is given back

Samples = dict[str, list[float]]


def call_all(runs: list[Run]) -> None:
    """Call one after the other."""
    for run in runs:
        run()


class Host:
    """The CPU, for a dry run: shows that everything runs, and nothing else."""

    name = "cpu"

    def memory(self, run: Run) -> int:
        """Return 0: nothing is measured."""
        return 0

    def prepare(self, runs: list[Run], graph: bool) -> tuple[Run, str]:
        """Return what is timed, and how it runs."""
        return partial(call_all, runs), "host"

    def seconds(self, replays: Mapping[str, Run], rounds: int) -> Samples:
        """Time the peers in turns."""
        samples: Samples = {peer: [] for peer in replays}
        for peer in turns(replays, rounds):
            samples[peer].append(seconds_of(replays[peer]))
        return samples

    def predictions(self, point: Point) -> dict[str, float]:
        """Return nothing: nothing is predicted."""
        return {}

    def settle(self) -> None:
        """Raise if no further point can be measured in this process."""


class Gpu:
    """The current CUDA device."""

    name = "cuda"

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def memory(self, run: Run) -> int:
        """Return by how many bytes a run raises the peak of what is allocated."""
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before

    def prepare(self, runs: list[Run], graph: bool) -> tuple[Run, str]:
        """Return what is timed, and how it runs.

        "graph", "eager" if it cannot be captured, or "called" if it was not to be.
        """
        if not graph:
            return partial(call_all, runs), "called"
        captured = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            # Not torch.cuda.graph, which empties the cache of device memory every time.
            with torch.cuda.stream(self.stream):
                captured.capture_begin()
                try:
                    call_all(runs)
                finally:
                    captured.capture_end()
        except Exception as error:
            torch.cuda.synchronize()
            print(f"not captured: {text_of(error)}", file=sys.stderr)
            return partial(call_all, runs), "eager"
        return captured.replay, "graph"

    def seconds(self, replays: Mapping[str, Run], rounds: int) -> Samples:
        """Time the peers in turns; the host runs ahead of the device and waits at the end only."""
        marks = []
        for peer in turns(replays, rounds):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            replays[peer]()
            end.record()
            marks.append((peer, start, end))
        torch.cuda.synchronize()
        samples: Samples = {peer: [] for peer in replays}
        for peer, start, end in marks:
            samples[peer].append(start.elapsed_time(end) / 1e3)
        return samples

    def predictions(self, point: Point) -> dict[str, float]:
        """Return the microseconds of a step that are predicted of a layer, by kernel."""
        gpu = torch.cuda.get_device_properties()
        capability = 10 * gpu.major + gpu.minor
        # Not every torch tells.
        shared_bytes = getattr(gpu, "shared_memory_per_block_optin", H100.shared_bytes)
        return predictions(point, Device(capability, gpu.multi_processor_count, shared_bytes))

    def settle(self) -> None:
        """Raise if no further point can be measured in this process; give much memory back.

        So it is where the device is lost, or where a capture that failed left torch's random
        numbers unusable.
        """
        torch.rand(1, device="cuda").item()
        if torch.cuda.memory_reserved() > FULL_BYTES:
            torch.cuda.empty_cache()


def predictions(point: Point, device: Device) -> dict[str, float]:
    """Return the microseconds of a step that are predicted of a layer, by kernel, best first."""
    if point.layer is None:
        return {}
    cell, backward = point.layer
    name = {"RNN": "rnn_tanh"}.get(cell, cell.lower())
    precision = point.precision.replace("fp16", "bf16")  # of the same size
    of = (name, GATES[cell], precision, point.case.sizes, backward, device)
    found = step_budget.predictions(*of)
    best = next(iter(found))
    # Of the peers that run by one kernel; the first is what seqkern chooses.
    return {best: found[best], **{name: us for name, us in found.items() if name in KERNELS}}


def text_of(error: Exception) -> str:
    """Return an exception in one line: its first, and the first that a compiler calls an error."""
    first, *rest = str(error).splitlines() or [""]
    cause = next((f" … {line.strip()}" for line in rest if "error:" in line), "")
    return f"{type(error).__name__}: {first[:300]}{cause[:300]}"


def difference(actual: object, expected: object) -> float:
    """Return the greatest relative difference, by norm, of a peer's results from torch's."""
    pairs = zip(*((r,) if isinstance(r, Tensor) else r for r in (actual, expected)), strict=True)
    return max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in pairs)


def measure(point: Point, machine: Host | Gpu, seconds: float) -> dict[str, Any]:
    """Measure a point, for about so many seconds a peer; a peer that raises is left out."""
    case = point.case
    runs, replays, modes, errors, memory = {}, {}, {}, {}, {}
    with precision_of(point.precision):
        results = {}
        for peer in case.peers:
            try:
                with torch.device(machine.name):
                    runs[peer] = [case.make(peer) for _ in range(point.sets)]
                result = runs[peer][0]()  # warms up
                memory[peer] = machine.memory(runs[peer][0])
                results[peer] = result
            except Exception as error:
                errors[peer] = text_of(error)
        of_torch = results.get("torch")
        differences = {
            peer: difference(result, of_torch)
            for peer, result in results.items()
            if peer != "torch" and result is not None and of_torch is not None
        }
        for peer in results:
            replays[peer], modes[peer] = machine.prepare(runs[peer], point.graph)
        del results, of_torch
        rounds, times = 0, {}
        if replays:
            machine.seconds(replays, 1)
            a_round = sum(sum(samples) for samples in machine.seconds(replays, 1).values())
            rounds = round(seconds * len(replays) / a_round)
            rounds = min(max(rounds, FEWEST_ROUNDS), MOST_ROUNDS)
            samples = machine.seconds(replays, rounds)
            times = {
                peer: timing_of([sample / point.sets for sample in samples[peer]])
                for peer in case.peers
                if peer in samples
            }
    return {
        "section": point.section,
        "precision": point.precision,
        "sets": point.sets,
        "target": point.target,
        "modes": modes,
        "errors": errors,
        "differences": differences,
        "predicted": machine.predictions(point),
        "result": Result(case.group, dict(case.sizes), case.flops, rounds, times, memory).row(),
    }


def main(arguments: list[str]) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, required=True, help="file of JSON lines, goes on")
    parser.add_argument("--seconds", type=float, default=240, help="of all (default 240)")
    parser.add_argument(
        "--seconds-per-point", type=float, default=0.06, help="and peer (default 0.06)"
    )
    parser.add_argument(
        "--only", nargs="*", default=[], help="points whose name contains one of these texts"
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run of tiny sizes"
    )
    options = parser.parse_args(arguments)
    end = time.monotonic() + options.seconds

    chosen = points(tiny=options.device == "cpu", only=options.only)
    if not chosen:
        parser.error(f"no point contains {options.only!r}")
    begun = {line["begin"] for line in read_lines(options.results) if "begin" in line}
    machine = Host() if options.device == "cpu" else Gpu()
    gc.collect()
    gc.freeze()  # so that collecting what a point leaves is quick
    gc.disable()
    with options.results.open("a") as file:

        def write(**line: Any) -> None:
            print(json.dumps(line), file=file, flush=True)

        planned = len(chosen) + len(begun.difference(map(str, chosen)))
        write(build=seqkern.build_info(), planned=planned)
        for point in chosen:
            if str(point) in begun:
                continue
            if time.monotonic() > end:
                print("out of time", file=sys.stderr)
                break
            write(begin=str(point))
            faulthandler.dump_traceback_later(point.patience, exit=True)
            try:
                row = measure(point, machine, options.seconds_per_point)
            except Exception as error:
                write(lost=str(point), error=text_of(error))
                raise
            write(end=str(point), **row)
            times = {peer: f"{t['median'] * 1e3:.3f}" for peer, t in row["result"]["times"].items()}
            print(f"{point}: {times} ms {row['errors'] or ''}", file=sys.stderr, flush=True)
            gc.collect()
            machine.settle()
            faulthandler.cancel_dump_traceback_later()
        write(after=gpu_state())


if __name__ == "__main__":
    main(sys.argv[1:])
