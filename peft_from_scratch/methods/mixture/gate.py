"""X-LoRA's gate: from the hidden state of a token to the mixing weights of the experts at each site."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Gate:
    """How the experts are mixed in the running pass, which every site reads here; None: not at all.

    It stays after the pass, for gradient checkpointing runs layers again in `backward`: call that before the next pass.
    """

    def __init__(self, g: Float[Tensor, "rows tokens sites experts"] | None = None):
        self.g = g

    def __deepcopy__(self, memo: dict) -> "Gate":
        return Gate(None if self.g is None else self.g.detach().clone())  # what a graph has made cannot be copied


class GateHead(nn.Module):
    """g = softmax(layers(h) / T), for each site or (`layerwise=False`) one for all.

    `depth` linear layers: from `width` by `hidden` numbers to one an expert and site, with ReLU and dropout between.
    `softmax`: over "all" experts (with `top_k` the smaller ones are then set to 0), over the "kept" top_k, or "none".
    """

    def __init__(
        self,
        width: int,
        n_experts: int,
        n_sites: int,
        depth: int = 1,
        hidden: int = 2048,
        dropout: float = 0.2,
        layerwise: bool = True,
        softmax: str = "all",
        temperature: float = 1.0,
        top_k: int | None = None,
    ):
        super().__init__()
        if min(depth, hidden) < 1 or temperature <= 0:
            raise ValueError(
                f"depth and hidden must be at least 1, temperature above 0, not {depth}, {hidden}, {temperature}"
            )
        if top_k is not None and not 1 <= top_k <= n_experts:
            raise ValueError(f"top_k must be from 1 to the {n_experts} experts, not {top_k}")
        if softmax not in ("all", "kept", "none") or (softmax == "kept" and top_k is None):
            raise ValueError(f"softmax must be 'all', 'kept' (with a top_k) or 'none', not {softmax!r}")
        self.n_sites, self.n_experts = n_sites if layerwise else 1, n_experts
        self.softmax, self.temperature, self.top_k = softmax, temperature, top_k
        sizes = [width] + [hidden] * (depth - 1)
        between = [m for a, b in zip(sizes, sizes[1:], strict=False) for m in _hidden(a, b, dropout)]
        self.layers = nn.Sequential(*between, nn.Linear(sizes[-1], n_experts * self.n_sites))

    def forward(self, h: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows tokens sites experts"]:
        g = self.layers(h.to(self.layers[0].weight.dtype))
        g = g.unflatten(-1, (-1, self.n_experts)) / self.temperature
        if self.softmax == "all":
            g = g.softmax(-1)
        if self.top_k is None:
            return g
        best, which = g.topk(self.top_k)
        best = best.softmax(-1) if self.softmax == "kept" else best
        return torch.zeros_like(g).scatter(-1, which, best)

    def extra_repr(self) -> str:
        return f"softmax={self.softmax!r}, temperature={self.temperature:g}, top_k={self.top_k}"


def _hidden(a: int, b: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
