"""Vocabularies, corpora and batches of token ids. Imports no kernel."""

from seqkern.data.batches import (
    Batches,
    RandomBatches,
    SequentialBatches,
    VariableLengthBatches,
    evaluation_blocks,
)
from seqkern.data.corpus import Corpus, load_corpus
from seqkern.data.series import noisy_sine, windows
from seqkern.data.text import LEVELS, detokenize, tokenize
from seqkern.data.vocabulary import Vocabulary
from seqkern.data.words import EncodedText, WordCounts, count_words, encode_words

__all__ = [
    "LEVELS",
    "Batches",
    "Corpus",
    "EncodedText",
    "RandomBatches",
    "SequentialBatches",
    "VariableLengthBatches",
    "Vocabulary",
    "WordCounts",
    "count_words",
    "detokenize",
    "encode_words",
    "evaluation_blocks",
    "load_corpus",
    "noisy_sine",
    "tokenize",
    "windows",
]
