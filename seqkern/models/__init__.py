"""The model zoo: plain torch modules on `seqkern.nn`."""

from seqkern.models.attention import TimeAttention
from seqkern.models.cbow import CBOW, SimpleCBOW, SimpleSkipGram, SkipGram
from seqkern.models.recurrent_stack import RecurrentStack
from seqkern.models.rnnlm import MODELS, BetterRnnlm, Rnnlm, SimpleRnnlm, State
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
from seqkern.models.transformer import TransformerSeq2seq

__all__ = [
    "CBOW",
    "MODELS",
    "AttentionDecoder",
    "AttentionSeq2seq",
    "BetterRnnlm",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Memory",
    "PeekyDecoder",
    "PeekySeq2seq",
    "RecurrentStack",
    "Rnnlm",
    "SearchResult",
    "Seq2seq",
    "SimpleCBOW",
    "SimpleRnnlm",
    "SimpleSkipGram",
    "SkipGram",
    "State",
    "TimeAttention",
    "TransformerSeq2seq",
    "beam_search",
    "greedy_search",
]
