"""The backend under test: `pytest --backend cpu|cuda-on-host|cuda`.

Tests call seqkern with tensors on the CPU, whatever the backend: on the others, the CPU kernels of
seqkern's ops are replaced by the CUDA ones. `cuda-on-host` compiles these for the host and runs
them there (cuda_host.py); `cuda` takes the tensors to the device and the results back. So the whole
suite runs on each, but for what a test says of one kind of kernels; test_cuda.py adds what only
tensors on a device can show.
"""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import seqkern

BACKENDS = ("cpu", "cuda-on-host", "cuda")
CUDA = BACKENDS[1:]  # those that run the CUDA kernels
NAME = "cpu"  # conftest.py sets it, before it imports the tests
OPS = (
    "recurrent_forward",
    "recurrent_backward",
    "gather_columns",
    "scatter_columns",
    "scale_",
    "softmax_loss",
    "softmax_loss_backward",
    "linear_softmax_loss",
    "linear_softmax_loss_backward",
    "sample_alias",
    "sample_distinct",
    "embedding_dot",
    "embedding_dot_backward",
    "negative_sampling_loss",
    "negative_sampling_loss_backward",
    "train_word_vectors_",
)

# What is told of one kind of kernels only: the CPU's look at the values of ids, lengths and
# targets, where the CUDA kernels cannot; those of recurrences and columns know no float16.
on_cpu = pytest.mark.backends("cpu", reason="about the CPU kernels")
on_cuda = pytest.mark.backends(*CUDA, reason="about the CUDA kernels")
not_on_host = pytest.mark.backends("cpu", "cuda", reason="slow, and not about the kernels")

LIBRARY = torch.library.Library("seqkern", "IMPL")  # its kernels live as long as it does


def on_device(tensor: Tensor) -> Tensor:
    """Return the tensor on the CUDA device, in a copy of its whole storage: with its strides."""
    storage = tensor.untyped_storage().cuda()
    there = torch.empty(0, dtype=tensor.dtype, device="cuda")
    return there.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())


def by_way_of_the_device(op: Any) -> Callable[..., Any]:
    """Return the op for tensors on the CPU, computed on the device."""

    written = [
        place
        for place, argument in enumerate(op.default._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]

    def kernel(*arguments: Any, **options: Any) -> Any:
        there, options = pytree.tree_map_only(Tensor, on_device, (arguments, options))
        results = op(*there, **options)
        for place in written:
            arguments[place].copy_(there[place])
        return pytree.tree_map_only(Tensor, Tensor.cpu, results)

    return kernel


def install() -> None:
    """Replace the CPU kernels by the backend's."""
    if NAME == "cuda-on-host":
        import cuda_host

        cuda_host.load()
    if NAME == "cuda":
        if not (torch.cuda.is_available() and seqkern.build_info()["cuda"]):
            raise RuntimeError("no CUDA device, or seqkern was built without CUDA")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning only once for all operators")
            for name in OPS:
                kernel = by_way_of_the_device(getattr(torch.ops.seqkern, name))
                LIBRARY.impl(name, kernel, "CPU")
