"""Changes of hidden states, and learned mixtures of LoRAs. Ladder side tuning needs a body: test_representation.py."""

import torch
from contract import Row, count

from peft_from_scratch import LoRA
from peft_from_scratch.combine.lora_soup import LoRASoup
from peft_from_scratch.layers import weight_of
from peft_from_scratch.methods.mixture.experts import Expert
from peft_from_scratch.methods.representation.direft import DiReFT
from peft_from_scratch.methods.representation.reft import LoReFT, NoReFT
from peft_from_scratch.methods.representation.side import SideTuning

CONV = "channels of a convolution are no hidden state of a token"
NOT = {"Conv2d": CONV, "Conv2d(groups)": CONV}


def some_positions(adapter):
    """What `with at(model, mask):` does, for the length of a test."""
    adapter.chosen = torch.tensor([[True, False, False, True, True], [False, True, True, False, False]])
    return adapter


def soup(base):
    d_out, d_in = weight_of(base).shape
    g = torch.Generator().manual_seed(5)
    return LoRASoup(
        base, [Expert(torch.randn(r, d_in, generator=g), torch.randn(d_out, r, generator=g), 0.3) for r in (2, 3)]
    )


def frozen_A(adapter):
    """What `freeze_A(model)` does to each LoRA."""
    adapter.A.requires_grad_(False)
    return adapter


ROWS = {
    "LoRA-FA": Row(
        lambda b: frozen_A(LoRA(b, rank=3, alpha=5)),
        count("LoRA-FA"),
        dict(rank=3),
        not_for={"LayerNorm": "a norm has no weight matrix", "Embedding": "A starts at zero there, and would stay so"},
    ),
    "LoReFT": Row(lambda b: LoReFT(b, rank=3), count("LoReFT"), dict(rank=3), merges=False, not_for=NOT),
    "LoReFT, random start": Row(
        lambda b: LoReFT(b, rank=2, random_start=True),
        count("LoReFT"),
        dict(rank=2),
        merges=False,
        starts_as_base=False,
        not_for=NOT,
    ),
    "LoReFT, some positions": Row(
        lambda b: some_positions(LoReFT(b, rank=2)), count("LoReFT"), dict(rank=2), merges=False, not_for=NOT
    ),
    "NoReFT": Row(lambda b: NoReFT(b, rank=3), count("NoReFT"), dict(rank=3), merges=False, not_for=NOT),
    "DiReFT": Row(lambda b: DiReFT(b, rank=3), count("DiReFT"), dict(rank=3), merges=False, not_for=NOT),
    "DiReFT, orthonormal": Row(
        lambda b: DiReFT(b, rank=3, orthonormal=True), count("DiReFT"), dict(rank=3), merges=False, not_for=NOT
    ),
    "Side-tuning": Row(SideTuning, count("Side-tuning"), merges=False),
    "LoRA soup": Row(
        soup,
        count("LoRA soup"),
        dict(n_experts=2),
        starts_as_base=False,
        not_for={"LayerNorm": "a norm has no weight matrix", **dict.fromkeys(NOT, "a gate for tokens")},
    ),
}
