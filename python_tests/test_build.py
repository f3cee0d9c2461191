"""The build backend (build_backend/seqkern_build), and what the built extension says of itself."""

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import torch

import seqkern
from seqkern_build import cuda
from seqkern_build.sources import read_sources
from seqkern_build.target import find_torch

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

ROOT = Path(__file__).resolve().parents[1]
BACKEND = ROOT / "build_backend"

Environment = tuple[Path, Path]  # its python, its site-packages
Machine = tuple[Path, dict[str, str]]  # the site-packages with torch, the environment variables


def run_python(code: str, *, python: Path | str = sys.executable, **options: Any) -> str:
    """What `code` prints; on failure what it writes to stderr, raised as RuntimeError."""
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, **options)
    if answer.returncode != 0:
        raise RuntimeError(answer.stderr)
    return answer.stdout


# --- sources.txt


def test_sources_are_read_by_section_without_comments(tmp_path: Path) -> None:
    listing = tmp_path / "sources.txt"
    listing.write_text("# list\n[kernels] # one\na.cpp\n\n  b.cpp  # why\n[torch]\nc.cpp\n")
    assert read_sources(listing) == {
        "kernels": ["a.cpp", "b.cpp"],
        "cuda": [],
        "torch": ["c.cpp"],
        "torch-cuda": [],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [("[kernel]\n", ":1: unknown section .kernel."), ("\na.cpp\n", ":2: a.cpp stands before")],
)
def test_malformed_source_list_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    listing = tmp_path / "sources.txt"
    listing.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sources(listing)


def test_source_list_names_every_native_source_once() -> None:
    sections = read_sources(ROOT / "csrc/sources.txt").values()
    listed = [source for section in sections for source in section]
    present = [
        str(path.relative_to(ROOT))
        for pattern in ("*.cpp", "*.cu")
        for path in (ROOT / "csrc").rglob(pattern)
        if "tests" not in path.parts
    ]
    assert sorted(listed) == sorted(present)


def test_kernels_include_nothing_of_torch() -> None:
    kernels = [
        path
        for folder in ("cpu", "cuda", "math", "params")
        for path in (ROOT / "csrc" / folder).rglob("*.*")
    ]
    assert len(kernels) > 50
    for path in kernels:
        included = re.findall(r'^ *# *include *[<"]([^>"]+)', path.read_text(), re.MULTILINE)
        of_torch = [name for name in included if name.startswith(("ATen", "c10", "ops", "torch"))]
        assert not of_torch, path


# --- finding torch


def test_torch_is_found_in_the_first_folder_that_holds_it(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("empty", "stub", "first", "second")]
    for folder in folders[1:]:
        (folder / "torch").mkdir(parents=True)
    for folder in folders[2:]:
        (folder / "torch/__init__.py").touch()
    assert find_torch(folders) == folders[2]
    assert find_torch(folders[:2]) is None


@pytest.fixture
def bare_environment(tmp_path: Path) -> Environment:
    """A virtual environment without any package."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    return python, Path(
        run_python("import sysconfig; print(sysconfig.get_path('purelib'))", python=python).strip()
    )


# As in pip's isolated build: the environment's interpreter, its packages off the import path.
ISOLATED = f"""
import sys
sys.path = [p for p in sys.path if not p.endswith("site-packages")] + [{str(BACKEND)!r}]
from seqkern_build.target import require_torch
require_torch()
import torch
print(torch.__file__)
"""


def test_isolated_build_imports_the_torch_of_the_target_environment(
    bare_environment: Environment,
) -> None:
    python, site_packages = bare_environment
    (site_packages / "torch").mkdir()
    (site_packages / "torch/__init__.py").touch()
    assert run_python(ISOLATED, python=python).strip() == str(site_packages / "torch/__init__.py")


def test_missing_torch_ends_the_build_with_one_line_naming_the_command(
    bare_environment: Environment,
) -> None:
    python, _ = bare_environment
    with pytest.raises(RuntimeError) as failure:
        run_python(ISOLATED, python=python)
    (line,) = str(failure.value).splitlines()
    assert f"`{python} -m pip install 'torch>=2.10'`" in line


# --- finding the CUDA toolkit


def make_toolkit(home: Path, version: str = "13.0", library: str = "lib64") -> Path:
    """A folder that answers as a CUDA toolkit does."""
    for folder in ("bin", "include", library):
        (home / folder).mkdir(parents=True)
    (home / library / f"libcudart.so.{version.partition('.')[0]}").touch()
    write_script(
        home / "bin/nvcc",
        f'case "$1" in --version) echo "release {version}, V{version}.1";;\n'
        f'--dryrun) echo "#$ TOP={home}/bin/.." >&2; exit 1;; esac',
    )
    return home


def write_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without any toolkit."""
    monkeypatch.setattr(cuda, "DEFAULT_HOME", tmp_path / "usr/local/cuda")
    (tmp_path / "site-packages/nvidia/cu13/include").mkdir(parents=True)
    return tmp_path / "site-packages", {"PATH": str(tmp_path / "path")}


def test_nvcc_wrapper_script_is_followed_to_its_toolkit(tmp_path: Path, machine: Machine) -> None:
    site_packages, environ = machine
    home = make_toolkit(tmp_path / "opt/cuda-13.0")
    write_script(tmp_path / "inner/nvcc", f'exec {home}/bin/nvcc "$@"')
    write_script(tmp_path / "path/nvcc", f'exec {tmp_path}/inner/nvcc "$@"')
    plan = cuda.plan_cuda("13.0", site_packages, environ)
    assert plan.home == home


def test_nvcc_that_tells_no_top_is_followed_through_symbolic_links(tmp_path: Path) -> None:
    nvcc = write_script(tmp_path / "real/bin/nvcc", "exit 0")
    (tmp_path / "path").mkdir()
    (tmp_path / "path/nvcc").symlink_to(nvcc)
    assert cuda.home_of_nvcc(tmp_path / "path/nvcc") == tmp_path / "real"


def test_toolkits_are_preferred_from_explicit_to_implied(tmp_path: Path, machine: Machine) -> None:
    site_packages, environ = machine
    on_path = make_toolkit(tmp_path / "path-toolkit")
    write_script(tmp_path / "path/nvcc", f'exec {on_path}/bin/nvcc "$@"')
    (site_packages / "nvidia/cu13/include").rmdir()
    wheel = make_toolkit(site_packages / "nvidia/cu13", library="lib")
    explicit = make_toolkit(tmp_path / "explicit")

    def home(**more: str) -> Path:
        return cuda.plan_cuda("13.0", site_packages, {**environ, **more}).home

    assert home(CUDA_HOME=str(explicit)) == home(CUDA_PATH=str(explicit)) == explicit
    assert home() == wheel
    shutil.rmtree(wheel)
    assert home() == on_path


def test_toolkit_of_another_major_version_is_passed_over_and_named(
    tmp_path: Path, machine: Machine
) -> None:
    site_packages, environ = machine
    old = make_toolkit(tmp_path / "old", version="12.8")
    environ["CUDA_HOME"] = str(old)
    refusal = cuda.plan_cuda("13.0", site_packages, environ)
    assert refusal.startswith("torch has CUDA 13.0 but no CUDA 13 toolkit was found")
    assert f"CUDA_HOME ({old}) holds CUDA 12.8" in refusal
    assert cuda.plan_cuda("12.6", site_packages, environ).home == old


def test_headers_of_the_wheels_come_after_those_of_the_toolkit(
    tmp_path: Path, machine: Machine
) -> None:
    site_packages, environ = machine
    home = make_toolkit(tmp_path / "toolkit")
    plan = cuda.plan_cuda("13.0", site_packages, {**environ, "CUDA_HOME": str(home)})
    assert plan.include_dirs == [str(home / "include"), str(site_packages / "nvidia/cu13/include")]
    assert plan.cudart == home / "lib64/libcudart.so.13"


def test_seqkern_cuda_variable_forbids_or_demands_the_build(
    tmp_path: Path, machine: Machine
) -> None:
    site_packages, environ = machine
    home = make_toolkit(tmp_path / "toolkit")
    with_toolkit = {**environ, "CUDA_HOME": str(home)}
    off, on = {"SEQKERN_CUDA": "0"}, {"SEQKERN_CUDA": "1"}
    assert cuda.plan_cuda("13.0", site_packages, with_toolkit | off) == "SEQKERN_CUDA=0"
    assert cuda.plan_cuda("13.0", site_packages, with_toolkit | on).home == home
    assert cuda.plan_cuda(None, site_packages, with_toolkit) == "torch is built without CUDA"
    with pytest.raises(SystemExit, match="torch is built without CUDA"):
        cuda.plan_cuda(None, site_packages, with_toolkit | on)
    with pytest.raises(SystemExit, match="no CUDA 13 toolkit was found"):
        cuda.plan_cuda("13.0", site_packages, environ | on)
    with pytest.raises(SystemExit, match="SEQKERN_CUDA is 'yes', expected 0, 1 or unset"):
        cuda.plan_cuda("13.0", site_packages, environ | {"SEQKERN_CUDA": "yes"})


def test_default_architectures_end_in_ptx_that_newer_gpus_can_use(
    tmp_path: Path, machine: Machine
) -> None:
    site_packages, environ = machine
    environ["CUDA_HOME"] = str(make_toolkit(tmp_path / "toolkit"))
    plan = cuda.plan_cuda("13.0", site_packages, environ)
    assert cuda.architecture_flags(plan.architectures) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_90,code=compute_90",
    ]
    environ["TORCH_CUDA_ARCH_LIST"] = "8.6 10.0+PTX"
    plan = cuda.plan_cuda("13.0", site_packages, environ)
    assert cuda.architecture_flags(plan.architectures) == [
        "-gencode=arch=compute_86,code=sm_86",
        "-gencode=arch=compute_100,code=sm_100",
        "-gencode=arch=compute_100,code=compute_100",
    ]


@pytest.mark.parametrize("architectures", ["7.5", "Hopper", "9.0b", "8", "8.0;native", ";"])
def test_unreadable_or_too_old_architectures_are_refused(architectures: str) -> None:
    with pytest.raises(SystemExit, match="CUDA architecture"):
        cuda.architecture_flags(architectures)


# --- the built extension


def test_build_info_tells_versions_and_instruction_sets() -> None:
    info = seqkern.build_info()
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert info["seqkern"] == seqkern.__version__ == stated[1]
    assert info["torch_built_against"] == info["torch"] == torch.__version__
    assert info["isa"] in info["isas_compiled"]
    assert (info["cuda_architectures"] is None) == (info["cuda_note"] is not None)


ISA = "import seqkern; print(seqkern.build_info()['isa'])"


def test_seqkern_isa_selects_a_lower_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQKERN_ISA", "portable")
    assert run_python(ISA).strip() == "portable"


def test_unknown_seqkern_isa_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQKERN_ISA", "sse9")
    with pytest.raises(RuntimeError, match="SEQKERN_ISA=sse9 is unknown; expected portable, avx2"):
        run_python(ISA)


def test_extension_shares_the_openmp_runtime_of_torch() -> None:
    # A second one would bring its own threads, which compete with torch's for the same cores.
    maps = Path("/proc/self/maps").read_text()
    assert len(set(re.findall(r"/\S*lib(?:gomp|omp|iomp5)[-.\w]*", maps))) == 1


def test_every_operator_of_a_cuda_build_has_a_cuda_kernel() -> None:
    if not seqkern.build_info()["cuda"]:
        pytest.skip(f"built without CUDA: {seqkern.build_info()['cuda_note']}")
    names = [x for x in torch._C._dispatch_get_all_op_names() if x.startswith("seqkern::")]
    assert names
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    on_the_host = ["seqkern::alias_table"]  # tables are made there, whatever device draws by them
    assert [name for name in names if not has_kernel(name, "CUDA")] == on_the_host


@pytest.fixture
def uncompiled_copy(tmp_path: Path) -> Path:
    """A folder with seqkern's Python files and no extension."""
    package = Path(seqkern.__file__).parent
    shutil.copytree(package, tmp_path / "seqkern", ignore=shutil.ignore_patterns("*.so"))
    return tmp_path


def test_import_without_the_extension_says_how_to_install_it(uncompiled_copy: Path) -> None:
    with pytest.raises(RuntimeError, match="no compiled extension seqkern._C: install it with"):
        run_python("import seqkern", cwd=uncompiled_copy)


def test_extension_of_another_torch_is_refused_on_import(uncompiled_copy: Path) -> None:
    (uncompiled_copy / "seqkern/_C.py").write_text("torch_built_against = '2.0.0'")
    with pytest.raises(RuntimeError, match=r"built against torch 2\.0\.0, but torch .* rebuild"):
        run_python("import seqkern", cwd=uncompiled_copy)
