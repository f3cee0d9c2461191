"""`seqkern analyse`: its figures against counts and products by hand."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from command_line import error_line
from seqkern.cli import main
from seqkern.data import load_corpus
from seqkern.models import NgramModel

pytestmark = pytest.mark.backends("cpu", reason="about the program, not the kernels")


@pytest.fixture
def text(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Words with some order in them, of unequal frequency."""
    words = (rng.integers(1, 4, 3000).cumsum() % 17) * (rng.random(3000) < 0.7)
    path = tmp_path / "text.txt"
    path.write_text("\n".join(" ".join(f"w{w}" for w in row) for row in words.reshape(-1, 10)))
    return path


def table(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]


def test_zipf_counts(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "made" / "here"
    assert main(["analyse", "zipf", "--data", str(text), "--n", "2", "--out", str(out)]) == 0
    head, ones, pairs = table(capsys)
    corpus = load_corpus(text)
    tokens = corpus.vocabulary.decode(corpus.train.tolist())
    counts = Counter(pairwise(tokens))
    assert head == ["n", "distinct", "once", "most frequent"]
    assert pairs[:3] == ["2", str(len(counts)), str(sum(c == 1 for c in counts.values()))]
    assert ones[3].startswith(f"'w0' {tokens.count('w0')}, ")
    assert (out / "zipf.png").stat().st_size > 10_000


def test_ngram_perplexities(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyse", "ngram", "--data", str(text), "--length", "12", "--seed", "1"]) == 0
    printed = capsys.readouterr().out
    _, *rows = [line.split("\t") for line in printed.splitlines() if "\t" in line]
    corpus = load_corpus(text)
    prior = None
    for n, (told, k, valid, test, mixed_k, mixed_valid, mixed_test) in enumerate(rows, 1):
        plain = NgramModel(corpus.train, len(corpus.vocabulary), n, float(k))
        mixed = NgramModel(corpus.train, len(corpus.vocabulary), n, float(mixed_k), prior)
        for model, *figures in ((plain, valid, test), (mixed, mixed_valid, mixed_test)):
            own = (model.perplexity(corpus.valid), model.perplexity(corpus.test))
            assert figures == [f"{each:.2f}" for each in own]
        for model in (plain, mixed):
            chosen, best = model.k, model.perplexity(corpus.valid)
            for model.k in (chosen / 10, chosen * 10):
                assert model.perplexity(corpus.valid) >= best or model.k < 1e-6 or model.k > 1
            model.k = chosen
        assert told == str(n)
        prior = mixed
    assert len(rows) == 3
    assert float(rows[1][2]) < 0.8 * float(rows[0][2])  # there is order
    sample = [line for line in printed.splitlines() if "\t" not in line][1:]
    words = " ".join(sample).split()
    assert 9 <= len(words) <= 12  # the rest are ends of lines
    assert all(word in corpus.vocabulary for word in words)
    assert main(["analyse", "ngram", "--data", str(text), "--length", "12", "--seed", "1"]) == 0
    assert capsys.readouterr().out == printed


def test_gradients_explode_and_vanish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["analyse", "gradients", "--hidden-size", "8", "--out", str(tmp_path)]) == 0
    head, *rows = table(capsys)
    steps = [int(step) for step in head[1:]]
    weight = np.random.RandomState(3).randn(3, 3)  # the book's
    for row, factor in zip(rows, (1.0, 0.5), strict=False):
        powers = (np.linalg.matrix_power(factor * weight.T, step) for step in steps)
        expected = [np.linalg.norm(np.ones((2, 3)) @ power) / 2 for power in powers]
        assert row[1:] == [f"{norm:.3g}" for norm in expected]
        assert f"{np.linalg.svd(factor * weight)[1][0]:.2f}" in row[0]
    assert [row[0] for row in rows[2:]] == ["RNN, H 8", "LSTM, H 8", "GRU, H 8"]
    for row in rows[2:]:
        assert float(row[-1]) < 0.1 * float(row[1])
    assert (tmp_path / "gradients.png").stat().st_size > 10_000


def test_bad_arguments_are_told(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["ngram", "--data", str(text), "--n", "0"], "--n must be at least 1, got 0"),
        (["gradients", "--hidden-size", "0"], "--hidden-size must be at least 1, got 0"),
        (["zipf", "--data", "absent"], "no such text file or folder: absent"),
        (["zipf"], "--data"),
    ):
        assert message in error_line(capsys, ["analyse", *arguments])
