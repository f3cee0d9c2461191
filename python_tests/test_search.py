"""Greedy and beam search, against every target there is."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seqkern.models import (
    AttentionSeq2seq,
    EncoderDecoder,
    Seq2seq,
    TransformerSeq2seq,
    beam_search,
    greedy_search,
)

pytestmark = pytest.mark.backends("cpu", reason="about the search, not the kernels")

START, END, V = 0, 1, 4
LENGTHS = torch.tensor([5, 3, 1])


@pytest.fixture(params=[Seq2seq, AttentionSeq2seq, TransformerSeq2seq])
def model(request: pytest.FixtureRequest) -> EncoderDecoder:
    """A model whose likeliest targets are not of one length."""
    if request.param is TransformerSeq2seq:
        return TransformerSeq2seq(V, 8, num_heads=2, feedforward_size=16).double()
    model = request.param(V, 4, 6, dropout=0.3).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def sources() -> Tensor:
    return torch.randint(V, (5, 3))


def log_probability(model: EncoderDecoder, source: Tensor, lengths: Tensor, target: list) -> float:
    """Of one target, without its start token, of one source."""
    model.eval()
    tokens = torch.tensor([START, *target])[:, None]
    with torch.no_grad():
        logits, _, _ = model.decode(tokens[:-1], model.encode(source, lengths))
    return logits.log_softmax(-1).gather(2, tokens[1:, :, None]).sum().item()


def all_targets(steps: int, end: int | None) -> set[tuple[int, ...]]:
    """Every target that ends at its first end token, or at the last step."""
    targets = itertools.product(range(V), repeat=steps)
    return {t[: t.index(end) + 1] if end in t else t for t in targets}


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("end", [END, None])
def test_a_wide_beam_finds_what_enumeration_finds(
    model: EncoderDecoder, end: int | None, penalty: float
) -> None:
    source, steps = sources(), 3
    targets = all_targets(steps, end)
    result = beam_search(model, source, START, steps, end, LENGTHS, len(targets), penalty)
    for i in range(3):
        one = source[:, i : i + 1], LENGTHS[i : i + 1]
        scores = {
            t: log_probability(model, *one, list(t)) / ((5 + len(t)) / 6) ** penalty
            for t in targets
        }
        expected = sorted(scores, key=scores.__getitem__, reverse=True)
        found = [tuple(t[t >= 0].tolist()) for t in result.tokens[:, i].T]
        assert set(found) == targets
        assert found[:5] == expected[:5]
        assert result.lengths[i].tolist() == [len(t) for t in found]
        for target, score in zip(found, result.scores[i].tolist(), strict=True):
            assert score == pytest.approx(scores[target], rel=1e-4)


@pytest.mark.parametrize("end", [END, None])
def test_greedy_takes_the_likeliest_token(model: EncoderDecoder, end: int | None) -> None:
    source = sources()
    result = greedy_search(model, source, START, 4, end, LENGTHS)
    for i in range(3):
        one = source[:, i : i + 1], LENGTHS[i : i + 1]
        target: list[int] = []
        while len(target) < 4 and (not target or target[-1] != end):
            target.append(max(range(V), key=lambda v: log_probability(model, *one, [*target, v])))
        found = result.tokens[:, i]
        assert found[found >= 0].tolist() == target
        assert result.lengths[i] == len(target)
        assert result.scores[i].item() == pytest.approx(log_probability(model, *one, target), 1e-4)


@pytest.mark.parametrize("end", [END, None])
def test_a_beam_of_one_is_greedy(model: EncoderDecoder, end: int | None) -> None:
    source = sources()
    greedy = greedy_search(model, source, START, 6, end, LENGTHS)
    beam = beam_search(model, source, START, 6, end, LENGTHS, beam_size=1, length_penalty=0.0)
    assert torch.equal(beam.tokens[..., 0], greedy.tokens)
    assert torch.equal(beam.lengths[..., 0], greedy.lengths)
    torch.testing.assert_close(beam.scores[..., 0], greedy.scores)
    assert (beam.weights is None) == (greedy.weights is None)
    if greedy.weights is not None and beam.weights is not None:
        torch.testing.assert_close(beam.weights[:, :, 0], greedy.weights)


def test_weights_are_those_of_the_hypothesis() -> None:
    model = AttentionSeq2seq(V, 4, 6).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        model.decoder.linear.bias.zero_()  # hypotheses depend on their tokens, and change places
    source = sources()
    result = beam_search(model, source, START, 6, END, LENGTHS, beam_size=9)
    assert result.weights is not None
    memory = model.encode(source, LENGTHS)
    starts = torch.full((1, 3), START)
    for k in range(9):
        tokens = torch.cat([starts, result.tokens[:-1, :, k]])
        _, _, expected = model.decode(tokens, memory)
        there = (result.tokens[..., k] >= 0)[..., None]
        torch.testing.assert_close(result.weights[:, :, k], expected * there)


def test_search_leaves_the_training_mode(model: EncoderDecoder) -> None:
    source = sources()
    assert model.training
    first, second = (greedy_search(model, source, START, 4).scores for _ in range(2))
    assert torch.equal(first, second)  # no dropout
    assert model.training


def test_hypotheses_that_are_not_there_have_no_probability() -> None:
    result = beam_search(Seq2seq(V), sources(), START, 1, beam_size=V)
    assert result.scores.isfinite().all()
    result = beam_search(Seq2seq(V), sources(), START, 2, END, beam_size=16)
    assert result.scores.isfinite().sum(1).tolist() == [V * V - (V - 1)] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, s: greedy_search(m, s, START, 0), "max_length must be at least 1, got 0"),
        (
            lambda m, s: beam_search(m, s, START, 4, beam_size=0),
            "beam_size must be at least 1, got 0",
        ),
        (
            lambda m, s: beam_search(m, s, START, 4, length_penalty=-1.0),
            "length_penalty must be at least 0, got -1.0",
        ),
    ],
)
def test_bad_arguments_raise(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Seq2seq(V), sources())
