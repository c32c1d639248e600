"""From rows of text to batches of tensors: encode once, then pad as little as possible.

A batch costs as much as its longest text, so texts of like length share one (bucketing). Each batch remembers
under "index" which rows it holds: take it out before the model is called (`batch.pop("index")` on a copy), and
put per-item results back in order with it.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Encoded = list[dict[str, Any]]
IGNORED = -100  # a label that cross-entropy passes over
POOL = 50  # batches whose texts are sorted together while shuffling


def encode(dataset: Iterable[Mapping], tokenizer: Callable, max_length: int = 64) -> Encoded:
    """Rows with a text (and a label) as {"input_ids": list of ids, "labels": int}, cut at `max_length`."""
    rows = list(dataset)
    ids = tokenizer([row["text"] for row in rows], truncation=True, max_length=max_length)["input_ids"]
    labels = [{"labels": row["label"]} if "label" in row else {} for row in rows]
    return [{"input_ids": list(i), **label} for i, label in zip(ids, labels, strict=True)]


def encode_answers(dataset: Iterable[Mapping], tokenizer: Any, max_length: int = 256) -> Encoded:
    """Question and answer in the tokenizer's chat form; the labels are -100 on the question, ids on the answer.

    Only the answer is to be learned, its end mark included. A text over `max_length` loses the end of its
    answer; one whose question fills it all teaches nothing and is left out. Nothing left is a ValueError.
    """
    out = []
    for row in dataset:
        question = [{"role": "user", "content": row["question"]}]
        told = [*question, {"role": "assistant", "content": row["answer"]}]
        prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(told, tokenize=False)
        if not whole.startswith(prompt):
            raise ValueError("this tokenizer's chat template does not continue a question with its answer")
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answer = tokenizer(whole.removeprefix(prompt).rstrip(), add_special_tokens=False)["input_ids"]
        labels = [IGNORED] * len(asked) + answer
        if len(asked) < max_length:
            out.append({"input_ids": (asked + answer)[:max_length], "labels": labels[:max_length]})
    if not out:
        raise ValueError(f"no question leaves room for an answer within max_length={max_length}: raise it")
    return out


def encode_blocks(dataset: Iterable[Mapping], tokenizer: Callable, length: int, count: int | None = None) -> Encoded:
    """The running text in blocks of exactly `length` tokens, at most `count`; the labels are the ids themselves."""
    ids: list[int] = []
    blocks: Encoded = []
    for row in dataset:
        ids += tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        while len(ids) >= length and (count is None or len(blocks) < count):
            blocks.append({"input_ids": ids[:length], "labels": ids[:length]})
            ids = ids[length:]
        if count is not None and len(blocks) == count:
            break
    return blocks


def batches(
    encoded: Encoded,
    batch_size: int,
    pad_id: int,
    shuffle_seed: int | None = None,
    device: str | torch.device = "cpu",
) -> list[dict[str, Tensor]]:
    """Batches of input_ids, attention_mask, labels and index, padded on the right to their longest text.

    Without `shuffle_seed` the batches go by length, for evaluation. With it the order is random but for a
    sort within pools of 50 batches; the same seed gives the same batches on every machine.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    order = arrange([len(row["input_ids"]) for row in encoded], batch_size, shuffle_seed)
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if shuffle_seed is not None:
        random.Random(shuffle_seed + 1).shuffle(groups)
    return [pad([encoded[i] for i in group], group, pad_id, device) for group in groups]


def arrange(lengths: list[int], batch_size: int, shuffle_seed: int | None) -> list[int]:
    """The order in which rows are cut into batches: like lengths together."""
    rows = list(range(len(lengths)))
    if shuffle_seed is None:
        return sorted(rows, key=lambda i: lengths[i])
    random.Random(shuffle_seed).shuffle(rows)
    pools = [rows[i : i + POOL * batch_size] for i in range(0, len(rows), POOL * batch_size)]
    return [i for pool in pools for i in sorted(pool, key=lambda i: lengths[i])]


def pad(rows: Encoded, index: list[int], pad_id: int, device: str | torch.device) -> dict[str, Tensor]:
    """One batch on `device`; labels are (batch,) for classes and (batch, length) for texts."""
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(key: str, value: int) -> Tensor:
        return torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in rows])

    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    batch = {"input_ids": filled("input_ids", pad_id)}
    batch["attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()
    if "labels" in rows[0]:
        texts = isinstance(rows[0]["labels"], list)
        batch["labels"] = filled("labels", IGNORED) if texts else torch.tensor([row["labels"] for row in rows])
    batch["index"] = torch.tensor(index)
    return {key: value.to(device) for key, value in batch.items()}
