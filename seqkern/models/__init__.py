"""The model zoo: plain torch modules on `seqkern.nn`."""

from seqkern.models.book import load_book_arrays, model_from_book
from seqkern.models.cbow import CBOW, SimpleCBOW, SimpleSkipGram, SkipGram
from seqkern.models.onnx import export_onnx
from seqkern.models.pretrained import Pretrained, from_pretrained
from seqkern.models.rnnlm import MODELS, BetterRnnlm, Rnnlm, SimpleRnnlm, State

__all__ = [
    "CBOW",
    "MODELS",
    "BetterRnnlm",
    "Pretrained",
    "Rnnlm",
    "SimpleCBOW",
    "SimpleRnnlm",
    "SimpleSkipGram",
    "SkipGram",
    "State",
    "export_onnx",
    "from_pretrained",
    "load_book_arrays",
    "model_from_book",
]
