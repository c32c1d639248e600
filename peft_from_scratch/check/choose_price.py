"""What lesson 03 asks of a cache of features, and of a pattern that chooses parameters under a budget of FLOPs."""

import re
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ..measure import step_flops
from ..quiz.verify import minilm
from .tools import close, draw, expect, expect_tensor

# A cache


class Body(nn.Module):
    """Token ids (n, s) -> last_hidden_state (n, s, 4) and pooler_output (n, 5), with dropout; reads its mask."""

    def __init__(self):
        super().__init__()
        self.embed, self.dropout, self.pooler = nn.Embedding(9, 4), nn.Dropout(0.4), nn.Linear(4, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_) -> SimpleNamespace:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        h = self.dropout(self.embed(input_ids))
        h = h + (h * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        return SimpleNamespace(last_hidden_state=h, pooler_output=self.pooler(h[:, 0]).tanh())


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.base_model, self.classifier = Body(), nn.Linear(5, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels=None, **_) -> SimpleNamespace:
        return SimpleNamespace(logits=self.classifier(self.base_model(input_ids, attention_mask).pooler_output))


def reader_and_batches(rng):
    """A reader in train mode, and three batches, padded on the right."""
    model, batches = Reader(), []
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(draw(rng, *p.shape))
    for rows, longest in ((3, 4), (2, 6), (1, 5)):
        lengths = torch.randint(2, longest, (rows, 1), generator=rng)
        mask = (torch.arange(longest) < lengths).long()
        ids = torch.randint(9, (rows, longest), generator=rng) * mask
        labels = torch.randint(3, (rows,), generator=rng)
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels, "index": torch.arange(rows)})
    return model.train(), batches


def features(cache_features, model, batches) -> tuple[Tensor, Tensor]:
    """x and y, both tensors with a row a text."""
    got = cache_features(model.train(), batches)
    expect(not isinstance(got, Tensor), "only one tensor came back: return the labels as well, in the same order.")
    expect(isinstance(got, (tuple, list)) and len(got) == 2, "return two tensors: features and labels.")
    expect(not isinstance(got[0], list), "a list of batches came back: torch.cat(...) makes one tensor of it.")
    expect_tensor(got[0], "the features"), expect_tensor(got[1], "the labels")
    return got[0], got[1]


@torch.no_grad()
def caches_what_the_head_sees(cache_features, rng):
    model, batches = reader_and_batches(rng)
    with torch.enable_grad():
        x, y = features(cache_features, model, batches)
        again, _ = features(cache_features, model, batches)
    body, labels = model.eval().base_model, torch.cat([batch["labels"] for batch in batches])
    seen = [body(batch["input_ids"], batch["attention_mask"]) for batch in batches]
    want, n = torch.cat([out.pooler_output for out in seen]), len(labels)
    rows = "1 row" if len(x) == 1 else f"{len(x)} rows"
    expect(len(x) == n, f"{rows} for {n} texts: was only one batch kept?")
    expect(x.shape[1:] != (3,), "that is the head's answer; what the head is *given* is wanted.")
    before = x.shape[-1] == 4 or x.dim() > 2
    expect(not before, "that is what goes into the pooler; the head is shown the pooler's output.")
    expect(x.shape == want.shape, f"shape {tuple(x.shape)}; wanted {tuple(want.shape)}, one row a text.")
    expect(close(x, again), "two calls differ: dropout is on. Put the model into eval mode.")
    bare = torch.cat([body(batch["input_ids"]).pooler_output for batch in batches])
    expect(not close(x, bare), "the padding was read as text: give the body the attention_mask too.")
    expect(close(x, want), "the features should be pooler_output of model.base_model, in the order of the batches.")
    expect(torch.equal(y, labels), "the labels should be those of the batches, in the same order.")


def keeps_no_graph(cache_features, rng):
    model, batches = reader_and_batches(rng)
    x, _ = features(cache_features, model, batches)
    expect(not x.requires_grad, "the features carry the graph of the whole trunk, and all that it stores: take them "
                                "under torch.no_grad().")  # fmt: skip


# A subset


def chosen(subset) -> set[str]:
    """The parameters of MiniLM whose whole name matches."""
    expect(isinstance(subset, str), 'give a pattern as text: subset = r"...".')
    try:
        pattern = re.compile(subset)
    except re.error as error:
        raise AssertionError(f"this is no regular expression: {error}.") from None
    return {name for name, _ in minilm().named_parameters() if pattern.fullmatch(name)}


@cache
def price(names: frozenset[str]) -> float:
    """FLOPs of a step of 16 texts of 64 tokens that trains these parameters of MiniLM, of full fine-tuning's."""
    model = minilm()
    tokens = torch.ones(16, 64, dtype=torch.long, device="meta")
    batch = {"input_ids": tokens, "labels": tokens[:, 0]}
    full = step_flops(model, batch)
    for name, p in model.named_parameters():
        p.requires_grad_(name in names)
    return step_flops(model, batch) / full


def is_valid(subset, rng):
    names = chosen(subset)
    example = "bert.encoder.layer.5.output.dense.weight"
    expect(names, f"no parameter has such a name: a pattern means the whole name, for example {example}.")
    head = {"classifier.weight", "classifier.bias"} <= names
    expect(head, r"the new head is not in it, and stays random: add |classifier\..* to the pattern.")


def stays_below(subset, rng):
    names = chosen(subset)
    expect(names, "no parameter has such a name.")
    share = price(frozenset(names))
    expect(share <= 0.5, f"a step costs {share:.3f} of full fine-tuning, more than half. What is the lowest layer that "
                         "trains, and what does it train there?")  # fmt: skip


def trains_at_least(count: int):
    """A property: the chosen parameters hold so many numbers."""

    def spends(subset, rng):
        names = chosen(subset)
        alone = all(name.startswith("classifier.") for name in names)
        expect(not alone, f"it trains the head alone; {count / 1e6:g} million fit into the budget. (A pattern means "
                          "the whole name, from its first letter on.)")  # fmt: skip
        held = sum(p.numel() for name, p in minilm().named_parameters() if name in names)
        expect(held >= count, f"it trains {held:,} numbers; {count / 1e6:g} million fit into the budget.")

    return spends
