"""Decide whether to build the CUDA kernels, and with which toolkit, headers and architectures.

What the user has to mend ends the build with SystemExit, in one line.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Machine code for the A100's family and for the H100 with its own instructions, and PTX from which
# newer GPUs compile their own (PTX of 9.0a would not do: it runs on compute capability 9.0 alone).
DEFAULT_ARCHITECTURES = "8.0;9.0a;9.0-PTX"
DEFAULT_HOME = Path("/usr/local/cuda")


@dataclass(frozen=True)
class CudaBuild:
    """How the CUDA kernels are to be built."""

    home: Path
    architectures: str
    include_dirs: list[str]
    cudart: Path  # the run-time library to link


def plan_cuda(
    torch_cuda: str | None, site_packages: Path, environ: Mapping[str, str]
) -> CudaBuild | str:
    """Settle the CUDA build for a torch built with CUDA `torch_cuda` that lives in `site_packages`.

    Returns
    -------
    CudaBuild or str
        The build, or why there is none.

    Raises
    ------
    SystemExit
        Where ``SEQKERN_CUDA`` cannot be read, or is 1 and the build is not possible.
    """
    wanted = environ.get("SEQKERN_CUDA", "")
    if wanted not in ("", "0", "1"):
        raise SystemExit(f"SEQKERN_CUDA is {wanted!r}, expected 0, 1 or unset")
    if wanted == "0":
        return "SEQKERN_CUDA=0"
    if torch_cuda is None:
        refusal = "torch is built without CUDA"
    else:
        major = int(torch_cuda.split(".")[0])
        rejected = []
        for origin, home in candidate_homes(site_packages, environ):
            version = toolkit_version(home)
            if version is not None and version[0] == major:
                return _with_toolkit(home, major, site_packages, environ)
            found = "no nvcc" if version is None else f"CUDA {version[0]}.{version[1]}"
            rejected.append(f"{origin} ({home}) holds {found}")
        looked = "; ".join(rejected) or "no nvcc in CUDA_HOME, the nvidia wheels or PATH"
        refusal = f"torch has CUDA {torch_cuda} but no CUDA {major} toolkit was found: {looked}"
    if wanted == "1":
        raise SystemExit(f"SEQKERN_CUDA=1, but {refusal}")
    return refusal


def _with_toolkit(
    home: Path, major: int, site_packages: Path, environ: Mapping[str, str]
) -> CudaBuild:
    # The toolkit's own folders first; the wheels beside torch have what it lacks (cuBLAS, ...).
    wheels = [site_packages / f"nvidia/cu{major}", *sorted((site_packages / "nvidia").glob("*"))]
    roots = list(dict.fromkeys([home, *sorted(home.glob("targets/*")), *wheels]))
    include_dirs = [root / "include" for root in roots if (root / "include").is_dir()]
    return CudaBuild(
        home=home,
        architectures=environ.get("TORCH_CUDA_ARCH_LIST") or DEFAULT_ARCHITECTURES,
        # /usr/include must not be named: it would come before the compiler's own wrappers of it.
        include_dirs=[str(folder) for folder in include_dirs if folder != Path("/usr/include")],
        cudart=_cudart(roots, major),
    )


def _cudart(roots: list[Path], major: int) -> Path:
    # Named by its full name, which a toolkit and a wheel both have; a wheel has no libcudart.so.
    folders = [root / lib for root in roots for lib in ("lib64", "lib")]
    for library in (folder / f"libcudart.so.{major}" for folder in folders):
        if library.exists():
            return library
    raise SystemExit(f"no libcudart.so.{major} in any of {', '.join(map(str, folders))}")


def candidate_homes(site_packages: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Where a toolkit may be, as (origin, home), the most explicit first."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if environ.get(variable):
            yield variable, Path(environ[variable])
    for nvcc in sorted((site_packages / "nvidia").glob("*/bin/nvcc")):
        yield "nvidia wheel", nvcc.parent.parent
    nvcc_on_path = shutil.which("nvcc", path=environ.get("PATH", os.defpath))
    if nvcc_on_path:
        yield "nvcc on PATH", home_of_nvcc(Path(nvcc_on_path))
    if (DEFAULT_HOME / "bin/nvcc").exists():
        yield "the default place", DEFAULT_HOME


def home_of_nvcc(nvcc: Path) -> Path:
    """The toolkit that `nvcc` belongs to; it may be a script that calls the real one elsewhere."""
    # A dry run compiles nothing (its input need not exist) and prints the real nvcc's settings.
    answer = subprocess.run([nvcc, "--dryrun", "none.cu"], capture_output=True, text=True)
    top = re.search(r"^#\$ TOP=(.+)$", answer.stderr, flags=re.MULTILINE)
    return Path(top[1].strip()).resolve() if top else nvcc.resolve().parent.parent


def toolkit_version(home: Path) -> tuple[int, int] | None:
    """(major, minor) of the nvcc in `home`, or None if there is none that runs."""
    try:
        answer = subprocess.run(
            [home / "bin/nvcc", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    release = re.search(r"release (\d+)\.(\d+)", answer.stdout)
    return (int(release[1]), int(release[2])) if release else None


def architecture_flags(architectures: str) -> list[str]:
    """Turn "8.0;9.0a+PTX" (binary code, and with +PTX also PTX; -PTX: PTX alone) into nvcc's flags.

    Raises
    ------
    SystemExit
        For an entry that is not of that form, or names an architecture before 8.0.
    """
    flags = []
    for entry in filter(None, re.split(r"[;,\s]+", architectures)):
        parsed = re.fullmatch(r"(\d+)\.(\d)([af]?)([+-]PTX)?", entry)
        if parsed is None or int(parsed[1]) < 8:
            raise SystemExit(
                f"CUDA architecture {entry!r} in {architectures!r}: expected entries such as "
                "8.0, 9.0a or 9.0+PTX, of compute capability 8.0 and up"
            )
        number, ptx = "".join(parsed.group(1, 2, 3)), parsed[4]
        if ptx != "-PTX":
            flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if ptx:
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    if not flags:
        raise SystemExit(f"no CUDA architecture in {architectures!r}")
    return flags
