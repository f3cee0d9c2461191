"""Sequence models on fused C++/CUDA kernels, as drop-in PyTorch modules."""

from importlib.metadata import version

from seqkern._build_info import build_info  # first: loads seqkern._C, which registers the operators

from seqkern import cuda, functional, nn, vectors  # isort: skip
from seqkern.vectors import KeyedVectors, Word2Vec  # isort: skip

__version__ = version("seqkern")

__all__ = [
    "KeyedVectors",
    "Word2Vec",
    "__version__",
    "build_info",
    "cuda",
    "functional",
    "nn",
    "vectors",
]
