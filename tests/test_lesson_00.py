"""Lesson 00: its exercises agree with the package, and say what they mean.

What every lesson does stands in test_lessons.py.
"""

import torch
from torch import nn

from peft_from_scratch import LoRA
from peft_from_scratch.check import lesson
from peft_from_scratch.check.audit import scratch
from peft_from_scratch.check.grading import execute

LESSON = lesson("00")
TASKS = {task.name: task for task in LESSON.exercises}


def reference(name):
    task = TASKS[name]
    return execute(task.reference, scratch(task), name)[task.names[0]]


def test_the_reference_class_is_the_package_lora():
    base = nn.Linear(7, 5)
    mine, theirs = reference("lora.repair")(base, 2, 6), LoRA(base, rank=2, alpha=6)
    with torch.no_grad():
        theirs.A.copy_(torch.randn(2, 7)), theirs.B.copy_(torch.randn(5, 2))
        mine.A.copy_(theirs.A), mine.B.copy_(theirs.B)
    x = torch.randn(2, 3, 7)
    torch.testing.assert_close(mine(x), theirs(x))
    assert sum(p.numel() for p in mine.parameters() if p.requires_grad) == reference("lora.count")(7, 5, 2)


LAYER = TASKS["lora.repair"].reference
OTHER_RIGHT_ANSWERS = {
    "A zero, B random": ("lora.repair", LAYER.replace(
        "zeros(", "_(").replace("randn(", "zeros(").replace("._(", ".randn(")),
    "functional": ("lora.repair", LAYER.replace("self.base(x)", "F.linear(x, self.base.weight, self.base.bias)")),
    "own names": ("lora.repair", LAYER.replace("self.base", "self.frozen").replace("self.scale", "self.s")),
    "freezes in a loop": ("lora.repair", LAYER.replace(
        "base.requires_grad_(False)",
        "base\n        for p in base.parameters():\n            p.requires_grad = False")),
    "scale at the end": ("lora.repair", LAYER.replace(
        "self.scale * (x @ self.A.T) @ self.B.T", "(x @ self.A.T @ self.B.T) * self.scale")),
    "through the weight": ("lora.forward", "def lora_forward(x, W, b, A, B, scale):\n"
                           "    return F.linear(x, W + scale * B @ A, b)"),
    "einsum": ("lora.forward", "def lora_forward(x, W, b, A, B, scale):\n"
               "    return x @ W.T + b + scale * torch.einsum('...i,ri,or->...o', x, A, B)"),
    "sum of products": ("lora.count", "def lora_count(d_in, d_out, r):\n    return r * d_in + d_out * r"),
    "harmonic": ("lora.break_even", "def break_even(d_in, d_out):\n    return 1 / (1 / d_in + 1 / d_out)"),
    "a string": ("project.order", "order = 'chEagd'"),
    "spelled out": ("compare.verdict", "def verdict(table):\n    def word(row, sign):\n"
                    "        low, high = (sign * edge for edge in table[row])\n"
                    "        low, high = min(low, high), max(low, high)\n"
                    "        return 'better' if low > 0 else 'worse' if high < 0 else 'same'\n"
                    "    signs = {'accuracy': 1, 'bytes': -1, 'seconds': -1}\n"
                    "    return {row: word(row, sign) for row, sign in signs.items()}"),
}  # fmt: skip
