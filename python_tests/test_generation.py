"""Generation: batches against single texts, the nucleus against a plain loop, stops, errors."""

from collections.abc import Callable, Iterator

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from helpers import threads
from seqkern.models import AwdRnnlm, Rnnlm, generate

pytestmark = pytest.mark.backends("cpu", reason="about generation, not the kernels")

V = 12
MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "rnnlm": lambda: Rnnlm(V, 6, 6, num_layers=2, dropout=0.5),
    "gru": lambda: Rnnlm(V, 6, 6, cell="gru", backend="torch"),
    "awd": lambda: AwdRnnlm(V, 6, 8),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on problems this small would mostly wait for each other."""
    with threads(1):
        yield


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    """One whose next token depends on what it read."""
    model = MODELS[request.param]()
    torch.nn.init.normal_(model.embedding.weight)
    torch.nn.init.normal_(model.linear.weight)
    torch.nn.init.normal_(model.linear.bias)
    for parameter in model.recurrent.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def small() -> Rnnlm:
    model = Rnnlm(V, 6, 6)
    torch.nn.init.normal_(model.linear.bias, std=0.5)
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probabilities(model: torch.nn.Module, token: int) -> Tensor:
    return torch.softmax(model.eval()(torch.tensor([[token]]))[0][0, 0].detach(), 0)


def test_greedy_generation_is_that_of_the_whole_text_read_again(model: torch.nn.Module) -> None:
    ids = [3, 1, 4]
    found = generate(model, ids, 10, temperature=0)
    assert model.training
    model.eval()
    for _ in range(10):
        ids.append(int(model(torch.tensor(ids)[:, None])[0][-1, 0].argmax()))
    assert found == ids[3:]
    assert generate(model, [3, 1, 4], 10, top_k=1) == found
    assert generate(model, [3, 1, 4], 10, top_p=1e-6) == found
    assert generate(model, [[3, 1, 4]], 10, temperature=0) == [found]


PROMPTS = [[3, 1, 4], [5], [2, 6, 0, 8, 9, 1], [7, 7]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.5, "top_k": 5},
        {"top_p": 0.7, "skip": [2]},
        {"stop": 4},
        {"stop": 4, "skip": [4]},
    ],
)
def test_batched_prompts_continue_as_each_alone(
    model: torch.nn.Module, options: dict[str, object]
) -> None:
    found = generate(model, PROMPTS, 12, generator=[seeded(i) for i in range(4)], **options)
    alone = [
        generate(model, prompt, 12, generator=seeded(i), **options)
        for i, prompt in enumerate(PROMPTS)
    ]
    assert found == alone
    assert len(set(map(tuple, found))) == 4


def test_one_generator_gives_samples_that_repeat_and_differ(model: torch.nn.Module) -> None:
    def sample(seed: int) -> list[list[int]]:
        return generate(model, [[5]] * 3, 30, generator=seeded(seed))

    state = torch.get_rng_state()
    assert sample(1) == sample(1) != sample(2)
    assert len(set(map(tuple, sample(1)))) == 3
    assert generate(model, [5], 9, generator=seeded(1)) == generate(
        model, [5], 9, generator=seeded(1)
    )
    generate(model, [5], 9, temperature=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_token_is_read_once(small: Rnnlm) -> None:
    shapes = []
    small.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    generate(small, PROMPTS[:1], 4)
    assert shapes == [(3, 1), (1, 1), (1, 1), (1, 1)]
    shapes.clear()
    generate(small, PROMPTS, 4)
    assert shapes == [(1, 4)] * 9


def test_texts_end_with_the_stop_token(model: torch.nn.Module) -> None:
    texts = generate(model, [[5], [4]] * 20, 30, stop=4, temperature=9.0, generator=seeded())
    assert {text[-1] for text in texts if len(text) < 30} == {4}
    assert all(4 not in text[:-1] for text in texts)
    assert len({len(text) for text in texts}) > 5


def test_no_tokens_are_none(model: torch.nn.Module) -> None:
    assert generate(model, [3], 0) == []
    assert generate(model, [[3], [1, 2]], 0) == [[], []]


def chi_square(ids: list[list[int]], expected: Tensor) -> float:
    """p-value of single draws, where every token of probability zero must be missing."""
    counted = torch.bincount(torch.tensor(ids)[:, 0], minlength=V)
    there = expected > 0
    assert not counted[~there].any()
    expected = expected[there].double()
    return chisquare(counted[there], expected / expected.sum() * len(ids)).pvalue


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_probabilities_at_the_temperature(
    small: Rnnlm, temperature: float
) -> None:
    ids = generate(small, [[5]] * 2000, 1, temperature=temperature, generator=seeded())
    assert chi_square(ids, probabilities(small, 5) ** (1 / temperature)) > 1e-3


@pytest.mark.parametrize("options", [{}, {"top_k": 6}, {"skip": [1, 4, 7]}])
@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9, 1.0])
def test_samples_follow_the_nucleus(small: Rnnlm, top_p: float, options: dict[str, object]) -> None:
    expected = probabilities(small, 5)
    expected[options.get("skip", [])] = 0
    ranked = expected.argsort(descending=True).tolist()[: options.get("top_k", V)]
    mass = sum(expected[i].item() for i in ranked)
    nucleus: list[int] = []
    for i in ranked:
        if sum(expected[j].item() for j in nucleus) / mass < top_p and expected[i] > 0:
            nucleus.append(i)
    outside = [i for i in range(V) if i not in nucleus]
    expected[outside] = 0
    ids = generate(small, [[5]] * 2000, 1, top_p=top_p, generator=seeded(), **options)
    assert chi_square(ids, expected) > 1e-3


def test_skipped_and_unlikely_tokens_are_not_generated(small: Rnnlm) -> None:
    skipped = generate(small, [5], 300, skip=[0, 1, 2], temperature=5.0, generator=seeded())
    assert set(skipped) == set(range(3, V))
    likely = probabilities(small, 5).topk(3).indices.tolist()
    first = generate(small, [[5]] * 99, 1, top_k=3, temperature=9.0, generator=seeded())
    assert {ids[0] for ids in first} == set(likely)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: generate(m, [], 1), "prompt must hold at least one token"),
        (lambda m: generate(m, [[1], []], 1), "prompt must hold at least one token"),
        (lambda m: generate(m, [1], -1), "length must be at least 0, got -1"),
        (lambda m: generate(m, [1], 1, temperature=-0.5), "temperature must be at least 0"),
        (lambda m: generate(m, [1], 1, top_k=0), "top_k must be at least 1, got 0"),
        (lambda m: generate(m, [1], 1, top_p=0.0), "top_p must be above 0 and at most 1, got 0.0"),
        (lambda m: generate(m, [1], 1, top_p=1.5), "top_p must be above 0 and at most 1, got 1.5"),
        (lambda m: generate(m, [1], 1, skip=range(V)), "skip must leave a token to generate"),
        (
            lambda m: generate(m, [[1], [2]], 1, generator=[seeded()]),
            "generator must be one, or one for each of 2 prompts, got 1",
        ),
    ],
)
def test_bad_generation_arguments_are_refused(
    small: Rnnlm, call: Callable[[Rnnlm], list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(small)


@pytest.mark.parametrize(("name", "value"), [("skip", [12]), ("skip", [-1]), ("stop", 12)])
def test_ids_outside_the_vocabulary_are_refused(small: Rnnlm, name: str, value: object) -> None:
    small.train()
    with pytest.raises(IndexError, match=rf"{name} must be an id in \[0, 12\), got -?1"):
        generate(small, [1], 1, **{name: value})
    assert small.training
