"""ONNX files of models: each recurrent layer and direction becomes a node LSTM, GRU or RNN.

The native op of seqkern's layers is translated, not decomposed. ONNX orders the LSTM's gates i, o,
f, g (ours: i, f, g, o), its peepholes i, o, f (ours: i, f, o), and the GRU's gates z, r, n (ours:
r, z, n). https://onnx.ai/onnx/operators/ has the nodes' equations.
"""

from __future__ import annotations

import copy
import importlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from seqkern.functional._recurrent_arguments import ARGUMENTS
from seqkern.nn.convert import convert
from seqkern.nn.options import PLAIN
from seqkern.nn.recurrent import Recurrent

_OPSET = 20

_NODES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "rnn_tanh": ("RNN", (0,), {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", (0,), {"activations": ["Relu"]}),
    "lstm": ("LSTM", (0, 3, 1, 2), {}),
    "lstm_peephole": ("LSTM", (0, 3, 1, 2), {}),
    "gru": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "gru_reset_before": ("GRU", (1, 0, 2), {"linear_before_reset": 0}),
}
"""Node of a cell, its order of the gates, its attributes."""

_TAKEN = {"input", "h_0", "c_0", "weight_ih", "weight_hh", "bias_ih", "bias_hh"}
_TAKEN |= {"weight_cell", "lengths"}


def export_onnx(
    model: torch.nn.Module,
    path: str | Path,
    args: tuple[Any, ...] | None = None,
    *,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write a model in evaluation mode as an ONNX file, in float32.

    Recurrent layers and cells of seqkern.nn and torch.nn become ONNX nodes LSTM, GRU and RNN, one a
    layer and direction; ``lengths`` are their ``sequence_lens``. Token ids that a layer takes are
    written as their one-hot encoding. The model stays as it is. Needs ``seqkern[onnx]``.

    Parameters
    ----------
    model : torch.nn.Module
        On any device, of any floating-point dtype.
    path : str or Path
        The file to write.
    args : tuple, optional
        Example arguments of the model: tensors, None, and tuples, lists and dicts of those. Sizes
        that are to be free should be 2 or more. Default: those of a language model, tokens (T, N)
        and its state, which returns logits and state; T and N are then free.
    dynamic_shapes : optional
        Of ``args``, as of torch.export.export, such as ``({0: "T", 1: "N"},)``: names of the sizes
        that are to be free. Default: all are those of ``args``.
    input_names, output_names : sequence of str, optional
        Of the tensors in ``args`` and in what the model returns. Without ``args``, by default:
        tokens, h and c; logits, h_n and c_n.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    ValueError
        If a layer is one that ONNX has no node for: with layer norm, zoneout, heads, projections.
    torch.onnx.OnnxExporterError
        If torch cannot trace the model, or a size is to be free which it fixes, or a layer is
        called with what ONNX has no node for: resets, or cell states of all steps.

    Examples
    --------
    >>> from seqkern.models import Rnnlm
    >>> export_onnx(Rnnlm(50), "rnnlm.onnx")  # doctest: +SKIP
    >>> layer = torch.nn.GRU(3, 5)
    >>> args, shapes = (torch.zeros(7, 2, 3),), ({0: "T", 1: "N"},)
    >>> export_onnx(layer, "gru.onnx", args, dynamic_shapes=shapes)  # doctest: +SKIP
    """
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"export_onnx needs {package}: pip install 'seqkern[onnx]'"
            ) from error
    model = convert(copy.deepcopy(model)).eval().requires_grad_(False).to("cpu", torch.float32)
    for name, module in model.named_modules():
        if isinstance(module, Recurrent):
            _check(name or "model", module)
            module.register_forward_pre_hook(_one_hot)
    if args is None:
        args, shapes, inputs, outputs = _language_model(model)
        dynamic_shapes = dynamic_shapes or shapes
        input_names, output_names = input_names or inputs, output_names or outputs
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about itself
        warnings.filterwarnings("ignore", "# The axis name")  # a name stands at many sizes
        program: Any = torch.onnx.export(
            model,
            tree_map(_float32, args),
            dynamic_shapes=dynamic_shapes,
            input_names=input_names,
            output_names=output_names,
            opset_version=_OPSET,
            custom_translation_table={torch.ops.seqkern.recurrent_forward.default: _node},
            dynamo=True,
            verbose=False,
        )
    _fold_weights(program.model)
    program.save(path)


def _check(name: str, layer: Recurrent) -> None:
    """Raise ValueError if ONNX has no node for a layer in evaluation."""
    acting = replace(
        layer.options,
        recurrent_dropout=0.0,
        variational_dropout=0.0,
        weight_drop=0.0,
        recompute=0,
    )
    if acting != PLAIN or layer.proj_size or layer.cell not in _NODES:
        raise ValueError(f"ONNX has no node for {layer}, which is {name}")


def _one_hot(layer: Recurrent, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Encode the token ids that a layer is given."""
    if not isinstance(args[0], Tensor) or args[0].is_floating_point():
        return args
    ids = args[0].to(torch.int64)
    return torch.nn.functional.one_hot(ids, layer.input_size).float(), *args[1:]


def _language_model(model: torch.nn.Module) -> tuple[Any, ...]:
    """Arguments of a language model, and the other three of torch's exporter."""
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    with torch.no_grad():
        _, state = model(tokens)
    count = len(tree_leaves(state))
    names = ["h", "c"][:count] if count <= 2 else [f"state_{i}" for i in range(count)]
    shapes = {0: "T", 1: "N"}, tree_map(lambda _: {1: "N"}, state)
    outputs = ["logits", *(f"{name}_n" for name in names)]
    return (tokens, state), shapes, ["tokens", *names], outputs


def _float32(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.detach().cpu().float() if leaf.is_floating_point() else leaf.cpu()


def _fold_weights(model: Any) -> None:
    """Compute the weights of the nodes, in ONNX's order: some runtimes want them constant."""
    optimizer = importlib.import_module("onnxscript.optimizer")
    ours = {"Slice", "Concat", "Unsqueeze"}
    optimizer.fold_constants(
        model,
        onnx_shape_inference=False,
        output_size_limit=sys.maxsize,
        should_fold=lambda node: True if node.op_type in ours else None,
    )
    optimizer.remove_unused_nodes(model)


def _node(cell: str, *arguments: Any) -> tuple[Any, ...]:
    """ONNX nodes of `seqkern::recurrent_forward`: output, h_n, c_n, and two that nothing uses."""
    op: Any = importlib.import_module("onnxscript").opset20
    *tensors, _, reverse, return_cells, _ = arguments
    given = {name: t for name, t in zip(ARGUMENTS, tensors, strict=True) if t is not None}
    if cell not in _NODES or return_cells or "weight_ih" not in given or given.keys() - _TAKEN:
        raise ValueError(f"ONNX has no node for a cell {cell!r} with {', '.join(given)}")
    kind, order, attributes = _NODES[cell]
    first, second = (op.Constant(value_ints=[axis]) for axis in (0, 1))
    rows, hidden_size = given["weight_hh"].shape

    def reorder(tensor: Any, order: Sequence[int]) -> Any:
        """Bring gates, blocks of hidden_size rows, into ONNX's order."""
        edges = [op.Constant(value_ints=[gate * hidden_size]) for gate in range(len(order) + 1)]
        parts = [op.Slice(tensor, edges[gate], edges[gate + 1], first) for gate in order]
        return op.Concat(*parts, axis=0)

    def bias(name: str) -> Any:
        if name in given:
            return reorder(given[name], order)
        return op.Constant(value_floats=[0.0] * rows)

    def row(tensor: Any) -> Any:
        """Add the axis of directions."""
        return None if tensor is None else op.Unsqueeze(tensor, first)

    inputs = [
        given["input"],
        row(reorder(given["weight_ih"], order)),
        row(reorder(given["weight_hh"], order)),
        row(op.Concat(bias("bias_ih"), bias("bias_hh"), axis=0)),
        op.Cast(given["lengths"], to=6) if "lengths" in given else None,  # int32
        row(given.get("h_0")),
    ]
    if kind == "LSTM":
        inputs.append(row(given.get("c_0")))
    if "weight_cell" in given:
        peepholes = op.Reshape(given["weight_cell"], op.Constant(value_ints=[3 * hidden_size]))
        inputs.append(row(reorder(peepholes, (0, 2, 1))))
    direction = "reverse" if reverse else "forward"
    found = getattr(op, kind)(*inputs, hidden_size=hidden_size, direction=direction, **attributes)
    unused = op.Constant(value_float=0.0)
    output, *states = op.Squeeze(found[0], second), *(op.Squeeze(s, first) for s in found[1:])
    return output, *states, *(unused,) * (4 - len(states))
