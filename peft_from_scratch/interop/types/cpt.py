"""CPT, whose files hold the context's embeddings and their moves in one."""

from torch import Tensor, nn

from ...adapter import Adapter
from ...methods.prompts.body import encoder_decoder
from ...methods.prompts.cpt import CPT
from ...targets import Targets
from ..kind import Link
from .soft import FILE, around, prompt_of, soft


def cpt(model: nn.Module, sites: dict, config: dict) -> Targets:
    if encoder_decoder(model):
        raise ValueError("CPT continues a context, which takes a decoder-only model")
    tokens = config["cpt_token_ids"] or [0]
    own = config["cpt_tokens_type_mask"], config["opt_projection_epsilon"], config["opt_projection_format_epsilon"]
    config = config | {"num_virtual_tokens": len(tokens)}
    return around(model, config, lambda body, n: CPT(body, tokens, *own))


def moves(config: dict, made: dict[str, Adapter], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The moves δ. ValueError where they are longer than the config allows with this model's embeddings."""
    a = prompt_of(made)
    if FILE not in state or state[FILE].shape != a.E.shape or a.E.is_meta:
        return state
    delta = state[FILE].to(a.E) - a.E
    if (delta.norm(dim=1, keepdim=True) > 1.001 * a.ball + 1e-5).any():
        raise ValueError(
            "CPT: the file's vectors are too far from this model's embeddings: load the base it was made on"
        )
    return state | {FILE: delta}


def cpt_settings(a: CPT) -> dict:
    epsilon = {"opt_projection_epsilon": a.epsilon, "opt_projection_format_epsilon": a.format_epsilon}
    tokens = {"cpt_token_ids": a.context.tolist(), "cpt_tokens_type_mask": a.kinds.tolist()}
    return epsilon | tokens | {"cpt_mask": [1] * a.n_tokens, "task_type": "CAUSAL_LM"}


CPT_KIND = soft(
    "CPT",
    CPT,
    {
        "cpt_token_ids": None, "cpt_tokens_type_mask": None, "opt_projection_epsilon": 0.1,
        "opt_projection_format_epsilon": 0.1,
    },
    cpt,
    lambda made: {FILE: Link(prompt_of(made).delta)},
    cpt_settings,
    whole_saved=lambda made: {FILE: Link(prompt_of(made).prompt(1)[0])},
    normal=moves,
    harmless=("num_attention_heads", "num_layers", "cpt_mask", "opt_weighted_loss_type", "opt_loss_decay_factor",
              "tokenizer_name_or_path"),
)  # fmt: skip

KINDS = (CPT_KIND,)
