"""The command line of word vectors: train word2vec, train cbow, eval word2vec."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from command_line import error_line
from helpers import threads
from seqkern.cli import main
from seqkern.tasks.cbow import WordTask
from seqkern.training import Run
from seqkern.vectors import KeyedVectors, Word2Vec
from seqkern.vectors import word2vec as word2vec_module

pytestmark = pytest.mark.backends("cpu", reason="about the program, not the kernels")

SIZES = "--vector-size 8 --min-count 1 --seed 3 --threads 1"
EPOCH_LINE = re.compile(r"epoch +(\d+)  loss \d+\.\d{4}  [\d,]+ words/s  alpha 0\.\d{5}$")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on problems this small would mostly wait for each other."""
    with threads(1):
        yield


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text of 2000 words, in the order of a noisy walk."""
    steps = torch.randint(1, 4, (2000,)).cumsum(0) % 30
    words = [f"w{i}" for i in steps.tolist()]
    path = tmp_path / "book.txt"
    path.write_text("\n".join(" ".join(words[i : i + 8]) for i in range(0, 2000, 8)) + "\n")
    return path


def command(book: Path, *options: str) -> list[str]:
    return ["train", "word2vec", "--data", str(book), *SIZES.split(), *options]


def assert_same(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


# Training


def test_train_leaves_a_run_and_reports(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(command(book, "--out", str(run), "--epochs", "3")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"word2vec on {book}: 2,000 words, vocabulary 30, CBOW, vectors of 8"
    )
    assert [int(EPOCH_LINE.match(line)[1]) for line in lines[1:4]] == [1, 2, 3]  # type: ignore[index]
    assert lines[4:] == [f"saved in {run}"]
    names = {"config.json", "last.safetensors", "log.jsonl", "vectors.safetensors"}
    assert {path.name for path in run.iterdir()} == names
    config = json.loads((run / "config.json").read_text())
    assert (config["task"], config["data"], config["vector_size"]) == ("word2vec", str(book), 8)
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [1, 2, 3]
    assert epochs[-1]["words"] == epochs[-1]["total_words"] == 6000
    assert events[-1]["reason"] == "finished"


def test_result_is_that_of_the_class(book: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = "--window 3 --sg --shared-negatives --negative 7 --sample 0 --epochs 2 --bucket 50"
    assert main(command(book, "--out", str(run), *options.split())) == 0
    model = Word2Vec(
        str(book),
        vector_size=8,
        min_count=1,
        seed=3,
        workers=1,
        window=3,
        sg=True,
        shared_negatives=True,
        negative=7,
        sample=0,
        epochs=2,
        bucket=50,
    )
    found = KeyedVectors.load(run / "vectors.safetensors")
    assert found.words == model.wv.words
    assert torch.equal(found.vectors, model.wv.vectors)
    log = (run / "log.jsonl").read_text().splitlines()
    losses = [e["loss"] for e in map(json.loads, log) if e["event"] == "epoch"]
    assert losses == pytest.approx(model.epoch_losses)  # of all examples, not of the last report


def test_switches_take_gensims_numbers(book: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = "--sg 0 --hs 1 --cbow-mean 0 --shrink-windows 0 --deterministic --cbow-update exact"
    options += " --max-vocab 1000 --max-final-vocab 20 --epochs 1"
    assert main(command(book, "--out", str(run), *options.split())) == 0
    config = json.loads((run / "config.json").read_text())
    switches = ("sg", "hs", "cbow_mean", "shrink_windows", "deterministic")
    assert [config[name] for name in switches] == [False, True, False, False, True]
    assert (config["max_vocab_size"], config["max_final_vocab"]) == (1000, 20)


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin", "vectors.bin.gz"])
def test_export_alone_leaves_no_run(book: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    before = {*tmp_path.iterdir()}
    assert main(command(book, "--export", str(path), "--epochs", "1")) == 0
    assert {*tmp_path.iterdir()} - before == {path}
    vectors = KeyedVectors.load_word2vec_format(path, binary=".bin" in name)
    assert (len(vectors), vectors.vector_size) == (30, 8)


def test_export_and_run_hold_the_same_vectors(book: Path, tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "vectors.txt"
    assert main(command(book, "--export", str(path), "--out", str(run), "--epochs", "1")) == 0
    one = KeyedVectors.load(run / "vectors.safetensors")
    other = KeyedVectors.load_word2vec_format(path)
    assert one.words == other.words
    assert torch.equal(one.vectors, other.vectors)


def test_bar_on_a_terminal_shows_the_running_loss(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(command(book, "--out", str(tmp_path / "run"), "--epochs", "2")) == 0
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    assert re.search(r"loss \d\.\d{4}  [\d,]+ words/s", shown)
    assert "epoch   2  loss " in shown


# Resuming


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch in several calls of the kernel, as of a long text."""
    slices = word2vec_module.Averaging.slice

    def shorter(self: object, place: int, size: int) -> tuple[int, int]:
        begin, end = slices(self, place, size)  # type: ignore[arg-type]
        return begin, min(end, begin + 2048)

    monkeypatch.setattr(word2vec_module.Averaging, "slice", shorter)


def test_ctrl_c_saves_and_resuming_is_exact(
    tmp_path: Path,
    book: Path,
    small_slices: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    book.write_text(book.read_text() * 4)
    run, whole, export = tmp_path / "run", tmp_path / "whole", tmp_path / "v.bin"
    train, calls = word2vec_module.Trainable.train, []

    def interrupted(self: object, *args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)  # within the kernel's call
        return train(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(word2vec_module.Trainable, "train", interrupted)
    assert main(command(book, "--out", str(run), "--export", str(export))) == 130
    output = capsys.readouterr().out.splitlines()
    assert output[-2:] == ["interrupted", f"saved in {run} and {export}"]
    assert len(calls) == 7
    assert export.exists()
    monkeypatch.setattr(word2vec_module.Trainable, "train", train)
    assert main(["train", "word2vec", "--resume", str(run), "--threads", "1"]) == 0
    assert main(command(book, "--out", str(whole))) == 0
    for name in ("last.safetensors", "vectors.safetensors"):
        assert_same(run / name, whole / name)
    events = [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert events.count("stop") == 2
    assert "resume" in events
    ended = error_line(capsys, ["train", "word2vec", "--resume", str(run)])
    assert ended == f"run {run} has ended, all its 5 epochs done"


def test_run_killed_before_its_first_checkpoint_starts_anew(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(command(book, "--out", str(run), "--epochs", "1")) == 0
    expected = load_file(run / "vectors.safetensors")
    (run / "last.safetensors").unlink()
    assert main(["train", "word2vec", "--resume", str(run), "--threads", "1"]) == 0
    assert torch.equal(load_file(run / "vectors.safetensors")["vectors"], expected["vectors"])


def test_processes_share_a_training_and_one_writes(book: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = subprocess.run(
        [*launch, "-m", "seqkern.cli", *command(book, "--out", str(run), "--epochs", "2")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:1]] == [f"word2vec on {book}"]
    assert [int(EPOCH_LINE.match(line)[1]) for line in lines[1:3]] == [1, 2]  # type: ignore[index]
    assert lines[3:] == [f"saved in {run}"]
    assert json.loads((run / "config.json").read_text())["processes"] == 2
    assert KeyedVectors.load(run / "vectors.safetensors").vectors.isfinite().all()


def test_run_of_two_processes_is_not_resumed_by_one(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(command(book, "--out", str(run), "--epochs", "1")) == 0
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "processes": 2}))
    error = error_line(capsys, ["train", "word2vec", "--resume", str(run)])
    assert "is one of 2 processes, got 1" in error


# Evaluation


@pytest.fixture
def vectors(tmp_path: Path) -> KeyedVectors:
    rows = torch.tensor([[1.0, 0, 0], [1.0, 0, 1], [0, 1.0, 0], [0, 1.0, 1]])
    kv = KeyedVectors(["man", "men", "cat", "cats"], rows)
    kv.save(tmp_path / "v.safetensors")
    kv.save_word2vec_format(tmp_path / "v.bin", binary=True)
    kv.save_word2vec_format(tmp_path / "v.txt.gz")
    lines = (
        f"{w} {' '.join(map(str, row.tolist()))}\n" for w, row in zip(kv.words, rows, strict=True)
    )
    (tmp_path / "glove.txt").write_text("".join(lines))
    (tmp_path / "pairs.tsv").write_text("# judged\nman\tmen\t9\nman\tcat\t1\nmen\tcats\t5\n")
    (tmp_path / "analogies.txt").write_text(": plural\nman men cat cats\nman cat men man\n")
    return kv


@pytest.mark.parametrize("file", ["v.safetensors", "v.bin", "v.txt.gz", "glove.txt"])
def test_eval_prints_the_figure_last(
    vectors: KeyedVectors, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, analogies = str(tmp_path / "pairs.tsv"), str(tmp_path / "analogies.txt")
    arguments = ["eval", "word2vec", str(tmp_path / file)]
    arguments += ["--no-header"] * (file == "glove.txt")
    assert main([*arguments, "--pairs", pairs]) == 0
    figure = capsys.readouterr().out.splitlines()[-1]
    assert figure == f"{vectors.evaluate_word_pairs(pairs).spearman.statistic:.4f}"
    assert main([*arguments, "--pairs", pairs, "--analogies", analogies]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "50.00"
    assert any(re.match(r" +plural +50\.0  of 2$", line) for line in lines)


def test_eval_takes_a_run(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, pairs = tmp_path / "run", tmp_path / "pairs.tsv"
    pairs.write_text("w1\tw2\t9\nw1\tw9\t1\nw1\tw5\t5\n")
    assert main(command(book, "--out", str(run), "--epochs", "1")) == 0
    assert main(["eval", "word2vec", str(run), "--pairs", str(pairs)]) == 0
    assert -1 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1


def test_eval_notes_what_it_passes_over(
    vectors: KeyedVectors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("Word 1\tWord 2\tHuman\n" + pairs.read_text())
    assert main(["eval", "word2vec", str(tmp_path / "v.bin"), "--pairs", str(pairs)]) == 0
    errors = capsys.readouterr().err
    assert errors.startswith(f"seqkern: note: {pairs}: 1 lines passed over, line 1 first")
    assert errors.count("\n") == 1


# The book's CBOW

CBOW_SIZES = "--hidden-size 8 --window 2 --batch-size 10 --seed 3 --threads 1"


def cbow(book: Path, run: Path, *options: str, preset: str = "cbow") -> list[str]:
    fixed = ["train", preset, "--data", str(book), "--out", str(run), *CBOW_SIZES.split()]
    return [*fixed, *options]


@pytest.mark.parametrize("preset", ["cbow", "skip-gram"])
def test_cbow_trains_and_resumes_as_if_never_stopped(
    book: Path, tmp_path: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, whole, export = tmp_path / "run", tmp_path / "whole", tmp_path / "v.txt"
    assert main(cbow(book, run, "--epochs", "1", "--export", str(export), preset=preset)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{preset} on {book}: ")
    assert re.match(r"epoch +1  train: loss \d+\.\d+  lr 0\.001  [\d,]+ words/s$", lines[1])
    assert lines[2:] == [f"saved in {run} and {export}"]
    export.unlink()
    resume = ["train", "--resume", str(run), "--epochs", "2", "--threads", "1"]
    assert main(resume) == 0
    assert main(cbow(book, whole, "--epochs", "2", preset=preset)) == 0
    for name in ("last.safetensors", "vectors.safetensors"):
        assert_same(run / name, whole / name)
    names = {"config.toml", "log.jsonl", "vocabularies.json"}
    assert {p.name for p in run.iterdir() if p.suffix != ".safetensors"} == names
    vectors = KeyedVectors.load(run / "vectors.safetensors")
    assert set(vectors.words) == {*(f"w{i}" for i in range(30)), "<eos>", "<unk>"}
    assert torch.equal(KeyedVectors.load_word2vec_format(export).vectors, vectors.vectors)


def test_cbow_run_is_evaluated_as_vectors_and_shown(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pairs = tmp_path / "run", tmp_path / "pairs.tsv"
    pairs.write_text("w1\tw2\t9\nw1\tw9\t1\nw1\tw5\t5\n")
    assert main(cbow(book, run, "--epochs", "1")) == 0
    assert main(["eval", "word2vec", str(run), "--pairs", str(pairs)]) == 0
    assert -1 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1
    assert main(["eval", "cbow", str(run), "--split", "train"]) == 0
    assert 0 < float(capsys.readouterr().out.splitlines()[-1]) < 10
    word, near = WordTask.show(Run.open(run), tmp_path).splitlines()[0].split(": ")
    vectors = KeyedVectors.load(run / "vectors.safetensors")
    assert near.split(", ") == [one for one, _ in vectors.most_similar(word, topn=5)]
    (run / "vectors.safetensors").unlink()  # as before the last epoch
    assert WordTask.show(Run.open(run), tmp_path) == ""


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train word2vec", "--data is missing: a text file"),
        ("train word2vec --data absent.txt", "absent.txt"),
        ("train word2vec --data .", "(?i)is a directory"),
        ("train word2vec --data empty.txt", "the text is empty: no word in .*empty.txt"),
        (
            "train word2vec --data latin.txt --min-count 1",
            "latin.txt is not UTF-8 text: byte 0xef at offset 9, line 2",
        ),
        ("train word2vec --data one.txt --min-count 1", "the vocabulary has one word only, 'one'"),
        ("train word2vec --data rare.txt", "no word occurs min_count = 5 times"),
        ("train word2vec --data rare.txt --vector-size 0", "vector_size is 0, expected 1 or more"),
        ("train word2vec --data rare.txt --window x", "--window: invalid int value: 'x'"),
        ("train word2vec --data rare.txt --sg yes", "--sg: expected 0 or 1, got 'yes'"),
        ("train word2vec --data rare.txt --negative 0", "negative is 0 and hs is False"),
        ("train word2vec --data rare.txt --cbow-update fast", "cbow_update is 'fast'"),
        ("train word2vec --data rare.txt --workers 0", "--threads must be at least 1, got 0"),
        ("train word2vec --data rare.txt --device tpu9", "--device tpu9 cannot be used here"),
        ("train word2vec --data rare.txt --export no/v.bin", "--export no/v.bin: there is no such"),
        ("train word2vec --resume absent", "folder absent holds no run"),
        ("train word2vec --resume absent --sg --out x", "--sg, --out cannot be given with it"),
        ("train cbow", "--data is missing"),
        ("train cbow --data absent", "no such text file or folder: .*absent"),
        ("train cbow --data rare.txt", "the valid text of .*rare.txt is empty"),
        ("train cbow --data long.txt --window 60", "text too short: 100 tokens"),
        ("train cbow --resume absent --window 2", "not with it: cbow --window 2"),
        (
            "train cbow --data long.txt --window 2 --batch-size 4 --export no/v",
            "export .*no/v: there",
        ),
        ("eval word2vec absent", "--pairs or --analogies is missing"),
        ("eval word2vec absent --pairs rare.txt", "no such run or file of vectors: absent"),
        ("eval word2vec rare.txt --pairs absent", "no such file: absent"),
        ("eval word2vec rare.txt --pairs rare.txt", "rare.txt, line 1: expected a header"),
        ("eval word2vec . --pairs rare.txt", "folder . holds no run of word vectors"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {
        "empty": b" \n",
        "latin": b"na\xc3\xafve\nna\xefve",
        "one": b"one one",
        "rare": b"a b",
        "long": b"a b c d\n" * 25,
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    error = error_line(capsys, arguments.split())
    assert re.search(message, error), error
    assert sorted(tmp_path.iterdir()) == before  # nothing half made is left


def test_mistakes_about_a_run_are_told_in_one_line(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", tmp_path / "cbow"
    assert main(command(book, "--out", str(run), "--epochs", "1")) == 0
    assert main(cbow(book, other, "--epochs", "1")) == 0
    assert "already holds a run" in error_line(capsys, command(book, "--out", str(run)))
    assert "already holds a run" in error_line(capsys, cbow(book, run))
    assert "holds no run (no config.json in it)" in error_line(
        capsys, ["train", "word2vec", "--resume", str(other)]
    )
    assert "holds no run (no config.toml in it)" in error_line(capsys, ["eval", "lm", str(run)])
    for file, arguments in (
        ("vectors.safetensors", ["eval", "word2vec", str(run), "--pairs", str(book)]),
        ("config.json", ["train", "word2vec", "--resume", str(run)]),
    ):
        path = run / file
        path.write_bytes(path.read_bytes()[:-9])
        assert file in error_line(capsys, arguments)


def test_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path, book: Path) -> None:
    book.write_text(book.read_text() * 50)
    run, whole = tmp_path / "killed", tmp_path / "whole"
    options = ["--epochs", "60", "--checkpoint-seconds", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "seqkern.cli", *command(book, "--out", str(run), *options)],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (run / "log.jsonl").exists() or (run / "log.jsonl").read_text().count("\n") < 3:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert main(["train", "word2vec", "--resume", str(run), "--threads", "1"]) == 0
    assert main(command(book, "--out", str(whole), *options)) == 0
    assert_same(run / "vectors.safetensors", whole / "vectors.safetensors")
