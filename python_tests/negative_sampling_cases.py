"""Problems of negative sampling: the oracle, and the peer in plain torch operations.

A Recipe says what a problem has, in words and numbers that hypothesis can draw; `Recipe.problem`
draws its tensors. `reference` solves it in float64 with the NumPy layers, `composed` in plain torch
operations, and `fused` with seqkern; all three name their results alike. `check` compares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional
from hypothesis import strategies as st
from torch import Tensor

import seqkern.functional as F
from helpers import Array, generator, normal, strided, to_array
from reference import CBOW, NegativeSamplingLoss
from softmax_cases import ROUNDINGS, scaled_error, sum_dtype

SAMPLING_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
REDUCTIONS = ("none", "mean", "sum")


@dataclass(frozen=True)
class Problem:
    """Arguments of a loss, and the gradient of its result."""

    tensors: dict[str, Tensor]  # hidden or embedding, and weight
    contexts: Tensor | None
    target: Tensor
    negatives: Tensor
    options: dict[str, Any]
    d_loss: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the matrices."""
        return self.tensors["weight"].dtype


@dataclass(frozen=True)
class Recipe:
    """What a problem has."""

    examples: int = 7
    negatives: int = 5
    shared: bool = False
    features: int = 33
    words: int = 11  # fewer than are used: most are used more than once
    contexts: int | None = None  # None: hidden states are given
    padded: float = 0.3  # share of the contexts
    padding_idx: int = -1
    size: float = 1.0  # of the scores
    reduction: str = "mean"
    sparse: bool = False
    d_loss: float = 1.0
    views: bool = False
    seed: int = 0

    def problem(self, dtype: torch.dtype) -> Problem:
        """Draw the tensors, the same numbers in each dtype."""
        random = generator(self.seed)
        B, K, D, V = self.examples, self.negatives, self.features, self.words
        scale = (self.size / max(D, 1) ** 0.5) ** 0.5
        contexts = None
        tensors = {}
        if self.contexts is None:
            tensors["hidden"] = normal((B, D), torch.float64, random) * scale
        else:
            tensors["embedding"] = normal((V + 3, D), torch.float64, random) * scale
            contexts = torch.randint(V + 3, (B, self.contexts), generator=random)
            if 0 <= self.padding_idx < V + 3:
                contexts[contexts == self.padding_idx] = V + 2 - self.padding_idx
            contexts[torch.rand(contexts.shape, generator=random) < self.padded] = self.padding_idx
        tensors["weight"] = normal((V, D), torch.float64, random) * scale
        tensors = {name: t.to(dtype) for name, t in tensors.items()}
        target = torch.randint(V, (B,), generator=random)
        negatives = torch.randint(V, (K,) if self.shared else (B, K), generator=random)
        if self.views:
            tensors = {name: strided(t) for name, t in tensors.items()}
            target, negatives = strided(target), strided(negatives)
            contexts = None if contexts is None else strided(contexts)
        shape = (B,) if self.reduction == "none" else ()
        d_loss = torch.full(shape, self.d_loss, dtype=sum_dtype(dtype))
        if self.reduction == "none":
            d_loss = d_loss * normal(shape, sum_dtype(dtype), random)
        options: dict[str, Any] = {"reduction": self.reduction, "sparse": self.sparse}
        if contexts is not None:
            options["padding_idx"] = self.padding_idx
        return Problem(tensors, contexts, target, negatives, options, d_loss)


def recipes() -> st.SearchStrategy[Recipe]:
    """Combinations of everything, of small sizes."""
    return st.builds(
        Recipe,
        examples=st.sampled_from([0, 1, 2, 7, 43, 100]),
        negatives=st.sampled_from([0, 1, 2, 5, 15, 16, 70]),
        shared=st.sampled_from([False, False, True]),
        features=st.sampled_from([0, 1, 3, 4, 8, 15, 16, 17, 31, 33, 64, 100, 127, 129]),
        words=st.sampled_from([1, 2, 9, 300]),
        contexts=st.sampled_from([None, None, 0, 1, 4, 10]),
        padded=st.sampled_from([0.0, 0.3, 1.0]),
        padding_idx=st.sampled_from([-1, 0, 3, 10**9]),
        size=st.sampled_from([1e-3, 1.0, 1.0, 10.0]),
        reduction=st.sampled_from(REDUCTIONS),
        sparse=st.booleans(),
        d_loss=st.sampled_from([1.0, 1.0, -2.5, 0.0, 1000.0]),
        views=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    ).map(_possible)


def _possible(recipe: Recipe) -> Recipe:
    """The recipe, less what float16 cannot hold and an oracle of loops takes long for."""
    if recipe.examples * recipe.negatives > 1000:
        return Recipe(**(recipe.__dict__ | {"examples": 7}))
    return recipe


# --- three ways to solve a problem ---------------------------------------------------------------


@dataclass
class Solution:
    """What the oracle finds."""

    arrays: dict[str, Array]  # the loss, and gradients of the tensors (prefix "d_")
    scales: dict[str, Array]  # what rounding is relative to: sums of the sizes of terms


def reference(problem: Problem) -> Solution:
    """Solve in float64, with the NumPy layers: example by example."""
    arrays = {name: to_array(t) for name, t in problem.tensors.items()}
    weight, target = arrays["weight"], problem.target.numpy()
    B, D = len(target), weight.shape[1]
    negatives = problem.negatives.numpy()
    negatives = np.broadcast_to(negatives, (B, negatives.shape[-1]))
    contexts = None if problem.contexts is None else problem.contexts.numpy()
    reduction = problem.options["reduction"]
    factor = 1.0 / max(B, 1) if reduction == "mean" else 1.0
    d_losses = np.broadcast_to(to_array(problem.d_loss), (B,)) * factor

    losses, loss_scales = np.zeros(B), np.zeros(B)
    source_name = next(iter(arrays))
    source = arrays[source_name]
    found = {name: np.zeros_like(array) for name, array in arrays.items()}
    scales = {name: np.zeros_like(array) for name, array in arrays.items()}
    for b in range(B):
        one = slice(b, b + 1)
        if contexts is None:
            layer = NegativeSamplingLoss(weight)
            losses[b] = layer.forward(source[one], target[one], negatives[one])
            found[source_name][b] = layer.backward(d_losses[b])[0]
            found["weight"] += layer.grads[0]
            h, sizes_of_h, words = source[b], np.abs(source[b]), np.zeros(0, dtype=np.int64)
        else:
            model = CBOW(source, weight, problem.options["padding_idx"])
            losses[b] = model.forward(contexts[one], target[one], negatives[one])
            model.backward(d_losses[b])
            found[source_name] += model.grads[0]
            found["weight"] += model.grads[1]
            (words,) = model.words
            share = 1.0 / max(len(words), 1)
            h = source[words].sum(axis=0) * share if len(words) else np.zeros(D)
            sizes_of_h = np.abs(source[words]).sum(axis=0) * share
        # The sizes of all terms: a score's products, the slope by its rounded score, and so on.
        of_words = np.append(target[one], negatives[b])
        label = np.append(1.0, np.zeros(negatives.shape[1]))
        s, products = weight[of_words] @ h, np.abs(weight[of_words]) @ sizes_of_h
        slope = 1.0 / (1.0 + np.exp(-np.clip(s, -700, 700))) - label
        sizes = (np.abs(slope) + np.abs(slope) * (1 - np.abs(slope)) * products) * abs(d_losses[b])
        loss_scales[b] = losses[b] + (np.abs(slope) * products).sum()
        of_h = sizes @ np.abs(weight[of_words])
        np.add.at(scales["weight"], of_words, sizes[:, None] * sizes_of_h)
        if contexts is None:
            scales[source_name][b] = of_h
        else:
            np.add.at(scales[source_name], words, of_h / max(len(words), 1))
    if reduction != "none":
        losses, loss_scales = losses.sum() * factor, loss_scales.sum() * factor
    values = {"loss": np.asarray(losses)} | {f"d_{name}": d for name, d in found.items()}
    sizes = {"loss": np.asarray(loss_scales)} | {f"d_{name}": d for name, d in scales.items()}
    return Solution(values, sizes)


def plain_loss(problem: Problem, tensors: dict[str, Tensor]) -> Tensor:
    """The loss as one composes it of torch's operations; half types are computed in float32."""
    dtype = sum_dtype(problem.dtype)
    functional, target = torch.nn.functional, problem.target
    source, weight = tensors.values()
    if problem.contexts is None:
        h = source.to(dtype)
    else:
        there = problem.contexts != problem.options["padding_idx"]
        rows = functional.embedding(torch.where(there, problem.contexts, 0), source.to(dtype))
        rows = rows * there.unsqueeze(-1)
        h = rows.sum(1) / there.sum(1, keepdim=True).clamp(1)
    negatives = problem.negatives.expand(len(target), problem.negatives.shape[-1])
    ids = torch.cat([target.unsqueeze(1), negatives], 1)
    rows = functional.embedding(ids, weight.to(dtype))
    scores = torch.bmm(rows, h.unsqueeze(2)).squeeze(2)
    log_sigmoid = functional.logsigmoid
    losses = -log_sigmoid(scores[:, 0]) - log_sigmoid(-scores[:, 1:]).sum(1)
    reduction = problem.options["reduction"]
    if reduction == "none":
        return losses
    return losses.sum() / (max(len(target), 1) if reduction == "mean" else 1)


def fused_loss(problem: Problem, tensors: dict[str, Tensor], **more: Any) -> Tensor:
    """Call seqkern's function."""
    options = problem.options | more
    source, weight = tensors.values()
    if problem.contexts is None:
        given = (source, weight, problem.target, problem.negatives)
        return F.negative_sampling_loss(*given, **options)
    words = (problem.contexts, problem.target, problem.negatives)
    return F.cbow_negative_sampling_loss(source, weight, *words, **options)


def differentiated(
    problem: Problem, function: Callable[[dict[str, Tensor]], Tensor]
) -> dict[str, Tensor]:
    """The loss that a function yields of the tensors, and the gradients of these."""
    leaves = {name: t.detach().requires_grad_() for name, t in problem.tensors.items()}
    loss = function(leaves)
    gradients = torch.autograd.grad(loss, list(leaves.values()), problem.d_loss)
    named = {f"d_{name}": d for name, d in zip(leaves, gradients, strict=True)}
    return {"loss": loss.detach()} | named


def composed(problem: Problem) -> dict[str, Tensor]:
    """Solve in plain torch operations."""
    return differentiated(problem, lambda tensors: plain_loss(problem, tensors))


def fused(problem: Problem, **more: Any) -> dict[str, Tensor]:
    """Solve with seqkern's function; sparse gradients as they come."""
    return differentiated(problem, lambda tensors: fused_loss(problem, tensors, **more))


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient as a dense tensor; half types are added up in float64, and rounded."""
    if gradient.layout == torch.strided:
        return gradient
    return gradient.double().to_dense().to(gradient.dtype)


def check(problem: Problem, found: dict[str, Tensor], expected: Solution | None = None) -> None:
    """Check shapes, dtypes, layouts and numbers against the oracle.

    No result errs more than twice what its peer does, or a few roundings.
    """
    expected, peer = expected or reference(problem), composed(problem)
    assert list(found) == list(peer)
    for name, array in expected.arrays.items():
        actual = found[name]
        dtype = sum_dtype(problem.dtype) if name == "loss" else problem.dtype
        assert actual.dtype == dtype, name
        is_sparse = problem.options["sparse"] and name in ("d_weight", "d_embedding")
        assert actual.layout == (torch.sparse_coo if is_sparse else torch.strided), name
        actual = dense(actual)
        assert torch.isfinite(actual).all(), name
        scale = expected.scales[name]
        floor = ROUNDINGS[dtype] * torch.finfo(dtype).eps
        bound = max(2 * scaled_error(peer[name], array, scale), floor)
        error = scaled_error(actual, array, scale)
        assert error <= bound, f"{name}: error {error:.2e}, expected at most {bound:.2e}"


# --- the ops -------------------------------------------------------------------------------------


def op_arguments(dtype: torch.dtype) -> dict[str, tuple[object, ...]]:
    """Arguments of each op."""
    hidden, embedding, weight = (
        normal(shape, dtype, generator(i)) for i, shape in enumerate([(5, 3), (6, 3), (7, 3)])
    )
    target, negatives = torch.tensor([1, 6, 0, 6, 2]), torch.arange(10).view(5, 2) % 7
    contexts = torch.tensor([[1, 2], [-1, 3], [5, 5], [-1, -1], [0, -1]])
    sums = sum_dtype(dtype)
    d_scores, d_losses = normal((5, 2), dtype, generator(3)), normal((5,), sums, generator(4))
    both = [True, True]
    return {
        "embedding_dot": (hidden, weight, negatives),
        "embedding_dot_backward": (d_scores, hidden, weight, negatives, both, True),
        "negative_sampling_loss": (
            *(embedding, weight, contexts, -1, target, negatives),
            *(1, both, False),
        ),
        "negative_sampling_loss_backward": (
            *(hidden, weight, None, -1, target, negatives),
            *(d_losses, both, True),
        ),
    }
