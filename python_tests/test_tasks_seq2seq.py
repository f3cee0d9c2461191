"""The sequence to sequence task: data, scores, pictures, and the command line around it."""

import io
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from command_line import error_line
from helpers import threads
from seqkern.analysis import plot_heatmap
from seqkern.cli import main
from seqkern.data import SequencePairs, date_questions, write_questions
from seqkern.models import EncoderDecoder, beam_search, greedy_search
from seqkern.tasks import PRESETS, preset_config
from seqkern.tasks.seq2seq import (
    Seq2seqConfig,
    Seq2seqTask,
    encode_sources,
    join_tokens,
    mean_loss,
    right_answers,
)
from seqkern.training import Run, save_checkpoint
from seqkern.training.checkpoint import model_tensors

pytestmark = pytest.mark.backends("cpu", reason="about training, not the kernels")

DATA = Path(os.environ.get("SEQKERN_DATA", Path(__file__).parents[2] / "shared" / "data"))
BOOK = DATA / "book" / "addition.txt"

SIZES = "--questions 300 --valid-share 0.1 --batch-size 20 --embed-size 8 --hidden-size 16"
TOKENS = [("I am", "je suis"), ("you run", "tu cours"), ("we all eat", "on mange"), ("go", "va")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on problems this small would mostly wait for each other."""
    with threads(1):
        yield


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file of 80 pairs of tokens, of unequal lengths."""
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{s}\t{t}\n" for s, t in TOKENS * 20))
    return path


Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train in this process; returns the run's folder."""

    def call(name: str, *options: str, preset: str = "addition") -> Path:
        assert main(command(tmp_path / name, *options, preset=preset)) == 0
        return tmp_path / name

    return call


def command(run: Path, *options: str, preset: str = "addition") -> list[str]:
    return ["train", preset, "--out", str(run), *SIZES.split(), "--lr", "0.01", *options]


# Data and scores


@pytest.mark.skipif(not BOOK.is_file(), reason=f"no file of the book at {BOOK}")
def test_test_questions_are_the_books() -> None:
    task = Seq2seqTask.load(Seq2seqConfig(data=str(BOOK), reversed=True))
    lines = BOOK.read_text().splitlines()
    order = np.arange(len(lines))
    np.random.RandomState(1984).shuffle(order)
    test = task.split("test")
    assert [len(pairs) for pairs in task.pairs.values()] == [44_000, 1000, 5000]
    source, target = task.vocabularies.values()
    for n in (0, 1, 4999):
        question, answer = lines[order[45_000 + n]].split("_")
        assert "".join(source.decode(test.source[:, n].flip(0).tolist())) == question
        assert "".join(target.decode(test.target[:, n].tolist())) == "_" + answer
    drawn = set(map(tuple, test.source.T.tolist()))
    for name in ("train", "valid"):
        assert not drawn & set(map(tuple, task.split(name).source.T.tolist()))


def slow_answer(model: EncoderDecoder, pairs: SequencePairs, n: int) -> list[int]:
    """The likeliest token at each step, of one question alone."""
    source = pairs.source[:, n][pairs.source[:, n] >= 0][:, None]
    token, state, found = pairs.target[:1, n : n + 1], None, []
    with torch.no_grad():
        memory = model.encode(source)
        while len(found) < len(pairs.target) - 1 and (not found or found[-1] != pairs.end):
            logits, state, _ = model.decode(token, memory, state)
            token = logits.argmax(-1)
            found.append(int(token))
    return found


def scrambled(task: Seq2seqTask) -> EncoderDecoder:
    """A model whose answers depend on the questions, and not on rounding."""
    model = task.build_model(task.config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_whole_answers_are_counted(mask_padding: bool, reverse: bool) -> None:
    """Every third question is given the model's own answer for the right one."""
    config = Seq2seqConfig(data="addition", questions=400, hidden_size=16, reversed=reverse)
    task = Seq2seqTask.load(replace(config, mask_padding=mask_padding))
    model, pairs = scrambled(task), task.split("test")
    for n in range(0, len(pairs), 3):
        found = torch.tensor(slow_answer(model, pairs, n))
        pairs.target[1:, n] = -1
        pairs.target[1 : 1 + len(found), n] = found
    losses, count = [], 0
    for n in range(len(pairs)):
        wanted = pairs.target[1:, n][pairs.target[1:, n] >= 0]
        count += slow_answer(model, pairs, n) == wanted.tolist()
        source = pairs.source[:, n][pairs.source[:, n] >= 0][:, None]
        with torch.no_grad():
            given = torch.cat([pairs.target[:1, n], wanted[:-1]])[:, None]
            logits, _, _ = model.decode(given, model.encode(source))
        losses += torch.nn.functional.cross_entropy(logits[:, 0], wanted, reduction="none").tolist()
    assert len(pairs) // 3 <= count < len(pairs)
    assert int(right_answers(model, pairs, 7).sum()) == count
    scores = task.evaluate(model.train(), "test")
    assert scores["accuracy"] == pytest.approx(count / 40)
    assert scores["loss"] == pytest.approx(np.mean(losses), rel=1e-9)
    assert mean_loss(model, pairs, 7) == pytest.approx(scores["loss"], rel=1e-9)
    assert model.training


def test_parts_of_processes_make_up_the_batch() -> None:
    task = Seq2seqTask.load(Seq2seqConfig(data="addition", questions=300))
    device = torch.device("cpu")
    whole = task.batches(device).next()
    parts = [task.batches(device, rank, 2).next() for rank in (0, 1)]
    assert torch.equal(torch.cat([part.source for part in parts], 1), whole.source)
    assert torch.equal(torch.cat([part.target for part in parts], 1), whole.target)


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if p.task == "seq2seq"])
def test_every_preset_has_a_model_that_learns(name: str) -> None:
    task = Seq2seqTask.load(preset_config(name, questions=200, dropout=0.0))
    model = task.build_model(task.config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss, state = task.loss(model, task.split("train").select(torch.arange(16)), None)
        assert state is None
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


# The command line


def test_train_resumes_exactly_and_is_evaluated(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--reversed", "--checkpoint-iterations", "5"]
    whole = train("whole", "--epochs", "2", *options)
    run = train("run", "--epochs", "1", *options)
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    for name in ("best", "last"):
        models = [Run.open(folder).load_model(name).state_dict() for folder in (whole, run)]
        assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    record = Run.open(run)
    assert (record.config.data, record.preset) == ("addition", "addition")
    assert [len(v) for v in record.vocabularies.values()] == [13, 13]

    capsys.readouterr()
    assert main(["eval", "seq2seq", str(run), "--eval-batch-size", "11"]) == 0
    first, *lines, told, figure = capsys.readouterr().out.splitlines()
    task = Seq2seqTask.load(record.config)
    right = right_answers(record.load_model(), task.split("test"))
    assert first.startswith("seq2seq (reversed) on addition: 240 training questions")
    assert told.startswith(f"{int(right.sum())} of 30 answers right, loss ")
    assert figure == f"{100 * int(right.sum()) / 30:.2f}"
    assert len(lines) == min(5, int(right.sum())) + 5
    assert all(" -> " in line and "+" in line for line in lines)
    assert "(wrong: " in lines[-1]


def test_two_processes_train_as_one(train: Train, tmp_path: Path) -> None:
    whole, run = train("whole", "--epochs", "1"), tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = (
        f"from seqkern.cli import main; assert main({command(run, '--epochs', '1')}) == 0\n"
        "from pathlib import Path\n"
        "threads = [p.read_text() for p in Path('/proc/self/task').glob('*/comm')]\n"
        "assert not any('gloo' in name for name in threads), threads"
    )
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **common, "RANK": rank, "OMP_NUM_THREADS": "1"},
        )
        for rank in "01"
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    models = [Run.open(folder).load_model().state_dict() for folder in (whole, run)]
    torch.testing.assert_close(models[1], models[0], rtol=1e-3, atol=1e-4)


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    capsys.readouterr()
    assert main(["generate", "seq2seq", *arguments]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_generate_tells_what_search_finds(
    train: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("run", "--epochs", "1", "--reversed")
    record = Run.open(run)
    model: Any = record.load_model()
    texts = ["57+5", "1+999", "123+4"]
    vocabulary = record.vocabularies["source"]
    source = torch.stack([vocabulary.encode(t.ljust(7)[::-1]) for t in texts], 1)
    start = int(vocabulary.encode("_"))

    def text(ids: Tensor) -> str:
        return "".join(vocabulary.decode(ids.tolist())).rstrip()

    greedy = greedy_search(model, source, start, 4).tokens.T
    expected = [[t, text(ids)] for t, ids in zip(texts, greedy, strict=True)]
    assert lines_of(capsys, str(run), *texts) == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("57+5\n1+999\n123+4\n"))
    assert lines_of(capsys, str(run)) == expected

    found = beam_search(model, source, start, 4, beam_size=2, length_penalty=0.0)
    assert lines_of(capsys, str(run), *texts, "--beam-size", "2", "--length-penalty", "0") == [
        [texts[n], text(found.tokens[:, n, k]), f"{found.scores[n, k]:.4f}"]
        for n in range(3)
        for k in range(2)
    ]
    assert "'5x7': not in the vocabulary: 'x'" in error_line(
        capsys, ["generate", "seq2seq", str(run), "5x7"]
    )
    assert "'1+2+3+45' has more than the 7 characters" in error_line(
        capsys, ["generate", "seq2seq", str(run), "1+2+3+45"]
    )
    assert "a question is empty" in error_line(capsys, ["generate", "seq2seq", str(run), ""])


def test_tokens_are_trained_on_and_answered(
    tokens: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sources and targets of unequal lengths, until they are known by heart."""
    options = ["--data", str(tokens), "--epochs", "12", "--lr", "0.03", "--bidirectional"]
    run = train("run", *options, preset="dates")
    record = Run.open(run)
    assert (record.config.level, record.config.target_length) == ("token", 3)
    assert lines_of(capsys, str(run), *(source for source, _ in TOKENS)) == [
        list(pair) for pair in TOKENS
    ]
    assert main(["eval", "seq2seq", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "100.00"
    assert "of level char, the model of token" in error_line(
        capsys, ["eval", "seq2seq", str(run), "--data", "addition"]
    )


# Pictures


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def test_show_draws_curves_and_attention(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    run = train("run", "--epochs", "2", preset="dates")
    capsys.readouterr()
    assert main(["show", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if " -> " in line]) == 10
    pictures = [Path(line.removeprefix("wrote ")) for line in lines if line.startswith("wrote ")]
    assert [path.name for path in pictures] == [
        *(f"attention-{n}.png" for n in (1, 2, 3, 4)),
        "curves.png",
    ]
    width, height = png_size(pictures[0])  # 29 columns, 10 rows
    assert 700 < width < 2000
    assert 300 < height < 1000
    assert all(png_size(path)[0] > 500 for path in pictures)


def test_attention_is_of_the_source_in_its_natural_order() -> None:
    config = Seq2seqConfig(
        data="dates", questions=100, model="attention-seq2seq", reversed=True, mask_padding=True
    )
    task = Seq2seqTask.load(config)
    model, test = scrambled(task), task.split("test")
    for n, (weights, source, target) in enumerate(task.attention(model, test)):
        one = test.select(torch.tensor([n]))
        found = greedy_search(model, one.source, int(one.target[0, 0]), 11, one.end)
        assert found.weights is not None
        torch.testing.assert_close(weights, found.weights[:, 0].flip(1))
        assert "".join(source) == join_tokens(
            task.vocabularies["source"], one.source[:, 0].flip(0), "char"
        )
        assert target == task.vocabularies["target"].decode(found.tokens[:, 0].tolist())
    plain = Seq2seqTask.load(replace(config, model="seq2seq"))
    assert plain.attention(scrambled(plain), test) == []


def test_heatmap_refuses_what_it_cannot_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match=r"shape \(1, 2\).* got \(2, 1\)"):
        plot_heatmap(path, np.ones((2, 1)), "ab", "c", xlabel="", ylabel="")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'seqkern\[plots\]'"):
        plot_heatmap(path, np.ones((1, 2)), "ab", "c", xlabel="", ylabel="")
    assert not path.exists()


# Models without vocabularies, and bad input


def test_model_without_vocabulary_takes_that_of_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dates.txt"
    write_questions(path, date_questions(300))
    size = Seq2seqTask.load(Seq2seqConfig(data=str(path))).config.source_vocab_size
    config = Seq2seqConfig(
        model="peeky-seq2seq", hidden_size=8, source_vocab_size=size, target_vocab_size=size
    )
    record = Run(tmp_path / "run", Seq2seqTask, config).create()
    model = Seq2seqTask.build_model(config)
    save_checkpoint(record.checkpoint("best"), model_tensors(model), {})
    run = str(record.folder)
    assert "names no data of its own: give --data" in error_line(capsys, ["eval", "seq2seq", run])
    assert main(["eval", "seq2seq", run, "--data", str(path)]) == 0
    assert " of 30 answers right, loss " in capsys.readouterr().out
    question = date_questions(1)[0][0].rstrip()
    ((told, answer),) = lines_of(capsys, run, question, "--data", str(path))
    task = Seq2seqTask.load(replace(config, data=str(path)))
    pairs = encode_sources([question], task.config, task.vocabularies)
    ids = greedy_search(model, pairs.source, int(pairs.target[0, 0]), 10).tokens[:, 0]
    assert (told, answer) == (question, join_tokens(task.vocabularies["target"], ids, "char"))
    assert "does not fit the model: source_vocab_size is 13" in error_line(
        capsys, ["eval", "seq2seq", run, "--data", "addition"]
    )


def test_bad_input_is_told(
    tmp_path: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*options: str, preset: str = "addition") -> str:
        return error_line(capsys, command(tmp_path / "none", *options, preset=preset))

    path = tmp_path / "data.txt"
    assert f"no such file: {path}" in told("--data", str(path))
    path.write_text("1+1_2\n1+2=3\n")
    assert f"{path}, line 2: expected question_answer" in told("--data", str(path))
    path.write_text("a b\tc\nd\n")
    assert f"{path}, line 2: expected source<TAB>target" in told("--data", str(path))
    path.write_text("1+1_2\n1+22_3\n")
    assert f"{path}: questions must have one width without mask_padding" in told(
        "--data", str(path)
    )
    path.write_bytes(b"\xff\xfe1_2\n")
    assert f"{path} is not UTF-8" in told("--data", str(path))
    path.write_text("")
    assert f"{path}: questions must hold at least one" in told("--data", str(path))
    write_questions(path, [("1+1", "_2")] * 9)
    assert f"too little data: no valid questions in {path}" in told("--data", str(path))
    assert "model transformer takes no bidirectional" in told(
        "--bidirectional", preset="dates-transformer"
    )
    assert "model seq2seq takes no num_heads" in told("--num-heads", "2")
    assert not (tmp_path / "none").exists()

    run = str(train("run", "--epochs", "1"))
    write_questions(path, [("1+1     ", "_2  ")] * 50)
    assert "does not fit the model: source_length is 8, the model's 7" in error_line(
        capsys, ["eval", "seq2seq", run, "--data", str(path)]
    )
    assert "dates: token '/' is not in the vocabulary" in error_line(
        capsys, ["eval", "seq2seq", run, "--data", "dates"]
    )
    log = [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]
    (epoch,) = (event for event in log if event["event"] == "epoch")
    assert epoch["valid"].keys() == {"accuracy", "loss"}
