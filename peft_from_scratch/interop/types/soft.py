"""What peft's soft prompts at the input share. A file holds the vectors that stand before the text."""

from collections.abc import Callable

from torch import Tensor, nn

from ...adapter import Adapter, plain
from ...methods.prompts.body import body_of, encoder_decoder, name_of
from ...methods.prompts.soft import CrossMask, SoftPrompt, around_body
from ...targets import Targets
from ..kind import Kind

Adapters = dict[str, Adapter]
FILE = "prompt_embeddings"
SHAPE = {"num_virtual_tokens": None, "token_dim": None, "num_transformer_submodules": None}
SELECTION = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")


def body_sites(model: nn.Module, config: dict) -> list[str]:
    """The body; in an encoder-decoder model its encoder, and the decoder that reads what comes of it."""
    parts = [body_of(model)] + ([plain(model).get_decoder()] if encoder_decoder(model) else [])
    return [name_of(model, part) for part in parts]


def around(model: nn.Module, config: dict, make: Callable[[nn.Module, int], SoftPrompt]) -> Targets:
    """`make(body, n)` around the body. ValueError for vectors of another width, and for more than one prompt."""
    n, width = config["num_virtual_tokens"], body_of(model).get_input_embeddings().weight.shape[1]
    if config["token_dim"] not in (None, width):
        raise ValueError(f"token_dim={config['token_dim']}, and this model's embeddings have {width} numbers")
    if config["num_transformer_submodules"] not in (None, 1) and not encoder_decoder(model):
        raise ValueError("num_transformer_submodules must be 1 for a model without an encoder of its own")
    if not n:
        raise ValueError(f"num_virtual_tokens={n}: a prompt needs at least one token")

    def factory(body: nn.Module) -> SoftPrompt:
        prompt = make(body, n)
        prompt.cut = not reads_first(model)
        return prompt

    return around_body(model, n, factory)


def reads_first(model: nn.Module) -> bool:
    """Whether a classifier outside the body reads the first position (RoBERTa's), which peft leaves to the prompt."""
    classifies = type(plain(model)).__name__.endswith("ForSequenceClassification")
    return classifies and hasattr(plain(model), "classifier") and not getattr(body_of(model), "pooler", None)


def cuts_first(model: nn.Module, made: Adapters) -> str:
    cut = reads_first(model) and prompt_of(made).cut
    return "has the classifier read the prompt's first position: train with cut = False on the adapter" if cut else ""


def prompt_of(made: Adapters) -> SoftPrompt:
    return next(a for a in made.values() if isinstance(a, SoftPrompt))


def shape(made: Adapters) -> dict:
    a = prompt_of(made)
    width = a.get_input_embeddings().weight.shape[1]
    return {"num_virtual_tokens": a.n_tokens, "token_dim": width, "num_transformer_submodules": 1}


def of_encoder(config: dict, made: Adapters, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without as many again for a decoder, which peft's PROMPT_TUNING and P_TUNING keep there and never use."""
    n = config["num_virtual_tokens"]
    both = config["num_transformer_submodules"] == 2 and FILE in state and len(state[FILE]) == 2 * n
    return state | {FILE: state[FILE][:n]} if both else state


def soft(peft_type: str, page: type[SoftPrompt], fields: dict, shared, whole, settings, **more) -> Kind:
    return Kind(
        peft_type,
        (page, CrossMask),
        SHAPE | fields,
        tensors=lambda a: {},
        settings=lambda a: {},
        shared=shared,
        whole=whole,
        whole_settings=lambda made: shape(made) | settings(prompt_of(made)),
        find=body_sites,
        differs=cuts_first,
        root="base_model.",
        whole_root="",
        by_task=True,
        refused=SELECTION,
        **{"harmless": ("num_attention_heads", "num_layers"), "normal": of_encoder} | more,
    )
