"""AWD-LSTM: its noise, penalties and states; NT-ASGD and batches of variable length."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import to_array
from seqkern.data import VariableLengthBatches
from seqkern.models import AwdRnnlm, activation_penalty
from seqkern.models.awd import LockedDropout
from seqkern.training.averaging import NTASGD
from seqkern.training.state import pack_optimizer, unpack_optimizer

V, D, H, T, N = 12, 4, 6, 5, 3
QUIET = {
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "input_dropout": 0.0,
    "hidden_dropout": 0.0,
    "weight_drop": 0.0,
}

not_the_kernels = pytest.mark.backends("cpu", reason="not about the kernels")
each_backend = pytest.mark.parametrize("backend", ["seqkern", "torch"])


def make(**arguments: object) -> AwdRnnlm:
    """A model in float64, whose next token depends on what it read."""
    model = AwdRnnlm(V, D, H, **arguments).double()
    torch.nn.init.normal_(model.embedding.weight)
    return model


def draw() -> tuple[Tensor, Tensor]:
    inputs, targets = torch.randint(V, (2, T, N))
    targets[1, 2] = -1
    return inputs, targets


def gradients(loss: Tensor, model: AwdRnnlm) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


# The model


@pytest.mark.parametrize("noise", [QUIET, {}], ids=["quiet", "noisy"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_backends_agree_under_the_same_masks(cell: str, noise: dict[str, float]) -> None:
    """Both draw their masks in one order, so that a seed gives both the same."""
    inputs, targets = draw()
    found = []
    weights = None
    for backend in ("seqkern", "torch"):
        model = make(backend=backend, cell=cell, **noise)
        weights = weights or model.state_dict()
        model.load_state_dict(weights)
        torch.manual_seed(5)
        first, state = model(inputs, None, targets)
        second, state = model(inputs, state, targets)
        found.append((first, second, state, gradients(first + second, model)))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@not_the_kernels
def test_backends_start_alike() -> None:
    states = []
    for backend in ("seqkern", "torch"):
        torch.manual_seed(3)
        states.append(AwdRnnlm(V, D, H, backend=backend).state_dict())
    torch.testing.assert_close(*states, rtol=0, atol=0)


@not_the_kernels
def test_parameters_start_as_the_papers() -> None:
    model = AwdRnnlm(500, 40, 64, tied=False)
    for weight, bound in (
        (model.embedding.weight, 0.1),
        (model.linear.weight, 0.1),
        *((layer.weight_hh_l0, layer.hidden_size**-0.5) for layer in model.recurrent),
    ):
        assert 0.98 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not model.linear.bias.any()


@not_the_kernels
@pytest.mark.parametrize(
    ("layers", "tied", "sizes"),
    [
        (3, True, [(D, H), (H, H), (H, D)]),
        (3, False, [(D, H), (H, H), (H, H)]),
        (1, True, [(D, D)]),
    ],
)
def test_layers_have_their_sizes(layers: int, tied: bool, sizes: list[tuple[int, int]]) -> None:
    model = make(num_layers=layers, tied=tied)
    assert [(layer.input_size, layer.hidden_size) for layer in model.recurrent] == sizes
    assert (model.linear.weight is model.embedding.weight) == tied
    logits, state = model(draw()[0])
    assert logits.shape == (T, N, V)
    assert [s.shape for s in state] == [(1, N, sum(units for _, units in sizes))] * 2


@each_backend
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_evaluation_is_plain_layers_and_carries_state(backend: str, cell: str) -> None:
    model = make(backend=backend, cell=cell).eval()
    inputs, targets = draw()
    hidden = model.embedding(inputs)
    for layer in model.recurrent:
        plain = getattr(torch.nn, cell.upper())(layer.input_size, layer.hidden_size).double()
        plain.load_state_dict(layer.state_dict())
        hidden, _ = plain(hidden)
    logits, _ = model(inputs)
    torch.testing.assert_close(logits, model.linear(hidden), rtol=1e-12, atol=1e-12)
    first, state = model(inputs[:2])
    second, _ = model(inputs[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), logits, rtol=1e-12, atol=1e-12)
    loss, _ = model(inputs, None, targets)
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1
    )
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        gradients(loss, model), gradients(expected, model), rtol=1e-10, atol=1e-12
    )


@not_the_kernels
@each_backend
def test_evaluation_repeats_and_training_does_not(backend: str) -> None:
    model = make(backend=backend)
    inputs, _ = draw()
    assert not torch.equal(model(inputs)[0], model(inputs)[0])
    model.eval()
    assert torch.equal(model(inputs)[0], model(inputs)[0])


@not_the_kernels
@each_backend
def test_gradient_of_a_weight_is_that_of_the_dropped_weight_masked(backend: str) -> None:
    model = make(backend=backend, num_layers=1, **{**QUIET, "weight_drop": 0.5})
    inputs, targets = draw()
    torch.manual_seed(7)
    found = gradients(model(inputs, None, targets)[0], model)
    torch.manual_seed(7)
    mask = torch.nn.functional.dropout(torch.ones_like(model.recurrent[0].weight_hh_l0), 0.5)
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    plain = make(backend="torch", num_layers=1, **QUIET)
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        plain.recurrent[0].weight_hh_l0.mul_(mask)
    expected = gradients(plain(inputs, None, targets)[0], plain)
    expected["recurrent.0.weight_hh_l0"] *= mask
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@not_the_kernels
@each_backend
def test_dropped_weights_are_the_weights_in_the_mean(backend: str) -> None:
    """Of one step of a cell that is nearly linear for small weights, so is the output."""
    model = make(backend=backend, cell="rnn", num_layers=1, **{**QUIET, "weight_drop": 0.5})
    for parameter in model.recurrent.parameters():
        torch.nn.init.normal_(parameter, std=1e-3)
    state, tokens = torch.randn(1, N, D, dtype=torch.float64), torch.randint(V, (1, N))
    with torch.no_grad():
        drawn = torch.stack([model(tokens, state)[1] for _ in range(600)])
        expected = model.eval()(tokens, state)[1]
    deviation = (drawn.mean(0) - expected) / (drawn.std(0) / 600**0.5)
    assert drawn.std(0).min() > 0
    assert deviation.abs().max() < 4.5


@not_the_kernels
def test_locked_dropout_has_one_mask_for_all_steps() -> None:
    dropped = LockedDropout(0.25)(torch.ones(T, 200, 50))
    assert (dropped == dropped[0]).all()
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert LockedDropout(0.25).eval()(dropped) is dropped


@not_the_kernels
def test_locked_dropout_stands_before_between_and_after_the_layers() -> None:
    model = make(dropout=0.3, input_dropout=0.2, hidden_dropout=0.1)
    seen = []
    for dropout in (model.input_dropout, model.hidden_dropout, model.output_dropout):
        dropout.register_forward_hook(lambda module, _, out: seen.append((module.p, out.shape[2])))
    model(draw()[0])
    assert seen == [(0.2, D), (0.1, H), (0.1, H), (0.3, D)]


@not_the_kernels
def test_embedding_dropout_takes_whole_words() -> None:
    words = 400
    model = AwdRnnlm(words, D, H, embedding_dropout=0.25)
    embedded = []
    model.input_dropout.register_forward_pre_hook(lambda _, inputs: embedded.append(inputs[0]))
    tokens = torch.arange(words).repeat(2, 3).t()[torch.randperm(3 * words)]  # (3 words, 2)
    model(tokens)
    kept = embedded[0] / model.embedding(tokens) * 0.75
    torch.testing.assert_close(kept, kept.round())
    by_word = [set(kept[tokens == word].round().flatten().tolist()) for word in range(words)]
    assert all(values in ({0.0}, {1.0}) for values in by_word)
    dropped = sum(values == {0.0} for values in by_word)
    assert abs(dropped - 0.25 * words) < 4.5 * (words * 0.25 * 0.75) ** 0.5


@not_the_kernels
@each_backend
def test_tied_weight_has_the_sum_of_both_gradients(backend: str) -> None:
    inputs, targets = draw()
    tied = make(backend=backend, num_layers=1, **QUIET)
    untied = AwdRnnlm(V, D, D, 1, tied=False, backend=backend, **QUIET).double()
    untied.load_state_dict(tied.state_dict())
    assert len(list(tied.parameters())) == len(list(untied.parameters())) - 1
    found = gradients(tied(inputs, None, targets)[0], tied)
    expected = gradients(untied(inputs, None, targets)[0], untied)
    expected["embedding.weight"] += expected.pop("linear.weight")
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@not_the_kernels
def test_activation_penalty_is_the_means_of_squares() -> None:
    hidden, dropped = torch.randn(2, T, N, H, dtype=torch.float64)
    h, m = to_array(hidden), to_array(dropped)
    expected = 2.0 * np.mean(m**2) + 0.5 * np.mean((h[1:] - h[:-1]) ** 2)
    found = activation_penalty(hidden, dropped, alpha=2.0, beta=0.5)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    one_step = activation_penalty(hidden[:1], dropped[:1], alpha=2.0, beta=0.5)
    assert one_step.item() == pytest.approx(2.0 * np.mean(m[:1] ** 2), rel=1e-12)


@not_the_kernels
@each_backend
def test_training_loss_is_the_cross_entropy_with_the_penalties_gradients(backend: str) -> None:
    model = make(backend=backend, alpha=3.0, beta=5.0)
    inputs, targets = draw()
    activations = []
    model.output_dropout.register_forward_hook(
        lambda _, inputs, output: activations.append((*inputs, output))
    )
    torch.manual_seed(2)
    loss, _ = model(inputs, None, targets)
    found = gradients(loss, model)
    model.alpha = model.beta = 0.0
    torch.manual_seed(2)
    pure, _ = model(inputs, None, targets)
    assert loss.item() == pure.item()
    penalty = activation_penalty(*activations[1], alpha=3.0, beta=5.0)
    torch.testing.assert_close(found, gradients(pure + penalty, model), rtol=1e-10, atol=1e-12)


@each_backend
def test_bfloat16_autocast_trains(backend: str) -> None:
    model = AwdRnnlm(V, D, H, backend=backend)
    inputs, targets = draw()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = model(inputs, None, targets)
    assert loss.isfinite()
    assert all(g.isfinite().all() and g.any() for g in gradients(loss, model).values())


@not_the_kernels
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"weight_drop": 1.5}, "weight_drop must be in .0, 1., got 1.5"),
        ({"dropout": -0.1}, "dropout must be in .0, 1., got -0.1"),
        ({"beta": -1.0}, "beta must be at least 0, got -1.0"),
        ({"cell": "qrnn"}, "cell must be one of rnn, rnn_relu, lstm, gru, got 'qrnn'"),
        ({"backend": "jax"}, "backend must be one of seqkern, torch, got 'jax'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AwdRnnlm(V, D, H, **arguments)


@not_the_kernels
def test_state_of_another_size_is_refused() -> None:
    state = torch.zeros(1, N, 17)
    with pytest.raises(
        ValueError, match=r"state has 17 units, expected 16, the layers' \[6, 6, 4\]"
    ):
        make()(draw()[0], (state, state))


# NT-ASGD


def quadratic() -> tuple[list[torch.nn.Parameter], list[Tensor]]:
    """Two parameters, and what pulls them."""
    parameters = [torch.nn.Parameter(torch.randn(n, dtype=torch.float64)) for n in (3, 2)]
    return parameters, [torch.randn(n, dtype=torch.float64) for n in (3, 2)]


def pull(optimizer: NTASGD, parameters: list[torch.nn.Parameter], to: list[Tensor]) -> None:
    optimizer.zero_grad()
    sum((p - t).square().sum() for p, t in zip(parameters, to, strict=True)).backward()
    optimizer.step()


SCORES = (9.0, 5.0, 4.0, 6.0, 4.5, 4.2, 3.0, 1.0)


@not_the_kernels
@pytest.mark.parametrize(("window", "trigger"), [(1, 3), (2, 5), (3, None)])
def test_nt_asgd_is_the_papers_algorithm(window: int, trigger: int | None) -> None:
    parameters, to = quadratic()
    optimizer = NTASGD(parameters, lr=0.1, window=window, weight_decay=0.01)
    plain = [p.detach().numpy().copy() for p in parameters]
    kept: list[list[np.ndarray]] = []
    for epoch, score in enumerate(SCORES):
        for _ in range(2):
            pull(optimizer, parameters, to)
            plain = [
                w - 0.1 * (2 * (w - t.numpy()) + 0.01 * w) for w, t in zip(plain, to, strict=True)
            ]
            if trigger is not None and epoch > trigger:
                kept.append(plain)
        if epoch == trigger:
            kept.append(plain)
        assert optimizer.observe(score) == bool(kept)
    expected = [np.mean(each, axis=0) for each in zip(*kept, strict=True)] if kept else plain
    with optimizer.averaged():
        for p, value in zip(parameters, expected, strict=True):
            np.testing.assert_allclose(to_array(p), value, rtol=1e-12)
    for p, value in zip(parameters, plain, strict=True):
        np.testing.assert_allclose(to_array(p), value, rtol=1e-12)


@not_the_kernels
def test_parameters_return_after_an_error_under_averages() -> None:
    parameters, to = quadratic()
    optimizer = NTASGD(parameters, lr=0.1, window=1)
    for score in (1.0, 1.0, 2.0):
        optimizer.observe(score)
    pull(optimizer, parameters, to)
    own = [p.detach().clone() for p in parameters]
    with pytest.raises(RuntimeError), optimizer.averaged():
        assert not any(torch.equal(p, o) for p, o in zip(parameters, own, strict=True))
        raise RuntimeError
    assert all(torch.equal(p, o) for p, o in zip(parameters, own, strict=True))


@not_the_kernels
@pytest.mark.parametrize("saved_after", [1, 5])
def test_nt_asgd_goes_on_exactly_from_tensors_and_json(saved_after: int) -> None:
    parameters, to = quadratic()
    optimizer = NTASGD(parameters, lr=0.1, window=2)
    copies = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    again = NTASGD(copies, lr=0.5, window=1)
    for epoch, score in enumerate(SCORES):
        pull(optimizer, parameters, to)
        optimizer.observe(score)
        if epoch > saved_after:
            pull(again, copies, to)
            again.observe(score)
        if epoch == saved_after:
            tensors, content = pack_optimizer(optimizer)
            unpack_optimizer(again, tensors, json.loads(json.dumps(content)))
            for copy, parameter in zip(copies, parameters, strict=True):
                copy.data.copy_(parameter)
    assert again.averaging
    with optimizer.averaged(), again.averaged():
        assert all(torch.equal(p, q) for p, q in zip(parameters, copies, strict=True))


@not_the_kernels
def test_window_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        NTASGD(quadratic()[0], window=0)


# Batches


@not_the_kernels
def test_batches_of_variable_length_read_on_through_every_lane() -> None:
    text = torch.arange(500)
    batches = VariableLengthBatches(text, batch_size=2, steps=20, seed=1)
    pairs = [batches.next() for _ in range(9)]
    inputs = torch.cat([inputs for inputs, _ in pairs])
    positions = torch.arange(len(inputs))
    assert torch.equal(inputs, torch.stack([positions % 499, (positions + 249) % 499], dim=1))
    assert torch.equal(torch.cat([targets for _, targets in pairs]), inputs + 1)
    assert batches.position == len(inputs)


@not_the_kernels
def test_lengths_follow_the_papers_distribution() -> None:
    batches = VariableLengthBatches(torch.arange(300), batch_size=1, steps=70)
    lengths = np.array([len(batches.next()[0]) for _ in range(4000)])
    short = lengths < 52.5
    assert abs(short.mean() - 0.05) < 4.5 * (0.05 * 0.95 / 4000) ** 0.5
    for chosen, mean in ((lengths[~short], 70), (lengths[short], 35)):
        assert abs(chosen.mean() - mean) < 4.5 * 5 / len(chosen) ** 0.5
        assert abs(chosen.std() - 5) < 4.5 * 5 / (2 * len(chosen)) ** 0.5
    epoch = len(VariableLengthBatches(torch.zeros(100_001, dtype=torch.int64), 10, 70))
    assert epoch * lengths.mean() == pytest.approx(10_000, rel=0.01)


@not_the_kernels
def test_lengths_depend_on_seed_and_position_alone() -> None:
    def lengths(seed: int, start: int) -> list[int]:
        batches = VariableLengthBatches(torch.arange(300), 2, 30, seed)
        batches.position = start
        return [len(batches.next()[0]) for _ in range(8)]

    first = lengths(4, 0)
    starts = [0, *itertools.accumulate(first)]
    assert lengths(4, starts[3])[:5] == first[3:]
    assert lengths(5, 0) != first
    shortest = VariableLengthBatches(torch.arange(300), 2, 1)
    assert min(len(shortest.next()[0]) for _ in range(50)) == 5
