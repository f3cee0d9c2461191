"""Word vectors by negative sampling: telling the word that was seen from a few that were drawn.

One hidden state h and one word, whose vector is w and whose label is t (1: seen, 0: drawn)::

    s = h . w
    loss = -log sigmoid(s)    for t = 1
           -log sigmoid(-s)   for t = 0
    dloss/ds = sigmoid(s) - t

CBOW and skip-gram differ in h: the mean of the context's vectors, or the vector of the middle word.

The names are those of Saito, "Deep Learning from Scratch 2", chapters 3 and 4. What its layers draw
themselves, these are given: the negatives.
"""

import numpy as np

from ._arrays import (
    Array,
    IndexArray,
    require_float64,
    require_indices,
    require_rank,
    require_shape,
)
from .embedding import Embedding


class EmbeddingDot:
    """The product of each sample's hidden state with the vector of one word.

    Parameters
    ----------
    W : array (V, D), float64

    Raises
    ------
    TypeError, ValueError, IndexError
        If W is not float64, a shape does not fit, or a word number is outside 0 .. V - 1.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import EmbeddingDot
    >>> layer = EmbeddingDot(np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> layer.forward(np.array([[2.0, 3.0], [4.0, 5.0]]), np.array([1, 1])).tolist()
    [3.0, 5.0]
    >>> layer.backward(np.array([1.0, 10.0])).tolist()
    [[0.0, 1.0], [0.0, 10.0]]
    >>> layer.grads[0].tolist()
    [[0.0, 0.0], [42.0, 53.0]]
    """

    def __init__(self, W: Array) -> None:
        self.embedding = Embedding(W)
        self.params, self.grads = self.embedding.params, self.embedding.grads

    def forward(self, h: Array, indices: IndexArray) -> Array:
        """Return the products (N,) of h (N, D) with the rows of the words `indices` (N,)."""
        require_shape("h", h, (len(indices), self.params[0].shape[1]))
        self.h, self.rows = h, self.embedding.forward(indices)
        products: Array = (self.rows * h).sum(axis=1)
        return products

    def backward(self, dout: Array) -> Array:
        """Return dh (N, D) from dout (N,), and set `grads`."""
        require_shape("dout", dout, (len(self.h),))
        self.embedding.backward(dout[:, np.newaxis] * self.h)
        return dout[:, np.newaxis] * self.rows


class SigmoidWithLoss:
    """Mean binary cross-entropy of sigmoid(x) with labels 0 and 1.

    Raises
    ------
    ValueError
        If a shape does not fit, or a label is neither 0 nor 1.

    Notes
    -----
    -log sigmoid(x) is computed as max(-x, 0) + log(1 + exp(-|x|)), in which exp cannot overflow and
    the logarithm is never that of 0. The mean over no samples is defined as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import SigmoidWithLoss
    >>> layer = SigmoidWithLoss()
    >>> loss = layer.forward(np.zeros(2), np.array([0, 1]))
    >>> bool(np.isclose(loss, np.log(2.0)))
    True
    >>> layer.backward().tolist()
    [0.25, -0.25]
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []

    def forward(self, x: Array, t: IndexArray) -> float:
        """Return the loss of scores x (N,) and labels t (N,)."""
        require_rank("x", x, "N")
        require_shape("t", t, x.shape)
        if not np.isin(t, (0, 1)).all():
            raise ValueError(f"t: given {t}, expected 0 and 1 alone")
        self.t = t
        smaller = np.exp(-np.abs(x))
        self.y = np.where(x >= 0.0, 1.0 / (1.0 + smaller), smaller / (1.0 + smaller))
        # 1 - y loses all digits where y is almost 1: the other sigmoid is computed by itself.
        self.rest = np.where(x >= 0.0, smaller / (1.0 + smaller), 1.0 / (1.0 + smaller))
        z = np.where(t == 1, -x, x)
        losses = np.maximum(z, 0.0) + np.log1p(smaller)
        return float(losses.sum()) / max(len(x), 1)

    def backward(self, dout: float = 1.0) -> Array:
        """Return dx (N,); dout is the gradient of the loss itself."""
        dx: Array = np.where(self.t == 1, -self.rest, self.y) * (dout / max(len(self.t), 1))
        return dx


class NegativeSamplingLoss:
    """Loss of one word that was seen and K that were drawn, a sample: the mean over samples.

    Parameters
    ----------
    W : array (V, D), float64

    Raises
    ------
    TypeError, ValueError, IndexError
        As `EmbeddingDot`.

    Notes
    -----
    Mikolov, Sutskever, Chen, Corrado and Dean, "Distributed representations of words and phrases
    and their compositionality", NIPS 2013, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import NegativeSamplingLoss
    >>> layer = NegativeSamplingLoss(np.zeros((5, 2)))
    >>> loss = layer.forward(np.ones((1, 2)), np.array([3]), np.array([[0, 4]]))
    >>> bool(np.isclose(loss, 3 * np.log(2.0)))
    True
    >>> dh = layer.backward()
    >>> layer.grads[0][:, 0].tolist()
    [0.5, 0.0, 0.0, -0.5, 0.5]
    """

    def __init__(self, W: Array) -> None:
        require_float64("W", W)
        self.params = [W]
        self.grads = [np.zeros_like(W)]

    def forward(self, h: Array, target: IndexArray, negatives: IndexArray) -> float:
        """Return the loss of h (N, D), target (N,) and negatives (N, K)."""
        require_rank("h", h, "N, D")
        require_shape("target", target, (len(h),))
        require_rank("negatives", negatives, "N, K")
        require_shape("negatives", negatives, (len(h), negatives.shape[1]))
        (W,) = self.params
        # A pair of layers for the target, and for each column of negatives.
        columns = [target, *negatives.T]
        self.dots = [EmbeddingDot(W) for _ in columns]
        self.losses = [SigmoidWithLoss() for _ in columns]
        total = 0.0
        for k, words in enumerate(columns):
            label = np.full(len(h), 1 if k == 0 else 0)
            total += self.losses[k].forward(self.dots[k].forward(h, words), label)
        self.h_shape = h.shape
        return total

    def backward(self, dout: float = 1.0) -> Array:
        """Return dh (N, D), and set `grads`; dout is the gradient of the loss itself."""
        (dW,) = self.grads
        dW[...] = 0.0
        dh = np.zeros(self.h_shape)
        for dot, loss in zip(self.dots, self.losses, strict=True):
            dh += dot.backward(loss.backward(dout))
            dW += dot.grads[0]
        return dh


class CBOW:
    """Continuous bag of words: the middle word is predicted from the mean of its context's vectors.

    Parameters
    ----------
    W_in : array (V, D), float64
        Vectors of the words as contexts: those that are kept in the end.
    W_out : array (V, D), float64
    padding : int
        Stands in `contexts` for no word, at the ends of a text.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `EmbeddingDot`.

    Notes
    -----
    Mikolov, Chen, Corrado and Dean, "Efficient estimation of word representations in vector space",
    2013. The mean of no contexts is defined as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import CBOW
    >>> layer = CBOW(W_in=np.zeros((5, 2)), W_out=np.ones((5, 2)))
    >>> contexts = np.array([[0, 2], [1, -1]])  # of the second word, one lies outside of the text
    >>> loss = layer.forward(contexts, np.array([1, 0]), np.array([[3], [4]]))
    >>> bool(np.isclose(loss, 2 * np.log(2.0)))
    True
    """

    def __init__(self, W_in: Array, W_out: Array, padding: int = -1) -> None:
        require_float64("W_in", W_in)
        self.loss = NegativeSamplingLoss(W_out)
        self.params = [W_in, *self.loss.params]
        self.grads = [np.zeros_like(W_in), *self.loss.grads]
        self.padding = padding

    def forward(self, contexts: IndexArray, target: IndexArray, negatives: IndexArray) -> float:
        """Return the loss of contexts (N, C), target (N,) and negatives (N, K)."""
        W_in = self.params[0]
        require_rank("contexts", contexts, "N, C")
        self.words = [row[row != self.padding] for row in contexts]  # those of each sample
        h = np.zeros((len(contexts), W_in.shape[1]))
        for n, words in enumerate(self.words):
            require_indices("contexts", words, len(W_in))
            for word in words:
                h[n] += W_in[word] / len(words)
        return self.loss.forward(h, target, negatives)

    def backward(self, dout: float = 1.0) -> None:
        """Set `grads`; dout is the gradient of the loss itself."""
        dh = self.loss.backward(dout)
        dW_in = self.grads[0]
        dW_in[...] = 0.0
        for n, words in enumerate(self.words):
            for word in words:
                dW_in[word] += dh[n] / len(words)


class SkipGram:
    """Skip-gram: each word of the context is predicted from the middle word's vector.

    Parameters
    ----------
    W_in : array (V, D), float64
        Vectors of the words in the middle: those that are kept in the end.
    W_out : array (V, D), float64

    Raises
    ------
    TypeError, ValueError, IndexError
        As `EmbeddingDot`.

    Notes
    -----
    Mikolov et al. 2013, as `NegativeSamplingLoss`, equations 1 and 4. The loss is the sum of those
    of the contexts, each with negatives of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import SkipGram
    >>> layer = SkipGram(W_in=np.zeros((5, 2)), W_out=np.ones((5, 2)))
    >>> loss = layer.forward(np.array([[0, 2]]), np.array([1]), np.array([[[3], [4]]]))
    >>> bool(np.isclose(loss, 4 * np.log(2.0)))
    True
    """

    def __init__(self, W_in: Array, W_out: Array) -> None:
        require_float64("W_out", W_out)
        self.embedding = Embedding(W_in)
        self.params = [W_in, W_out]
        self.grads = [self.embedding.grads[0], np.zeros_like(W_out)]

    def forward(self, contexts: IndexArray, target: IndexArray, negatives: IndexArray) -> float:
        """Return the loss of contexts (N, C), the middle target (N,) and negatives (N, C, K)."""
        require_rank("contexts", contexts, "N, C")
        require_rank("negatives", negatives, "N, C, K")
        h = self.embedding.forward(target)
        self.losses = [NegativeSamplingLoss(self.params[1]) for _ in contexts.T]
        return sum(
            layer.forward(h, contexts[:, c], negatives[:, c]) for c, layer in enumerate(self.losses)
        )

    def backward(self, dout: float = 1.0) -> None:
        """Set `grads`; dout is the gradient of the loss itself."""
        dW_out = self.grads[1]
        dW_out[...] = 0.0
        dh = np.zeros_like(self.embedding.params[0][self.embedding.indices])
        for layer in self.losses:
            dh += layer.backward(dout)
            dW_out += layer.grads[0]
        self.embedding.backward(dh)
