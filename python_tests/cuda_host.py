"""The CUDA ops compiled for the host, in place of the CPU kernels of seqkern's ops.

csrc/tests/cuda_host stands in for CUDA and runs the kernels' threads, blocks and clusters, each in
an order of its own. The kernels are instrumented as for a sanitizer, which is not there: the
executor is told of every access instead, and finds those out of bounds and data races.
"""

import os
import sysconfig
from pathlib import Path
from unittest import mock

import torch
from torch.utils import cpp_extension

import seqkern  # noqa: F401  (defines the ops, which must be there before they are replaced)
from seqkern_build.sources import read_sources

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
STAND_INS = CSRC / "tests/cuda_host"
BUILD = ROOT / "build" / f"cuda-host-{torch.__version__}"


def build(name: str, sources: list[str], flags: list[str], libraries: list[Path]) -> Path:
    """Compile what has changed to a shared library, and load it."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    # ninja lies beside python, which need not be on PATH.
    path = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", "")
    with mock.patch.dict(os.environ, PATH=path):
        cpp_extension.load(
            f"seqkern_cuda_host_{name}",
            sources,
            extra_cflags=["-O1", "-g0", *flags],
            extra_ldflags=[str(library) for library in libraries],
            extra_include_paths=[str(STAND_INS), str(CSRC)],
            build_directory=str(folder),
            is_python_module=False,
        )
    return folder / f"seqkern_cuda_host_{name}.so"


def files_of(folder: Path) -> list[str]:
    """Return the C++ files of a folder."""
    return [str(path) for path in sorted(folder.glob("*.cpp"))]


def host_source(kernels: str) -> str:
    """Return a C++ file of the kernels of a CUDA one."""
    folder = BUILD / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / f"{Path(kernels).stem}.cpp", f'#include "{ROOT / kernels}"\n'
    if not path.exists() or path.read_text() != text:
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(text)
        new.replace(path)  # at once: another process may be reading it
    return str(path)


def load() -> None:
    """Build what has changed, and replace the ops' CPU kernels."""
    sources = read_sources(CSRC / "sources.txt")
    executor = build("executor", files_of(STAND_INS), [], [])
    kernels = [host_source(path) for path in sources["cuda"]]
    instrumented = build("kernels", kernels, ["-fsanitize=thread"], [executor])
    ops = [str(ROOT / path) for path in sources["torch-cuda"]]
    families = ("negative_sampling", "recurrent", "softmax", "word_vectors")
    checks = [f"ops/{family}_checks.cpp" for family in families]
    ops += [*(str(CSRC / path) for path in checks), *files_of(STAND_INS / "ops")]
    flags = ["-include", str(STAND_INS / "ops/registration.h"), "-fvisibility=hidden"]
    build("ops", ops, flags, [instrumented, executor])
