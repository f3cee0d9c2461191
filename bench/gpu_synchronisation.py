"""Build and run synchronisation.cu, which times how blocks hand on data, on this machine's GPU.

    python bench/gpu_synchronisation.py --out build/gpu-check/synchronisation.jsonl

It needs a torch with CUDA and the toolkit that builds the extension, and no seqkern.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "build_backend"))

from seqkern_build.cuda import CudaBuild, architecture_flags, plan_cuda  # noqa: E402

SOURCE = ROOT / "bench/synchronisation.cu"


def build_command(cuda: CudaBuild, architectures: str, program: Path) -> list[str]:
    """Return nvcc's command; the run-time library is the one that the extension is linked with."""
    folders = [x for folder in cuda.include_dirs for x in ("-isystem", folder)]
    flags = ["-std=c++17", "-O3", "--expt-relaxed-constexpr", *architecture_flags(architectures)]
    library = ["-cudart=none", "-Xlinker", f"{cuda.cudart},-rpath={cuda.cudart.parent}"]
    sources = ["-I", str(ROOT / "csrc"), *folders, str(SOURCE)]
    return [str(cuda.home / "bin/nvcc"), *flags, *sources, *library, "-o", str(program)]


def toolkit() -> CudaBuild:
    """Return the toolkit that fits torch; SystemExit says why there is none."""
    environment = {**os.environ, "SEQKERN_CUDA": "1"}
    found = plan_cuda(torch.version.cuda, Path(torch.__file__).parent.parent, environment)
    assert isinstance(found, CudaBuild)  # SEQKERN_CUDA=1
    return found


def main() -> int:
    """Write what the program prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--architecture", help="such as 9.0a (default: this GPU's)")
    parser.add_argument("--build-only", action="store_true", help="do not run it; needs no GPU")
    options = parser.parse_args()
    architecture = options.architecture
    if architecture is None:
        major, minor = torch.cuda.get_device_capability()
        architecture = f"{major}.{minor}" + ("a" if major >= 9 else "")
    program = options.out.with_suffix("")
    subprocess.run(build_command(toolkit(), architecture, program), check=True)
    if options.build_only:
        return 0
    with options.out.open("w") as out:
        return subprocess.run([program.resolve()], stdout=out).returncode


if __name__ == "__main__":
    sys.exit(main())
