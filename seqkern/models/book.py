"""Models saved by the code of "Deep Learning from Scratch 2": a pickled list of NumPy arrays.

Rnnlm          embed_W (V, D); Wx (D, 4H), Wh (H, 4H), b (4H) of each LSTM layer; affine_W (H, V),
               affine_b (V)
BetterRnnlm    the same, where affine_W is the transpose of embed_W
Seq2seq        encoder: embed_W (V, D); Wx (D, 4H), Wh (H, 4H), b (4H)
               decoder: embed_W, Wx, Wh, b likewise; affine_W (H, V), affine_b (V)
PeekySeq2seq   the same, but Wx (H + D, 4H) in the decoder, and affine_W (2H, V)
AttentionSeq2seq  the same as Seq2seq, but affine_W (2H, V)

The shapes tell which model a list is. The book multiplies row vectors, x @ Wx, and orders the gates
f, g, i, o; torch multiplies x @ weight_ih.T and orders i, f, g, o.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqkern.data.pickles import load_array_pickle
from seqkern.models.pretrained import Pretrained, find_class

Shapes = list[tuple[int, ...]]


class BookModel(NamedTuple):
    """A model of the book in this library's terms.

    Attributes
    ----------
    name
        Of its class in `seqkern.models`.
    arguments
        Of the class's constructor.
    weights
        Its state_dict, float32.
    """

    name: str
    arguments: dict[str, Any]
    weights: dict[str, Tensor]


def load_book_arrays(path: str | Path) -> list[np.ndarray]:
    """Read a pickled list of NumPy arrays without running anything the file names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, or holds anything but a list of floating-point arrays.
    """
    try:
        arrays = load_array_pickle(path)
    except ValueError as error:
        raise ValueError(f"{path} is no model of the book: {error.__cause__}") from error
    if not isinstance(arrays, list) or not all(
        isinstance(a, np.ndarray) and np.issubdtype(a.dtype, np.floating) for a in arrays
    ):
        raise ValueError(
            f"{path} is no model of the book: expected a list of floating-point arrays"
        )
    return arrays


def model_from_book(arrays: Sequence[np.ndarray]) -> Pretrained:
    """Build a float32 model from the book's parameters.

    Parameters
    ----------
    arrays : sequence of ndarray
        In the book's order; see the module's description.

    Returns
    -------
    Rnnlm, BetterRnnlm, Seq2seq, PeekySeq2seq or AttentionSeq2seq

    Raises
    ------
    ValueError
        If number or shapes of the arrays are those of none of these.

    Examples
    --------
    >>> shapes = [(50, 8), (8, 64), (16, 64), (64,), (16, 50), (50,)]
    >>> model = model_from_book([np.zeros(shape, np.float16) for shape in shapes])
    >>> type(model).__name__, model.recurrent.hidden_size
    ('Rnnlm', 16)
    """
    name, arguments, weights = read_book_model(arrays)
    model = find_class(name)(**arguments)
    model.load_state_dict(weights)
    return model


def read_book_model(arrays: Sequence[np.ndarray]) -> BookModel:
    """Recognise a model by its arrays' shapes, and name them as this library does.

    Raises
    ------
    ValueError
        If number or shapes of the arrays are those of no model.

    Examples
    --------
    >>> encoder = [(13, 3), (3, 16), (4, 16), (16,)]
    >>> decoder = [(13, 3), (7, 16), (4, 16), (16,), (8, 13), (13,)]
    >>> read_book_model([np.zeros(shape) for shape in encoder + decoder]).name
    'PeekySeq2seq'
    """
    return _seq2seq(arrays) if len(arrays) == 10 else _language_model(arrays)


def _language_model(arrays: Sequence[np.ndarray]) -> BookModel:
    layers = (len(arrays) - 3) // 3
    if len(arrays) != 3 + 3 * layers or layers < 1 or any(a.ndim == 0 for a in arrays):
        raise ValueError(
            f"expected 6 arrays, or 3 more for every further LSTM layer, got {len(arrays)}"
        )
    vocab_size, embed_size = arrays[0].shape[0], arrays[0].shape[-1]
    hidden_size = arrays[2].shape[0]
    expected: Shapes = [(vocab_size, embed_size)]
    for layer in range(layers):
        expected += _lstm_shapes(hidden_size if layer else embed_size, hidden_size)
    expected += [(hidden_size, vocab_size), (vocab_size,)]
    shapes = [a.shape for a in arrays]
    if shapes != expected:
        raise ValueError(
            f"arrays do not make an LSTM language model: expected shapes {expected}, got {shapes}"
        )
    weights = {"embedding.weight": _tensor(arrays[0]), **_linear("linear", arrays[-2:])}
    for layer in range(layers):
        weights |= _lstm("recurrent", layer, arrays[1 + 3 * layer : 4 + 3 * layer])
    arguments: dict[str, Any] = {
        "vocab_size": vocab_size,
        "embed_size": embed_size,
        "hidden_size": hidden_size,
        "num_layers": layers,
    }
    tied = np.array_equal(arrays[0].T, arrays[-2])
    return BookModel("BetterRnnlm" if tied else "Rnnlm", arguments, weights)


def _seq2seq(arrays: Sequence[np.ndarray]) -> BookModel:
    shapes = [a.shape for a in arrays]
    if any(len(shapes[i]) != 2 for i in (0, 2, 4)):
        raise ValueError(f"arrays do not make a Seq2seq: got shapes {shapes}")
    (vocab_size, embed_size), hidden_size, targets = shapes[0], shapes[2][0], shapes[4][0]
    found = None
    for name, seen, taken in (
        ("Seq2seq", 0, 1),
        ("PeekySeq2seq", 1, 2),
        ("AttentionSeq2seq", 0, 2),
    ):
        expected: Shapes = [(vocab_size, embed_size), *_lstm_shapes(embed_size, hidden_size)]
        expected += [(targets, embed_size)]
        expected += _lstm_shapes(seen * hidden_size + embed_size, hidden_size)
        expected += [(taken * hidden_size, targets), (targets,)]
        if shapes == expected:
            found = name
    if found is None:
        raise ValueError(
            f"arrays do not make a Seq2seq, PeekySeq2seq or AttentionSeq2seq with D = {embed_size} "
            f"and H = {hidden_size}: got shapes {shapes}"
        )
    arguments = {
        "vocab_size": vocab_size,
        "embed_size": embed_size,
        "hidden_size": hidden_size,
        "target_vocab_size": targets,
    }
    weights = {
        "encoder.embedding.weight": _tensor(arrays[0]),
        **_lstm("encoder.recurrent.layers.0", 0, arrays[1:4]),
        "decoder.embedding.weight": _tensor(arrays[4]),
        **_lstm("decoder.recurrent.layers.0", 0, arrays[5:8]),
        **_linear("decoder.linear", arrays[8:]),
    }
    return BookModel(found, arguments, weights)


def _lstm_shapes(input_size: int, hidden_size: int) -> Shapes:
    rows = 4 * hidden_size
    return [(input_size, rows), (hidden_size, rows), (rows,)]


def _lstm(place: str, layer: int, arrays: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Weights of one layer from Wx, Wh and b; torch has a second bias."""
    w_x, w_h, bias = (_torch_gates(_tensor(a)) for a in arrays)
    return {
        f"{place}.weight_ih_l{layer}": w_x.T,
        f"{place}.weight_hh_l{layer}": w_h.T,
        f"{place}.bias_ih_l{layer}": bias,
        f"{place}.bias_hh_l{layer}": torch.zeros_like(bias),
    }


def _linear(place: str, arrays: Sequence[np.ndarray]) -> dict[str, Tensor]:
    return {f"{place}.weight": _tensor(arrays[0]).T, f"{place}.bias": _tensor(arrays[1])}


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _torch_gates(parameter: Tensor) -> Tensor:
    """Reorder the last dimension from the book's f, g, i, o to torch's i, f, g, o."""
    f, g, i, o = parameter.chunk(4, dim=-1)
    return torch.cat([i, f, g, o], dim=-1)
