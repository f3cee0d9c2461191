"""Attention of all steps of a decoder at once over all steps of an encoder."""

from __future__ import annotations

import torch
from torch import Tensor


class TimeAttention(torch.nn.Module):
    """Attention with dot products for scores; it has no parameters.

    a_{t,s} = softmax over s of (q_t . m_s),    c_t = sum over s of a_{t,s} m_s

    Notes
    -----
    Luong et al. (2015), "Effective approaches to attention-based neural machine translation", the
    "dot" score; "Deep Learning from Scratch 2", chapter 8: AttentionWeight and WeightSum.

    Examples
    --------
    >>> attention = TimeAttention()
    >>> context, weights = attention(torch.zeros(3, 2, 8), torch.randn(5, 2, 8))
    >>> context.shape, weights.shape, weights[0, 0].tolist()
    (torch.Size([3, 2, 8]), torch.Size([3, 2, 5]), [0.2..., 0.2..., 0.2..., 0.2..., 0.2...])
    """

    def forward(
        self, query: Tensor, memory: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Contexts and weights of all steps.

        Parameters
        ----------
        query : Tensor
            Shape (T, N, H): the decoder's hidden states q.
        memory : Tensor
            Shape (S, N, H): the encoder's hidden states m.
        mask : Tensor, optional
            bool, shape (S, N): true where there is a token. The other steps have weight 0; where a
            sequence has no token at all, its steps have equal weights.

        Returns
        -------
        context : Tensor
            Shape (T, N, H).
        weights : Tensor
            Shape (T, N, S); over s, they sum to 1.
        """
        by_sentence = memory.transpose(0, 1)
        scores = query.transpose(0, 1) @ by_sentence.transpose(1, 2)  # (N, T, S)
        if mask is not None:
            scores = scores.masked_fill(~mask.T[:, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        return (weights @ by_sentence).transpose(0, 1), weights.transpose(0, 1)
