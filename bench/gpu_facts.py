"""Describe the GPU, the versions, and the ceilings of all timings; needs torch alone.

python bench/gpu_facts.py --out facts.json
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

FIELDS = (
    "driver_version",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "power.draw",
    "power.limit",
    "temperature.gpu",
)


def first_line(*command: str, last: bool = False) -> str | None:
    """Return the first or last line that a command prints, None where there is no such command."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    lines = done.stdout.strip().splitlines()
    return lines[-1 if last else 0].strip() if lines else None


def gpu_state() -> dict[str, str]:
    """Return what nvidia-smi says of clocks, power and temperature at this moment."""
    line = first_line("nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader")
    return dict(zip(FIELDS, line.split(", "), strict=False)) if line else {}


def seconds_on_gpu(work: Callable[[], object], rounds: int = 10) -> float:
    """Return the median time of a call by CUDA events, after three to warm up."""
    samples = []
    for _ in range(rounds + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        samples.append(start.elapsed_time(end) / 1e3)
    return statistics.median(samples[3:])


def ceilings() -> dict[str, float]:
    """Measure a large copy (bytes read and written), and large products of random numbers."""
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    copy = seconds_on_gpu(lambda: target.copy_(source))
    n = 8192
    factors = torch.randn(2, n, n, device="cuda")

    def product(a: torch.Tensor, b: torch.Tensor) -> int:
        return round(2 * n**3 / seconds_on_gpu(lambda: a @ b) / 1e12)

    torch.backends.cuda.matmul.allow_tf32 = True
    return {
        "copy_tb_per_s": round(2 * source.nbytes / copy / 1e12, 2),
        "bf16_tflops": product(*factors.bfloat16()),
        "tf32_tflops": product(*factors),
    }


def versions() -> dict[str, Any]:
    """Return those of the software."""
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvcc": first_line("nvcc", "--version", last=True),
        "python": platform.python_version(),
    }


def facts(device: str) -> dict[str, Any]:
    """Describe the machine; the ceilings are measured on a GPU alone."""
    found = {"date": time.strftime("%Y-%m-%d", time.gmtime()), **versions()}
    if device == "cpu":
        return {"gpu": None, **found}
    if not torch.cuda.is_available():
        raise SystemExit(f"no CUDA device: torch {torch.__version__} finds none")
    gpu = torch.cuda.get_device_properties()
    return {
        "gpu": gpu.name,
        "capability": f"{gpu.major}.{gpu.minor}",
        "multiprocessors": gpu.multi_processor_count,
        "memory_gib": round(gpu.total_memory / 2**30, 1),
        "l2_mb": round(getattr(gpu, "L2_cache_size", 0) / 1e6),
        **found,
        "idle": gpu_state(),
        **ceilings(),
    }


def main() -> None:
    """Write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    options.out.write_text(json.dumps(facts(options.device), indent=1) + "\n")


if __name__ == "__main__":
    main()
