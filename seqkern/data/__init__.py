"""Vocabularies, corpora and batches of token ids. Imports no kernel."""

from seqkern.data.batches import (
    Batches,
    RandomBatches,
    SequentialBatches,
    evaluation_blocks,
)
from seqkern.data.corpus import Corpus, load_corpus
from seqkern.data.sequences import (
    SequencePairs,
    addition_questions,
    date_questions,
    read_questions,
    read_token_pairs,
    write_questions,
)
from seqkern.data.text import LEVELS, detokenize, tokenize
from seqkern.data.vocabulary import Vocabulary
from seqkern.data.words import EncodedText, WordCounts, count_words, encode_words

__all__ = [
    "LEVELS",
    "Batches",
    "Corpus",
    "EncodedText",
    "RandomBatches",
    "SequencePairs",
    "SequentialBatches",
    "Vocabulary",
    "WordCounts",
    "addition_questions",
    "count_words",
    "date_questions",
    "detokenize",
    "encode_words",
    "evaluation_blocks",
    "load_corpus",
    "read_questions",
    "read_token_pairs",
    "tokenize",
    "write_questions",
]
