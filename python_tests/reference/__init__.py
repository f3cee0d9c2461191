"""NumPy reference layers: the oracle of every kernel, and a text to learn the kernels from.

Everything is float64, written for reading, and free of torch.

`RecurrentReference` is the definition of every recurrent cell and option. It takes torch's arrays,
by the arguments of `seqkern.functional.recurrent`; its cells are in `cells`, its steps in
`recurrence`, and what it differentiates is a `Variable`, whose gradient is added to.

`CrossEntropy` and `LinearCrossEntropy` likewise define the softmax loss and its options, and
`WordVectors` the training of word vectors.

The other layers are a textbook's network, piece by piece. Their conventions:

- Rows are samples. An affine map is `x @ W + b`, a recurrent one `x @ Wx + h @ Wh + b`.
- Shapes are spelled N (batch), T (time steps), D (input size), H (hidden size), V (vocabulary).
- A layer for one step takes (N, ...); a `Time...` layer takes (N, T, ...), batch first.
- `params` and `grads` are two lists in the same order. `params` holds the caller's own arrays, so
  two layers may share one. `backward` OVERWRITES `grads`, in place; it never adds to them.
- `forward` remembers what `backward` needs; call `backward` once or more after each `forward`.
- In names, `dx` is the gradient of the loss with respect to `x`, and has the shape of `x`.

`mapping` translates weights, gradients and sequences to torch's conventions and back.
"""

from . import mapping
from .affine import TimeAffine
from .attention import AttentionWeight, TimeAttention, WeightSum
from .cells import CELLS
from .dropout import TimeDropout
from .embedding import Embedding, TimeEmbedding
from .layer_norm import LayerNorm
from .negative_sampling import CBOW, EmbeddingDot, NegativeSamplingLoss, SigmoidWithLoss, SkipGram
from .numerical import numerical_gradient
from .recurrent import LSTM, RNN, TimeLSTM, TimeRNN
from .sequence import RecurrentReference, RecurrentResult
from .simple_word2vec import SimpleCBOW, SimpleSkipGram
from .softmax import (
    CrossEntropy,
    CrossEntropyResult,
    LinearCrossEntropy,
    SoftmaxWithLoss,
    TimeSoftmaxWithLoss,
)
from .variable import Variable
from .word_vectors import WordVectors, draw_alias, philox

__all__ = [
    "CBOW",
    "CELLS",
    "LSTM",
    "RNN",
    "AttentionWeight",
    "CrossEntropy",
    "CrossEntropyResult",
    "Embedding",
    "EmbeddingDot",
    "LayerNorm",
    "LinearCrossEntropy",
    "NegativeSamplingLoss",
    "RecurrentReference",
    "RecurrentResult",
    "SigmoidWithLoss",
    "SimpleCBOW",
    "SimpleSkipGram",
    "SkipGram",
    "SoftmaxWithLoss",
    "TimeAffine",
    "TimeAttention",
    "TimeDropout",
    "TimeEmbedding",
    "TimeLSTM",
    "TimeRNN",
    "TimeSoftmaxWithLoss",
    "Variable",
    "WeightSum",
    "WordVectors",
    "draw_alias",
    "mapping",
    "numerical_gradient",
    "philox",
]
