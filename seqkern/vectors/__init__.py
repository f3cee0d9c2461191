"""Word vectors: training, queries, evaluation and files."""

from seqkern.vectors.huffman import HuffmanTree, huffman
from seqkern.vectors.keyed_vectors import KeyedVectors
from seqkern.vectors.subwords import ngram_hash, ngrams, subword_table

__all__ = ["HuffmanTree", "KeyedVectors", "huffman", "ngram_hash", "ngrams", "subword_table"]
