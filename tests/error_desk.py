"""Every message of the error desk (course/pages/learner-errors.md), made to happen. Keys are the desk's headings."""

import warnings

import torch
from torch import nn

import peft_from_scratch as pfs
from peft_from_scratch import fetch
from peft_from_scratch.check import check, predict
from peft_from_scratch.methods.representation.reft import LoReFT
from peft_from_scratch.models import load
from peft_from_scratch.train import fit


class Net(nn.Module):
    """Two layers, and a loss as transformers models have it."""

    def __init__(self):
        super().__init__()
        self.query, self.head = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x, labels):
        logits = self.head(self.query(x))
        return type("Out", (), {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits})()


BATCH = {"x": torch.ones(3, 6), "labels": torch.tensor([0, 1, 0])}


def lora(**settings):
    return lambda base: pfs.LoRA(base, **settings)


def adapted(**settings):
    return pfs.inject(Net(), {"query": lora(**settings)})


def with_head():
    return pfs.inject(Net(), {"query": pfs.LoRA, "head": pfs.Replaced})


def train(model, loss_fn=lambda model, batch: model(**batch).loss, **batch):
    fit(model, [BATCH | batch], lr=1e-3, progress=False, loss_fn=loss_fn)


def cut(model, batch):
    """Only the head sees a gradient."""
    return nn.functional.cross_entropy(model.head(model.query(batch["x"]).detach()), batch["labels"])


def warned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(with_head(), cut)


def saved_with_other_settings(folder):
    path = pfs.save_adapter(adapted(alpha=16), folder / "adapter.safetensors")
    pfs.load_adapter(adapted(alpha=32), path)


def twice():
    loss = Net()(**BATCH).loss
    loss.backward()
    loss.backward()


def in_place():
    nn.Linear(3, 2).weight.add_(1)


def offline(folder, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    fetch.fetch("minilm", quiet=True, cache=folder)


def raised(act):
    """The message of what `act()` raises."""
    try:
        act()
    except Exception as error:  # whatever it is: its words are what a reader looks up
        return str(error.args[0] if isinstance(error, KeyError) else error)
    raise AssertionError("nothing was raised")


def messages(folder, monkeypatch, capsys):
    """Heading of the desk -> the message that was really given."""
    detached = lambda model, batch: model(**batch).loss.detach()  # noqa: E731
    again = lambda model, batch: detached(model, batch).requires_grad_()  # noqa: E731
    found = {
        "A target that means nothing": lambda: pfs.inject(Net(), {"querry": pfs.LoRA}),
        "Injected twice": lambda: pfs.inject(adapted(), {"query": pfs.LoRA}),
        "Two targets for one module": lambda: pfs.inject(Net(), {"query": pfs.LoRA, "quer.": lora(rank=2)}),
        "Nothing trains": lambda: train(Net().requires_grad_(False)),
        "No gradient at all": lambda: train(adapted(), again),
        "The loss cannot be differentiated": lambda: train(adapted(), detached),
        "A part gets no gradient": warned,
        "Training diverged": lambda: train(adapted(), x=torch.full((3, 6), float("nan"))),
        "The saved adapter does not fit": lambda: pfs.load_adapter(with_head(), pfs.adapter_state(adapted())),
        "Saved with other settings": lambda: saved_with_other_settings(folder),
        "Saved with another rank": lambda: pfs.load_adapter(adapted(rank=4), pfs.adapter_state(adapted(rank=8))),
        "This method cannot be merged": lambda: pfs.merge(pfs.inject(Net(), {"query": lambda base: LoReFT(base, 2)})),
        "Cannot be taken off": lambda: pfs.remove(pfs.full(Net())),
        "Shapes that do not multiply": lambda: torch.randn(4, 10) @ torch.randn(2, 10),
        "A layer was passed by": lambda: nn.functional.linear(torch.ones(3, 6), adapted().query.weight),
        "backward() finds no graph": lambda: Net().requires_grad_(False)(**BATCH).loss.backward(),
        "backward() a second time": twice,
        "Editing a weight that trains": in_place,
        "A label that the head does not know": lambda: nn.functional.cross_entropy(
            torch.randn(3, 2), torch.tensor([0, 1, 2])
        ),
        "Formats that do not mix": lambda: nn.Linear(3, 2)(torch.ones(2, 3, dtype=torch.bfloat16)),
        "No model of this name": lambda: load("minilmm"),
        "No network, and not in the cache": lambda: offline(folder, monkeypatch),
    }
    if not torch.cuda.is_available():  # with a GPU nobody meets this message
        found["No GPU"] = lambda: fit(adapted(), [BATCH], lr=1e-3, device="cuda")
    return {heading: raised(act) for heading, act in found.items()} | printed(capsys)


def printed(capsys):
    """Messages that are no errors."""
    check("lora.forward", "lora_forward", namespace={"lora_forward": ...})
    unwritten = capsys.readouterr().out
    predict("00.share", ..., (..., ...))
    return {"Nothing was written yet": unwritten, "A prediction is missing": capsys.readouterr().out}
