"""The task under which peft runs a model, and the heads that it then expects in the file."""

from typing import NamedTuple

from torch import nn

from ..adapter import plain
from .kind import Kind
from .match import named, replaced

TEXT = {"ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM", "ForConditionalGeneration": "SEQ_2_SEQ_LM"}
LABELS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


class Kept(NamedTuple):
    """A head that nothing trains, in the place of a `Replaced`."""

    trained: nn.Module


def task_of(model: nn.Module, kind: Kind) -> str | None:
    """The task by the model's class; peft's types that run without one get none that adds heads to the file."""
    name, without = type(plain(model)).__name__, "FEATURE_EXTRACTION" if kind.by_task else None
    tasks = TEXT | LABELS if kind.by_task else TEXT
    return next((task for end, task in tasks.items() if name.endswith(end)), without)


def kept(model: nn.Module, kind: Kind) -> dict[str, Kept]:
    """The heads of the task as they are, for a type that peft runs under a task alone."""
    if not kind.by_task:
        return {}
    heads = replaced(model, {"modules_to_save": None, "task_type": task_of(model, kind)})
    return {site: Kept(named(model)[site]) for site in heads}
