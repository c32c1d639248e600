"""X-LoRA: a gate reads the text with the plain model, then mixes trained LoRAs in a second pass.
Buehler and Buehler 2024, arXiv:2402.07148, section 2.

    y = W x + Σ_i g_i s_i B_i A_i x        g: (experts) for each token and site = softmax(head(h) / T)

h: (width), the token's last hidden state in a first pass without experts; head: a linear layer, or several (gate.py).
Trains only the head: (width + 1) experts sites numbers (`layerwise=False`: the same g at all sites, as peft has it by
default). Starts as a random mixture of the frozen experts. Takes twice the time of the base.

    model = inject(model, xlora(model, sites, experts))    # an adapter on each site, and one around the body

which runs the body twice, so that `generate(use_cache=False)` works: a cache would have to hold both passes.

Kind: combination. On: Linear, Conv1D, Embedding, and the body around them. Trains: (width + 1) * n_experts * n_sites.
Merges: no. peft: XLORA.
"""

import re

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight
from ...targets import Targets
from ..parts import SAME_SITES, Sites
from .experts import Expert, Experts, Mixture, at_sites
from .gate import Gate, GateHead


def xlora(
    model: nn.Module,
    sites: Sites,
    experts: list[Experts],
    body: str | None = None,
    width: int | None = None,
    first_pass: float = 0.0,
    train_experts: bool = False,
    **head,
) -> Targets:
    """What `inject(model, ...)` needs. `experts` come from `from_state` or `from_model`; `head`: see GateHead.

    `body`: the module that makes the last hidden state, of `width` numbers; by default what a transformers model says.
    """
    found = at_sites(model, sites, experts)
    body = getattr(model, "base_model_prefix", "") if body is None else body
    gate, places = Gate(), {layer: i for i, layer in enumerate(found)}
    width = model.config.hidden_size if width is None else width

    def around_body(base: nn.Module) -> XLoRABody:
        made = GateHead(width, len(experts), len(found), **head)
        return XLoRABody(base, gate, made.to(new_weight(next(iter(found)))), first_pass)

    def at_site(base: nn.Module) -> XLoRA:
        if base not in found:
            raise ValueError(f"no expert belongs to this {type(base).__name__}: {SAME_SITES}")
        return XLoRA(base, found[base], gate, places[base], train_experts)

    return {re.escape(body): around_body, sites: at_site}


class XLoRA(Mixture):
    """`base` plus its experts as the shared `gate` mixes them; `place`: which of the gate's sites this is."""

    def __init__(self, base: nn.Module, experts: list[Expert], gate: Gate, place: int = 0, train_experts: bool = False):
        super().__init__(base, experts, train_experts)
        self.gate, self.place = gate, place

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        if self.gate.g is None:
            return y
        g = self.gate.g[:, :, self.place if self.gate.g.shape[2] > 1 else 0]
        if g.shape[:2] not in (y.shape[:-1], (1, 1)):
            raise ValueError(f"the gate is for tokens {tuple(g.shape[:2])}, this layer has {tuple(y.shape[:-1])}")
        return y + self.mix(x, g).to(y.dtype)


class XLoRABody(Adapter):
    """The body and the head: a pass to find the gate (every expert with the weight `first_pass`), one to use it."""

    def __init__(self, base: nn.Module, gate: Gate, head: GateHead, first_pass: float = 0.0):
        super().__init__(base)
        self.gate, self.head, self.first_pass = gate, head, first_pass

    def forward(self, *args, **kwargs):
        if kwargs.get("past_key_values") is not None:
            raise ValueError("X-LoRA reads the text twice, which a cache does not hold: use generate(use_cache=False)")
        if "use_cache" in kwargs:
            kwargs["use_cache"] = False
        n_sites, n_experts = self.head.n_sites, self.head.n_experts
        same = torch.full((1, 1, n_sites, n_experts), self.first_pass, device=self.head.layers[0].weight.device)
        self.gate.g = same if self.first_pass else None
        with torch.no_grad():
            out = self.base(*args, **kwargs)
        self.gate.g = self.head(out if isinstance(out, Tensor) else out[0])
        return self.base(*args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The body's: hosts ask it for them."""
        return self.base.get_input_embeddings()

    @property
    def main_input_name(self) -> str:
        """The body's: T5's `generate` asks its encoder for it."""
        return self.base.main_input_name

    def merged(self) -> nn.Module:
        raise NotImplementedError("X-LoRA mixes its experts anew for each token: it cannot be merged")

    def extra_repr(self) -> str:
        return f"first_pass={self.first_pass:g}, {self.head.extra_repr()}"
