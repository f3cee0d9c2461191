"""What torch expects of an operator: derivatives of any order and mode, autocast, copies.

Where a transform is not supported it must raise: `assert_right_or_refused` fails on a wrong result,
and never accepts a missing one.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import seqkern.functional as F
import seqkern.nn
from helpers import generator, lstm_problem, normal

ops = torch.ops.seqkern
F64 = torch.float64
REFUSALS = (NotImplementedError, RuntimeError)


def lstm_arguments(dtype: torch.dtype = F64, grad: bool = False, steps: int = 3) -> list[Tensor]:
    """Draw a small layer."""
    problem = lstm_problem(steps, 2, 3, 2, dtype, seed=1)
    return [t.requires_grad_(grad) for t in problem.present()]


def loss_arguments(dtype: torch.dtype = F64, grad: bool = False) -> tuple[Tensor, Tensor]:
    """Draw logits, and targets of which some are ignored."""
    logits = normal((3, 4, 7), dtype, generator(2)).requires_grad_(grad)
    target = torch.randint(7, (3, 4), generator=generator(3))
    target[0, 1] = target[2, 3] = -1
    return logits, target


def plain_lstm(
    x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, b: Tensor, d: Tensor
) -> Tensor:
    """Return the outputs of the layer in plain torch operations."""
    outputs = []
    for x_t in x:
        i, f, g, o = (x_t @ w.T + h @ u.T + b + d).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs)


def plain_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss in plain torch operations."""
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), target.flatten(), ignore_index=-1
    )


def lstm(*arguments: Tensor) -> Tensor:
    """Return the outputs alone, as `plain_lstm`."""
    return F.lstm(*arguments)[0]


def assert_right_or_refused(compute: Callable[[], Any], expected: Any) -> None:
    """Check the result, unless the transform is refused."""
    try:
        actual = compute()
    except REFUSALS:
        return
    torch.testing.assert_close(actual, expected)


# --- derivatives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_passes_gradcheck_to_the_second_order(reverse: bool) -> None:
    def function(*arguments: Tensor) -> tuple[Tensor, ...]:
        return F.lstm(*arguments, reverse=reverse)

    arguments = lstm_arguments(grad=True, steps=2)
    assert gradcheck(function, arguments, check_batched_grad=True)
    assert gradgradcheck(function, arguments)


def test_second_derivatives_of_lstm_equal_those_of_plain_operations() -> None:
    arguments = lstm_arguments(grad=True)

    def second(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        loss = function(*arguments).square().sum()
        gradients = torch.autograd.grad(loss, arguments, create_graph=True)
        penalty = torch.stack([g.square().sum() for g in gradients]).sum()
        return torch.autograd.grad(penalty, arguments)

    torch.testing.assert_close(second(lstm), second(plain_lstm))


def test_second_derivatives_of_the_loss_equal_those_of_plain_operations() -> None:
    logits, target = loss_arguments(grad=True)

    def second(function: Callable[..., Tensor]) -> Tensor:
        (gradient,) = torch.autograd.grad(function(logits, target), logits, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), logits)[0]

    torch.testing.assert_close(second(F.time_softmax_loss), second(plain_loss))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("argument", range(7))
def test_gradients_with_a_graph_equal_those_without(argument: int, reverse: bool) -> None:
    arguments = lstm_arguments()
    leaf = arguments[argument].requires_grad_()
    output, h_n, c_n = F.lstm(*arguments, reverse=reverse)
    loss = (output * torch.randn_like(output)).sum() + (h_n * c_n).sum()
    (without,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (with_graph,) = torch.autograd.grad(loss, leaf, create_graph=True)
    assert with_graph.requires_grad
    torch.testing.assert_close(with_graph, without)


def test_no_steps_have_gradients_with_a_graph() -> None:
    arguments = lstm_arguments(grad=True, steps=0)
    loss = sum(t.square().sum() for t in F.lstm(*arguments))
    gradients = torch.autograd.grad(loss, arguments, create_graph=True, materialize_grads=True)
    for index, (gradient, argument) in enumerate(zip(gradients, arguments, strict=True)):
        expected = 2 * argument if index in (1, 2) else torch.zeros_like(argument)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("grad", [False, True])
def test_forward_mode_is_right_or_refused(grad: bool) -> None:
    """Silence would be a missing tangent, which means zero."""
    arguments, (logits, target) = lstm_arguments(grad=grad), loss_arguments(grad=grad)
    tangents = [torch.randn_like(t) for t in arguments]

    def tangent(function: Callable[..., Tensor], *given: Tensor) -> Tensor | None:
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t, d) for t, d in zip(given, tangents, strict=False)]
            return forward_ad.unpack_dual(function(*duals)).tangent

    expected = tangent(plain_lstm, *arguments)
    assert expected is not None
    assert_right_or_refused(lambda: tangent(lstm, *arguments), expected)

    tangents = [torch.randn_like(logits)]
    expected = tangent(lambda x: plain_loss(x, target), logits)
    assert expected is not None
    assert_right_or_refused(
        lambda: tangent(lambda x: F.time_softmax_loss(x, target), logits), expected
    )


TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Any]] = {
    "grad": lambda f, x: torch.func.grad(f)(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),)),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x),
    "hessian": lambda f, x: torch.func.hessian(f)(x),
    "vmap": lambda f, x: torch.func.vmap(f)(torch.stack([x, 2 * x])),
    "vmap of grad": lambda f, x: torch.func.vmap(torch.func.grad(f))(torch.stack([x, 2 * x])),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_function_transforms_are_right_or_refused(transform: Callable[..., Any]) -> None:
    logits, target = loss_arguments()
    expected = transform(lambda x: plain_loss(x, target), logits)
    assert_right_or_refused(
        lambda: transform(lambda x: F.time_softmax_loss(x, target), logits), expected
    )
    x, *rest = lstm_arguments()
    expected = transform(lambda x: plain_lstm(x, *rest).sum(), x)
    assert_right_or_refused(lambda: transform(lambda x: lstm(x, *rest).sum(), x), expected)


def test_batched_gradients_are_right_or_refused() -> None:
    logits, target = loss_arguments(grad=True)

    def gradients(loss: Callable[..., Tensor]) -> Tensor:
        several = torch.tensor([1.0, -2.0], dtype=F64)
        return torch.autograd.grad(loss(logits, target), logits, several, is_grads_batched=True)[0]

    expected = gradients(plain_loss)
    assert_right_or_refused(lambda: gradients(F.time_softmax_loss), expected)


def test_gradients_through_vmap_are_right_or_refused() -> None:
    """The weight stands outside of the map, so autograd records what goes on inside."""
    logits, target = loss_arguments()

    def gradient(loss: Callable[..., Tensor]) -> Tensor | None:
        weight = torch.eye(7, dtype=F64, requires_grad=True)
        losses = torch.vmap(lambda x: loss(x @ weight, target))(torch.stack([logits, -logits]))
        losses.sum().backward()
        return weight.grad

    expected = gradient(plain_loss)
    assert expected is not None
    assert_right_or_refused(lambda: gradient(F.time_softmax_loss), expected)


def test_operators_called_without_the_functions_are_right_or_refused() -> None:
    """An exported program does so: to warn, and to leave gradients out, is not enough."""
    arguments, (logits, target) = lstm_arguments(grad=True), loss_arguments(grad=True)

    def gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor | None]:
        for leaf in leaves:
            leaf.grad = None
        loss.backward()
        return [leaf.grad for leaf in leaves]

    expected = gradients(plain_lstm(*arguments).sum(), arguments)
    assert_right_or_refused(
        lambda: gradients(
            ops.recurrent_forward("lstm", *arguments, *[None] * 10, *[False] * 3, True)[0].sum(),
            arguments,
        ),
        expected,
    )
    expected = gradients(plain_loss(logits, target), [logits])
    assert_right_or_refused(
        lambda: gradients(
            ops.softmax_loss(*(logits, target, None, -1, 0.0, 0.0, 0.0, 1.0, 0, 0), 1, False, True)[
                0
            ],
            [logits],
        ),
        expected,
    )


# --- modes ---------------------------------------------------------------------------------------


@pytest.fixture
def model() -> torch.nn.Module:
    """Return a two-layer LSTM in both directions."""
    return seqkern.nn.LSTM(8, 16, num_layers=2, bidirectional=True)


def test_autocast_computes_in_bfloat16_and_trains_float32_parameters(
    model: torch.nn.Module,
) -> None:
    x = torch.randn(5, 3, 8, requires_grad=True)
    expected = model(x)[0]
    leaves = [x, *model.parameters()]
    expected_gradients = torch.autograd.grad(expected.square().sum(), leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, (h_n, c_n) = model(x, (torch.zeros(4, 3, 16), torch.zeros(4, 3, 16)))
    assert {t.dtype for t in (output, h_n, c_n)} == {torch.bfloat16}
    gradients = torch.autograd.grad(output.float().square().sum(), leaves)
    for actual, wanted in zip((output, *gradients), (expected, *expected_gradients), strict=True):
        assert actual is output or actual.dtype == torch.float32
        assert torch.dist(actual.float(), wanted) < 0.03 * wanted.norm()
        assert not torch.equal(actual.float(), wanted)  # bfloat16 was in it


def test_loss_under_autocast_is_float32_and_as_exact_as_without() -> None:
    logits, target = loss_arguments(torch.float32, grad=True)
    expected = F.time_softmax_loss(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(F.time_softmax_loss(logits, target), expected)
        product = logits @ torch.eye(7)
        assert product.dtype == torch.bfloat16
        loss = F.time_softmax_loss(product, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.time_softmax_loss(product.float(), target))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.dtype == torch.float32


def test_disabled_autocast_changes_nothing(model: torch.nn.Module) -> None:
    x = torch.randn(5, 3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert torch.equal(model(x)[0], model(x)[0])
        assert model(x)[0].dtype == torch.float32


def test_deterministic_algorithms_give_the_same_numbers(model: torch.nn.Module) -> None:
    x = torch.randn(5, 3, 8)

    def step() -> list[Tensor]:
        output = model(x)[0]
        return [output, *torch.autograd.grad(output.square().sum(), list(model.parameters()))]

    usual = step()
    torch.use_deterministic_algorithms(True)
    try:
        assert all(torch.equal(a, b) for a, b in zip(step(), usual, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_activation_checkpointing_gives_the_same_gradients(model: torch.nn.Module) -> None:
    x = torch.randn(5, 3, 8)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model(x)[0].square().sum(), parameters)
    again = checkpoint(lambda x: model(x)[0], x, use_reentrant=False)
    actual = torch.autograd.grad(again.square().sum(), parameters)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_functional_call_uses_the_given_parameters(model: torch.nn.Module) -> None:
    x, zeros = torch.randn(5, 3, 8), {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    assert not torch.func.functional_call(model, zeros, (x,))[0].any()
    assert model(x)[0].any()


def test_inference_mode_gives_the_same_output(model: torch.nn.Module) -> None:
    x = torch.randn(5, 3, 8)
    with torch.inference_mode():
        output = model(x)[0]
    assert output.is_inference()
    assert torch.equal(output, model(x)[0])


def test_model_made_on_the_meta_device_is_materialised_and_loaded(model: torch.nn.Module) -> None:
    with torch.device("meta"):
        empty = seqkern.nn.LSTM(8, 16, num_layers=2, bidirectional=True)
        assert empty(torch.empty(5, 3, 8))[0].shape == (5, 3, 32)
    loaded = empty.to_empty(device="cpu")
    loaded.load_state_dict(model.state_dict())
    x = torch.randn(5, 3, 8)
    assert torch.equal(loaded(x)[0], model(x)[0])
