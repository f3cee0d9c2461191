"""Build of the extension ``seqkern._C``; all else about the package stands in pyproject.toml.

Environment variables: SEQKERN_CUDA=0|1 (unset: CUDA if torch has it and a toolkit is found),
CUDA_HOME, TORCH_CUDA_ARCH_LIST, MAX_JOBS, SEQKERN_WERROR=1 (warnings are errors, and what ptxas
says of each kernel is kept for bench/cuda_resources.py).
"""

import json
import os
import shlex
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import setup

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_backend"))

from seqkern_build.cuda import architecture_flags, plan_cuda  # noqa: E402
from seqkern_build.sources import read_sources  # noqa: E402
from seqkern_build.target import require_torch  # noqa: E402

CXX_FLAGS = ["-O3", "-g0", "-fopenmp", "-fvisibility=hidden", "-Wall", "-Wextra"]
# torch.utils.cpp_extension defines away the half and bfloat16 arithmetic that kernels may use.
NVCC_FLAGS = ["-O3", "--expt-relaxed-constexpr", "-Xcompiler=-fvisibility=hidden,-Wall,-Wextra"]
NVCC_FLAGS += ["-U__CUDA_NO_HALF_OPERATORS__"]
NVCC_FLAGS += ["-U__CUDA_NO_HALF_CONVERSIONS__", "-U__CUDA_NO_HALF2_OPERATORS__"]
NVCC_FLAGS += ["-U__CUDA_NO_BFLOAT16_CONVERSIONS__"]
# In the project's own tests; a newer compiler's new warning must not break an installation.
WERROR = os.environ.get("SEQKERN_WERROR") == "1"
if WERROR:
    CXX_FLAGS += ["-Werror"]
    NVCC_FLAGS += ["-Werror=all-warnings"]


def native_build() -> dict[str, Any]:
    """The arguments of ``setup`` that describe the extension."""
    require_torch()
    # Where pip runs without isolation, the ninja beside it need not be on PATH.
    os.environ["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", "")
    os.environ.setdefault("MAX_JOBS", str(len(os.sched_getaffinity(0))))

    import torch
    from torch.utils import cpp_extension

    if not cpp_extension.is_ninja_available():
        raise SystemExit(f"seqkern needs ninja to build: {sys.executable} -m pip install ninja")

    sources = read_sources(ROOT / "csrc/sources.txt")
    names = sources["kernels"] + sources["torch"]
    macros = [("SEQKERN_TORCH_VERSION", json.dumps(torch.__version__))]
    flags = {"cxx": CXX_FLAGS.copy(), "nvcc": NVCC_FLAGS.copy()}
    system_includes = cpp_extension.include_paths()

    cuda = plan_cuda(torch.version.cuda, Path(torch.__file__).parent.parent, os.environ)
    if isinstance(cuda, str):
        print(f"seqkern: building without CUDA kernels: {cuda}", file=sys.stderr)
        macros.append(("SEQKERN_NO_CUDA_REASON", json.dumps(cuda)))
        extension = cpp_extension.CppExtension("seqkern._C", names)
    else:
        print(f"seqkern: building CUDA kernels for {cuda.architectures} with {cuda.home}")
        cpp_extension.CUDA_HOME = str(cuda.home)
        if WERROR:
            log = [sys.executable, str(ROOT / "build_backend/seqkern_build/nvcc_log.py")]
            os.environ.setdefault("PYTORCH_NVCC", shlex.join([*log, str(cuda.home / "bin/nvcc")]))
        names += sources["cuda"] + sources["torch-cuda"]
        macros.append(("SEQKERN_WITH_CUDA", "1"))
        macros.append(("SEQKERN_CUDA_ARCHS", json.dumps(cuda.architectures)))
        flags["nvcc"] += architecture_flags(cuda.architectures)
        system_includes += cuda.include_dirs
        extension = cpp_extension.CUDAExtension("seqkern._C", names)
        extension.libraries.remove("cudart")
        extension.extra_objects = [str(cuda.cudart)]

    # torch's headers are system headers: their warnings are not ours to mend.
    for compiler in flags:
        flags[compiler] += [x for folder in system_includes for x in ("-isystem", folder)]
    extension.include_dirs = [str(ROOT / "csrc")]
    extension.define_macros = macros
    extension.extra_compile_args = flags
    extension.extra_link_args = ["-fopenmp"]

    class BuildExtension(cpp_extension.BuildExtension):
        """Keeps objects for later builds, editable ones too, apart for each torch and Python."""

        def finalize_options(self) -> None:
            super().finalize_options()
            self.build_temp = f"build/torch-{torch.__version__}-{sys.implementation.cache_tag}"

    return {"ext_modules": [extension], "cmdclass": {"build_ext": BuildExtension}}


# Metadata and source archives need no torch.
setup(**native_build() if {"sdist", "egg_info", "dist_info"}.isdisjoint(sys.argv) else {})
