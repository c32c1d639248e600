"""ADAPTION_PROMPT, peft's name for LLaMA-Adapter: in the attention of the top layers, named by the end of its site."""

from torch import nn

from ...adapter import Adapter, plain
from ...methods.prompts.llama_adapter import LlamaAdapter
from ...targets import Factory
from ..kind import Kind, Link, Links, shaped
from ..match import named

NAMES = {"llama": "self_attn", "mistral": "self_attn", "gpt2": "attn"}  # all that peft 0.21.2 has


def model_type(model: nn.Module) -> str:
    return getattr(getattr(plain(model), "config", None), "model_type", "")


def top(model: nn.Module, config: dict) -> list[str]:
    """The last adapter_layers attentions of this name."""
    name, n = config["target_modules"] or NAMES.get(model_type(model)), config["adapter_layers"]
    found = [site for site in named(model) if site.endswith(f".{name}")]
    if not n or not 1 <= n <= len(found):
        raise ValueError(f"ADAPTION_PROMPT: adapter_layers={n}, and this model has {len(found)} modules called {name}")
    return found[-n:]


def factory(config: dict) -> Factory:
    """peft leaves W_o out of GPT-2's second term."""
    return lambda base: LlamaAdapter(base, config["adapter_len"] or 0, project=hasattr(base, "o_proj"))


def tensors(a: LlamaAdapter) -> Links:
    return {"adaption_prompt": shaped(a.P, 1, *a.P.shape), "adaption_gate": Link(a.g)}


def whole_settings(made: dict[str, Adapter]) -> dict:
    return {"adapter_layers": len(made), "target_modules": next(iter(made)).rpartition(".")[2]}


def other_places(model: nn.Module, made: dict[str, Adapter]) -> str:
    if model_type(model) not in NAMES:
        return f"knows no {model_type(model)} model, only {', '.join(NAMES)}"
    if top(model, whole_settings(made)) != [site for site in named(model) if site in made]:
        return "adapts the topmost layers, and these are others"
    if any(a.project != hasattr(a.base, "o_proj") for a in made.values()):
        return "leaves W_o out in GPT-2: inject with project=False"
    return ""


ADAPTION_PROMPT = Kind(
    "ADAPTION_PROMPT",
    (LlamaAdapter,),
    {"adapter_len": None, "adapter_layers": None},
    tensors,
    lambda a: {"adapter_len": a.n_tokens},
    factory,
    find=top,
    whole_settings=whole_settings,
    differs=other_places,
    refused=("exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
)

KINDS = (ADAPTION_PROMPT,)
