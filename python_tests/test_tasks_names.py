"""Names through the command line: their classes (many to one), and others like them."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import error_line
from seqkern.cli import main
from seqkern.data import Vocabulary, load_names
from seqkern.data.names import encode_names
from seqkern.models import NameGenerator
from seqkern.tasks import preset_config, task_class
from seqkern.tasks.name_generation import (
    NameGenerationConfig,
    NameGenerationTask,
    novelty,
    sample_names,
)
from seqkern.tasks.names import NamesConfig, NamesTask, classify
from seqkern.training import Run, Trainer

pytestmark = pytest.mark.backends("cpu", reason="about training, not the kernels")

SMALL = ["--hidden-size", "8", "--embed-size", "6", "--batch-size", "16", "--threads", "1"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Names that end in a, in o; "Robin" is of both."""
    stems = ["".join(s).title() for s in itertools.product("bcdfg", "eiu", "klmn")]
    (tmp_path / "data").mkdir()
    for label, ending in (("f", "a"), ("m", "o")):
        names = [*(stem + ending for stem in stems), "Robin"]
        (tmp_path / "data" / f"{label}.txt").write_text("\n".join(names))
    return tmp_path / "data"


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def same_parameters(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# Classification


def test_classifier_has_the_whole_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ["--data", str(folder), "--out", str(run), *SMALL, "--epochs", "4", "--lr", "0.03"]
    assert main(["train", "names-gender", *options]) == 0
    assert "2 classes" in capsys.readouterr().out
    record = Run.open(run)
    task, model = NamesTask.load(record.config, record.vocabularies), record.load_model().eval()

    right = dict.fromkeys("fm", 0)
    for name, label in zip(task.data.test.texts, task.data.test.labels.tolist(), strict=True):
        alone = model(
            record.vocabularies["characters"].encode(name)[:, None], torch.tensor([len(name)])
        )
        right["fm"[label]] += alone.argmax().item() == label
    counts = {label: (task.data.test.labels == i).sum().item() for i, label in enumerate("fm")}
    assert main(["eval", "names", str(run)]) == 0
    f, m, *_, told, figure = capsys.readouterr().out.splitlines()
    assert f.split() == ["f", str(counts["f"]), f"{right['f'] / counts['f']:.4f}"]
    assert m.split() == ["m", str(counts["m"]), f"{right['m'] / counts['m']:.4f}"]
    assert figure == f"{sum(right.values()) / sum(counts.values()):.4f}"
    assert float(figure) > 0.9
    assert f"test accuracy {figure}, loss " in told

    assert main(["eval", "names", str(run), "--names", "Gina", "FILO"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows] == [["Gina", "f"], ["FILO", "m"]]
    alone = model(record.vocabularies["characters"].encode("gina")[:, None]).softmax(-1)
    assert float(rows[0][2]) == pytest.approx(alone[0, 0].item(), abs=1e-4)

    assert main(["show", str(run)]) == 0
    assert (run / "plots" / "confusion.png").read_bytes().startswith(PNG)
    assert (run / "plots" / "curves.png").read_bytes().startswith(PNG)

    assert "no character of the vocabulary" in error_line(
        capsys, ["eval", "names", str(run), "--names", "gina", " "]
    )
    assert f"run {run} is one of task names, not of name-generation" in error_line(
        capsys, ["generate", "names", str(run)]
    )


def test_bound_is_told_where_names_have_several_classes(folder: Path) -> None:
    config = NamesConfig(data=str(folder), hidden_size=4)
    reports = {}
    for seed in range(30):
        task = NamesTask.load(replace(config, seed=seed))
        model = task.build_model(task.config)
        texts = task.data.test.texts
        reports["robin" in texts] = (task.report(model, "test"), len(set(texts)) / len(texts))
    assert "at most" not in reports[False][0]
    assert f"at most {reports[True][1]:.4f} can be right" in reports[True][0]


def test_run_evaluates_other_names_by_its_own_numbers(folder: Path, tmp_path: Path) -> None:
    task = NamesTask.load(NamesConfig(data=str(folder)))
    other = tmp_path / "other.txt"
    other.write_text("".join(f"{name}\tm\n" for name in ("zelo", "kibo", "milo", "nilo", "demo")))
    config = replace(task.config, data=str(other), valid=0.2, test=0.2)
    again = NamesTask.load(config, task.vocabularies)
    assert again.vocabularies == task.vocabularies
    assert again.data.train.labels.unique().tolist() == [1]
    other.write_text(other.read_text() + "kim\tx\n")
    with pytest.raises(ValueError, match="has the classes m, x, expected some of f, m"):
        NamesTask.load(config, task.vocabularies)
    other.write_text("kim\nlee\njo\nan\nbo\n")
    with pytest.raises(ValueError, match="has the classes none, expected some of f, m"):
        NamesTask.load(config, task.vocabularies)
    with pytest.raises(ValueError, match="have no classes"):
        NamesTask.load(replace(config, num_classes=0, vocab_size=0))
    with pytest.raises(ValueError, match="vocab_size is .* in the settings"):
        NamesTask.load(replace(task.config, vocab_size=3))


def test_settings_of_the_characters_reach_the_data(folder: Path) -> None:
    config = NamesConfig(data=str(folder), max_characters=6, unknown="drop", lower=False)
    task = NamesTask.load(config)
    assert task.config.vocab_size == 6
    assert NamesTask.load(replace(config, unknown="map")).config.vocab_size == 7
    parts = [set(getattr(task.data, split).texts) for split in ("train", "valid", "test")]
    assert all(not a & b for a, b in itertools.combinations(parts, 2))
    assert "Robin" in set.union(*parts)
    assert NamesTask.load(replace(config, seed=1)).checksum != task.checksum


def test_encoded_names_are_those_of_the_data(folder: Path) -> None:
    data = load_names(folder, lower=True)
    tokens, lengths = encode_names([t.upper() for t in data.train.texts], data.vocabulary, True)
    assert torch.equal(tokens, data.train.tokens)
    assert torch.equal(lengths, data.train.lengths)
    with pytest.raises(ValueError, match="the name 'xyz' has no character"):
        encode_names(["abba", "xyz"], Vocabulary("ab"))


def test_classes_are_those_of_each_name_alone(folder: Path) -> None:
    task = NamesTask.load(NamesConfig(data=str(folder), hidden_size=4))
    model = task.build_model(task.config).train()
    names = ["Gina", "Bo", "Maximiliana"]
    together = classify(model, names, task.vocabularies, lower=True)
    assert model.training
    for name, (label, probability) in zip(names, together, strict=True):
        ((alone, other),) = classify(model, [name], task.vocabularies, lower=True)
        assert alone == label
        assert other == pytest.approx(probability, rel=1e-5)


# A learning rate that falls linearly


@pytest.mark.parametrize("family", ["names", "name-generation"])
def test_training_with_a_falling_rate_resumes_exactly(
    family: str, folder: Path, tmp_path: Path
) -> None:
    cls = task_class(family)
    config: Any = cls.Config(
        data=str(folder), hidden_size=4, epochs=2, batch_size=16, lr=0.01, schedule="linear"
    )
    task = cls.load(config)
    rates, trainers = [], []
    for name in ("whole", "stopped"):
        torch.manual_seed(0)
        run = Run(tmp_path / name, cls, task.config, task.vocabularies).create()
        trainers.append(Trainer(task.build_model(task.config), task, run))
    whole, stopped = trainers
    iterations = 2 * len(whole.batches)
    torch.manual_seed(1)
    for _ in range(iterations):
        whole.step()
        rates.append(whole.lr)
        if whole.iteration == len(whole.batches):
            whole.epoch, whole.iteration = whole.epoch + 1, 0
    assert rates == pytest.approx([0.01 * (1 - i / iterations) for i in range(iterations)])

    torch.manual_seed(1)
    for _ in range(3):
        stopped.step()
    stopped.save()
    torch.manual_seed(2)  # what a new process draws before it resumes
    resumed = Trainer(task.build_model(task.config), task, stopped.run)
    resumed.resume()
    resumed.fit()
    assert same_parameters(resumed.model, whole.model)
    assert resumed.lr == rates[-1]


def test_falling_rate_excludes_lr_decay() -> None:
    with pytest.raises(ValueError, match="lr_decay must be 1 with schedule linear, got 4"):
        preset_config("names-gender", lr_decay=4.0)


# Generation


def slow_perplexity(model: torch.nn.Module, task: NameGenerationTask) -> float:
    """Character by character, each name alone."""
    losses, labels = [], task.data.test.labels
    for name, label in zip(task.data.test.texts, labels, strict=True):
        ids = task.data.vocabulary.encode(name).tolist()
        condition = label[None] if task.config.num_classes else None
        state = None
        for token, target in itertools.pairwise([model.boundary, *ids, model.boundary]):
            logits, state = model.logits(torch.tensor([[token]]), state, condition)
            losses.append(-logits[0, 0].log_softmax(-1)[target].item())
    return math.exp(sum(losses) / len(losses))


@pytest.mark.parametrize("conditional", [False, True])
def test_generator_has_the_whole_command_line(
    conditional: bool, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", folder if conditional else folder / "f.txt"
    preset = "names-by-language" if conditional else "names-transliterated"
    options = ["--data", str(data), "--out", str(run), *SMALL, "--epochs", "15", "--lr", "0.05"]
    assert main(["train", preset, *options, "--lower"]) == 0
    record = Run.open(run)
    task = NameGenerationTask.load(record.config, record.vocabularies)
    model: Any = record.load_model()
    expected = slow_perplexity(model.eval(), task)
    capsys.readouterr()
    assert main(["eval", "names", str(run)]) == 0
    assert float(last_line(capsys)) == pytest.approx(expected, abs=2e-4)
    assert main(["eval", "name-generation", str(run)]) == 0
    assert float(last_line(capsys)) == pytest.approx(expected, abs=2e-4)

    of_class = ["--condition", "m"] if conditional else []
    command = ["generate", "names", str(run), "--count", "12", *of_class]
    drawn = []
    for seed in ("3", "3", "4"):
        assert main([*command, "--seed", seed, "--temperature", "0.3", "--top-p", "0.9"]) == 0
        drawn.append(capsys.readouterr().out.splitlines())
    assert len(drawn[0]) == 12
    assert drawn[0] == drawn[1] != drawn[2]
    ending = "o" if conditional else "a"
    assert sum(name.endswith(ending) for name in drawn[0]) >= 9
    assert main([*command, "--top-k", "1", "--max-length", "3"]) == 0
    (greedy,) = set(capsys.readouterr().out.splitlines())
    assert len(greedy) <= 3

    assert main(["show", str(run)]) == 0
    output = capsys.readouterr().out
    assert (run / "plots" / "lengths.png").read_bytes().startswith(PNG)
    generator = torch.Generator().manual_seed(0)
    condition = None
    if conditional:
        labels = task.data.train.labels
        condition = labels[torch.randint(len(labels), (1000,), generator=generator)]
    names = sample_names(
        model, 1000, task.data.vocabulary, condition, temperature=0.8, generator=generator
    )
    new = sum(1 for name in names if name not in list(task.data.train.texts))
    assert 0 < new < 1000
    assert novelty(names, task.data.train.texts) == new / 1000
    assert f"{new / 10:.1f}% are no names of the training, {len(set(names))} are" in output

    if conditional:
        for given in ([], ["--condition", "x"]):
            line = error_line(capsys, ["generate", "names", str(run), *given])
            assert "--condition must be one of f, m, got" in line
    else:
        line = error_line(capsys, ["generate", "names", str(run), "--condition", "m"])
        assert "have no classes" in line
    assert "count must be at least 1, got 0" in error_line(
        capsys, ["generate", "names", str(run), "--count", "0", *of_class]
    )
    assert "is one of task name-generation, not of names" in error_line(
        capsys, ["eval", "names", str(run), "--names", "gina"]
    )


def test_generator_without_classes_takes_names_with_classes(folder: Path) -> None:
    config = NameGenerationConfig(data=str(folder / "f.txt"), hidden_size=4)
    task = NameGenerationTask.load(config)
    assert task.config.num_classes == 0
    again = NameGenerationTask.load(replace(task.config, data=str(folder)), task.vocabularies)
    assert again.config.num_classes == 0
    assert again.evaluate(again.build_model(again.config), "test")["perplexity"] > 1


def test_novelty_is_of_names_as_the_model_spells_them(folder: Path, tmp_path: Path) -> None:
    """A model that drops a character cannot write a name of the training in full."""
    torch.manual_seed(0)
    config = NameGenerationConfig(
        data=str(folder / "f.txt"), hidden_size=16, epochs=30, batch_size=16, lr=0.02,
        max_characters=7, unknown="drop", dropout=0.0,
    )  # fmt: skip
    task = NameGenerationTask.load(config)
    run = Run(tmp_path / "run", NameGenerationTask, task.config, task.vocabularies).create()
    Trainer(task.build_model(task.config), task, run).fit()
    share = float(task.show(run, tmp_path).split("temperature 0.8, ")[1].split("%")[0])
    assert share < 50
    names = sample_names(NameGenerator(7), 50, task.data.vocabulary)
    assert set("".join(names)) <= set(task.data.vocabulary.tokens)
