"""The work of the loss benchmarks, as cases: the loss of logits, and the loss of a linear layer.

Every peer starts from the same seed. A run is forward and backward: the gradients of the logits, or
of hidden states and weight.
"""

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from case import Case, Run
from torch import Tensor

import seqkern.functional

Sizes = Mapping[str, int]
Loss = Callable[..., Tensor]

EAGER, COMPILED = "torch", "torch.compile"
# Options of torch's own chunked loss, where this torch has it.
CHUNKED = {"torch chunked": None, "torch chunked 256": 256, "torch chunked 1024": 1024}

LOGITS_PEERS = ("seqkern", EAGER, COMPILED)
LINEAR_PEERS = (
    *LOGITS_PEERS,
    *(CHUNKED if hasattr(torch.nn, "LinearCrossEntropyOptions") else ()),
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def logits_loss(peer: str) -> Loss:
    """Return a peer's loss of logits and target."""
    if peer == "seqkern":
        return seqkern.functional.cross_entropy
    if peer == COMPILED:
        torch.compiler.reset()  # lest the second size be compiled for any size
        return torch.compile(torch.nn.functional.cross_entropy)
    return torch.nn.functional.cross_entropy


def plain_linear_loss(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Return the loss of a linear layer's logits, all of them held."""
    logits = torch.nn.functional.linear(hidden, weight)
    return torch.nn.functional.cross_entropy(logits, target)


def quack_loss() -> Loss:
    """Return QuACK's loss, as its module LinearCrossEntropy chooses among its two."""
    from quack.linear_cross_entropy import chunked_linear_cross_entropy, linear_cross_entropy_func

    def loss(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        if all(size % 8 == 0 for size in (*hidden.shape, *weight.shape)):
            return chunked_linear_cross_entropy(hidden, weight, target)
        return linear_cross_entropy_func(hidden, weight, None, target)

    return loss


def liger_loss() -> Loss:
    """Return Liger's loss."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss()
    return lambda hidden, weight, target: loss(weight, hidden, target)


def cut_loss(exact: bool = False) -> Loss:
    """Return Cut Cross-Entropy, which leaves small gradients out unless it is to be exact."""
    import cut_cross_entropy

    loss = cut_cross_entropy.linear_cross_entropy
    if not exact:
        return loss
    named = "CCE_EXACT" in cut_cross_entropy.LinearCrossEntropyImpl.__members__
    return partial(loss, impl="cce_exact") if named else partial(loss, filter_eps=None)


# Peers that other packages have, for a GPU: each one's module, and its loss.
OTHERS: Mapping[str, tuple[str, Callable[[], Loss]]] = {
    "QuACK": ("quack", quack_loss),
    "Liger": ("liger_kernel", liger_loss),
    "Cut": ("cut_cross_entropy", cut_loss),
    "Cut exact": ("cut_cross_entropy", partial(cut_loss, exact=True)),
}


def installed_others() -> tuple[str, ...]:
    """Return the peers of the packages that are installed."""
    return tuple(peer for peer, (name, _) in OTHERS.items() if importlib.util.find_spec(name))


def linear_loss(peer: str) -> Loss:
    """Return a peer's loss of hidden states, weight and target."""
    if peer == "seqkern":
        return seqkern.functional.linear_cross_entropy
    if peer == COMPILED:
        torch.compiler.reset()
        return torch.compile(plain_linear_loss)
    if peer in OTHERS:
        return OTHERS[peer][1]()
    if peer in CHUNKED:
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNKED[peer])
        return partial(torch.nn.functional.linear_cross_entropy, options=options)
    return plain_linear_loss


def run_of(loss: Loss, leaves: list[Tensor], target: Tensor) -> Run:
    """Make a run of forward and backward."""

    def run() -> object:
        with warnings.catch_warnings():
            # torch says so where its chunked loss falls back to the plain one: not a peer then.
            warnings.filterwarnings("error", message=".*(fall|refer).*", category=UserWarning)
            return torch.autograd.grad(loss(*leaves, target), leaves)

    return run


def make_logits(peer: str, sizes: Sizes) -> Run:
    """Make logits as wide as a trained model's."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(sizes["N"], sizes["V"])).requires_grad_()
    target = torch.randint(sizes["V"], (sizes["N"],))
    return run_of(logits_loss(peer), [logits], target)


def make_linear(peer: str, sizes: Sizes, dtype: torch.dtype = torch.float32) -> Run:
    """Make hidden states and a weight whose logits have a standard deviation of 3."""
    torch.manual_seed(0)
    hidden = torch.randn(sizes["N"], sizes["H"])
    weight = 3 * sizes["H"] ** -0.5 * torch.randn(sizes["V"], sizes["H"])
    leaves = [tensor.to(dtype).requires_grad_() for tensor in (hidden, weight)]
    return run_of(linear_loss(peer), leaves, torch.randint(sizes["V"], (sizes["N"],)))


def make_precision(peer: str, sizes: Sizes) -> Run:
    """Make seqkern's linear loss in a dtype."""
    return make_linear("seqkern", sizes, DTYPES[peer])


def linear_flops(sizes: Sizes) -> float:
    """Count those of the three products."""
    return 6.0 * sizes["N"] * sizes["H"] * sizes["V"]


def logits_case(n: int, v: int) -> Case:
    """The loss of logits (N, V)."""
    sizes = {"N": n, "V": v}
    return Case("logits", sizes, partial(make_logits, sizes=sizes), peers=LOGITS_PEERS)


def linear_case(n: int, h: int, v: int) -> Case:
    """The loss of hidden states (N, H) and a weight (V, H)."""
    sizes = {"N": n, "H": h, "V": v}
    make = partial(make_linear, sizes=sizes)
    return Case("linear", sizes, make, linear_flops(sizes), peers=LINEAR_PEERS)


def precision_case(n: int, h: int, v: int) -> Case:
    """The same in bfloat16 beside float32, both seqkern's."""
    sizes = {"N": n, "H": h, "V": v}
    make = partial(make_precision, sizes=sizes)
    return Case("bfloat16", sizes, make, linear_flops(sizes), peers=("bfloat16", "float32"))


def make_tied(peer: str, sizes: Sizes) -> Run:
    """Make the loss of a weight that is the embedding, too; ``tied`` is seqkern's with tie()."""
    torch.manual_seed(0)
    weight = torch.randn(sizes["V"], sizes["H"]).requires_grad_()
    ids, target = torch.randint(sizes["V"], (2, sizes["N"]))

    def run() -> object:
        tied = seqkern.functional.tie(weight) if peer == "tied" else (weight, weight)
        hidden = torch.nn.functional.embedding(ids, tied[0], sparse=peer == "tied").tanh()
        loss = linear_loss("torch" if peer == "torch" else "seqkern")(hidden, tied[1], target)
        return torch.autograd.grad(loss, weight)

    return run


def tied_case(n: int, h: int, v: int) -> Case:
    """The loss of a tied weight."""
    sizes = {"N": n, "H": h, "V": v}
    peers = ("tied", "seqkern", "torch")
    return Case("tied", sizes, partial(make_tied, sizes=sizes), linear_flops(sizes), peers)


def result_bytes(sizes: Sizes) -> int:
    """Return the size of the linear loss's gradients, which are no extra memory."""
    return 4 * sizes["H"] * (sizes["N"] + sizes["V"])
