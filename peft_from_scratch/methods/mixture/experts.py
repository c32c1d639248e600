"""LoRAs that were trained before, side by side at each site, for a gate to mix: what X-LoRA and Arrow share.

    y = W x + Σ_i g_i s_i B_i A_i x         A_i: (r_i, d_in), B_i: (d_out, r_i) frozen,  g_i: a number for each token

All A_i are one matrix and all B_i another: two products for any number of experts, and g on what is between them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import Adapter
from ...layers import down, up
from ..lowrank.lora import LoRA
from ..parts import Sites, beside
from .named import named_layers


class Expert(NamedTuple):
    """One trained LoRA at one site: its change of the weight is scale B A."""

    A: Float[Tensor, "rank d_in"]
    B: Float[Tensor, "d_out rank"]
    scale: float


Experts = Mapping[str, Expert]  # site -> its LoRA: one trained set


def from_state(state: Mapping[str, Tensor], alpha: float = 16, rslora: bool = False) -> Experts:
    """The LoRAs in an `adapter_state`, with the `alpha` they were trained with: a state does not hold it.

    Trained heads in the state are left out. ValueError where there is no LoRA, or another method's A and B.
    """
    found = {}
    for site in (key[:-1] for key in state if key == "A" or key.endswith(".A")):  # with its dot
        own = {k.removeprefix(site): t for k, t in state.items() if k.startswith(site) and "." not in k[len(site) :]}
        odd = own.keys() - {"A", "B", "A0", "B0"}
        if "B" not in own or odd or own["A"].dim() != 2:
            has = sorted(own) if site else sorted(odd | {"A"})
            raise ValueError(f"{site.strip('.') or 'the root'}: an expert must be a plain LoRA (A, B), here are {has}")
        A, B = own["A"].detach(), own["B"].detach()
        scale = alpha / (len(A) ** 0.5 if rslora else len(A))
        if "A0" in own:  # a start that is taken off: B A - B0 A0 is one product of twice the rank
            A, B = torch.cat((A, own["A0"])), torch.cat((B, -own["B0"]), 1)
        found[site.removesuffix(".")] = Expert(A, B, scale)
    if not found:
        raise ValueError("there is no LoRA in this state: its keys must end in .A and .B")
    return found


def from_model(model: nn.Module, name: str | None = None) -> Experts:
    """The LoRAs (those called `name`) of an adapted model, with the scales they have there; ValueError without any."""
    loras = {site: a for site, a in adapters(model, name) if type(a) is LoRA}
    if not loras:
        raise ValueError(f"no adapter {name or ''!r} of this model is a LoRA")
    return {site: from_state(a.own_state())[""]._replace(scale=a.scale) for site, a in loras.items()}


def at_sites(model: nn.Module, sites: Sites, experts: list[Experts]) -> dict[nn.Module, list[Expert]]:
    """The experts of each layer that `sites` names, in the model's order. ValueError unless all have the same sites."""
    layers = named_layers(model, sites)
    for i, expert in enumerate(experts):
        if expert.keys() != layers.keys():
            odd = sorted(expert.keys() ^ layers.keys())
            raise ValueError(f"expert {i} and the targets differ in {len(odd)} sites ({', '.join(odd[:3])}, ...)")
    return {layer: [expert[site] for expert in experts] for site, layer in layers.items()}


class Mixture(Adapter):
    """`base` plus the frozen `experts` of its site; a subclass says how they are mixed. `train_experts`: not frozen."""

    def __init__(self, base: nn.Module, experts: list[Expert], train_experts: bool = False):
        super().__init__(base)
        if isinstance(base, nn.Conv2d):
            raise TypeError("the gate mixes experts a token, and a convolution has none: target linear layers")
        if not experts:
            raise ValueError("a mixture needs at least one expert")
        A = beside(base, torch.cat([e.A for e in experts])).clone()
        B = beside(base, torch.cat([e.B for e in experts], 1)).clone()
        if train_experts:
            self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        else:
            self.register_buffer("A", A)
            self.register_buffer("B", B)
        ranks = [len(e.A) for e in experts]
        self.scales = [float(e.scale) for e in experts]
        s = torch.tensor(self.scales).repeat_interleave(torch.tensor(ranks))
        owner = torch.arange(len(ranks)).repeat_interleave(torch.tensor(ranks))
        self.register_buffer("s", beside(base, s), persistent=False)  # of each row of A
        self.register_buffer("owner", owner.to(self.A.device), persistent=False)  # its expert

    def mix(self, x: Shaped[Tensor, "..."], g: Float[Tensor, "*n experts"]) -> Float[Tensor, "..."]:
        """Σ_i g_i s_i B_i A_i x."""
        return up(self.base, down(self.base, x, self.A) * (self.s * g[..., self.owner]), self.B)

    def merged(self) -> nn.Module:
        raise NotImplementedError(f"{type(self).__name__} mixes its experts anew for each token: it cannot be merged")

    def extra_repr(self) -> str:
        ranks = self.owner.bincount().tolist()
        return f"ranks={ranks}, scales={[round(s, 6) for s in self.scales]}"
