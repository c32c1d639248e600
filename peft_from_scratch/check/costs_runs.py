"""Lesson 01's properties that run a model: what is kept for the way back, and what was forgotten."""

import copy
import itertools
from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tools import draw, expect

# --- what is kept for the way back


class Small(nn.Module):
    """Two layers with an activation; first(x) is kept by it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=self.last(F.gelu(self.first(x))).square().sum())


class Shared(Small):
    """Three layers keep one input, and a view of half a storage keeps all of it."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(5, 4) for _ in range(3))

    def forward(self, x: Tensor) -> SimpleNamespace:
        h = torch.tanh(self.first(x))
        left, _ = self.v(h).chunk(2, -1)
        return SimpleNamespace(loss=(self.q(h) * self.k(h)).sum() + left.square().sum())


class Masked(Small):
    """A buffer is multiplied with, and dropout keeps a mask."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(5))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=self.last(self.drop(self.first(x) * self.mask)).square().sum())


def hosts(rng: torch.Generator) -> list[tuple[nn.Module, dict]]:
    """Models in train mode with a batch each; the last two are frozen below the last layer, and in it."""
    below, above = Small(), Small()
    below.first.requires_grad_(False)
    above.last.requires_grad_(False)
    return [(kind.train(), {"x": draw(rng, 7, 6)}) for kind in (Small(), Shared(), Masked(), below, above)]


def kept(model: nn.Module, batch: dict) -> list[Tensor]:
    """All that is saved by a forward pass, kept alive."""
    found: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: found.append(t) or t.detach(), lambda t: t):
        model(**batch)
    return found


def address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def counted(model: nn.Module, batch: dict, key: Callable = address, whole: bool = True, leave: str = "tfb") -> int:
    """Bytes of what is kept; faults by another key, by views' own sizes, or by leaving less or more out.

    `leave`: t parameters that train, f frozen ones, b buffers, x the batch.
    """
    there = {address(p) for p in model.parameters() if ("t" if p.requires_grad else "f") in leave}
    there |= {address(b) for b in model.buffers()} if "b" in leave else set()
    there |= {address(x) for x in batch.values()} if "x" in leave else set()
    tensors = [t for t in kept(model, batch) if address(t) not in there]
    return sum({key(t): t.untyped_storage().nbytes() if whole else t.nbytes for t in tensors}.values())


def apart() -> Callable:
    """A key that is never the same twice."""
    numbers = itertools.count()
    return lambda tensor: next(numbers)


def by_identity(model: nn.Module, batch: dict) -> int:
    """Bytes of what is kept and is no parameter or buffer *object*; a weight is saved turned round, as another one."""
    there = {id(t) for t in [*model.parameters(), *model.buffers()]}
    return sum(t.nbytes for t in kept(model, batch) if id(t) not in there)


def outputs(model: nn.Module, batch: dict) -> int:
    """Bytes of the outputs of all modules, which is something else."""
    found: list[int] = []
    hooks = [m.register_forward_hook(lambda m, i, o: found.append(getattr(o, "nbytes", 0))) for m in model.modules()]
    model(**batch)
    for hook in hooks:
        hook.remove()
    return sum(found)


RESIDENTS = ("the weights and buffers are counted: they are in memory anyway, so leave their storages out. A weight is "
             "often kept as a view: know it by its storage's address.")  # fmt: skip
SUSPECTS = (
    (RESIDENTS, lambda m, b: counted(m, b, leave="")),
    (RESIDENTS, lambda m, b: counted(m, b, leave="", key=apart(), whole=False)),
    (RESIDENTS, lambda m, b: counted(m, b, leave="", key=Tensor.data_ptr, whole=False)),
    ("the parameters are counted: they are in memory anyway, so leave their storages out.",
     lambda m, b: counted(m, b, leave="b")),
    ("the buffers are counted: they are in memory anyway, like the parameters.",
     lambda m, b: counted(m, b, leave="tf")),
    ("a frozen weight is kept too, and is in memory anyway: leave out all parameters, not only those that train.",
     lambda m, b: counted(m, b, leave="tb")),
    ("what is kept of the batch counts: it is no parameter and no buffer.",
     lambda m, b: counted(m, b, leave="tfbx")),
    ("what is saved more than once is counted more than once: use the storage's address.",
     lambda m, b: counted(m, b, key=apart(), whole=False)),
    ("by identity nothing is ever the same: compare the addresses of the storages.", by_identity),
    ("a view is counted by its own size and address, but it keeps its whole storage alive.",
     lambda m, b: counted(m, b, key=Tensor.data_ptr, whole=False)),
    ("those are numbers, not bytes: each takes four.", lambda m, b: counted(m, b) // 4),
    ("that is in MiB: give bytes, and divide where you print.", lambda m, b: counted(m, b) / 2**20),
    ("those are the outputs of the modules. Operations between them keep something too, and some outputs are not kept.",
     outputs),
    ("no hook saw that: it is the size of the weights, whatever the batch.",
     lambda m, b: sum(p.nbytes for p in m.parameters())),
)  # fmt: skip


def bytes_of(value: object) -> float:
    expect(value is not None, "None came back: is a `return` missing?")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    expect(number, f"{type(value).__name__} came back; a number of bytes is wanted.")
    return value


def compare(answer: Callable, cases: list, otherwise: str) -> None:
    """Pass if the answer is the right count in every case; else name the fault that gives its counts."""
    got = []
    for model, batch in cases:
        got.append(bytes_of(answer(copy.deepcopy(model), dict(batch))))
    right = [counted(*case) for case in cases]
    if got == right:
        return
    expect(any(got), "nothing was seen. Under no_grad nothing is kept; the hooks must be around the forward pass.")
    for advice, wrong in SUSPECTS:
        expect(got != [wrong(*case) for case in cases], advice)
    without_dropout = [counted(copy.deepcopy(model).eval(), batch) for model, batch in cases]
    expect(got != without_dropout, "that is in eval mode: a training step has dropout, which keeps its mask.")
    raise AssertionError(otherwise)


def counts_all_kept(answer, rng):
    compare(answer, hosts(rng), "the bytes differ from those of the storages that were saved.")


def once_and_whole(answer, rng):
    compare(answer, [hosts(rng)[1]], "count each storage once, by its address, with all its bytes.")


def without_residents(answer, rng):
    compare(answer, [hosts(rng)[2], hosts(rng)[4]], "leave out the storages of parameters and of buffers.")


def leaves_the_model(answer, rng):
    for model, batch in hosts(rng):
        modes, values = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
        bytes_of(answer(model, dict(batch)))
        none = all(p.grad is None for p in model.parameters())
        expect(none, "it leaves gradients behind: no way back is needed to see what is kept.")
        expect(modes == [m.training for m in model.modules()], "the model is left in eval mode: count in its own mode.")
        same = all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
        expect(same, "the weights have moved.")


# --- what was forgotten


class Writer(nn.Module):
    """The smallest language model: each word predicts the next one."""

    def __init__(self, rng: torch.Generator, drop: float = 0.0):
        super().__init__()
        self.words, self.drop, self.head = nn.Embedding(11, 6), nn.Dropout(drop), nn.Linear(6, 11)
        for p in self.parameters():
            p.data = draw(rng, *p.shape)

    def forward(self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None) -> SimpleNamespace:
        logits = self.head(self.drop(self.words(input_ids)))[:, :-1]
        return SimpleNamespace(loss=F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()), logits=logits)


def texts(rng: torch.Generator, masked: bool) -> list[dict[str, Tensor]]:
    """Batches of several sizes; with `masked`, some labels are -100, at the start or in the middle."""
    found = []
    for rows, length in ((1, 3), (2, 9), (4, 5)):
        ids = torch.randint(11, (rows, length), generator=rng)
        labels = ids.clone()
        if masked:
            labels[:, : length // 3] = -100
            labels[0, -1] = -100
        found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return found


def mean_loss(model: nn.Module, batches: list, weight: str = "right") -> float:
    """The loss of all batches, each weighted by what it is a mean of; or by something else."""
    total = count = 0.0
    with torch.no_grad():
        for batch in batches:
            labels = batch["labels"]
            n = {"right": (labels[:, 1:] != -100).sum(), "batch": 1, "first": (labels != -100).sum(),
                 "less": (labels != -100).sum() - len(labels), "all": labels[:, 1:].numel(),
                 "every": labels.numel()}[weight]  # fmt: skip
            total, count = total + float(n) * model(**batch).loss.item(), count + float(n)
    return total / count


def number_of(value: object) -> float:
    expect(value is not None, "None came back: is a `return` missing?")
    expect(not isinstance(value, (tuple, list, dict, str, bool)), "one number is wanted: the rise of the loss.")
    return float(value)


def rise(models: tuple, batches: list, weight: str = "right") -> float:
    return mean_loss(models[1], batches, weight) - mean_loss(models[0], batches, weight)


def near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-4 * max(1.0, abs(b))


def pair(rng: torch.Generator, drop: float = 0.0) -> tuple[nn.Module, nn.Module]:
    return Writer(rng, drop).eval(), Writer(rng, drop).eval()


def is_the_rise(answer, rng):
    models, batches = pair(rng), texts(rng, masked=False)
    got, (old, new) = number_of(answer(*models, batches)), (mean_loss(m, batches) for m in models)
    expect(not near(got, old - new), "the sign is turned: forgetting is a loss that rises, after minus before.")
    expect(not near(got, new / old), "a difference is wanted, in nats a token, not a ratio.")
    expect(not near(got, new), "take off the loss before: text is never free, even for a good model.")
    expect(not near(got, 2.718281828**new - 2.718281828**old), "those are perplexities; give losses, in nats a token.")
    expect(got != 0.0, "exactly 0: is that one model twice? A model that trains in place is no longer the one before.")
    tokens = sum((b["labels"][:, 1:] != -100).sum().item() for b in batches)
    expect(not near(got, tokens * (new - old)), "those are sums: divide by the number of predicted tokens.")
    added = len(batches) * rise(models, batches, "batch")
    expect(not near(got, added), "the means of the batches are added up: weight each by its tokens, divide by all.")
    counts_right(got, models, batches)
    expect(near(got, new - old), "the loss of `after` minus that of `before`, over all batches.")


def counts_right(got: float, models: tuple, batches: list) -> None:
    """The weights of the batches."""
    for weight, advice in (
        ("batch", "batches count alike, whatever they hold: weight each loss by its predicted tokens."),
        ("less", "the first label is taken off once for each text, but it may be -100 itself: take labels[:, 1:]."),
        ("first", "the first label of a text is counted, but nothing predicts it: take labels[:, 1:]."),
        ("all", "labels of -100 are counted, but they are not predicted."),
        ("every", "every label is counted: leave out the first of each text, and those of -100."),
    ):
        same = near(rise(models, batches, weight), rise(models, batches))
        expect(same or not near(got, rise(models, batches, weight)), advice)


def targets_only(answer, rng):
    models, batches = pair(rng), texts(rng, masked=True)
    got = number_of(answer(*models, batches))
    counts_right(got, models, batches)
    expect(near(got, rise(models, batches)), "weight each batch's loss by its labels that are predicted.")


def no_dropout(answer, rng):
    models, batches = pair(rng, drop=0.5), texts(rng, masked=False)
    right = rise(models, batches)
    got = number_of(answer(*(m.train() for m in models), batches))
    expect(near(got, right), "dropout was on: call .eval() on both models before you score them.")


def is_a_number(answer, rng):
    models, batches = pair(rng), texts(rng, masked=False)
    got = answer(*models, batches)
    number_of(got)
    graph = torch.is_tensor(got) and got.requires_grad
    expect(not graph, "it holds the graph of every batch, and so all that was kept for a way back: use no_grad.")
    expect(all(p.grad is None for m in models for p in m.parameters()), "it leaves gradients behind.")
