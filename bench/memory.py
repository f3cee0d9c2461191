"""Peak memory of a run, measured in a fresh process."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from case import PEERS, Case, Run
from recurrent import make_layer
from timing import Result, measure


def status_bytes(key: str) -> int:
    """Return a size of this process from the kernel (VmRSS: memory in use, VmHWM: its peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024  # the file says kB and means KiB
    raise RuntimeError(f"/proc/self/status has no {key}")


def growth(make: Callable[[str], Run], peer: str, threads: int) -> int:
    """Return by how much a run raises the peak of this process above what it held before."""
    torch.set_num_threads(threads)
    for library in PEERS:  # what libraries set up once is not the run's
        make_layer(library, "LSTM", {"N": 1, "T": 1, "D": 1, "H": 1}, backward=True)()
    run = make(peer)
    before = status_bytes("VmRSS")
    run()
    return status_bytes("VmHWM") - before


def peak_memory(case: Case, peer: str) -> int:
    """Return :func:`growth` of a peer, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(growth, case.make, peer, torch.get_num_threads()).result()


def measure_with_memory(case: Case, seconds: float) -> Result:
    """Measure time and peak memory."""
    result = measure(case, seconds)
    return replace(result, memory={peer: peak_memory(case, peer) for peer in case.peers})
