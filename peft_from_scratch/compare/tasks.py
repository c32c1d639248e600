"""The tables that can be made: a model, data, sizes and a budget of tokens each. One row differs from another only in
its method and its learning rate.

sentiment             film reviews, two classes                                 accuracy, log-loss
spam                  text messages, one spam in eight                          balanced accuracy too
low-16 ... low-4000   sentiment from so few examples; the seed draws them       accuracy, log-loss
arithmetic            SVAMP: the number that answers a word problem             loss, exact match, forgetting
solutions             GSM8K: the worked answer, where all fits into 192 tokens    loss, forgetting
style                 State of the Union messages                               loss, forgetting

Forgetting is the loss on film reviews (IMDB) that a language model is not trained on here.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..course.budget import Budget
from .rates import LOSS

if TYPE_CHECKING:
    from .bench import Bench

CLASSES, ANSWERS, BLOCKS = "classes", "answers", "blocks"


@dataclass(frozen=True)
class Task:
    """Sizes are counts of rows (of blocks, for running text). `drawn`: the training rows depend on the seed; `balanced`
    and `exact`: balanced accuracy and exact match are measured too; `chosen_by`: what the best rate is best in, on dev.
    """

    name: str
    model: str
    data: str
    kind: str = CLASSES
    train: int = 2000
    dev: int = 1500
    test: int = 5000
    epochs: int = 1
    batch: int = 16
    length: int = 64
    amp: str = "off"
    drawn: bool = False
    balanced: bool = False
    exact: bool = False
    other: str = ""  # the corpus on which forgetting is measured
    chosen_by: str = LOSS
    device: str = "cpu"

    @property
    def setting(self) -> str:
        """All that makes two runs comparable; runs of another setting are never mixed with these."""
        sizes = f"{self.train}{' drawn' if self.drawn else ''} x {self.epochs}, dev {self.dev}, test {self.test}"
        budget = f"batch {self.batch}, {self.length} tokens, amp {self.amp}"
        return f"{self.model}, {self.data}, {sizes}, {budget}" + (f", forgetting {self.other}" if self.other else "")

    def on(self, machine: Budget) -> "Task":
        """This task on this machine: in ci mode a tiny one, on a GPU with its precision."""
        if machine.mode == "ci":
            return replace(self, **(TINY if self.kind == CLASSES else TINY_TEXT[self.kind]))
        if machine.device == "cuda":
            return replace(self, device=machine.device, amp=machine.amp)
        return self

    def bench(self) -> "Bench":
        """The task with its data loaded and encoded."""
        from .classes import Classes
        from .language import Language

        return Classes(self) if self.kind == CLASSES else Language(self)


TINY = dict(model="tiny-bert", data="toy", train=32, dev=40, test=60, epochs=1, batch=8, length=16)
TINY_TEXT = {
    ANSWERS: dict(model="tiny-llama", data="sums", train=16, dev=10, test=20, batch=8, length=48, amp="off"),
    BLOCKS: dict(model="tiny-llama", data="toy", train=16, dev=10, test=20, batch=8, length=16, amp="off"),
}
for _tiny in TINY_TEXT.values():
    _tiny["other"] = "toy"

# Few examples are seen more often: 40, 64, 96, 126 and 250 steps
LOW = {16: (20, 8), 64: (8, 8), 256: (3, 8), 1000: (2, 16), 4000: (1, 16)}  # examples: epochs, batch
TEXT = dict(amp="bf16", other="imdb")
TASKS = {
    "sentiment": Task("sentiment", "minilm", "reviews"),
    "spam": Task("spam", "minilm", "spam", dev=1000, test=1507, balanced=True),
    **{
        f"low-{n}": Task(
            f"low-{n}", "minilm", "reviews", CLASSES, n, 500, 2000, epochs, batch, drawn=True, chosen_by="accuracy"
        )
        for n, (epochs, batch) in LOW.items()
    },
    "arithmetic": Task("arithmetic", "smollm2", "svamp", ANSWERS, 400, 100, 300, 1, 8, 128, exact=True, **TEXT),
    "solutions": Task("solutions", "smollm2", "gsm8k", ANSWERS, 240, 48, 160, 1, 4, 192, **TEXT),
    "style": Task("style", "smollm2", "sotu", BLOCKS, 400, 40, 120, 1, 8, 128, **TEXT),
}
