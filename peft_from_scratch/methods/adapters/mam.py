"""MAM, mix and match: a short prefix on the attention, a large scaled parallel adapter beside the feed-forward layer.
He et al. 2021, arXiv:2110.04366, section 4.6.

    attention: K ← [P_K; K], V ← [P_V; V] (l = 30)        feed-forward: f = FFN(x) + 4 A(x) (size 512)

The two are independent: this page makes the parallel part, and takes the prefix as the targets of a prefix method.
Starts as the base where the prefix does. Trains what both train. Does not merge.

    model = inject(model, mam(model, prefix=prefix_tuning(model, 30, hidden=800)))
"""

from torch import nn

from ...targets import Targets
from ..card import Card
from .parallel import parallel
from .places import Places

CARD = Card(
    name="MAM adapter",
    paper="He et al.",
    year=2021,
    source="arXiv:2110.04366 §4.6",
    category="hybrid",
    attaches="blocks of BERT, GPT-2, Llama, T5 (places.py); count without the prefix",
    count="size * (d_in + d_out) + size + d_out",
    merges=False,
)


def mam(model: nn.Module, prefix: Targets | None = None, size: int = 512, places: Places | None = None) -> Targets:
    """What `inject(model, ...)` needs: the parallel adapters, and `prefix`, the targets of prefix tuning."""
    return parallel(model, size, scale=4.0, places=places) | (prefix or {})
