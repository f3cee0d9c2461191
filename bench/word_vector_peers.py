"""Word vectors trained by seqkern and by gensim: the same text, vocabulary, options and epochs."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gensim
import numpy as np
import torch
from gensim.models import Word2Vec as GensimWord2Vec
from text_words import write_zipf_text

from seqkern.data import encode_words
from seqkern.vectors import KeyedVectors, Word2Vec

GENSIM_DATA = Path(gensim.__file__).parent / "test/test_data"
PAIRS = {"wordsim-353": "wordsim353.tsv", "SimLex-999": "simlex999.txt"}
WORDS, VOCABULARY = 2_000_000, 10_000


@dataclass(frozen=True)
class Text:
    """A text file to train on."""

    name: str
    path: Path
    words: int


def zipf_text(folder: Path, sentence: int, words: int = WORDS) -> Text:
    """Write the text: `sentence` words a line, word r as often as 1/r."""
    path = folder / f"zipf-{sentence}-{words}.txt"
    write_zipf_text(path, words, VOCABULARY)
    if sentence != 20:
        tokens = path.read_text().split()
        lines = (tokens[i : i + sentence] for i in range(0, len(tokens), sentence))
        path.write_text("".join(" ".join(line) + "\n" for line in lines))
    return Text(f"Zipf, sentences of {sentence}", path, words)


def repeated_text(folder: Path, source: Path, times: int) -> Text:
    """Write a text so many times over."""
    content = source.read_text()
    path = folder / f"repeated-{source.name}"
    path.write_text(content * times)
    return Text(f"{source.stem}, {times} times", path, len(content.split()) * times)


def trained(peer: str, text: Text, options: dict[str, Any], threads: int) -> Any:
    """A model of a peer with the vocabulary of a text, not trained yet."""
    if peer == "gensim":
        model = GensimWord2Vec(workers=threads, **options)
        model.build_vocab(corpus_file=str(text.path))
        return model
    shared = {"shared_negatives": True} if peer == "seqkern, shared negatives" else {}
    shared |= {"deterministic": True} if peer == "seqkern, deterministic" else {}
    model = Word2Vec(workers=threads, **options, **shared)
    model.build_vocab(text.path)
    return model


def training(peer: str, model: Any, text: Text, epochs: int) -> Callable[[], None]:
    """What trains a model for some epochs."""
    if peer == "gensim":
        return lambda: model.train(
            corpus_file=str(text.path),
            total_words=model.corpus_total_words,
            total_examples=model.corpus_count,
            epochs=epochs,
        )
    return lambda: model.train(text.path, epochs=epochs)


def correlations(vectors: Any) -> dict[str, float]:
    """Spearman's correlation with people's judgement of similarity, by gensim's files."""
    return {
        name: float(vectors.evaluate_word_pairs(str(GENSIM_DATA / file))[1][0])
        for name, file in PAIRS.items()
    }


def matrices(peer: str, model: Any) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Words, and their input and output vectors (V, d)."""
    if peer == "gensim":
        vectors = [torch.from_numpy(np.array(m)) for m in (model.wv.vectors, model.syn1neg)]
        return model.wv.index_to_key, *vectors
    size, words = model.objective.vector_size, model.words
    t = model.trainable
    return words, t.input[: len(words), :size], t.output[:, :size]


def loss_of(peer: str, model: Any, text: Text, options: dict[str, Any]) -> float:
    """Mean loss of an example of a text, with negatives that no peer was trained with."""
    words, input, output = matrices(peer, model)
    judge = Word2Vec(**{**options, "seed": 12345}, workers=1)
    judge.build_vocab(text.path)
    place = {word: i for i, word in enumerate(words)}
    order = torch.tensor([place[word] for word in judge.words])
    t, size = judge.trainable, options["vector_size"]
    t.input[:, :size], t.output[:, :size] = input[order], output[order]
    ids = encode_words(text.path, judge.words).ids
    # A rate so small that no vector changes.
    totals = t.train(
        ids,
        0,
        len(ids),
        rate=1e-30,
        rate_step=0.0,
        epoch=0,
        workers=1,
        deterministic=False,
    )
    return totals.loss / totals.examples


def gensim_process(arguments: list[str]) -> None:
    """Train on a file, and save the vectors, as a user's script does it."""
    path, out, sg, threads, epochs = arguments
    model = GensimWord2Vec(
        corpus_file=path,
        vector_size=100,
        sg=int(sg),
        sample=0,
        workers=int(threads),
        epochs=int(epochs),
    )
    model.wv.save_word2vec_format(out, binary=True)


def versions() -> str:
    """The versions of what is measured."""
    import scipy

    return f"gensim {gensim.__version__}, NumPy {np.__version__}, SciPy {scipy.__version__}"


def load(path: Path) -> KeyedVectors:
    """Read vectors in word2vec's binary format."""
    return KeyedVectors.load_word2vec_format(path, binary=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gensim_process(sys.argv[1:])
