"""CBOW and skip-gram in their simplest form: one-hot words, and a softmax over all of them.

Two matrices and nothing between them; their product with a one-hot vector picks a row. Chapter 3 of
Saito, "Deep Learning from Scratch 2"; `negative_sampling` has what makes them fast.
"""

import numpy as np

from ._arrays import Array, require_float64, require_rank, require_shape
from .softmax import SoftmaxWithLoss


def _words(name: str, one_hot: Array) -> "np.ndarray[tuple[int, ...], np.dtype[np.intp]]":
    """Return the numbers of one-hot words (..., V)."""
    if not (np.isin(one_hot, (0, 1)).all() and (one_hot.sum(axis=-1) == 1).all()):
        raise ValueError(f"{name}: given {one_hot}, expected rows of zeros with a single one")
    return np.argmax(one_hot, axis=-1)


class _TwoMatrices:
    """W_in, W_out, and the checks of what both models are given."""

    def __init__(self, W_in: Array, W_out: Array) -> None:
        require_float64("W_in", W_in)
        require_float64("W_out", W_out)
        require_rank("W_in", W_in, "V, H")
        require_shape("W_out", W_out, W_in.shape[::-1])
        self.params = [W_in, W_out]
        self.grads = [np.zeros_like(W_in), np.zeros_like(W_out)]

    def _check(self, contexts: Array, target: Array) -> None:
        V = len(self.params[0])
        require_rank("contexts", contexts, "N, C, V")
        require_shape("contexts", contexts, (*contexts.shape[:2], V))
        require_shape("target", target, (len(contexts), V))


class SimpleCBOW(_TwoMatrices):
    """The middle word is predicted from the mean of its context's hidden vectors.

    Parameters
    ----------
    W_in : array (V, H), float64
        Its rows are the word vectors.
    W_out : array (H, V), float64

    Raises
    ------
    TypeError, ValueError
        If a matrix is not float64, a shape does not fit, or a word is not one-hot.

    Notes
    -----
    Mikolov, Chen, Corrado and Dean, "Efficient estimation of word representations in vector space",
    2013. h = (1/C) sum_c contexts_c W_in; the loss is the mean of -log softmax(h W_out)_target.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import SimpleCBOW
    >>> words = np.eye(4)
    >>> layer = SimpleCBOW(W_in=np.zeros((4, 2)), W_out=np.zeros((2, 4)))
    >>> loss = layer.forward(words[[[0, 2]]], words[[1]])
    >>> bool(np.isclose(loss, np.log(4.0)))
    True
    """

    def forward(self, contexts: Array, target: Array) -> float:
        """Return the loss of one-hot contexts (N, C, V) and targets (N, V)."""
        self._check(contexts, target)
        _words("contexts", contexts)
        W_in, W_out = self.params
        self.contexts = contexts
        self.h = (contexts @ W_in).mean(axis=1)
        self.loss = SoftmaxWithLoss()
        return self.loss.forward(self.h @ W_out, _words("target", target))

    def backward(self, dout: float = 1.0) -> None:
        """Set `grads`; dout is the gradient of the loss itself."""
        (_, W_out), (dW_in, dW_out) = self.params, self.grads
        ds = self.loss.backward(dout)
        dW_out[...] = self.h.T @ ds
        dh = ds @ W_out.T / self.contexts.shape[1]
        dW_in[...] = 0.0
        for c in range(self.contexts.shape[1]):
            dW_in += self.contexts[:, c].T @ dh


class SimpleSkipGram(_TwoMatrices):
    """Each word of the context is predicted from the middle word's hidden vector.

    Parameters
    ----------
    W_in : array (V, H), float64
        Its rows are the word vectors.
    W_out : array (H, V), float64

    Raises
    ------
    TypeError, ValueError
        As `SimpleCBOW`.

    Notes
    -----
    Mikolov et al., as `SimpleCBOW`. h = target W_in; the loss is the sum over c of the means of
    -log softmax(h W_out)_context_c.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import SimpleSkipGram
    >>> words = np.eye(4)
    >>> layer = SimpleSkipGram(W_in=np.zeros((4, 2)), W_out=np.zeros((2, 4)))
    >>> loss = layer.forward(words[[[0, 2]]], words[[1]])
    >>> bool(np.isclose(loss, 2 * np.log(4.0)))
    True
    """

    def forward(self, contexts: Array, target: Array) -> float:
        """Return the loss of one-hot contexts (N, C, V) and middle words, target (N, V)."""
        self._check(contexts, target)
        _words("target", target)
        W_in, W_out = self.params
        self.target = target
        self.h = target @ W_in
        scores = self.h @ W_out  # the same for every word of the context
        self.losses = [SoftmaxWithLoss() for _ in range(contexts.shape[1])]
        words = _words("contexts", contexts)
        return sum(layer.forward(scores, words[:, c]) for c, layer in enumerate(self.losses))

    def backward(self, dout: float = 1.0) -> None:
        """Set `grads`; dout is the gradient of the loss itself."""
        (_, W_out), (dW_in, dW_out) = self.params, self.grads
        ds = np.zeros((len(self.h), W_out.shape[1]))
        for layer in self.losses:
            ds += layer.backward(dout)
        dW_out[...] = self.h.T @ ds
        dW_in[...] = self.target.T @ (ds @ W_out.T)
