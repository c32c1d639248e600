"""For authors and tests: work out every key from the package, so that a wrong key fails the build.

This runs code from the quiz file, so it is never called while somebody answers.
"""

import contextlib
import functools
import io
import math
from collections.abc import Iterator
from decimal import Decimal

import torch
from torch import nn

import peft_from_scratch as pfs

from .grade import printed
from .model import Choice, Match, Multi, Numeric, Order, Output, Question, Quiz, Single
from .read import Unreadable, number


def minilm() -> nn.Module:
    """A classifier of MiniLM-L6's shape (BERT, 384 wide, 6 layers), without memory behind its weights."""
    from transformers import BertConfig, BertForSequenceClassification

    shape = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=2
    )
    shape._attn_implementation = "eager"
    with torch.device("meta"):
        return BertForSequenceClassification(shape)


def with_lora(targets: str = r".*\.(query|value)", rank: int = 8) -> nn.Module:
    """MiniLM with LoRA on `targets` and a trained head."""
    return pfs.inject(minilm(), {targets: lambda base: pfs.LoRA(base, rank), "classifier": pfs.Replaced})


def flop_ratio(model: nn.Module) -> float:
    """FLOPs of a training step (16 texts of 64 tokens) as a fraction of full fine-tuning's."""
    from ..measure.flops import flop_ratio as ratio

    tokens = torch.ones(16, 64, dtype=torch.long, device="meta")
    batch = {"input_ids": tokens, "labels": tokens[:, 0]}
    return ratio(model, minilm(), batch)


def namespace() -> dict:
    """The names that a `verify` expression may use."""
    return {
        "torch": torch, "nn": nn, "math": math, "pfs": pfs, "LoRA": pfs.LoRA,
        "minilm": minilm, "with_lora": functools.cache(with_lora), "flop_ratio": flop_ratio,
    }  # fmt: skip


def run_code(code: str, names: dict | None = None) -> str:
    """What `code` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "<quiz>", "exec"), {"__name__": "quiz"} if names is None else names)
    return out.getvalue().rstrip("\n")


def faults(quiz: Quiz) -> list[str]:
    """One sentence for every key that does not follow from its `verify` or its code; empty if all is well."""
    return [f"{q.id}: {fault}" for q in quiz.questions for fault in question_faults(q)]


def question_faults(question: Question) -> Iterator[str]:
    """The faults of one question; an expression that raises is one."""
    try:
        yield from CHECKS.get(type(question), lambda _: ())(question)
    except Exception as error:  # a broken expression is the author's fault to read, whatever its type
        yield f"its check stops with {type(error).__name__}: {error}"


def equals(key: float, value: float) -> bool:
    """True if `value`, rounded to the decimals that `key` is written with, is `key`."""
    decimals = max(0, -Decimal(repr(key)).as_tuple().exponent)
    return math.isclose(round(float(value), decimals), key, rel_tol=1e-12, abs_tol=0.0)


def _choices(question: Single | Multi) -> Iterator[str]:
    checked: list[Choice] = [choice for choice in question.choices if choice.verify]
    for choice in checked:
        if bool(eval(choice.verify, namespace())) != choice.correct:
            yield f"'{choice.text}' is keyed {choice.correct}, but {choice.verify} says otherwise"


def _numeric(question: Numeric) -> Iterator[str]:
    expressions = [(question.answer, question.verify)]
    expressions += [(near.value, near.verify) for near in question.near if near.verify]
    for key, expression in expressions:
        value = eval(expression, namespace())
        if not equals(key, value):
            yield f"the key {key:g} is not {expression} = {value:.8g}"


def _output(question: Output) -> Iterator[str]:
    out = run_code(question.code)
    if out != question.accept[0].rstrip("\n"):
        yield f"the code prints {out!r}, the key is {question.accept[0]!r}"
    for slip in question.near:
        if printed(slip.text) in [printed(text) for text in question.accept]:
            yield f"the near miss {slip.text!r} is also accepted"


def _order(question: Order) -> Iterator[str]:
    if not question.code:
        return
    lines = [line.text for line in question.lines]
    if not _works(lines, question.verify):
        yield f"after the lines in the key's order, {question.verify} is false or an error"
    for i in range(len(lines) - 1):  # if no two neighbours can change places, there is one order only
        if _works([*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]], question.verify):
            yield f"lines {i + 1} and {i + 2} can change places, so a right answer would be marked wrong"


def _works(lines: list[str], verify: str) -> bool:
    """True if the lines run and `verify` holds after them."""
    names = {"__name__": "quiz", **namespace()}
    with contextlib.suppress(Exception):  # a wrong order may stop with any error
        run_code("\n".join(lines), names)
        return bool(eval(verify, names))
    return False


def _match(question: Match) -> Iterator[str]:
    for pair in question.pairs:
        if not pair.verify:
            continue
        value = eval(pair.verify, namespace())
        try:
            right = equals(number(pair.right), value)
        except Unreadable:
            right = str(value) == pair.right
        if not right:
            yield f"'{pair.left}' is paired with {pair.right}, but {pair.verify} is {value}"


CHECKS = {Single: _choices, Multi: _choices, Numeric: _numeric, Output: _output, Order: _order, Match: _match}
