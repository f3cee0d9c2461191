"""Vocabularies, corpora and batches of token ids. Imports no kernel."""

from seqkern.data.batches import (
    Batches,
    RandomBatches,
    SequentialBatches,
    VariableLengthBatches,
    evaluation_blocks,
)
from seqkern.data.corpus import Corpus, load_corpus
from seqkern.data.names import NameData, Names, load_names
from seqkern.data.sequences import (
    SequencePairs,
    addition_questions,
    date_questions,
    read_questions,
    read_token_pairs,
    write_questions,
)
from seqkern.data.series import noisy_sine, windows
from seqkern.data.tags import TagData, Tagged, load_tags
from seqkern.data.text import LEVELS, detokenize, tokenize
from seqkern.data.vocabulary import Vocabulary
from seqkern.data.words import EncodedText, WordCounts, count_words, encode_words

__all__ = [
    "LEVELS",
    "Batches",
    "Corpus",
    "EncodedText",
    "NameData",
    "Names",
    "RandomBatches",
    "SequencePairs",
    "SequentialBatches",
    "TagData",
    "Tagged",
    "VariableLengthBatches",
    "Vocabulary",
    "WordCounts",
    "addition_questions",
    "count_words",
    "date_questions",
    "detokenize",
    "encode_words",
    "evaluation_blocks",
    "load_corpus",
    "load_names",
    "load_tags",
    "noisy_sine",
    "read_questions",
    "read_token_pairs",
    "tokenize",
    "windows",
    "write_questions",
]
