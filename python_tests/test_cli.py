"""The command line: what it prints, what it leaves behind, and how it takes bad input."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from command_line import error_line
from helpers import threads
from seqkern.cli import demo, main, presets, show
from seqkern.data import load_corpus
from seqkern.tasks import PRESETS, preset_config, task_class
from seqkern.tasks.language import LanguageConfig, evaluate
from seqkern.training import Run, Trainer
from seqkern.training.progress import figures

pytestmark = pytest.mark.backends("cpu", reason="about the program, not the kernels")

SIZES = "--embed-size 8 --hidden-size 8 --batch-size 4 --steps 5 --lr 2"
EVALUATION = "--eval-batch-size 2 --eval-steps 10"
SEED = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on problems this small would mostly wait for each other."""
    with threads(1):
        yield


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text of 2400 words with some order in it."""
    steps = torch.randint(1, 4, (2000,)).cumsum(0) % 9
    words = [f"w{i}" for i in steps.tolist()]
    path = tmp_path / "book.txt"
    path.write_text("\n".join(" ".join(words[i : i + 5]) for i in range(0, 2000, 5)) + "\n")
    return path


Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, book: Path) -> Train:
    """Train in this process; returns the run's folder."""

    def call(name: str, *options: str, preset: str = "rnnlm") -> Path:
        run = tmp_path / name
        assert main(command(book, run, *options, preset=preset)) == 0
        return run

    return call


def command(book: Path, run: Path, *options: str, preset: str = "rnnlm") -> list[str]:
    fixed = ["train", preset, "--data", str(book), "--out", str(run), "--seed", str(SEED)]
    return [*fixed, *SIZES.split(), *EVALUATION.split(), *options]


# The commands


def test_info_prints_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch"] == torch.__version__


def test_commands_import_no_more_than_they_need() -> None:
    """Word vectors of a text of megabytes take as long as a few imports."""
    code = (
        "import contextlib, sys; from seqkern.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['train', 'word2vec', '--help'])\n"
        "print(sorted({'rich', 'scipy', 'torch._dynamo'} & sys.modules.keys()))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert output.splitlines()[-1] == b"[]"


def test_train_leaves_a_run_and_reports(
    train: Train, book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run", "--epochs", "3")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("rnnlm on ")
    assert [line.split(":")[0] for line in lines[1:4]] == [
        f"epoch   {epoch}  train" for epoch in (1, 2, 3)
    ]
    assert lines[4].startswith("test perplexity ")
    assert not any("\x1b" in line for line in lines)  # no bar where no terminal is
    assert {path.name for path in run.iterdir()} == {
        "best.safetensors",
        "config.toml",
        "last.safetensors",
        "log.jsonl",
        "vocabularies.json",
    }
    record = Run.open(run)
    assert (record.config.data, record.preset) == (str(book), "rnnlm")
    start, *events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [1, 2, 3]
    assert start["event"] == "start"
    assert start["machine"].keys() == {"cpu", "threads", "isa", "torch", "seqkern", "processes"}
    assert start["machine"]["threads"] == start["machine"]["processes"] == 1
    assert [event["event"] for event in events[-2:]] == ["stop", "test"]
    assert lines[4] == f"test {figures(events[-1]['test'])}"


def test_eval_prints_the_figure_last(
    train: Train, book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", "--epochs", "1")
    run = Run.open(folder)
    corpus = load_corpus(book)
    for options, tokens, lanes in (
        ([], corpus.test, 2),
        (["--split", "valid", "--eval-batch-size", "3"], corpus.valid, 3),
        (["--data", str(book), "--checkpoint", "last"], corpus.test, 2),
    ):
        assert main(["eval", "lm", str(folder), *options]) == 0
        expected = evaluate(run.load_model(), tokens, lanes, 10)
        assert capsys.readouterr().out.splitlines()[-1] == f"{expected:.4f}"


def test_generate_continues_the_prompt(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(train("run", "--epochs", "1"))
    capsys.readouterr()
    options = "--length 30 --temperature 0.7 --top-k 5 --seed 1 --skip w3 <unk> <eos>"
    texts = []
    for _ in range(2):
        assert main(["generate", "lm", run, "--prompt", "w1 w2", *options.split()]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    words = texts[0].split()
    assert words[:2] == ["w1", "w2"]
    assert len(words) == 32
    assert not {"w3", "<unk>", "<eos>"} & set(words)
    assert main(["generate", "lm", run, "--length", "4", "--skip", "<eos>"]) == 0
    assert len(capsys.readouterr().out.split()) == 4


def test_samples_do_not_depend_on_those_beside_them(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(train("run", "--epochs", "1"))

    def generate(*options: str) -> list[str]:
        capsys.readouterr()
        fixed = ["--length", "20", "--seed", "4", "--skip", "<eos>", "--top-p", "0.9"]
        assert main(["generate", "lm", run, *fixed, *options]) == 0
        return capsys.readouterr().out.removesuffix("\n").split("\n\n")

    alone = [generate("--prompt", prompt, "--count", "2") for prompt in ("w1", "w2 w3 w4")]
    assert all(len({*samples}) == 2 for samples in alone)
    both = generate("--prompt", "w1", "--prompt", "w2 w3 w4", "--count", "2")
    assert both == alone[0] + alone[1]
    assert generate("--prompt", "w1") == alone[0][:1]
    word = alone[0][0].split()[7]
    (stopped,) = generate("--prompt", "w1", "--stop", word)
    ended = stopped.split()
    assert ended == alone[0][0].split()[: len(ended)]
    assert ended.index(word, 1) == len(ended) - 1
    for options, message in (
        (["--count", "0"], "--count must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--stop", "zebra"], "--stop: not in the vocabulary: zebra"),
        (["--top-p", "0"], "top_p must be above 0 and at most 1, got 0"),
    ):
        assert message in error_line(capsys, ["generate", "lm", run, *options])


def test_letters_are_prompts_of_letters(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--batching", "random", "--hidden-size", "8", "--cell", "gru", "--epochs", "1"]
    text = Path(train("other").parent / "book.txt")
    text.write_text("The time traveller, for so it will be convenient. " * 40)
    run = str(text.with_name("letters"))
    settings = [*options, "--batch-size", "4", "--steps", "5", *EVALUATION.split()]
    command = ["train", "timemachine", "--data", str(text), "--out", run, *settings]
    assert main(command) == 0
    capsys.readouterr()
    nearly_uniform = ["--length", "300", "--temperature", "9", "--seed", "1"]
    for prompt, shown in (("The Time!", "the time"), ("", "")):
        assert main(["generate", "lm", run, "--prompt", prompt, *nearly_uniform]) == 0
        sample = capsys.readouterr().out.removesuffix("\n")
        assert sample.startswith(shown)
        assert len(sample) == len(shown) + 300, "<unk> is no letter"
    assert main(["generate", "lm", run, "--skip", " ", *nearly_uniform]) == 0
    sample = capsys.readouterr().out.removesuffix("\n")
    assert "<unk>" in sample
    assert " " not in sample
    assert main(["eval", "lm", run]) == 0
    assert main(["show", run]) == 0
    assert "model char-rnn takes no dropout, got 0.5" in error_line(
        capsys, [*command, "--dropout", "0.5"]
    )


def test_character_level_runs(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(train("run", "--level", "char", "--epochs", "1"))
    capsys.readouterr()
    assert main(["generate", "lm", run, "--prompt", "w1 w", "--length", "9"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("w1 w")
    assert main(["eval", "lm", run]) == 0


def test_options_override_the_preset(train: Train) -> None:
    run = train("run", "--epochs", "1", "--no-tied", "--clip", "none", preset="better-rnnlm")
    config = Run.open(run).config
    assert isinstance(config, LanguageConfig)
    assert (config.num_layers, config.dropout) == (2, 0.5)  # the preset's
    assert (config.tied, config.clip, config.hidden_size) == (False, None, 8)


def test_settings_come_from_a_file_and_options_override_it(
    tmp_path: Path, book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run, again = tmp_path / "small.toml", tmp_path / "run", tmp_path / "again"
    file.write_text(f'data = "{book}"\nhidden_size = 5\nclip = "none"\nepochs = 7\nsteps = 5\n')
    options = ["--epochs", "1", "--eval-steps", "10"]
    assert main(["train", "rnnlm", "--config", str(file), "--out", str(run), *options]) == 0
    config = Run.open(run).config
    assert isinstance(config, LanguageConfig)
    assert (config.hidden_size, config.clip, config.epochs) == (5, None, 1)
    # A run's own settings make the same run again.
    assert main(["train", "rnnlm", "--config", str(run / "config.toml"), "--out", str(again)]) == 0
    assert_same_training(run, again)
    capsys.readouterr()
    for text, message in (
        ("speed = 1", "unknown settings speed"),
        ("lr = -1", "lr must be above 0, got -1"),
        ('task = "tags"', "is of task tags, the preset of lm"),
        ("lr", "is not a TOML file"),
    ):
        file.write_text(text)
        arguments = ["train", "rnnlm", "--config", str(file), "--data", str(book)]
        assert message in error_line(capsys, arguments)


def test_backend_torch_trains_on_torchs_layers(train: Train) -> None:
    ours = train("ours", "--epochs", "1")
    theirs = train("theirs", "--epochs", "1", "--backend", "torch")
    model = Run.open(theirs).load_model()
    assert type(model.recurrent) is torch.nn.LSTM
    scores = [
        json.loads((r / "log.jsonl").read_text().splitlines()[-1])["test"]["perplexity"]
        for r in (ours, theirs)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_list_names_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == list(presets.COLUMNS)
    assert {line[0] for line in lines[1:]} == PRESETS.keys()
    assert all(len(line) == len(presets.COLUMNS) and all(line) for line in lines)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_settings_of_its_task(name: str) -> None:
    config = preset_config(name)
    assert type(config) is task_class(PRESETS[name].task).Config


def test_show_draws_curves_and_prints_a_sample(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run", "--epochs", "2")
    log = run / "log.jsonl"
    log.write_text(log.read_text().replace('"epoch": 2', '"epoch": 1') + log.read_text())
    curves = show.read_curves(log)
    assert list(curves) == ["perplexity"]  # the learning rate is constant
    assert [epoch for epoch, _ in curves["perplexity"]["valid"]] == [1, 2]
    lines = log.read_text().splitlines(keepends=True)
    (last,) = (i for i, line in enumerate(lines) if '"epoch", "epoch": 2' in line)
    lines[last] = lines[last].replace('"lr": 2.0', '"lr": 0.5')
    log.write_text("".join(lines))
    assert show.read_curves(log)["learning rate"][""] == [(1, 2.0), (2, 0.5)]
    capsys.readouterr()
    assert main(["show", str(run)]) == 0
    output = capsys.readouterr().out
    assert len(output.split()) > 50  # and ends of lines
    assert output.endswith(f"wrote {run / 'plots' / 'curves.png'}\n")
    assert (run / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_packages_not_installed_are_named(
    train: Train,
    book: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = train("run", "--epochs", "1")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "figures need matplotlib: pip install 'seqkern[plots]'" in error_line(
        capsys, ["show", str(run)]
    )
    assert "--tensorboard needs tensorboard: pip install 'seqkern[tensorboard]'" in error_line(
        capsys, command(book, tmp_path / "other", "--tensorboard")
    )
    assert not (tmp_path / "other").exists()


def test_tensorboard_gets_every_figure(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, list[int]] = {}

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder.endswith("run/tensorboard")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            assert isinstance(value, float)
            written.setdefault(name, []).append(step)

        def close(self) -> None:
            written["closed"] = []

    module = SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    train("run", "--epochs", "2", "--tensorboard")
    assert written["train/perplexity"] == written["valid/perplexity"] == [1, 2]
    assert written["step/loss"][:2] == [20, 40]
    assert written["step/loss"] == written["step/tokens_per_second"]
    assert "closed" in written


def test_two_processes_train_as_one(
    train: Train, tmp_path: Path, book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, and resumed, by two processes as torchrun starts them."""
    whole, run = train("whole", "--epochs", "2"), tmp_path / "run"
    with socket.socket() as one, socket.socket() as other:
        ports = []
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    first = command(book, run, "--epochs", "1")
    commands = [first, ["train", "--resume", str(run), "--epochs", "2"]]
    code = (
        "import os; from seqkern.cli import main\n"
        f"for port, words in zip({ports}, {commands}):\n"
        "    os.environ['MASTER_PORT'] = port; assert main(words) == 0"
    )
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
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
    assert outputs[1][0] == ""  # one of them tells
    words = [line.split(" ")[0] for line in outputs[0][0].splitlines()]
    assert words == ["rnnlm", "epoch", "test", "rnnlm", "resumed", "epoch", "test"]
    scores = []
    for folder in (whole, run):
        events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        epochs = [event for event in events if event["event"] == "epoch"]
        assert [event["epoch"] for event in epochs] == [1, 2]
        scores.append([event[s]["perplexity"] for event in epochs for s in ("train", "valid")])
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)
    models = [Run.open(folder).load_model().state_dict() for folder in (whole, run)]
    torch.testing.assert_close(models[1], models[0], rtol=1e-4, atol=1e-5)
    assert "is of a training by 2 processes, got 1" in error_line(
        capsys, ["train", "--resume", str(run), "--epochs", "3"]
    )


def test_demo_trains_compares_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(
        demo, "SETTINGS", replace(demo.SETTINGS, embed_size=16, hidden_size=16, epochs=1)
    )
    run = tmp_path / "demo"
    assert main(["demo", "--seconds", "5", "--out", str(run)]) == 0
    output = capsys.readouterr().out
    for part in ("torch.nn.LSTM + F.cross_entropy", "ratio ", "test perplexity ", "Samples:"):
        assert part in output
    assert main(["generate", "lm", str(run), "--prompt", "The value of", "--skip", "<unk>"]) == 0


# Resuming


def assert_same_training(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        first, second = (load_file(run / f"{name}.safetensors") for run in (one, other))
        assert first.keys() == second.keys()
        for key, tensor in first.items():
            assert torch.equal(tensor, second[key]), (name, key)


def test_resume_for_more_epochs_is_as_if_never_stopped(train: Train) -> None:
    short = train("short", "--epochs", "1", "--dropout", "0.2")
    assert main(["train", "--resume", str(short), "--epochs", "3"]) == 0
    assert_same_training(short, train("long", "--epochs", "3", "--dropout", "0.2"))
    assert Run.open(short).config.epochs == 3


def test_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, book: Path, train: Train
) -> None:
    options = "--epochs 10 --dropout 0.2 --checkpoint-iterations 25"
    run = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-m", "seqkern.cli", *command(book, run, *options.split())],
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    log = run / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 8):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert main(["train", "--resume", str(run)]) == 0
    assert '"resume"' in log.read_text()
    assert_same_training(run, train("whole", *options.split()))


def test_ctrl_c_saves_and_still_evaluates(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Trainer.step

    def interrupted_step(trainer: Trainer) -> None:
        step(trainer)
        if trainer.epoch == 1 and trainer.iteration == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "step", interrupted_step)
    run = tmp_path / "run"
    assert main(command(book, run, "--epochs", "9")) == 130
    output = capsys.readouterr().out
    assert "interrupted; checkpoint saved" in output
    assert "test perplexity " in output
    monkeypatch.setattr(Trainer, "step", step)
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required: COMMAND"),
        ("train", "required: PRESET"),
        ("train gpt", "argument PRESET: invalid choice: 'gpt'"),
        ("train gpt --resume x", "argument PRESET: invalid choice: 'gpt'"),
        ("eval", "required: TASK"),
        ("train rnnlm", "--data is missing"),
        ("train rnnlm --data absent/ptb", "no such text file or folder: .*absent/ptb"),
        ("train rnnlm --data pydoc --lr fast", "--lr: invalid float value: 'fast'"),
        ("train rnnlm --data pydoc --batch-size 0", "batch_size must be at least 1, got 0"),
        ("train rnnlm --data pydoc --level line", "level must be one of word, text, char"),
        ("train rnnlm --data pydoc --dropout 1", "dropout must be at least 0 and below 1"),
        ("train rnnlm --data pydoc --device tpu9", "--device tpu9 cannot be used here"),
        ("train rnnlm --data pydoc --threads 0", "--threads must be at least 1, got 0"),
        ("train rnnlm --data pydoc --steps 9999", "text too short: .* steps 9999"),
        ("train rnnlm --data pydoc --tied --embed-size 9", "tied needs embed_size equal to hidden"),
        ("train rnnlm --data pydoc --max-vocabulary 1", "max_vocabulary must be at least 2, got 1"),
        ("train rnnlm --data pydoc --config absent.toml", "no such file: absent.toml"),
        ("train rnnlm --data pydoc --eval-steps 999", "text too short: .* steps 999"),
        ("train --resume absent", "folder absent holds no run"),
        ("train --resume absent --lr 1 --out x", "run's own settings; not with it: --lr 1 --out x"),
        ("train rnnlm --resume absent", "run's own settings; not with it: rnnlm"),
        ("train --resume absent --epochs 0.5", "--epochs: invalid int value: '0.5'"),
        ("eval lm absent", "folder absent holds no run"),
        ("show absent", "folder absent holds no run"),
        ("generate lm absent", "folder absent holds no run"),
        ("import-book absent.pkl out", "absent.pkl"),
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
    error = error_line(capsys, arguments.split())
    assert re.search(message, error), error
    assert list(tmp_path.iterdir()) == []  # nothing half made is left


def test_command_line_exits_with_2_and_no_traceback() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "seqkern.cli", "eval", "lm", "absent"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr == "seqkern: error: folder absent holds no run (no config.toml in it)\n"


def test_mistakes_about_a_run_are_told_in_one_line(
    train: Train, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run", "--epochs", "1")
    name = str(run)
    assert "already holds a run" in error_line(capsys, command(book, run))
    assert "not in the vocabulary: zebra" in error_line(
        capsys, ["generate", "lm", name, "--prompt", "w1 zebra"]
    )
    assert "--skip: not in the vocabulary: zebra" in error_line(
        capsys, ["generate", "lm", name, "--skip", "zebra"]
    )
    assert "temperature must be at least 0" in error_line(
        capsys, ["generate", "lm", name, "--temperature", "-1"]
    )
    assert "text too short" in error_line(capsys, ["eval", "lm", name, "--eval-steps", "5000"])
    other = tmp_path / "other.txt"
    other.write_text(book.read_text().replace("w1", "w2"))
    assert "training data is not that of which" in error_line(
        capsys, ["train", "--resume", name, "--data", str(other)]
    )


@pytest.mark.parametrize("file", ["best.safetensors", "config.toml", "vocabularies.json"])
def test_damaged_run_is_told_in_one_line(
    train: Train, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    run = train("run", "--epochs", "1")
    path = run / file
    path.write_bytes(path.read_bytes()[:-9])
    assert file in error_line(capsys, ["eval", "lm", str(run)])


def test_truncated_last_checkpoint_is_refused_on_resume(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run", "--epochs", "1")
    path = run / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    arguments = ["train", "--resume", str(run), "--epochs", "2"]
    assert "last.safetensors is truncated or corrupt" in error_line(capsys, arguments)


def test_vocabulary_of_another_size_is_refused(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run", "--epochs", "1")
    (run / "vocabularies.json").unlink()  # as in an imported run
    other = tmp_path / "other.txt"
    other.write_text("a b c d e f g h i j k l m n o p q r s t\n" * 50)
    arguments = ["eval", "lm", str(run), "--data", str(other)]
    assert error_line(capsys, arguments).startswith("vocabulary mismatch: 22 tokens")
