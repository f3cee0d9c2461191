"""Draws of classes: against an oracle, number by number, and against their distributions."""

import copy
import itertools
import math
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import sampling_cases as cases
from backend import not_on_host, on_cpu
from helpers import SLOW, examples, generator, threads
from seqkern.functional.sampling import AliasTable, alias_table, sample, sample_distinct
from seqkern.nn.samplers import LogUniformSampler, Sampler, UnigramSampler

ops = torch.ops.seqkern

ROWS = 2000 if SLOW else 200_000
LIMIT = 4.8  # standard deviations: once in a million
FEWEST = 20  # expected in a class of a chi-square test; what is rarer is taken together


def chi_square(observed: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Return how many standard deviations counts are from what is expected of them.

    Pearson's statistic over neighbours taken together, as a normal number (Wilson and Hilferty).
    """
    expected = probabilities * (observed.sum() / probabilities.sum())
    assert not observed[expected == 0].any()
    group = (expected.cumsum() / FEWEST).astype(int)
    e, o = (np.bincount(group, weights=values) for values in (expected, observed))
    o, e = o[e > 0], e[e > 0]
    freedom = len(e) - 1
    if freedom == 0:
        return 0.0
    share, variance = ((o - e) ** 2 / e).sum() / freedom, 2 / (9 * freedom)
    return float((np.cbrt(share) - (1 - variance)) / math.sqrt(variance))


def counted(ids: Tensor, classes: int) -> NDArray[Any]:
    return np.bincount(ids.flatten().numpy(), minlength=classes)


def probabilities_of(sampler: Sampler) -> NDArray[Any]:
    return sampler.log_probability(torch.arange(sampler.n_classes)).exp().numpy()


def sequences(weights: Sequence[float], target: int, count: int) -> dict[tuple[int, ...], float]:
    """Return the probability of every row of draws without replacement."""
    weights = [0.0 if v == target else w for v, w in enumerate(weights)]
    present = [v for v, w in enumerate(weights) if w > 0]
    found = {}
    for row in itertools.permutations(present, count):
        left, probability = sum(weights), 1.0
        for v in row:
            probability *= weights[v] / left
            left -= weights[v]
        found[row] = probability
    return found


def rows_against(weights: Sequence[float], target: int, drawn: Tensor) -> float:
    """Return the chi-square test of rows against every row's probability."""
    expected = sequences(weights, target, drawn.shape[1])
    places = {row: place for place, row in enumerate(expected)}
    found = np.array([places[tuple(row)] for row in drawn.tolist()])
    return chi_square(np.bincount(found, minlength=len(places)), np.array([*expected.values()]))


# --- number by number ----------------------------------------------------------------------------


def table_of(weights: Sequence[float]) -> AliasTable:
    return alias_table(torch.tensor(weights, dtype=torch.float64))


WEIGHTS = st.one_of(
    st.lists(st.floats(0, 10), min_size=1, max_size=60),
    st.lists(st.sampled_from([0.0, 1.0, 1e-3, 1e9]), min_size=1, max_size=60),
    st.integers(1, 60).map(lambda classes: [1.0] * classes),
).filter(lambda weights: sum(weights) > 1e-200)


@examples(60)
@given(WEIGHTS, st.integers(-(2**63), 2**63 - 1), st.integers(0, 300))
def test_independent_draws_are_those_of_the_oracle(
    weights: list[float], seed: int, count: int
) -> None:
    table = table_of(weights)
    found = ops.sample_alias(table.table, torch.tensor([seed]), count)
    assert found.tolist() == cases.draws(table, seed, count)


@examples(100)
@given(
    WEIGHTS.filter(lambda weights: len(weights) > 1),
    st.integers(-(2**63), 2**63 - 1),
    st.lists(st.one_of(st.integers(-2, 59), st.just(-(1 << 62))), max_size=5),
    st.floats(0, 1),
)
def test_distinct_draws_are_those_of_the_oracle(
    weights: list[float], seed: int, targets: list[int], share: float
) -> None:
    """Also where hardly anything is left to draw, or nothing."""
    table, count = table_of(weights), round(share * (len(weights) - 1))
    targets = [min(target, len(weights) - 1) for target in targets]
    given = torch.tensor(targets, dtype=torch.int64)
    found = ops.sample_distinct(*table, given, torch.tensor([seed]), count)
    expected = [
        cases.distinct_row(table, seed, row, target, count) for row, target in enumerate(targets)
    ]
    assert found.shape == (len(targets), count)
    assert found.tolist() == expected


def test_draws_do_not_depend_on_the_number_of_threads() -> None:
    sampler, target = UnigramSampler(range(1, 1000)), torch.arange(9990) % 999
    for distinct in (True, False):
        found = []
        for count in (1, 2, 3):
            with threads(count):
                found.append(sampler.negatives(target, 7, generator(3), distinct=distinct))
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("op", ["alias_table", "sample_alias", "sample_distinct"])
def test_ops_agree_with_their_fake_implementations(op: str) -> None:
    agreement = ("test_schema", "test_faketensor")
    torch.library.opcheck(getattr(ops, op), cases.op_arguments()[op], test_utils=agreement)


@examples(60)
@given(WEIGHTS)
def test_a_table_holds_the_weights(weights: list[float]) -> None:
    table, cumulative = table_of(weights)
    share, alias = table[:, 0].numpy().view(np.uint32).astype(np.int64), table[:, 1].numpy()
    units = share.copy()
    np.add.at(units, alias, 2**32 - share)
    parts = np.diff(cumulative.numpy(), prepend=0)
    for found, total in ((units, len(weights) << 32), (parts, 1 << 62)):
        assert found.sum() == total
        assert ((found > 0) == (np.array(weights) > 0)).all()
        expected = np.array(weights) / sum(weights) * total
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=2)


# --- distributions -------------------------------------------------------------------------------


def zipf_sampler(classes: int, power: float = 0.75) -> UnigramSampler:
    return UnigramSampler(1e6 * cases.zipf(classes), power)


SAMPLERS = {
    **{f"{n} classes": (zipf_sampler, (n,)) for n in (2, 10, 1000)},
    **{f"power {power}": (zipf_sampler, (50, power)) for power in (0, 1.0, 3)},
    "zeros": (UnigramSampler, ([0, 3, 0, 0, 5, 1, 0],)),
    "log-uniform": (LogUniformSampler, (500,)),
    "10^6 classes": (zipf_sampler, (10**6,)),
    "10^7 classes": (zipf_sampler, (10**7,)),
    "log-uniform 10^7": (LogUniformSampler, (10**7,)),
}


@pytest.fixture(scope="module", params=list(SAMPLERS))
def sampler(request: pytest.FixtureRequest) -> Sampler:
    """Samplers of few and many classes."""
    kind, arguments = SAMPLERS[request.param]
    return kind(*arguments)


def test_independent_negatives_are_distributed_as_the_sampler_says(sampler: Sampler) -> None:
    target = torch.zeros(ROWS // 5, dtype=torch.int64)
    found = sampler.negatives(target, 5, generator(1), distinct=False)
    assert found.shape == (ROWS // 5, 5)
    assert chi_square(counted(found, sampler.n_classes), probabilities_of(sampler)) < LIMIT


def test_first_distinct_negative_is_any_class_but_the_target(sampler: Sampler) -> None:
    probabilities = probabilities_of(sampler)
    count = min(5, int((probabilities > 0).sum()) - 1)
    target = int(probabilities.argmax())
    found = sampler.negatives(torch.full((ROWS,), target), count, generator(2))
    probabilities[target] = 0
    assert chi_square(counted(found[:, 0], sampler.n_classes), probabilities) < LIMIT
    ordered = found.sort(1).values
    assert (ordered[:, 1:] > ordered[:, :-1]).all()
    assert not (found == target).any()


@pytest.mark.parametrize("target", [-1, 0, 3])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "weights",
    [
        [1, 1, 1, 1, 1],
        [16, 1, 0, 4, 2, 1],
        [1e9, 5, 1, 3, 0.5],  # rejection finds the first class only: the others by inversion
        [1e9, 2e8, 1, 1e-3, 0, 1e-3],
    ],
)
def test_distinct_negatives_are_draws_without_replacement(
    weights: list[float], count: int, target: int
) -> None:
    drawn = UnigramSampler(weights, power=1).negatives(
        torch.full((ROWS // 4,), target), count, generator(4)
    )
    assert rows_against(weights, target, drawn) < LIMIT


@pytest.mark.parametrize("power", [0, 1.0, 3])
def test_all_but_one_are_drawn_without_replacement(power: float) -> None:
    """Many: by a hash table, then by inversion. A race of exponentials says which is the last."""
    classes, rows = 36, ROWS // 20
    weights = torch.linspace(1, 3, classes, dtype=torch.float64) ** power
    drawn = sample_distinct(alias_table(weights), torch.zeros(rows).long(), classes - 2)
    rest = classes * (classes - 1) // 2 - drawn.sum(1)
    w, t = weights[1:, None].numpy(), np.linspace(1e-6, 60, 20001)
    arrived = -np.expm1(-w * t)
    last = (w * np.exp(-w * t) / arrived * arrived.prod(0)).sum(1)
    assert chi_square(counted(rest, classes), np.concatenate([[0], last])) < LIMIT


def test_a_wrong_distribution_is_found_out() -> None:
    found = counted(zipf_sampler(1000).negatives(torch.zeros(ROWS).long(), 5, generator(5)), 1000)
    assert chi_square(found, probabilities_of(zipf_sampler(1000, 0.7))) > LIMIT
    weights, rows = [16.0, 1.0, 0.5, 4.0, 2.0, 1.0], ROWS // 4
    independent = UnigramSampler(weights, power=1).negatives(
        torch.full((rows,), -1), 2, generator(6), distinct=False
    )
    distinct = independent[independent[:, 0] != independent[:, 1]]  # of pairs with one another
    assert rows_against(weights, -1, distinct) > LIMIT


def test_classes_of_no_count_are_never_drawn() -> None:
    counts = torch.zeros(5000)
    counts[torch.randperm(5000, generator=generator(7))[:9]] = torch.rand(9) ** 20 + 1e-20
    sampler, target = UnigramSampler(counts), torch.arange(5000)
    for distinct in (True, False):
        found = sampler.negatives(target, 8, generator(8), distinct=distinct)
        assert counts[found].all()


# --- behaviour -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 0), (2, 3)])
@pytest.mark.parametrize("distinct", [True, False])
def test_negatives_have_the_targets_shape(shape: tuple[int, ...], distinct: bool) -> None:
    found = zipf_sampler(9).negatives(torch.full(shape, 1), 3, distinct=distinct)
    assert found.shape == (*shape, 3)
    assert found.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int64])
def test_targets_may_be_integers_of_any_size_and_strides(dtype: torch.dtype) -> None:
    sampler, target = zipf_sampler(9), torch.arange(8).view(2, 4)
    expected = sampler.negatives(target, 3, generator(9))
    assert torch.equal(sampler.negatives(target.to(dtype), 3, generator(9)), expected)
    strided = torch.stack([target, target], -1)[..., 0].t().contiguous().t()
    assert torch.equal(sampler.negatives(strided, 3, generator(9)), expected)


@pytest.mark.parametrize("classes", [2, 3, 30, 60])
def test_all_classes_but_the_target_can_be_asked_for(classes: int) -> None:
    target = torch.arange(classes)
    for sampler in (zipf_sampler(classes, 3), LogUniformSampler(classes)):
        found = sampler.negatives(target, classes - 1)
        expected = [[v for v in range(classes) if v != t] for t in range(classes)]
        assert found.sort(1).values.tolist() == expected
        if classes > 2:
            assert (sampler.negatives(target, classes - 2).diff(dim=1) != 0).all()


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("kind", [LogUniformSampler, zipf_sampler])
def test_a_generator_makes_negatives_reproducible(kind: Any, distinct: bool) -> None:
    sampler, target = kind(50), torch.arange(50)

    def draw(sampler: Sampler, random: torch.Generator | None) -> Tensor:
        return sampler.negatives(target, 4, random, distinct=distinct)

    first, random = draw(sampler, generator(10)), generator(10)
    assert torch.equal(first, draw(sampler, random))
    assert not torch.equal(first, draw(sampler, random))
    torch.manual_seed(10)
    assert torch.equal(first, draw(sampler, None))
    for other in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert torch.equal(first, draw(other, generator(10)))


def test_a_sampler_is_its_probabilities() -> None:
    class Geometric(Sampler):
        def log_probability(self, ids: Tensor) -> Tensor:
            return -(ids.double() + 1) * math.log(2)

    sampler = Geometric(20, unique=False)
    found = sampler.negatives(torch.full((ROWS,), -1), 1, generator(11))
    assert chi_square(counted(found, 20), 0.5 ** np.arange(1, 21)) < LIMIT


def test_negatives_on_the_meta_device() -> None:
    target = torch.empty(3, 2, device="meta", dtype=torch.int64)
    for distinct in (True, False):
        found = zipf_sampler(9).negatives(target, 3, distinct=distinct)
        assert (found.shape, found.device.type) == ((3, 2, 3), "meta")


@not_on_host
@pytest.mark.parametrize("distinct", [True, False])
def test_compiled_negatives_equal_eager(distinct: bool) -> None:
    torch.compiler.reset()
    sampler = zipf_sampler(100)

    def negatives(target: Tensor) -> Tensor:
        return sampler.negatives(target, 5, distinct=distinct) + 1

    compiled = torch.compile(negatives, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (4, 9):
        target = torch.arange(size)
        torch.manual_seed(0)
        expected = negatives(target)
        torch.manual_seed(0)
        assert torch.equal(compiled(target), expected)


# --- bad arguments -------------------------------------------------------------------------------

TARGET = torch.tensor([0, 1])
TABLE = alias_table(torch.ones(4))
SEED = torch.tensor([1])


@pytest.mark.parametrize(
    ("target", "count", "kind", "message"),
    [
        (TARGET.float(), 1, TypeError, "target has dtype torch.float32, expected integers"),
        (TARGET.bool(), 1, TypeError, "target has dtype torch.bool, expected integers"),
        (TARGET, 1.5, TypeError, "num_negatives is 1.5, expected an integer"),
        (TARGET, 0, ValueError, "num_negatives is 0, expected num_negatives > 0"),
        (TARGET, 3, ValueError, "num_negatives is 3, expected fewer than the 3 classes of"),
        (TARGET, 4, ValueError, "num_negatives is 4, expected fewer than the 3 classes of"),
    ],
)
def test_impossible_negatives_are_refused(
    target: Tensor, count: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        UnigramSampler([1, 2, 0, 3]).negatives(target, count)


@on_cpu
def test_a_target_that_is_no_class_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="^target holds 4 at position 1, expected less than V = 4"):
        UnigramSampler([1, 2, 0, 3]).negatives(torch.tensor([-7, 4]), 1)


@pytest.mark.parametrize(
    ("weights", "kind", "message"),
    [
        (torch.ones(3, dtype=torch.int64), TypeError, "weights has dtype torch.int64, expected a"),
        (torch.ones(3, device="meta"), ValueError, "weights is on meta, expected the CPU"),
        (torch.ones(3, 1), ValueError, r"weights has shape \[3, 1\], expected \(V\) with"),
        (torch.ones(0), ValueError, r"weights has shape \[0\], expected \(V\) with 0 < V"),
        (torch.tensor([1.0, -2.0]), ValueError, "weights holds -2 at position 1, expected fin"),
        (torch.tensor([math.nan]), ValueError, "weights holds nan at position 0, expected fin"),
        (torch.tensor([math.inf]), ValueError, "weights has the sum inf, expected a finite one"),
        (torch.zeros(3), ValueError, "weights has the sum 0, expected a finite one"),
    ],
)
def test_wrong_weights_are_named(weights: Tensor, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        alias_table(weights)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: sample(TABLE, -1), ValueError, "count is -1, expected count >= 0"),
        (lambda: sample_distinct(TABLE, TARGET, -1), ValueError, "count is -1, expected count >="),
        (lambda: sample_distinct(TABLE, TARGET, 4), ValueError, "count is 4, expected less than V"),
        (
            lambda: sample_distinct(TABLE, TARGET[None], 1),
            ValueError,
            r"target has shape \[1, 2\], expected 1 dimension \(R\)",
        ),
        (
            lambda: sample_distinct(TABLE, TARGET.to("meta"), 1),
            ValueError,
            "target is on meta, expected cpu",
        ),
        (
            lambda: sample_distinct(TABLE._replace(cumulative=TARGET), TARGET, 1),
            ValueError,
            r"cumulative has shape \[2\], expected \[4\]",
        ),
        (
            lambda: ops.sample_alias(TABLE.table.long(), SEED, 1),
            TypeError,
            "table has dtype Long, expected Int",
        ),
        (
            lambda: ops.sample_alias(TABLE.table.t(), SEED, 1),
            ValueError,
            r"table has shape \[2, 4\], expected \(V, 2\)",
        ),
        (
            lambda: ops.sample_alias(TABLE.table, SEED.int(), 1),
            TypeError,
            "seed has dtype Int, expected Long",
        ),
        (
            lambda: ops.sample_alias(TABLE.table, TARGET, 1),
            ValueError,
            r"seed has shape \[2\], expected \[1\]",
        ),
    ],
)
def test_wrong_arguments_are_named(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        call()
