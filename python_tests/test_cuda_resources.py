"""What ptxas says of kernels is kept, read and put in a table, and a spill fails the check."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from seqkern_build.sources import read_sources

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

ROOT = Path(__file__).parents[1]
STEP = (
    "_ZN7seqkern4cuda59_GLOBAL__N__101240d2_20_recurrent_forward_cu_301a55f8_3167612step_forward"
    "INS_4math10LstmCellOfILb0EEENS3_8BFloat16ELb1EEEv"
    "NS_26RecurrentStepForwardParamsIT0_NS3_5SumOfIS8_E4typeEEE"
)
PLAIN = "_Z5plainPf"


def entry(
    symbol: str, arch: str, stack: int, stores: int, loads: int, registers: int, memory: str
) -> str:
    """What ptxas 13.0 says of a kernel."""
    return (
        f"ptxas info    : Compiling entry function '{symbol}' for '{arch}'\n"
        f"ptxas info    : Function properties for {symbol}\n"
        f"    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads\n"
        f"ptxas info    : Used {registers} registers, used 1 barriers{memory}\n"
        "ptxas info    : Compile time = 18.012 ms\n"
    )


CLEAN = (
    "ptxas info    : 0 bytes gmem\n"
    + entry(STEP, "sm_80", 0, 0, 0, 66, ", 128 bytes smem, 720 bytes cmem[0]")
    + entry(STEP, "sm_90a", 0, 0, 0, 72, ", 128 bytes smem")
    + entry(PLAIN, "sm_80", 0, 0, 0, 32, ", 720 bytes cmem[0], 8 bytes cmem[2]")
    + entry(PLAIN, "sm_90a", 0, 0, 0, 32, "")
)
SPILLS = entry(STEP, "sm_80", 8, 4, 12, 64, ", 8 bytes cumulative stack size, 128 bytes smem")
SPILLS += entry(STEP, "sm_90a", 0, 0, 0, 72, ", 128 bytes smem")
STEP_NAME = "step_forward<LstmCellOf<false>, BFloat16, true>"


@pytest.fixture
def resources(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("cuda_resources")


def objects(folder: Path, log: str) -> Path:
    """A folder as a build leaves it, where the last source has this log."""
    sources = read_sources(ROOT / "csrc/sources.txt")["cuda"]
    for source in sources:
        path = (folder / source).with_suffix(".ptxas")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(log if source == sources[-1] else CLEAN)
    return folder


def test_log_is_read_by_kernel_and_architecture(resources: ModuleType) -> None:
    kernels = resources.read_log(CLEAN)
    assert kernels == {
        STEP_NAME: {
            "sm_80": resources.Usage(66, stack=0, spill_stores=0, spill_loads=0, shared=128),
            "sm_90a": resources.Usage(72, stack=0, spill_stores=0, spill_loads=0, shared=128),
        },
        "plain": {
            arch: resources.Usage(32, stack=0, spill_stores=0, spill_loads=0, shared=0)
            for arch in ("sm_80", "sm_90a")
        },
    }
    assert [resources.Usage(n, 0, 0, 0, 0).warps for n in (16, 32, 33, 128, 255)] == [
        64, 64, 48, 16, 8,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("signature", "name"),
    [
        ("void seqkern::cuda::(anonymous namespace)::f<seqkern::math::A, 3>(T<(E)1>)", "f<A, 3>"),
        ("void seqkern::cuda::detail::f<(seqkern::math::E)1>(int)", "detail::f<(E)1>"),
        ("f(float*)", "f"),
    ],
)
def test_kernel_is_named_without_namespaces_and_parameters(
    resources: ModuleType, signature: str, name: str
) -> None:
    assert resources.short_name(signature) == name


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (CLEAN.replace("registers", "uniform registers"), "not every entry"),
        (
            f"{CLEAN}ptxas info    : Function properties for _Z1ffi\n"
            "    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n",
            "not inlined in its kernels spills",
        ),
    ],
)
def test_log_that_leaves_something_unchecked_is_refused(
    resources: ModuleType, log: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        resources.read_log(log)


def test_page_without_spills_is_written(resources: ModuleType, tmp_path: Path) -> None:
    folder = objects(tmp_path / "objects", CLEAN)
    assert resources.main(["--objects", str(folder), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "cuda-resources.md").read_text()
    assert f"| `{STEP_NAME}` | 66 / 72 | 28 | 0 | 0 | 128 |" in page
    assert "softmax.cu: `plain` | 1 | 32 | 64 | 0 | 0 | 0 |" in page
    assert "sm_80 / sm_90a" in page


def test_spill_fails_and_names_kernel_architecture_and_bytes(
    resources: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resources.main(["--objects", str(objects(tmp_path, SPILLS))]) == 1
    said = capsys.readouterr()
    assert said.err == f"spilled (stored + loaded): {STEP_NAME}, sm_80: 4 + 12 bytes\n"
    assert f"| `{STEP_NAME}` | 64 / 72 | 32 / 28 | 4 + 12 / 0 | 8 / 0 | 128 |" in said.out


def test_spill_may_be_allowed_with_a_reason(
    resources: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(resources.ALLOWED_SPILLS, "step_.*BFloat16.*", "it is a test")
    assert resources.main(["--objects", str(objects(tmp_path, SPILLS))]) == 0
    assert "kernels that may: `step_.*BFloat16.*`: it is a test" in capsys.readouterr().out


def test_missing_log_and_missing_architecture_are_refused(
    resources: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resources.main(["--objects", str(tmp_path)]) == 2
    assert "run `make test-cuda-build` first" in capsys.readouterr().err
    only_one = entry(PLAIN, "sm_80", 0, 0, 0, 32, "")
    assert resources.main(["--objects", str(objects(tmp_path, only_one))]) == 2
    assert "not every kernel is compiled for the same" in capsys.readouterr().err


@pytest.mark.parametrize("status", [0, 1])
def test_log_is_kept_beside_the_object_and_errors_are_shown(tmp_path: Path, status: int) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f'#!/bin/sh\necho "$@" >&2; exit {status}\n')
    nvcc.chmod(0o755)
    wrapper = ROOT / "build_backend/seqkern_build/nvcc_log.py"
    command = [sys.executable, str(wrapper), str(nvcc), "-c", "k.cu", "-o", str(tmp_path / "k.o")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == status
    said = f"-c k.cu -o {tmp_path / 'k.o'} -Xptxas=-v\n"
    assert answer.stderr == (said if status else "")
    assert (tmp_path / "k.ptxas").exists() == (status == 0)
