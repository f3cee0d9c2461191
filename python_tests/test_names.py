"""Names: their data, the classifier (many to one) and the generator (one to many)."""

import copy
import importlib
import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from seqkern.data import NameData, Names, Vocabulary, load_names
from seqkern.data.padded import encode_padded, split_indices
from seqkern.models import NameClassifier, NameGenerator
from seqkern.models.sampling import draw

CPU = pytest.mark.backends("cpu", reason="touches no kernels, or many times those of a neighbour")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes; "kim" is of two, "lee" is written twice."""
    letters = "abcdefgh"
    names = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    for label, chosen in (("x", names[:40]), ("y", names[40:60]), ("z", names[60:])):
        (tmp_path / f"{label}.txt").write_text("\n".join([*chosen, "kim"] * (label != "x")) + "\n")
    (tmp_path / "x.txt").write_text("# a comment\n\n  lee \nlee\n" + "\n".join(names[:40]))
    (tmp_path / "README").write_text("no names")
    return tmp_path


def parts(data: NameData) -> list[Names]:
    return [data.train, data.valid, data.test]


# Data


@CPU
def test_folder_has_a_class_a_file_and_each_name_once_a_class(folder: Path) -> None:
    data = load_names(folder)
    assert data.classes == ("x", "y", "z")
    pairs = [
        (text, data.classes[label])
        for part in parts(data)
        for text, label in zip(part.texts, part.labels.tolist(), strict=True)
    ]
    assert len(pairs) == len(set(pairs)) == 64 + 1 + 2
    assert {label for text, label in pairs if text == "kim"} == {"y", "z"}
    assert ("lee", "x") in pairs


@CPU
@pytest.mark.parametrize("seed", range(4))
def test_no_name_is_in_two_parts_and_the_seed_decides(folder: Path, seed: int) -> None:
    first = [set(part.texts) for part in parts(load_names(folder, seed=seed))]
    assert not first[0] & first[1] and not first[0] & first[2] and not first[1] & first[2]
    assert first == [set(part.texts) for part in parts(load_names(folder, seed=seed))]
    assert first != [set(part.texts) for part in parts(load_names(folder, seed=seed + 1))]


@CPU
def test_accuracy_bound_counts_names_of_two_classes_once() -> None:
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    names = Names(("kim", "kim", "lee"), tokens, torch.ones(3), torch.tensor([0, 1, 0]))
    assert names.accuracy_bound == pytest.approx(2 / 3)


@CPU
def test_split_is_stratified_and_fair_to_small_strata() -> None:
    strata = ["a"] * 500 + ["b"] * 300 + [f"single {i}" for i in range(100)]
    counts = torch.zeros(3)
    for seed in range(20):
        split = split_indices(strata, 0.1, 0.2, seed)
        assert sorted(i for part in split.values() for i in part.tolist()) == list(range(900))
        for part, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
            in_a, in_b, _ = np.histogram(split[part], [0, 500, 800, 900])[0]
            assert abs(in_a - 500 * share) <= 2
            assert abs(in_b - 300 * share) <= 2
        counts += torch.tensor([(part >= 800).sum() for part in split.values()])
    torch.testing.assert_close(counts / 2000, torch.tensor([0.7, 0.1, 0.2]), atol=0.02, rtol=0)


@CPU
def test_tokens_are_the_names_characters_padded(folder: Path) -> None:
    data = load_names(folder)
    for part in parts(data):
        for i, text in enumerate(part.texts):
            ids = part.tokens[: part.lengths[i], i].tolist()
            known = [c if c in data.vocabulary else "<unk>" for c in text]
            assert data.vocabulary.decode(ids) == known
            assert not part.tokens[part.lengths[i] :, i].any()


@CPU
def test_taken_names_have_no_empty_step(folder: Path) -> None:
    part = load_names(folder).train
    for index in torch.randperm(len(part)).split(7):
        tokens, lengths, labels = part.take(index)
        assert len(tokens) == lengths.max()
        assert torch.equal(tokens, part.tokens[: len(tokens), index])
        assert torch.equal(lengths, part.lengths[index])
        assert torch.equal(labels, part.labels[index])


@CPU
def test_frequent_characters_are_kept_and_others_mapped_or_dropped(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\n".join([*(f"ab{'b' * i}" for i in range(20)), *"qrstuvwxyz", "abq"]))
    mapped = load_names(file, max_characters=2)
    assert set(mapped.vocabulary.tokens) == {"a", "b", "<unk>"} and not mapped.classes
    unknown = int(mapped.vocabulary.encode(["<unk>"]))
    counted = 0
    for part in parts(mapped):
        for text, ids, n in zip(part.texts, part.tokens.T, part.lengths, strict=True):
            assert n == len(text)
            assert (ids[:n] == unknown).sum() == sum(c not in "ab" for c in text)
            counted += 1
    assert counted == 31
    dropped = load_names(file, max_characters=2, unknown="drop")
    assert set(dropped.vocabulary.tokens) == {"a", "b"}
    texts = [text for part in parts(dropped) for text in part.texts]
    assert len(texts) == 21, "the ten names of which nothing is left are left out"
    for part in parts(dropped):
        for text, n in zip(part.texts, part.lengths, strict=True):
            assert n == sum(c in "ab" for c in text)


@CPU
def test_names_are_normalised_before_and_after_lower_case(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    names = ["Jose\u0301", "JOSÉ", "İda", "丁伏迪", *"abcdefghijkl"]
    file.write_text("\n".join(names), encoding="utf-8")
    kept = {text for part in parts(load_names(file)) for text in part.texts}
    assert {"José", "JOSÉ", "丁伏迪"} < kept
    small = {text for part in parts(load_names(file, lower=True)) for text in part.texts}
    assert "josé" in small and "JOSÉ" not in small and len(small) == len(kept) - 1


@CPU
def test_a_file_may_have_a_class_after_a_tab(tmp_path: Path) -> None:
    file = tmp_path / "names.tsv"
    file.write_text("".join(f"n{i}\t{'odd' if i % 2 else 'even'}\n" for i in range(40)))
    data = load_names(file)
    assert data.classes == ("even", "odd")
    for text, label in zip(data.train.texts, data.train.labels, strict=True):
        assert int(text[1:]) % 2 == label


@CPU
def test_one_class_alone_is_none(tmp_path: Path) -> None:
    (tmp_path / "bird.txt").write_text("gull\nrook\nwren\nlark\ntern\n")
    data = load_names(tmp_path, valid=0.2, test=0.2)
    assert data.classes == ()
    assert load_names(tmp_path, valid=0.2, test=0.2, classes=()).classes == ()
    known = load_names(tmp_path, valid=0.2, test=0.2, classes=("ant", "bird"))
    assert known.train.labels.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="has the classes bird, expected some of ant"):
        load_names(tmp_path, classes=("ant",))


@CPU
def test_bad_sources_and_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder of names"):
        load_names(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match="has no names"):
        load_names(tmp_path)
    file = tmp_path / "names.txt"
    for content, message in (
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"ann\tf\nbob\n", "expected a name, a tab and a class, got the line 'bob'"),
        (b"ann\tf\tg\n", "expected a name, a tab and a class"),
        (b"ann\n", "the (valid|test|train) part of .* has no name"),
        (b"", "the train part of .* has no name"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_names(file)
    for arguments, message in (
        ({"unknown": "keep"}, "unknown must be one of map, drop, got 'keep'"),
        ({"max_characters": 0}, "max_characters must be at least 1, got 0"),
        ({"valid": 0.6, "test": 0.5}, "got 0.6 and 0.5"),
    ):
        file.write_text("ann\nbob\n")
        with pytest.raises(ValueError, match=message):
            load_names(file, **arguments)
    with pytest.raises(ValueError, match="texts is empty, expected at least one"):
        encode_padded([], Vocabulary(["a"]))


# Both models


def problem(vocab_size: int = 9) -> tuple[Tensor, Tensor]:
    return torch.randint(vocab_size, (6, 4)), torch.tensor([6, 1, 4, 2])


CLASSIFIERS = {
    "plain": {},
    "rnn": {"cell": "rnn"},
    "gru-one-hot-bidirectional": {"cell": "gru", "embed_size": None, "bidirectional": True},
    "stacked-weighted": {
        "num_layers": 2,
        "bidirectional": True,
        "class_weight": torch.tensor([1.0, 3.0, 0.5]),
    },
}
GENERATORS = {
    "plain": {},
    "conditional-gru": {"num_classes": 3, "cell": "gru"},
    "stacked": {"num_classes": 3, "num_layers": 2},
}


def losses(model: torch.nn.Module, tokens: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    if isinstance(model, NameGenerator) and model.condition is None:
        return model(tokens, lengths)
    return model(tokens, lengths, labels)


def build(name: str, backend: str = "seqkern") -> torch.nn.Module:
    kind, settings = name.split(":")
    sizes = {"embed_size": 5, "hidden_size": 8, "backend": backend}
    if kind == "classifier":
        return NameClassifier(9, 3, **{**sizes, **CLASSIFIERS[settings]})
    return NameGenerator(9, condition_size=4, **{**sizes, **GENERATORS[settings]})


ALL = [f"classifier:{name}" for name in CLASSIFIERS] + [f"generator:{name}" for name in GENERATORS]


@pytest.mark.parametrize("name", ALL)
def test_backends_agree_in_loss_and_gradients(name: str) -> None:
    tokens, lengths = problem()
    labels = torch.tensor([0, 2, 1, 1])
    ours, theirs = build(name).double(), build(name, "torch").double()
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        losses(model, tokens, lengths, labels).backward()
    expected = losses(theirs, tokens, lengths, labels)
    torch.testing.assert_close(losses(ours, tokens, lengths, labels), expected)
    for (key, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, msg=key)


@pytest.mark.parametrize("name", ALL)
def test_padding_has_no_influence(name: str) -> None:
    tokens, lengths = problem()
    labels = torch.tensor([0, 2, 1, 1])
    model = build(name).double()
    expected = losses(model, tokens, lengths, labels)
    longer = torch.cat([tokens, torch.randint(9, (3, 4))])
    for i, n in enumerate(lengths):
        longer[n:, i] = torch.randint(9, (len(longer) - n,))
    torch.testing.assert_close(losses(model, longer, lengths, labels), expected)


@CPU
@pytest.mark.parametrize("name", ["classifier:plain", "generator:conditional-gru"])
def test_models_run_under_autocast(name: str) -> None:
    tokens, lengths = problem()
    model = build(name)
    labels = torch.tensor([0, 2, 1, 1])
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses(model, tokens, lengths, labels)
    loss.backward()
    torch.testing.assert_close(
        loss.float(), losses(model, tokens, lengths, labels), atol=0.05, rtol=0.05
    )


@CPU
@pytest.mark.parametrize("model_class", [NameClassifier, NameGenerator])
def test_unknown_cells_and_backends_are_refused(model_class: type[torch.nn.Module]) -> None:
    with pytest.raises(ValueError, match="cell must be one of rnn, rnn_relu, lstm, gru, got 'ntm'"):
        model_class(9, 3, cell="ntm")
    with pytest.raises(ValueError, match="backend must be one of seqkern, torch, got 'jax'"):
        model_class(9, 3, backend="jax")
    with pytest.raises(ValueError, match=r"lengths has shape \(3,\), expected \(4,\)"):
        model_class(9, 3)(problem()[0], torch.ones(3, dtype=torch.int64), torch.zeros(4))


# Classifier


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_many_to_one_each_name_alone_has_the_same_logits(name: str) -> None:
    tokens, lengths = problem()
    model = build(f"classifier:{name}").double()
    logits = model(tokens, lengths)
    assert logits.shape == (4, 3)
    for i, n in enumerate(lengths):
        torch.testing.assert_close(logits[i], model(tokens[:n, i : i + 1])[0])


@CPU
def test_class_weights_weigh_the_mean() -> None:
    tokens, lengths = problem()
    labels = torch.tensor([0, 2, 1, 1])
    weight = torch.tensor([1.0, 3.0, 0.5])
    model = NameClassifier(9, 3, class_weight=weight)
    expected = torch.nn.functional.cross_entropy(model(tokens, lengths), labels, weight)
    torch.testing.assert_close(model(tokens, lengths, labels), expected)
    assert "class_weight" in model.state_dict()
    with pytest.raises(ValueError, match=r"class_weight has shape \(3,\), expected \(4,\)"):
        NameClassifier(9, 4, class_weight=weight)


@CPU
def test_classifier_learns_what_only_the_order_tells() -> None:
    names = torch.tensor(list(itertools.permutations(range(4)))).T
    labels = (names.argmin(0) < names.argmax(0)).long()
    model = NameClassifier(4, 2, embed_size=8, hidden_size=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model(names, None, labels).backward()
        optimizer.step()
    assert torch.equal(model(names).argmax(1), labels)


# Generator


def by_hand(model: NameGenerator, name: list[int], condition: Tensor | None) -> float:
    """Log-probability of a name and its end."""
    inputs = torch.tensor([[model.boundary], *([c] for c in name)])
    logits, _ = model.logits(inputs, None, condition)
    targets = [*name, model.boundary]
    chosen = logits[:, 0].log_softmax(-1)[range(len(targets)), targets]
    return chosen.sum().item()


@pytest.mark.parametrize("name", GENERATORS)
def test_loss_is_the_mean_over_characters_and_ends(name: str) -> None:
    tokens, lengths = problem()
    lengths[1] = 0
    labels = torch.tensor([0, 2, 1, 1])
    model = build(f"generator:{name}").double()
    total = sum(
        by_hand(model, tokens[:n, i].tolist(), labels[i : i + 1] if model.condition else None)
        for i, n in enumerate(lengths)
    )
    loss = losses(model, tokens, lengths, labels).item()
    assert loss == pytest.approx(-total / (lengths.sum().item() + 4), rel=1e-9)


@pytest.mark.parametrize("backend", ["seqkern", "torch"])
def test_carried_state_joins_two_halves(backend: str) -> None:
    model = build("generator:plain", backend).double()
    tokens, _ = problem()
    first, state = model.logits(tokens[:2])
    second, _ = model.logits(tokens[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), model.logits(tokens)[0])


@CPU
def test_condition_may_be_a_vector() -> None:
    tokens, lengths = problem()
    labels = torch.tensor([0, 2, 1, 1])
    model = build("generator:stacked")
    vectors = model.condition.weight[labels]
    torch.testing.assert_close(model(tokens, lengths, vectors), model(tokens, lengths, labels))


@CPU
def test_a_condition_is_needed_by_models_with_classes_alone() -> None:
    tokens, lengths = problem()
    with pytest.raises(ValueError, match="condition: got none, expected one of a model with"):
        NameGenerator(9, 3)(tokens, lengths)
    with pytest.raises(ValueError, match="condition: got one, expected none of a model without"):
        NameGenerator(9)(tokens, lengths, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="condition is of 2 names, expected 5"):
        NameGenerator(9, 3).sample(5, torch.tensor([0, 1]))


@CPU
def test_one_to_many_samples_follow_the_models_distribution() -> None:
    """Whole names of up to two characters, and of three or more, given one of two conditions."""
    model = NameGenerator(2, 2, embed_size=3, condition_size=2, hidden_size=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    names = [[], [0], [1], [0, 0], [0, 1], [1, 0], [1, 1]]
    count = 4000
    for label in (0, 1):
        condition = torch.full((count,), label)
        tokens, lengths = model.sample(count, condition, generator=torch.Generator().manual_seed(1))
        drawn = [row[:n].tolist() for row, n in zip(tokens.T, lengths, strict=True)]
        seen = [drawn.count(name) for name in names]
        expected = [math.exp(by_hand(model, name, condition[:1])) * count for name in names]
        found = [*seen, count - sum(seen)]
        assert chisquare(found, [*expected, count - sum(expected)]).pvalue > 1e-3


@CPU
def test_sampling_repeats_under_a_seed_and_restores_the_mode() -> None:
    model = NameGenerator(9, dropout=0.5).train()

    def names(seed: int) -> tuple[Tensor, Tensor]:
        return model.sample(20, generator=torch.Generator().manual_seed(seed))

    first, again, other = names(1), names(1), names(2)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert model.training


def biased(towards: int, vocab_size: int = 4) -> NameGenerator:
    """A model that is nearly sure of one token."""
    model = NameGenerator(vocab_size)
    with torch.no_grad():
        model.linear.weight.zero_()
        model.linear.bias.zero_()[towards] = 50.0
    return model


@CPU
def test_names_end_at_the_end_token_or_are_cut() -> None:
    tokens, lengths = biased(4).sample(3)
    assert tokens.shape == (0, 3) and not lengths.any()
    tokens, lengths = biased(2).sample(3, max_length=5)
    assert (tokens == 2).all() and tokens.shape == (5, 3) and (lengths == 5).all()
    tokens, lengths = NameGenerator(4).sample(200, max_length=50)
    assert len(tokens) == lengths.max() and len(lengths.unique()) > 3
    past = torch.arange(len(tokens))[:, None] >= lengths
    assert not tokens[past].any() and tokens.max() < 4


@CPU
def test_greedy_sampling_takes_the_most_probable() -> None:
    model = NameGenerator(9, hidden_size=16)
    tokens, _ = model.sample(2, temperature=0, max_length=4)
    inputs = torch.cat([torch.full((1, 2), 9), tokens])
    best = model.logits(inputs)[0].argmax(-1)
    assert torch.equal(best[: len(tokens)], tokens)


@CPU
def test_draw_keeps_the_top_k_and_the_nucleus() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(2000, 4)
    assert set(draw(logits).tolist()) == {0, 1, 2, 3}
    assert set(draw(logits, top_k=2).tolist()) == {1, 3}
    assert set(draw(logits, top_k=9).tolist()) == {0, 1, 2, 3}
    assert set(draw(logits, top_p=0.7 - 1e-4).tolist()) == {1, 3}
    assert set(draw(logits, top_p=0.7 + 1e-4).tolist()) == {1, 2, 3}
    assert set(draw(logits, top_p=1e-6).tolist()) == {1}
    sharp = draw(logits, temperature=0.5).bincount(minlength=4)
    expected = torch.tensor([0.1, 0.4, 0.2, 0.3]).double().square()
    assert chisquare(sharp, expected / expected.sum() * 2000).pvalue > 1e-3


@CPU
def test_sampling_arguments_out_of_range_are_refused() -> None:
    model = NameGenerator(4)
    for arguments, message in (
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be at least 0, got -1.0"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, r"top_p must be above 0 and at most 1, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(**{"n": 2, **arguments})


@CPU
def test_generator_learns_a_name_of_each_class() -> None:
    tokens, lengths = torch.tensor([[0, 1], [1, 2], [2, 0], [3, 0]]), torch.tensor([4, 2])
    labels = torch.tensor([0, 1])
    model = NameGenerator(4, 2, embed_size=8, hidden_size=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(tokens, lengths, labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    names, found = model.sample(2, labels, temperature=0)
    assert torch.equal(found, lengths) and torch.equal(names, tokens)


@CPU
def test_models_are_copied_and_saved_as_any_module(tmp_path: Path) -> None:
    model = build("classifier:stacked-weighted")
    tokens, lengths = problem()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = build("classifier:stacked-weighted")
    other.load_state_dict(torch.load(tmp_path / "model.pt"))
    expected = model(tokens, lengths)
    torch.testing.assert_close(other(tokens, lengths), expected)
    torch.testing.assert_close(copy.deepcopy(model)(tokens, lengths), expected)


# Baseline of n-grams


@CPU
def test_baseline_classifies_by_n_grams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "bench"), *sys.path])
    for label, ending in (("f", "a"), ("m", "o")):
        stems = ["".join(s) for s in itertools.product("bcdfg", "eiu", "klmn")]
        (tmp_path / f"{label}.txt").write_text("\n".join(stem + ending for stem in stems))
    importlib.import_module("name_baseline").main(["--data", str(tmp_path), "--seeds", "0", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert [cell.strip() for cell in lines[-1].split("|")[3:6]] == ["1.0", "1.0", "1.0"]
