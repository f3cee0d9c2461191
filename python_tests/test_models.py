"""Language models: shapes, state, initial values, and the same numbers as on torch's layers."""

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import error
from seqkern import nn
from seqkern.models import MODELS, BetterRnnlm, Rnnlm, SimpleRnnlm


def tokens(steps: int = 6, batch: int = 3, vocab_size: int = 20) -> Tensor:
    return torch.randint(vocab_size, (steps, batch))


def flat(state: Tensor | tuple[Tensor, Tensor]) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_state_have_their_shapes(name: str) -> None:
    model = MODELS[name](20, 8, 8)
    logits, state = model(tokens())
    assert logits.shape == (6, 3, 20)
    layers = 2 if name == "better-rnnlm" else 1
    assert [s.shape for s in flat(state)] == [(layers, 3, 8)] * (1 if name == "simple-rnnlm" else 2)


@pytest.mark.parametrize("name", MODELS)
def test_carried_state_joins_two_halves(name: str) -> None:
    model = MODELS[name](20, 8, 8).double().eval()
    text = tokens()
    first, state = model(text[:2])
    second, last = model(text[2:], state)
    logits, expected = model(text)
    torch.testing.assert_close(torch.cat([first, second]), logits, rtol=1e-12, atol=1e-12)
    for one, other in zip(flat(last), flat(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_start_as_the_books(name: str) -> None:
    model = MODELS[name](500, 100, 100)
    scales = {"embedding.weight": 0.01}
    for key, parameter in model.named_parameters():
        if "bias" in key:
            assert not parameter.any(), key
        else:
            assert parameter.std().item() == pytest.approx(scales.get(key, 0.1), rel=0.05), key


@pytest.mark.parametrize("name", MODELS)
def test_one_bias_a_layer_is_trained(name: str) -> None:
    model = MODELS[name](20, 8, 8)
    frozen = {key for key, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {f"recurrent.bias_hh_l{i}" for i in range(model.recurrent.num_layers)}


def test_better_rnnlm_ties_and_drops() -> None:
    model = BetterRnnlm(20, 8, 8)
    assert model.linear.weight is model.embedding.weight
    text = tokens()
    assert not torch.equal(model(text)[0], model(text)[0])
    model.eval()
    assert torch.equal(model(text)[0], model(text)[0])


def test_dropout_is_before_between_and_after_the_layers() -> None:
    model = Rnnlm(20, 7, 8, num_layers=2, dropout=0.3)
    dropped = []
    model.dropout.register_forward_hook(lambda _, inputs, __: dropped.append(inputs[0].shape))
    model(tokens())
    assert dropped == [(6, 3, 7), (6, 3, 8)]
    assert model.dropout.p == model.recurrent.dropout == 0.3


def test_tied_weights_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="tied needs embed_size equal to hidden_size, got 8 and 9"):
        Rnnlm(20, 8, 9, tied=True)


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend must be one of seqkern, torch, got 'jax'"):
        Rnnlm(20, backend="jax")


def test_unknown_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="cell must be one of rnn, rnn_relu, lstm, gru, got 'mgu'"):
        Rnnlm(20, cell="mgu")


@pytest.mark.parametrize("backend", ["seqkern", "torch"])
@pytest.mark.parametrize(
    ("model_class", "cell"), [(Rnnlm, "lstm"), (BetterRnnlm, "lstm"), (SimpleRnnlm, "rnn")]
)
def test_models_take_any_cell(model_class: type[Rnnlm], cell: str, backend: str) -> None:
    layers = nn if backend == "seqkern" else torch.nn
    assert type(model_class(20, 8, 8, backend=backend).recurrent) is getattr(layers, cell.upper())
    for name, layer in (("lstm", layers.LSTM), ("gru", layers.GRU), ("rnn", layers.RNN)):
        assert type(model_class(20, 8, 8, backend=backend, cell=name).recurrent) is layer


@pytest.mark.parametrize(
    ("model_class", "cell"),
    [(Rnnlm, "lstm"), (BetterRnnlm, "lstm"), (SimpleRnnlm, "rnn"), (Rnnlm, "gru")],
)
def test_backends_agree(model_class: type[Rnnlm], cell: str) -> None:
    """Float32 gradients err at most twice as much with seqkern as with torch."""
    text = tokens(12, 4, 50)
    ours = model_class(50, 32, 32, dropout=0.0, cell=cell)
    found: dict[str, dict[str, Tensor]] = {}
    for name, backend, dtype in (
        ("ours", "seqkern", torch.float32),
        ("torch", "torch", torch.float32),
        ("exact", "torch", torch.float64),
    ):
        model = model_class(50, 32, 32, dropout=0.0, backend=backend, cell=cell)
        model.load_state_dict(ours.state_dict())
        logits, _ = model.to(dtype)(text)
        logits.square().sum().backward()
        grads = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        found[name] = {"logits": logits.detach(), **grads}
    for key, exact in found["exact"].items():
        reference = exact.numpy()
        bound = max(2 * error(found["torch"][key], reference), 8 * np.finfo(np.float32).eps)
        assert error(found["ours"][key], reference) <= bound, key


@pytest.mark.parametrize("backend", ["seqkern", "torch"])
def test_loss_is_that_of_the_logits_over_the_targets_that_count(backend: str) -> None:
    model = Rnnlm(50, 8, 8, tied=True, backend=backend)
    tokens, targets = torch.randint(50, (2, 5, 3))
    targets[1:3, 2] = -1
    logits, (h, _) = model(tokens)
    plain = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1
    )
    loss, (again, _) = model(tokens, None, targets)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(again, h)
    parameters = [p for p in model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(plain, parameters)
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), expected)
