"""Word vectors: training, queries, evaluation and files."""

from seqkern.vectors.keyed_vectors import KeyedVectors

__all__ = ["KeyedVectors"]
