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

from helpers import threads
from reference import TimeAffine, TimeEmbedding, TimeLSTM, TimeRNN, TimeSoftmaxWithLoss, mapping
from seqkern.cli import main
from seqkern.data import Corpus, Vocabulary, load_corpus
from seqkern.models import MODELS
from seqkern.tasks import preset_config
from seqkern.tasks.language import LanguageConfig, LanguageTask
from seqkern.training import Trainer, load_book_arrays, rnnlm_from_book

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

    logits, _ = rnnlm_from_book(arrays)(torch.from_numpy(words.T.copy()))
    np.testing.assert_allclose(logits.detach().transpose(0, 1), expected, rtol=0, atol=1e-5)


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
        rnnlm_from_book(arrays[:-1])
    arrays[2] = arrays[2][:, :4]
    with pytest.raises(ValueError, match="do not make an LSTM language model"):
        rnnlm_from_book(arrays)


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
