"""Word2Vec: its arguments, what it optimises and learns, checkpoints, and several processes."""

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import logsigmoid

from backend import on_cpu
from helpers import SLOW, generator
from seqkern.vectors import TrainingReport, Word2Vec, huffman, word2vec
from seqkern.vectors._distributed import Averaging, distributed
from seqkern.vectors._trainable import Totals, Trainable, keep_thresholds

SMALL = {"vector_size": 8, "window": 2, "min_count": 1, "sample": 0, "workers": 1}
TINY = [["a", "b", "a", "c"], ["b", "c"]] * 3
OBJECTIVES: dict[str, dict[str, Any]] = {
    "sg": {"sg": True},
    "sg shared": {"sg": True, "shared_negatives": True},
    "sg hs": {"sg": True, "hs": True},
    "sg n-grams": {"sg": True, "bucket": 50},
    "cbow": {},
    "cbow exact": {"cbow_update": "exact"},
    "cbow hs": {"hs": True},
    "cbow n-grams": {"bucket": 50},
}
every_objective = pytest.mark.parametrize("options", OBJECTIVES.values(), ids=list(OBJECTIVES))


def topics(sentences: int, seed: int = 0) -> list[list[str]]:
    """Draw sentences of eight words of one of two topics; rare and frequent words."""
    random = generator(seed)
    weights = 1 / torch.arange(1.0, 13)
    words = torch.multinomial(weights.expand(sentences, -1), 8, True, generator=random)
    topic = torch.randint(2, (sentences,), generator=random)
    return [
        [f"{'ab'[which]}{word}" for word in line]
        for which, line in zip(topic.tolist(), words.tolist(), strict=True)
    ]


def matrices(model: Word2Vec) -> tuple[Tensor, Tensor]:
    assert model.trainable is not None
    return model.trainable.input, model.trainable.output


def assert_same(first: Word2Vec, second: Word2Vec) -> None:
    """The same bits of matrices; sums of losses may differ in their order."""
    assert first.words == second.words
    assert torch.equal(first.counts, second.counts)
    for one, other in zip(matrices(first), matrices(second), strict=True):
        assert torch.equal(one, other)
    assert first.epoch_losses == pytest.approx(second.epoch_losses, rel=1e-12)


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("vector_size", "window", "min_count", "epochs", "workers")),
        *((name, -1) for name in ("negative", "bucket", "sample", "alpha", "min_alpha")),
        ("negative", 0),
        ("sample", float("nan")),
        ("seed", 2**63),
        ("seed", -(2**63) - 1),
        ("alpha", 0.0),
        ("alpha", float("nan")),
        ("min_alpha", float("inf")),
        ("cbow_update", "sum"),
    ],
)
def test_bad_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value!r}, expected|^{name} is 0 and hs"):
        Word2Vec(TINY, **{**SMALL, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("start_alpha", 0.0), ("end_alpha", -0.1), ("average_every", 0)],
)
def test_bad_settings_of_a_training_are_refused(name: str, value: Any) -> None:
    model = Word2Vec(TINY, **SMALL)
    before = [matrix.clone() for matrix in matrices(model)]
    with pytest.raises(ValueError, match=f"^{name} is {value!r}, expected"):
        model.train(TINY, **{name: value})
    assert all(torch.equal(a, b) for a, b in zip(before, matrices(model), strict=True))


class TestTexts:
    def test_a_text_without_words_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text(" \n\n")
        for source in ([], [[], []], tmp_path / "empty", torch.zeros(0, dtype=torch.int64)):
            with pytest.raises(ValueError, match="the text is empty: no word"):
                Word2Vec(source, **SMALL)

    def test_a_missing_file_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Word2Vec(corpus_file=tmp_path / "absent", **SMALL)

    def test_a_vocabulary_of_one_word_is_refused(self) -> None:
        with pytest.raises(ValueError, match="one word only, 'a'"):
            Word2Vec([["a"] * 9, ["b"]], min_count=2)

    def test_a_vocabulary_of_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no word occurs min_count = 50 times"):
            Word2Vec(TINY, min_count=50)

    def test_what_can_be_read_once_is_refused(self) -> None:
        with pytest.raises(TypeError, match="can be read only once"):
            Word2Vec((line for line in TINY), **SMALL)

    def test_an_object_that_starts_anew_is_read(self) -> None:
        class Again:
            def __iter__(self) -> Iterator[list[str]]:
                return iter(TINY)

        assert_same(Word2Vec(Again(), **SMALL), Word2Vec(TINY, **SMALL))

    def test_a_text_of_other_words_is_refused(self) -> None:
        model = Word2Vec(TINY, **SMALL)
        with pytest.raises(ValueError, match="the text has no word of the vocabulary"):
            model.train([["x", "y"]])

    def test_two_texts_and_none_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="sentences and corpus_file are both given"):
            Word2Vec(TINY, tmp_path / "text", **SMALL)
        model = Word2Vec(**SMALL)
        with pytest.raises(ValueError, match="neither sentences nor corpus_file is given"):
            model.build_vocab()
        model.build_vocab(TINY)
        with pytest.raises(ValueError, match="neither sentences nor corpus_file is given"):
            model.train()

    def test_a_model_without_vocabulary_says_so(self, tmp_path: Path) -> None:
        model = Word2Vec(**SMALL)
        for use in (
            lambda: model.train(TINY),
            lambda: model.wv,
            lambda: model.save(tmp_path / "m"),
        ):
            with pytest.raises(ValueError, match="there is no vocabulary"):
                use()

    def test_a_second_vocabulary_is_refused(self) -> None:
        model = Word2Vec(TINY, **SMALL)
        with pytest.raises(ValueError, match="update=True adds to it"):
            model.build_vocab(TINY)

    @on_cpu
    def test_all_kinds_of_texts_give_the_same_vectors(self, tmp_path: Path) -> None:
        random = generator(3)
        ids = [torch.randint(9, (int(n),), generator=random) for n in (5, 1, 40, 7) * 9]
        lines = [[str(word) for word in line.tolist()] for line in ids]
        (tmp_path / "text").write_text("".join(" ".join(line) + "\n" for line in lines))
        expected = Word2Vec(lines, **SMALL)
        assert len(expected.words) == 9
        assert_same(Word2Vec(ids, **SMALL), expected)
        assert_same(Word2Vec(tmp_path / "text", **SMALL), expected)
        assert_same(Word2Vec(str(tmp_path / "text"), **SMALL), expected)
        assert_same(Word2Vec(corpus_file=tmp_path / "text", **SMALL), expected)

    @on_cpu
    def test_a_matrix_of_ids_is_one_sentence_a_row(self) -> None:
        rows = torch.randint(9, (6, 11), generator=generator(1))
        assert_same(Word2Vec(rows, **SMALL), Word2Vec(list(rows), **SMALL))


# --- what is optimised ---------------------------------------------------------------------------


def hierarchical_loss(
    model: Word2Vec, text: list[list[int]], source: Tensor, target: Tensor
) -> tuple[Tensor, int]:
    """Sum of losses, and examples, of a model with hs, whole windows and all words."""
    o = model.objective
    assert model.trainable is not None
    tree = huffman(model.counts)
    loss, examples = torch.zeros((), dtype=source.dtype), 0
    for line in text:
        for i, word in enumerate(line):
            context = [line[j] for j in range(max(0, i - o.window), i)]
            context += line[i + 1 : i + 1 + o.window]
            path = slice(tree.offsets[word], tree.offsets[word + 1])
            rows, signs = target[tree.paths[path].long()], 1 - 2 * tree.codes[path].double()
            for bag in [[other] for other in context] if o.sg else [context] * bool(context):
                lists = [
                    model._rows(model.words[other]) if o.bucket else torch.tensor([other])
                    for other in bag
                ]
                parts = source[torch.cat(lists).long()]
                h = parts.mean(0) if o.cbow_mean else parts.sum(0)
                if o.cbow_mean and o.cbow_update == "word2vec":  # its value, the sum's gradient
                    h = h.detach() + parts.sum(0) - parts.sum(0).detach()
                loss = loss - logsigmoid(signs * (rows @ h)).sum()
                examples += 1
    return loss, examples


@pytest.mark.parametrize(
    ("sg", "update", "mean", "bucket"),
    [
        (True, "exact", True, 0),
        *itertools.product((False,), ("exact", "word2vec"), (True, False), (0, 30)),
        *itertools.product((True,), ("exact", "word2vec"), (True, False), (30,)),
    ],
)
def test_changes_and_loss_are_those_of_autograd(
    sg: bool, update: str, mean: bool, bucket: int
) -> None:
    """At a small learning rate; "word2vec" gives the rows of a mean n times their gradient."""
    names = ["one", "two", "three", "four", "five"]
    text = torch.randint(5, (4, 6), generator=generator(2)).tolist()
    sentences = [[names[word] for word in line] for line in text]
    model = Word2Vec(
        **SMALL, sg=sg, hs=True, cbow_update=update, cbow_mean=mean, bucket=bucket,
        shrink_windows=False,
    )  # fmt: skip
    model.build_vocab(sentences)
    ids = [[model.words.index(word) for word in line] for line in sentences]
    random, found = generator(3), matrices(model)
    for matrix in found:
        matrix[:, :8] = torch.randn(len(matrix), 8, generator=random) * 0.5
    before = [m[:, :8].double().clone().requires_grad_() for m in found]
    loss, examples = hierarchical_loss(model, ids, *before)
    gradients = torch.autograd.grad(loss, before)
    # With sums of many rows, the second order is large.
    rate = 1e-5 if bucket and not mean else 1e-4
    reports: list[TrainingReport] = []
    model.train(sentences, epochs=1, start_alpha=rate, end_alpha=rate, callback=reports.append)
    assert reports[-1].loss == pytest.approx(loss.item() / examples, rel=2e-3)
    for matrix, was, gradient in zip(found, before, gradients, strict=True):
        change = (matrix[:, :8].double() - was.detach()) / rate
        # What is left is of second order in the rate, and float32's rounding of the change.
        assert (change + gradient).norm() < 0.02 * gradient.norm()


@pytest.mark.parametrize("sg", [True, False])
def test_loss_of_negative_sampling_is_what_is_expected_of_its_noise(sg: bool) -> None:
    """At a rate of almost 0, over so many draws that a wrong distribution would show."""
    words, negative, exponent = 6, 4, 0.75
    weights = torch.tensor([16.0, 8, 4, 2, 1, 1])
    text = torch.multinomial(weights, 300 if SLOW else 3000, True, generator=generator(1))
    model = Word2Vec(
        **{**SMALL, "window": 1}, sg=sg, negative=negative, ns_exponent=exponent,
        shrink_windows=False, cbow_mean=False,
    )  # fmt: skip
    model.build_vocab(text)
    ids = torch.tensor([model.words.index(str(word)) for word in text.tolist()])
    source, target = matrices(model)
    random = generator(2)
    for matrix in (source, target):
        matrix[:, :8] = torch.randn(words, 8, generator=random)
    noise = model.counts.double() ** exponent
    noise /= noise.sum()
    left, right = torch.cat([source[ids[:1]] * 0, source[ids[:-1]]]), source[ids[1:]]
    right = torch.cat([right, right[:1] * 0])
    hidden, word = (
        (torch.cat([left[1:], right[:-1]]), torch.cat([ids[1:], ids[:-1]]))
        if sg
        else (left + right, ids)
    )
    dots = (hidden @ target.T).double()
    mine = torch.nn.functional.one_hot(word, words).bool()
    of_noise = (-logsigmoid(-dots) * noise).masked_fill(mine, 0).sum(1)
    expected = (negative * of_noise - logsigmoid(dots[mine])).mean().item()
    loss = model.train(text, epochs=1, start_alpha=1e-12, end_alpha=1e-12)
    assert loss == pytest.approx(expected, rel=0.06 if SLOW else 0.02)


@on_cpu
@pytest.mark.parametrize("sg", [False, True])
def test_windows_beyond_the_text_end_with_it(sg: bool) -> None:
    text = [[str(i % 7) for i in range(40)]]
    found = [
        Word2Vec(
            text, window=window, shrink_windows=False, min_count=1, sg=sg, negative=2, workers=1
        ).wv.vectors
        for window in (40, 2**25)
    ]
    assert torch.equal(*found)


@on_cpu
def test_frequent_words_are_thinned_out() -> None:
    counts = torch.tensor([60000, 30000, 900, 90])
    for sample, threshold in ((1e-3, 1e-3 * counts.sum().item()), (100, int(100 * 2.618033989))):
        share = threshold / counts.double()
        expected = (share.sqrt() + share).clamp(max=1)
        found = ((keep_thresholds(counts, sample).long() & 0xFFFFFFFF) + 1) / 2**32
        torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=1e-9)
        assert expected[0] < 0.2


@on_cpu
def test_as_many_words_stay_as_expected() -> None:
    text = torch.multinomial(1 / torch.arange(1.0, 200), 30000, True, generator=generator(1))
    model = Word2Vec(**{**SMALL, "sample": 1e-3})
    model.build_vocab(text)
    model.train(text, epochs=1)
    kept = ((keep_thresholds(model.counts, 1e-3).long() & 0xFFFFFFFF) + 1) / 2**32
    expected = (kept * model.counts).sum().item()
    deviation = (kept * (1 - kept) * model.counts).sum().sqrt().item()
    assert model._progress is not None
    assert abs(model._progress.losses[0][2] - expected) < 4 * deviation


# --- what is learned -----------------------------------------------------------------------------


@on_cpu
@every_objective
def test_loss_falls_and_topics_part(options: dict[str, Any]) -> None:
    model = Word2Vec(topics(800), **{**SMALL, "vector_size": 16, "epochs": 8}, alpha=0.1, **options)
    losses = model.epoch_losses
    assert len(losses) == 8
    assert losses[-1] < 0.97 * losses[0]
    wv = model.wv
    unit = wv.get_normed_vectors()
    topic = torch.tensor([word[0] == "a" for word in wv.words])
    cosines = unit @ unit.T
    same = topic[:, None] == topic
    assert (
        cosines[same & ~torch.eye(len(topic), dtype=torch.bool)].mean()
        > 0.2 + cosines[~same].mean()
    )


@on_cpu
def test_reports_tell_where_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word2vec, "_SECONDS", 0.0)  # slices of the least size
    text = torch.randint(50, (20, 5000), generator=generator(1))
    reports: list[TrainingReport] = []
    model = Word2Vec(text, **SMALL, epochs=2, sg=True, callback=reports.append)
    assert [report.epoch for report in reports] == [0, 0, 1, 1]
    words = [report.words for report in reports]
    assert words == sorted(words)
    assert words[-1] == reports[-1].total_words == 200000
    assert words[1] == 100000
    rates = [report.learning_rate for report in reports]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(model.min_alpha)
    assert rates[1] == pytest.approx((model.alpha + model.min_alpha) / 2)
    assert all(report.words_per_second > 0 for report in reports)
    assert min(report.loss for report in reports) > 0


@on_cpu
@pytest.mark.parametrize("bucket", [0, 20])
def test_vectors_looked_at_in_between_are_up_to_date_afterwards(bucket: int) -> None:
    model = Word2Vec(**SMALL, bucket=bucket, epochs=3, alpha=0.5)
    model.build_vocab(TINY)
    early = model.wv
    _ = early.norms
    model.train(TINY, callback=lambda _: model.wv.norms)
    assert model.trainable is not None
    expected = model.trainable.vectors(3)
    assert torch.equal(model.wv.vectors, expected)
    torch.testing.assert_close(model.wv.norms, expected.norm(dim=1))
    if not bucket:  # these share memory
        torch.testing.assert_close(early.norms, expected.norm(dim=1))


# --- reproducibility -----------------------------------------------------------------------------

SCRIPT = """
import sys, zlib, torch
from seqkern.vectors import Word2Vec
text = torch.randint(30, (40, 50), generator=torch.Generator().manual_seed(1))
text = [[f"word{i}" for i in line] for line in text.tolist()]
for sg in (True, False):
    for more in ({}, {"bucket": 99}, {"hs": True}):
        model = Word2Vec(text, vector_size=20, min_count=1, workers=1, epochs=2, sg=sg, **more)
        print(zlib.crc32(model.trainable.input.numpy()), zlib.crc32(model.trainable.output.numpy()))
"""


@on_cpu
def test_one_worker_gives_the_same_bits_in_every_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONHASHSEED": "5"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    exec(SCRIPT, {})
    here = capsys.readouterr().out
    assert len(set(here.split())) == 12
    assert result.stdout == here


@on_cpu
@every_objective
def test_seeds_differ_and_workers_do_not_when_deterministic(options: dict[str, Any]) -> None:
    text = topics(100)
    model = Word2Vec(text, **SMALL, **options)
    assert_same(Word2Vec(text, **SMALL, **options), model)
    other = Word2Vec(text, **SMALL, **options, seed=2)
    assert not torch.isclose(other.wv.vectors, model.wv.vectors).any(1).all()
    of_workers = [
        Word2Vec(text, **{**SMALL, "workers": workers}, **options, deterministic=True)
        for workers in (1, 3)
    ]
    assert_same(*of_workers)


# --- interruptions and files ---------------------------------------------------------------------


def interrupt_at(report: int) -> Callable[[TrainingReport], None]:
    """Make a callback that raises at a report, counted from 1."""
    seen = 0

    def callback(_: TrainingReport) -> None:
        nonlocal seen
        seen += 1
        if seen == report:
            raise KeyboardInterrupt

    return callback


LONG_TEXT = torch.randint(300, (14, 5000), generator=generator(7))  # two slices an epoch


def untrained(options: dict[str, Any]) -> Word2Vec:
    small = {**SMALL, "vector_size": 4, "window": 1, "negative": 1, "epochs": 2}
    model = Word2Vec(**{**small, "sample": 0.01, **options})
    model.build_vocab(LONG_TEXT)
    return model


@on_cpu
@pytest.mark.parametrize("options", [*OBJECTIVES.values(), {"deterministic": True}], ids=str)
def test_an_interrupted_training_resumes_with_the_same_bits(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word2vec, "_SECONDS", 0.0)
    whole = untrained(options)
    whole.train(LONG_TEXT)
    for report in (1, 2, 3):  # within an epoch, at its end, and within the last
        part, path = untrained(options), tmp_path / f"{report}"
        with pytest.raises(KeyboardInterrupt):
            part.train(LONG_TEXT, checkpoint=path, callback=interrupt_at(report))
        assert len(part.epoch_losses) == (report + 1) // 2
        loaded = Word2Vec.load(path)
        assert_same(loaded, part)
        for model in (loaded, part):
            last = model.train(LONG_TEXT, resume=True)
            assert_same(model, whole)
            assert last == model.epoch_losses[-1]


@on_cpu
def test_ctrl_c_within_the_kernel_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word2vec, "_SECONDS", 0.0)
    whole = untrained({})
    whole.train(LONG_TEXT)
    train, calls = Trainable.train, 0

    def interrupted(self: Trainable, *arguments: Any, **options: Any) -> Totals:
        nonlocal calls
        totals = train(self, *arguments, **options)
        calls += 1
        if calls == 1:  # Python looks at signals again when the kernel has ended
            signal.raise_signal(signal.SIGINT)
        return totals

    monkeypatch.setattr(Trainable, "train", interrupted)
    handler, part = signal.getsignal(signal.SIGINT), untrained({})
    with pytest.raises(KeyboardInterrupt):
        part.train(LONG_TEXT, checkpoint=tmp_path / "model")
    assert calls == 1
    assert signal.getsignal(signal.SIGINT) is handler
    loaded = Word2Vec.load(tmp_path / "model")
    loaded.train(LONG_TEXT, resume=True)
    assert_same(loaded, whole)


@on_cpu
def test_other_threads_train() -> None:
    models: list[Word2Vec] = []
    thread = threading.Thread(target=lambda: models.append(Word2Vec(TINY, **SMALL)))
    thread.start()
    thread.join()
    assert_same(*models, Word2Vec(TINY, **SMALL))


def test_resuming_needs_an_interrupted_training_and_its_text() -> None:
    model = Word2Vec(TINY, **SMALL)
    with pytest.raises(ValueError, match="no training was interrupted"):
        model.train(TINY, resume=True)
    with pytest.raises(KeyboardInterrupt):
        model.train(TINY, callback=interrupt_at(1))
    with pytest.raises(ValueError, match="the text has 6 words and sentence ends, expected the on"):
        model.train([["a", "b"]] * 2, resume=True)
    model.build_vocab([["d", "d"]], update=True)
    with pytest.raises(ValueError, match="no training was interrupted"):
        model.train(TINY, resume=True)


@on_cpu
@every_objective
def test_a_file_gives_back_the_model(options: dict[str, Any], tmp_path: Path) -> None:
    words = ["", "a\nb", "a b", "\ud800", "naïve", "\x00", "日本", "\U0001f600"]
    settings = {
        **{**SMALL, "vector_size": 5, "window": 3, "sample": 0.5},
        **{"alpha": 0.03, "min_alpha": 0.02, "epochs": 4, "seed": -7, "ns_exponent": 0.5},
        **{"cbow_mean": False, "shrink_windows": False, "max_final_vocab": 100},
        **options,
    }
    if "bucket" in options:
        words.remove("\ud800")  # has no UTF-8, and so no n-grams
    model = Word2Vec([words * 2, words[::-1]], **settings)
    model.save(tmp_path / "model")
    loaded = Word2Vec.load(tmp_path / "model")
    assert_same(loaded, model)
    assert loaded.objective == model.objective
    for name in ("alpha", "min_alpha", "epochs", "min_count", "workers", "max_final_vocab"):
        assert getattr(loaded, name) == getattr(model, name)
    for each in (model, loaded):
        each.train([words])
    assert_same(loaded, model)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "model", Word2Vec(TINY, **SMALL)
    model.save(path)
    content = path.read_bytes()
    for size in (0, 5, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="truncated or corrupt"):
            Word2Vec.load(path)
    for at in (-1, -200, -1000):
        damaged = bytearray(content)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="corrupt"):
            Word2Vec.load(path)
    for name in (b"objective", b"vector_size", b"deterministic"):
        path.write_bytes(content.replace(name, name[::-1]))
        with pytest.raises(ValueError, match="corrupt"):
            Word2Vec.load(path)
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        Word2Vec.load(tmp_path / "absent")


def test_files_of_other_things_are_refused(tmp_path: Path) -> None:
    save_file({"input": torch.ones(2)}, tmp_path / "tensors")
    Word2Vec(TINY, **SMALL).wv.save(tmp_path / "vectors")
    for name in ("tensors", "vectors"):
        with pytest.raises(ValueError, match="no checkpoint of seqkern"):
            Word2Vec.load(tmp_path / name)


# --- more words ----------------------------------------------------------------------------------


@on_cpu
@every_objective
def test_an_update_keeps_vectors_and_adds_words(options: dict[str, Any]) -> None:
    model = Word2Vec(topics(60), **{**SMALL, "min_count": 2}, **options)
    bucket, known = model.objective.bucket, len(model.words)
    words, counts = list(model.words), model.counts.clone()
    source, target = (matrix.clone() for matrix in matrices(model))
    new = [["new", words[3], "new", "newer", "newer", "newer", "rare"]]
    model.build_vocab(new, update=True)
    assert model.words == [*words, "newer", "new"]
    assert model.counts[known:].tolist() == [3, 2]
    assert model.counts[3] == counts[3] + 1
    now_source, now_target = matrices(model)
    assert torch.equal(now_source[:known], source[:known])
    assert torch.equal(now_source[known + 2 :], source[known : known + bucket])
    assert now_source[known : known + 2, :8].abs().min() > 0
    if model.objective.hs:
        assert not now_target.any()
    else:
        assert torch.equal(now_target[:known], target)
        assert not now_target[known:].any()
    assert list(model.wv) == model.words
    model.train(new * 20)
    assert len(model.epoch_losses) == 5
    if not bucket:
        untouched = [i for i, word in enumerate(words) if word != words[3]]
        assert torch.equal(model.wv.vectors[untouched], source[untouched, :8])
    assert not torch.equal(model.wv["new"], now_source.new_zeros(8))


def test_vectors_of_unknown_words_are_of_their_ngrams() -> None:
    model = Word2Vec(
        [["running", "walking"], ["walked", "jumped"]] * 9, **SMALL, bucket=500, min_n=3, max_n=4
    )
    known = model.subword_vectors(model.words)
    assert torch.equal(known, model.wv.vectors)
    # Of <jumping>: two n-grams each of <jumped> and <walking>, at the least.
    found = model.subword_vectors(["jumping", "walking"])
    assert found.shape == (2, 8)
    rows = model._rows("jumping").long()
    assert len(rows) == 13
    torch.testing.assert_close(found[0], matrices(model)[0][rows, :8].mean(0))
    assert set(rows.tolist()) & set(model._rows("jumped").tolist())
    assert not model.subword_vectors([""]).any()  # <> has no n-grams of three letters
    assert model.subword_vectors([]).shape == (0, 8)
    with pytest.raises(ValueError, match="the model has no n-grams, expected bucket > 0"):
        Word2Vec(TINY, **SMALL).subword_vectors(["a"])


# --- several processes ---------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_a_text_and_average_equally_often(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduced: list[Tensor] = []
    monkeypatch.setattr(distributed, "all_reduce", reduced.append)
    for length in (*range(1, 40), 2047, 2048, 2049, 5000):
        for every in (0.3, 1, 10, 14, 700, 1e9):
            places, averagings = [], []
            for rank in range(processes):
                averaging = Averaging(length, every, rank, processes)
                reduced.clear()
                place, matrix = 0, torch.ones(1)
                while True:
                    begin, end = averaging.slice(place, 2048)
                    places += range(begin, end)
                    place += end - begin
                    averaging.after(place, [matrix], Totals(1.0, 1.0, 1.0))
                    if place >= averaging.length:
                        break
                assert averaging.passed(place) == length
                averagings.append(len(reduced))
            assert places == list(range(length))
            assert len(set(averagings)) == 1
            assert (averagings[0] > 0) == (processes > 1)


WORKER = Path(__file__).with_name("word2vec_worker.py")
parallel = [
    pytest.mark.backends("cpu", reason="its processes run the CPU kernels"),
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="this torch is built without gloo",
    ),
]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each of two processes finds."""
    folder = tmp_path_factory.mktemp("processes")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*launch, str(WORKER), str(folder)], capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


class TestTwoProcesses:
    pytestmark = parallel

    def test_have_the_same_matrices_and_losses(self, processes: list[dict[Any, Any]]) -> None:
        lengths = [length for length in processes[0] if isinstance(length, int)]
        assert len(lengths) == 10
        for length in lengths:
            first, second = (of[length] for of in processes)
            for one, other in zip(first["matrices"], second["matrices"], strict=True):
                assert torch.equal(one, other)
            assert first["averaged"] == second["averaged"]
            # Two matrices, two epochs, and rounds of 50 places a process.
            rounds = max(1, math.ceil(math.ceil((length + 1) / 2) / 50))
            assert first["averaged"] == pytest.approx(4 * rounds, abs=4)
            assert first["losses"] == second["losses"]
            assert first["loss"] == first["losses"][-1]
            assert (first["loss"] > 0) == (length > 1)
            for of in (first, second):
                assert of["words"][-1] == of["total_words"] == 2 * length
                assert of["rates"][-1] == pytest.approx(1e-4)  # each ends at the last rate
                half = of["rates"][len(of["rates"]) // 2 - 1]
                assert half == pytest.approx((0.025 + 1e-4) / 2)

    def test_resume_from_the_checkpoint_of_the_first(self, processes: list[dict[Any, Any]]) -> None:
        first, second = (of["interrupted"] for of in processes)
        assert (first["saved"], second["saved"]) == (True, False)
        for of in (first, second):
            for one, other in zip(of["whole"], of["resumed"], strict=True):
                assert torch.equal(one, other)
            whole, resumed = of["losses"]
            assert resumed == pytest.approx(whole, rel=1e-12)
            assert of["loss"] == resumed[-1]

    def test_learn(self, processes: list[dict[Any, Any]]) -> None:
        losses = processes[0]["epochs"]
        assert len(losses) == 12
        assert losses[-1] < 0.9 * losses[0]


# --- gensim --------------------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_the_vectors(binary: bool, tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim.models")
    wv = Word2Vec(topics(300), **SMALL, alpha=0.2, epochs=10).wv
    wv.save_word2vec_format(tmp_path / "vectors", binary=binary)
    theirs = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / "vectors"), binary=binary)
    assert theirs.index_to_key == wv.index_to_key
    for word in wv:
        ours = wv.most_similar(word, topn=5)
        found = theirs.most_similar(word, topn=5)
        assert [name for name, _ in ours] == [name for name, _ in found]
        assert [s for _, s in ours] == pytest.approx([s for _, s in found], abs=1e-5)
