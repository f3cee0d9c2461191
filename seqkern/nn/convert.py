"""Swapping the recurrent layers of an existing model for seqkern's, and back."""

from torch import nn
from torch.nn.utils import parametrize

from seqkern.nn.cells import GRUCell, LSTMCell, RNNCell
from seqkern.nn.layers import GRU, LSTM, RNN
from seqkern.nn.options import PLAIN
from seqkern.nn.recurrent import Recurrent

_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: RNN,
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.RNNCell: RNNCell,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
}
_ORIGINALS = {ours: theirs for theirs, ours in _REPLACEMENTS.items()}


def convert(model: nn.Module) -> nn.Module:
    """Turn every recurrent layer and cell of torch.nn in a model into seqkern's, in place.

    Those are RNN, LSTM, GRU, RNNCell, LSTMCell and GRUCell; the model itself may be one. Each keeps
    its identity, parameters, parametrizations, hooks and mode; only its class changes, so that
    optimisers that hold the parameters and other references to the layer stay valid. Subclasses
    written by others are left alone.

    Parameters
    ----------
    model
        Any module.

    Returns
    -------
    torch.nn.Module
        ``model`` itself.

    Examples
    --------
    >>> import torch, seqkern
    >>> model = seqkern.nn.convert(torch.nn.Sequential(torch.nn.LSTM(3, 5)))
    >>> type(model[0])
    <class 'seqkern.nn.layers.LSTM'>
    """
    for module in model.modules():
        _change_class(module, _REPLACEMENTS)
    return model


def revert(model: nn.Module) -> nn.Module:
    """Turn every recurrent layer and cell of seqkern in a model into torch.nn's, in place.

    The opposite of :func:`convert`, for layers made by it or not.

    Parameters
    ----------
    model
        Any module.

    Returns
    -------
    torch.nn.Module
        ``model`` itself.

    Raises
    ------
    ValueError
        If a layer uses what torch.nn does not have; the model is then unchanged.

    Examples
    --------
    >>> import torch, seqkern
    >>> model = seqkern.nn.revert(torch.nn.Sequential(seqkern.nn.GRU(3, 5)))
    >>> type(model[0])
    <class 'torch.nn.modules.rnn.GRU'>
    """
    for name, module in model.named_modules():
        if isinstance(module, Recurrent) and not _has_counterpart(module):
            raise ValueError(f"torch.nn has no counterpart of {module}, which is {name or 'model'}")
    for module in model.modules():
        _change_class(module, _ORIGINALS)
    return model


def _has_counterpart(layer: Recurrent) -> bool:
    return layer.options is PLAIN and layer.cell in ("rnn_tanh", "rnn_relu", "lstm", "gru")


def _change_class(module: nn.Module, replacements: dict[type[nn.Module], type[nn.Module]]) -> None:
    """Replace the class of a module, if it is one of those."""
    own = type(module)
    if own in replacements:
        module.__class__ = replacements[own]
    elif parametrize.is_parametrized(module) and own.__bases__[0] in replacements:
        # torch has derived a class for this module, which holds the parametrised properties.
        base = replacements[own.__bases__[0]]
        content = {k: v for k, v in vars(own).items() if k not in ("__dict__", "__weakref__")}
        module.__class__ = type(f"Parametrized{base.__name__}", (base,), content)
    else:
        return
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()  # which flattens them for cuDNN, in torch.nn's layers
