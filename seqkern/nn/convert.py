"""Swapping the layers of an existing model for seqkern's."""

from torch import nn

from seqkern.nn.recurrent import LSTM


def convert(model: nn.Module) -> nn.Module:
    """Turn every torch.nn.LSTM of a model, itself included, into a seqkern.nn.LSTM, in place.

    Each layer keeps its identity, parameters, hooks and mode; only its class changes, so optimisers
    that hold the parameters and other references to the layer stay valid. Subclasses of
    torch.nn.LSTM are left alone.

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
    NotImplementedError
        If a layer uses what seqkern.nn.LSTM does not have (proj_size); the model is then unchanged.

    Examples
    --------
    >>> import torch, seqkern
    >>> seqkern.nn.convert(torch.nn.Sequential(torch.nn.LSTM(3, 5)))
    Sequential(
      (0): LSTM(3, 5)
    )
    """
    layers = [module for module in model.modules() if type(module) is nn.LSTM]
    for layer in layers:
        if layer.proj_size:
            raise NotImplementedError(
                f"seqkern.nn.LSTM: proj_size is not there yet, but {layer} uses it"
            )
    for layer in layers:
        layer.__class__ = LSTM  # type: ignore[assignment]
    return model
