"""Models as folders: config.json, which says how to build one, and model.safetensors.

config.json has the class, the arguments of its constructor and the format's version. In
model.safetensors, a checkpoint file of `seqkern.data`, shared parameters stand once. Nothing is
unpickled and nothing fetched. Other files may lie beside the two, such as a vocabulary.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from seqkern.data.checkpoint import load_checkpoint, save_checkpoint
from seqkern.data.files import replacing

CONFIG, TENSORS = "config.json", "model.safetensors"
FORMAT = 1

_CLASSES: dict[str, type[Pretrained]] = {}

_Model = TypeVar("_Model", bound="Pretrained")


class Pretrained(torch.nn.Module):
    """Base of the models that a folder can hold.

    It keeps the arguments that a model is built with; a model's author does nothing but derive from
    it. The constructor takes its arguments by name, as JSON has them: numbers, strings, booleans,
    None, and lists and dicts of those; or tensors of few numbers, such as weights of classes.

    Attributes
    ----------
    not_saved : tuple of str
        Names of arguments that a folder leaves out; a loaded model has their defaults.

    Examples
    --------
    >>> import tempfile
    >>> from seqkern.models import Rnnlm
    >>> folder = Path(tempfile.mkdtemp()) / "model"
    >>> Rnnlm(50, hidden_size=16).save_pretrained(folder)
    >>> sorted(path.name for path in folder.iterdir())
    ['config.json', 'model.safetensors']
    >>> from_pretrained(folder).recurrent.hidden_size
    16
    """

    not_saved: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _CLASSES[_name(cls)] = cls

    def __new__(cls: type[_Model], *args: Any, **kwargs: Any) -> _Model:
        model = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(model, *args, **kwargs)
        except TypeError:  # no arguments, as of a copy; or wrong ones, which __init__ refuses
            return model
        bound.apply_defaults()
        _, *names = bound.arguments  # but self
        arguments = {name: bound.arguments[name] for name in names}
        for parameter in bound.signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments |= arguments.pop(parameter.name)
        object.__setattr__(model, "_built_by", (_name(cls), arguments))
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model into a folder, which is made if there is none.

        Parametrizations, such as weight normalisation, are written as the parameters they give.

        Parameters
        ----------
        folder : str or Path

        Raises
        ------
        ValueError
            If an argument of the constructor is neither one that JSON has nor a tensor.
        OSError
            If a file cannot be written.
        """
        built_by: tuple[str, dict[str, Any]] = self.__dict__["_built_by"]
        name, arguments = built_by
        config = {
            "format": FORMAT,
            "class": name,
            "arguments": {k: v for k, v in arguments.items() if k not in self.not_saved},
        }
        try:
            text = json.dumps(config, indent=2, allow_nan=False, default=_encode) + "\n"
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"a folder cannot hold this {name}: of the arguments {arguments}, {error}"
            ) from error
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(folder / TENSORS, _tensors(self), {})
        with replacing(folder / CONFIG) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls: type[_Model], folder: str | Path, device: torch.device | str = "cpu"
    ) -> _Model:
        """Read a model of this class, or of one derived from it, from a folder.

        Parameters
        ----------
        folder : str or Path
            What `save_pretrained` wrote.
        device : torch.device or str
            Where to put it.

        Returns
        -------
        Pretrained
            The model with its saved parameters, of their dtype, in evaluation mode.

        Raises
        ------
        FileNotFoundError
            If there is no such folder, or one of its two files is not there.
        ValueError
            If a file is corrupt, or the class or its arguments are unknown, or the parameters are
            not those of such a model.
        """
        folder = Path(folder)
        name, arguments = _read_config(folder / CONFIG)
        try:
            kind = find_class(name)
        except ValueError as error:
            raise ValueError(f"{folder / CONFIG}: {error}") from error
        if not issubclass(kind, cls):
            raise ValueError(f"{folder} holds a model of class {name}, expected {_name(cls)}")
        try:
            with torch.random.fork_rng(devices=[]):  # initial values, which are replaced
                model = kind(**arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{folder / CONFIG} has arguments that {name} does not take: {error}"
            ) from error
        _put(model, load_checkpoint(folder / TENSORS)[0], folder)
        return model.to(device).eval()


def from_pretrained(folder: str | Path, device: torch.device | str = "cpu") -> Pretrained:
    """Read a model of any class; see `Pretrained.from_pretrained`."""
    return Pretrained.from_pretrained(folder, device)


def find_class(name: str) -> type[Pretrained]:
    """Return the class of a model; raise ValueError if there is none of this name."""
    if name not in _CLASSES:
        raise ValueError(f"no model has the class {name!r}, expected one of {sorted(_CLASSES)}")
    return _CLASSES[name]


def _name(cls: type) -> str:
    """Name of a class: short for this library's, full for others, which cannot pass for them."""
    own = cls.__module__.partition(".")[0] == "seqkern"
    return cls.__qualname__ if own else f"{cls.__module__}.{cls.__qualname__}"


def _encode(value: Any) -> dict[str, Any]:
    """Turn a tensor among the arguments into what JSON has."""
    if not isinstance(value, Tensor):
        raise TypeError(f"one is a {type(value).__name__}, expected what JSON has, or a tensor")
    return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() != {"tensor", "dtype"}:
        return value
    return torch.tensor(value["tensor"], dtype=getattr(torch, value["dtype"]))


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"no pretrained model in {path.parent}: {path.name} is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"), object_hook=_decode)
        version, name, arguments = config["format"], config["class"], config["arguments"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no config of a pretrained model: {error!r}") from error
    if version != FORMAT:
        raise ValueError(f"{path} is of format {version!r}, this version reads {FORMAT}")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(f"{path} is no config of a pretrained model: class or arguments are wrong")
    return name, arguments


@torch.no_grad()
def _tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; of shared ones, the first name only."""
    first: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        first.setdefault(id(tensor), (name, tensor))
    tensors = dict(first.values())
    for place, module in model.named_modules():
        if isinstance(kept := getattr(module, "parametrizations", None), torch.nn.ModuleDict):
            prefix = f"{place}." if place else ""
            for name in [n for n in tensors if n.startswith(f"{prefix}parametrizations.")]:
                del tensors[name]
            tensors |= {prefix + name: getattr(module, name) for name in kept}
    return tensors


def _put(model: torch.nn.Module, stored: dict[str, Tensor], folder: Path) -> None:
    """Give a model's tensors the stored values and dtypes."""
    own = _tensors(model)
    if stored.keys() != own.keys():
        names = ", ".join(sorted(stored.keys() ^ own.keys()))
        raise ValueError(
            f"{folder / TENSORS} is of another model than {folder / CONFIG}; "
            f"these are in one of the two only: {names}"
        )
    for name, tensor in own.items():
        if stored[name].shape != tensor.shape:
            raise ValueError(
                f"{folder / TENSORS} is of another model than {folder / CONFIG}: "
                f"{name} is {tuple(stored[name].shape)}, expected {tuple(tensor.shape)}"
            )
        tensor.data = stored[name]
