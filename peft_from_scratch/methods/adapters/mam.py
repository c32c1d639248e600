"""MAM adapter: a short prefix on the attention, a large scaled parallel adapter beside the feed-forward layer.
He et al. 2021, arXiv:2110.04366, section 4.6.

    attention: K ← [P_K; K], V ← [P_V; V] (l = 30)        feed-forward: f = FFN(x) + 4 A(x) (size 512)

Both parts have pages of their own, prompts/prefix_tuning.py and parallel.py. The adapters start as nothing, the prefix
small: nearly as the base. With hidden=800 P is made by a network, as the authors train it; without, P itself trains.
An encoder beside a decoder (T5) keeps no cache, and has the adapters only. Does not go with gradient checkpointing.

    model = inject(model, mam(model))

Kind: hybrid. On: blocks of BERT, GPT-2, Llama, T5 (places.py); count without the prefix. Trains: size * (d_in + d_out)
+ size + d_out. Merges: no.
"""

from torch import nn

from ...targets import Targets
from ..prompts.prefix_tuning import prefix_tuning
from .parallel import parallel
from .places import Places


def mam(
    model: nn.Module, n_tokens: int = 30, size: int = 512, hidden: int | None = None, places: Places | None = None
) -> Targets:  # fmt: skip
    """What `inject(model, ...)` needs. `n_tokens` and `hidden` as in prefix_tuning; `places`: for architectures that
    places.py does not know."""
    return parallel(model, size, scale=4.0, places=places) | prefix_tuning(model, n_tokens, hidden)
