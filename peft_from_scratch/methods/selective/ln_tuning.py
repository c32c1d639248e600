"""LN-tuning: train the norms and nothing else.  Zhao et al. 2023, arXiv:2312.11420.

    y = γ ⊙ (x - mean) / std + β        γ, β: (d) trained

Starts as the base: γ and β are copies. Trains 2 d numbers a norm (an RMS norm has no β: d). Merges, by keeping the
copies. Each norm is `Replaced` by a trained copy of itself. With a learning rate made for LoRA nothing moves: use 10 to
100 times it.

Kind: selective. On: LayerNorm, RMSNorm, GroupNorm, BatchNorm. Trains: 2 * d_out. Merges: yes. peft: LN_TUNING.
"""

import re

from torch import nn

from ...adapt import inject
from ...adapter import Replaced, outside, plain, sites


def ln_tuning(model: nn.Module, norms: str = ".*", head: str | None = None) -> nn.Module:
    """Train every norm whose name matches the pattern `norms`, and in full the modules that `head` names."""
    found = [site for site, m in sites(model) if is_norm(plain(m)) and re.fullmatch(norms, site)]
    chosen = tuple(map(re.escape, outside(found, head)))
    if not chosen:
        raise ValueError(f"this model has no norm with a gain to train whose name matches {norms!r}")
    return inject(model, {chosen: Replaced} | ({head: Replaced} if head else {}))


def is_norm(module: nn.Module) -> bool:
    """A module with one vector as its weight: every library names its norms differently, but they all have a gain."""
    gain = getattr(module, "weight", None)
    return isinstance(gain, nn.Parameter) and gain.dim() == 1 and not isinstance(module, nn.PReLU)
