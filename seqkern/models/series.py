"""Predicting the next value of a series: from a window of the last ones, or from a state.

Windows are time-major, (order, N, D), oldest first (`seqkern.data.windows`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from seqkern.data.series import check_series, windows
from seqkern.models.layers import State, check_sizes, join_states, recurrent_layer
from seqkern.models.pretrained import Pretrained


class VectorAutoregression(Pretrained):
    """x_t = A_1 x_{t-1} + ... + A_p x_{t-p} + b, by least squares (Lütkepohl 2005, 3.2).

    Parameters
    ----------
    features : int
        D; with 1, a linear autoregression.
    order : int
        p.

    Raises
    ------
    ValueError
        If a size is below 1.

    Examples
    --------
    >>> model = VectorAutoregression(features=1, order=2)
    >>> fibonacci = torch.tensor([1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0])[:, None]
    >>> model.fit(fibonacci).coefficients.flatten().tolist()
    [1.0, 1.0]
    >>> window_forecast(model, fibonacci[-2:], order=2, steps=3).flatten().tolist()
    [21.0, 34.0, 55.0]
    """

    def __init__(self, features: int, order: int) -> None:
        super().__init__()
        check_sizes(features=features, order=order)
        self.features, self.order = features, order
        self.linear = torch.nn.Linear(order * features, features)

    def forward(self, window: Tensor) -> Tensor:
        """The values (N, D) after windows (p, N, D)."""
        return self.linear(_flat(window))

    @torch.no_grad()
    def fit(self, series: Tensor) -> VectorAutoregression:
        """Set the parameters to those with the least sum of squared errors, found in float64.

        Parameters
        ----------
        series : Tensor
            Shape (T, D), T - p at least p D + 1.

        Raises
        ------
        ValueError
            If `series` has another shape or too few values.
        """
        check_series(series)
        needed = self.order * (self.features + 1) + 1
        if len(series) < needed or series.shape[1] != self.features:
            raise ValueError(
                f"series must be ({needed} or more, {self.features}), got {tuple(series.shape)}"
            )
        rows = windows(series.detach().double().cpu(), self.order + 1)
        inputs = np.pad(_flat(rows[:-1]).numpy(), ((0, 0), (0, 1)), constant_values=1.0)
        solution, *_ = np.linalg.lstsq(inputs, rows[-1].numpy())
        found = torch.from_numpy(solution)
        self.linear.weight.copy_(found[:-1].T)
        self.linear.bias.copy_(found[-1])
        return self

    @property
    def coefficients(self) -> Tensor:
        """A_1 ... A_p, shape (p, D, D)."""
        shape = self.features, self.order, self.features
        return self.linear.weight.detach().reshape(shape).transpose(0, 1).flip(0)


class WindowMLP(Pretrained):
    """d2l's network for the sine wave: the values of a window, a hidden layer with ReLU, linear.

    Parameters
    ----------
    features : int
        D.
    order : int
        tau, the values of a window.
    hidden_size : int

    Raises
    ------
    ValueError
        If a size is below 1.

    Examples
    --------
    >>> WindowMLP(features=1, order=4)(torch.zeros(4, 7, 1)).shape
    torch.Size([7, 1])
    """

    def __init__(self, features: int = 1, order: int = 4, hidden_size: int = 10) -> None:
        super().__init__()
        check_sizes(features=features, order=order, hidden_size=hidden_size)
        self.order = order
        self.hidden = torch.nn.Linear(order * features, hidden_size)
        self.linear = torch.nn.Linear(hidden_size, features)
        for layer in (self.hidden, self.linear):
            torch.nn.init.xavier_uniform_(layer.weight)

    def forward(self, window: Tensor) -> Tensor:
        """The values (N, D) after windows (order, N, D)."""
        return self.linear(torch.relu(self.hidden(_flat(window))))


class SeriesRegressor(Pretrained):
    """Recurrent layers and a linear one: every step predicts the next value.

    Parameters
    ----------
    features : int
        D.
    hidden_size : int
        H.
    num_layers : int
    cell : {"rnn", "rnn_relu", "lstm", "gru"}
    backend : {"seqkern", "torch"}
        "torch" builds the same model on torch.nn's layers.

    Raises
    ------
    ValueError
        If a size is below 1, or `cell` or `backend` is unknown.

    Examples
    --------
    >>> model = SeriesRegressor(features=2, hidden_size=8, cell="gru")
    >>> predictions, h = model(torch.zeros(5, 3, 2))
    >>> predictions.shape, h.shape
    (torch.Size([5, 3, 2]), torch.Size([1, 3, 8]))
    """

    def __init__(
        self,
        features: int = 1,
        hidden_size: int = 32,
        num_layers: int = 1,
        cell: str = "lstm",
        backend: str = "seqkern",
    ) -> None:
        super().__init__()
        check_sizes(features=features, hidden_size=hidden_size, num_layers=num_layers)
        self.recurrent = recurrent_layer(cell, features, hidden_size, num_layers, backend)
        self.linear = torch.nn.Linear(hidden_size, features)

    @classmethod
    @torch.no_grad()
    def from_autoregression(
        cls, model: VectorAutoregression, backend: str = "seqkern"
    ) -> SeriesRegressor:
        """The RNN that computes what a vector autoregression does, from step p - 1 on.

        Its state is the last p values: the recurrent weight shifts them (the companion form), the
        linear layer holds A_1 ... A_p and b. As x = relu(x) - relu(-x), and relu changes nothing
        that is not negative, a ReLU RNN of 2 p D units is as linear as one without an activation.
        In the steps before, the values that are missing count as 0.

        Parameters
        ----------
        model : VectorAutoregression
            Its parameters are copied.
        backend : {"seqkern", "torch"}

        Returns
        -------
        SeriesRegressor
            On the device and of the dtype of `model`; it can be trained on.

        Examples
        --------
        >>> autoregression = VectorAutoregression(features=2, order=3)
        >>> series = torch.randn(10, 2)
        >>> predictions, _ = SeriesRegressor.from_autoregression(autoregression)(series[:, None])
        >>> expected = autoregression(windows(series, 3))
        >>> torch.allclose(predictions[2:, 0], expected, atol=1e-6)
        True
        """
        size, order = 2 * model.features, model.order
        weight = model.linear.weight
        found = cls(model.features, order * size, cell="rnn_relu", backend=backend)
        found.to(weight.device, weight.dtype)
        for parameter in found.recurrent.parameters():
            parameter.zero_()
        weight_ih, weight_hh, *_ = found.recurrent.parameters()
        identity = torch.eye(model.features).to(weight)
        weight_ih[:size] = torch.cat([identity, -identity])
        weight_hh[size:, :-size].fill_diagonal_(1.0)
        signed = torch.cat([model.coefficients, -model.coefficients], dim=2)
        found.linear.weight.copy_(torch.cat(list(signed), dim=1))
        found.linear.bias.copy_(model.linear.bias)
        return found

    def forward(self, series: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predictions of every next value.

        Parameters
        ----------
        series : Tensor
            Shape (T, N, D): N whole series, or N windows, of which the last prediction counts.
        state : State, optional
            Recurrent state before the first step; default zero.

        Returns
        -------
        predictions : Tensor
            Shape (T, N, D): row t is the value expected at t + 1.
        state : State
            Recurrent state after the last step.
        """
        hidden, state = self.recurrent(series, state)
        return self.linear(hidden), state

    @torch.no_grad()
    def forecast(self, series: Tensor, steps: int) -> Tensor:
        """The next `steps` values after each value of a series, all before it in the state.

        Parameters
        ----------
        series : Tensor
            Shape (T, D).
        steps : int

        Returns
        -------
        Tensor
            Shape (T, steps, D): row i is what is expected at i + 1 ... i + steps.

        Raises
        ------
        ValueError
            If `series` is not (T, D), or `steps` below 1.
        """
        check_series(series)
        check_sizes(steps=steps)
        predictions, states = [], []
        state: State | None = None
        for value in series:
            prediction, state = self(value[None, None], state)
            predictions.append(prediction)
            states.append(state)
        # From here on, the places of the series are a batch.
        found = [torch.cat(predictions, dim=1)]
        state = join_states(states, dim=1)
        while len(found) < steps:
            prediction, state = self(found[-1], state)
            found.append(prediction)
        return torch.cat(found).transpose(0, 1)


@torch.no_grad()
def window_forecast(
    predict: Callable[[Tensor], Tensor], series: Tensor, order: int, steps: int
) -> Tensor:
    """The next `steps` values after each window of a series, predictions taken for what follows it.

    Parameters
    ----------
    predict : callable
        The values (N, D) after windows (order, N, D), as the models of windows compute; of a
        `SeriesRegressor`, `lambda window: model(window)[0][-1]`.
    series : Tensor
        Shape (T, D).
    order : int
        Values of a window.
    steps : int

    Returns
    -------
    Tensor
        Shape (T - order + 1, steps, D): row i is what is expected at order + i ... order + i +
        steps - 1, and element k - 1 of it the k-step-ahead prediction.

    Raises
    ------
    ValueError
        If `series` is not (T, D), `order` not in 1 ... T, or `steps` below 1.

    Examples
    --------
    >>> series = torch.tensor([[1.0], [2.0], [3.0]])
    >>> window_forecast(lambda window: 2 * window[-1], series, order=2, steps=3)[..., 0]
    tensor([[ 4.,  8., 16.],
            [ 6., 12., 24.]])
    """
    check_sizes(steps=steps)
    window = windows(series, order)
    found = []
    for _ in range(steps):
        found.append(predict(window))
        window = torch.cat([window[1:], found[-1][None].to(window.dtype)])
    return torch.stack(found, dim=1)


def forecast_errors(forecast: Tensor, series: Tensor) -> Tensor:
    """Root mean square error of the k-step-ahead predictions, for every k.

    Parameters
    ----------
    forecast : Tensor
        Shape (M, steps, D): what `window_forecast` or `SeriesRegressor.forecast` found for the
        series.
    series : Tensor
        Shape (T, D).

    Returns
    -------
    Tensor
        Shape (steps,): element k - 1 over all k-step-ahead predictions of values in the series.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or there is no value to compare with at the last step.

    Examples
    --------
    >>> series = torch.tensor([[1.0], [2.0], [3.0]])
    >>> forecast_errors(window_forecast(lambda window: 2 * window[-1], series, 1, 2), series)
    tensor([0.7071, 1.0000])
    """
    check_series(series)
    rows, steps, features = forecast.shape
    first = len(series) - rows + 1  # the time of the first prediction
    if features != series.shape[1] or first < 1 or rows <= steps:
        raise ValueError(
            f"forecast must be (M, steps, {series.shape[1]}) with steps < M <= {len(series)}, "
            f"got {tuple(forecast.shape)}"
        )
    # Prediction k - 1 of row i is for time first + i + k - 1; the last k rows lack their values.
    errors = [forecast[: rows - k, k - 1] - series[first + k - 1 :] for k in range(1, steps + 1)]
    return torch.stack([error.square().mean().sqrt() for error in errors])


def _flat(window: Tensor) -> Tensor:
    """(order, N, D) to (N, order * D)."""
    return window.transpose(0, 1).flatten(1)
