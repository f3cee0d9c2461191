"""The check of a GPU, without one: its points, its stages, its report, and a dry run on the CPU."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

BENCH = Path(__file__).parents[1] / "bench"
Import = Callable[[str], ModuleType]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Import:
    """Import a file of bench/."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def run_script(
    name: str, *arguments: object, **environment: str
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(BENCH / name), "--device=cpu", *map(str, arguments)]
    # Threads that wait for each other on busy cores take far longer than the tiny sizes.
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)


# --- points --------------------------------------------------------------------------------------


def test_points_are_those_of_the_plan_and_each_has_its_own_name(bench: Import) -> None:
    points = bench("gpu_points").points()
    by_section = Counter(point.section for point in points)
    assert by_section["layers"] == 3 * 4 * 24 * 2
    assert by_section["shapes"] == 5 * by_section["layers"]
    assert (by_section["targets"], by_section["tokens"]) == (4, 4)
    assert (by_section["logits"], by_section["linear"]) == (10, 4)
    assert len({str(point) for point in points}) == len(points)
    for point in points:
        assert 1 <= point.sets <= 4
        assert (point.target is not None) == (point.section == "targets")
        called = point.section in ("others", "words") or "lengths" in point.case.group
        assert point.graph == (not called)


def test_first_points_are_the_targets_and_any_beginning_has_all_cells(bench: Import) -> None:
    points = bench("gpu_points").points()
    first = ["targets"] * 4 + ["logits"] * 10 + ["linear"] * 4
    assert [point.section for point in points[:18]] == first
    layers = [point for point in points if point.section == "layers"]
    assert layers[0].case.sizes == {"N": 16, "T": 256, "D": 768, "H": 768}
    groups = {point.case.group for point in layers}
    for start in range(0, len(layers), 24):  # size by size
        of_size = layers[start : start + 24]
        assert {point.case.group for point in of_size} == groups
        assert len({str(point.case.sizes) for point in of_size}) == 1


def test_shapes_come_size_by_size_and_each_can_be_chosen(bench: Import) -> None:
    points = [p for p in bench("gpu_points").points() if p.section == "shapes"]
    layers = [p for p in bench("gpu_points").points() if p.section == "layers"]
    names = ("T=1024", "two layers", "both directions", "lengths", "two layers, both directions")
    of_size = 5 * 24
    for start in range(0, len(points), of_size):
        kinds = Counter(p.case.group.split(", ", 2)[2] for p in points[start : start + of_size])
        passes = ("forward", "forward + backward")
        assert kinds == {f"{name}, {of}": 12 for name in names for of in passes}
        sizes = {(p.case.sizes["N"], p.case.sizes["H"]) for p in points[start : start + of_size]}
        of_layers = layers[start // 5].case.sizes
        assert sizes == {(of_layers["N"], of_layers["H"])}
    for point in points:
        assert (point.layer is not None) == ("T=1024" in point.case.group)
        assert point.case.sizes["T"] == (1024 if "T=1024" in point.case.group else 256)
    chosen = bench("gpu_points").points(only=["GRU, fp32, both directions"])
    assert len(chosen) == 24 * 2


def test_lengths_are_of_every_kind_and_the_longest_comes_first(
    bench: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, given = bench("gpu_points"), []
    pack = points.pack_padded_sequence
    monkeypatch.setattr(points, "pack_padded_sequence", lambda x, n: given.append(n) or pack(x, n))
    torch = importlib.import_module("torch")
    sizes = {"N": 9, "T": 30, "D": 3, "H": 4}
    of = {"cell": "GRU", "sizes": sizes, "backward": False, "dtype": torch.float32}
    lengths = next(shape for shape in points.SHAPES if shape.lengths)
    output = points.make_shape("torch", **of, shape=lengths)()
    (of_torch,) = given
    assert of_torch[0] == 30 and of_torch.tolist() == sorted(of_torch.tolist(), reverse=True)
    assert of_torch.unique().numel() > 3
    assert output.equal(output * (torch.arange(30)[:, None, None] < of_torch[:, None]))
    ours = points.make_shape("seqkern", **of, shape=lengths)()
    assert torch.allclose(ours, output, atol=1e-6)


def test_losses_are_those_of_the_plan(bench: Import) -> None:
    points = bench("gpu_points").points(only=["logits", "linear"])
    found = [(p.case.group, *p.case.sizes.values()) for p in points if p.section == "logits"]
    vocabularies = (50257, 131072, 32000, 10000, 1000)
    passes = ("bf16, forward + backward", "bf16, forward")
    assert found == [(of_pass, 8192, v) for of_pass in passes for v in vocabularies]
    sizes = [tuple(point.case.sizes.values()) for point in points if point.section == "linear"]
    assert {*sizes} == {
        (8192, 650, 10000),
        (8192, 1024, 50257),
        (8192, 2048, 50257),
        (8192, 4096, 128256),
    }
    for point in points:
        peers = {*point.case.peers}
        assert peers >= {"seqkern", "torch", "copy" if point.section == "logits" else "torch"}
        if point.section == "linear":
            assert "torch.compile" in peers
            n, h, v = point.case.sizes.values()
            assert point.case.flops == 6 * n * h * v


def test_copy_moves_as_many_bytes_as_the_loss(bench: Import) -> None:
    points = bench("gpu_points")
    for backward, elements in ((True, 80), (False, 40)):
        copy = points.make_logits("copy", {"N": 8, "V": 10}, backward)
        assert copy() is None
        source, copied = (cell.cell_contents for cell in copy.__closure__)
        assert source.numel() == copied.numel() == elements
        assert source.equal(copied)


def test_other_packages_are_peers_where_they_are_installed(
    bench: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, points = bench("losses"), bench("gpu_points")
    there: set[str] = set()
    monkeypatch.setattr(losses.importlib.util, "find_spec", lambda name: name in there or None)
    assert points.other_points(False) == []
    there.add("cut_cross_entropy")
    found = points.other_points(False)
    assert len(found) == 4
    for point in found:
        assert point.case.peers == ("seqkern", "torch", "Cut", "Cut exact")


# What FlashRNN computes on a CPU, by the shapes and orders of gates that its package documents.
FLASHRNN = """
import torch
def flashrnn(Wx, R, b, function="lstm", backend="cuda_fused", dtype="bfloat16"):
    assert (backend, dtype) == ("vanilla", "float32")
    N, T, _, heads, H = Wx.shape
    h, c, found = Wx.new_zeros(N, H), Wx.new_zeros(N, H), []
    for x in Wx[:, :, :, 0].unbind(1):  # [N, gates, H]
        y = torch.einsum("gdp,np->ngd", R[:, 0], h)
        if function == "lstm":
            i, f, z, o = (x + y + b[:, 0]).unbind(1)
            c = f.sigmoid() * c + i.sigmoid() * z.tanh()
            h = o.sigmoid() * c.tanh()
        elif function == "gru":
            g = y[:, 0] + b[0, 0]
            r, z = ((x[:, k] + y[:, k + 1] + b[k + 1, 0]).sigmoid() for k in (0, 1))
            h = z * h + (1 - z) * (x[:, 2] + b[3, 0] + r * g).tanh()
        else:
            h = (x + y + b[:, 0])[:, 0].tanh()
        found.append(h)
    states = torch.stack(found, 1)[None, :, :, None]
    return states, states[:, :, -1:]
"""


def test_flashrnn_is_a_peer_with_the_parameters_of_torch(tmp_path: Path) -> None:
    (tmp_path / "flashrnn.py").write_text(FLASHRNN)
    file = tmp_path / "points.jsonl"
    arguments = (f"--results={file}", "--seconds-per-point=0", "--only", "FlashRNN")
    done = run_script("gpu_bench.py", *arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [found for found in map(json.loads, file.read_text().splitlines()) if "end" in found]
    assert len(rows) == 6
    for row in rows:
        assert row["errors"] == {}
        assert [*row["result"]["times"]] == ["seqkern", "torch", "FlashRNN"]
        assert row["differences"]["FlashRNN"] < 1e-5


def test_flashrnn_that_does_not_build_is_left_out_and_the_report_says_why(tmp_path: Path) -> None:
    broken = (
        "def flashrnn(*_, **__): raise RuntimeError('Error building\\n[1/2]\\nx.cu(3): error: y')"
    )
    (tmp_path / "flashrnn.py").write_text(broken)
    arguments = ("--stages", "benchmarks", "--only", "FlashRNN: LSTM", "--seconds-per-point=0")
    where = (f"--out={tmp_path}", f"--work={tmp_path / 'work'}")
    done = run_script("gpu_check.py", *where, *arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout
    text = (tmp_path / "gpu-check-dry-run.md").read_text()
    assert "- FlashRNN raised RuntimeError: Error building … x.cu(3): error: y: 2 points" in text


def test_only_chooses_by_any_text(bench: Import) -> None:
    chosen = bench("gpu_points").points(only=["targets", "GRU, bf16"])
    assert {point.section for point in chosen} == {"targets", "tuning", "layers", "shapes"}
    assert all("targets" in str(point) or "GRU, bf16" in str(point) for point in chosen)


def test_copies_are_as_many_as_exceed_the_cache(bench: Import) -> None:
    sets_for = bench("gpu_points").sets_for
    assert [sets_for(n) for n in (1, 64 * 2**20, 2**40)] == [4, 2, 1]


def test_predictions_are_of_kernels_and_that_of_the_chosen_one_comes_first(
    bench: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_bench, budget = bench("gpu_bench"), bench("step_budget")
    given = []

    def plans(cell: str, dtype: object, **of: Any) -> list[Any]:
        given.append((cell, str(dtype), of))
        totals = {"steps": 3.0, "grid:8:1": 5.0} if of["backward"] else None
        totals = totals or {"grid:16:2": 1.0, "grid:8:1": 1.25, "steps": 4.0}
        return [budget.RecurrentPlan(name, 0, us, 0, 0, 0, 0) for name, us in totals.items()]

    monkeypatch.setattr(budget.seqkern.cuda, "recurrent_plans", plans)
    points = bench("gpu_points").points(only=["targets: LSTM, fp16", "shapes: RNN, tf32, T=1024"])
    forward, both = (gpu_bench.predictions(point, budget.H100) for point in points[:2])
    product = 2 * 16 * 4 * 768**2 / 600e6  # of the input
    assert [*forward] == ["grid:16:2", "grid:8:1", "steps"]
    assert forward["grid:8:1"] == pytest.approx(1.25 + product)
    assert [*both] == ["grid:16:2 and steps", "steps", "grid:8:1"]
    assert [*both.values()] == pytest.approx([us + 4 * product for us in (4.0, 7.0, 6.25)])
    sizes = {"hidden_size": 768, "batch": 16, "steps": 1024, "device": budget.H100}
    assert given[1] == ("lstm", "torch.bfloat16", {**sizes, "backward": False, "tf32": False})
    given.clear()
    gpu_bench.predictions(points[2], budget.H100)
    assert given == [("rnn_tanh", "torch.float32", {**sizes, "backward": False, "tf32": True})]
    (of_no_layer,) = bench("gpu_points").points(only=["two layers, forward: N=16 T=256 D=768"])[:1]
    assert gpu_bench.predictions(of_no_layer, budget.H100) == {}


# --- stages --------------------------------------------------------------------------------------


def python(text: str) -> Callable[[float], list[str]]:
    return lambda _: [sys.executable, "-c", text]


def test_stages_that_fail_or_hang_are_reported_and_later_ones_run(
    bench: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = bench("gpu_stages")
    monkeypatch.setattr(stages, "GRACE_SECONDS", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('x', flush=1)"
    plan = [
        stages.Stage("fails", python("print('why'); raise SystemExit(3)"), 60),
        stages.Stage("hangs", python(f"{deaf}; time.sleep(60)"), 2),
        stages.Stage("no command", lambda _: ["/nowhere/x"], 60),
        stages.Stage("waits for it", python("pass"), 60, needs=["fails"]),
        stages.Stage("is not here", python("pass"), 60, missing="no tool"),
        stages.Stage("works", python("print('fine')"), 60, needs=["never chosen"]),
    ]
    start = time.monotonic()
    records = list(stages.run_stages(plan, 60, tmp_path / "log"))
    assert time.monotonic() - start < 20
    assert [record.outcome for record in records] == [
        "failed",
        "out of time",
        "failed",
        "not run",
        "not run",
        "passed",
    ]
    assert (records[0].note, list(records[0].tail)) == ("exit status 3", ["why"])
    assert list(records[1].tail) == ["x"]
    assert [record.note for record in records[3:5]] == ["for want of fails", "no tool"]
    assert stages.printed(tmp_path / "log") == "fine\n"


def test_an_interrupted_stage_can_write_what_it_has(
    bench: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = bench("gpu_stages")
    monkeypatch.setattr(stages, "GRACE_SECONDS", 3)
    text = (
        "import time\ntry:\n print('up', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt: print('saved')"
    )
    stage = stages.Stage("slow", python(text), stages.GRACE_SECONDS + 2)
    (record,) = stages.run_stages([stage], 60, tmp_path / "log")
    assert (record.outcome, list(record.tail)) == ("out of time", ["up", "saved"])


def test_a_stage_that_goes_on_is_started_again(bench: Import, tmp_path: Path) -> None:
    stages = bench("gpu_stages")
    text = f"f = open({str(tmp_path / 'n')!r}, 'a+'); f.write('x'); raise SystemExit(f.tell() < 3)"
    stage = stages.Stage("goes on", python(text), 60, goes_on=True)
    (record,) = stages.run_stages([stage], 60, tmp_path / "log")
    assert (record.outcome, record.note) == ("passed", "started 3 times")


def test_stages_leave_time_to_the_later_ones(
    bench: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = bench("gpu_stages")
    given: dict[str, float] = {}

    def run(stage: Any, seconds: float, log: Path) -> Any:
        given[stage.name] = round(seconds)
        return stages.Record(stage.name, "passed")

    monkeypatch.setattr(stages, "run_stage", run)
    plan = [
        stages.Stage("first", python(""), 500),
        stages.Stage("absent", python(""), 60, least=60, missing="no tool"),
        stages.Stage("second", python(""), 60, least=30),
        stages.Stage("last", python(""), 1000, least=70),
    ]
    records = list(stages.run_stages(plan, 300, tmp_path / "log"))
    assert given == {"first": 200, "second": 60, "last": 300}  # no time passes here
    assert len(records) == 4
    (late,) = stages.run_stages(plan[:1], 1, tmp_path / "log")
    assert late.note == "no time was left"


def test_the_whole_check_fits_its_time(bench: Import) -> None:
    stages = bench("gpu_check").Check("cuda", 560).stages()
    assert [stage.name for stage in stages] == [
        "facts",
        "synchronisation",
        "build",
        "device-tests",
        "suite",
        "memcheck",
        "racecheck",
        "synccheck",
        "benchmarks",
    ]
    kept = sum(stage.least for stage in stages[3:])
    assert sum(stage.limit for stage in stages[:3]) + kept <= 560


def test_synchronisation_is_built_for_the_gpu_with_the_toolkit_of_the_extension(
    bench: Import, tmp_path: Path
) -> None:
    program = bench("gpu_synchronisation")
    cuda = program.CudaBuild(tmp_path, "8.0", ["/some/include"], tmp_path / "lib/libcudart.so.13")
    command = program.build_command(cuda, "9.0a", tmp_path / "out")
    assert command[0] == str(tmp_path / "bin/nvcc")
    assert "-gencode=arch=compute_90a,code=sm_90a" in command
    assert f"{tmp_path}/lib/libcudart.so.13,-rpath={tmp_path}/lib" in command
    assert Path(command[command.index("/some/include") + 1]).is_file()


# --- what stages leave ---------------------------------------------------------------------------


def test_results_of_pytest_are_read(bench: Import, tmp_path: Path) -> None:
    check = bench("gpu_check")
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--backend')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError('no luck')\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2, 'a | b'\n"
        "def test_worse(broken): pass\n"
        "@pytest.mark.skip(reason='one CUDA device')\n"
        "def test_not(): pass\n"
    )
    command = check.pytest_command(tmp_path / "x.xml", "cuda", ["test_it.py"])
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    found = check.junit_results(tmp_path / "x.xml")
    assert [found[kind] for kind in ("passed", "failed", "skipped")] == [1, 2, 1]
    assert found["reasons"] == {"one CUDA device": 1}
    assert [failure["test"] for failure in found["failures"]] == [
        "test_it::test_bad",
        "test_it::test_worse",
    ]
    assert "a | b" in found["failures"][0]["message"]
    assert check.junit_results(tmp_path / "none.xml")["passed"] == "no results were written"


def test_results_of_compute_sanitizer_are_read(bench: Import) -> None:
    text = (
        "========= COMPUTE-SANITIZER\nlstm torch.float32\nran 5 of 67\n"
        "========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)\n"
    )
    assert bench("gpu_check").sanitizer_results(text) == {
        "summary": ["RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)"],
        "covered": "5 of 67",
    }


# --- the report ----------------------------------------------------------------------------------


def timing(seconds: float) -> dict[str, float]:
    return {"median": seconds, "low": 0.99 * seconds, "high": 1.01 * seconds, "mean": seconds}


def line(name: str, group: str, ours: float | None, torchs: float, **more: Any) -> dict[str, Any]:
    """A point as gpu_bench.py writes it; ``name`` is "section: N T H"."""
    section, _, sizes = name.partition(": ")
    n, t, h = map(int, sizes.split())
    peers = {"seqkern": ours, "torch": torchs}
    result = {
        "group": group,
        "sizes": {"N": n, "T": t, "D": h, "H": h},
        "flops": 1e9,
        "rounds": 9,
        "times": {peer: timing(t) for peer, t in peers.items() if t is not None},
        "memory": {},
    }
    return {
        "end": f"{section}: {group}: N={n} T={t} D={h} H={h}",
        "section": section,
        "precision": "bf16",
        "sets": 4,
        "target": None,
        "modes": {"seqkern": "graph", "torch": "graph"},
        "errors": {},
        "differences": {"seqkern": 0.004},
        "result": result,
        **more,
    }


def loss_line(
    section: str, seconds: dict[str, float], group: str = "bf16, forward + backward"
) -> dict[str, Any]:
    """A point of a loss."""
    found = line(f"{section}: 8192 1 650", group, None, 1.0)
    found["result"] |= {
        "sizes": {"N": 8192, "V": 10000},
        "times": {peer: timing(of_peer) for peer, of_peer in seconds.items()},
        "memory": {peer: index * 2**20 for index, peer in enumerate(seconds, 5)},
    }
    return found


def tuning_line(seconds: dict[str, float]) -> dict[str, Any]:
    """A point of several kernels."""
    predicted = {"grid:16:2 and steps": 2.0, "grid:8:1": 4.0, "steps": 7.8125}
    found = line("tuning: 16 256 768", "LSTM, bf16, forward + backward", None, 1.0)
    found["result"] |= {"times": {peer: timing(of_peer) for peer, of_peer in seconds.items()}}
    return {**found, "predicted": predicted}


FORWARD = "LSTM, bf16, forward"
ROWS = [
    line("targets: 16 1024 768", FORWARD, 0.9e-3, 2e-3, target=1e-3),
    line(
        "targets: 16 1024 768", "LSTM, fp16, forward", 1.1e-3, 2e-3, target=1e-3, precision="fp16"
    ),
    loss_line("logits", {"seqkern": 1.0e-4, "torch": 3e-4, "copy": 0.95e-4}),
    loss_line("logits", {"seqkern": 1.2e-4, "torch": 3e-4, "copy": 0.9e-4}),
    loss_line("logits", {"seqkern": 1.2e-4, "torch": 3e-4, "copy": 0.6e-4}, "bf16, forward"),
    loss_line("linear", {"seqkern": 3e-3, "torch": 4e-3, "torch.compile": 3.5e-3}),
    loss_line("others", {"seqkern": 3e-3, "torch": 4e-3, "QuACK": 2e-3}),
    line("layers: 16 256 768", FORWARD, 1e-3, 4e-3, predicted={"grid:16:2": 2.0, "steps": 5.0}),
    tuning_line({"chosen": 0.5e-3, "grid:8:1": 1e-3, "steps": 2e-3, "cluster:16:1": 3e-3}),
    line("shapes: 16 256 768", "LSTM, bf16, two layers, forward", 1e-3, 3e-3),
    line("layers: 1 256 768", FORWARD, 1e-3, 1e-3, differences={"seqkern": float("nan")}),
    line("layers: 1 256 128", FORWARD, 2e-3, 1e-3, modes={"seqkern": "graph", "torch": "eager"}),
    line("layers: 1 256 2048", FORWARD, None, 1e-3, errors={"seqkern": "RuntimeError: a | b"}),
]


def exchange(
    way: str, blocks: int, cluster: int, count: int, us: float, estimate: float, **more: Any
) -> dict[str, Any]:
    """A line of synchronisation.cu."""
    of = {"way": way, "blocks": blocks, "cluster": cluster, "bytes": count, "estimate": estimate}
    return {**of, "us": us, "least": us, "greatest": us, "right": True, **more}


def trained(peer: str, **more: Any) -> dict[str, Any]:
    """What a training tells."""
    of = {"preset": "rnnlm", "dtype": "float32", "peer": peer, "epochs": 4, "split": "test"}
    told = {"seconds": 12.3, "unit": "tokens", "score": "perplexity"}
    return {**of, **told, "figures": {"loss": 4.9, "perplexity": 134.567}, **more}


@pytest.fixture
def data() -> dict[str, Any]:
    """All that gpu_check.py hands to the report."""
    passed = {"seconds": 3.0, "limit": 60.0, "note": "", "tail": []}
    return {
        "commands": [
            {"command": "python bench/gpu_check.py", "date": "2026-11-21", "commit": "abc"},
            {"command": "python bench/gpu_check.py --go-on", "date": "2026-11-22", "commit": "abc"},
        ],
        "device": "cuda",
        "facts": {
            "gpu": "NVIDIA H100 80GB HBM3",
            "capability": "9.0",
            "multiprocessors": 132,
            "memory_gib": 79.2,
            "l2_mb": 50,
            "torch": "2.11.0+cu130",
            "cuda": "13.0",
            "cudnn": 91300,
            "nvcc": None,
            "python": "3.12.3",
            "idle": {"clocks.sm": "345 MHz"},
            "copy_tb_per_s": 3.0,
            "bf16_tflops": 798,
            "tf32_tflops": 401,
        },
        "synchronisation": [
            exchange("polled", 48, 1, 3072, 0.61, 0.5),
            exchange("grid barrier", 132, 1, 0, 1.2, -1, least=1.14),
            exchange("grid barrier", 48, 1, 3072, 1.5, -1, right=False),
            exchange("cluster barrier", 16, 16, 0, 0.2, 0.25),
            exchange("cluster barrier", 128, 16, 0, 0.21, 0.27),
        ],
        "build": {"seqkern": "0.1.0"},
        "after": {"clocks.sm": "1980 MHz"},
        "stages": [
            {"name": "facts", "outcome": "passed", **passed},
            {"name": "suite", "outcome": "failed", **passed, "tail": ["E   assert 1 == 2"]},
        ],
        "tests": {
            "suite": {
                "passed": 7,
                "failed": 1,
                "skipped": 2,
                "failures": [{"test": "test_x::test_y", "message": "assert 1 == 2\nmore"}],
            }
        },
        "sanitizers": {
            "memcheck": {"summary": ["ERROR SUMMARY: 0 errors"], "covered": "67 of 67"},
        },
        "training": [
            trained("seqkern", epoch=4, finished=True, speeds={"H100": 200e3}),
            trained("torch", epoch=3, finished=False, speeds={"H100": 100e3}),
            trained("torch", dtype="bfloat16", epoch=0, finished=False, speeds={}, figures=None),
        ],
        "planned": 20,
        "unfinished": ["layers: RNN: CUDA error"],
        "rows": ROWS,
    }


def test_report_says_what_was_found(bench: Import, data: dict[str, Any], tmp_path: Path) -> None:
    page = bench("gpu_report").write(data, tmp_path)
    assert page == tmp_path / "nvidia-h100-80gb-hbm3/gpu-check.md"
    text = page.read_text()
    for expected in (
        "# GPU check: NVIDIA H100 80GB HBM3",
        "- `python bench/gpu_check.py`, 2026-11-21, commit abc\n- `python bench/gpu_check.py --go",
        "| rnnlm | float32 | seqkern | 4 of 4 | test perplexity 134.57 | 12 | 200,000 tokens/s | 2",
        "| rnnlm | float32 | torch | 3 of 4, **time was up** | test perplexity 134.57 | 12 |",
        "| rnnlm | bfloat16 | torch | 0 of 4, **time was up** | – | 12 | – | – |",
        "after the benchmarks: clocks.sm 1980 MHz",
        "cudnn 91300",
        "798 TFLOP/s in bf16, 401 in TF32",
        "|  | blocks | waiting, estimated | none | 3 KiB |",
        "| polled | 48 | 0.3 to 0.45 | – | 0.61 (0 %), 0.50 |",
        "| grid barrier | 132 | 0.6 to 1.5 | 1.20 (5 %) | – |",
        "| grid barrier | 48 | 0.6 to 1.5 | – | 1.50 (0 %) **wrong** |",
        "| cluster barrier, 16 blocks | 128 | 0.12 to 0.25 | 0.21 (0 %), 0.27 | – |",
        "| suite | failed | 3 | 60 |",
        "| suite | 7 | 1 | 2 |",
        "- `test_x::test_y`: assert 1 == 2 more",
        "| memcheck | ERROR SUMMARY: 0 errors | 67 of 67 |",
        "| 0.900 (2 %) | 1.000 | met | 2.000 (2 %) | 0.88 | 1.95 |",
        "| 1.100 (2 %) | 1.000 | **missed** |",
        "| LSTM, bf16 | 1.26 (0.50 to 4.00) | – | 1 of 3 |",
        "13 of 20 points",
        "| LSTM, bf16, two layers | 3.00 (3.00 to 3.00) | – | 0 of 1 |",
        "### LSTM, bf16, two layers, forward",
        "| cuDNN | fp16 | 2.01 / 5.19 | 1.100 / – | 2.000 / – |",
        "| FlashRNN, fused | bf16 | 4.87 / 13.6 | 0.900 / – | 2.000 / – |",
        "| haste | fp32 | 18.4 / 43.9 | – / – | – / – |",
        "| grid | bf16 | forward | 1 | 1.95 | 1.95 | 1.95 |",
        "| steps | bf16 | forward + backward | 1 | 1.00 | 1.00 | 1.00 |",
        "| LSTM, bf16, forward | N=16 T=256 D=768 H=768 | grid:16:2, chosen | 2.00 | 3.91 | 1.95 |",
        "| N=16 T=256 D=768 H=768 | grid:16:2 and steps, chosen | 2.00 | 1.95 | 0.98 |",
        "| N=16 T=256 D=768 H=768 | grid:8:1 | 4.00 | 3.91 | 0.98 |",
        "and pass, over H](gpu-check.svg)",
        "- hung or took the process down: layers: RNN: CUDA error",
        "**results differ**, by nan: layers: LSTM, bf16, forward: N=1 T=256 D=768 H=768, seqkern",
        "- seqkern raised RuntimeError: a \\| b: 1 points",
        "could not be captured: layers: LSTM, bf16, forward: N=1 T=256 D=128 H=128, torch",
        "- layers: LSTM, bf16, forward: N=1 T=256 D=128 H=128: 0.50 (2.000 (2 %) against 1.000",
        "| 0.100 (2 %) | 0.300 (2 %) | 3.00 | 0.09500 (2 %) | 95% | met |",
        "| 0.120 (2 %) | 0.300 (2 %) | 2.50 | 0.09000 (2 %) | 75% | **missed** |",
        "| 0.120 (2 %) | 0.300 (2 %) | 2.50 | 0.06000 (2 %) | 50% | – |",
        "| **3.000 (2 %)** | 4.000 (2 %) | 3.500 (2 %) | – |",
        "| 3.000 (2 %) | 4.000 (2 %) | – | **2.000 (2 %)** |",
        "| size | seqkern, MiB | torch, MiB | torch.compile, MiB | QuACK, MiB |",
        "| **5** | 6 | 7 | – |",
        "| **5** | 6 | – | 7 |",
        "| N=1 | 0.50: 7.81 / 3.91 | 1.00: 3.91 / 3.91 |",
        "| N=16 | – | 4.00: 3.91 / 15.62 |",
        "## End of the log of suite\n\n```\nE   assert 1 == 2\n```",
    ):
        assert expected in text, expected
    assert text.count("results differ") == 1


def test_report_is_written_anew_from_its_json(
    bench: Import, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = bench("gpu_report")
    data["rows"] = [row for row in ROWS if row["differences"] == {"seqkern": 0.004}]
    with monkeypatch.context() as patch:
        patch.setattr(report.importlib.util, "find_spec", lambda name: None)
        page = report.write(data, tmp_path)
    assert "svg" not in page.read_text()
    assert not page.with_suffix(".svg").exists()  # without matplotlib
    report.main([str(page.with_suffix(".json"))])
    assert "gpu-check.svg" in page.read_text()
    plot = page.with_suffix(".svg").read_text()
    assert "LSTM, bf16, forward + backward" in plot  # a panel, though nothing of it is measured
    assert {path.name for path in tmp_path.rglob("*.*")} == {
        f"gpu-check.{kind}" for kind in ("md", "json", "svg")
    }


def test_report_json_holds_everything(bench: Import, data: dict[str, Any], tmp_path: Path) -> None:
    data["rows"] = [row for row in ROWS if row["differences"] == {"seqkern": 0.004}]
    page = bench("gpu_report").write(data, tmp_path)
    assert json.loads(page.with_suffix(".json").read_text()) == data


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS[-1:]])
def test_report_of_a_part_is_written(
    bench: Import, data: dict[str, Any], tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    data |= {
        "rows": rows,
        "tests": {},
        "sanitizers": {},
        "build": {},
        "after": {},
        "synchronisation": [],
        "training": [],
    }
    text = bench("gpu_report").write(data, tmp_path).read_text()
    assert "Not measured." in text
    assert "no build" in text


def test_report_reads_what_a_killed_benchmark_left(bench: Import, tmp_path: Path) -> None:
    file = tmp_path / "points.jsonl"
    lines = [{"planned": 3}, {"begin": "a"}, {"end": "a"}, {"begin": "b"}, {"begin": "c"}]
    lines += [{"lost": "c", "error": "CUDA error"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"begin": "d')
    found = bench("gpu_check").benchmark_results(bench("gpu_report").read_lines(file))
    assert found["planned"] == 3
    assert found["unfinished"] == ["b: no word", "c: CUDA error"]
    assert found["rows"] == [{"end": "a"}]


# --- dry runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a dry run."""
    out = tmp_path_factory.mktemp("dry")
    stages = ("--stages", "sanitizers", "benchmarks", "--seconds-per-point=0")
    done = run_script("gpu_check.py", f"--out={out}", f"--work={out / 'work'}", *stages)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "benchmarks: passed" in done.stdout
    return out


def test_dry_run_never_makes_a_report_of_a_gpu(dry_run: Path) -> None:
    files = sorted(path.name for path in dry_run.iterdir() if path.is_file())
    assert files == [f"gpu-check-dry-run.{kind}" for kind in ("json", "md", "svg")]
    text = (dry_run / "gpu-check-dry-run.md").read_text()
    assert text.startswith("# Dry run of the GPU check: no GPU, the times mean nothing\n")


def test_dry_run_times_both_peers_and_finds_equal_results(dry_run: Path) -> None:
    data = json.loads((dry_run / "gpu-check-dry-run.json").read_text())
    assert len(data["rows"]) == data["planned"] > 0
    assert data["unfinished"] == []
    sections = {"targets", "logits", "linear", "words", "layers", "shapes", "tokens"}
    assert {row["section"] for row in data["rows"]} >= sections
    for row in data["rows"]:
        assert row["result"]["rounds"] >= 5
        if row["precision"] == "fp16":  # the CPU kernels refuse it, and torch is timed all the same
            assert "Half" in row["errors"]["seqkern"]
            assert {*row["result"]["times"]} == {"torch"}
        else:
            assert row["errors"] == {}
            peers = {*row["result"]["times"]}
            if row["section"] == "words":  # which torch does not train, and no two runs alike
                assert peers == {"seqkern", "cpu"}
                continue
            if row["section"] == "tuning":
                assert peers > {"chosen", "steps", "grid:8:1", "cluster:16:1", "torch"}
            else:
                of_section = {"logits": {"copy"}, "linear": peers - {"seqkern", "torch"}}
                assert peers == {"seqkern", "torch"} | of_section.get(row["section"], set())
            assert {*row["result"]["memory"]} == peers
            for peer in peers - {"torch", "copy"}:
                assert row["differences"][peer] < (0.05 if row["precision"] == "bf16" else 1e-5)


def test_dry_run_runs_every_op(dry_run: Path) -> None:
    data = json.loads((dry_run / "gpu-check-dry-run.json").read_text())
    for found in data["sanitizers"].values():
        done, total = found["covered"].split(" of ")
        assert done == total


# What the wheels of the packages have: names and order of arguments.
PACKAGES = {
    "quack/__init__.py": "",
    "quack/linear_cross_entropy.py": """
from torch.nn.functional import cross_entropy, linear
def chunked_linear_cross_entropy(x, weight, target, chunk_size=4096, ignore_index=-100):
    return cross_entropy(linear(x, weight), target)
def linear_cross_entropy_func(x, weight, bias, target, ignore_index=-100):
    raise ValueError("sizes are multiples of 8")
""",
    "liger_kernel/__init__.py": "",
    "liger_kernel/transformers.py": """
from torch.nn.functional import cross_entropy, linear
class LigerFusedLinearCrossEntropyLoss:
    def __call__(self, lin_weight, _input, target, bias=None):
        return cross_entropy(linear(_input, lin_weight), target)
""",
    "cut_cross_entropy.py": """
from enum import Enum
from torch.nn.functional import cross_entropy, linear
LinearCrossEntropyImpl = Enum("LinearCrossEntropyImpl", "CCE TORCH_COMPILE")
def linear_cross_entropy(e, c, targets, filter_eps="high", impl=LinearCrossEntropyImpl.CCE):
    if filter_eps is None:
        raise ValueError("exact")
    return cross_entropy(linear(e, c), targets)
""",
}


def test_other_packages_are_timed_and_one_that_raises_is_left_out(tmp_path: Path) -> None:
    for name, text in PACKAGES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    file = tmp_path / "points.jsonl"
    arguments = (f"--results={file}", "--seconds-per-point=0", "--only", "others")
    done = run_script("gpu_bench.py", *arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (row,) = (found for found in map(json.loads, file.read_text().splitlines()) if "end" in found)
    assert row["errors"] == {"Cut exact": "ValueError: exact"}
    assert [*row["result"]["times"]] == ["seqkern", "torch", "QuACK", "Liger", "Cut"]
    assert all(difference < 0.05 for difference in row["differences"].values())


def test_benchmarks_go_on_behind_a_point_that_took_the_process_down(tmp_path: Path) -> None:
    file = tmp_path / "points.jsonl"
    arguments = (f"--results={file}", "--seconds-per-point=0", "--only", "targets: LSTM, bf16")
    first = "targets: LSTM, bf16, forward: N=2 T=3 D=4 H=4"
    file.write_text(json.dumps({"begin": first}) + "\n")
    done = run_script("gpu_bench.py", *arguments)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["end"] for line in lines if "end" in line] == [
        "targets: LSTM, bf16, forward + backward: N=2 T=3 D=4 H=4"
    ]


def test_benchmarks_end_with_their_time(tmp_path: Path) -> None:
    file = tmp_path / "points.jsonl"
    done = run_script("gpu_bench.py", f"--results={file}", "--seconds=0")
    assert done.returncode == 0, done.stderr
    assert not any("begin" in json.loads(line) for line in file.read_text().splitlines())


def test_benchmarks_of_no_point_are_refused(tmp_path: Path) -> None:
    done = run_script("gpu_bench.py", f"--results={tmp_path / 'x'}", "--only", "nothing")
    assert done.returncode == 2
    assert "no point contains" in done.stderr


def test_a_machine_without_a_gpu_is_told_so(tmp_path: Path) -> None:
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = [sys.executable, str(BENCH / "gpu_check.py"), f"--out={tmp_path / 'out'}"]
    done = subprocess.run(
        [*command, f"--work={tmp_path / 'work'}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "no CUDA device" in done.stdout
    assert not (tmp_path / "out").exists()


# --- training ------------------------------------------------------------------------------------


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Folder of a text of few words."""
    folder = tmp_path / "ptb"
    folder.mkdir()
    for name, count in (("train", 2000), ("valid", 800), ("test", 800)):
        words = " ".join(f"w{i * i % 7}" for i in range(count))
        (folder / f"ptb.{name}.txt").write_text(words + "\n")
    return folder


def test_trainings_are_pairs_and_the_short_one_comes_first(bench: Import, tmp_path: Path) -> None:
    training = bench("gpu_training")
    planned = training.trainings(tmp_path / "ptb", tmp_path / "runs")
    of = [(one.job.experiment.preset, one.dtype, one.job.peer) for one in planned]
    assert of[:4] == [
        ("rnnlm", "float32", "seqkern"),
        ("rnnlm", "float32", "torch"),
        ("better-rnnlm", "float32", "seqkern"),
        ("better-rnnlm", "float32", "torch"),
    ]
    assert [(preset, peer) for preset, dtype, peer in of[4:]] == [
        (preset, peer) for preset, _, peer in of[:4]
    ]
    assert {dtype for _, dtype, _ in of[4:]} == {"bfloat16"}
    assert len({one.job.folder for one in planned}) == len(planned)
    arguments = [planned[n].arguments(tmp_path / "ptb", "cuda", 100.4) for n in (2, 3)]
    for given, peer in zip(arguments, ("seqkern", "torch"), strict=True):
        text = " ".join(given)
        assert text.startswith("train better-rnnlm --out ")
        assert f"--seed 0 --backend {peer} " in text
        assert "--device cuda --dtype float32 --max-seconds 100" in text
    assert "--epochs 40 " in " ".join(arguments[1])  # not the one epoch of the zoo's comparison


def test_trainings_share_what_time_is_left(
    bench: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = bench("gpu_training")
    assert [training.share(n, 200.0) for n in (0, 1)] == [85.0, 185.0]
    planned = training.trainings(tmp_path / "ptb", tmp_path / "runs")
    monkeypatch.setattr(training, "start", lambda arguments: pytest.fail("no time is left"))
    assert training.train(planned, tmp_path / "ptb", "cpu", 2.0, tmp_path / "x.json") == 0
    assert json.loads((tmp_path / "x.json").read_text()) == []


def test_a_training_that_fails_does_not_end_the_others(
    bench: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = bench("gpu_training")
    given = []

    def start(arguments: list[str]) -> int:
        given.append(arguments)
        return 1

    monkeypatch.setattr(training, "start", start)
    planned = training.trainings(tmp_path / "ptb", tmp_path / "runs")
    assert training.train(planned, tmp_path / "ptb", "cpu", 1e6, tmp_path / "x.json") == 1
    assert len(given) == len(planned)


def test_dry_run_trains_on_both_backends_and_goes_on_with_the_report(
    tmp_path: Path, text: Path
) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    where = (f"--out={out}", f"--work={work}", "--seconds-per-point=0")
    first = run_script(
        "gpu_check.py", *where, "--stages", "benchmarks", "--only", "targets: LSTM, bf"
    )
    assert first.returncode == 0, first.stdout + first.stderr
    stages = ("--go-on", "--stages", "training", f"--data={text}")
    done = run_script("gpu_check.py", *where, *stages)
    assert done.returncode == 0, done.stdout + (work / "log.txt").read_text()
    data = json.loads((out / "gpu-check-dry-run.json").read_text())
    names = [stage["name"] for stage in data["stages"]]
    assert names == ["facts", "benchmarks", "facts", "training"]
    assert [len(data[key]) for key in ("rows", "commands", "training")] == [2, 2, 2]
    for record in data["training"]:
        assert (record["epoch"], record["finished"], record["split"]) == (1, True, "test")
        assert record["figures"]["perplexity"] > 1
    of_first = [record["figures"]["perplexity"] for record in data["training"][:2]]
    assert of_first[0] == pytest.approx(of_first[1], rel=1e-3)  # the same model, the same seed
    assert "| rnnlm | float32 | torch | 1 of 1 |" in (out / "gpu-check-dry-run.md").read_text()


def test_training_without_data_says_what_is_missing(tmp_path: Path) -> None:
    arguments = (f"--out={tmp_path / 'out'}", f"--work={tmp_path / 'work'}", "--stages", "training")
    for more, why in (((), "no --data"), ((f"--data={tmp_path / 'x'}",), "--data x is no folder")):
        done = run_script("gpu_check.py", *arguments, *more)
        assert done.returncode == 0
        assert f"| training | not run | 0 | 0 | {why}" in done.stdout


def test_an_interrupted_training_is_reported_and_the_last(
    bench: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = bench("gpu_training")
    given = []

    def start(arguments: list[str]) -> int:
        given.append(arguments)
        return training.INTERRUPTED

    monkeypatch.setattr(training, "start", start)
    planned = training.trainings(tmp_path / "ptb", tmp_path / "runs")
    assert training.train(planned, tmp_path / "ptb", "cpu", 1e6, tmp_path / "x.json") == 1
    assert len(given) == 1
    assert (tmp_path / "x.json").exists()
