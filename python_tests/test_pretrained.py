"""Models in folders: what comes back, whatever was done to the model, and what is refused."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize

import seqkern
from seqkern import models
from seqkern.data import Vocabulary
from seqkern.data.checkpoint import load_checkpoint
from seqkern.models import CBOW, BetterRnnlm, Pretrained, Rnnlm, SimpleRnnlm, from_pretrained

pytestmark = pytest.mark.backends("cpu", reason="about files, not the kernels")

MODELS: dict[str, Callable[[], Pretrained]] = {
    "SimpleRnnlm": lambda: models.SimpleRnnlm(11, 4, 6),
    "Rnnlm": lambda: models.Rnnlm(11, 4, hidden_size=6, num_layers=2),
    "BetterRnnlm": lambda: models.BetterRnnlm(11, 6, 6),
    "SimpleCBOW": lambda: models.SimpleCBOW(11, 4),
    "SimpleSkipGram": lambda: models.SimpleSkipGram(11),
    "CBOW": lambda: models.CBOW(11, 4, seqkern.nn.UnigramSampler([1] * 11), num_negatives=3),
    "SkipGram": lambda: models.SkipGram(11, 4),
    "AwdRnnlm": lambda: models.AwdRnnlm(11, 4, 6, cell="gru", weight_drop=0.25),
    "CharRnn": lambda: models.CharRnn(11, 6, cell="rnn_relu", backend="torch"),
    "NameClassifier": lambda: models.NameClassifier(
        11, 3, embed_size=None, bidirectional=True, class_weight=torch.tensor([1.0, 2.0, 0.5])
    ),
    "NameGenerator": lambda: models.NameGenerator(11, 3, 4, 2, 6),
    "BiLstmTagger": lambda: models.BiLstmTagger(None, 3, 4, 6),
    "VectorAutoregression": lambda: models.VectorAutoregression(2, order=3),
    "WindowMLP": lambda: models.WindowMLP(2, hidden_size=5),
    "SeriesRegressor": lambda: models.SeriesRegressor.from_autoregression(
        models.VectorAutoregression(2, order=3)
    ),
    "Seq2seq": lambda: models.Seq2seq(11, 4, 6, target_vocab_size=7, bidirectional=True),
    "PeekySeq2seq": lambda: models.PeekySeq2seq(11, 4, 6, cell="gru"),
    "AttentionSeq2seq": lambda: models.AttentionSeq2seq(11, 4, 6, num_layers=2, residual=True),
    "TransformerSeq2seq": lambda: models.TransformerSeq2seq(11, 8, num_heads=2),
}

# An EncoderDecoder of other parts than these is its author's, who derives a class from it.
PARTS = {"Encoder", "EncoderDecoder", "Decoder", "PeekyDecoder", "AttentionDecoder"}


class Own(Rnnlm):
    """A user's model, which takes options by name."""

    def __init__(self, vocab_size: int, **options: Any) -> None:
        super().__init__(vocab_size, 4, 6, **options)
        self.register_buffer("counts", torch.arange(3))


def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_comes_back(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    model.save_pretrained(tmp_path)
    for read in (from_pretrained, type(model).from_pretrained):
        loaded = read(tmp_path)
        assert type(loaded) is type(model)
        assert not loaded.training
        same(model, loaded)
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    assert {key for key, p in loaded.named_parameters() if p.requires_grad} == trained


def test_every_model_of_the_zoo_is_tested_here() -> None:
    zoo = {key for key in models.__all__ if isinstance(getattr(models, key), type)}
    modules = {key for key in zoo if issubclass(getattr(models, key), torch.nn.Module)}
    assert modules == {"Pretrained", *PARTS, *MODELS}
    assert all(issubclass(getattr(models, key), Pretrained) for key in MODELS)


def test_config_has_all_arguments_with_their_defaults(tmp_path: Path) -> None:
    BetterRnnlm(11, 6, hidden_size=6).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "format": 1,
        "class": "BetterRnnlm",
        "arguments": {
            "vocab_size": 11,
            "embed_size": 6,
            "hidden_size": 6,
            "num_layers": 2,
            "dropout": 0.5,
            "tied": True,
            "backend": "seqkern",
            "cell": "lstm",
        },
    }


def test_tied_parameters_are_written_once_and_stay_tied(tmp_path: Path) -> None:
    BetterRnnlm(11, 6, 6).save_pretrained(tmp_path)
    tensors, _ = load_checkpoint(tmp_path / "model.safetensors")
    assert "embedding.weight" in tensors and "linear.weight" not in tensors
    loaded = BetterRnnlm.from_pretrained(tmp_path)
    assert loaded.linear.weight is loaded.embedding.weight


def test_models_of_others_come_back_under_their_full_name(tmp_path: Path) -> None:
    model = Own(11, tied=False, num_layers=2)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["class"] == f"{__name__}.Own"
    assert config["arguments"] == {"vocab_size": 11, "tied": False, "num_layers": 2}
    loaded = Rnnlm.from_pretrained(tmp_path)
    assert type(loaded) is Own
    same(model, loaded)


def test_dtype_is_kept_and_trained_values_are_written(tmp_path: Path) -> None:
    model = Rnnlm(11, 4, 6).bfloat16()
    torch.nn.init.normal_(model.linear.bias)
    model.save_pretrained(tmp_path)
    loaded = Rnnlm.from_pretrained(tmp_path, device=torch.device("cpu"))
    assert loaded.linear.bias.dtype == torch.bfloat16
    same(model, loaded)


def test_loaded_model_computes_and_trains(tmp_path: Path) -> None:
    model, tokens = Rnnlm(11, 4, 6).eval(), torch.randint(11, (5, 2))
    model.save_pretrained(tmp_path)
    loaded = Rnnlm.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(tokens)[0], model(tokens)[0], rtol=0, atol=0)
    loaded(tokens, targets=tokens)[0].backward()
    assert loaded.recurrent.weight_hh_l0.grad.any()


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    Rnnlm(11, 4, 6).save_pretrained(tmp_path)
    before = torch.get_rng_state()
    from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "change",
    [
        copy.deepcopy,
        copy.copy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: torch.compile(model, backend="eager"),
    ],
    ids=["deepcopy", "copy", "pickle", "compile"],
)
def test_arguments_survive(change: Callable[[Rnnlm], Rnnlm], tmp_path: Path) -> None:
    model = Rnnlm(11, hidden_size=6)
    change(model).save_pretrained(tmp_path)
    same(model, Rnnlm.from_pretrained(tmp_path))


class Half(torch.nn.Module):
    """A parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        """Return half the weight."""
        return weight / 2


class Scaled(Pretrained):
    """A model whose own parameter can be parametrised."""

    def __init__(self, size: int = 3, scale: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.weight = torch.nn.Parameter(torch.ones(size))


def test_parametrizations_are_written_as_what_they_give(tmp_path: Path) -> None:
    model = Rnnlm(11, 4, 6)
    parametrizations.weight_norm(model.linear)
    with torch.no_grad():
        model.linear.parametrizations.weight.original0.mul_(2)
    model.save_pretrained(tmp_path)
    assert parametrize.is_parametrized(model.linear)
    torch.testing.assert_close(from_pretrained(tmp_path).linear.weight, model.linear.weight)

    whole = copy.deepcopy(parametrize.register_parametrization(Scaled(2), "weight", Half()))
    whole.save_pretrained(tmp_path)
    loaded = Scaled.from_pretrained(tmp_path)
    assert type(loaded) is Scaled
    assert loaded.weight.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_among_the_arguments_come_back(dtype: torch.dtype, tmp_path: Path) -> None:
    Scaled(2, torch.rand(2, 3).mul(3).to(dtype)).save_pretrained(tmp_path)
    loaded = Scaled.from_pretrained(tmp_path)
    assert loaded.scale.dtype == dtype
    torch.testing.assert_close(loaded._built_by[1]["scale"], loaded.scale, rtol=0, atol=0)


def test_vocabulary_lies_beside(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["a", "b"])
    Rnnlm(len(vocabulary), 4, 6).save_pretrained(tmp_path / "new" / "folder")
    vocabulary.save(tmp_path / "new" / "folder" / "vocab.json")
    from_pretrained(tmp_path / "new" / "folder")
    assert Vocabulary.load(tmp_path / "new" / "folder" / "vocab.json") == vocabulary


# What is refused


def test_model_of_another_class_is_refused(tmp_path: Path) -> None:
    Rnnlm(11, 4, 6).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a model of class Rnnlm, expected SimpleRnnlm"):
        SimpleRnnlm.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected CBOW"):
        CBOW.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    Rnnlm(11, 4, 6).save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no config of a pretrained model"),
        ("[]", "no config of a pretrained model"),
        ('{"class": "Rnnlm", "arguments": {}}', "no config of a pretrained model.*format"),
        ('{"format": 2, "class": "Rnnlm", "arguments": {}}', "is of format 2, .* reads 1"),
        ('{"format": 1, "class": "Rnnlm", "arguments": []}', "class or arguments are wrong"),
        (
            '{"format": 1, "class": "os.system", "arguments": {}}',
            "config.json: no model has the class 'os.system', expected",
        ),
        ('{"format": 1, "class": "Rnnlm", "arguments": {"size": 3}}', "does not take: .*'size'"),
        ('{"format": 1, "class": "Rnnlm", "arguments": {}}', "does not take: .*vocab_size"),
        (
            '{"format": 1, "class": "Rnnlm", "arguments": {"vocab_size": 11, "backend": "x"}}',
            "does not take: backend must be",
        ),
        (
            '{"format": 1, "class": "Rnnlm", "arguments": {"vocab_size": 12}}',
            r"embedding.weight is \(11, 100\), expected \(12, 100\)",
        ),
        (
            '{"format": 1, "class": "Rnnlm", "arguments": {"vocab_size": 11, "num_layers": 2}}',
            "only: recurrent.bias_hh_l1, ",
        ),
    ],
)
def test_other_configs_are_refused(content: str, message: str, tmp_path: Path) -> None:
    Rnnlm(11).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    Rnnlm(11, 4, 6).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="model.safetensors is truncated or corrupt"):
        from_pretrained(tmp_path)


def test_arguments_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot hold this .*Own: .*one is a Dropout, expected"):
        model = Own(11)
        model._built_by[1]["layer"] = torch.nn.Dropout()
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_model_of_parts_is_refused(tmp_path: Path) -> None:
    model = models.EncoderDecoder(models.Encoder(11, 4, 6), models.Decoder(11, 4, 6))
    with pytest.raises(ValueError, match="(?s)cannot hold this EncoderDecoder: .*one is a Encoder"):
        model.save_pretrained(tmp_path)


def test_wrong_arguments_are_refused_by_the_constructor() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        Rnnlm(11, size=3)  # type: ignore[call-arg]
