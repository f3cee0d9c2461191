"""A task of one's own, through the loop and the whole command line."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from command_line import error_line
from seqkern.cli import COMMANDS, main
from seqkern.data import Vocabulary
from seqkern.tasks import PRESETS, TASKS, Preset, task_class
from seqkern.training import ExampleBatches, Run, RunConfig, Task, Trainer, evaluating, setting

pytestmark = pytest.mark.backends("cpu", reason="about training, not the kernels")


@dataclass(frozen=True)
class ToyConfig(RunConfig):
    lr: float = 0.05
    epochs: int = 3
    width: int = setting(4, "numbers of a layer", at_least=1)
    noise: float | None = setting(None, "of the labels", above=0)
    bias: bool = setting(True, "add one", evaluation=True)
    classes: int = setting(0, "labels", decided=True)


class ToyTask(Task[ToyConfig]):
    """Tells whether the sum of two numbers is positive."""

    family, Config, sources = "toy", ToyConfig, ("sums",)
    score, higher_is_better = "accuracy", True

    def __init__(self, config: ToyConfig, labels: Vocabulary) -> None:
        self.config = replace(config, classes=len(labels))
        self.vocabularies, self.checksum = {"labels": labels}, config.seed
        random = torch.Generator().manual_seed(config.seed)
        self.x = torch.randn(120, 2, generator=random)
        self.y = (self.x.sum(1) > 0).long()
        self.splits = {"train": slice(80), "valid": slice(80, 100), "test": slice(100, None)}

    @classmethod
    def load(
        cls, config: ToyConfig, vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> "ToyTask":
        if config.data != "sums":
            raise FileNotFoundError(f"no such data: {config.data}")
        return cls(config, (vocabularies or {"labels": Vocabulary(["no", "yes"])})["labels"])

    @staticmethod
    def build_model(config: ToyConfig) -> torch.nn.Module:
        layers = [torch.nn.Linear(2, config.width), torch.nn.Tanh()]
        return torch.nn.Sequential(*layers, torch.nn.Linear(config.width, config.classes))

    @property
    def summary(self) -> str:
        return "toy"

    def batches(self, device: torch.device, rank: int = 0, world: int = 1) -> ExampleBatches:
        x, y = self.x.to(device), self.y.to(device)
        size, seed = self.config.batch_size, self.config.seed
        return ExampleBatches(80, size, lambda i: (x[i], y[i]), seed, rank, world)

    def loss(self, model: Any, batch: tuple[Tensor, Tensor], state: None) -> tuple[Tensor, None]:
        assert state is None
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1]), None

    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        part = self.splits[split]
        with evaluating(model):
            found = model(self.x[part]).argmax(1)
        return {"accuracy": (found == self.y[part]).double().mean().item(), "items": 20.0}

    @classmethod
    def show(cls, run: Run, plots: Path) -> str:
        (plots / "toy.png").write_bytes(b"")
        return "sums are sums"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the task one of the house."""
    monkeypatch.setitem(sys.modules, "seqkern.tasks.toy", SimpleNamespace(ToyTask=ToyTask))
    monkeypatch.setitem(TASKS, "toy", ("a toy", "toy", "ToyTask"))
    settings = {"data": "sums", "batch_size": 8}
    monkeypatch.setitem(PRESETS, "small", Preset("toy", settings, "", "", "", "", ""))
    for command, name, module in (("train", "small", "train"), ("eval", "toy", "evaluate")):
        monkeypatch.setitem(COMMANDS[command][1], name, ("a toy", module))  # type: ignore[arg-type]


def test_best_epoch_is_that_of_the_highest_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, seen = iter([0.5, 0.75, 0.25]), []

    def evaluate(task: ToyTask, model: torch.nn.Module, split: str) -> dict[str, float]:
        seen.append([p.clone() for p in model.parameters()])
        return {"accuracy": next(scores)}

    monkeypatch.setattr(ToyTask, "evaluate", evaluate)
    task = ToyTask.load(ToyConfig(data="sums", lr_decay=2.0))
    run = Run(tmp_path / "run", ToyTask, task.config, task.vocabularies).create()
    events: list[dict[str, Any]] = []
    trainer = Trainer(task.build_model(task.config), task, run, [events.append])
    trainer.fit()
    assert trainer.best == 0.75
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["improved"] for event in epochs] == [True, True, False]
    assert epochs[2]["valid"] == {"accuracy": 0.25}
    assert epochs[2]["train"].keys() == {"loss"}
    assert trainer.lr == 0.025
    for ours, best in zip(Run.open(run.folder).load_model().parameters(), seen[1], strict=True):
        assert torch.equal(ours, best)


def test_task_has_the_whole_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    options = ["--width", "6", "--no-bias", "--noise", "0.5"]
    assert main(["train", "small", "--out", str(run), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"toy, device cpu, run {run}"
    assert lines[1].startswith("epoch   1  train: loss 0.")
    assert "  valid: accuracy 0." in lines[1]
    assert lines[1].endswith(" examples/s")
    assert lines[-1].startswith("test accuracy 0.")
    record = Run.open(run)
    assert record.task is task_class("toy") is ToyTask
    expected = ToyConfig(data="sums", batch_size=8, width=6, bias=False, noise=0.5, classes=2)
    assert record.config == expected
    assert record.vocabularies == {"labels": Vocabulary(["no", "yes"])}

    assert main(["train", "--resume", str(run), "--epochs", "5"]) == 0
    assert main(["train", "small", "--out", str(whole), *options, "--epochs", "5"]) == 0
    models = [Run.open(folder).load_model("last") for folder in (run, whole)]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)

    capsys.readouterr()
    assert main(["eval", "toy", str(run), "--bias"]) == 0
    *_, told, figure = capsys.readouterr().out.splitlines()
    accuracy = ToyTask.load(record.config).evaluate(record.load_model(), "test")["accuracy"]
    assert figure == f"{accuracy:.4f}"
    assert told == f"toy; test accuracy {figure}, items 20.00; accuracy:"
    assert main(["show", str(run)]) == 0
    output = capsys.readouterr().out
    assert output.startswith("sums are sums\n")
    assert "plots/toy.png" in output
    epochs = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in epochs if e["event"] == "epoch"] == [1, 2, 3, 4, 5]

    assert f"run {run} is one of task toy, not of lm" in error_line(
        capsys, ["eval", "lm", str(run)]
    )
    assert "no such data: " in error_line(capsys, ["eval", "toy", str(run), "--data", "other"])
    assert "not with it: --width 7" in error_line(
        capsys, ["train", "--resume", str(run), "--width", "7"]
    )
    assert "width must be at least 1, got 0" in error_line(
        capsys, ["train", "small", "--width", "0"]
    )


def test_monitor_train_needs_a_score_of_training() -> None:
    task = ToyTask.load(ToyConfig(data="sums", monitor="train"))
    with pytest.raises(ValueError, match="training gives no accuracy"):
        Trainer(task.build_model(task.config), task)


def test_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="task must be one of lm, .*toy, got 'gpt'"):
        task_class("gpt")
