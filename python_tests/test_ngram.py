"""The n-gram model against counting by hand, and Zipf's ranks and frequencies."""

import math
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from seqkern.analysis import plot_zipf, zipf
from seqkern.data import load_corpus
from seqkern.models import NgramModel

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

DATA = Path(os.environ.get("SEQKERN_DATA", Path(__file__).parents[2] / "shared" / "data"))
V = 5


def text(rng: np.random.Generator, length: int = 200) -> list[int]:
    return rng.integers(0, V - 1, length).tolist()


def brute_force(tokens: list[int], gram: list[int], k: float) -> float:
    """(count(gram) + k) / (count of the tokens after the context + k V), by a walk of the text."""
    n = len(gram)
    found = [tokens[i : i + n] for i in range(len(tokens) - n + 1)]
    context = sum(other[:-1] == gram[:-1] for other in found)
    return (found.count(gram) + k) / (context + k * V)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1.0, 0.01])
def test_probabilities_are_smoothed_counts(rng: np.random.Generator, n: int, k: float) -> None:
    train, other = text(rng), rng.integers(0, V, 50).tolist()
    model = NgramModel(torch.tensor(train), V, n, k)
    expected = [brute_force(train, other[i : i + n], k) for i in range(len(other) - n + 1)]
    found = model.log_probabilities(torch.tensor(other))
    np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-12)
    assert model.perplexity(torch.tensor(other)) == pytest.approx(
        math.exp(-sum(math.log(p) for p in expected) / len(expected)), rel=1e-12
    )
    context = other[: n - 1]
    after = [brute_force(train, [*context, w], k) for w in range(V)]
    np.testing.assert_allclose(model.probabilities(other[: n - 1]).numpy(), after, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_probabilities_sum_to_one_after_known_and_unknown_contexts(
    rng: np.random.Generator, n: int
) -> None:
    train = torch.tensor(text(rng))
    model = None
    for order in range(1, n + 1):
        model = NgramModel(train, V, order, 0.3, prior=model)
    assert model is not None
    for plain in (model, NgramModel(train, V, n, 0.3)):
        for context in ([0, 1], [int(train[-2]), int(train[-1])], [V - 1, V - 1]):
            assert plain.probabilities(context).sum().item() == pytest.approx(1, abs=1e-12)


def test_a_prior_spreads_what_is_added(rng: np.random.Generator) -> None:
    train = text(rng)
    unigram = NgramModel(torch.tensor(train), V, 1, k=0.5)
    model = NgramModel(torch.tensor(train), V, 3, k=0.2, prior=unigram)
    context = train[10:12]
    follows = [train[i + 2] for i in range(len(train) - 2) if train[i : i + 2] == context]
    lower = [(train.count(w) + 0.5) / (len(train) + 0.5 * V) for w in range(V)]
    expected = [
        (follows.count(w) + V * 0.2 * lower[w]) / (len(follows) + V * 0.2) for w in range(V)
    ]
    np.testing.assert_allclose(model.probabilities(context).numpy(), expected, rtol=1e-12)
    unseen = model.probabilities([V - 1, V - 1])
    np.testing.assert_allclose(unseen.numpy(), lower, rtol=1e-12)


def test_k_can_be_set_anew(rng: np.random.Generator) -> None:
    train = torch.tensor(text(rng))
    model = NgramModel(train, V, 2, k=1.0)
    model.k = 0.1
    assert model.perplexity(train) == NgramModel(train, V, 2, k=0.1).perplexity(train)


def test_long_ngrams_of_a_large_vocabulary_are_told_apart() -> None:
    """V^n is far beyond 64 bits."""
    size = 1_000_000
    train = torch.tensor([7, size - 1, 3, 5, 9, 11, 7, size - 1, 3, 5, 9, 12])
    model = NgramModel(train, size, n=6, k=1e-9)
    assert model.probabilities([7, size - 1, 3, 5, 9])[[11, 12]].tolist() == pytest.approx(
        [0.5, 0.5], rel=2e-3
    )


def test_samples_follow_the_probabilities_and_repeat(rng: np.random.Generator) -> None:
    model = NgramModel(torch.tensor([0, 1, 2, 0, 1, 3] * 50), 4, n=2, k=1e-12)
    seeded = torch.Generator().manual_seed(1)
    ids = model.sample([0], 600, seeded)
    assert ids == model.sample([0], 600, torch.Generator().manual_seed(1))
    after = Counter(b for a, b in pairwise(ids) if a == 1)
    assert set(after) == {2, 3}
    assert abs(after[2] - after[3]) < 6 * sum(after.values()) ** 0.5
    assert {b for a, b in pairwise([0, *ids]) if a in (0, 2, 3)} <= {0, 1}


def test_text_as_long_as_one_ngram() -> None:
    tokens = torch.tensor([1, 2, 0])
    model = NgramModel(tokens, 3, n=3, k=1.0)
    assert model.counts.tolist() == [1]
    assert model.log_probabilities(tokens).exp().tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_zipf_counts(rng: np.random.Generator, n: int) -> None:
    tokens = text(rng)
    counts = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    ranks, frequencies = zipf(torch.tensor(tokens), n)
    assert frequencies.tolist() == sorted(counts.values(), reverse=True)
    assert ranks.tolist() == list(range(1, len(counts) + 1))


def test_zipf_plot_is_a_png(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("matplotlib")
    plot_zipf(torch.tensor(text(rng)), tmp_path / "zipf.png")
    assert (tmp_path / "zipf.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"path must end in .png, got 'zipf.svg'"):
        plot_zipf(torch.tensor(text(rng)), tmp_path / "zipf.svg")


def test_bad_arguments_are_refused() -> None:
    tokens = torch.tensor([0, 1, 2, 1])
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        NgramModel(tokens, 3, n=0)
    with pytest.raises(ValueError, match="vocab_size must be at least 1, got 0"):
        NgramModel(tokens, 0)
    with pytest.raises(ValueError, match=r"k must be positive and finite, got 0.0"):
        NgramModel(tokens, 3, k=0.0)
    with pytest.raises(ValueError, match=r"tokens must be int64 of shape \(length,\)"):
        NgramModel(tokens[:, None], 3)
    with pytest.raises(ValueError, match="text too short: 4 tokens, but n is 5"):
        NgramModel(tokens, 3, n=5)
    with pytest.raises(IndexError, match="token 2 is outside a vocabulary of 2"):
        NgramModel(tokens, 2)
    with pytest.raises(ValueError, match="prior must have n up to 1 and vocab_size 3, got 2 and 3"):
        NgramModel(tokens, 3, n=1, prior=NgramModel(tokens, 3, n=2))
    model = NgramModel(tokens, 3, n=3)
    with pytest.raises(ValueError, match="context must hold at least 2 tokens, got 1"):
        model.probabilities([1])
    with pytest.raises(IndexError, match="token 3 is outside"):
        model.probabilities([0, 3])
    with pytest.raises(ValueError, match="length must be at least 0, got -1"):
        model.sample([0, 1], -1)


def test_penn_treebank_perplexities() -> None:
    """Bigrams beat unigrams; add-k wastes trigrams, which win with bigrams for their prior."""
    if not (DATA / "ptb").is_dir():
        pytest.skip(f"needs {DATA / 'ptb'}")
    corpus = load_corpus(DATA / "ptb")
    size = len(corpus.vocabulary)
    unigram = NgramModel(corpus.train, size, 1, k=3.0)
    assert unigram.perplexity(corpus.test) == pytest.approx(641.86, abs=0.01)
    for n, k, expected in ((2, 0.01, 274.27), (3, 0.003, 1036.66)):
        model = NgramModel(corpus.train, size, n, k)
        assert model.perplexity(corpus.test) == pytest.approx(expected, abs=0.01)
    bigram = NgramModel(corpus.train, size, 2, k=0.01, prior=unigram)
    trigram = NgramModel(corpus.train, size, 3, k=0.03, prior=bigram)
    assert trigram.perplexity(corpus.test) == pytest.approx(197.70, abs=0.01)
