"""CBOW and skip-gram of the zoo: losses and gradients of the reference layers; the loop."""

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import reference
from helpers import threads
from seqkern.data.contexts import ContextBatches, seeded_generator
from seqkern.models import CBOW, SimpleCBOW, SimpleSkipGram, SkipGram
from seqkern.nn import UnigramSampler
from seqkern.training.word_trainer import REPORT_INTERVAL, WordTrainer

V, D, B, C, K = 11, 6, 4, 3, 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on problems this small would mostly wait for each other."""
    with threads(1):
        yield


def examples() -> tuple[Tensor, Tensor]:
    return torch.randint(V, (B, C)), torch.randint(V, (B,))


def sampler(vocab_size: int = V) -> UnigramSampler:
    return UnigramSampler(torch.arange(1, vocab_size + 1))


# The models


@pytest.mark.parametrize("cls", [SimpleCBOW, SimpleSkipGram, CBOW, SkipGram])
def test_parameters_start_as_the_books(cls: Any) -> None:
    model = cls(500, 100)
    shapes = [tuple(p.shape) for p in model.parameters()]
    assert shapes == [(500, 100), (500, 100)]
    for parameter in model.parameters():
        assert parameter.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.vectors.data_ptr() == model.embedding.weight.data_ptr()
    assert not model.vectors.requires_grad


def assert_gradients(model: Any, layer: Any, transposed: bool) -> None:
    layer.backward()
    d_in, d_out = layer.grads
    np.testing.assert_allclose(model.embedding.weight.grad, d_in, rtol=1e-9, atol=1e-12)
    d_out = d_out.T if transposed else d_out
    np.testing.assert_allclose(model.output.weight.grad, d_out, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["SimpleCBOW", "SimpleSkipGram"])
def test_softmax_models_are_the_reference_layers(name: str) -> None:
    model = {"SimpleCBOW": SimpleCBOW, "SimpleSkipGram": SimpleSkipGram}[name](V, D).double()
    torch.nn.init.normal_(model.embedding.weight)
    contexts, target = examples()
    weights = [model.vectors.numpy().copy(), model.output.weight.detach().numpy().T.copy()]
    layer = getattr(reference, name)(*weights)
    one_hot = np.eye(V)
    expected = layer.forward(one_hot[contexts.numpy()], one_hot[target.numpy()])
    loss = model(contexts, target)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    assert_gradients(model, layer, transposed=True)


def test_logits_give_the_loss() -> None:
    contexts, target = examples()
    cross_entropy = torch.nn.functional.cross_entropy
    cbow, skip_gram = SimpleCBOW(V, D), SimpleSkipGram(V, D)
    logits = cbow.logits(contexts)
    assert logits.shape == (B, V)
    torch.testing.assert_close(cbow(contexts, target), cross_entropy(logits, target))
    logits = skip_gram.logits(target)
    each = [cross_entropy(logits, contexts[:, c]) for c in range(C)]
    torch.testing.assert_close(skip_gram(contexts, target), torch.stack(each).sum())


@pytest.mark.parametrize("name", ["CBOW", "SkipGram"])
def test_sampled_models_are_the_reference_layers(name: str) -> None:
    model = {"CBOW": CBOW, "SkipGram": SkipGram}[name](V, D).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    contexts, target = examples()
    negatives = torch.randint(V, (B, K) if name == "CBOW" else (B, C, K))
    weights = [p.detach().numpy().copy() for p in model.parameters()]
    layer = getattr(reference, name)(*weights)
    expected = layer.forward(contexts.numpy(), target.numpy(), negatives.numpy())
    loss = model(contexts, target, negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    assert_gradients(model, layer, transposed=False)


@pytest.mark.parametrize("cls", [CBOW, SkipGram])
def test_sampler_draws_where_no_negatives_are_given(cls: Any) -> None:
    model = cls(V, D, sampler(), K)
    contexts, target = examples()
    drawn = sampler().negatives(
        target if cls is CBOW else contexts, K, torch.Generator().manual_seed(3)
    )
    found = model(contexts, target, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, model(contexts, target, drawn))


@pytest.mark.parametrize("cls", [CBOW, SkipGram])
def test_neither_negatives_nor_sampler_is_refused(cls: Any) -> None:
    with pytest.raises(ValueError, match="negatives is None, expected a tensor where there is no"):
        cls(V, D)(*examples())


# Batches


def test_batches_have_every_word_with_a_whole_context_once() -> None:
    tokens = torch.randint(V, (50,))
    batches = ContextBatches(tokens, window=3, batch_size=11)
    assert len(batches) == 4
    orders = []
    for epoch in range(2):
        assert batches.epoch == epoch
        found = [batches.next() for _ in range(len(batches))]
        rows = torch.cat([torch.cat([c[:, :3], t[:, None], c[:, 3:]], 1) for c, t in found])
        windows = tokens.unfold(0, 7, 1)
        assert sorted(rows.tolist()) == sorted(windows.tolist())
        orders.append(rows)
    assert not torch.equal(*orders)
    again = ContextBatches(tokens, window=3, batch_size=11)
    again.epoch, again.iteration = 1, 2
    torch.testing.assert_close(again.next()[1], orders[1][22:33, 3])


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (torch.zeros(20), {}, "tokens must be int64 of shape"),
        (torch.zeros(13).long(), {}, "text too short: 13 tokens, .* batch_size 10 and window 2"),
        (torch.zeros(20).long(), {"window": 0}, "window must be at least 1, got 0"),
        (torch.zeros(20).long(), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_batches_are_refused(tokens: Tensor, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContextBatches(tokens, **{"window": 2, "batch_size": 10, **options})


# The loop


def make(text: Tensor, **options: Any) -> WordTrainer:
    torch.manual_seed(5)
    model = CBOW(V, D, sampler(), K)
    return WordTrainer(model, text, **{"window": 2, "batch_size": 8, "epochs": 3, **options})


@pytest.fixture
def text() -> Tensor:
    """A noisy walk: something to learn."""
    return torch.randint(1, 4, (20 + 8 * 2 * REPORT_INTERVAL,)).cumsum(0) % V


def test_training_is_the_books_loop() -> None:
    """In float64, all epochs' losses are those of the NumPy layer under Adam."""
    text = torch.randint(V, (100,))
    torch.manual_seed(5)
    model = CBOW(V, D, sampler(), K).double()
    params = [p.detach().numpy().copy() for p in model.parameters()]
    events: list[dict[str, Any]] = []
    options: dict[str, Any] = {"window": 2, "batch_size": 8, "epochs": 3, "lr": 0.01, "seed": 4}
    WordTrainer(model, text, listeners=[events.append], **options).fit()

    layer = reference.CBOW(*params)
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in layer.params]
    batches = ContextBatches(text, 2, 8, seed=4)
    losses, step = [], 0
    for epoch in range(3):
        for i in range(len(batches)):
            contexts, target = batches.next()
            drawn = sampler().negatives(target, K, seeded_generator(4, epoch, i))
            losses.append(layer.forward(contexts.numpy(), target.numpy(), drawn.numpy()))
            layer.backward()
            step += 1
            for p, g, (m, v) in zip(layer.params, layer.grads, moments, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-7)
    found = [event["loss"] for event in events if event["event"] == "epoch"]
    np.testing.assert_allclose(found, np.reshape(losses, (3, -1)).mean(1), rtol=1e-9)
    np.testing.assert_allclose(model.vectors, layer.params[0], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("cls", [CBOW, SkipGram])
def test_loss_falls(text: Tensor, cls: Any) -> None:
    events: list[dict[str, Any]] = []
    model = cls(V, D, sampler(), K)
    options: dict[str, Any] = {"window": 2, "batch_size": 8, "epochs": 2, "lr": 0.01}
    WordTrainer(model, text, listeners=[events.append], **options).fit()
    losses = [event["loss"] for event in events if event["event"] == "epoch"]
    assert losses[1] < losses[0]
    words = [event["words"] for event in events if event["event"] != "stop"]
    assert words == sorted(words)
    assert words[-1] == 2 * 8 * ((len(text) - 4) // 8)


class Killed(Exception):
    pass


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_resumed_training_is_bitwise_the_uninterrupted_one(
    text: Tensor, tmp_path: Path, how: str
) -> None:
    whole = make(text)
    assert whole.fit() == "finished"

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["epoch"] == 2:
            if how == "killed":
                raise Killed
            signal.raise_signal(signal.SIGINT)

    path = tmp_path / "last.safetensors"
    first = make(text, checkpoint=path, checkpoint_seconds=0, listeners=[stop])
    if how == "killed":
        with pytest.raises(Killed):
            first.fit()
    else:
        assert first.fit() == "interrupted"
    resumed = make(text, checkpoint=path)
    torch.nn.init.zeros_(resumed.model.embedding.weight)
    resumed.resume()
    at = REPORT_INTERVAL - (how == "killed")
    assert (resumed.epoch, resumed.batches.iteration) == (1, at)
    assert resumed.fit() == "finished"
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_checkpoint_of_another_text_is_refused(text: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    make(text, checkpoint=path).save()
    with pytest.raises(ValueError, match="the text is not the one that"):
        make(text.flip(0), checkpoint=path).resume()


def test_diverged_training_stops_and_replaces_no_checkpoint(text: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    trainer = make(text, checkpoint=path)
    trainer.save()
    before = path.read_bytes()
    torch.nn.init.constant_(trainer.model.output.weight, math.nan)
    with pytest.raises(FloatingPointError, match="training diverged in epoch 1 at lr 0.001"):
        trainer.fit()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"lr": 0}, "lr must be above 0, got 0"),
        ({"eps": -1}, "eps must be at least 0, got -1"),
    ],
)
def test_bad_settings_are_refused(text: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(text, **options)
