"""LoRA's relatives: low-rank, Kronecker and Hadamard products, shared random matrices, shared vectors."""

import torch
from contract import ONLY_MATRICES, Row, count

from peft_from_scratch.methods.lowrank import (
    adalora,
    adamss,
    krona,
    loha,
    lokr,
    loraxs,
    pvera,
    randlora,
    said,
    tinylora,
    unilora,
    vblora,
    vera,
)

CLUSTERS = torch.tensor([0, 1, 0, 0, 1, 0, 1, 0])
CONVOLUTIONS = ("Conv2d", "Conv2d(groups)")
NO_CONVOLUTION = ONLY_MATRICES | dict.fromkeys(
    CONVOLUTIONS, "A is cut to a layer's inputs; a convolution's are patches"
)
VECTORS = ONLY_MATRICES | dict.fromkeys(CONVOLUTIONS + ("Embedding",), "the change multiplies vectors")
MULTIPLIES = ONLY_MATRICES | {"Embedding": "the change multiplies its input; an embedding looks it up"}


def alone(page, **settings):
    """The factory of a page whose adapters share something, for a model of one layer."""
    return lambda base: page.shared(base, "", **settings)(base)


ROWS = {
    "AdaLoRA": Row(
        lambda base: adalora.AdaLoRA(base, rank=3, alpha=5), count("AdaLoRA"), dict(rank=3), not_for=ONLY_MATRICES
    ),
    "AdaLoRA, dropout": Row(
        lambda base: adalora.AdaLoRA(base, rank=2, dropout=0.3), count("AdaLoRA"), dict(rank=2), not_for=ONLY_MATRICES
    ),
    "LoHa": Row(lambda base: loha.LoHa(base, rank=2, alpha=5), count("LoHa"), dict(rank=2), not_for=ONLY_MATRICES),
    "LoHa, r² above the width": Row(
        lambda base: loha.LoHa(base, rank=4, rank_dropout=0.2),
        count("LoHa"),
        dict(rank=4),
        not_for=ONLY_MATRICES,
    ),
    "LoHa, Tucker": Row(
        lambda base: loha.LoHa(base, rank=2, tucker=True),
        "2 * (rank * (d_out + (4 if d_in == 24 else 2)) + rank**2 * (6 if d_in == 24 else 9))",
        dict(rank=2),
        not_for=ONLY_MATRICES | dict.fromkeys(("Linear", "Conv1D", "Embedding"), "only a convolution has a kernel"),
    ),
    "LoKr": Row(
        lambda base: lokr.LoKr(base, rank=1, alpha=3, factor=2),
        count("LoKr"),
        dict(rank=1, factor=2),
        not_for=MULTIPLIES,
    ),
    "LoKr, both whole": Row(
        lambda base: lokr.LoKr(base, rank=8, factor=2, zero="W2", rank_dropout=0.2),
        "4 + d_out * d_in // 4",
        not_for=MULTIPLIES,
    ),
    "LoKr, both split": Row(
        lambda base: lokr.LoKr(base, rank=1, factor=4, decompose_both=True, rescale=True, rank_dropout=0.2),
        "4 + 4 + 2 + 3",
        not_for=MULTIPLIES | dict.fromkeys(CONVOLUTIONS, "four channels leave nothing to split"),
    ),
    "LoKr, Tucker": Row(
        lambda base: lokr.LoKr(base, rank=1, factor=2, tucker=True),
        "4 + 4 + (2 + 6 if d_in == 24 else 1 + 9)",
        not_for=MULTIPLIES | dict.fromkeys(("Linear", "Conv1D"), "only a convolution has a kernel"),
    ),
    "KronA": Row(lambda base: krona.KronA(base, (2, 3), scale=1.5), count("KronA"), dict(a1=2, a2=3), not_for=VECTORS),
    "KronA, squarest": Row(krona.KronA, count("KronA"), dict(a1=2, a2=3), not_for=VECTORS),
    "VeRA": Row(alone(vera, rank=5), count("VeRA"), dict(rank=5), not_for=NO_CONVOLUTION),
    "VeRA, saved projection": Row(
        alone(vera, rank=3, seed=4, saved=True, d_initial=0.3, dropout=0.2),
        count("VeRA"),
        dict(rank=3),
        not_for=NO_CONVOLUTION,
    ),
    "PVeRA": Row(alone(pvera, rank=5), count("PVeRA"), dict(rank=5), not_for=NO_CONVOLUTION),
    "RandLoRA": Row(alone(randlora, rank=3, alpha=2), count("RandLoRA"), dict(rank=3), not_for=NO_CONVOLUTION),
    "RandLoRA, peft's order": Row(
        alone(randlora, rank=4, alpha=2, sparsity=3.0, dropout=0.2, peft_order=True),
        count("RandLoRA"),
        dict(rank=4),
        not_for=NO_CONVOLUTION,
    ),
    "VB-LoRA": Row(
        alone(vblora, vectors=5, length=2, rank=3),
        count("VB-LoRA"),
        dict(vectors=5, length=2, rank=3),
        starts_as_base=False,
        not_for=ONLY_MATRICES,
    ),
    "Uni-LoRA": Row(
        alone(unilora, rank=2, length=16),
        count("Uni-LoRA"),
        dict(length=16),
        starts_as_base=False,
        not_for=ONLY_MATRICES,
    ),
    "LoRA-XS": Row(
        lambda base: loraxs.LoRAXS(base, rank=3),
        count("LoRA-XS"),
        dict(rank=3),
        starts_as_base=1e-3,
        not_for=ONLY_MATRICES,
    ),
    "TinyLoRA": Row(alone(tinylora, numbers=6), count("TinyLoRA"), dict(numbers=6), not_for=ONLY_MATRICES),
    "TinyLoRA, split": Row(
        alone(tinylora, rank=3, numbers=2, split=True), count("TinyLoRA"), dict(numbers=2), not_for=ONLY_MATRICES
    ),
    "SAID": Row(alone(said, numbers=20), count("SAID"), dict(numbers=20), not_for=ONLY_MATRICES),
    "Intrinsic dimension": Row(
        alone(said, numbers=20, layer_scales=False), "numbers", dict(numbers=20), not_for=ONLY_MATRICES
    ),
    "AdaMSS": Row(
        lambda base: adamss.AdaMSS(base, rank=6, subspaces=3),
        count("AdaMSS"),
        dict(rank=6, subspaces=3),
        not_for=VECTORS,
    ),
    "AdaMSS, rank 2": Row(
        lambda base: adamss.AdaMSS(base, rank=5, subspaces=2, subspace_rank=2, clusters=CLUSTERS),
        "2 * (5 + 5) + 2 * (5 + 3)",
        not_for=VECTORS,
    ),
}
