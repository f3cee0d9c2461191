"""Tagged sentences, and the tagger: many to many, a tag for each step."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqkern.data import load_tags
from seqkern.data.tags import Tagged, baselines, restoration
from seqkern.models import BiLstmTagger

CPU = pytest.mark.backends("cpu", reason="touches no kernels, or many times those of a neighbour")

# Data


@CPU
def test_restoration_takes_punctuation_and_case_away() -> None:
    text = 'The "sys" module (see PEP 8), as\nmyClass.f() -- ends.\n\n*****\n\nIs it? \n'
    tags = {
        "the": "Title",
        "sys": "lower",
        "module": "lower",
        "see": "lower",
        "pep": "UPPER",
        "8": "lower,",
        "as": "lower",
        "myclass.f": "Mixed",
        "ends": "lower.",
    }
    assert restoration(text) == [list(tags.items()), [("is", "Title"), ("it", "lower?")]]


@CPU
def test_restoration_cuts_long_paragraphs() -> None:
    sentences = restoration("a b c d e\n\nf", max_length=2)
    assert [[word for word, _ in s] for s in sentences] == [["a", "b"], ["c", "d"], ["e"], ["f"]]
    with pytest.raises(ValueError, match="max_length must be at least 1, got 0"):
        restoration("a", max_length=0)


@CPU
@pytest.mark.parametrize("separator", ["\t", "  "])
def test_two_columns_become_padded_tensors(tmp_path: Path, separator: str) -> None:
    lines = {
        "train": ["", "dogs N", "bark V", "", "", "run V"],
        "valid": ["cats N"],
        "test": ["bark N", "loudly R", ""],
    }
    for part, written in lines.items():
        text = "\n".join(line.replace(" ", separator) for line in written)
        (tmp_path / f"{part}.txt").write_text(text)
    data = load_tags(tmp_path)
    assert data.vocabulary.tokens == ("dogs", "bark", "run", "<unk>")
    assert data.tags == ("N", "R", "V")
    assert data.train.tokens.T.tolist() == [[0, 1], [2, 0]]
    assert data.train.tags.T.tolist() == [[0, 2], [2, 0]]
    assert data.train.lengths.tolist() == [2, 1]
    assert data.test.tokens.T.tolist() == [[1, 3]] and data.test.tags.T.tolist() == [[0, 1]]
    # Of "bark" and an unknown word, tagged N and R: most tags are V, and so is that of "bark".
    assert baselines(data) == {"majority": 0.0, "unigram": 0.0}


@CPU
def test_one_file_is_divided_by_the_seed(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(f"Word{i} is, {i}." for i in range(50)))
    data = load_tags(file, text=True)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [40, 5, 5]
    assert data.tags == ("Title", "lower,", "lower.")
    assert torch.equal(data.train.tokens, load_tags(file, text=True).train.tokens)
    assert data.vocabulary != load_tags(file, text=True, seed=1).vocabulary
    assert len(load_tags(file, text=True, max_vocabulary=7).vocabulary) == 7


@CPU
def test_taken_sentences_have_no_empty_step() -> None:
    tokens = torch.tensor([[1, 2, 3], [4, 0, 5], [6, 0, 0]])
    part = Tagged(tokens, torch.tensor([3, 1, 2]), tokens + 1)
    taken, lengths, tags = part.take(torch.tensor([2, 1]))
    assert taken.tolist() == [[3, 2], [5, 0]]
    assert lengths.tolist() == [2, 1]
    assert torch.equal(tags, taken + 1)


@CPU
def test_baselines_are_the_most_frequent_tags() -> None:
    data = load_tags("pydoc")
    within = torch.arange(len(data.test.tokens))[:, None] < data.test.lengths
    lower = data.test.tags[within] == data.tags.index("lower")
    scores = baselines(data)
    assert scores["majority"] == pytest.approx(lower.double().mean().item())
    assert scores["majority"] < scores["unigram"] < 1


@CPU
def test_bad_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "tags.txt"
    for content, message in (
        ("a N\nb\n", "line 2: expected a token and a tag, got 'b'"),
        ("a b N\n", "line 1: expected a token and a tag"),
        ("a\t\n", "line 1: expected a token and a tag"),
        ("", "the train part of .* has no sentence"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            load_tags(file)
    with pytest.raises(FileNotFoundError, match="no such text file or folder"):
        load_tags(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="has no train text"):
        load_tags(tmp_path)


# Model


def problem(features: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    input = torch.randn(6, 4, 5).double() if features else torch.randint(9, (6, 4))
    tags = torch.randint(3, (6, 4))
    tags[0, 2] = -1
    return input, torch.tensor([6, 1, 4, 2]), tags


MODELS = {
    "tokens": {"vocab_size": 9},
    "features-gru": {"vocab_size": None, "cell": "gru"},
    "stacked": {"vocab_size": 9, "num_layers": 2},
    "forward-rnn": {"vocab_size": 9, "cell": "rnn", "bidirectional": False},
}


def build(name: str, backend: str = "seqkern") -> BiLstmTagger:
    return BiLstmTagger(
        num_tags=3, embed_size=5, hidden_size=8, backend=backend, **MODELS[name]
    ).double()


@pytest.mark.parametrize("name", MODELS)
def test_backends_agree_in_loss_and_gradients(name: str) -> None:
    data = problem("features" in name)
    ours, theirs = build(name), build(name, "torch")
    theirs.load_state_dict(ours.state_dict())
    losses = [model(*data) for model in (ours, theirs)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for (key, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, msg=key)


@pytest.mark.parametrize("name", MODELS)
def test_aligned_many_to_many_each_sentence_alone_has_the_same_logits(name: str) -> None:
    input, lengths, tags = problem("features" in name)
    model = build(name)
    logits = model(input, lengths)
    assert logits.shape == (6, 4, 3)
    total, count = 0.0, 0
    for i, n in enumerate(lengths):
        alone = model(input[:n, i : i + 1])
        torch.testing.assert_close(logits[:n, i], alone[:, 0])
        total += torch.nn.functional.cross_entropy(
            alone[:, 0], tags[:n, i], reduction="sum", ignore_index=-1
        ).item()
        count += int((tags[:n, i] >= 0).sum())
    assert model(input, lengths, tags).item() == pytest.approx(total / count)


@pytest.mark.parametrize("name", MODELS)
def test_padding_has_no_influence(name: str) -> None:
    input, lengths, tags = problem("features" in name)
    model = build(name)
    expected, predicted = model(input, lengths, tags), model.predict(input, lengths)
    for i, n in enumerate(lengths):
        input[n:, i] = 3
        tags[n:, i] = 2
    torch.testing.assert_close(model(input, lengths, tags), expected)
    assert torch.equal(model.predict(input, lengths), predicted)
    assert (predicted[1:, 1] == -1).all() and (predicted[:4, 2] >= 0).all()


@CPU
def test_predict_drops_nothing_and_restores_the_mode() -> None:
    model = BiLstmTagger(9, 3, dropout=0.9).train()
    input, _, _ = problem()
    predicted = model.predict(input)
    assert torch.equal(predicted, model.predict(input)) and model.training
    assert torch.equal(predicted, model.eval()(input).argmax(-1))


@CPU
@pytest.mark.parametrize("bidirectional", [True, False])
def test_tags_of_both_neighbours_need_both_directions(bidirectional: bool) -> None:
    """A step's tag is how many of the steps before and after it are ones."""
    tokens = torch.randint(2, (10, 100))
    tags = torch.full_like(tokens, -1)
    tags[1:-1] = tokens[2:] + tokens[:-2]
    model = BiLstmTagger(2, 3, 8, 16, bidirectional=bidirectional)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        model(tokens, None, tags).backward()
        optimizer.step()
    accuracy = (model.predict(tokens) == tags)[1:-1].double().mean()
    assert accuracy > 0.98 if bidirectional else accuracy < 0.65


@CPU
def test_models_of_tokens_and_of_features_refuse_the_other() -> None:
    with pytest.raises(ValueError, match=r"input has shape \(6, 4, 5\), expected \(T, N\), tokens"):
        build("tokens")(problem(features=True)[0])
    with pytest.raises(ValueError, match=r"input has shape \(6, 4\), expected \(T, N, D\), feat"):
        build("features-gru")(problem()[0])
    with pytest.raises(ValueError, match=r"lengths has shape \(2,\), expected \(4,\)"):
        build("tokens")(problem()[0], torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="backend must be one of seqkern, torch, got 'jax'"):
        BiLstmTagger(9, 3, backend="jax")
