"""Lesson 01's properties that compare numbers: bytes, FLOPs, disk, length; each names the fault behind a number."""

from collections.abc import Callable

from torch import nn

from .tools import agrees, expect

CASES = [(1000, 10), (777, 777), (12345, 678)]  # numbers in all, numbers that train


def parts(answer: Callable, case: tuple, count: int, kind: str) -> list[float]:
    """The `count` numbers that the answer returns."""
    got = answer(*case)
    expect(got is not None, "None came back: is a `return` missing?")
    words = {3: "return three numbers: weights, gradients, optimizer.", 2: "return two numbers: in full, adapted."}
    expect(isinstance(got, (tuple, list)) and len(got) == count, words[count])
    for each in got:
        whole = isinstance(each, (int, float)) and not isinstance(each, bool)
        expect(whole, f"{type(each).__name__} is no number of {kind}.")
    return list(got)


def part(answer: Callable, index: int, count: int = 3) -> Callable:
    return lambda *case: parts(answer, case, count, "bytes")[index]


# --- bytes that are always there


def three_parts(static, rng):
    for case in CASES:
        weights, gradients, optimizer = parts(static, case, 3, "bytes")
        right = 4 * case[0], 4 * case[1], 8 * case[1]
        expect((weights, optimizer, gradients) != right or gradients == optimizer,
               "give them in this order: weights, gradients, optimizer.")  # fmt: skip


def weights_of_all(static, rng):
    agrees(part(static, 0), CASES, lambda p, t: 4 * p, {
        "frozen numbers do not move, but they are still there: every number needs its four bytes.": lambda p, t: 4 * t,
        "those that train are among the total: count every number once.": lambda p, t: 4 * (p - t),
        "that is in bits; a byte has eight of them.": lambda p, t: 32 * p,
        "two bytes is half precision; float32 takes four.": lambda p, t: 2 * p,
        "that is in MiB: give bytes, and divide where you print.": lambda p, t: 4 * p / 2**20,
        "that counts numbers, and each takes four bytes.": lambda p, t: p,
    }, "the weights take four bytes for each of the `total` numbers.")  # fmt: skip


def gradients_of_trained(static, rng):
    agrees(part(static, 1), CASES, lambda p, t: 4 * t, {
        "a frozen number needs no gradient, and so no moments: only what trains is charged for them.":
            lambda p, t: 4 * p,
        "a gradient is there for every number that trains, until it is dropped.": lambda p, t: 0,
        "that is the gradients of all frozen numbers, and none of those that train.": lambda p, t: 4 * (p - t),
        "that is in bits; a byte has eight of them.": lambda p, t: 32 * t,
        "two bytes is half precision; float32 takes four.": lambda p, t: 2 * t,
        "that counts numbers, and each takes four bytes.": lambda p, t: t,
        "give them in this order: weights, gradients, optimizer.": lambda p, t: 8 * t,
    }, "the gradients take four bytes for each number that trains.")  # fmt: skip


def moments_of_trained(static, rng):
    agrees(part(static, 2), CASES, lambda p, t: 8 * t, {
        "those are moments of frozen numbers too: Adam keeps them only for what trains.": lambda p, t: 8 * p,
        "Adam keeps two numbers for each: the mean of the gradients, and of their squares.": lambda p, t: 4 * t,
        "Adam keeps no copy of the weights beside its two moments, not in float32.": lambda p, t: 12 * t,
        "plain SGD keeps nothing; Adam keeps two moments.": lambda p, t: 0,
        "that counts the two moments as numbers, and each takes four bytes.": lambda p, t: 2 * t,
    }, "Adam's state takes two numbers of four bytes for each number that trains.")  # fmt: skip


# --- the same with the base in two bytes; here the adapters come on top of the base

BASES = [(1000, 10), (7000, 70), (12345, 678)]


def weights_of_both(half, rng):
    agrees(part(half, 0), BASES, lambda n, a: 2 * n + 4 * a, {
        "bfloat16 takes two bytes, and the base is held in it.": lambda n, a: 4 * n + 4 * a,
        "the adapters are float32, so that small steps are not rounded away: four bytes each, and they come on top of "
        "the base.": lambda n, a: 2 * n + 2 * a,
        "the adapters are weights too, and take four bytes each.": lambda n, a: 2 * n,
        "bfloat16 takes two bytes, and the adapters take four besides.": lambda n, a: 4 * n,
    }, "the base takes two bytes a number, the adapters four.")  # fmt: skip


def gradients_of_adapters(half, rng):
    agrees(part(half, 1), BASES, lambda n, a: 4 * a, {
        "the base is frozen: it has no gradient.": lambda n, a: 2 * n + 4 * a,
        "the base is frozen: it has no gradient. ": lambda n, a: 4 * (n + a),
        "the adapters are float32, and their gradients too: four bytes.": lambda n, a: 2 * a,
        "the adapters train, so they have a gradient.": lambda n, a: 0,
    }, "there is a gradient of four bytes for each number of the adapters.")  # fmt: skip


def moments_of_adapters(half, rng):
    agrees(part(half, 2), BASES, lambda n, a: 8 * a, {
        "the base is frozen: Adam keeps nothing for it.": lambda n, a: 8 * (n + a),
        "Adam keeps two numbers for each: 2 · 4 bytes.": lambda n, a: 4 * a,
        "the adapters train with Adam, so there are two moments for each.": lambda n, a: 0,
    }, "Adam keeps two numbers of four bytes for each number of the adapters.")  # fmt: skip


# --- FLOPs


class Words(nn.Module):
    """An embedding, a norm, linear layers, one inside another module, one with the embedding's weight (a tied head)."""

    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(11, 6), nn.LayerNorm(6)
        self.up, self.down = nn.Linear(6, 5), nn.Linear(5, 6, bias=False)
        self.inner = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 6))
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.words.weight


def untied(frozen: bool = False) -> nn.Module:
    model = Words()
    model.head = nn.Linear(6, 3)
    return model.requires_grad_(not frozen)


def sizes(model: nn.Module, biases: bool = False) -> int:
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return sum(m.weight.numel() + (m.bias.numel() if biases and m.bias is not None else 0) for m in linear)


def matrices(both, rng):
    hosts = [(untied(),), (untied(frozen=True),), (Words(),)]
    linear = [m for m in untied().modules() if isinstance(m, nn.Linear)]
    agrees(both[0], hosts, lambda m: sizes(m), {
        "an embedding is a look-up and a norm goes number by number: only matrices of linear layers multiply.":
            lambda m: sum(p.numel() for p in m.parameters()),
        "only matrices of linear layers multiply: no look-up of an embedding, no norm.":
            lambda m: sum(x.weight.numel() for x in m.modules() if hasattr(x, "weight")),
        "an embedding is a matrix too, but a look-up in it multiplies nothing: take the linear layers alone.":
            lambda m: sum(p.numel() for p in m.parameters() if p.ndim == 2),
        "a layer inside another module is missed: go over model.modules(), not over the children alone.":
            lambda m: sum(x.weight.numel() for x in m.children() if isinstance(x, nn.Linear)),
        "a bias is added, once for an output: leave it out.": lambda m: sizes(m, biases=True),
        "a frozen layer multiplies as well: count it.":
            lambda m: sum(x.weight.numel() for x in m.modules() if isinstance(x, nn.Linear)
                          and x.weight.requires_grad),
        "count the numbers, not the layers.": lambda m: len(linear),
    }, "add up the sizes of the weights of all nn.Linear layers, frozen or not, and nothing else.")  # fmt: skip


RUNS = [(100, 7), (12, 1), (1000, 64)]  # numbers, tokens


def flops_of(both, kind: str) -> Callable:
    return lambda n, tokens: both[1](n, tokens, kind)


def six_for_full(both, rng):
    agrees(flops_of(both, "full"), RUNS, lambda n, t: 6 * n * t, {
        "that is the forward pass alone; the way back is missing.": lambda n, t: 2 * n * t,
        "a multiply-add counts as two: one product, one sum.": lambda n, t: 3 * n * t,
        "the way back makes two products for each layer: for its input and for its weight.": lambda n, t: 4 * n * t,
        "each token goes through all of it: multiply by the tokens.": lambda n, t: 6 * n,
    }, "2 forward and 4 back, for each number and each token.")  # fmt: skip


def four_for_lora(both, rng):
    agrees(flops_of(both, "LoRA"), RUNS, lambda n, t: 4 * n * t, {
        "the gradient must come down through the frozen layers to reach the adapters below.": lambda n, t: 2 * n * t,
        "a frozen weight needs no gradient of its own: one product of three is saved.": lambda n, t: 6 * n * t,
        "each token goes through all of it: multiply by the tokens.": lambda n, t: 4 * n,
    }, "2 forward and 2 back (the gradients of the inputs), for each number and each token.")  # fmt: skip


def two_for_head(both, rng):
    agrees(flops_of(both, "head"), RUNS, lambda n, t: 2 * n * t, {
        "nothing below the head trains, so no gradient goes down there.": lambda n, t: 4 * n * t,
        "nothing below the head trains: neither of the two gradients is needed.": lambda n, t: 6 * n * t,
        "a multiply-add counts as two: one product, one sum.": lambda n, t: n * t,
        "each token goes through all of it: multiply by the tokens.": lambda n, t: 2 * n,
    }, "2 forward, and nothing back.")  # fmt: skip


# --- the disk

TASKS = [(3, 1000, 10), (7, 500, 2), (20, 90, 9)]  # tasks, bytes of a base, of an adapter


def one_per_task(disk, rng):
    agrees(part(disk, 0, 2), TASKS, lambda n, b, a: n * b, {
        "after full fine-tuning every number has changed, so each task needs a model of its own.": lambda n, b, a: b,
        "the original need not be kept to serve the tasks: n models, not n + 1.": lambda n, b, a: (n + 1) * b,
        "the two are the other way round: first in full, then adapted.": lambda n, b, a: b + n * a,
        "the sizes given are bytes already.": lambda n, b, a: 4 * n * b,
    }, "each task has a whole model of its own.")  # fmt: skip


def disk_total(disk, rng):
    agrees(part(disk, 1, 2), TASKS, lambda n, b, a: b + n * a, {
        "an adapter is no use without its base: count the base once.": lambda n, b, a: n * a,
        "the base is shared by all tasks: count it once.": lambda n, b, a: n * (b + a),
        "each task has its own adapter: one file for each.": lambda n, b, a: b + a,
        "the base is shared by all tasks.": lambda n, b, a: n * b,
    }, "one base, and one adapter for each task.")  # fmt: skip


# --- the longest text

FITTING = [(100, 2, 3, 1, 500), (0, 5, 7, 2, 3001), (40, 1, 10, 3, 400)]  # static, batch, a, b, budget


def longest(static: int, batch: int, a: int, b: int, budget: int) -> int:
    length = 0
    while static + batch * (a * (length + 1) + b * (length + 1) ** 2) <= budget:
        length += 1
    return length


def length_of(static: int, batch: int, a: int, b: int, budget: int) -> float:
    """The length, no whole number, that takes exactly the budget."""
    return (-a + (a * a + 4 * b * (budget - static) / batch) ** 0.5) / (2 * b)


def fits(answer, rng):
    for case in FITTING:
        got = answer(*case)
        number = isinstance(got, (int, float)) and not isinstance(got, bool)
        expect(number and got == int(got), "a length is a whole number of tokens.")
    agrees(answer, FITTING, longest, {
        "that is one token too long: it no longer fits.": lambda *c: longest(*c) + 1,
        "one more token would fit.": lambda *c: longest(*c) - 1,
        "the square is missing: the attention scores grow with length · length.":
            lambda s, n, a, b, m: longest(s, n, a, 0, m),
        "the static part is missing: it takes its bytes before the first token.":
            lambda s, n, a, b, m: longest(0, n, a, b, m),
        "that is for one text; the whole batch has to fit.": lambda s, n, a, b, m: longest(s, 1, a, b, m),
        "the static part is there once, not once for each text.": lambda s, n, a, b, m: longest(n * s, n, a, b, m),
        "round down: what is rounded up no longer fits.": lambda *c: round(length_of(*c)),
        "bytes do not grow in proportion: mind the square of the length.":
            lambda s, n, a, b, m: max(0, int((m - s) / (n * (a + b)))),
    }, "the largest L for which static + batch (a L + b L²) is at most the budget.")  # fmt: skip


def without_scores(answer, rng):
    for case in ((100, 2, 3, 0, 500), (0, 1, 7, 0, 70)):
        try:
            got = answer(*case)
        except ZeroDivisionError:
            raise AssertionError("with fused attention the square term is 0, and you divide by it.") from None
        expect(got == longest(*case), "with fused attention nothing grows with the square: b is 0, and a must do.")


def no_length(answer, rng):
    for case in ((100, 2, 3, 1, 99), (100, 2, 3, 1, 107), (100, 2, 3, 0, 90), (1000, 2, 3, 1, 10)):
        got = answer(*case)
        below = isinstance(got, (int, float)) and got < 0
        expect(not below, "0 is the least: where the static part alone is more than the budget, no length fits.")
        expect(isinstance(got, (int, float)) and got == 0, "not even one token fits here: the answer is 0.")
