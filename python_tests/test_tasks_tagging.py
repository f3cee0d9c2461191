"""Tags of tokens through the command line: many to many, aligned."""

import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from command_line import error_line
from seqkern.cli import main
from seqkern.models import BiLstmTagger
from seqkern.tasks.tagging import TaggingConfig, TaggingTask
from seqkern.training import Run

pytestmark = pytest.mark.backends("cpu", reason="about training, not the kernels")


@pytest.fixture
def file(tmp_path: Path, torch_seed: int) -> Path:
    """Letters, tagged by whether the next one is the same."""
    draw, sentences = random.Random(torch_seed), []
    for _ in range(150):
        letters = [draw.choice("ab") for _ in range(draw.randint(1, 9))]
        pairs = itertools.pairwise([*letters, ""])
        sentences.append(
            "\n".join(f"{one} {'same' if one == two else 'not'}" for one, two in pairs)
        )
    (tmp_path / "tagged.txt").write_text("\n\n".join(sentences))
    return tmp_path / "tagged.txt"


def test_tagger_has_the_whole_command_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    options = ["--data", str(file), "--hidden-size", "8", "--embed-size", "4", "--batch-size", "8"]
    options += ["--lr", "0.03", "--schedule", "none", "--threads", "1"]
    for folder, epochs in ((run, "2"), (whole, "4")):
        assert (
            main(["train", "restoration", *options, "--out", str(folder), "--epochs", epochs]) == 0
        )
    assert main(["train", "--resume", str(run), "--epochs", "4", "--threads", "1"]) == 0
    one, other = (Run.open(folder).load_model("last") for folder in (run, whole))
    assert all(torch.equal(*p) for p in zip(one.parameters(), other.parameters(), strict=True))

    record = Run.open(run)
    task = TaggingTask.load(cast(TaggingConfig, record.config), record.vocabularies)
    model, part = cast(BiLstmTagger, record.load_model()), task.data.test
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for i, length in enumerate(part.lengths.tolist()):
        found = model.predict(part.tokens[:length, i, None])[:, 0]
        for tag, guess in zip(part.tags[:length, i].tolist(), found.tolist(), strict=True):
            total[task.data.tags[tag]] += 1
            right[task.data.tags[tag]] += tag == guess
    capsys.readouterr()
    assert main(["eval", "tags", str(run)]) == 0
    *rows, baseline, told, figure = capsys.readouterr().out.splitlines()
    expected = [[tag, f"{total[tag]}", f"{right[tag] / total[tag]:.4f}"] for tag in ("not", "same")]
    assert [row.split() for row in rows] == expected
    assert figure == f"{right.total() / total.total():.4f}"
    assert float(figure) > 0.9
    assert baseline.startswith("baselines: majority 0.")
    assert f"test accuracy {figure}, loss " in told
    assert main(["show", str(run)]) == 0
    assert (run / "plots" / "confusion.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    file.write_text(file.read_text() + "\na other\n")
    assert "has the tag 'other', expected one of not, same" in error_line(
        capsys, ["eval", "tags", str(run)]
    )


def test_run_evaluates_other_sentences_by_its_own_numbers(file: Path, tmp_path: Path) -> None:
    task = TaggingTask.load(TaggingConfig(data=str(file)))
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(["c same", "b same\na same", "b same"] * 5))
    again = TaggingTask.load(replace(task.config, data=str(other)), task.vocabularies)
    assert again.vocabularies == task.vocabularies
    assert set(again.data.train.tags.unique().tolist()) <= {0, 1}
    scores = again.evaluate(again.build_model(again.config), "train")
    assert 0 <= scores["accuracy"] <= 1
    assert scores["loss"] > 0
    with pytest.raises(ValueError, match="num_tags is 2 by .*, 5 in the settings"):
        TaggingTask.load(replace(task.config, num_tags=5))
