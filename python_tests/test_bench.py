"""The report of bench/ runs, and writes the same results as a table and as JSON."""

import json
import subprocess
import sys
from pathlib import Path

REPORT = Path(__file__).parents[1] / "bench" / "report.py"


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
        assert row["name"] == "N=1 T=35 D=256 H=256"
        assert row["rounds"] >= 5
        assert 0 < row["seqkern"]["low"] <= row["seqkern"]["median"] <= row["seqkern"]["high"]
        assert row["speedup"] == row["torch"]["median"] / row["seqkern"]["median"]
        assert f"| {row['name']} | {row['seqkern']['median'] * 1e3:.3f}" in result.stdout


def test_report_of_no_case_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(REPORT), "--only=nothing", f"--out={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "no case contains 'nothing'" in result.stderr
    assert not any(tmp_path.iterdir())
