"""More low rank, and changes that are sparse after a transform."""

from contract import ONLY_MATRICES, Row, count

from peft_from_scratch.layers import weight_of
from peft_from_scratch.methods.lowrank import deft, delora, frod, glora, gralora, hira, miss, peanut, psoft
from peft_from_scratch.methods.lowrank.frod_basis import Basis
from peft_from_scratch.methods.transform import c3a, fourierft, waveft

ONLY_LINEAR = ONLY_MATRICES | {
    "Embedding": "cuts or shifts the features of an input, and a look-up has none",
    "Conv2d": "cuts or shifts the features of an input, and here they lie beside pixels",
    "Conv2d(groups)": "cuts or shifts the features of an input, and here they lie beside pixels",
}
CHANGES_BIAS = ONLY_LINEAR | {
    "Embedding": "an embedding has no bias, half of what the method changes",
    "Conv2d": "the paper and peft adapt linear layers",
    "Conv2d(groups)": "the paper and peft adapt linear layers",
}


def frod_alone(base, **settings):
    """A basis of one layer: what `shared` makes for a role with a single site."""
    return frod.FRoD(base, Basis([weight_of(base)], **settings))


ROWS = {
    "DeLoRA": Row(lambda b: delora.DeLoRA(b, rank=3), count("DeLoRA"), dict(rank=3), not_for=ONLY_MATRICES),
    "DeLoRA, zero start": Row(
        lambda b: delora.DeLoRA(b, rank=2, strength=4, dropout=0.3, start="zero"),
        count("DeLoRA"),
        dict(rank=2),
        not_for=ONLY_MATRICES,
        learning_rate=0.01,
    ),
    "GraLoRA": Row(
        lambda b: gralora.GraLoRA(b, rank=4, alpha=6),
        count("GraLoRA"),
        dict(rank=4, hybrid=0),
        not_for=ONLY_LINEAR,
    ),
    "GraLoRA, hybrid": Row(
        lambda b: gralora.GraLoRA(b, rank=8, alpha=6, blocks=4, hybrid=3, dropout=0.2),
        count("GraLoRA"),
        dict(rank=8, hybrid=3),
        not_for=ONLY_LINEAR,
    ),
    "GLoRA": Row(lambda b: glora.GLoRA(b, rank=3), count("GLoRA"), dict(rank=3), not_for=CHANGES_BIAS),
    "GLoRA, vectors": Row(
        lambda b: glora.GLoRA(b, AB="vector", C="vector", DE="vector"), "4 * d_out + d_in", not_for=CHANGES_BIAS
    ),
    "GLoRA, numbers": Row(lambda b: glora.GLoRA(b, AB="constant", C="none", DE="none"), "2", not_for=CHANGES_BIAS),
    "HiRA": Row(lambda b: hira.HiRA(b, rank=3), count("HiRA"), dict(rank=3), not_for=ONLY_MATRICES),
    "HiRA, dropout": Row(
        lambda b: hira.HiRA(b, rank=2, dropout=0.2), count("HiRA"), dict(rank=2), not_for=ONLY_MATRICES
    ),
    "MiSS": Row(lambda b: miss.MiSS(b, rank=4), count("MiSS"), dict(rank=4, mini=0), not_for=ONLY_LINEAR),
    "MiSS, padded": Row(
        lambda b: miss.MiSS(b, rank=5, dropout=0.2), count("MiSS"), dict(rank=5, mini=0), not_for=ONLY_LINEAR
    ),
    "MiSS, mini": Row(lambda b: miss.MiSS(b, rank=5, mini=4), count("MiSS"), dict(rank=5, mini=4), not_for=ONLY_LINEAR),
    "MiSS, bat": Row(
        lambda b: miss.MiSS(b, rank=4, bat=True),
        count("MiSS"),
        dict(rank=4, mini=0),
        not_for=ONLY_LINEAR,
        starts_as_base=1e-6,
    ),
    "PSOFT": Row(lambda b: psoft.PSOFT(b, rank=4), count("PSOFT"), dict(rank=4), not_for=ONLY_MATRICES),
    "PSOFT, strict": Row(
        lambda b: psoft.PSOFT(b, rank=5, relaxed=False, terms=5, dropout=0.2),
        "rank * (rank - 1) // 2",
        dict(rank=5),
        not_for=ONLY_MATRICES,
    ),
    "PEANuT": Row(lambda b: peanut.PEANuT(b, rank=6), count("PEANuT"), dict(rank=6, depth=0), not_for=ONLY_MATRICES),
    "PEANuT, deep": Row(
        lambda b: peanut.PEANuT(b, rank=4, depth=2, scale=0.5, activation="tanh"),
        count("PEANuT"),
        dict(rank=4, depth=2),
        not_for=ONLY_MATRICES,
    ),
    "DEFT": Row(lambda b: deft.DEFT(b, rank=3), count("DEFT"), dict(rank=3, remove_only=False), not_for=ONLY_MATRICES),
    "DEFT, qr": Row(
        lambda b: deft.DEFT(b, rank=3, alpha=6, projection="qr", dropout=0.2),
        count("DEFT"),
        dict(rank=3, remove_only=False),
        not_for=ONLY_MATRICES,
    ),
    "DEFT, remove only": Row(
        lambda b: deft.DEFT(b, rank=3, projection="qr", remove_only=True),
        count("DEFT"),
        dict(rank=3, remove_only=True),
        not_for=ONLY_MATRICES,
        starts_as_base=False,
    ),
    "FRoD": Row(frod_alone, count("FRoD"), dict(sparsity=0.01), not_for=ONLY_LINEAR, starts_as_base=1e-5),
    "FRoD, denser": Row(
        lambda b: frod_alone(b, sparsity=0.2),
        count("FRoD"),
        dict(sparsity=0.2),
        not_for=ONLY_LINEAR,
        starts_as_base=1e-5,
    ),
    "FourierFT": Row(
        lambda b: fourierft.FourierFT(b, n=20, alpha=4),
        count("FourierFT"),
        dict(n=20),
        not_for=ONLY_MATRICES,
        starts_as_base=False,
    ),
    "FourierFT, zero start": Row(
        lambda b: fourierft.FourierFT(b, n=30, alpha=9, seed=3, start="zero"),
        count("FourierFT"),
        dict(n=30),
        not_for=ONLY_MATRICES,
    ),
    "WaveFT": Row(lambda b: waveft.WaveFT(b, n=20, alpha=3), count("WaveFT"), dict(n=20), not_for=ONLY_MATRICES),
    "WaveFT, Daubechies": Row(
        lambda b: waveft.WaveFT(b, n=90, alpha=2, order=3, seed=5),
        count("WaveFT"),
        dict(n=90),
        not_for=ONLY_MATRICES,
    ),
    "WaveFT, no wavelet": Row(
        lambda b: waveft.WaveFT(b, n=20, alpha=2, order=0), count("WaveFT"), dict(n=20), not_for=ONLY_MATRICES
    ),
    "C3A": Row(lambda b: c3a.C3A(b, block=4), count("C3A"), dict(block=4), not_for=ONLY_LINEAR),
    "C3A, peft's way": Row(
        lambda b: c3a.C3A(b, block=2, start="xavier", divide=True),
        count("C3A"),
        dict(block=2),
        not_for=ONLY_LINEAR,
        starts_as_base=False,
    ),
}
