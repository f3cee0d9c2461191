"""The model zoo: plain torch modules on `seqkern.nn`."""

from seqkern.models.awd import AwdRnnlm, activation_penalty
from seqkern.models.book import load_book_arrays, model_from_book
from seqkern.models.cbow import CBOW, SimpleCBOW, SimpleSkipGram, SkipGram
from seqkern.models.char_rnn import CharRnn
from seqkern.models.generation import generate
from seqkern.models.layers import CELLS, State, recurrent_layer
from seqkern.models.names import NameClassifier, NameGenerator
from seqkern.models.ngram import NgramModel
from seqkern.models.onnx import export_onnx
from seqkern.models.pretrained import Pretrained, from_pretrained
from seqkern.models.rnnlm import MODELS, BetterRnnlm, Rnnlm, SimpleRnnlm
from seqkern.models.search import SearchResult, beam_search, greedy_search
from seqkern.models.seq2seq import (
    AttentionDecoder,
    AttentionSeq2seq,
    Decoder,
    Encoder,
    EncoderDecoder,
    Memory,
    PeekyDecoder,
    PeekySeq2seq,
    Seq2seq,
)
from seqkern.models.series import (
    SeriesRegressor,
    VectorAutoregression,
    WindowMLP,
    forecast_errors,
    window_forecast,
)
from seqkern.models.tagger import BiLstmTagger
from seqkern.models.transformer import TransformerSeq2seq

__all__ = [
    "CBOW",
    "CELLS",
    "MODELS",
    "AttentionDecoder",
    "AttentionSeq2seq",
    "AwdRnnlm",
    "BetterRnnlm",
    "BiLstmTagger",
    "CharRnn",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Memory",
    "NameClassifier",
    "NameGenerator",
    "NgramModel",
    "PeekyDecoder",
    "PeekySeq2seq",
    "Pretrained",
    "Rnnlm",
    "SearchResult",
    "Seq2seq",
    "SeriesRegressor",
    "SimpleCBOW",
    "SimpleRnnlm",
    "SimpleSkipGram",
    "SkipGram",
    "State",
    "TransformerSeq2seq",
    "VectorAutoregression",
    "WindowMLP",
    "activation_penalty",
    "beam_search",
    "export_onnx",
    "forecast_errors",
    "from_pretrained",
    "generate",
    "greedy_search",
    "load_book_arrays",
    "model_from_book",
    "recurrent_layer",
    "window_forecast",
]
