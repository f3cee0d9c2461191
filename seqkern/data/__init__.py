"""Vocabularies, corpora and batches of token ids. Imports no kernel."""

from seqkern.data.batches import (
    Batches,
    RandomBatches,
    SequentialBatches,
    evaluation_blocks,
)
from seqkern.data.corpus import Corpus, load_corpus
from seqkern.data.text import LEVELS, detokenize, tokenize
from seqkern.data.vocabulary import Vocabulary

__all__ = [
    "LEVELS",
    "Batches",
    "Corpus",
    "RandomBatches",
    "SequentialBatches",
    "Vocabulary",
    "detokenize",
    "evaluation_blocks",
    "load_corpus",
    "tokenize",
]
