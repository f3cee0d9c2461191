"""The model zoo's runs and table, on tiny language models."""

import importlib
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers import threads
from seqkern.cli import COMMANDS, main
from seqkern.cli.evaluate import load_task
from seqkern.tasks import PRESETS, Preset
from seqkern.training import Run, Trainer

pytestmark = pytest.mark.backends("cpu", reason="about the runs, not the kernels")

SIZES = {"embed_size": 8, "hidden_size": 8, "batch_size": 4, "steps": 5, "lr": 2.0, "dropout": 0.2}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script, with experiments on a text of 600 words, trained in this process."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    module, runs = importlib.import_module("zoo"), importlib.import_module("zoo_runs")
    baseline = SimpleNamespace(
        row=lambda source, lower, seed, balanced: [seed, 1.0, 0.5, 0.6 + lower * seed / 10, 1, 1.0]
    )
    monkeypatch.setitem(sys.modules, "name_baseline", baseline)
    settings = {**SIZES, "eval_batch_size": 2, "epochs": 2}
    monkeypatch.setitem(PRESETS, "tiny", Preset("lm", settings, "", "", "", "a guess", ""))
    monkeypatch.setitem(COMMANDS["train"][1], "tiny", ("", "train"))  # type: ignore[arg-type]
    monkeypatch.setattr(runs, "start", main)
    tiny = runs.Experiment("tiny", "words", (0, 1), torch_epochs=1, ngrams=["--lower"])
    monkeypatch.setattr(module, "EXPERIMENTS", [tiny])
    (tmp_path / "words").mkdir()
    ids = torch.randint(1, 4, (1400,)).cumsum(0) % 9
    for name, part in zip(("train", "valid", "test"), ids.split([600, 400, 400]), strict=True):
        text = " ".join(f"w{i}" for i in part.tolist())
        (tmp_path / "words" / f"words.{name}.txt").write_text(text + "\n")
    with threads(1):
        yield module


def test_every_preset_is_an_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    experiments = importlib.import_module("zoo_runs").EXPERIMENTS
    assert sorted(one.preset for one in experiments) == sorted(PRESETS)


def train(zoo: Any, folder: Path) -> int:
    return zoo.main(["run", "--data-root", str(folder), "--out", str(folder / "runs")])


def cells(zoo: Any, folder: Path) -> list[str]:
    """The table's one row."""
    assert zoo.main(["table", str(folder / "runs"), "--out", str(folder / "out")]) == 0
    lines = (folder / "out" / "zoo.md").read_text().splitlines()
    (row,) = (line for line in lines if line.startswith("| `seqkern"))
    return [cell.strip() for cell in row.split("|")[1:-1]]


def test_table_of_finished_runs(zoo: Any, tmp_path: Path) -> None:
    assert train(zoo, tmp_path) == 0
    runs = {path.name: path for path in sorted((tmp_path / "runs").iterdir())}
    peers = ("n-grams", "seqkern", "torch")
    assert list(runs) == [f"tiny-{peer}-{seed}" for peer in peers for seed in (0, 1)]
    assert Run.open(runs["tiny-torch-0"]).config.epochs == 1
    logs = {name: (path / "log.jsonl").read_bytes() for name, path in runs.items()}
    assert train(zoo, tmp_path) == 0  # nothing is missing
    assert logs == {name: (path / "log.jsonl").read_bytes() for name, path in runs.items()}

    command, seeds, expected, result, beside, time, speed = cells(zoo, tmp_path)
    assert command == "`seqkern train tiny --data words`"
    assert (seeds, expected) == ("0, 1", "a guess")
    records = [Run.open(runs[f"tiny-seqkern-{seed}"]) for seed in (0, 1)]
    one, two = sorted(
        load_task(r, None).evaluate(r.load_model(), "test")["perplexity"] for r in records
    )
    assert one < two
    assert result == f"test perplexity {(one + two) / 2:.4f} ({one:.4f} to {two:.4f})"
    assert beside == (
        "torch.nn, 1 epoch: for the speed only; n-grams, logistic regression: "
        "test accuracy 0.6500 (0.6000 to 0.7000)"
    )
    assert time.endswith(" s")
    shown = (tmp_path / "out" / "zoo.md").read_text().partition("### tiny, seed 0")[2]
    assert records[0].task.show(records[0], tmp_path).splitlines()[0] in shown
    assert " tokens/s, " in speed
    assert speed.endswith(" times torch.nn's")
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path) not in path.read_text()

    for seed in (0, 1):  # torch's on another machine
        log = runs[f"tiny-torch-{seed}"] / "log.jsonl"
        log.write_text(log.read_text().replace('"threads": 1', '"threads": 64'))
    alone = cells(zoo, tmp_path)[-1]
    assert alone.partition(": ")[2] == speed.partition(": ")[2].rpartition(", ")[0]


def test_runs_of_an_earlier_table_keep_their_place(zoo: Any, tmp_path: Path) -> None:
    assert train(zoo, tmp_path) == 0
    before = cells(zoo, tmp_path)
    picture = (tmp_path / "out" / "zoo.svg").read_text()
    page = (tmp_path / "out" / "zoo.md").read_text()
    for peer, seed in itertools.product(("seqkern", "torch"), (0, 1)):
        (tmp_path / "runs" / f"tiny-{peer}-{seed}").rename(tmp_path / f"{peer}-{seed}")
    assert cells(zoo, tmp_path) == before  # of zoo.json, but for the n-grams'
    assert (tmp_path / "out" / "zoo.svg").read_text() == picture
    assert (tmp_path / "out" / "zoo.md").read_text() == page

    again = tmp_path / "runs" / "tiny-seqkern-1"
    (tmp_path / "seqkern-0").rename(again)  # a run in RUNS takes the place of the earlier one
    settings = (again / "config.toml").read_text()
    (again / "config.toml").write_text(settings.replace("seed = 0", "seed = 1"))
    earlier = json.loads((tmp_path / "out" / "zoo.json").read_text())
    (record,) = (r for r in earlier if (r["peer"], r["seed"]) == ("seqkern", 0))
    figure = f"{record['figures']['perplexity']:.4f}"
    assert cells(zoo, tmp_path)[3] == f"test perplexity {figure} ({figure} to {figure})"


def test_curve_of_many_epochs_is_thinned(zoo: Any, tmp_path: Path) -> None:
    assert train(zoo, tmp_path) == 0
    folder = tmp_path / "runs" / "tiny-seqkern-0"
    told = (folder / "log.jsonl").read_text().splitlines()
    epoch = next(json.loads(line) for line in told if '"event": "epoch"' in line)
    epochs = [{**epoch, "epoch": i, "valid": {"perplexity": 1000.0 - i}} for i in range(1, 251)]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in epochs))
    points = zoo.curve(Run.open(folder))
    assert len(points) == 84
    assert points[0] == (1, 999.0)
    assert points[-1] == (250, 750.0)
    assert {b - a for (a, _), (b, _) in itertools.pairwise(points)} == {3}


def test_interrupted_run_is_told_and_resumed_exactly(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        zoo, "EXPERIMENTS", [importlib.import_module("zoo_runs").Experiment("tiny", "words")]
    )
    step, steps = Trainer.step, itertools.count()

    def interrupted(trainer: Trainer) -> None:
        step(trainer)
        if next(steps) == 40:  # of 29 in an epoch
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert train(zoo, tmp_path) == 0
    folder = tmp_path / "runs" / "tiny-seqkern-0"
    told = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    (epoch,) = (event for event in told if event["event"] == "epoch")
    figure = f"{epoch['valid']['perplexity']:.4f}"
    row = cells(zoo, tmp_path)
    assert row[3] == f"seed 0: epoch 1 of 2, validation perplexity {figure} so far"
    (record,) = json.loads((tmp_path / "out" / "zoo.json").read_text())
    assert record["trained"] == 0.5  # no step of the second epoch was reported
    step_event = {"event": "step", "epoch": 2, "iteration": 20, "iterations": 29}
    assert zoo.trained([*told, step_event]) == 1 + 20 / 29
    record["seconds"] = 5400.0
    assert zoo.duration([record]) == "5,400 s so far, 3.0 h at this pace"

    assert train(zoo, tmp_path) == 0
    assert cells(zoo, tmp_path)[3].startswith("test perplexity ")
    options = ["--data", str(tmp_path / "words"), "--out", str(tmp_path / "whole")]
    assert main(["train", "tiny", *options]) == 0
    models = [Run.open(run).load_model("last") for run in (folder, tmp_path / "whole")]
    for ours, expected in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(ours, expected)


def test_what_is_no_experiment_or_not_its_run_is_refused(zoo: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no experiment, or no preset: rnnlm"):
        folders = ["--data-root", str(tmp_path), "--out", str(tmp_path)]
        zoo.main(["run", *folders, "--only", "rnnlm"])
    with pytest.raises(ValueError, match="holds no run of an experiment"):
        cells(zoo, tmp_path)
    run = tmp_path / "runs" / "tiny-seqkern-0"
    options = ["--data", str(tmp_path / "words"), "--out", str(run)]
    assert main(["train", "tiny", *options, "--epochs", "1", "--hidden-size", "4"]) == 0
    with pytest.raises(ValueError, match="hidden_size of run .* must be 8, got 4"):
        cells(zoo, tmp_path)


def test_run_for_the_speed_ends_in_time_and_others_go_on_after_it(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = importlib.import_module("zoo_runs")
    clock = itertools.count()  # a second goes by whenever it is asked
    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    tiny = runs.Experiment("tiny", "words", torch_epochs=2, torch_seconds=1e-3)
    monkeypatch.setattr(zoo, "EXPERIMENTS", [tiny])
    monkeypatch.setattr("seqkern.training.trainer.REPORT_INTERVAL", 1)
    arguments = ["run", "--data-root", str(tmp_path), "--out", str(tmp_path / "runs")]
    assert zoo.main([*arguments, "--max-seconds", "1.5"]) == 0
    torch_log = tmp_path / "runs" / "tiny-torch-0" / "log.jsonl"
    told = torch_log.read_text()
    assert '"reason": "time", "epoch": 0, "iteration": 1' in told
    assert not (tmp_path / "runs" / "tiny-seqkern-0").exists()  # the time of all was up
    assert zoo.main(arguments) == 0
    assert torch_log.read_text() == told
    row = cells(zoo, tmp_path)
    assert row[3].startswith("test perplexity ")
    assert row[4] == "torch.nn, 0.001 s: for the speed only"
    assert row[6].endswith(" times torch.nn's")


def test_interrupt_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    program, told = tmp_path / "program", tmp_path / "told"
    program.write_text(
        f"#!/bin/sh\ntrap 'echo stopped > {told}; exit' INT\nwhile true; do sleep 0.05; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    assert importlib.import_module("zoo_runs").start([]) == 130
    assert told.read_text() == "stopped\n"
