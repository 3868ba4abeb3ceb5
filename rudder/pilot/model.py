"""The pilot as a torch module: llama architecture, a few layers, so that llama.cpp runs it as it stands.

One thing is done otherwise while it trains: the vector of a number is its own small row plus a learned map of
the number's size, so that numbers seen rarely, or never, lie between their neighbours. A GGUF file holds the
sum, as an ordinary table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rudder.pilot import vocabulary


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. Rows of every matrix must be multiples of 32, the block of Q8_0."""

    layers: int = 3
    width: int = 128
    heads: int = 4
    inner: int = 352  # 2.75 times the width
    #: An evidence line and its answer are about 110 tokens; the rest is for settings off the ladders.
    context: int = 256
    epsilon: float = 1e-5
    rope_base: float = 10000.0


class Pilot(nn.Module):
    """Tokens in, logits of the next token out."""

    def __init__(self, shape: Shape = Shape()) -> None:
        """Random weights, from torch's generator."""
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(0.02 * torch.randn(vocabulary.SIZE, shape.width))
        features, ids = number_features()
        self.register_buffer("_features", features, persistent=False)
        self.register_buffer("_number_ids", ids, persistent=False)
        with torch.no_grad():
            self.embedding[ids] *= 0.1
        self.of_number = nn.Parameter(0.2 * torch.randn(features.shape[1], shape.width))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        self.output = nn.Parameter(0.02 * torch.randn(vocabulary.SIZE, shape.width))
        self._cosine: Tensor
        self._sine: Tensor
        cosine, sine = rotation(shape)
        self.register_buffer("_cosine", cosine, persistent=False)
        self.register_buffer("_sine", sine, persistent=False)

    def table(self) -> Tensor:
        """The embedding as a file holds it: [tokens, width]."""
        numbers: Tensor = self._features @ self.of_number  # type: ignore[operator]
        return self.embedding.index_add(0, self._number_ids, numbers)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Logits [batch, length, tokens]; or [chosen, tokens] where the mask ``wanted`` is set."""
        x = functional.embedding(tokens, self.table())
        length = tokens.shape[1]
        for layer in self.layers:
            x = layer(x, self._cosine[:length], self._sine[:length])
        if wanted is not None:
            x = x[wanted]
        return rms(x, self.norm, self.shape.epsilon) @ self.output.T


class Layer(nn.Module):
    """Attention and a gated feed-forward part, each added to what came in."""

    def __init__(self, shape: Shape) -> None:
        """Random weights; those that write into the sum start smaller, the more layers there are."""
        super().__init__()
        self.shape = shape
        width, inner = shape.width, shape.inner
        out = 1 / math.sqrt(2 * shape.layers)
        self.attention_norm = nn.Parameter(torch.ones(width))
        self.query = matrix(width, width)
        self.key = matrix(width, width)
        self.value = matrix(width, width)
        self.attention_out = matrix(width, width, out)
        self.feed_norm = nn.Parameter(torch.ones(width))
        self.gate = matrix(inner, width)
        self.up = matrix(inner, width)
        self.down = matrix(width, inner, out)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """[batch, length, width], the same out."""
        batch, length, width = x.shape
        split = (batch, length, self.shape.heads, width // self.shape.heads)
        seen = rms(x, self.attention_norm, self.shape.epsilon)
        query = rotated((seen @ self.query.T).view(split), cosine, sine).transpose(1, 2)
        key = rotated((seen @ self.key.T).view(split), cosine, sine).transpose(1, 2)
        value = (seen @ self.value.T).view(split).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(batch, length, width) @ self.attention_out.T
        seen = rms(x, self.feed_norm, self.shape.epsilon)
        fed: Tensor = (functional.silu(seen @ self.gate.T) * (seen @ self.up.T)) @ self.down.T
        return x + fed


def matrix(rows: int, columns: int, scale: float = 1.0) -> nn.Parameter:
    """Random weights [rows, columns] that keep the size of what they are given, times ``scale``."""
    return nn.Parameter(scale / math.sqrt(columns) * torch.randn(rows, columns))


def rms(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last axis."""
    return functional.rms_norm(x, (x.shape[-1],), weight, epsilon)


def rotation(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every place's angles: [context, 1, head width / 2]."""
    half = shape.width // shape.heads // 2
    speed = shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(shape.context, dtype=torch.float64)[:, None] * speed
    return angle.cos().float()[:, None, :], angle.sin().float()[:, None, :]


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding of neighbouring pairs, which is what llama.cpp does for this architecture."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(-2)


def number_features() -> tuple[Tensor, Tensor]:
    """What the size of each number is described by, [numbers, features], and the numbers' tokens."""
    ids = vocabulary.numbers()
    value = torch.tensor(list(ids), dtype=torch.float32)[:, None]
    # Where a number is big: comparisons need it at every scale from single units to hundreds.
    scales = torch.tensor([1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
    size = torch.log1p(value.abs()) / math.log(vocabulary.NUMBERS)
    columns = [
        torch.tanh(value / scales),
        value / vocabulary.NUMBERS,
        size,
        size * value.sign(),
        value.sign(),
    ]
    thresholds = torch.tensor([-100.0, -50.0, -20.0, -10.0, -5.0, 5.0, 10.0, 20.0, 50.0, 100.0])
    columns.append(torch.sigmoid((value - thresholds) / (thresholds.abs() / 4)))
    return torch.cat(columns, dim=1), torch.tensor(list(ids.values()))
