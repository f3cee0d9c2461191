"""ONNX files: native recurrent nodes, and onnxruntime computes what the model does."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import seqkern
from seqkern.models import (
    MODELS,
    AttentionSeq2seq,
    AwdRnnlm,
    BiLstmTagger,
    CharRnn,
    Memory,
    NameClassifier,
    PeekySeq2seq,
    Pretrained,
    Rnnlm,
    Seq2seq,
    export_onnx,
)
from seqkern.nn import GRU, LSTM, RNN

onnx = pytest.importorskip("onnx", reason="seqkern[onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="seqkern[onnx] is not installed")

pytestmark = pytest.mark.backends("cpu", reason="about files, not the kernels")


def nodes(path: Path) -> Counter[str]:
    """Count the nodes of each kind; recurrent ones must have their weights constant."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    constant = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN"):
            assert constant.issuperset(node.input[1:4]), node
    return Counter(node.op_type for node in model.graph.node)


def compare(path: Path, model: torch.nn.Module, *args: Any) -> None:
    """Assert that onnxruntime computes a model's outputs, to a few roundings."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = [arg.detach().numpy() for arg in tree_leaves(args) if arg is not None]
    names = [node.name for node in session.get_inputs()]
    found = session.run(None, dict(zip(names, inputs, strict=True)))
    with torch.no_grad():
        expected = [out for out in tree_leaves(model(*args)) if out is not None]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)


# Language models


@pytest.mark.parametrize("name", ["simple-rnnlm", "better-rnnlm"])
def test_language_models_run_at_any_length_and_batch(name: str, tmp_path: Path) -> None:
    model = MODELS[name](11, 6, 6, num_layers=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    assert model.training and model.linear.bias.requires_grad
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert nodes(path)["RNN" if name == "simple-rnnlm" else "LSTM"] == 2
    states = ["h"] if name == "simple-rnnlm" else ["h", "c"]
    graph = onnx.load(path).graph
    assert [node.name for node in graph.input] == ["tokens", *states]
    assert [node.name for node in graph.output] == ["logits", *(f"{s}_n" for s in states)]
    sizes = [size.dim_param for size in graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["T", "N"]
    model.eval()
    for steps, batch in ((2, 3), (1, 1), (9, 5)):
        state = tuple(torch.randn(2, batch, 6) for _ in states)
        tokens = torch.randint(11, (steps, batch))
        compare(path, model, tokens, state if len(state) > 1 else state[0])


@pytest.mark.parametrize(
    "model",
    [
        AwdRnnlm(11, 4, 6, num_layers=2, cell="gru"),
        CharRnn(11, 6, cell="lstm"),
        CharRnn(11, 6, cell="rnn_relu", backend="torch"),
    ],
    ids=["awd", "char", "char-torch"],
)
def test_other_language_models_do_too(model: Pretrained, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    model.eval()
    for steps, batch in ((1, 1), (4, 5)):
        tokens = torch.randint(11, (steps, batch))
        compare(path, model, tokens, model(tokens)[1])


# Models of unequal sequences


@pytest.mark.parametrize(
    "model",
    [
        NameClassifier(11, 3, embed_size=None, hidden_size=6, bidirectional=True),
        BiLstmTagger(11, 3, 4, 6, num_layers=2, cell="gru", backend="torch"),
    ],
    ids=["names", "tagger"],
)
def test_models_take_lengths(model: Pretrained, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    args = torch.randint(11, (4, 3)), torch.tensor([4, 2, 1])
    export_onnx(model, path, args, dynamic_shapes=({0: "T", 1: "N"}, {0: "N"}))
    model.eval()
    for lengths in ([6, 2, 1, 5], [3]):
        tokens = torch.randint(11, (max(lengths), len(lengths)))
        compare(path, model, tokens, torch.tensor(lengths))


@pytest.mark.parametrize(
    "model",
    [
        PeekySeq2seq(11, 4, 6, bidirectional=True),
        AttentionSeq2seq(11, 4, 6, num_layers=2, cell="gru", residual=True),
    ],
    ids=["peeky", "attention"],
)
def test_encoders_and_decoders_have_files_of_their_own(model: Seq2seq, tmp_path: Path) -> None:
    model.eval()

    def arguments(steps: int, lengths: list[int]) -> tuple[Any, Any]:
        """What the encoder takes, and what the decoder takes when it has begun."""
        source = torch.randint(11, (max(lengths), len(lengths))), torch.tensor(lengths)
        tokens = torch.randint(11, (steps, len(lengths)))
        memory = model.encode(*source)
        return source, (tokens, memory, model.decode(tokens, memory)[1])

    source, target = arguments(3, [5, 4])
    sizes: Any = {0: "S", 1: "N"}
    memory = Memory(sizes, {1: "N"}, sizes)
    state = tuple({1: "N"} for _ in target[2])
    encoder, decoder = tmp_path / "encoder.onnx", tmp_path / "decoder.onnx"
    export_onnx(model.encoder, encoder, source, dynamic_shapes=(sizes, {0: "N"}))
    shapes = ({0: "T", 1: "N"}, memory, state)
    export_onnx(model.decoder, decoder, target, dynamic_shapes=shapes)
    for steps, lengths in ((1, [3]), (4, [2, 7, 1])):
        source, target = arguments(steps, lengths)
        compare(encoder, model.encoder, *source)
        compare(decoder, model.decoder, *target)


# Layers


class Layers(torch.nn.Module):
    """Every cell that ONNX has a node for, each given the same input."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(
            [
                RNN(5, 4, 2, bidirectional=True),
                RNN(5, 4, nonlinearity="relu"),
                torch.nn.RNN(5, 4, bias=False),
                GRU(5, 4, bidirectional=True),
                GRU(5, 4, reset_after=False),
                torch.nn.LSTM(5, 4, 2, dropout=0.5),
                LSTM(5, 4, peephole=True, bidirectional=True, weight_drop=0.5),
            ]
        )
        self.cells = torch.nn.ModuleList([seqkern.nn.GRUCell(5, 4), torch.nn.LSTMCell(5, 4)])
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> tuple[Any, ...]:
        return *(layer(x) for layer in self.layers), *(cell(x[0]) for cell in self.cells)


def test_every_cell_has_its_node(tmp_path: Path) -> None:
    model, path = Layers().eval(), tmp_path / "model.onnx"
    export_onnx(model, path, (torch.randn(3, 2, 5),), dynamic_shapes=({0: "T", 1: "N"},))
    found = nodes(path)
    assert (found["RNN"], found["GRU"], found["LSTM"]) == (6, 4, 5)
    assert not {"Loop", "Scan", "Tanh", "Sigmoid"} & found.keys()
    for steps, batch in ((1, 1), (6, 4)):
        compare(path, model, torch.randn(steps, batch, 5))


class Tagger(torch.nn.Module):
    """Token ids straight into layers that know the sequences' lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.first = LSTM(7, 4, 2, bidirectional=True, batch_first=True)
        self.second = GRU(8, 3, bidirectional=True, batch_first=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Any, Any]:
        hidden, first = self.first(tokens, lengths=lengths)
        output, second = self.second(hidden, lengths=lengths)
        return output, first, second


def test_token_ids_and_lengths_of_a_model_in_bfloat16(tmp_path: Path) -> None:
    model, path = Tagger().eval().bfloat16(), tmp_path / "model.onnx"
    export_onnx(
        model,
        path,
        (torch.randint(7, (2, 3)), torch.tensor([3, 2])),
        dynamic_shapes=({0: "N", 1: "T"}, {0: "N"}),
        input_names=["tokens", "lengths"],
        output_names=list("ohcg"),
    )
    graph = onnx.load(path).graph
    assert [node.name for node in graph.input] == ["tokens", "lengths"]
    assert [node.name for node in graph.output] == list("ohcg")
    assert nodes(path)["LSTM"] == 4 and nodes(path)["GRU"] == 2
    assert model.first.weight_ih_l0.dtype == torch.bfloat16
    model.float()
    for lengths in ([2, 6, 1, 5], [0, 6, 3]):
        compare(path, model, torch.randint(7, (len(lengths), 6)), torch.tensor(lengths))


# What is refused


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(5, 4, layer_norm=True),
        LSTM(5, 4, zoneout_c=0.1),
        GRU(5, 4, heads=2),
        torch.nn.LSTM(5, 4, proj_size=2),
    ],
    ids=str,
)
def test_layers_without_a_node_are_named(layer: torch.nn.Module, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(5, 5), layer)
    with pytest.raises(ValueError, match=r"ONNX has no node for .*\(5, 4, .*, which is 1$"):
        export_onnx(model, tmp_path / "model.onnx", (torch.randn(3, 2, 5),))
    assert not list(tmp_path.iterdir())


class Resets(torch.nn.Module):
    """A layer whose state is reset."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = GRU(5, 4)

    def forward(self, x: Tensor, resets: Tensor) -> Tensor:
        return self.layer(x, resets=resets)[0]


def test_arguments_without_a_node_are_named(tmp_path: Path) -> None:
    args = torch.randn(3, 2, 5), torch.zeros(3, 2, dtype=torch.bool)
    message = "ONNX has no node for a cell 'gru' with .*resets"
    with pytest.raises(torch.onnx.OnnxExporterError, match=message):
        export_onnx(Resets(), tmp_path / "model.onnx", args)
    assert not list(tmp_path.iterdir())


class ThreeSteps(torch.nn.Module):
    """Takes three steps and no other number."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(3)[:, None]


def test_sizes_that_the_model_fixes_are_not_named(tmp_path: Path) -> None:
    with pytest.raises(torch.onnx.OnnxExporterError, match="static shape of 3"):
        export_onnx(
            ThreeSteps(), tmp_path / "model.onnx", (torch.ones(3, 2),), dynamic_shapes=({0: "T"},)
        )


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_packages_are_named(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'seqkern\[onnx\]'"):
        export_onnx(Rnnlm(11), tmp_path / "model.onnx")
