"""CBOW and skip-gram of the zoo: losses and gradients of the reference layers; the loop."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import reference
from helpers import threads
from seqkern.data import Corpus, Vocabulary
from seqkern.data.contexts import seeded_generator
from seqkern.models import CBOW, SimpleCBOW, SimpleSkipGram, SkipGram
from seqkern.models.cbow import WORD_MODELS
from seqkern.nn import UnigramSampler
from seqkern.tasks.cbow import ContextBatches, WordConfig, WordTask
from seqkern.training import Trainer

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


def make_batches(tokens: Tensor, *part: int, **options: Any) -> ContextBatches:
    config = WordConfig(**{"window": 2, "batch_size": 8, "negative": K, "seed": 4, **options})
    return ContextBatches(tokens, config, sampler(), *part)


def test_batches_have_every_word_with_a_whole_context_once() -> None:
    tokens = torch.randint(V, (50,))
    batches = make_batches(tokens, window=3, batch_size=11)
    assert len(batches) == 4
    orders = []
    for _ in range(2):
        found = [batches.next() for _ in range(len(batches))]
        rows = torch.cat([torch.cat([c[:, :3], t[:, None], c[:, 3:]], 1) for c, t, _ in found])
        windows = tokens.unfold(0, 7, 1)
        assert sorted(rows.tolist()) == sorted(windows.tolist())
        orders.append(rows)
    assert not torch.equal(*orders)
    again = make_batches(tokens, window=3, batch_size=11)
    again.position = 6
    found[2] = again.next()
    torch.testing.assert_close(found[2][1], orders[1][22:33, 3])


@pytest.mark.parametrize("model", ["cbow", "skip-gram"])
def test_processes_share_a_batch_and_draw_for_themselves(model: str) -> None:
    tokens = torch.randint(V, (50,))
    whole = make_batches(tokens, model=model).next()
    parts = [make_batches(tokens, rank, 2, model=model).next() for rank in range(2)]
    for i in range(2):
        assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])
    positives = whole[1] if model == "cbow" else whole[0]
    assert whole[2].shape == (*positives.shape, K)
    assert not (whole[2] == positives[..., None]).any()
    assert not torch.equal(parts[0][2], parts[1][2])


def test_text_too_short_for_a_batch_is_refused() -> None:
    with pytest.raises(
        ValueError, match="text too short: 13 tokens, .* batch_size 10 and window 2"
    ):
        make_batches(torch.zeros(13).long(), batch_size=10)


# The loop


def make(text: Tensor, **options: Any) -> WordTask:
    config = {"window": 2, "batch_size": 8, "epochs": 3, "negative": K, "hidden_size": D}
    words = Vocabulary([str(i) for i in range(V)])
    corpus = Corpus(words, "word", text, text[:100], text[:100])
    return WordTask(WordConfig(**{**config, "lr": 0.01, "seed": 4, **options}), corpus)


@pytest.fixture
def text() -> Tensor:
    """A noisy walk: something to learn."""
    return torch.randint(1, 4, (1000,)).cumsum(0) % V


def test_training_is_the_books_loop() -> None:
    """In float64, all epochs' losses are those of the NumPy layer under Adam."""
    text = torch.cat([torch.arange(V), torch.randint(V, (100,))])
    task = make(text)
    model = cast(CBOW, task.build_model(task.config).double())
    params = [p.detach().numpy().copy() for p in model.parameters()]
    events: list[dict[str, Any]] = []
    Trainer(model, task, listeners=[events.append]).fit()

    layer = reference.CBOW(*params)
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in layer.params]
    batches = make_batches(text)
    losses, step = [], 0
    for epoch in range(3):
        for i in range(len(batches)):
            contexts, target, _ = batches.next()
            counted = UnigramSampler(text.bincount())
            drawn = counted.negatives(target, K, seeded_generator(4, epoch, i))
            losses.append(layer.forward(contexts.numpy(), target.numpy(), drawn.numpy()))
            layer.backward()
            step += 1
            for p, g, (m, v) in zip(layer.params, layer.grads, moments, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-7)
    found = [event["train"]["loss"] for event in events if event["event"] == "epoch"]
    np.testing.assert_allclose(found, np.reshape(losses, (3, -1)).mean(1), rtol=1e-9)
    np.testing.assert_allclose(model.vectors, layer.params[0], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", WORD_MODELS)
def test_loss_falls_and_is_that_of_the_split(text: Tensor, name: str) -> None:
    task = make(text, model=name, epochs=2, monitor="valid")
    events: list[dict[str, Any]] = []
    model = task.build_model(task.config)
    before = task.evaluate(model, "test")["loss"]
    Trainer(model, task, listeners=[events.append]).fit()
    losses = [event["train"]["loss"] for event in events if event["event"] == "epoch"]
    assert losses[1] < losses[0]
    assert model.training
    assert task.evaluate(model, "test")["loss"] < before


def test_settings_of_another_vocabulary_or_backend_are_refused(text: Tensor) -> None:
    with pytest.raises(ValueError, match="vocabulary mismatch: 11 words .*, 12 in the model's"):
        make(text, vocab_size=12)
    with pytest.raises(ValueError, match="backend must be seqkern for word vectors, got 'torch'"):
        make(text, backend="torch")
