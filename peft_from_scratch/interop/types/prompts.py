"""PROMPT_TUNING, P_TUNING, whose files hold what the network made and not the network, and MULTITASK_PROMPT_TUNING."""

from torch import nn

from ...adapter import Adapter
from ...methods.prompts.body import encoder_decoder
from ...methods.prompts.multitask import MultitaskPrompt
from ...methods.prompts.p_tuning import PTuning
from ...methods.prompts.prompt_tuning import PromptTuning
from ...methods.prompts.soft import SoftPrompt
from ...targets import Targets
from ..kind import Link, Links
from .soft import FILE, around, prompt_of, soft

STARTED = ("num_attention_heads", "num_layers", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs")


def start(config: dict) -> str:
    """This package's word for a start that needs nothing but the model."""
    return "vocabulary" if config["prompt_tuning_init"] == "SAMPLE_VOCAB" else "random"


def prompt_tuning(model: nn.Module, sites: dict, config: dict) -> Targets:
    return around(model, config, lambda body, n: as_in_peft(PromptTuning(body, n, start(config)), config))


def as_in_peft(a: PromptTuning | MultitaskPrompt, config: dict) -> SoftPrompt:
    """A random start is N(0, 1) there."""
    if start(config) == "random":
        nn.init.normal_(a.P)
    return a


def p_tuning(model: nn.Module, sites: dict, config: dict) -> Targets:
    """From a config alone the network and its input; from a file what they made, as a prompt of its own."""
    lstm, hidden = config["encoder_reparameterization_type"] == "LSTM", config["encoder_hidden_size"]
    if config["directory"] is not None:
        return around(model, config, PromptTuning)
    if lstm and config["encoder_dropout"]:
        raise ValueError(f"P_TUNING: this package's LSTM has no encoder_dropout={config['encoder_dropout']}")
    return around(model, config, lambda body, n: PTuning(body, n, hidden, lstm, config["encoder_num_layers"]))


def p_tuning_settings(a: PTuning) -> dict:
    if a.lstm is None:
        return {"encoder_reparameterization_type": "MLP", "encoder_hidden_size": a.mlp[0].out_features}
    fields = {"encoder_hidden_size": a.lstm.hidden_size, "encoder_num_layers": a.lstm.num_layers}
    return {"encoder_reparameterization_type": "LSTM"} | fields


def wants_more(config: dict) -> str:
    word = config["prompt_tuning_init"]
    return "" if word in ("RANDOM", "SAMPLE_VOCAB") else f"prompt_tuning_init={word!r} starts from a text or a file"


PROMPT_TUNING = soft(
    "PROMPT_TUNING",
    PromptTuning,
    {"prompt_tuning_init": "RANDOM"},
    prompt_tuning,
    lambda made: {FILE: Link(prompt_of(made).P)},
    lambda a: {},
    harmless=STARTED,
    needs_weights=wants_more,
)  # fmt: skip

P_TUNING = soft(
    "P_TUNING",
    PTuning,
    {
        "encoder_reparameterization_type": "MLP", "encoder_hidden_size": None, "encoder_num_layers": 2,
        "encoder_dropout": 0.0,
    },
    p_tuning,
    lambda made: {FILE: Link(prompt_of(made).P)},
    p_tuning_settings,
    whole_saved=lambda made: {FILE: Link(prompt_of(made).made())},
)  # fmt: skip

# Multitask prompt tuning ---------------------------------------------------------------------------------------------


def multitask(model: nn.Module, sites: dict, config: dict) -> Targets:
    if encoder_decoder(model) and config["num_transformer_submodules"] != 1:
        raise ValueError(
            "MULTITASK_PROMPT_TUNING: num_transformer_submodules=2 (an encoder-decoder's default) puts vectors before "
            "the decoder's text too, in training and not in generate: this package has 1, so train with 1"
        )
    tasks, rank = config["num_tasks"], config["num_ranks"]
    make = lambda body, n: as_in_peft(MultitaskPrompt(body, tasks, n, rank, start(config)), config)  # noqa: E731
    return around(model, config, make)


def multitask_tensors(made: dict[str, Adapter]) -> Links:
    a = prompt_of(made)
    return {FILE: Link(a.P), "prefix_task_cols": Link(a.U), "prefix_task_rows": Link(a.V)}


MULTITASK = soft(
    "MULTITASK_PROMPT_TUNING",
    MultitaskPrompt,
    {"num_tasks": 1, "num_ranks": 1, "prompt_tuning_init": "RANDOM"},
    multitask,
    multitask_tensors,
    lambda a: {"num_tasks": a.n_tasks, "num_ranks": a.U.shape[2]},
    harmless=(*STARTED, "prompt_tuning_init_state_dict_path", "prompt_tuning_init_task"),
    needs_weights=wants_more,
)  # fmt: skip

KINDS = (PROMPT_TUNING, P_TUNING, MULTITASK)
