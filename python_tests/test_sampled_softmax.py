"""The sampled softmax loss against plain torch operations, and the samplers against statistics."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from backend import not_on_host
from helpers import error, examples, generator, normal, to_array
from seqkern.functional import cross_entropy, linear_cross_entropy
from seqkern.functional.sampled_softmax import Candidates, sampled_softmax_loss
from seqkern.nn.samplers import LogUniformSampler, SampledSoftmaxLoss, Sampler, UnigramSampler

EPS = {torch.float32: 1.2e-7, torch.float64: 2.3e-16, torch.bfloat16: 7.9e-3}
SIZES = (11, 7)  # of vocabulary and hidden, where nothing depends on them


def plain(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    candidates: Candidates,
    bias: Tensor | None = None,
    *,
    target_log_expected_count: Tensor | None = None,
    remove_accidental_hits: bool = True,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The loss position by position, as it is defined."""
    ids, log_count = candidates
    nothing = (hidden.sum() + weight.sum() + (0 if bias is None else bias.sum())) * 0
    losses, count = [], 0
    for place in np.ndindex(tuple(target.shape)):
        h, t = hidden[place], int(target[place])
        if t == ignore_index:
            losses.append(nothing)
            continue
        count += 1

        def score(c: int, log_q: Tensor | None, h: Tensor = h) -> Tensor:
            z = weight[c] @ h + (0 if bias is None else bias[c])
            return z if log_q is None else z - log_q

        true = score(
            t, None if target_log_expected_count is None else target_log_expected_count[place]
        )
        others = [
            score(int(c), None if log_count is None else log_count[i])
            for i, c in enumerate(ids)
            if not (remove_accidental_hits and c == t)
        ]
        losses.append(torch.stack([true, *others]).logsumexp(0) - true)
    if reduction == "none":
        return torch.stack(losses).view(target.shape)
    total = torch.stack(losses).sum() if losses else nothing
    return total / max(count, 1) if reduction == "mean" else total


def problem(
    shape: tuple[int, ...],
    num_sampled: int,
    dtype: torch.dtype,
    seed: int,
    ignored: float = 0.3,
) -> dict[str, Any]:
    """Draw arguments."""
    (classes, width), random = SIZES, generator(seed)
    target = torch.randint(classes, shape, generator=random)
    target = torch.where(torch.rand(shape, generator=random) < ignored, -100, target)
    sampler = LogUniformSampler(classes)
    return {
        "hidden": normal((*shape, width), dtype, random).requires_grad_(),
        "weight": normal((classes, width), dtype, random).requires_grad_(),
        "target": target,
        "candidates": sampler.draw(num_sampled, random),
        "bias": normal((classes,), dtype, random).requires_grad_(),
        "target_log_expected_count": sampler.log_expected_count(target, num_sampled),
    }


def in_float64(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same numbers, as leaves of another graph."""

    def convert(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.detach().double().requires_grad_(value.requires_grad)
        return value

    return {name: convert(value) for name, value in arguments.items()}


def with_gradients(function: Any, arguments: dict[str, Any]) -> list[Tensor]:
    """The loss, and the gradients of a weighted sum of it."""
    loss = function(**arguments)
    factors = torch.linspace(0.5, 2, max(loss.numel(), 1), dtype=loss.dtype)[: loss.numel()]
    leaves = [v for v in arguments.values() if isinstance(v, Tensor) and v.requires_grad]
    return [loss, *torch.autograd.grad((loss * factors.view(loss.shape)).sum(), leaves)]


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@examples(40)
@given(
    shape=st.sampled_from([(), (0,), (1,), (5,), (2, 0), (3, 2)]),
    num_sampled=st.sampled_from([1, 2, 6, 20]),
    bias=st.booleans(),
    corrected=st.booleans(),
    remove=st.booleans(),
    reduction=st.sampled_from(["none", "mean", "sum"]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_loss_and_gradients_match_the_definition(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    num_sampled: int,
    bias: bool,
    corrected: bool,
    remove: bool,
    reduction: str,
    ignored: float,
    seed: int,
) -> None:
    arguments = problem(shape, num_sampled, dtype, seed, ignored)
    arguments |= {"remove_accidental_hits": remove, "reduction": reduction}
    if not bias:
        arguments["bias"] = None
    if not corrected:
        arguments["candidates"] = Candidates(arguments["candidates"].ids)
        arguments["target_log_expected_count"] = None
    if 0 in shape and reduction == "none":
        assert sampled_softmax_loss(**arguments).shape == shape
        return
    actual = with_gradients(sampled_softmax_loss, arguments)
    expected = with_gradients(plain, in_float64(arguments))
    assert actual[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    scale = 1 + max((float(t.detach().abs().max()) for t in expected if t.numel()), default=0.0)
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        difference = (one.double() - other).abs()
        assert not difference.numel() or difference.max() <= 40 * EPS[dtype] * scale


def test_float32_is_at_most_twice_as_wrong_as_plain_torch_operations() -> None:
    def composition(hidden: Tensor, weight: Tensor, target: Tensor, candidates: Candidates) -> Any:
        true = (hidden * weight[target]).sum(-1, keepdim=True)
        others = (hidden @ weight[candidates.ids].T).masked_fill(
            candidates.ids == target.unsqueeze(-1), -torch.inf
        )
        zero = torch.zeros_like(target)
        return torch.nn.functional.cross_entropy(torch.cat([true, others], -1), zero)

    random = generator(3)
    weight, hidden = (normal((n, 64), torch.float32, random) / 2 for n in (300, 40))
    arguments = {
        "hidden": hidden.requires_grad_(),
        "weight": weight.requires_grad_(),
        "target": torch.randint(300, (40,), generator=random),
        "candidates": Candidates(torch.randint(300, (90,), generator=random)),
    }
    expected = with_gradients(composition, in_float64(arguments))
    actual = with_gradients(sampled_softmax_loss, arguments)
    peer = with_gradients(composition, arguments)
    for one, other, right in zip(actual, peer, expected, strict=True):
        assert error(one, to_array(right)) <= 2 * max(error(other, to_array(right)), 1.2e-7)


def test_all_classes_as_candidates_give_the_full_softmax() -> None:
    arguments = problem((6,), 1, torch.float64, 0)
    del arguments["target_log_expected_count"], arguments["candidates"]
    full = with_gradients(linear_cross_entropy, arguments)
    arguments["candidates"] = Candidates(torch.randperm(SIZES[0]))
    for one, other in zip(with_gradients(sampled_softmax_loss, arguments), full, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("unique", [True, False])
def test_the_correction_makes_a_large_sample_agree_with_the_full_softmax(unique: bool) -> None:
    """The gradient's error falls as 1 / sqrt(S), and stays without the correction."""
    random, classes = generator(1), 30
    sampler = UnigramSampler(range(10, 10 + classes), unique=unique)
    hidden = normal((8, 4), torch.float64, random)
    weight = normal((classes, 4), torch.float64, random).requires_grad_()
    target = torch.randint(classes, (8,), generator=random)
    (exact,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, target), weight)

    def distance(num_sampled: int, corrected: bool = True) -> float:
        drawn = sampler.draw(num_sampled, random)
        log_count = sampler.log_expected_count(target, num_sampled)
        if not corrected:
            drawn, log_count = Candidates(drawn.ids), None
        loss = sampled_softmax_loss(
            hidden,
            weight,
            target,
            drawn,
            target_log_expected_count=log_count,
            remove_accidental_hits=unique,
        )
        (gradient,) = torch.autograd.grad(loss, weight)
        return float((gradient - exact).norm() / exact.norm())

    assert distance(100) < 0.5
    assert distance(20000) < (1e-9 if unique else 0.04)
    assert distance(20000, corrected=False) > 0.08


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("num_sampled", [3, 12])
def test_the_distribution_of_the_data_is_the_optimum_for_any_sample(
    unique: bool, num_sampled: int
) -> None:
    """There, the mean gradient is 0, but for noise and for how unique draws depend on another."""
    probabilities = torch.tensor([0.4, 0.05, 0.3, 0.05, 0.2], dtype=torch.float64)
    sampler, random = UnigramSampler([5, 1, 1, 1, 1], unique=unique), generator(4)
    weight, target = probabilities.log().unsqueeze(1).requires_grad_(), torch.arange(5)
    log_count, draws = sampler.log_expected_count(target, num_sampled), 300

    def mean_gradient(remove: bool) -> Tensor:
        total = torch.zeros(5, dtype=torch.float64)
        for _ in range(draws):
            losses = sampled_softmax_loss(
                torch.ones(5, 1, dtype=torch.float64),
                weight,
                target,
                sampler.draw(num_sampled, random),
                target_log_expected_count=log_count,
                remove_accidental_hits=remove,
                reduction="none",
            )
            total += torch.autograd.grad(losses @ probabilities, weight)[0].squeeze(1)
        return total.abs().max() / draws

    right = mean_gradient(remove=unique)
    assert right < 0.012
    assert mean_gradient(remove=not unique) > 0.012


def test_a_candidate_that_is_the_target_counts_only_if_asked_for() -> None:
    hidden, weight = torch.zeros(1, 2), torch.zeros(5, 2)
    target, candidates = torch.tensor([3]), Candidates(torch.tensor([3, 0, 3]))
    removed = sampled_softmax_loss(hidden, weight, target, candidates)
    kept = sampled_softmax_loss(hidden, weight, target, candidates, remove_accidental_hits=False)
    np.testing.assert_allclose([removed.item(), kept.item()], np.log([2, 4]), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("ignore_index", [-100, 10**9, 3])
def test_nothing_to_predict_gives_zero_and_zero_gradients(
    reduction: str, ignore_index: int
) -> None:
    arguments = problem((3, 2), 4, torch.float32, 2)
    arguments["target"] = torch.full((3, 2), ignore_index)
    arguments |= {"ignore_index": ignore_index, "reduction": reduction}
    arguments["target_log_expected_count"] = torch.full((3, 2), torch.nan)
    for found in with_gradients(sampled_softmax_loss, arguments):
        assert not found.any()


# --- autograd and modes --------------------------------------------------------------------------


def test_gradients_and_second_gradients_are_those_of_the_loss() -> None:
    arguments = problem((4,), 6, torch.float64, 4)
    names = ("hidden", "weight", "bias")
    leaves = [arguments.pop(name) for name in names]

    def loss(*tensors: Tensor) -> Tensor:
        return sampled_softmax_loss(**dict(zip(names, tensors, strict=True)), **arguments)

    torch.autograd.gradcheck(loss, leaves)
    torch.autograd.gradgradcheck(loss, leaves)


def test_sparse_gradient_holds_the_rows_of_candidates_and_targets() -> None:
    arguments = problem((4,), 3, torch.float32, 5)
    arguments["target"] = torch.tensor([9, -100, 9, 10])
    arguments["target_log_expected_count"] = torch.zeros(4)
    dense = with_gradients(sampled_softmax_loss, arguments)
    found = with_gradients(sampled_softmax_loss, arguments | {"sparse": True})
    assert found[2].is_sparse
    rows = {9, 10, *arguments["candidates"].ids.tolist()}
    assert set(found[2].coalesce().indices()[0].tolist()) == rows
    for one, other in zip(found, dense, strict=True):
        torch.testing.assert_close(one.to_dense() if one.is_sparse else one, other)


def test_autocast_computes_in_half_precision_and_returns_the_parameters_dtype() -> None:
    arguments = problem((5,), 6, torch.float32, 6)
    expected = with_gradients(sampled_softmax_loss, arguments)
    with torch.autocast("cpu", torch.bfloat16):
        actual = with_gradients(sampled_softmax_loss, arguments)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert 0 < error(one, to_array(other)) < 0.05


def test_torch_func_gradients_equal_autograd() -> None:
    arguments = problem((4,), 6, torch.float64, 7)
    (_, expected, *_) = with_gradients(sampled_softmax_loss, arguments | {"reduction": "sum"})
    hidden, target = arguments.pop("hidden"), arguments.pop("target")
    log_count = arguments.pop("target_log_expected_count")

    def loss(h: Tensor, t: Tensor, q: Tensor) -> Tensor:
        return sampled_softmax_loss(h, target=t, target_log_expected_count=q, **arguments)

    rows = torch.func.vmap(torch.func.grad(loss))(hidden.detach(), target, log_count)
    torch.testing.assert_close(rows / 2, expected, rtol=1e-12, atol=1e-13)


@not_on_host
@pytest.mark.parametrize("sparse", [False, True])
def test_compiled_loss_equals_eager(sparse: bool) -> None:
    torch.compiler.reset()
    compiled = torch.compile(sampled_softmax_loss, fullgraph=True, backend="aot_eager")
    for shape, num_sampled in (((4,), 6), ((9,), 5)):
        arguments = problem(shape, num_sampled, torch.float32, 8) | {"sparse": sparse}
        actual = with_gradients(compiled, arguments)
        for one, other in zip(actual, with_gradients(sampled_softmax_loss, arguments), strict=True):
            torch.testing.assert_close(one.to_dense(), other.to_dense())


# --- bad arguments -------------------------------------------------------------------------------

TARGET = torch.tensor([0, 1, 2])
IDS = torch.tensor([4, 5])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"hidden": torch.zeros(3, 7, dtype=torch.int64)}, TypeError, "hidden has dtype"),
        ({"hidden": torch.zeros(())}, ValueError, "hidden has shape"),
        ({"weight": torch.zeros(11, 6)}, ValueError, r"weight has shape \[11, 6\], expected"),
        ({"weight": torch.zeros(11, 7).double()}, TypeError, "weight has dtype torch.float64"),
        ({"bias": torch.zeros(10)}, ValueError, r"bias has shape \[10\], expected \[11\]"),
        ({"bias": torch.zeros(11).half()}, TypeError, "bias has dtype torch.float16"),
        ({"target": TARGET.int()}, TypeError, "target has dtype torch.int32, expected int64"),
        ({"target": TARGET[:2]}, ValueError, r"target has shape \[2\], expected \[3\]"),
        ({"candidates": Candidates(IDS.int())}, TypeError, "candidates.ids has dtype"),
        ({"candidates": Candidates(IDS[:0])}, ValueError, "candidates.ids has shape"),
        ({"candidates": Candidates(IDS, torch.zeros(2))}, ValueError, "candidates has log_exp"),
        ({"target_log_expected_count": torch.zeros(3)}, ValueError, "only the targets have"),
        (
            {
                "candidates": Candidates(IDS, torch.zeros(3)),
                "target_log_expected_count": torch.zeros(3),
            },
            ValueError,
            r"candidates.log_expected_count has shape \[3\], expected \[2\]",
        ),
        (
            {
                "candidates": Candidates(IDS, torch.zeros(2)),
                "target_log_expected_count": torch.zeros(2),
            },
            ValueError,
            r"target_log_expected_count has shape \[2\], expected \[3\]",
        ),
        ({"reduction": "all"}, ValueError, "reduction is 'all'"),
        ({"target": TARGET.to("meta")}, ValueError, "target is on meta, expected cpu"),
        ({"candidates": Candidates(IDS.to("meta"))}, ValueError, "candidates.ids is on meta"),
    ],
)
def test_bad_arguments_are_named(
    change: dict[str, Any], kind: type[Exception], message: str
) -> None:
    arguments = {
        "hidden": torch.zeros(3, 7),
        "weight": torch.zeros(11, 7),
        "target": TARGET,
        "candidates": Candidates(IDS),
    }
    with pytest.raises(kind, match=message):
        sampled_softmax_loss(**(arguments | change))


@pytest.mark.parametrize("wrong", [11, -1])
def test_classes_out_of_range_are_named(wrong: int) -> None:
    hidden, weight = torch.zeros(3, 7), torch.zeros(11, 7)
    target = torch.tensor([0, wrong, 2])
    with pytest.raises(IndexError, match=f"target holds {wrong} at position 1, expected"):
        sampled_softmax_loss(hidden, weight, target, Candidates(IDS))
    with pytest.raises(IndexError, match=f"candidates.ids holds {wrong}, expected"):
        sampled_softmax_loss(hidden, weight, TARGET, Candidates(target))


# --- samplers ------------------------------------------------------------------------------------


def assert_distributed(sampler: Sampler, probabilities: Tensor, draws: int) -> None:
    """Chi-square test of one large draw, classes of small counts taken together."""
    drawn = sampler.draw(draws, generator(20))
    assert drawn.ids.dtype == torch.int64
    assert drawn.ids.shape == (draws,)
    expected = probabilities.double() * draws
    observed = torch.bincount(drawn.ids, minlength=sampler.n_classes).double()
    assert observed.shape == expected.shape
    assert not observed[expected == 0].any()
    group = (expected.cumsum(0) / 20).long()  # of 20 or so, or one class
    bins = int(group.max()) + 1
    e, o = (torch.zeros(bins).double().index_add(0, group, x) for x in (expected, observed))
    present = e > 0
    statistic = float(((o - e)[present] ** 2 / e[present]).sum())
    freedom = int(present.sum()) - 1
    assert abs(statistic - freedom) <= 4 * math.sqrt(2 * freedom) + 1e-9
    log_count = sampler.log_expected_count(torch.arange(sampler.n_classes), draws)
    torch.testing.assert_close(log_count.exp(), expected, rtol=1e-11, atol=0)
    assert drawn.log_expected_count is not None
    assert torch.equal(drawn.log_expected_count, log_count[drawn.ids])


@pytest.mark.parametrize("classes", [1, 2, 3, 100, 3000])
def test_log_uniform_sampler_draws_its_distribution(classes: int) -> None:
    k = torch.arange(classes, dtype=torch.float64)
    probabilities = ((k + 2).log() - (k + 1).log()) / math.log(classes + 1)
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-12)
    assert_distributed(LogUniformSampler(classes, unique=False), probabilities, 40000)


@pytest.mark.parametrize("power", [0.75, 1.0, 0.0, 3])
@pytest.mark.parametrize(
    "counts", [[5], [1, 3], [0, 4, 0, 0, 1, 7, 0], list(range(500)), [1e300, 1e300, 0.0]]
)
def test_unigram_sampler_draws_its_distribution(counts: list[float], power: float) -> None:
    weights = (torch.tensor(counts, dtype=torch.float64) / max(counts)) ** power
    sampler = UnigramSampler(counts, power, unique=False)
    assert_distributed(sampler, weights / weights.sum(), 40000)


@pytest.mark.parametrize(
    "sampler", [LogUniformSampler(20), UnigramSampler([3, 0, 9]), UnigramSampler([2])], ids=repr
)
def test_unique_draws_have_each_class_once_and_as_often_as_expected(sampler: Sampler) -> None:
    random, draws, num_sampled = generator(25), 2000, 7
    found = torch.zeros(sampler.n_classes)
    expected = sampler.log_expected_count(torch.arange(sampler.n_classes), num_sampled).exp()
    for _ in range(draws):
        ids, log_count = sampler.draw(num_sampled, random)
        assert log_count is not None
        assert ids.shape == log_count.shape == (num_sampled,)
        first = log_count < torch.inf
        assert ids[first].tolist() == ids.unique().tolist()
        torch.testing.assert_close(log_count[first].exp(), expected[ids[first]])
        found[ids[first]] += 1
    deviation = (draws * expected * (1 - expected)).sqrt()
    assert ((found - draws * expected).abs() <= 4 * deviation + 1e-9).all()


def test_large_vocabularies_are_drawn_to_their_end() -> None:
    classes = 10**7
    counts = torch.zeros(classes)
    counts[-5:] = 1
    ids = UnigramSampler(counts, unique=False).draw(1000, generator(21)).ids
    assert set((classes - ids).tolist()) == {1, 2, 3, 4, 5}
    ids = LogUniformSampler(classes, unique=False).draw(100000, generator(22)).ids
    np.testing.assert_allclose(
        (ids >= classes // 2).double().mean(), math.log(2) / math.log(classes), atol=0.003
    )
    assert len(set(ids[ids >= classes // 2].tolist())) > 4000  # not only every so many classes
    assert 0 <= ids.min() <= ids.max() < classes


SAMPLERS = [
    kind
    for u in (True, False)
    for kind in (LogUniformSampler(50, u), UnigramSampler(range(50), unique=u))
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_a_generator_makes_draws_reproducible(sampler: Sampler) -> None:
    first, again = (sampler.draw(30, generator(23)).ids for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, sampler.draw(30, generator(24)).ids)
    torch.manual_seed(23)
    assert torch.equal(first, sampler.draw(30).ids)
    assert torch.equal(first, pickle.loads(pickle.dumps(sampler)).draw(30, generator(23)).ids)
    assert sampler.draw(30, device="meta").ids.device.type == "meta"


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_what_is_no_class_is_never_expected(sampler: Sampler) -> None:
    found = sampler.log_expected_count(torch.tensor([[-100, 50], [1, 49]]), 4)
    assert (found[0] == -torch.inf).all()
    assert found[1].isfinite().all()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: LogUniformSampler(0), ValueError, "n_classes is 0, expected n_classes > 0"),
        (lambda: LogUniformSampler(2.5), TypeError, "n_classes is 2.5"),  # type: ignore[arg-type]
        (lambda: UnigramSampler([]), ValueError, r"counts has shape \[0\]"),
        (lambda: UnigramSampler(torch.ones(2, 2)), ValueError, r"counts has shape \[2, 2\]"),
        (lambda: UnigramSampler([True, False]), TypeError, "counts has dtype torch.bool"),
        (lambda: UnigramSampler([1, -2]), ValueError, "counts holds -2.0 at position 1"),
        (lambda: UnigramSampler([1, math.nan]), ValueError, "counts holds nan at position 1"),
        (lambda: UnigramSampler([math.inf]), ValueError, "counts holds inf at position 0"),
        (lambda: UnigramSampler([0, 0]), ValueError, "counts are all 0, expected at least one"),
        (lambda: UnigramSampler([1], -1), ValueError, "power is -1, expected 0 <= power"),
        (lambda: UnigramSampler([1], "1"), TypeError, "power is '1'"),  # type: ignore[arg-type]
        (lambda: LogUniformSampler(3).draw(0), ValueError, "num_sampled is 0"),
        (lambda: UnigramSampler([1]).draw(-1), ValueError, "num_sampled is -1"),
        (lambda: SampledSoftmaxLoss(0, 3, 1), ValueError, "in_features is 0"),
        (lambda: SampledSoftmaxLoss(2, 3, 0), ValueError, "num_sampled is 0"),
        (
            lambda: SampledSoftmaxLoss(2, 3, 1, LogUniformSampler(4)),
            ValueError,
            "sampler is of 4 classes, expected 3",
        ),
        (
            lambda: SampledSoftmaxLoss(2, 3, 1, reduction="all"),  # type: ignore[arg-type]
            ValueError,
            "reduction is 'all'",
        ),
    ],
)
def test_bad_sizes_and_counts_are_named(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


# --- the module ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("unique", [True, False, None])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_module_samples_in_training_and_is_exact_in_evaluation(
    bias: bool, unique: bool | None, reduction: Any
) -> None:
    sampler = None if unique is None else LogUniformSampler(11, unique)
    module = SampledSoftmaxLoss(7, 11, 6, sampler, bias, ignore_index=-1, reduction=reduction)
    hidden, target = torch.randn(3, 2, 7), torch.tensor([[0, 3], [-1, 10], [5, 5]])
    sampler = sampler or LogUniformSampler(11)
    expected = sampled_softmax_loss(
        hidden,
        module.weight,
        target,
        sampler.draw(6, generator(30)),
        module.bias,
        target_log_expected_count=sampler.log_expected_count(target, 6),
        remove_accidental_hits=unique is not False,
        ignore_index=-1,
        reduction=reduction,
    )
    assert torch.equal(module(hidden, target, generator(30)), expected)
    torch.manual_seed(30)
    assert torch.equal(module(hidden, target), expected)
    logits = torch.nn.functional.linear(hidden, module.weight, module.bias)
    torch.testing.assert_close(
        module.eval()(hidden, target),
        cross_entropy(logits, target, ignore_index=-1, reduction=reduction),
    )
    assert "num_sampled=6" in repr(module)


@pytest.mark.parametrize("bias", [True, False])
def test_module_exchanges_its_state_with_a_linear_layer(bias: bool) -> None:
    torch.manual_seed(0)
    module = SampledSoftmaxLoss(7, 11, 6, bias=bias)
    torch.manual_seed(0)
    linear = torch.nn.Linear(7, 11, bias=bias)
    for one, other in zip(module.parameters(), linear.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    linear.load_state_dict(copy.deepcopy(module).state_dict())
    module.load_state_dict(linear.state_dict())


@not_on_host
def test_compiled_module_draws_classes_in_the_graph() -> None:
    torch.compiler.reset()
    module = SampledSoftmaxLoss(7, 11, 6, UnigramSampler(range(1, 12)))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    hidden, target = torch.randn(5, 7), torch.tensor([0, 3, -100, 10, 5])
    torch.manual_seed(0)
    expected = module(hidden, target)
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(hidden, target), expected)
