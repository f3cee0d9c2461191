"""Load the extension seqkern._C, and tell how it was built and where it runs."""

import importlib
import importlib.util
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_REBUILD = f"`{sys.executable} -m pip install .` in seqkern's source folder"


def _load_extension() -> ModuleType:
    # One built for another torch is refused: the two may lay out their objects differently.
    if importlib.util.find_spec("seqkern._C") is None:
        raise ImportError(
            f"seqkern at {Path(__file__).parent} has no compiled extension seqkern._C: install it "
            f"with {_REBUILD}, and do not run from that folder"
        )
    try:
        extension = importlib.import_module("seqkern._C")
    except ImportError as error:
        raise ImportError(
            f"seqkern._C does not load with torch {torch.__version__}: rebuild it with {_REBUILD}"
        ) from error
    built = extension.torch_built_against
    if built != torch.__version__:
        raise ImportError(
            f"seqkern._C was built against torch {built}, but torch {torch.__version__} is "
            f"installed: rebuild it with {_REBUILD}"
        )
    return extension


extension = _load_extension()


def build_info() -> dict[str, Any]:
    """Say which versions, instruction set and devices seqkern works with.

    Returns
    -------
    dict
        ``seqkern``, ``torch``, ``python``
            Versions.
        ``torch_built_against``, ``compiler``, ``openmp``
            What the extension was compiled with (``openmp`` is the standard's date, yyyymm).
        ``isa``, ``isas_compiled``
            The CPU instruction set in use, of "portable", "avx2", "avx512", "avx512_bf16" and
            "amx_bf16", and all that the extension holds kernels for. The environment variable
            ``SEQKERN_ISA`` selects a lower one than the CPU's best.
        ``cpu``, ``threads``
            The CPU's model, and how many threads torch, and so seqkern, uses.
        ``cuda``, ``cuda_version``, ``cuda_architectures``, ``cuda_note``
            Whether CUDA kernels were compiled in, with which toolkit and for which architectures
            ("9.0-PTX": as PTX alone), or else why not.
        ``gpu``
            The name of the current CUDA device, or None.

    Raises
    ------
    RuntimeError
        If ``SEQKERN_ISA`` names no instruction set, or one that this CPU does not have.

    Examples
    --------
    >>> import seqkern
    >>> info = seqkern.build_info()
    >>> info["isa"] in info["isas_compiled"]
    True
    """
    return {
        "seqkern": version("seqkern"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **extension.build_info(),
        "cpu": _cpu_model(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()  # aarch64 kernels print no model name
