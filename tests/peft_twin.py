"""The same adapted model twice, ours and Hugging Face peft's with our numbers in it; and how far apart they are."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hosts import batch, host, stir
from torch import Tensor, nn

from peft_from_scratch import adapters, inject, trained

peft = pytest.importorskip("peft")
RESULTS = Path(__file__).parent.parent / "results" / "oracles.json"
Match = Callable[[nn.Module, nn.Module], list[tuple[Tensor, Tensor]]]


def suffixes(targets: list[str]) -> tuple[str, ...]:
    """peft's target list, which matches ends of names, as whole-name patterns."""
    return tuple(rf"(.*\.)?{t.replace('.', chr(92) + '.')}" for t in targets)


class Twin:
    """`match(ours, theirs)` pairs our tensors with theirs at one site (a pair may be (t, view of theirs)).

    `factory` makes our adapter, or is called with the plain model to make one (`of_model=True`) where sites share.
    Everything of ours is moved at random first, so that no test of a zero start is a test of zeros.
    """

    def __init__(self, model, targets, factory, config, match: Match, std=0.2, of_model=False):
        plain = host(model) if isinstance(model, str) else model
        self.base = copy.deepcopy(plain).requires_grad_(False)
        theirs = copy.deepcopy(plain)
        factory = factory(plain) if of_model else factory
        self.ours = inject(plain, {suffixes(targets): factory}).eval()
        self.theirs = peft.get_peft_model(theirs, config).eval()
        stir(trained(self.ours).values(), std=std)
        self.match = match
        with torch.no_grad():
            for mine, other in self.pairs():
                other.copy_(mine)

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        body = self.theirs.base_model.model
        return [pair for site, ours in adapters(self.ours) for pair in self.match(ours, body.get_submodule(site))]

    def difference(self, given, train_seed=None) -> dict[str, float]:
        """Largest differences of the output and of the gradients; `effect` is what the adapters change at all."""
        outs = []
        for model in (self.ours, self.theirs):
            model.train(train_seed is not None)
            model.zero_grad()
            if train_seed is not None:
                torch.manual_seed(train_seed)
            out = model(**given) if isinstance(given, dict) else model(given)
            loss = out.loss if hasattr(out, "loss") else out.square().mean()
            loss.backward()
            outs.append(out.logits.detach() if hasattr(out, "logits") else out.detach())
        grads = [(a.grad - b.grad).abs().max().item() for a, b in self.pairs() if a.grad is not None]
        with torch.no_grad():
            base = self.base(**given) if isinstance(given, dict) else self.base(given)
        base = base.logits if hasattr(base, "logits") else base
        return {
            "forward": (outs[0] - outs[1]).abs().max().item(),
            "gradients": max(grads),
            "effect": (outs[0] - base).abs().max().item(),
        }

    def check(self, method: str, given=None, tol: float = 1e-5, train_seed=None, effect: float = 1e-2):
        """Assert both differences within `tol`, and that the adapters matter; record the figure."""
        found = self.difference(batch(given) if isinstance(given, str) else given, train_seed)
        assert found["forward"] <= tol and found["gradients"] <= tol, found
        assert found["effect"] >= effect, found
        record(method, "peft 0.21.2", max(found["forward"], found["gradients"]))


def record(method: str, oracle: str, difference: float) -> None:
    """Keep the largest difference seen, where PFS_WRITE_RESULTS=1; results/oracles.json feeds the methods table."""
    if os.environ.get("PFS_WRITE_RESULTS") != "1":
        return
    from filelock import FileLock

    with FileLock(f"{RESULTS}.lock"):
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        old = kept.get(method, {})
        largest = max(difference, old.get("difference", 0.0)) if old.get("oracle") == oracle else difference
        kept[method] = {"oracle": oracle, "difference": largest}
        beside = RESULTS.with_suffix(".part")
        beside.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        os.replace(beside, RESULTS)
