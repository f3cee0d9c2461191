"""What the autograd formulas of every family share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd would record an operation on these tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def autocast(tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Cast floating-point tensors (float64 apart) as autocast asks for, differentiably."""
    device_type = next(t for t in tensors if t is not None).device.type
    available = torch.amp.is_autocast_available(device_type)  # not on the meta device
    if not available or not torch.is_autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)

    def cast(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
            return tensor
        return tensor.to(dtype)

    return [cast(t) for t in tensors]


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
