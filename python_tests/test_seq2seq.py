"""Sequence to sequence models: the book's on the NumPy layers, torch's layers, masks, steps."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend import not_on_host
from helpers import threads
from reference import (
    TimeAffine,
    TimeAttention,
    TimeEmbedding,
    TimeLSTM,
    TimeSoftmaxWithLoss,
    mapping,
)
from seqkern.data import SequencePairs, addition_questions
from seqkern.models import (
    AttentionSeq2seq,
    EncoderDecoder,
    PeekySeq2seq,
    Seq2seq,
    TransformerSeq2seq,
    beam_search,
    greedy_search,
)
from seqkern.models.recurrent_stack import RecurrentStack

pytestmark = not_on_host

CLASSES = [Seq2seq, PeekySeq2seq, AttentionSeq2seq]
Array = NDArray[np.float64]


def batch(steps: tuple[int, int] = (6, 4), size: int = 3, vocab_size: int = 11) -> list[Tensor]:
    """Sources and targets."""
    return [torch.randint(vocab_size, (T, size)) for T in steps]


def make(model_class: type[Seq2seq], **options: Any) -> Seq2seq:
    """A small model in float64, with biases and embeddings that matter."""
    model = model_class(11, 4, 6, **options).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias_ih" in name or "linear.bias" in name or "embedding" in name:
                parameter.normal_()
    return model


def make_transformer(**options: Any) -> TransformerSeq2seq:
    return TransformerSeq2seq(11, 8, num_heads=2, feedforward_size=12, **options).double().eval()


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


# The book


class BookSeq2seq:
    """The book's Seq2seq, PeekySeq2seq or AttentionSeq2seq, with the parameters of ours."""

    def __init__(self, model: Seq2seq) -> None:
        weights = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}

        def layers(part: str) -> tuple[TimeEmbedding, TimeLSTM]:
            names = ("weight_ih", "weight_hh", "bias_ih")
            arrays = [weights[f"{part}.recurrent.layers.0.{name}_l0"] for name in names]
            lstm = TimeLSTM(*mapping.lstm_from_torch(*arrays), stateful=True)
            return TimeEmbedding(weights[f"{part}.embedding.weight"]), lstm

        self.kind = type(model)
        self.encoder, self.decoder = layers("encoder"), layers("decoder")
        linear = weights["decoder.linear.weight"], weights["decoder.linear.bias"]
        self.affine = TimeAffine(linear[0].T.copy(), linear[1])
        self.attention = TimeAttention()
        self.loss = TimeSoftmaxWithLoss()

    def forward(self, xs: NDArray[np.int64], ts: NDArray[np.int64]) -> float:
        """Loss of sources (N, S) and targets (N, T)."""
        embedding, lstm = self.encoder
        lstm.reset_state()
        hs = lstm.forward(embedding.forward(xs))
        embedding, lstm = self.decoder
        out = embedding.forward(ts[:, :-1])
        peek = np.repeat(hs[:, -1:], out.shape[1], axis=1)
        if self.kind is PeekySeq2seq:
            out = np.concatenate([peek, out], axis=2)
        lstm.set_state(hs[:, -1])  # c is zero
        out = lstm.forward(out)
        if self.kind is PeekySeq2seq:
            out = np.concatenate([peek, out], axis=2)
        if self.kind is AttentionSeq2seq:
            out = np.concatenate([self.attention.forward(hs, out), out], axis=2)
        self.shape = hs.shape
        return self.loss.forward(self.affine.forward(out), ts[:, 1:])

    def backward(self) -> None:
        """Set the gradients of all layers."""
        dout = self.affine.backward(self.loss.backward())
        H = self.shape[2]
        dhs = np.zeros(self.shape)
        if self.kind is PeekySeq2seq:
            dhs[:, -1] += dout[:, :, :H].sum(axis=1)
            dout = dout[:, :, H:]
        if self.kind is AttentionSeq2seq:
            dhs_enc, dhs_dec = self.attention.backward(dout[:, :, :H])
            dhs += dhs_enc
            dout = dout[:, :, H:] + dhs_dec
        embedding, lstm = self.decoder
        dout = lstm.backward(dout)
        dhs[:, -1] += lstm.dh  # that of c stays here
        if self.kind is PeekySeq2seq:
            dhs[:, -1] += dout[:, :, :H].sum(axis=1)
            dout = dout[:, :, H:]
        embedding.backward(dout)
        embedding, lstm = self.encoder
        embedding.backward(lstm.backward(dhs))

    def gradients(self) -> dict[str, Array]:
        """Gradients by the names of our parameters."""
        found = {}
        for part, (embedding, lstm) in {"encoder": self.encoder, "decoder": self.decoder}.items():
            found[f"{part}.embedding.weight"] = embedding.grads[0]
            weight_ih, weight_hh, bias, _ = mapping.lstm_gradients_to_torch(*lstm.grads)
            found[f"{part}.recurrent.layers.0.weight_ih_l0"] = weight_ih
            found[f"{part}.recurrent.layers.0.weight_hh_l0"] = weight_hh
            found[f"{part}.recurrent.layers.0.bias_ih_l0"] = bias
        found["decoder.linear.weight"] = self.affine.grads[0].T
        found["decoder.linear.bias"] = self.affine.grads[1]
        return found


@pytest.mark.parametrize("backend", ["seqkern", "torch"])
@pytest.mark.parametrize("model_class", CLASSES)
def test_loss_and_gradients_are_the_books(model_class: type[Seq2seq], backend: str) -> None:
    """Among other things: c begins at zero, and its gradient does not go back to the encoder."""
    model = make(model_class, backend=backend)
    source, target = batch()
    loss = model(source, target)
    book = BookSeq2seq(model)
    assert loss.item() == pytest.approx(book.forward(source.T.numpy(), target.T.numpy()), rel=1e-12)
    book.backward()
    found, expected = gradients(model, loss), book.gradients()
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_initial_values_are_the_books() -> None:
    model = PeekySeq2seq(500, 40, 300)
    for name, parameter in model.named_parameters():
        if ".bias" in name:
            assert not parameter.any()
            assert parameter.requires_grad == ("bias_hh" not in name)
        else:
            std = 0.01 if "embedding" in name else parameter.shape[1] ** -0.5
            assert parameter.std().item() == pytest.approx(std, rel=0.05), name
            assert abs(parameter.mean().item()) < 0.1 * std


# Options


OPTIONS: dict[str, dict[str, Any]] = {
    "gru": {"cell": "gru"},
    "rnn of two layers": {"cell": "rnn", "num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "bidirectional gru of two layers": {"cell": "gru", "bidirectional": True, "num_layers": 2},
    "residual": {"num_layers": 3, "residual": True},
    "all": {"num_layers": 2, "residual": True, "bidirectional": True, "target_vocab_size": 13},
}


@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 1, 4])], ids=["whole", "lengths"])
@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_backends_agree(
    options: dict[str, Any], model_class: type[Seq2seq], lengths: Tensor | None
) -> None:
    ours, theirs = (make(model_class, **options, backend=b) for b in ("seqkern", "torch"))
    theirs.load_state_dict(ours.state_dict())
    source, target = batch()
    target[2:, 1] = -1
    found, expected = (model(source, target, lengths) for model in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    wanted = gradients(theirs, expected)
    for name, gradient in gradients(ours, found).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-9, atol=1e-12)


def test_residual_layers_add_their_input() -> None:
    stack = RecurrentStack(3, 4, num_layers=3, cell="gru", residual=True).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    first, _ = stack.layers[0](x)
    second = stack.layers[1](first)[0] + first
    third = stack.layers[2](second)[0] + second
    torch.testing.assert_close(stack(x)[0], third)


def test_dropout_is_for_training_alone() -> None:
    model = make(AttentionSeq2seq, dropout=0.5, num_layers=2)
    source, target = batch()
    assert model(source, target) != model(source, target)
    model.eval()
    assert model(source, target) == model(source, target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "elman"}, "cell must be one of rnn, rnn_relu, lstm, gru, got 'elman'"),
        ({"backend": "jax"}, "backend must be one of seqkern, torch, got 'jax'"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        (
            {"hidden_size": 5, "bidirectional": True},
            "bidirectional needs an even hidden_size, got 5",
        ),
    ],
)
def test_bad_options_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Seq2seq(11, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_size": 6}, "multiple of num_heads 4, got 6"),
        ({"backend": "jax"}, "backend must be one of"),
    ],
)
def test_bad_options_of_a_transformer_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerSeq2seq(11, **options)


# All models


@pytest.fixture(params=["plain", "peeky", "attention", "bidirectional", "transformer"])
def model(request: pytest.FixtureRequest) -> EncoderDecoder:
    if request.param == "transformer":
        return make_transformer()
    options = {"num_layers": 2, "bidirectional": request.param == "bidirectional"}
    kinds = {"plain": Seq2seq, "peeky": PeekySeq2seq}
    return make(kinds.get(request.param, AttentionSeq2seq), **options)


@pytest.mark.parametrize("backend", ["seqkern", "torch"])
def test_loss_is_that_of_the_logits_over_the_targets_that_count(
    model: EncoderDecoder, backend: str
) -> None:
    model.backend = backend
    source, target = batch()
    target[2:, 0] = -1
    logits, _, _ = model.decode(target[:-1], model.encode(source))
    plain = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target[1:].flatten(), ignore_index=-1
    )
    torch.testing.assert_close(model(source, target), plain)


def test_steps_join_to_a_whole(model: EncoderDecoder) -> None:
    source, target = batch()
    memory = model.encode(source, torch.tensor([2, 6, 3]))
    whole, _, attention = model.decode(target, memory)
    state, parts, weights = None, [], []
    for tokens in target.split([1, 2, 1]):
        logits, state, part = model.decode(tokens, memory, state)
        parts.append(logits)
        weights.append(part)
    torch.testing.assert_close(torch.cat(parts), whole)
    if attention is not None:
        torch.testing.assert_close(torch.cat(weights), attention)


def test_padding_has_no_influence(model: EncoderDecoder) -> None:
    source, target = batch()
    lengths = torch.tensor([6, 2, 4])
    target[3:, 1] = -1
    loss = model(source, target, lengths)
    expected = gradients(model, loss)
    padded = source.where(torch.arange(6)[:, None] < lengths, -1)
    again = model(padded, target, lengths)
    torch.testing.assert_close(again, loss)
    for name, gradient in gradients(model, again).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
    together, _, _ = model.decode(target, model.encode(padded, lengths))
    alone, _, _ = model.decode(target[:3, 1:2], model.encode(source[:2, 1:2]))
    torch.testing.assert_close(together[:3, 1:2], alone)


def test_later_tokens_have_no_influence(model: EncoderDecoder) -> None:
    source, target = batch()
    memory = model.encode(source)
    before, _, _ = model.decode(target, memory)
    after, _, _ = model.decode(torch.cat([target[:2], (target[2:] + 1) % 11]), memory)
    torch.testing.assert_close(after[:2], before[:2])
    assert not torch.allclose(after[2:], before[2:])


def test_autocast_computes_nearly_the_same(model: EncoderDecoder) -> None:
    model.float()
    source, target = batch()
    expected = model(source, target)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(source, target, torch.tensor([6, 6, 6]))
    torch.testing.assert_close(loss.float(), expected, rtol=0.02, atol=0)
    assert all(g.dtype == torch.float32 for g in gradients(model, loss).values())


def test_tensors_stay_on_their_device(model: EncoderDecoder) -> None:
    """On torch's device without data, where each look at a value raises."""
    model.to("meta")
    source, target, lengths = (t.to("meta") for t in (*batch(), torch.tensor([6, 2, 4])))
    loss = model(source, target, lengths)
    loss.backward()
    found = greedy_search(model, source, 0, 3, lengths=lengths)
    hypotheses = beam_search(model, source, 0, 3, lengths=lengths)
    assert {t.device.type for t in (loss, found.tokens, hypotheses.tokens)} == {"meta"}


@pytest.mark.parametrize("name", ["plain", "peeky", "attention", "transformer"])
def test_twenty_sums_are_learned_by_heart(name: str) -> None:
    kinds = {"plain": Seq2seq, "peeky": PeekySeq2seq, "attention": AttentionSeq2seq}
    pairs = SequencePairs.from_questions(addition_questions(20), mask_padding=True)
    V = len(pairs.source_vocabulary)
    model = (
        TransformerSeq2seq(V, 32, num_layers=1, feedforward_size=64, dropout=0.0)
        if name == "transformer"
        else kinds[name](V, 16, 64)
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    with threads(1):
        for _ in range(150):
            loss = model(pairs.source, pairs.target, pairs.lengths)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        start = int(pairs.target[0, 0])
        found = greedy_search(model, pairs.source, start, 5, pairs.end, pairs.lengths)
    assert torch.equal(found.tokens, pairs.target[1:])
