"""A made-up lesson for the tests of the check engine: a function, a count, a prediction, an order, a class, a value."""

import torch

from peft_from_scratch.check.exercise import Exercise, Lesson, Property, Wrong
from peft_from_scratch.check.tools import draw, expect, expect_close, expect_number, unchanged


def arguments(rng):
    return draw(rng, 2, 3, 7), draw(rng, 5, 7), draw(rng, 5), draw(rng, 4, 7), draw(rng, 5, 4)


def starts_at_base(forward, rng):
    x, W, b, A, B = arguments(rng)
    expect_close(forward(x, W, b, A, 0 * B, 2.0), x @ W.T + b, "with B = 0 the output is x Wᵀ + b; check W and b.")


def scaled(forward, rng):
    x, W, b, A, B = arguments(rng)
    want = x @ W.T + b + 3.0 * (x @ A.T) @ B.T
    expect_close(forward(x, W, b, A, B, 3.0), want, "the correction is scale · (x Aᵀ) Bᵀ; check scale and order.")


def leaves_inputs(forward, rng):
    x, W, b, A, B = arguments(rng)
    with unchanged(x=x, W=W, b=b, A=A, B=B):
        forward(x, W, b, A, B, 3.0)


def forward_with(body):
    return f"def lora_forward(x, W, b, A, B, scale):\n    {body}"


FORWARD = Exercise(
    name="demo.forward",
    defines="lora_forward",
    title="LoRA in one line",
    tier="core",
    difficulty=2,
    minutes=6,
    points=3,
    unlocks="demo.count",
    time_limit=0.5,
    reference=forward_with("return x @ W.T + b + scale * (x @ A.T) @ B.T"),
    properties=(
        Property("starts at the frozen layer", starts_at_base),
        Property("adds the scaled correction", scaled, core=True),
        Property("leaves its inputs as they are", leaves_inputs, core=True),
    ),
    hints=("What is added when B is zero?", "y = x Wᵀ + b + s (x Aᵀ) Bᵀ", "base line + scale * (...) @ ..."),
    remark="Two thin products, never the full B A.",
    wrong=(
        Wrong("no scale", forward_with("return x @ W.T + b + x @ A.T @ B.T"), "scale"),
        Wrong("no bias", forward_with("return x @ W.T + scale * x @ A.T @ B.T"), "check W and b"),
        Wrong("base only", forward_with("return x @ W.T + b"), "correction"),
        Wrong("order", forward_with("return x @ W.T + b + scale * x @ (A @ B)"), "mat1 and mat2"),
        Wrong("in place", forward_with("W += scale * B @ A\n    return x @ W.T + b"), "in place"),
    ),
)

COUNT = Exercise(
    name="demo.count",
    defines="lora_count",
    title="Count",
    tier="core",
    difficulty=1,
    minutes=3,
    points=2,
    unlocks="",
    reference="def lora_count(d_in, d_out, r):\n    return r * (d_in + d_out)",
    properties=(
        Property(
            "counts both factors",
            lambda count, rng: expect_number(count(7, 5, 2), 24, "A has r·d_in numbers, B r·d_out."),
        ),
    ),
    hints=("How many numbers has A?", "r (d_in + d_out)", "r * (... + ...)"),
    remark="Linear in r.",
    wrong=tuple(
        Wrong(body, f"def lora_count(d_in, d_out, r):\n    return {body}", "r·d_in")
        for body in ("d_in * d_out", "r * d_in", "2 * r", "r * r * (d_in + d_out)", "d_in + d_out")
    ),
)


def sane(answer, rng):
    guess, (low, high) = answer
    expect(0 <= low <= guess <= high <= 100, "a share in per cent lies between 0 and 100, the guess inside the range.")


GUESS = Exercise(
    name="demo.guess",
    defines="my_guess, my_range",
    title="Guess",
    tier="core",
    difficulty=1,
    minutes=2,
    points=1,
    unlocks="",
    kind="prediction",
    reference="my_guess = 1.0\nmy_range = (0.1, 5.0)",
    properties=(Property("is a share", sane, core=True),),
    hints=("Of how many?", "n / N", "my_guess = 1.0"),
    remark="Any guess will do.",
    wrong=tuple(
        Wrong(f"{guess} in {span}", f"my_guess = {guess}\nmy_range = {span}", "share")
        for guess, span in ((-1, (0, 5)), (500, (0, 5)), (3, (5, 0)), (9, (0, 5)), (1, (2, 5)))
    ),
)

STEPS = Exercise(
    name="demo.steps",
    defines="order",
    title="Order",
    tier="full",
    difficulty=1,
    minutes=3,
    points=2,
    unlocks="",
    kind="order",
    reference="order = [2, 1, 3]",
    properties=(Property("is in order", lambda order, rng: expect(list(order) == [2, 1, 3], "train, then test.")),),
    hints=("First?", "base, train, test", "[2, ...]"),
    remark="The base comes first.",
    wrong=tuple(
        Wrong(str(each), f"order = {each}", "train") for each in ([1, 2, 3], [3, 2, 1], [2, 3, 1], [1, 3, 2], [])
    ),
)


def trains_only_factors(make, rng):
    layer = make(torch.nn.Linear(7, 5), 2, 4)
    expect(not layer.base.weight.requires_grad, "the base is still trained: freeze it.")


LAYER = Exercise(
    name="demo.layer",
    defines="LoRALinear",
    title="Repair the layer",
    tier="core",
    difficulty=3,
    minutes=8,
    points=4,
    unlocks="",
    needs=("torch", "nn"),
    reference="""class LoRALinear(nn.Module):
    def __init__(self, base, r, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(r, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, r))
        self.scale = alpha / r

    def forward(self, x):
        return lora_forward(x, self.base.weight, self.base.bias, self.A, self.B, self.scale)""",
    properties=(Property("freezes the base", trains_only_factors, core=True),),
    hints=("Which part trains?", "freeze W", "base.requires_grad_(...)"),
    remark="Set the flag once.",
    wrong=tuple(
        Wrong(
            f"trains {n}",
            "class LoRALinear(nn.Module):\n    def __init__(self, base, r, alpha):\n"
            f"        super().__init__()\n        self.base = base\n        self.n = {n}",
            "freeze",
        )
        for n in range(5)
    ),
)

NUMBER = Exercise(
    name="demo.number",
    defines="n",
    title="A number",
    tier="stretch",
    difficulty=1,
    minutes=1,
    points=1,
    unlocks="",
    kind="value",
    reference="n = 12",
    properties=(Property("is twelve", lambda n, rng: expect_number(n, 12, "three times four.")),),
    hints=("How many?", "3 × 4", "n = ... * ..."),
    remark="Twelve.",
    wrong=tuple(Wrong(each, f"n = {each}", "four|number") for each in ("7", "'12'", "11.9", "None", "True")),
)

LESSON = Lesson(
    id="99", slug="demo", title="Demo", requires=(), minutes=20, exercises=(FORWARD, COUNT, GUESS, STEPS, LAYER, NUMBER)
)
