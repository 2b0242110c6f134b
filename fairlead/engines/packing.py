"""Weights laid out once for the processor's matrix products, beside the model's own.

A product of a few rows with a plain weight spends most of its time on reading the weight in an order that the
processor's product does not like. A copy in the order that it likes is read at the speed of the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Packing"]

_LEAST = {torch.float32: 1 << 18, torch.bfloat16: 1 << 15}
"""Numbers that a weight must have for its copy to be the faster one, by format."""
_ROWS = 32
"""Rows that the order is chosen for; from 1 to thousands it is never slower than the plain weight."""
_PROBES = 64
"""Numbers compared of each weight before its copy is used again."""


@dataclass(frozen=True)
class _Packed:
    """A weight in the order of the products."""

    weight: Tensor
    """The processor's own format."""
    state: tuple[int, int]
    """Where the plain weight lay, and how often it had been written to."""
    probe: Tensor
    """Some of its numbers."""


class Packing:
    """Copies of a model's weights, made when first used and again when the weights have changed.

    Args:
        model: any; its plain linear layers on the processor are sped up, all else is left as it is.
        most: bytes of copies; of a model that would take more, none is made.
    """

    def __init__(self, model: nn.Module, most: int):
        self.model, self.most = model, most
        self._copies: dict[nn.Linear, _Packed] = {}
        self._active = False

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the layers compute with the copies; without gradients only, and not for other threads meanwhile."""
        layers = [] if self._active else self._layers()
        self._active = True
        try:
            for layer in layers:
                layer.__dict__["forward"] = _forward(layer, self._packed(layer).weight)
            yield
        finally:
            for layer in layers:
                layer.__dict__.pop("forward", None)
            self._active = self._active and not layers

    def forget(self) -> None:
        """Give the copies' memory back."""
        self._copies.clear()

    def _layers(self) -> list[nn.Linear]:
        if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:  # pyright: ignore
            return []
        found = [layer for layer in self.model.modules() if type(layer) is nn.Linear and _fits(layer)]
        total = sum(layer.weight.numel() * layer.weight.element_size() for layer in found)
        return found if total <= self.most else []

    def _packed(self, layer: nn.Linear) -> _Packed:
        weight = layer.weight.detach()
        state = (weight.data_ptr(), 0 if weight.is_inference() else layer.weight._version)
        probe = weight.flatten()[:: max(1, weight.numel() // _PROBES)]
        known = self._copies.get(layer)
        if known is None or known.state != state or not torch.equal(known.probe, probe):
            copy = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
            known = self._copies[layer] = _Packed(copy, state, probe.clone())
        return known


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    return (
        weight.device.type == "cpu"
        and weight.numel() >= _LEAST.get(weight.dtype, weight.numel() + 1)
        and weight.is_contiguous()
        and "forward" not in layer.__dict__
        and (weight.dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _forward(layer: nn.Linear, packed: Tensor) -> Callable[[Tensor], Tensor]:
    weight, bias = layer.weight, layer.bias
    product: Any = torch.ops.mkldnn._linear_pointwise.default

    def forward(rows: Tensor) -> Tensor:
        if rows.dtype is not weight.dtype or torch.is_grad_enabled():
            return F.linear(rows, weight, bias)
        return product(rows, packed, bias, "none", [], "")

    return forward
