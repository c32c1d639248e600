"""LoRA's starts and variants."""

import torch
from contract import ONLY_MATRICES, Row, count

from peft_from_scratch import LoRA
from peft_from_scratch.layers import weight_of
from peft_from_scratch.methods.lowrank import alora, bdlora, dora, kasa, monteclora, qalora, velora
from peft_from_scratch.methods.lowrank.starts import corda, eva, gaussian, lora_ga, mica, olora, orthogonal, pissa

FEATURES = ONLY_MATRICES | {
    "Embedding": "it looks at the features of an input vector, and an embedding's input is a token",
    "Conv2d": "it groups the features of an input vector, and a patch has none that belong together",
    "Conv2d(groups)": "as Conv2d",
}
TOKENS = ONLY_MATRICES | {"Conv2d": "a convolution sees no sequence of tokens", "Conv2d(groups)": "as Conv2d"}
LINEAR = ONLY_MATRICES | {
    "Embedding": "the start looks at the inputs of linear layers",
    "Conv2d": "the start looks at the inputs of linear layers",
    "Conv2d(groups)": "as Conv2d",
}


def covariance(base):
    x = torch.randn(50, weight_of(base).shape[1], generator=torch.Generator().manual_seed(5))
    return (x.T @ x).to(torch.promote_types(base.weight.dtype, torch.float32))


def gradient(base):
    g = torch.randn(weight_of(base).shape, generator=torch.Generator().manual_seed(6))
    return g.to(torch.promote_types(base.weight.dtype, torch.float32))


def started(make_start, **settings):
    """LoRA of rank 2 and alpha 5 with the start that `make_start(base)` gives."""
    return lambda base: LoRA(base, rank=2, alpha=5, start=make_start(base), **settings)


def row(make_start, not_for=ONLY_MATRICES, **more):
    return Row(started(make_start), count("LoRA"), dict(rank=2), not_for=not_for, **more)


def called():
    """An invocation that the contract's two rows have found."""
    invocation = alora.Invocation([7, 8])
    invocation.starts, invocation.length = torch.tensor([1, 3]), 5
    return invocation


def observed(base):
    """VeLoRA that has met its first batch: until then its v is not set."""
    layer = velora.VeLoRA(base, rank=3, alpha=5, groups=4)
    layer.observe(torch.randn(6, weight_of(base).shape[1]).to(layer.v))
    return layer


ROWS = {
    "LoRA, bias": Row(
        lambda base: LoRA(base, rank=3, alpha=5, bias=True),
        count("LoRA") + " + d_out",
        dict(rank=3),
        not_for=ONLY_MATRICES | {"Embedding": "an embedding has no bias to merge it into"},
    ),
    "LoRA, Gaussian start": row(lambda base: gaussian.gaussian),
    "PiSSA": row(lambda base: pissa.pissa),
    "PiSSA, fast": row(lambda base: pissa.fast_pissa(4)),
    "OLoRA": row(lambda base: olora.olora),
    "LoRA, orthogonal start": row(lambda base: orthogonal.orthogonal, starts_as_base=1e-6),
    "MiCA": Row(lambda base: mica.MiCA(base, rank=3, alpha=5), count("MiCA"), dict(rank=3), not_for=ONLY_MATRICES),
    "CorDA, ipm": row(lambda base: corda.corda({base: covariance(base)}, "ipm"), LINEAR),
    "CorDA, kpm": row(lambda base: corda.corda({base: covariance(base)}, "kpm"), LINEAR),
    "EVA": row(lambda base: eva.along(torch.linalg.qr(covariance(base))[0][:2]), LINEAR),
    "LoRA-GA": row(lambda base: lora_ga.lora_ga({base: gradient(base)}), LINEAR),
    "DoRA": Row(lambda base: dora.DoRA(base, rank=3, alpha=5), count("DoRA"), dict(rank=3), not_for=ONLY_MATRICES),
    "DoRA, dropout": Row(
        lambda base: dora.DoRA(base, rank=3, alpha=5, dropout=0.3),
        count("DoRA"),
        dict(rank=3),
        not_for=ONLY_MATRICES,
    ),
    "DoRA, PiSSA start": Row(
        lambda base: dora.DoRA(base, rank=2, alpha=5, start=pissa.pissa),
        count("DoRA"),
        dict(rank=2),
        not_for=ONLY_MATRICES,
    ),
    "aLoRA": Row(
        lambda base: alora.ALoRA(base, called(), rank=3, alpha=5),
        count("aLoRA"),
        dict(rank=3),
        merges=False,
        not_for=TOKENS,
    ),
    "QA-LoRA": Row(
        lambda base: qalora.QALoRA(base, rank=3, alpha=5, group=4),
        count("QA-LoRA"),
        dict(rank=3, group=4),
        not_for=FEATURES,
    ),
    "QA-LoRA, peft's factor": Row(
        lambda base: qalora.QALoRA(base, rank=3, alpha=5, group=2, dropout=0.2, like_peft=True),
        count("QA-LoRA"),
        dict(rank=3, group=2),
        not_for=FEATURES,
    ),
    "BD-LoRA, B": Row(
        lambda base: bdlora.BDLoRA(base, rank=4, alpha=5, blocks=2, diagonal="B"),
        count("BD-LoRA"),
        dict(rank=4, blocks=2, diagonal="B"),
        not_for=FEATURES,
    ),
    "BD-LoRA, A": Row(
        lambda base: bdlora.BDLoRA(base, rank=4, alpha=5, blocks=4, diagonal="A"),
        count("BD-LoRA"),
        dict(rank=4, blocks=4, diagonal="A"),
        not_for=FEATURES,
    ),
    "VeLoRA": Row(observed, count("VeLoRA"), dict(rank=3), not_for=FEATURES),
    "VeLoRA, random direction": Row(
        lambda base: velora.VeLoRA(base, rank=3, alpha=5, groups=5, update="never", times=0.5),
        count("VeLoRA"),
        dict(rank=3),
        not_for=FEATURES,
    ),
    "MonteCLoRA": Row(
        lambda base: monteclora.MonteCLoRA(base, rank=3, alpha=5, samples=4, noise=1e-2),
        count("MonteCLoRA"),
        dict(rank=3, samples=4),
        not_for=ONLY_MATRICES,
        in_training_only=("p", "q"),
    ),
    "KaSA": Row(
        lambda base: kasa.KaSA(base, rank=3, alpha=5),
        count("KaSA"),
        dict(rank=3),
        starts_as_base=False,
        not_for=ONLY_MATRICES,
    ),
}
