"""The work of the benchmarks of negative sampling, as cases.

Every peer starts from the same seed. A run is forward and backward into the leaves' grad, from
none; with an optimizer, its step too.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from case import Case, Run
from torch import Tensor
from torch.nn.functional import embedding, logsigmoid

import seqkern.functional

Sizes = Mapping[str, int]
Loss = Callable[..., Tensor]

PEERS = ("seqkern", "torch", "torch.compile")
D, K, C = 100, 5, 10


def plain_loss(
    hidden: Tensor, weight: Tensor, target: Tensor, negatives: Tensor, sparse: bool
) -> Tensor:
    """Return the loss composed of torch's operations: one gather of all rows, and one product."""
    ids = torch.cat([target.unsqueeze(1), negatives], 1)
    scores = torch.bmm(embedding(ids, weight, sparse=sparse), hidden.unsqueeze(2)).squeeze(2)
    return -(logsigmoid(scores[:, 0]).sum() + logsigmoid(-scores[:, 1:]).sum()) / len(target)


def plain_cbow(
    matrix: Tensor,
    weight: Tensor,
    contexts: Tensor,
    target: Tensor,
    negatives: Tensor,
    sparse: bool,
) -> Tensor:
    """Return the loss of means, by torch's own fused mean of bags."""
    hidden = torch.nn.functional.embedding_bag(contexts, matrix, mode="mean", sparse=sparse)
    return plain_loss(hidden, weight, target, negatives, sparse)


def loss_of(peer: str, cbow: bool, sparse: bool) -> Loss:
    """Return a peer's loss of the matrices and the words."""
    if peer == "seqkern":
        fused = seqkern.functional.negative_sampling_loss
        return partial(
            seqkern.functional.cbow_negative_sampling_loss if cbow else fused, sparse=sparse
        )
    plain = partial(plain_cbow if cbow else plain_loss, sparse=sparse)
    if peer == "torch.compile":
        torch.compiler.reset()
        return torch.compile(plain)
    return plain


def words_of(sizes: Sizes, count: int) -> Tensor:
    """Draw words of a vocabulary whose frequencies fall as one over the rank, as a text's do."""
    rank = (sizes["V"] + 1.0) ** torch.rand(sizes["B"], count, dtype=torch.float64)
    return (rank.long() - 1).clamp_(0, sizes["V"] - 1)


def make(
    peer: str, sizes: Sizes, sparse: bool, cbow: bool = False, optimizer: str | None = None
) -> Run:
    """Make the run of a peer."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(sizes["V"], D) * 0.1)
    target, negatives = words_of(sizes, 1)[:, 0], words_of(sizes, K)
    source = torch.nn.Parameter(torch.randn(sizes["V"] if cbow else sizes["B"], D))
    words = (words_of(sizes, C), target, negatives) if cbow else (target, negatives)
    leaves = (source, weight)
    loss = loss_of(peer, cbow, sparse)
    steps: torch.optim.Optimizer | None = None
    if optimizer is not None:
        steps = getattr(torch.optim, optimizer)([weight], lr=1e-4)

    def run() -> object:
        for leaf in leaves:
            leaf.grad = None
        found = loss(*leaves, *words)
        found.backward()
        if steps is not None:
            steps.step()
        return found

    return run


def case(b: int, v: int, sparse: bool, cbow: bool = False, optimizer: str | None = None) -> Case:
    """Forward and backward of B examples of V words."""
    sizes = {"B": b, "V": v}
    kind = "CBOW" if cbow else "loss"
    group = f"{kind}, {'sparse' if sparse else 'dense'}" + (f", {optimizer}" if optimizer else "")
    # The compiler takes no sparse gradients.
    peers = PEERS[:2] if sparse or optimizer else PEERS
    how = partial(make, sizes=sizes, sparse=sparse, cbow=cbow, optimizer=optimizer)
    return Case(group, sizes, how, peers=peers)
