"""The benchmarks run, let all peers do the same work, and write the same results in every form."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

BENCH = Path(__file__).parents[1] / "bench"
REPORT = BENCH / "report.py"
GRID_SECTIONS = [
    "lstm",
    "gru",
    "rnn",
    "bf16",
    "bf16-torch",
    "stream",
    "tokens",
    "lengths",
    "recompute",
    "interference",
]


def test_report_times_both_peers_and_writes_its_files(tmp_path: Path) -> None:
    command = [sys.executable, str(REPORT), "--quick", "--threads=1", "--only=N=1 T=35"]
    result = subprocess.run(
        [*command, f"--out={tmp_path / 'new'}"], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == (tmp_path / "new" / "cpu.md").read_text() + "\n"
    data = json.loads((tmp_path / "new" / "cpu.json").read_text())
    assert data["threads"] == 1
    assert data["command"].startswith("python bench/report.py --quick --threads=1")
    assert [row["group"] for row in data["results"]] == [
        "LSTM, forward",
        "LSTM, forward + backward",
    ]
    for row in data["results"]:
        assert row["sizes"] == {"N": 1, "T": 35, "D": 256, "H": 256}
        assert row["rounds"] >= 5
        ours, torchs = row["times"]["seqkern"], row["times"]["torch"]
        assert 0 < ours["low"] <= ours["median"] <= ours["high"]
        assert row["speedup"] == torchs["median"] / ours["median"]
        assert f"| N=1 T=35 D=256 H=256 | {ours['median'] * 1e3:.3f}" in result.stdout


def test_report_of_no_case_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(REPORT), "--only=nothing", f"--out={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "no case contains 'nothing'" in result.stderr
    assert not any(tmp_path.iterdir())


def run_grid(out: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(BENCH / "grid.py"), "--quick", "--seconds-per-point=0"]
    return subprocess.run(
        [*command, f"--out={out}", *arguments], capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def grid_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every section of the grid was measured into."""
    folder = tmp_path_factory.mktemp("grid")
    result = run_grid(folder, "--threads=1")
    assert result.returncode == 0, result.stderr
    assert result.stdout == (folder / "recurrent-cpu-quick.md").read_text() + "\n"
    return folder


def stored(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "recurrent-cpu-quick.json").read_text())


def test_grid_measures_every_section(grid_folder: Path) -> None:
    store = stored(grid_folder)
    assert list(store) == GRID_SECTIONS
    for section in store.values():
        assert section["facts"]["threads"] == 1
        assert section["facts"]["command"].startswith("python bench/grid.py --quick")
        for row in section["results"]:
            assert row["rounds"] == 5
            for timing in row["times"].values():
                assert 0 < timing["low"] <= timing["median"] <= timing["high"]
    assert {"seqkern", "torch", "seqkern, busy", "torch, busy"} == set(
        store["interference"]["results"][0]["times"]
    )
    (recompute,) = store["recompute"]["results"]
    assert recompute["memory"].keys() == recompute["times"].keys()
    assert min(recompute["memory"].values()) >= 0


def test_grid_page_links_to_its_plot_and_sections(grid_folder: Path) -> None:
    page = (grid_folder / "recurrent-cpu-quick.md").read_text()
    linked = re.findall(r"\(#([^)]*)\)", page)
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    anchors = [re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert list(dict.fromkeys(linked)) == anchors
    assert len(anchors) == len(GRID_SECTIONS)
    assert "](recurrent-cpu-quick.svg)" in page
    plot = (grid_folder / "recurrent-cpu-quick.svg").read_text()
    for text in ("LSTM, forward (target 1.5)", "RNN, forward + backward (target 3)", "N = 3"):
        assert f">{text}</text>" in plot


def test_grid_keeps_the_sections_that_it_does_not_measure(grid_folder: Path) -> None:
    before = stored(grid_folder)
    result = run_grid(grid_folder, "--only=lstm", "--threads=2")
    assert result.returncode == 0, result.stderr
    after = stored(grid_folder)
    assert after["lstm"]["facts"]["threads"] == 2
    assert {**after, "lstm": None} == {**before, "lstm": None}


def test_grid_writes_the_page_again_without_measuring(grid_folder: Path) -> None:
    names = [f"recurrent-cpu-quick.{suffix}" for suffix in ("json", "md", "svg")]
    before = [(grid_folder / name).read_bytes() for name in names]
    (grid_folder / names[1]).unlink()
    result = run_grid(grid_folder, "--only=")
    assert result.returncode == 0, result.stderr
    assert [(grid_folder / name).read_bytes() for name in names] == before


def test_grid_of_an_unknown_section_is_refused(tmp_path: Path) -> None:
    result = run_grid(tmp_path, "--only=lstm,nothing")
    assert result.returncode == 2
    assert "no section nothing; there are lstm, gru" in result.stderr
    assert not any(tmp_path.iterdir())


def test_grid_with_nothing_to_write_is_refused(tmp_path: Path) -> None:
    result = run_grid(tmp_path, "--only=")
    assert result.returncode == 2
    assert "nothing has been measured into" in result.stderr


@pytest.mark.parametrize("name", [name for name in GRID_SECTIONS if name != "interference"])
def test_peers_do_the_same_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    sections = importlib.import_module("sections").SECTIONS
    (section,) = (section for section in sections if section.name == name)
    tolerance = 0.05 if name.startswith("bf16") else 1e-4
    for case in section.cases(quick=True):
        # Without lengths=, what lies past the end counts.
        first, *others = (peer for peer in case.peers if peer != "padded")
        expected = case.make(first)()
        assert others
        for peer in others:
            torch.testing.assert_close(
                case.make(peer)(),
                expected,
                rtol=tolerance,
                atol=tolerance,
                check_dtype=False,
                msg=lambda text, what=f"{case}, {peer} beside {first}": f"{what}: {text}",
            )


# --- softmax_report.py ---------------------------------------------------------------------------


def test_softmax_report_measures_times_and_memory_and_writes_its_files(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "softmax_report.py"), "--quick", "--seconds=0"]
    result = subprocess.run(
        [*command, f"--out={tmp_path}"], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == (tmp_path / "softmax-cpu-quick.md").read_text() + "\n"
    assert "(softmax-cpu-quick.svg)" in result.stdout
    assert (tmp_path / "softmax-cpu-quick.svg").read_text().count("<svg") == 1
    rows = json.loads((tmp_path / "softmax-cpu-quick.json").read_text())["results"]
    assert [row["group"] for row in rows] == ["logits", "linear", "bfloat16", "tied"]
    for row in rows:
        assert all(timing["median"] > 0 for timing in row["times"].values())
    linear = rows[1]
    assert {"seqkern", "torch", "torch.compile"} <= linear["times"].keys()
    # The logits of these sizes are 16 MiB, of which torch holds several copies.
    assert linear["memory"]["torch"] > 2 * linear["memory"]["seqkern"] > 0
    assert rows[3]["memory"]["seqkern"] > 1.5 * rows[3]["memory"]["tied"]


def test_negative_sampling_report_measures_times_and_writes_its_files(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "negative_sampling_report.py"), "--quick", "--seconds=0"]
    result = subprocess.run(
        [*command, f"--out={tmp_path}"], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    stem = tmp_path / "negative-sampling-cpu-quick"
    assert result.stdout == stem.with_suffix(".md").read_text() + "\n"
    rows = json.loads(stem.with_suffix(".json").read_text())["results"]
    assert len({row["group"] for row in rows}) == len(rows) == 6
    assert all(timing["median"] > 0 for row in rows for timing in row["times"].values())


def test_peers_of_negative_sampling_do_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    sampling = importlib.import_module("negative_sampling")
    for cbow in (False, True):
        run, peer = (
            sampling.make(name, {"B": 40, "V": 100}, True, cbow) for name in ("seqkern", "torch")
        )
        torch.testing.assert_close(run().detach(), peer().detach())


def test_peers_of_the_losses_do_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    losses = importlib.import_module("losses")
    sizes = (40, 8, 100)
    for case in (losses.logits_case(40, 100), losses.linear_case(*sizes), losses.tied_case(*sizes)):
        peers = [peer for peer in case.peers if peer not in ("seqkern", losses.COMPILED)]
        found = case.make("seqkern")()
        for peer in peers:
            torch.testing.assert_close(case.make(peer)(), found, rtol=1e-4, atol=1e-6)


# --- sampling_report.py --------------------------------------------------------------------------


def test_sampling_report_measures_both_kinds_of_draws_and_writes_its_files(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "sampling_report.py"), "--quick", "--seconds=0"]
    result = subprocess.run(
        [*command, f"--out={tmp_path}"], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == (tmp_path / "sampling-cpu-quick.md").read_text() + "\n"
    assert "Not measured." not in result.stdout
    rows = json.loads((tmp_path / "sampling-cpu-quick.json").read_text())["results"]
    assert {row["group"] for row in rows} == {"independent", "distinct", "skewed", "table"}
    for row in rows:
        assert all(timing["median"] > 0 for timing in row["times"].values())
