"""What the autograd formulas of every family share."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd would record an operation on these tensors."""
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def autocast(tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Cast floating-point tensors (float64 apart) as autocast asks for, differentiably."""
    if not torch._C._is_any_autocast_enabled():
        return tensors
    device_type = next(t for t in tensors if t is not None).device.type
    if not autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)

    def cast(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
            return tensor
        return tensor.to(dtype)

    return [cast(t) for t in tensors]


def autocast_enabled(device_type: str) -> bool:
    """Whether autocast is in force; it never is for the meta device, which has none."""
    return device_type != "meta" and torch.is_autocast_enabled(device_type)


def without_autocast(device_type: str) -> AbstractContextManager[None]:
    """Keep autocast from casting what a composite computes."""
    if not autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def distinct(tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Make aliases of tensors that are there twice: torch.compile takes none twice."""
    seen: list[Tensor] = []
    found: list[Tensor | None] = []
    for tensor in tensors:
        if tensor is not None and any(tensor is other for other in seen):
            tensor = tensor.view_as(tensor)
        elif tensor is not None:
            seen.append(tensor)
        found.append(tensor)
    return found


def transforms_active() -> bool:
    """Whether torch.func transforms or forward-mode differentiation are in force.

    The fused operations have no rules for them; their composites of plain torch operations do.
    """
    functorch = torch._C._are_functorch_transforms_active()
    return functorch or torch.autograd.forward_ad._current_level >= 0


def check_devices(first: Tensor, first_name: str, **others: Tensor | None) -> None:
    """Raise ValueError unless all tensors are on one device; for fake implementations."""
    for name, tensor in others.items():
        if tensor is not None and tensor.device != first.device:
            raise ValueError(
                f"{name} is on {tensor.device}, expected {first.device} as {first_name} is"
            )


def create_graph_requested() -> bool:
    """Whether the backward pass that is running must itself be differentiable.

    While torch.compile traces, it is not: compiled graphs have no double backward.
    """
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def composite_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    output_gradients: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of ``function``, written in plain torch operations, to be differentiated again.

    Parameters
    ----------
    function
        Takes ``inputs`` and returns the outputs whose gradients are given.
    inputs
        What the fused operation saved; those that do not require gradients get None.
    output_gradients
        One per output; None stands for zero.
    """
    # Aliases, so that a dependence of one input on another does not count twice.
    aliases = [t.view_as(t) if t is not None and t.requires_grad else t for t in inputs]
    outputs = function(*aliases)
    pairs = [
        (output, gradient)
        for output, gradient in zip(
            (outputs,) if isinstance(outputs, Tensor) else outputs, output_gradients, strict=True
        )
        if gradient is not None and output.requires_grad
    ]
    if not pairs:
        return [None] * len(aliases)
    wanted = [t for t in aliases if t is not None and t.requires_grad]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs],
            wanted,
            [gradient for _, gradient in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if t is not None and t.requires_grad else None for t in aliases]
