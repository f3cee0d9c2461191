"""Word vectors: training, queries, evaluation and files."""

from seqkern.vectors.huffman import HuffmanTree, huffman
from seqkern.vectors.keyed_vectors import KeyedVectors
from seqkern.vectors.subwords import ngram_hash, ngrams, subword_table
from seqkern.vectors.word2vec import TrainingReport, Word2Vec

__all__ = [
    "HuffmanTree",
    "KeyedVectors",
    "TrainingReport",
    "Word2Vec",
    "huffman",
    "ngram_hash",
    "ngrams",
    "subword_table",
]
