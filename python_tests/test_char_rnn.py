"""The character model: its numbers on both backends, its state, warm-up, and d2l's text."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backend import not_on_host
from helpers import error
from seqkern.data import load_corpus
from seqkern.models import CELLS, CharRnn, generate, recurrent_layer

DATA = Path(os.environ.get("SEQKERN_DATA", Path(__file__).parents[2] / "shared" / "data"))
V, H = 11, 8


def tokens(steps: int = 6, batch: int = 3) -> Tensor:
    return torch.randint(V, (steps, batch))


def flat(state: Tensor | tuple[Tensor, Tensor]) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


@pytest.mark.parametrize("cell", CELLS)
def test_backends_agree(cell: str) -> None:
    """Float32 losses and gradients err at most twice as much with seqkern as with torch."""
    text, targets = tokens(12, 4), tokens(12, 4)
    targets[3:5, 1] = -1
    ours = CharRnn(V, H, num_layers=2, cell=cell)
    found: dict[str, dict[str, Tensor]] = {}
    for name, backend, dtype in (
        ("ours", "seqkern", torch.float32),
        ("torch", "torch", torch.float32),
        ("exact", "torch", torch.float64),
    ):
        model = CharRnn(V, H, num_layers=2, cell=cell, backend=backend)
        model.load_state_dict(ours.state_dict())
        model.to(dtype)
        loss, _ = model(text, None, targets)
        loss.backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        found[name] = {"loss": loss.detach(), "logits": model(text)[0].detach(), **gradients}
    assert len(found["exact"]) == 2 + len(list(ours.parameters()))
    for key, exact in found["exact"].items():
        reference = exact.numpy()
        bound = max(2 * error(found["torch"][key], reference), 8 * np.finfo(np.float32).eps)
        assert error(found["ours"][key], reference) <= bound, key


@pytest.mark.parametrize("backend", ["seqkern", "torch"])
def test_tokens_stand_for_their_one_hot_encoding(backend: str) -> None:
    model = CharRnn(V, H, cell="gru", backend=backend).double()
    text = tokens()
    hidden, _ = model.recurrent(torch.nn.functional.one_hot(text, V).double())
    torch.testing.assert_close(model(text)[0], model.linear(hidden), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["seqkern", "torch"])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_carried_state_joins_two_halves(cell: str, backend: str) -> None:
    model = CharRnn(V, H, num_layers=2, cell=cell, backend=backend).double()
    text = tokens()
    first, state = model(text[:2])
    second, last = model(text[2:], state)
    logits, expected = model(text)
    torch.testing.assert_close(torch.cat([first, second]), logits, rtol=1e-12, atol=1e-12)
    for one, other in zip(flat(last), flat(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_prediction_feeds_the_prefix_and_then_its_own_tokens(cell: str) -> None:
    model = CharRnn(V, H, cell=cell)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # so that predictions depend on the state
    prefix = tokens(7, 1).flatten().tolist()
    state = None
    for i in prefix:
        logits, state = model(torch.tensor([[i]]), state)
    expected: list[int] = []
    for _ in range(5):
        expected.append(int(logits[0, 0].argmax()))
        logits, state = model(torch.tensor([[expected[-1]]]), state)
    assert generate(model, prefix, 5, temperature=0) == expected
    assert generate(model, prefix, 0, temperature=0) == []


def test_autocast_to_bfloat16() -> None:
    model = CharRnn(V, H, cell="gru")
    text, targets = tokens(), tokens()
    expected, _ = model(text, None, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = model(text, None, targets)
    loss.backward()
    torch.testing.assert_close(loss.float(), expected, rtol=0.02, atol=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@not_on_host
def test_a_text_is_learned_by_heart() -> None:
    text = torch.tensor([0, 1, 2, 0, 3, 4, 0, 5] * 4)
    model = CharRnn(6, 16, cell="gru")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss, _ = model(text[:-1, None], None, text[1:, None])
        loss.backward()
        optimizer.step()
    assert generate(model, text[:8].tolist(), 8, temperature=0) == text[:8].tolist()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="cell must be one of rnn, rnn_relu, lstm, gru, got 'mgu'"):
        CharRnn(V, H, cell="mgu")
    with pytest.raises(ValueError, match="backend must be one of seqkern, torch, got 'jax'"):
        recurrent_layer("rnn", 3, 4, backend="jax")


@pytest.mark.backends("cpu", reason="touches no kernels")
def test_the_time_machine_is_d2ls() -> None:
    """d2l's corpus has 170,580 characters; its vocabulary 28 symbols, <unk> among them."""
    path = DATA / "timemachine" / "timemachine.txt"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    corpus = load_corpus(path, "letters", max_words=10_000)
    assert len(corpus.vocabulary) == 28
    assert len(corpus.train) == 10_000
    whole = load_corpus(path, "letters")
    assert sum(len(whole.split(name)) for name in ("train", "valid", "test")) == 170_580
    start = "".join(corpus.vocabulary.decode(corpus.train[:40].tolist()))
    assert start == "the time machine by h g wellsithe time t"
    held_out = "".join(whole.vocabulary.decode(whole.valid.tolist()))
    assert "".join(corpus.vocabulary.decode(corpus.valid.tolist())) == held_out
