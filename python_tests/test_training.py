"""The loop, its schedule and its checkpoints; evaluation and generation; damaged files."""

import json
import math
import random
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from helpers import threads
from seqkern.data import Corpus, RandomBatches, Vocabulary
from seqkern.models import AwdRnnlm, CharRnn, Rnnlm, SimpleRnnlm, generate
from seqkern.tasks.language import LanguageConfig, LanguageTask, evaluate, perplexity
from seqkern.training import (
    ExampleBatches,
    JsonLog,
    Run,
    Trainer,
    load_checkpoint,
    save_checkpoint,
)
from seqkern.training.adam import EpsilonHatAdam
from seqkern.training.state import pack_state, unpack_state

pytestmark = pytest.mark.backends("cpu", reason="about training, not the kernels")

SMALL = LanguageConfig(
    vocab_size=12,
    level="word",
    embed_size=6,
    hidden_size=6,
    batch_size=3,
    steps=4,
    epochs=3,
    lr=1.0,
    eval_batch_size=2,
    eval_steps=5,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on problems this small would mostly wait for each other."""
    with threads(1):
        yield


@pytest.fixture
def text() -> Tensor:
    """A noisy walk over 12 tokens: something to learn, nothing to learn by heart."""
    steps = torch.randint(1, 4, (500,))
    return steps.cumsum(0) % 12


build_model = LanguageTask.build_model


def make_task(config: LanguageConfig, text: Tensor) -> LanguageTask:
    words = Vocabulary([str(i) for i in range(12)])
    return LanguageTask(config, Corpus(words, "word", text[:400], text[400:], text[400:]))


def make(config: LanguageConfig, text: Tensor, run: Run | None = None, **options: Any) -> Trainer:
    torch.manual_seed(config.seed)
    return Trainer(build_model(config), make_task(config, text), run, **options)


def make_run(folder: Path, config: LanguageConfig = SMALL) -> Run:
    return Run(folder, LanguageTask, config).create()


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_bitwise_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


# The loop


def test_perplexity_falls(text: Tensor) -> None:
    events: list[dict[str, Any]] = []
    make(replace(SMALL, epochs=8), text, listeners=[events.append]).fit()
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == list(range(1, 9))
    assert epochs[0]["valid"]["perplexity"] > 8  # 12 is chance
    assert epochs[-1]["valid"]["perplexity"] < 4.5  # 3 is perfect


def test_random_batches_start_from_a_zero_state(text: Tensor) -> None:
    config = replace(SMALL, batching="random", seed=5)
    trainer = make(config, text)
    model = build_model(config)
    model.load_state_dict(trainer.model.state_dict())
    batches = RandomBatches(text[:400], 3, 4, seed=5)
    for _ in range(3):
        inputs, targets = batches.next()
        trainer.step()
        loss = torch.nn.functional.cross_entropy(
            model(inputs)[0].flatten(0, 1), targets.flatten()
        ).item()
        expected, trainer.loss_sum = trainer.loss_sum.item(), torch.zeros(()).double()
        assert loss == pytest.approx(expected, rel=1e-5)
        model.load_state_dict(trainer.model.state_dict())


def test_learning_rate_falls_when_validation_does_not_improve(
    text: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([9.0, 9.0, 8.0, 8.5])
    monkeypatch.setattr(LanguageTask, "evaluate", lambda *_: {"perplexity": next(scores)})
    events: list[dict[str, Any]] = []
    trainer = make(replace(SMALL, epochs=4), text, listeners=[events.append])
    trainer.fit()
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["lr"] for event in epochs] == [1.0, 1.0, 0.25, 0.25]
    assert [event["improved"] for event in epochs] == [True, False, True, False]
    assert trainer.lr == 0.0625
    assert trainer.best == 8.0


def test_best_checkpoint_holds_the_best_epoch(
    text: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, seen = iter([9.0, 7.0, 7.0, 8.0]), []

    def fake_evaluate(task: LanguageTask, model: Rnnlm, split: str) -> dict[str, float]:
        assert split == "valid"
        seen.append(weights(model))
        return {"perplexity": next(scores)}

    monkeypatch.setattr(LanguageTask, "evaluate", fake_evaluate)
    run = make_run(tmp_path / "run")
    make(replace(SMALL, epochs=4), text, run).fit()
    best = seen[2]  # the later one of two equal ones
    assert_bitwise_equal(weights(run.load_model("best")), best)
    assert_bitwise_equal(weights(run.load_model("last")), seen[3])
    assert_bitwise_equal(weights(run.load_model()), best)
    assert_bitwise_equal(load_file(run.checkpoint("best")), best)  # a plain state_dict


def test_training_perplexity_may_tell_the_best_epoch(text: Tensor) -> None:
    config = replace(SMALL, monitor="train")
    events: list[dict[str, Any]] = []
    trainer = make(config, text, listeners=[events.append])
    trainer.fit()
    epochs = [event for event in events if event["event"] == "epoch"]
    assert "valid" not in epochs[0]
    assert trainer.best == min(event["train"]["perplexity"] for event in epochs)


def test_gradients_are_clipped_to_the_norm(text: Tensor) -> None:
    trainer = make(replace(SMALL, clip=1e-3, lr=1.0), text)
    before = weights(trainer.model)
    trainer.step()
    after = weights(trainer.model)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_batches_of_variable_length_scale_the_learning_rate(text: Tensor) -> None:
    config = replace(SMALL, batching="variable", steps=20, clip=None, epochs=1)
    events: list[dict[str, Any]] = []
    trainer = make(config, text, listeners=[events.append])
    before = weights(trainer.model)
    trainer.step()
    length = trainer.batches.position
    assert length != 20
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            moved = parameter.detach() - before[name]
            torch.testing.assert_close(moved, -length / 20 * parameter.grad)
    assert trainer.lr == 1.0
    trainer = make(config, text, listeners=[events.append])
    trainer.fit()
    (epoch,) = (event for event in events if event["event"] == "epoch")
    tokens = epoch["tokens_per_second"] * epoch["seconds"]
    assert tokens == pytest.approx(3 * trainer.batches.position, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "nt-asgd"}, "lr_decay must be 1 with nt-asgd, got 4.0"),
        (
            {"optimizer": "nt-asgd", "lr_decay": 1.0, "monitor": "train"},
            "monitor must be valid with nt-asgd, got train",
        ),
        ({"model": "char-rnn", "dropout": 0.5}, "model char-rnn takes no dropout, got 0.5"),
        ({"model": "char-rnn", "embed_size": 7}, "model char-rnn takes no embed_size, got 7"),
        ({"weight_drop": 0.5}, "model rnnlm takes no weight_drop, got 0.5"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LanguageConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Rnnlm(12, 100, 100)),
        ({"cell": "gru", "num_layers": 2, "dropout": 0.5}, Rnnlm(12, 100, 100, 2, 0.5, cell="gru")),
        ({"model": "simple-rnnlm"}, SimpleRnnlm(12)),
        ({"model": "char-rnn", "hidden_size": 7}, CharRnn(12, 7)),
        ({"model": "char-rnn", "cell": "rnn_relu", "backend": "torch"}, None),
        (
            {
                "model": "awd-rnnlm",
                "embed_size": 5,
                "weight_drop": 0.25,
                "alpha": 2.0,
                "tied": True,
            },
            AwdRnnlm(12, 5, 100, 1, weight_drop=0.25),
        ),
    ],
)
def test_models_are_built_by_the_settings_they_take(
    settings: dict[str, Any], expected: torch.nn.Module | None
) -> None:
    expected = expected or CharRnn(12, 100, cell="rnn_relu", backend="torch")
    model = build_model(LanguageConfig(vocab_size=12, **settings))
    assert type(model) is type(expected)
    assert [(n, p.shape) for n, p in model.named_parameters()] == [
        (n, p.shape) for n, p in expected.named_parameters()
    ]
    if isinstance(model, AwdRnnlm):
        own = (model.weight_drop, model.alpha, model.beta, model.embedding_dropout)
        assert own == (0.25, 2.0, 0.0, 0.0)
    else:
        assert repr(model) == repr(expected)


def test_diverged_training_stops(text: Tensor) -> None:
    with pytest.raises(FloatingPointError, match="training diverged in epoch 1, iteration 20, at"):
        make(replace(SMALL, lr=1e38, clip=None), text).fit()


def test_weights_that_are_not_finite_replace_no_checkpoint(text: Tensor, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    trainer = make(SMALL, text, run)
    trainer.save()
    torch.nn.init.constant_(trainer.model.linear.bias, math.nan)
    with pytest.raises(FloatingPointError, match="training diverged"):
        trainer.save()
    assert run.load_model("last").linear.bias.isfinite().all()


def test_short_validation_and_figures_not_there_are_refused_before_training(
    text: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="text too short: 10 tokens"):
        make(SMALL, text[:410])
    monkeypatch.setattr(LanguageTask, "score", "accuracy")
    with pytest.raises(ValueError, match='monitor must be "valid": training gives no accuracy'):
        make(replace(SMALL, monitor="train"), text)


def test_ctrl_c_stops_after_the_iteration_with_a_checkpoint(text: Tensor, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")

    def interrupt(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            signal.raise_signal(signal.SIGINT)

    trainer = make(SMALL, text, run, listeners=[interrupt])
    handler = signal.getsignal(signal.SIGINT)
    assert trainer.fit() == "interrupted"
    assert signal.getsignal(signal.SIGINT) is handler
    assert (trainer.epoch, trainer.iteration) == (0, 20)
    assert load_checkpoint(run.checkpoint("last"))[1]["iteration"] == 20


def test_training_runs_in_another_thread(text: Tensor) -> None:
    results: list[str] = []
    trainer = make(SMALL, text)
    thread = threading.Thread(target=lambda: results.append(trainer.fit()))
    thread.start()
    thread.join()
    assert results == ["finished"]


def test_time_limit_stops_training(text: Tensor) -> None:
    trainer = make(SMALL, text)
    assert trainer.fit(max_seconds=0) == "time"
    assert trainer.iteration == 1


@pytest.mark.parametrize(
    "option",
    [
        {"dtype": "bfloat16"},
        {"optimizer": "adam", "weight_decay": 1e-4},
        {"backend": "torch"},
        {"optimizer": "sgd", "weight_decay": 1e-3},
        {"optimizer": "adam-hat", "eps": 1e-4},
    ],
)
def test_loop_options_train(text: Tensor, option: dict[str, Any]) -> None:
    lr = 0.05 if "adam" in option.get("optimizer", "sgd") else 1.0
    trainer = make(replace(SMALL, lr=lr, **option), text)
    trainer.fit()
    assert trainer.best is not None
    assert trainer.best < 8


def test_adam_hat_is_kingma_and_bas_efficient_form(rng: np.random.Generator) -> None:
    lr, eps = 0.1, 1e-2  # large beside small gradients
    parameter = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimizer = EpsilonHatAdam([parameter], lr=lr, eps=eps)
    expected, m, v = np.zeros((3, 5))
    for t in range(1, 30):
        gradient = rng.normal(size=5) * 10.0 ** np.arange(-4, 1)
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        m += (1 - 0.9) * (gradient - m)
        v += (1 - 0.999) * (gradient**2 - v)
        rate = lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        expected = expected - rate * m / (np.sqrt(v) + eps)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-10)


# Batches of examples


def test_every_epoch_has_each_example_once_in_another_order() -> None:
    batches = ExampleBatches(10, 3, torch.Tensor.tolist, seed=2)
    epochs = [[i for _ in range(len(batches)) for i in batches.next()] for _ in range(3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    batches.position = 4
    assert batches.next() == epochs[1][3:6]


def test_parts_of_processes_make_up_the_batch() -> None:
    whole = ExampleBatches(12, 6, torch.Tensor.tolist)
    parts = [ExampleBatches(12, 6, torch.Tensor.tolist, rank=rank, world=3) for rank in range(3)]
    for _ in range(5):
        assert whole.next() == [i for part in parts for i in part.next()]
    with pytest.raises(ValueError, match="multiple of the number of processes, 4, got 6"):
        ExampleBatches(12, 6, torch.Tensor.tolist, rank=0, world=4)
    with pytest.raises(ValueError, match="too little data: 5 examples, but batch_size is 6"):
        ExampleBatches(5, 6, torch.Tensor.tolist)


def test_lanes_of_processes_make_up_the_batch(text: Tensor) -> None:
    task = make_task(replace(SMALL, batch_size=4), text)
    whole, *parts = (task.batches(torch.device("cpu"), *p) for p in ((0, 1), (0, 2), (1, 2)))
    for _ in range(3):
        halves = [part.next() for part in parts]
        for tensor, *pieces in zip(whole.next(), *halves, strict=True):
            assert torch.equal(tensor, torch.cat(pieces, dim=1))
    with pytest.raises(ValueError, match="multiple of the number of processes, 3, got 4"):
        task.batches(torch.device("cpu"), 0, 3)


# Resuming


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"dropout": 0.4, "tied": True, "model": "better-rnnlm", "num_layers": 2},
        {"batching": "random", "optimizer": "adam", "lr": 0.01, "dropout": 0.3},
        {"model": "simple-rnnlm", "monitor": "train"},
        {"optimizer": "adam-hat", "eps": 0.1, "lr": 0.05, "clip": None},
        {"batching": "variable", "steps": 5, "weight_decay": 1e-3},
        {
            **{"model": "awd-rnnlm", "cell": "gru", "tied": True, "num_layers": 2},
            **{"weight_drop": 0.3, "embedding_dropout": 0.1, "hidden_dropout": 0.2, "beta": 1.0},
        },
    ],
    ids=["sgd", "dropout", "random-adam", "rnn", "adam-hat", "variable", "awd"],
)
def test_resumed_training_is_bitwise_the_uninterrupted_one(
    text: Tensor, tmp_path: Path, setting: dict[str, Any]
) -> None:
    config = replace(SMALL, checkpoint_iterations=7, **setting)
    whole = make(config, text)
    whole.fit()

    def kill(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["epoch"] == 2:
            raise Killed

    run = make_run(tmp_path / "run", config)
    with pytest.raises(Killed):
        make(config, text, run, listeners=[kill]).fit()
    for disturb in (torch.manual_seed, random.seed, np.random.seed):
        disturb(99)
    resumed = Trainer(build_model(config), make_task(config, text), run)
    resumed.resume()
    assert (resumed.epoch, resumed.iteration) == (1, 14)
    resumed.fit()
    assert_bitwise_equal(weights(resumed.model), weights(whole.model))
    assert resumed.best == whole.best
    assert resumed.lr == whole.lr


def test_averaging_judges_and_keeps_means_and_trains_on(
    text: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [9.0, 8.0, 8.5, 8.6, 7.0, 6.0]  # the fourth is worse than the second: it begins
    seen: list[dict[str, Tensor]] = []

    def use(scores: Iterator[float]) -> None:
        def evaluate(task: LanguageTask, model: Rnnlm, split: str) -> dict[str, float]:
            seen.append(weights(model))
            return {"perplexity": next(scores)}

        monkeypatch.setattr(LanguageTask, "evaluate", evaluate)

    options: dict[str, Any] = {"optimizer": "nt-asgd", "averaging_window": 1, "lr_decay": 1.0}
    config = replace(SMALL, epochs=6, dropout=0.2, checkpoint_iterations=7, **options)
    use(iter(scores))
    run = make_run(tmp_path / "whole", config)
    whole = make(config, text, run)
    steps: list[dict[str, Tensor]] = []
    whole.listeners = [lambda e: steps.append(weights(whole.model)) if e["event"] == "epoch" else 0]
    whole.fit()
    assert_bitwise_equal(weights(run.load_model("best")), seen[5])
    assert_bitwise_equal(weights(run.load_model("last")), weights(whole.model))
    for name in ("linear.weight", "recurrent.weight_hh_l0"):
        assert torch.equal(seen[3][name], steps[3][name])  # not yet means
        assert not torch.equal(seen[4][name], steps[4][name])
    assert whole.lr == SMALL.lr

    def kill(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["epoch"] == 6:
            raise Killed

    use(iter(scores))
    run = make_run(tmp_path / "run", config)
    with pytest.raises(Killed):
        make(config, text, run, listeners=[kill]).fit()
    use(iter(scores[5:]))
    resumed = Trainer(build_model(config), make_task(config, text), run)
    resumed.resume()
    assert (resumed.epoch, resumed.iteration) == (5, 14)
    resumed.fit()
    assert_bitwise_equal(weights(resumed.model), weights(whole.model))
    assert_bitwise_equal(weights(run.load_model("best")), seen[5])


def test_checkpoint_restores_all_random_generators(text: Tensor, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    trainer = make(SMALL, text, run)
    np.random.randn()  # noqa: NPY002  (leaves half of a pair of normals behind)
    trainer.save()

    def draw() -> tuple[float, ...]:
        return random.random(), *np.random.randn(3), torch.rand(()).item()  # noqa: NPY002

    expected = draw()
    trainer.resume()
    assert draw() == expected


@pytest.mark.parametrize("shape", [None, "h", ("h", "c"), (("h", "c"), "h", ("h",))])
def test_states_of_every_nesting_are_restored(shape: Any) -> None:
    def build(part: Any) -> Any:
        return torch.randn(2) if isinstance(part, str) else tuple(map(build, part))

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, Tensor):
            return torch.equal(one, other)
        return len(one) == len(other) and all(map(same, one, other))

    state = None if shape is None else build(shape)
    found = unpack_state({**pack_state(state, "s"), "loss": torch.zeros(())}, "s", "cpu")
    assert found is None if state is None else same(state, found)


def test_checkpoints_come_by_time(text: Tensor, tmp_path: Path) -> None:
    config = replace(SMALL, checkpoint_seconds=0.0, epochs=1)
    run = make_run(tmp_path / "run", config)
    seen = []

    def look(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            seen.append(load_checkpoint(run.checkpoint("last"))[1]["iteration"])

    make(config, text, run, listeners=[look]).fit()
    assert seen == [19]


def test_another_text_is_refused_on_resume(text: Tensor, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make(SMALL, text, run).fit()
    with pytest.raises(ValueError, match=r"training data is not that of which .*last\.safetensors"):
        make(SMALL, text.flip(0), run).resume()


def test_another_models_checkpoint_is_refused(text: Tensor, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make(SMALL, text, run).fit()
    other = replace(run, config=replace(SMALL, hidden_size=7))
    with pytest.raises(ValueError, match=r"best\.safetensors is of another model: .*weight_ih_l0"):
        other.load_model()
    other = replace(run, config=replace(SMALL, num_layers=2))
    with pytest.raises(ValueError, match=r"best\.safetensors is of another model.*weight_hh_l1"):
        other.load_model()


# Checkpoint files


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.safetensors"
    tensors = {"a": torch.randn(30, 7), "training/b": torch.arange(9), "c": torch.tensor(2.5)}
    save_checkpoint(path, tensors, {"epoch": 3})
    return path


def test_checkpoint_restores_tensors_and_meta(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(5).bfloat16(),
        "strided": torch.randn(4, 6).T,
        "scalar": torch.tensor(1.0),
        "empty": torch.zeros(0, 3),
    }
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, tensors, {"lr": 0.1, "best": None, "deep": {"list": [1, 2]}})
    loaded, meta = load_checkpoint(path)
    assert_bitwise_equal(loaded, tensors)
    assert meta == {"lr": 0.1, "best": None, "deep": {"list": [1, 2]}}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_truncated_checkpoint_is_named(checkpoint: Path, kept: float) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(ValueError, match=r"last\.safetensors is truncated or corrupt"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("place", [0, 12, -400, -1])
def test_flipped_byte_is_noticed(checkpoint: Path, place: int) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[place] ^= 0x10
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.safetensors is .*corrupt"):
        load_checkpoint(checkpoint)


def test_foreign_and_missing_checkpoints_are_named(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"foreign\.safetensors .* no checkpoint of seqkern"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match=r"no such checkpoint: .*absent"):
        load_checkpoint(tmp_path / "absent")


@pytest.mark.parametrize(
    "function", ["data.checkpoint.save", "data.files.os.fsync", "data.files.os.replace"]
)
def test_failed_write_leaves_the_old_checkpoint(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(f"seqkern.{function}", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(checkpoint, {"a": torch.zeros(1)}, {"epoch": 4})
    assert load_checkpoint(checkpoint)[1] == {"epoch": 3}


# Run folders


def test_run_opens_as_created(tmp_path: Path) -> None:
    vocabularies = {"tokens": Vocabulary(["a", "b", "<unk>"]), "labels": Vocabulary(["é", "%"])}
    config = replace(SMALL, clip=None, data='odd "name"\\of data')
    created = Run(tmp_path / "deep" / "run", LanguageTask, config, vocabularies, "rnnlm").create()
    assert Run.open(tmp_path / "deep" / "run") == created
    with pytest.raises(FileExistsError, match="already holds a run"):
        created.create()


def test_folder_without_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lr = ", "is not a TOML file"),
        ("lr = 1.0", "task must be one of lm.*, got ''"),
        ('task = "lm"\nspeed = 1', "unknown settings speed"),
        ('task = "lm"\nlr = "fast"', "lr must be float, got 'fast'"),
        ('task = "lm"\nsteps = true', "steps must be int, got True"),
        ('task = "lm"\nclip = "no"', "clip must be float or none, got 'no'"),
        ('task = "lm"\ntied = 1', "tied must be bool, got 1"),
        ('task = "lm"\ndropout = 1.0', "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_damaged_configuration_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(content)
    with pytest.raises(
        ValueError, match=rf"(?s)config\.toml is not a run's configuration: .*{message}"
    ):
        Run.open(tmp_path)


@pytest.mark.parametrize("content", ['{"tokens": ["a"', "[1]", '{"t": 1}', '{"t": ["a", "a"]}'])
def test_damaged_vocabularies_are_named(tmp_path: Path, content: str) -> None:
    make_run(tmp_path)
    (tmp_path / "vocabularies.json").write_text(content)
    with pytest.raises(ValueError, match=r"vocabularies\.json does not hold a run's vocabularies"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"model": "gpt"}, "model must be one of simple-rnnlm, rnnlm, better-rnnlm.*, got 'gpt'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"lr": float("nan")}, "lr must be above 0, got nan"),
        ({"clip": -1.0}, "clip must be above 0"),
        ({"lr_decay": 0.5}, "lr_decay must be at least 1"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1"),
        ({"epochs": None}, "epochs must be int, got None"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16"),
    ],
)
def test_settings_outside_their_range_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageConfig(**setting)


def test_log_has_one_json_object_a_line(text: Tensor, tmp_path: Path) -> None:
    make(SMALL, text, listeners=[JsonLog(tmp_path / "log.jsonl")]).fit()
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [1, 2, 3]
    assert {"loss", "train", "tokens_per_second", "time"} <= events[0].keys()
    assert events[0]["train"]["perplexity"] == pytest.approx(math.exp(events[0]["loss"]))
    assert events[-1]["event"] == "stop"


# Evaluation


def test_perplexity_of_a_huge_loss_is_infinite() -> None:
    assert perplexity(1000.0) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_evaluation_is_the_mean_over_blocks_with_state_carried(text: Tensor) -> None:
    model = Rnnlm(12, 6, 6, dropout=0.5).double()
    with torch.no_grad():
        model.linear.weight.mul_(3)
    lanes = torch.stack([text[i * 49 : i * 49 + 49] for i in range(10)], dim=1)  # 499 // 10 = 49
    model.eval()
    logits, _ = model(lanes)
    losses = torch.nn.functional.cross_entropy(
        logits[:-1].flatten(0, 1), lanes[1:].flatten(), reduction="none"
    )
    expected = math.exp(losses.reshape(48, 10)[:48].mean().item())
    model.train()
    assert evaluate(model, text, batch_size=10, steps=16) == pytest.approx(expected, rel=1e-12)
    assert model.training


def test_nan_weights_evaluate_to_nan(text: Tensor) -> None:
    model = Rnnlm(12, 6, 6)
    torch.nn.init.constant_(model.linear.weight, math.nan)
    assert math.isnan(evaluate(model, text))


# Generation


@pytest.fixture
def model() -> Rnnlm:
    """One whose next token depends on what it read."""
    model = Rnnlm(12, 6, 6, num_layers=2, dropout=0.5)
    torch.nn.init.normal_(model.embedding.weight)
    torch.nn.init.normal_(model.linear.weight)
    return model


def test_greedy_generation_is_that_of_the_whole_text_read_again(model: Rnnlm) -> None:
    ids = [3, 1, 4]
    found = generate(model, ids, 10, temperature=0)
    assert model.training
    model.eval()
    for _ in range(10):
        ids.append(int(model(torch.tensor(ids)[:, None])[0][-1, 0].argmax()))
    assert found == ids[3:]
    assert len(set(found)) > 2
    assert generate(model, [3, 1, 4], 10, top_k=1) == found


def test_seeded_samples_repeat(model: Rnnlm) -> None:
    def sample(seed: int) -> list[int]:
        return generate(model, [5], 30, generator=torch.Generator().manual_seed(seed))

    assert sample(1) == sample(1) != sample(2)


def test_samples_follow_the_probabilities_at_the_temperature(model: Rnnlm) -> None:
    draws = 400
    torch.nn.init.normal_(model.linear.bias)
    random = torch.Generator().manual_seed(0)
    ids = [generate(model, [5], 1, temperature=2.0, generator=random)[0] for _ in range(draws)]
    counted = torch.bincount(torch.tensor(ids), minlength=12)
    model.eval()
    expected = torch.softmax(model(torch.tensor([[5]]))[0][0, 0] / 2.0, 0)
    deviation = (counted - draws * expected) / (draws * expected * (1 - expected)).sqrt()
    assert deviation.abs().max() < 4.5


def test_skipped_and_unlikely_tokens_are_not_generated(model: Rnnlm) -> None:
    generator = torch.Generator().manual_seed(0)
    skipped = generate(model, [5], 300, skip=[0, 1, 2], temperature=5.0, generator=generator)
    assert set(skipped) == set(range(3, 12))
    model.eval()
    likely = model(torch.tensor([[5]]))[0][0, 0].topk(3).indices.tolist()
    first = {
        generate(model, [5], 1, top_k=3, temperature=9.0, generator=generator)[0] for _ in range(99)
    }
    assert first == set(likely)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: generate(m, [], 1), "prompt must hold at least one token"),
        (lambda m: generate(m, [1], -1), "length must be at least 0, got -1"),
        (lambda m: generate(m, [1], 1, temperature=-0.5), "temperature must be at least 0"),
        (lambda m: generate(m, [1], 1, top_k=0), "top_k must be at least 1, got 0"),
        (lambda m: generate(m, [1], 1, skip=range(12)), "skip must leave a token to generate"),
    ],
)
def test_bad_generation_arguments_are_refused(
    model: Rnnlm, call: Callable[[Rnnlm], list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(model)
