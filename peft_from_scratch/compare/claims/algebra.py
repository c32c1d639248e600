"""Claims that algebra decides, up to rounding: the start, the gradients, what Adam cannot tell apart, merging."""

import copy
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from ...adapt import inject, merge, trained
from ...measure import merge_error
from ...methods.lowrank.lora import LoRA
from ...models import load
from ...training.running import Batch
from ..contestants import CONTESTANTS
from .claim import Claim, Finding, decided
from .evidence import Evidence


def tiny() -> nn.Module:
    torch.manual_seed(0)  # for the start of the adapters that it gets
    return load("tiny-bert", "classify", seed=0)[0].eval()


def texts() -> Batch:
    ids = torch.arange(4 * 12).reshape(4, 12) % 60 + 7
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(4) % 2}


def stirred(model: nn.Module) -> nn.Module:
    """As if it had been trained: every trained number moved."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trained(model).values():
            p.add_(0.1 * torch.randn(p.shape, generator=generator).to(p.dtype))
    return model


def no_op(evidence: Evidence) -> Finding:
    """A model with LoRA, DoRA, PiSSA, VeRA, HRA or (IA)³ starts as the model it changes.

    FourierFT and Pfeiffer's adapters start at random numbers: the same measure must tell them apart.
    """
    claimed, random = ("LoRA", "LoRA all-linear", "DoRA", "PiSSA", "VeRA", "HRA", "(IA)³"), ("FourierFT", "Pfeiffer")
    plain = tiny()
    off = {
        name: merge_error(CONTESTANTS[name].adapt(copy.deepcopy(plain)), plain, texts()).absolute
        for name in claimed + random
    }
    told = ", ".join(f"{name} {value:.0e}" if value else f"{name} 0" for name, value in off.items())
    right = off["LoRA"] == 0 and all(off[n] < 1e-6 for n in claimed) and all(off[n] > 1e-4 for n in random)
    return Finding(decided(right), f"largest change of a logit at the start: {told}")


def layer() -> tuple[LoRA, Tensor]:
    torch.manual_seed(0)
    lora = LoRA(nn.Linear(20, 30).double(), rank=3, alpha=6).double()
    nn.init.normal_(lora.B)
    return lora, torch.randn(7, 20, dtype=torch.float64)


def dead_adapter(evidence: Evidence) -> Finding:
    """With A = B = 0 neither ever gets a gradient.

    Which of A and B get a gradient when A, B, or both start at zero.
    """
    found = {}
    for zero in ("A", "B", "AB"):
        lora, x = layer()
        with torch.no_grad():
            for name in zero:
                getattr(lora, name).zero_()
        lora(x).square().sum().backward()
        found[zero] = lora.A.grad.abs().sum().item() > 0, lora.B.grad.abs().sum().item() > 0
    right = found == {"A": (True, False), "B": (False, True), "AB": (False, False)}
    told = "; ".join(
        f"{zero} = 0: A {'moves' if a else 'stays'}, B {'moves' if b else 'stays'}" for zero, (a, b) in found.items()
    )
    return Finding(decided(right), told)


def gradients(evidence: Evidence) -> Finding:
    """dB = s G Aᵀ and dA = s Bᵀ G, with G the gradient of the merged weight."""
    lora, x = layer()
    W = (lora.base.weight + lora.change()).detach().requires_grad_()
    nn.functional.linear(x, W, lora.base.bias).square().sum().backward()
    lora(x).square().sum().backward()
    G, s = W.grad, lora.scale
    off = max(
        (lora.B.grad - s * G @ lora.A.T).abs().max() / lora.B.grad.abs().max(),
        (lora.A.grad - s * lora.B.T @ G).abs().max() / lora.A.grad.abs().max(),
    ).item()
    return Finding(decided(off < 1e-13), f"largest relative difference in float64: {off:.0e}")


def losses(alpha: float, times: float, rate_a: float, rate_b: float) -> Tensor:
    """50 steps of Adam (eps near 0) from A = `times` its start."""
    lora, x = layer()
    with torch.no_grad():
        lora.A.mul_(times), lora.B.zero_()
    lora.scale = alpha
    target = torch.randn(7, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    adam = torch.optim.Adam([dict(params=[lora.A], lr=rate_a), dict(params=[lora.B], lr=rate_b)], eps=1e-30)
    path = []
    for _ in range(50):
        adam.zero_grad()
        loss = (lora(x) - target).square().mean()
        loss.backward()
        adam.step()
        path.append(loss.detach())
    return torch.stack(path)


def trades_under_adam(evidence: Evidence) -> Finding:
    """Under Adam alpha, start and rates of A and B can be traded without any effect."""
    p, q = 3.0, 5.0
    plain, same = losses(2, 1, 1e-2, 1e-2), losses(2 / (p * q), p, p * 1e-2, q * 1e-2)
    other, moved = losses(2, p, 1e-2, 1e-2), (plain[0] - plain[-1]).item()
    off, control = ((path - plain).abs().max().item() for path in (same, other))
    told = f"the loss falls by {moved:.2f}; paths differ by {off:.0e}, with another start alone by {control:.0e}"
    return Finding(decided(off < 1e-9 * moved and control > 1e-3 * moved), told)


MERGING = {torch.float64: 9e-16, torch.float32: 3.6e-7, torch.float16: 4.1e-4, torch.bfloat16: 3.3e-3}


def merging(evidence: Evidence) -> Finding:
    """Merging is exact up to rounding, whose size is the dtype's."""
    found = {}
    for dtype in MERGING:
        errors = []
        for rank in (2, 4, 8):
            model = inject(tiny().to(dtype), {r".*\.(query|value)": partial(LoRA, rank=rank)})
            stirred(model)
            errors.append(merge_error(model, merge(model), texts()).relative)
        found[dtype] = median(errors)
    told = ", ".join(f"{str(dtype).removeprefix('torch.')} {error:.0e}" for dtype, error in found.items())
    right = all(expected / 10 < found[dtype] < 10 * expected for dtype, expected in MERGING.items())
    return Finding(decided(right), f"largest relative difference of a logit: {told}")


ALGEBRA = (
    Claim("certain", "LoRA §4.1 and others", no_op),
    Claim("certain", "LoRA §4.1", dead_adapter),
    Claim("certain", "chain rule", gradients),
    Claim("certain", "Schulman 2025", trades_under_adam),
    Claim("certain", "LoRA §4.1", merging),
)
