"""Problems of the softmax loss, of given logits and of a linear layer's: the oracle and the peer.

A Recipe says what a problem has, in words and numbers that hypothesis can draw; `Recipe.problem`
draws its tensors. `reference` solves it in float64 with the NumPy layers, `composed` in plain torch
operations, and `fused` with seqkern; all three name their results alike. `check` compares.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import backend
import seqkern.functional as F
from helpers import Array, generator, normal, strided, to_array
from reference import CrossEntropy, LinearCrossEntropy

DIFFERENTIABLE = ("loss", "log_probability", "logsumexp", "entropy")
LINEAR = ("hidden", "weight", "bias")
SOFTMAX_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
NONE, MEAN, SUM = range(3)  # reductions, as the ops take them
# Roundings of a result that are granted where torch's error is smaller still.
ROUNDINGS = {torch.float32: 8, torch.float64: 16, torch.bfloat16: 1, torch.float16: 1}


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of sums, losses and statistics."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Problem:
    """Arguments of a loss, and the gradients of the results that are used."""

    tensors: dict[str, Tensor]  # logits; or hidden, weight and perhaps bias
    target: Tensor
    class_weight: Tensor | None
    options: dict[str, Any]
    gradients: dict[str, Tensor]  # by DIFFERENTIABLE, those that are there

    @property
    def linear(self) -> bool:
        """Return whether the logits are a linear layer's."""
        return "hidden" in self.tensors

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of logits or hidden states."""
        return next(iter(self.tensors.values())).dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the positions."""
        return tuple(next(iter(self.tensors.values())).shape[:-1])


@dataclass(frozen=True)
class Recipe:
    """What a problem has."""

    shape: tuple[int, ...] = (5, 3)
    classes: int = 33
    features: int | None = None  # None: logits are given
    bias: bool = True
    kind: str = "random"  # or peaked, huge, constant, masked
    soft: bool = False
    class_weight: bool = False
    ignored: float = 0.2  # share of the hard targets
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
    temperature: float = 1.0
    used: tuple[bool, ...] = (True, False, False, False)  # of DIFFERENTIABLE
    scale: float = 1.0  # of their gradients
    views: bool = False
    seed: int = 0

    def problem(self, dtype: torch.dtype) -> Problem:
        """Draw the tensors, the same numbers in each dtype."""
        random = generator(self.seed)
        tensors = self._linear(random) if self.features is not None else self._logits(random)
        tensors = {name: t.to(dtype) for name, t in tensors.items()}
        target = self._target(random)
        weight = None
        if self.class_weight:
            weight = torch.rand(self.classes, generator=random) + 0.25
        if self.views:
            tensors = {name: strided(t) for name, t in tensors.items()}
            target = strided(target) if self.soft else target.expand(2, *target.shape)[1]
            weight = None if weight is None else strided(weight)
        shapes = [() if self.reduction != "none" else self.shape, *[self.shape] * 3]
        gradients = {
            name: normal(shape, sum_dtype(dtype), random) * self.scale
            for name, shape, used in zip(DIFFERENTIABLE, shapes, self.used, strict=True)
            if used
        }
        names = ("ignore_index", "reduction", "label_smoothing", "z_loss", "softcap", "temperature")
        options = {name: getattr(self, name) for name in names}
        return Problem(tensors, target, weight, options, gradients)

    def _logits(self, random: torch.Generator) -> dict[str, Tensor]:
        shape = (*self.shape, self.classes)
        logits = normal(shape, torch.float64, random)
        if self.kind == "peaked":
            peak = torch.randint(self.classes, (*self.shape, 1), generator=random)
            logits.scatter_add_(-1, peak, torch.full(peak.shape, 15.0, dtype=torch.float64))
        elif self.kind == "huge":
            logits *= 1e4
        elif self.kind == "constant":
            logits[...] = 3.25
        elif self.kind == "masked":
            logits[..., self._masked()] = -torch.inf
        return {"logits": logits}

    def _linear(self, random: torch.Generator) -> dict[str, Tensor]:
        assert self.features is not None
        hidden = normal((*self.shape, self.features), torch.float64, random)
        weight = normal((self.classes, self.features), torch.float64, random)
        weight /= max(self.features, 1) ** 0.5
        bias = normal((self.classes,), torch.float64, random)
        if self.kind == "peaked":
            bias[torch.randint(self.classes, (1,), generator=random)] += 15
        elif self.kind == "huge":
            hidden, weight = hidden * 100, weight * 100
        elif self.kind == "constant":
            hidden[...], bias[...] = 0.0, 3.25
        elif self.kind == "masked":
            bias[self._masked()] = -torch.inf
        tensors = {"hidden": hidden, "weight": weight, "bias": bias}
        if not (self.bias or self.kind == "masked"):
            del tensors["bias"]
        return tensors

    def _masked(self) -> slice:
        """The classes that are masked out: a block in the middle, never all."""
        return slice((self.classes + 2) // 3, (2 * self.classes + 2) // 3)

    def _target(self, random: torch.Generator) -> Tensor:
        target = torch.randint(self.classes, self.shape, generator=random)
        if self.kind == "masked":  # none of them is masked
            masked = self._masked()
            inside = (target >= masked.start) & (target < masked.stop)
            target = torch.where(inside, target // 3, target)
            assert not ((target >= masked.start) & (target < masked.stop)).any()
        if self.soft:
            shape = (*self.shape, self.classes)
            return torch.softmax(normal(shape, torch.float64, random), -1).float()
        ignored = torch.rand(self.shape, generator=random) < self.ignored
        return torch.where(ignored, self.ignore_index, target)


def _possible(recipe: Recipe) -> Recipe:
    """Leave out options that yield an infinite loss where classes are masked out."""
    if recipe.kind != "masked":
        return recipe
    return replace(recipe, soft=False, label_smoothing=0.0, softcap=None)


def variations(recipe: Recipe, count: int) -> list[Recipe]:
    """The recipe with every other option, in so many combinations."""
    options: list[dict[str, Any]] = [
        {},
        {"reduction": "sum", "label_smoothing": 0.1, "class_weight": True},
        {"reduction": "none", "z_loss": 1e-2, "softcap": 3.0, "temperature": 0.7},
        {"soft": True, "label_smoothing": 0.3, "temperature": 2.5, "class_weight": True},
        {"soft": True, "reduction": "none", "z_loss": 1e-2},
        {"reduction": "sum", "soft": True, "softcap": 2.0, "label_smoothing": 1.0},
    ]
    return [replace(recipe, **more) for more in options[:count]]


def recipes(features: bool) -> st.SearchStrategy[Recipe]:
    """Combinations of everything, of small sizes."""
    sizes = [1, 2, 3, 7, 15, 16, 17, 33, 63, 100, 257]
    some = st.sampled_from([True, True, False])
    return st.builds(
        Recipe,
        shape=st.sampled_from([(), (0,), (1,), (7,), (3, 5), (2, 0, 3), (2, 3, 4)]),
        classes=st.sampled_from([*sizes, 1001]),
        features=st.sampled_from([0, *sizes]) if features else st.none(),
        bias=some,
        kind=st.sampled_from(["random", "random", "peaked", "masked"]),
        soft=st.sampled_from([False, False, True]),
        class_weight=st.booleans(),
        ignored=st.sampled_from([0.0, 0.3, 1.0]),
        ignore_index=st.sampled_from([-100, -1, 0, 5, 10**9]),
        reduction=st.sampled_from(["none", "mean", "sum"]),
        label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
        z_loss=st.sampled_from([0.0, 1e-3]),
        softcap=st.sampled_from([None, 3.0, 30.0]),
        temperature=st.sampled_from([1.0, 0.7, 2.5]),
        used=st.tuples(*[some] * 4).filter(any),
        scale=st.sampled_from([1.0, 1.0, 1000.0]),
        views=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    ).map(_possible)


# --- three ways to solve a problem ---------------------------------------------------------------


@dataclass
class Solution:
    """What the oracle finds."""

    arrays: dict[str, Array]  # results, and gradients of the tensors (prefix "d_")
    scales: dict[str, Array]  # what rounding is relative to: sums of the sizes of terms
    rank: NDArray[np.int64]
    argmax: NDArray[np.int64]
    shaped: Array  # logits after soft-cap and temperature


def reference(problem: Problem) -> Solution:
    """Solve in float64, with the NumPy layers."""
    rows = int(np.prod(problem.shape))
    arrays = {name: to_array(t) for name, t in problem.tensors.items()}
    target = problem.target.numpy()
    if problem.target.is_floating_point():  # the kernels read it in the dtype of logits
        target = to_array(problem.target.to(problem.dtype))
    target = target.reshape((rows, *target.shape[len(problem.shape) :]))
    weight = None if problem.class_weight is None else to_array(problem.class_weight)
    loss = CrossEntropy(weight, **problem.options)

    of_rows = {name: to_array(g).reshape(-1) for name, g in problem.gradients.items()}
    d_loss, *others = (of_rows.get(name) for name in DIFFERENTIABLE)
    gradients: tuple[Any, ...] = (np.zeros(1) if d_loss is None else d_loss, *others)

    logits = arrays.get("logits")
    if logits is None:
        hidden = arrays["hidden"].reshape(rows, arrays["hidden"].shape[-1])
        layer = LinearCrossEntropy(loss)
        result = layer.forward(hidden, arrays["weight"], target, arrays.get("bias"))
        found: tuple[Array, ...] = layer.backward(*gradients)
        terms: tuple[Array, ...] = layer.terms
        logits = hidden @ arrays["weight"].T + arrays.get("bias", 0.0)
    else:
        result = loss.forward(logits.reshape(rows, logits.shape[-1]), target)
        found, terms = (loss.backward(*gradients),), (loss.terms,)
    shape = problem.shape
    values = {name: getattr(result, name).reshape(shape) for name in DIFFERENTIABLE[1:]}
    values["loss"] = result.loss.reshape(shape if loss.reduction == "none" else ())
    scales = {name: abs(v) + 1.0 for name, v in values.items()}  # log p errs as p does, relatively
    for name, array, d, of_terms in zip(arrays, arrays.values(), found, terms, strict=False):
        values[f"d_{name}"] = d.reshape(array.shape)
        scales[f"d_{name}"] = of_terms.reshape(array.shape)
    if loss.softcap is not None:
        logits = loss.softcap * np.tanh(logits / loss.softcap)
    shaped = (logits / loss.temperature).reshape((*shape, logits.shape[-1]))
    rank, argmax = (of.astype(np.int64).reshape(shape) for of in (result.rank, result.argmax))
    return Solution(values, scales, rank, argmax, shaped)


def peer_results(
    problem: Problem, tensors: dict[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Loss and statistics in plain torch operations: torch's loss, and what it has no option of.

    Where the mean is of nothing, it is 0.
    """
    options, functional = problem.options, torch.nn.functional
    if problem.linear:
        given = [t.to(dtype) for t in tensors.values()]
        logits = functional.linear(*given).to(sum_dtype(dtype))
        # Products take the gradient of logits in the dtype of their other factor.
        if logits.requires_grad:
            logits.register_hook(lambda d: d.to(problem.dtype).to(d.dtype))
    else:
        logits = tensors["logits"].to(dtype)
    classes = logits.shape[-1]
    logits, target = logits.reshape(-1, classes), problem.target
    soft = target.is_floating_point()
    if soft:
        target = target.to(problem.dtype).to(logits.dtype).reshape(-1, classes)
    else:
        target = target.flatten()
    weight = None if problem.class_weight is None else problem.class_weight.to(logits.dtype)
    if options["softcap"] is not None:
        logits = options["softcap"] * torch.tanh(logits / options["softcap"])
    logits = logits / options["temperature"]

    names = ("label_smoothing",) if soft else ("label_smoothing", "ignore_index")
    losses = functional.cross_entropy(
        logits, target, weight, reduction="none", **{name: options[name] for name in names}
    )
    counts = (
        torch.ones(len(logits), dtype=torch.bool) if soft else target != options["ignore_index"]
    )
    log_p, log_sum_exp = torch.log_softmax(logits, -1), torch.logsumexp(logits, -1)
    losses = losses + options["z_loss"] * log_sum_exp**2 * counts
    place = None if soft else torch.where(counts, target, 0)
    if place is None:
        denominator: Tensor | float = float(len(logits))
        log_probability = (target * log_p).sum(-1)
    else:
        denominator = ((1.0 if weight is None else weight[place]) * counts).sum()
        log_probability = log_p.gather(1, place[:, None])[:, 0]
    loss = losses.view(problem.shape)
    if options["reduction"] != "none":
        loss = losses.sum()
    if options["reduction"] == "mean":
        loss = loss / denominator if denominator else loss * 0.0
    # Classes that are masked out add nothing.
    entropy = -(log_p.exp() * torch.where(log_p.isneginf(), 0.0, log_p)).sum(-1)
    of_rows = {"log_probability": log_probability, "logsumexp": log_sum_exp, "entropy": entropy}
    return {"loss": loss} | {
        name: torch.where(counts, values, 0.0).view(problem.shape)
        for name, values in of_rows.items()
    }


def differentiated(
    problem: Problem, function: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Results of a function of the problem's tensors, and the gradients of these."""
    leaves = {name: t.detach().requires_grad_() for name, t in problem.tensors.items()}
    found = function(leaves)
    gradients = torch.autograd.grad(
        [found[name] for name in problem.gradients],
        list(leaves.values()),
        [g.to(found[name].dtype) for name, g in problem.gradients.items()],
    )
    named = {f"d_{name}": d for name, d in zip(leaves, gradients, strict=True)}
    return {name: t.detach() for name, t in found.items()} | named


def composed(problem: Problem) -> dict[str, Tensor]:
    """Solve in plain torch operations.

    Half-precision tensors are computed with in float32, as the kernels do; but CUDA kernels hold a
    linear layer's logits in the dtype of the tensors, as torch does.
    """
    # torch's bfloat16 product of a strided matrix may read the value after a row of odd length.
    tensors = {name: t.contiguous() for name, t in problem.tensors.items()}
    problem = replace(problem, tensors=tensors)
    rounds = problem.linear and backend.NAME in backend.CUDA
    dtype = problem.dtype if rounds else sum_dtype(problem.dtype)
    return differentiated(problem, lambda tensors: peer_results(problem, tensors, dtype))


def call(problem: Problem, tensors: dict[str, Tensor], **more: Any) -> Any:
    """Call seqkern's function."""
    options = problem.options | more
    if problem.linear:
        return F.linear_cross_entropy(
            *(tensors["hidden"], tensors["weight"], problem.target, tensors.get("bias")),
            class_weight=problem.class_weight,
            **options,
        )
    return F.cross_entropy(tensors["logits"], problem.target, problem.class_weight, **options)


def results(problem: Problem, tensors: dict[str, Tensor], **more: Any) -> dict[str, Tensor]:
    """Loss and statistics of seqkern's function."""
    loss, statistics = call(problem, tensors, statistics=True, **more)
    return {"loss": loss} | statistics._asdict()


def fused(problem: Problem, **more: Any) -> dict[str, Tensor]:
    """Solve with seqkern's function; `more`: further arguments."""
    return differentiated(problem, lambda tensors: results(problem, tensors, **more))


# --- comparison ----------------------------------------------------------------------------------


def scaled_error(actual: Tensor, expected: Array, scale: Array) -> float:
    """Return the greater of two errors, relative to `scale`: of the norm, and of the worst element.

    Where scale is 0 throughout, there is nothing to round.
    """
    assert tuple(actual.shape) == expected.shape
    difference = np.abs(to_array(actual) - expected)
    if not difference.any():
        return 0.0
    if not scale.any():
        return np.inf
    norms = np.linalg.norm(difference) / np.linalg.norm(scale)
    return max(float(norms), float(difference.max() / scale.max()))


def check(problem: Problem, found: dict[str, Tensor], expected: Solution | None = None) -> None:
    """Check shapes, dtypes and numbers against the oracle.

    No result errs more than twice what its peer does, or a few roundings.
    """
    expected, peer = expected or reference(problem), composed(problem)
    sums = sum_dtype(problem.dtype)
    for name, array in expected.arrays.items():
        actual, dtype = found[name], problem.dtype if name.startswith("d_") else sums
        assert actual.dtype == dtype, name
        assert torch.isfinite(actual).all(), name
        scale = expected.scales[name]
        floor = ROUNDINGS[dtype] * torch.finfo(dtype).eps
        bound = max(2 * scaled_error(peer[name], array, scale), floor)
        error = scaled_error(actual, array, scale)
        assert error <= bound, f"{name}: error {error:.2e}, expected at most {bound:.2e}"
    if not problem.linear:
        ignored = torch.as_tensor(expected.rank < 0)
        assert not found["d_logits"][ignored].any()
    check_ranks(problem, found, expected)


def check_ranks(problem: Problem, found: dict[str, Tensor], expected: Solution) -> None:
    """Check rank and argmax: exactly, but for logits that rounding may put in another order."""
    rank, best = found["rank"], found["argmax"]
    assert rank.dtype == best.dtype == torch.int64
    exact = problem.options["softcap"] is None and problem.options["temperature"] == 1
    if exact and not problem.linear:
        np.testing.assert_array_equal(rank.numpy(), expected.rank)
        np.testing.assert_array_equal(best.numpy(), expected.argmax)
        return
    dtype = sum_dtype(problem.dtype)
    if problem.linear and backend.NAME in backend.CUDA:
        dtype = problem.dtype
    z, target = expected.shaped, problem.target.numpy()
    if problem.target.is_floating_point():
        target = to_array(problem.target.to(problem.dtype)).argmax(-1)
    assert rank.shape == best.shape == target.shape
    for index in np.ndindex(target.shape):
        if expected.rank[index] < 0:
            assert rank[index] == best[index] == -1
            continue
        row = z[index]
        assert 0 <= rank[index] < len(row)
        near = 16 * torch.finfo(dtype).eps * np.abs(row[np.isfinite(row)]).max()
        of_target = row[target[index]]
        assert (row > of_target + near).sum() <= rank[index] < (row >= of_target - near).sum()
        assert row[best[index]] >= row.max() - near


# --- the ops -------------------------------------------------------------------------------------


def op_arguments(dtype: torch.dtype) -> dict[str, tuple[object, ...]]:
    """Arguments of each op, with every option."""
    hidden, weight, bias = (normal(s, dtype, generator(2)) for s in ((5, 3), (7, 3), (7,)))
    target, class_weight = torch.tensor([1, 6, -1, 6, 2]), torch.linspace(0.5, 2, 7)
    options = (class_weight, -1, 0.1, 1e-3, 5.0, 0.7, 0, 0)
    layer, wanted = (hidden, weight, bias, target, *options), [True, False, True]
    logits = torch.nn.functional.linear(hidden, weight, bias)
    op = torch.ops.seqkern.softmax_loss
    numbers = op(logits, target, *options, NONE, True, False)[1]
    known = (numbers, normal((4, 5), numbers.dtype, generator(3)))
    return {
        "scale_": (hidden, torch.tensor(0.5)),
        "softmax_loss": (logits, target, *options, NONE, True, True),
        "softmax_loss_backward": (logits, target, *options, *known),
        "linear_softmax_loss": (*layer, MEAN, True, wanted, 1 << 20),
        "linear_softmax_loss_backward": (*layer, *known, wanted, 1 << 20),
    }
