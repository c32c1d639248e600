"""Rotations, and the stretching of activations."""

from contract import ONLY_MATRICES, Row, count

from peft_from_scratch.methods.adapters.ia3 import IA3
from peft_from_scratch.methods.rotation.boft import BOFT
from peft_from_scratch.methods.rotation.hra import HRA
from peft_from_scratch.methods.rotation.oft import OFT
from peft_from_scratch.methods.rotation.road import RoAd

TOKEN = {"Embedding": "its input is a token's number"}
OFT_EMBEDDING = {k: "see the rows above" for k in ("Linear", "Conv1D", "Conv2d", "Conv2d(groups)")}


def oft(size, **settings):
    numbers = dict(block_size=size, shared=settings.get("shared", False))
    elsewhere = ONLY_MATRICES if numbers["shared"] else ONLY_MATRICES | {"Embedding": "counted with d_out: see below"}
    return Row(lambda base: OFT(base, size, **settings), count("OFT"), numbers, not_for=elsewhere)


def road(variant, size, **elsewhere):
    return Row(
        lambda base: RoAd(base, variant, size),
        count("RoAd"),
        dict(variant=variant),
        not_for=ONLY_MATRICES | elsewhere,
    )


ROWS = {
    "OFT": oft(3),
    "OFT, Neumann series": oft(2, terms=5),
    "OFT, one shared block": oft(2, shared=True),
    "COFT": oft(6, epsilon=0.5),
    "OFT, embedding": Row(
        lambda base: OFT(base, 4),
        "d_out * (block_size - 1) / 2",
        dict(block_size=4),
        not_for=ONLY_MATRICES | OFT_EMBEDDING,
    ),
    "BOFT": Row(
        lambda base: BOFT(base, 2, factors=2),
        count("BOFT"),
        dict(block_size=2, factors=2),
        not_for=ONLY_MATRICES | TOKEN | {"Conv2d(groups)": "18 inputs are no pairs of blocks of 2"},
    ),
    "BOFT, one factor": Row(
        lambda base: BOFT(base, 3, dropout=0.5),
        count("BOFT"),
        dict(block_size=3, factors=1),
        not_for=ONLY_MATRICES | TOKEN,
    ),
    "HRA": Row(
        lambda base: HRA(base, 4),
        count("HRA"),
        dict(rank=4),
        starts_as_base=1e-6,
        not_for=ONLY_MATRICES | TOKEN,
    ),
    "HRA, odd": Row(
        lambda base: HRA(base, 3), count("HRA"), dict(rank=3), starts_as_base=False, not_for=ONLY_MATRICES | TOKEN
    ),
    "HRA, Gram-Schmidt": Row(
        lambda base: HRA(base, 3, orthogonal=True),
        count("HRA"),
        dict(rank=3),
        starts_as_base=False,
        not_for=ONLY_MATRICES | TOKEN,
    ),
    "RoAd_1": road(1, 4),
    "RoAd_2": road(2, 8, **{"Conv2d(groups)": "a group of 8 outputs would mix two groups of 4"}),
    "RoAd_4": road(4, 2),
    "(IA)³, keys and values": Row(IA3, count("(IA)³"), dict(feed_forward=False), not_for=ONLY_MATRICES),
    "(IA)³, feed-forward": Row(
        lambda base: IA3(base, feed_forward=True),
        "channels",
        not_for=ONLY_MATRICES
        | TOKEN
        | {k: "its count is of channels: see below" for k in ("Conv2d", "Conv2d(groups)")},
        numbers=dict(channels=12),
    ),
    "(IA)³, feed-forward, channels": Row(
        lambda base: IA3(base, feed_forward=True),
        "channels",
        not_for=ONLY_MATRICES | TOKEN | {k: "see above" for k in ("Linear", "Conv1D")},
        numbers=dict(channels=4),
    ),
}
