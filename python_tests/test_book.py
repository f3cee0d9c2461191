"""What "Deep Learning from Scratch 2" shows: its loop, its trained model, its perplexities.

Tests on the Penn Treebank and on the book's own model run where these files are: in the folder that
the environment variable SEQKERN_DATA names, or in ../shared/data beside the checkout.
"""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command_line import error_line
from helpers import threads
from reference import TimeAffine, TimeEmbedding, TimeLSTM, TimeRNN, TimeSoftmaxWithLoss, mapping
from seqkern.cli import main
from seqkern.data import Corpus, Vocabulary, load_corpus
from seqkern.models import MODELS, BetterRnnlm, Rnnlm, load_book_arrays, model_from_book
from seqkern.models.book import read_book_model
from seqkern.tasks import TASKS, preset_config
from seqkern.tasks.language import LanguageConfig, LanguageTask, evaluate
from seqkern.training import Run, Trainer
from seqkern.vectors.book import load_book_vectors

pytestmark = pytest.mark.backends("cpu", reason="about training, not the kernels")

DATA = Path(os.environ.get("SEQKERN_DATA", Path(__file__).parents[2] / "shared" / "data"))
PTB, CHECKPOINT = DATA / "ptb", DATA / "book" / "Rnnlm.pkl"

needs_ptb = pytest.mark.skipif(not PTB.is_dir(), reason=f"no Penn Treebank text at {PTB}")
needs_checkpoint = pytest.mark.skipif(
    not CHECKPOINT.is_file(), reason=f"no trained model of the book at {CHECKPOINT}"
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on problems this small would mostly wait for each other."""
    with threads(1):
        yield


# The loop


class BookModel:
    """The book's language model on the NumPy layers, with a torch model's initial parameters."""

    def __init__(self, model: torch.nn.Module, vocab_size: int) -> None:
        weights = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
        recurrent = [weights[f"recurrent.{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih")]
        kind: Any = TimeRNN if recurrent[0].shape[0] == recurrent[1].shape[1] else TimeLSTM
        convert = mapping.rnn_from_torch if kind is TimeRNN else mapping.lstm_from_torch
        self.layers: list[Any] = [
            TimeEmbedding(weights["embedding.weight"]),
            kind(*convert(*recurrent), stateful=True),
            TimeAffine(weights["linear.weight"].T.copy(), weights["linear.bias"]),
        ]
        self.loss = TimeSoftmaxWithLoss()

    def step(self, xs: np.ndarray, ts: np.ndarray, lr: float, clip: float | None) -> float:
        """One iteration of SGD on (N, T) tokens."""
        for layer in self.layers:
            xs = layer.forward(xs)
        loss = self.loss.forward(xs, ts)
        dout = self.loss.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        grads = [grad for layer in self.layers for grad in layer.grads]
        params = [param for layer in self.layers for param in layer.params]
        norm = np.sqrt(sum((grad**2).sum() for grad in grads))
        rate = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
        for param, grad in zip(params, grads, strict=True):
            param -= lr * rate * grad
        return loss


@pytest.mark.parametrize(
    ("name", "lr", "clip"), [("simple-rnnlm", 0.5, None), ("rnnlm", 20.0, 0.25)]
)
def test_training_is_the_books_loop(name: str, lr: float, clip: float | None) -> None:
    """In float64, every epoch's perplexity is that of the NumPy layers in the book's loop."""
    vocab_size, batch_size, steps = 15, 4, 5
    text = torch.randint(vocab_size, (131,))
    config = LanguageConfig(
        batch_size=batch_size,
        steps=steps,
        lr=lr,
        lr_decay=1.0,
        clip=clip,
        epochs=3,
        monitor="train",
    )
    model = MODELS[name](vocab_size, 7, 9).double()
    book = BookModel(model, vocab_size)
    events: list[dict[str, Any]] = []
    words = Vocabulary([str(i) for i in range(vocab_size)])
    task = LanguageTask(config, Corpus(words, "word", text, text, text))
    Trainer(model, task, listeners=[events.append]).fit()
    found = [event["train"]["perplexity"] for event in events if event["event"] == "epoch"]

    xs, ts = text.numpy()[:-1], text.numpy()[1:]
    offsets = np.arange(batch_size) * (len(xs) // batch_size)
    time_index, expected = 0, []
    for _ in range(3):
        losses = []
        for _ in range(len(xs) // (batch_size * steps)):
            index = (offsets[:, None] + time_index + np.arange(steps)) % len(xs)
            losses.append(book.step(xs[index], ts[index], lr, clip))
            time_index += steps
        expected.append(np.exp(np.mean(losses)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# Its models


def book_arrays(rng: np.random.Generator, *, layers: int = 1) -> list[np.ndarray]:
    """Parameters of an Rnnlm with V = 11, D = 5, H = 4, in the book's order."""
    shapes = [(11, 5)]
    for layer in range(layers):
        shapes += [(4 if layer else 5, 16), (4, 16), (16,)]  # type: ignore[list-item]
    shapes += [(4, 11), (11,)]  # type: ignore[list-item]
    return [rng.normal(size=shape).astype(np.float16) for shape in shapes]


@pytest.mark.parametrize("layers", [1, 2])
def test_imported_model_computes_the_books_logits(rng: np.random.Generator, layers: int) -> None:
    arrays = book_arrays(rng, layers=layers)
    exact = [a.astype(np.float64) for a in arrays]
    words = rng.integers(0, 11, (3, 6))
    hidden = TimeEmbedding(exact[0]).forward(words)
    for layer in range(layers):
        hidden = TimeLSTM(*exact[1 + 3 * layer : 4 + 3 * layer]).forward(hidden)
    expected = TimeAffine(*exact[-2:]).forward(hidden)

    logits, _ = model_from_book(arrays)(torch.from_numpy(words.T.copy()))
    np.testing.assert_allclose(logits.detach().transpose(0, 1), expected, rtol=0, atol=1e-5)


def test_tied_matrices_make_a_better_rnnlm(rng: np.random.Generator) -> None:
    shapes = [(11, 4), *[(4, 16), (4, 16), (16,)] * 2, (4, 11), (11,)]
    arrays = [rng.normal(size=shape).astype(np.float16) for shape in shapes]
    assert type(model_from_book(arrays)) is Rnnlm
    arrays[-2] = arrays[0].T
    model = model_from_book(arrays).eval()
    assert type(model) is BetterRnnlm
    assert model.linear.weight is model.embedding.weight
    words = torch.from_numpy(rng.integers(0, 11, (6, 3)))
    _, sizes, weights = read_book_model(arrays)
    untied = Rnnlm(**sizes)
    untied.load_state_dict(weights)
    expected, _ = untied(words)
    torch.testing.assert_close(model(words)[0], expected, rtol=0, atol=0)


class BookSeq2seq:
    """The book's encoder and decoders on the NumPy layers: scores of every next token."""

    def __init__(self, name: str, arrays: list[np.ndarray]) -> None:
        exact = [a.astype(np.float64) for a in arrays]
        self.name = name
        self.encoder = TimeEmbedding(exact[0]), TimeLSTM(*exact[1:4])
        self.embedding, self.affine = TimeEmbedding(exact[4]), TimeAffine(*exact[8:])
        self.lstm = TimeLSTM(*exact[5:8], stateful=True)

    def forward(self, xs: np.ndarray, ts: np.ndarray) -> np.ndarray:
        """Return (N, T, V) from the sources xs (N, S) and the targets ts (N, T)."""
        embedding, lstm = self.encoder
        memory = lstm.forward(embedding.forward(xs))
        h = memory[:, -1]
        self.lstm.set_state(h)
        hs = np.repeat(h[:, None], ts.shape[1], axis=1)
        out = self.embedding.forward(ts)
        if self.name == "PeekySeq2seq":
            out = np.concatenate([hs, out], axis=2)
        out = self.lstm.forward(out)
        if self.name == "PeekySeq2seq":
            out = np.concatenate([hs, out], axis=2)
        if self.name == "AttentionSeq2seq":
            scores = np.exp(np.einsum("nth,nsh->nts", out, memory))
            weights = scores / scores.sum(axis=2, keepdims=True)
            out = np.concatenate([np.einsum("nts,nsh->nth", weights, memory), out], axis=2)
        return self.affine.forward(out)


# What the decoder's LSTM and affine layer take of H numbers beside the usual.
SEQ2SEQ = {"Seq2seq": (0, 1), "PeekySeq2seq": (1, 2), "AttentionSeq2seq": (0, 2)}


def book_seq2seq_arrays(rng: np.random.Generator, name: str) -> list[np.ndarray]:
    """Parameters with V = 11, D = H = 4, whose shapes say as little as they can."""
    seen, taken = SEQ2SEQ[name]
    shapes = [(11, 4), (4, 16), (4, 16), (16,)]
    shapes += [(11, 4), (4 + 4 * seen, 16), (4, 16), (16,), (4 * taken, 11), (11,)]
    return [rng.normal(size=shape).astype(np.float16) for shape in shapes]


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_seq2seq_models_are_recognised_by_their_shapes(rng: np.random.Generator, name: str) -> None:
    found = read_book_model(book_seq2seq_arrays(rng, name))
    assert found.name == name
    assert found.arguments == {
        "vocab_size": 11,
        "embed_size": 4,
        "hidden_size": 4,
        "target_vocab_size": 11,
    }


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_imported_seq2seq_computes_the_books_scores(rng: np.random.Generator, name: str) -> None:
    arrays = book_seq2seq_arrays(rng, name)
    xs, ts = rng.integers(0, 11, (3, 7)), rng.integers(0, 11, (3, 5))
    expected = BookSeq2seq(name, arrays).forward(xs, ts)
    model = model_from_book(arrays)
    assert type(model).__name__ == name
    memory = model.encode(torch.from_numpy(xs.T.copy()))
    logits, _, _ = model.decode(torch.from_numpy(ts.T.copy()), memory)
    np.testing.assert_allclose(logits.detach().transpose(0, 1), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_cbow_vectors_come_in_the_order_of_their_ids(
    rng: np.random.Generator, tmp_path: Path, protocol: int
) -> None:
    vectors = rng.normal(size=(3, 4)).astype(np.float16)
    words = {2: "goodbye", 0: "you", 1: "say"}
    content = {"word_vecs": vectors, "word_to_id": {w: i for i, w in words.items()}}
    path = tmp_path / "cbow_params.pkl"
    path.write_bytes(pickle.dumps({**content, "id_to_word": words}, protocol))
    loaded = load_book_vectors(path)
    assert loaded.words == ["you", "say", "goodbye"]
    np.testing.assert_array_equal(loaded.vectors, vectors.astype(np.float32))


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_files_of_old_and_new_numpy_load(
    rng: np.random.Generator, tmp_path: Path, module: bytes
) -> None:
    arrays = book_arrays(rng)
    content = pickle.dumps(arrays, protocol=3)  # names end in a line break: no lengths to mend
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        content = content.replace(name, module)
    path = tmp_path / "Rnnlm.pkl"
    path.write_bytes(content)
    for loaded, array in zip(load_book_arrays(path), arrays, strict=True):
        np.testing.assert_array_equal(loaded, array)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def test_file_that_names_other_code_is_refused_unrun(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([Payload(tmp_path / "harm")]))
    with pytest.raises(ValueError, match=r"model\.pkl is no model of the book: .*mkdir is not adm"):
        load_book_arrays(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_vectors_that_name_other_code_are_refused_unrun(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "cbow_params.pkl"
    content = {"word_vecs": np.ones((1, 2)), "id_to_word": {0: Payload(tmp_path / "harm")}}
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(ValueError, match=r"cbow_params\.pkl is not a pickle of arrays: .*mkdir"):
        load_book_vectors(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        [np.ones((1, 2))],
        {"word_vecs": np.ones((1, 2))},
        {"word_vecs": np.ones(2), "id_to_word": {0: "a", 1: "b"}},
        {"word_vecs": np.ones((2, 2), np.int64), "id_to_word": {0: "a", 1: "b"}},
        {"word_vecs": np.ones((2, 2)), "id_to_word": {0: "a"}},
        {"word_vecs": np.ones((2, 2)), "id_to_word": {0: "a", 2: "b"}},
        {"word_vecs": np.ones((2, 2)), "id_to_word": {0: "a", 1: 5}},
        {"word_vecs": "ab", "id_to_word": {0: "a", 1: "b"}},
    ],
    ids=["list", "no-words", "vector", "integers", "too-few", "gap", "number", "text"],
)
def test_files_without_cbow_vectors_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "cbow_params.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="cbow_params.pkl holds no vectors of the book's CBOW"):
        load_book_vectors(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([np.zeros(1000)])[:-20],
        pickle.dumps({"embed_W": np.zeros(3)}),
        pickle.dumps([1.0, 2.0]),
        pickle.dumps([np.arange(3)]),
        pickle.dumps([np.array(["a"], dtype=object)]),
    ],
    ids=["empty", "text", "truncated", "dict", "numbers", "integers", "objects"],
)
def test_files_that_hold_anything_else_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pkl is no model of the book"):
        load_book_arrays(path)


def test_arrays_of_another_model_are_refused(rng: np.random.Generator) -> None:
    arrays = book_arrays(rng)
    with pytest.raises(ValueError, match="expected 6 arrays, or 3 more .* got 5"):
        model_from_book(arrays[:-1])
    arrays[2] = arrays[2][:, :4]
    with pytest.raises(ValueError, match="do not make an LSTM language model"):
        model_from_book(arrays)


@pytest.mark.parametrize("index", [0, 1, 5, 6, 8, 9])
def test_arrays_of_no_seq2seq_are_refused(rng: np.random.Generator, index: int) -> None:
    arrays = book_seq2seq_arrays(rng, "PeekySeq2seq")
    arrays[index] = arrays[index][..., :-1]
    with pytest.raises(ValueError, match="do not make a Seq2seq"):
        read_book_model(arrays)
    arrays[index] = arrays[index].ravel()[:1]
    with pytest.raises(ValueError, match="do not make a Seq2seq"):
        read_book_model(arrays)


# Runs of them


def pickled(content: object, path: Path) -> str:
    path.write_bytes(pickle.dumps(content))
    return str(path)


@pytest.mark.parametrize("tied", [False, True])
def test_imported_language_model_is_a_run(
    rng: np.random.Generator, tmp_path: Path, tied: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = [(4, 4), *[(4, 16), (4, 16), (16,)] * 2, (4, 4), (4,)]
    arrays = [rng.normal(size=shape).astype(np.float16) for shape in shapes]
    if tied:
        arrays[-2] = arrays[0].T
    run, text = str(tmp_path / "run"), tmp_path / "text.txt"
    text.write_text("a b\n" * 2000)
    assert main(["import-book", pickled(arrays, tmp_path / "Rnnlm.pkl"), run]) == 0
    assert type(Run.open(run).load_model()) is (BetterRnnlm if tied else Rnnlm)
    capsys.readouterr()
    assert main(["show", run, "--data", str(text)]) == 0
    assert set(capsys.readouterr().out.split()) == {"a", "b"}
    assert main(["eval", "lm", run, "--data", str(text)]) == 0
    found = float(capsys.readouterr().out.splitlines()[-1])
    expected = evaluate(model_from_book(arrays).eval(), load_corpus(text).test)
    assert found == pytest.approx(expected, abs=0.006)
    assert "already holds a run" in error_line(
        capsys, ["import-book", str(tmp_path / "Rnnlm.pkl"), run]
    )


@pytest.mark.skipif("seq2seq" not in TASKS, reason="no task seq2seq here")
@pytest.mark.parametrize("name", SEQ2SEQ)
def test_imported_seq2seq_is_a_run(
    rng: np.random.Generator, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = book_seq2seq_arrays(rng, name)
    run, questions = str(tmp_path / "run"), tmp_path / "questions.txt"
    lines = (f"{a}+{b} _{b}{a}\n" for a in range(8) for b in range(8))  # of 11 characters
    questions.write_text("".join(lines))
    file = pickled(arrays, tmp_path / "model.pkl")
    assert main(["import-book", file, run, "--reversed"]) == 0
    record = Run.open(run)
    assert record.config.reversed  # type: ignore[attr-defined]
    expected, model = model_from_book(arrays), record.load_model()
    assert type(model) is type(expected)
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert main(["eval", "seq2seq", run, "--data", str(questions)]) == 0
    assert 0 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1
    pytest.importorskip("matplotlib")
    assert "no data of its own: give --data" in error_line(capsys, ["show", run])
    assert main(["show", run, "--data", str(questions)]) == 0
    pictures = [path.name for path in sorted(Path(run, "plots").glob("*.png"))]
    heat_maps = [f"attention-{n}.png" for n in (1, 2, 3, 4)]
    assert pictures == (heat_maps if name == "AttentionSeq2seq" else [])


def test_imported_vectors_are_evaluated(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {i: f"w{i}" for i in range(6)}
    content = {"word_vecs": rng.normal(size=(6, 4)).astype(np.float16), "id_to_word": words}
    file, out, pairs = pickled(content, tmp_path / "c.pkl"), tmp_path / "out", tmp_path / "pairs"
    pairs.write_text("w1\tw2\t9\nw1\tw3\t1\nw1\tw5\t5\n")
    assert main(["import-book", file, str(out)]) == 0
    assert main(["eval", "word2vec", str(out), "--pairs", str(pairs)]) == 0
    found = capsys.readouterr().out.splitlines()[-1]
    assert found == f"{load_book_vectors(file).evaluate_word_pairs(pairs).spearman.statistic:.4f}"
    assert "already holds word vectors" in error_line(capsys, ["import-book", file, str(out)])


def test_reversed_sources_are_those_of_a_seq2seq(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = {"word_vecs": np.ones((1, 2)), "id_to_word": {0: "a"}}
    for content in (book_arrays(rng), vectors):
        command = ["import-book", pickled(content, tmp_path / "m.pkl"), str(tmp_path / "run")]
        assert "--reversed is for a Seq2seq" in error_line(capsys, [*command, "--reversed"])
    assert not (tmp_path / "run").exists()


# Its results


@needs_ptb
def test_penn_treebank_has_its_published_counts() -> None:
    corpus = load_corpus(PTB)
    sizes = (len(corpus.train), len(corpus.valid), len(corpus.test), len(corpus.vocabulary))
    assert sizes == (929_589, 73_760, 82_430, 10_000)


@needs_ptb
@needs_checkpoint
def test_books_model_evaluates_to_its_perplexity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "book")
    assert main(["import-book", str(CHECKPOINT), run]) == 0
    assert main(["eval", "lm", run, "--data", str(PTB)]) == 0
    figure = float(capsys.readouterr().out.splitlines()[-1])
    assert figure == pytest.approx(136.1, abs=0.3)


@needs_ptb
def test_simple_rnnlm_learns_1000_words_in_100_epochs() -> None:
    task = LanguageTask.load(preset_config("simple-rnnlm", data=str(PTB)))
    assert task.config.vocab_size == 418
    events: list[dict[str, Any]] = []
    model = MODELS["simple-rnnlm"](task.config.vocab_size)
    Trainer(model, task, listeners=[events.append]).fit()
    perplexities = [event["train"]["perplexity"] for event in events if event["event"] == "epoch"]
    assert 330 < perplexities[0] < 430
    assert 4 < perplexities[-1] < 7.5
