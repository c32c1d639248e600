"""Small parts that several pages share: merging, the layers of a shared tensor, and dropout of whole outputs."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ..adapter import Adapter, plain
from ..adapter import sites as named
from ..layers import new_weight, weight_of, with_weight
from ..targets import plan, twins

Sites = str | tuple[str, ...]
SAME_SITES = "give `shared` and `inject` the same model and sites"


class Added(Adapter):
    """A layer with the weight W + ΔW: each page says what ΔW is."""

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """ΔW, in the dtype that is trained."""
        raise NotImplementedError

    def merged(self) -> nn.Module:
        return with_weight(self.base, weight_of(self.base) + self.change())


def layers_at(model: nn.Module, sites: Sites) -> list[nn.Module]:
    """The layers that `inject(model, {sites: ...})` would adapt, in the model's order. ValueError if there are none."""
    twin = twins(model)
    chosen = plan(model, {sites: Adapter}, twin)
    return list(dict.fromkeys(m for m in (twin[plain(m)] for _, m in named(model)) if m in chosen))


def place(layers: list[nn.Module], base: nn.Module) -> int:
    """Which of `layers` is `base`; ValueError if none is."""
    found = [i for i, layer in enumerate(layers) if layer is base]
    if not found:
        raise ValueError(f"the shared tensors have no part for this {type(base).__name__}: {SAME_SITES}")
    return found[0]


def beside(layer: nn.Module, t: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """A floating `t` on the layer's device, in the dtype that is trained beside it."""
    return t.to(new_weight(layer))


def drop_outputs(layer: nn.Module, y: Float[Tensor, "..."], p: float, rescale: bool) -> Float[Tensor, "..."]:
    """Zero output features with probability p, the same ones for every token; `rescale` divides by the share kept."""
    features = 1 if isinstance(layer, nn.Conv2d) else -1
    kept = (torch.rand(y.shape[features]) > p).to(y)
    if rescale:
        kept = kept / kept.mean().clamp_min(1 / len(kept))  # not by zero where all are dropped
    return y * (kept[:, None, None] if features == 1 else kept)
