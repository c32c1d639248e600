"""Claims that arithmetic decides, on shapes without numbers: what trains, what is computed, what is held in memory."""

import torch
from torch import nn

from ...adapt import trained
from ...measure import count, saved_bytes, static_bytes, step_flops
from ...measure.meta import as_on
from ...measure.shapes import config_of, random_model
from ...training.running import Batch
from ..contestants import CONTESTANTS
from .claim import Claim, Finding, decided
from .evidence import Evidence

D, L, FF = 384, 6, 1536  # MiniLM
LINEAR = 4 * 2 * D + 2 * (D + FF)  # both sides of a layer's six matrices
WEIGHTS, BIASES, NORMS = 4 * D * D + 2 * D * FF, 4 * D + FF + D, 2 * 2 * D
COUNTS = {  # the papers' formulas; the head of 770, which all train, is left out
    "LoRA": 2 * L * 8 * 2 * D,
    "LoRA all-linear": L * 8 * LINEAR,
    "DoRA": 2 * L * (8 * 2 * D + D),
    "AdaLoRA": 2 * L * (12 * 2 * D + 12),
    "LoHa": 2 * L * 2 * 8 * 2 * D,
    "OFT": 2 * L * (D // 32) * 32 * 31 // 2,
    "VeRA": 2 * L * (D + 256),
    "FourierFT": 2 * L * 1000,
    "(IA)³": L * (2 * D + FF),
    "LN-tuning": (2 * L + 1) * 2 * D,
    "BitFit": D + L * (BIASES + NORMS // 2) + D,
    "prompt": 20 * D,
    "top layer": WEIGHTS + BIASES + NORMS + D * D + D,  # and the pooler
    "head only": 0,
}
# As measured with peft 0.21.2 at 16 x 64; DoRA and LoHa, whose arithmetic here is another, are not among them.
FLOPS = {
    "LoRA": 0.6680, "LoRA all-linear": 0.6923, "AdaLoRA": 0.6714, "OFT": 0.6844, "VeRA": 0.7995, "FourierFT": 0.8145,
    "(IA)³": 0.6614, "LN-tuning": 0.6757, "BitFit": 0.6757, "prompt": 0.8979, "top layer": 0.4311, "head only": 0.3333,
}  # fmt: skip


def shape(name: str) -> nn.Module:
    """A contestant on MiniLM's shape, without numbers."""
    with torch.device("meta"):
        return CONTESTANTS[name].adapt(random_model(config_of("minilm", "eager"), "classify"))


def step(rows: int, length: int = 64) -> Batch:
    with torch.device("meta"):
        ids = torch.zeros(rows, length, dtype=torch.long)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0]}


def counts(evidence: Evidence) -> Finding:
    """Each method trains exactly as many numbers as its paper's formula says."""
    found = {name: count(shape(name)).trained - 770 for name in COUNTS}
    wrong = [f"{name} {found[name]:,} (formula {n:,})" for name, n in COUNTS.items() if found[name] != n]
    told = ", ".join(f"{name} {n:,}" for name, n in found.items())
    return Finding(decided(not wrong), f"differ: {'; '.join(wrong)}" if wrong else told)


def flops(evidence: Evidence) -> Finding:
    """FLOPs of a step relative to full fine-tuning are a property of the method."""
    with as_on("cpu"):
        whole = step_flops(shape("full"), step(2))
        found = {name: step_flops(shape(name), step(2)) / whole for name in FLOPS}
    told = ", ".join(f"{name} {ratio:.4f}" for name, ratio in found.items())
    return Finding(decided(all(abs(found[n] - FLOPS[n]) < 5e-4 for n in FLOPS)), told)


def two_thirds(evidence: Evidence) -> Finding:
    """Compute falls to about 2/3, not with the number of trained parameters."""
    with as_on("cpu"):
        whole, ratio = step_flops(shape("full"), step(2)), lambda name: step_flops(shape(name), step(2)) / whole
        lora, vera = ratio("LoRA"), ratio("VeRA")
    lora_share, vera_share = (count(shape(name)).trained / 22_713_986 for name in ("LoRA", "VeRA"))
    told = f"LoRA trains {lora_share:.2%} and computes {lora:.1%}; VeRA trains {vera_share:.2%} and computes {vera:.1%}"
    return Finding(decided(0.6 < lora < 0.7 and vera_share < lora_share and vera > lora), told)


def static_memory(evidence: Evidence) -> Finding:
    """Weights and Adam's state take 4 P + 12 T bytes, so at least a quarter stays."""
    models = {name: shape(name) for name in ("full", "LoRA", "LoRA all-linear", "BitFit")}
    bytes_ = {name: static_bytes(model).total for name, model in models.items()}
    right = all(
        # one step counter of 4 bytes a trained tensor comes on top
        abs(bytes_[name] - sum(t.nbytes for t in [*model.parameters(), *model.buffers()]) - 12 * count(model).trained)
        <= 4 * len(trained(model))
        for name, model in models.items()
    )
    shares = {name: b / bytes_["full"] for name, b in bytes_.items()}
    told = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    return Finding(decided(right and all(share > 0.25 for share in shares.values())), f"relative to full: {told}")


def memory_for_backward(evidence: Evidence) -> Finding:
    """What is saved for backward hardly falls when every linear layer is adapted."""
    with as_on("cpu"):
        found = {name: saved_bytes(shape(name), step(32)) for name in ("full", "LoRA", "LoRA all-linear", "prompt")}
    shares = {name: b / found["full"] for name, b in found.items()}
    told = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    right = abs(shares["LoRA"] - 0.730) < 0.005 and abs(shares["LoRA all-linear"] - 0.985) < 0.005
    return Finding(decided(right), f"bytes saved for backward at 32 x 64, relative to full: {told}")


COUNTED = (
    Claim("certain", "the papers", counts),
    Claim("certain", "2 N a pass", flops),
    Claim("certain", "4 N of 6 N", two_thirds),
    Claim("certain", "fp32 Adam", static_memory),
    Claim("certain", "counted at 32 x 64", memory_for_backward),
)
