"""Mixtures of low-rank changes. Arrow trains nothing and X-LoRA's gate needs a model: see test_mixtures.py."""

import torch
from contract import INPUTS, ONLY_MATRICES, Row, count

from peft_from_scratch.methods.mixture.experts import Expert
from peft_from_scratch.methods.mixture.gate import Gate
from peft_from_scratch.methods.mixture.lily import Lily
from peft_from_scratch.methods.mixture.mtl_lora import MTLLoRA
from peft_from_scratch.methods.mixture.poly import Poly
from peft_from_scratch.methods.mixture.xlora import XLoRA


def with_ids(adapter, *ids):
    """What `with task_ids(model, ids):` does, for the length of a test."""
    adapter.ids = torch.tensor(ids)
    return adapter


def xlora(base):
    """One site of X-LoRA with its gate open, and experts that train."""
    from peft_from_scratch.layers import weight_of

    d_out, d_in = weight_of(base).shape
    g = torch.Generator().manual_seed(5)
    ranks, tokens = (2, 3), INPUTS["Linear"](g).shape[:2]
    experts = [Expert(torch.randn(r, d_in, generator=g), torch.randn(d_out, r, generator=g), 0.5) for r in ranks]
    return XLoRA(base, experts, Gate(torch.rand(*tokens, 1, 2, generator=g)), train_experts=True)


NO_CONV = {
    "Conv2d": "rows or tokens with weights of their own",
    "Conv2d(groups)": "rows or tokens with weights of their own",
}
TASKS = ONLY_MATRICES | NO_CONV
POLY_NOT = TASKS | {"Embedding": "whole matrices are mixed, a look-up reads single columns"}
POLY_NUMBERS = dict(rank=3, n_tasks=3, n_skills=2, n_splits=1)
MTL_NUMBERS = dict(rank=3, n_tasks=3, n_up=2)

ROWS = {
    "Lily": Row(
        lambda base: Lily(base, rank=3, n_experts=2),
        count("Lily"),
        dict(rank=3, n_experts=2),
        merges=False,
        not_for=ONLY_MATRICES,
    ),
    "Lily, 3 experts, scale 2": Row(
        lambda base: Lily(base, rank=2, n_experts=3, scale=2),
        count("Lily"),
        dict(rank=2, n_experts=3),
        merges=False,
        not_for=ONLY_MATRICES,
    ),
    "Poly": Row(
        lambda base: with_ids(Poly(base, 3, rank=3, n_skills=2), 2, 0),
        count("Poly"),
        POLY_NUMBERS,
        merges=False,
        not_for=POLY_NOT,
    ),
    "Poly, 2 splits (MHR), one task": Row(
        lambda base: with_ids(Poly(base, 3, rank=3, n_skills=2, n_splits=2), 1),
        count("Poly"),
        POLY_NUMBERS | dict(n_splits=2),
        not_for=POLY_NOT,
    ),
    "MTL-LoRA": Row(
        lambda base: with_ids(MTLLoRA(base, 3, rank=3, alpha=5, n_up=2), 2, 0),
        count("MTL-LoRA"),
        MTL_NUMBERS,
        merges=False,
        not_for=TASKS,
    ),
    "MTL-LoRA, full, one task": Row(
        lambda base: with_ids(MTLLoRA(base, 3, rank=3, alpha=5, n_up=2, tau=0.5, diagonal=False), 1),
        "rank * d_in + n_up * rank * d_out + n_tasks * (rank ** 2 + n_up)",
        MTL_NUMBERS,
        not_for=TASKS,
    ),
    "X-LoRA, one site, trained experts": Row(
        xlora, "5 * (d_in + d_out)", merges=False, starts_as_base=False, not_for=TASKS
    ),
}
