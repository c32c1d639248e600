"""Methods that train some of the weights that are there."""

import torch
from contract import ONLY_MATRICES, Row, count

from peft_from_scratch import Replaced
from peft_from_scratch.methods.selective.beft import BEFT
from peft_from_scratch.methods.selective.diff_pruning import DiffPruning
from peft_from_scratch.methods.selective.osf import OSF
from peft_from_scratch.methods.selective.shira import SHiRA, by_magnitude
from peft_from_scratch.methods.selective.sparse import Sparse
from peft_from_scratch.methods.selective.supertuning import SuperTuning
from peft_from_scratch.methods.selective.trainable_tokens import TrainableTokens

CONVS = ("Conv2d", "Conv2d(groups)")


def supertuning(**settings):
    numbers = dict(sparsity=settings["sparsity"], rank=settings.get("rank", 0))
    return Row(lambda base: SuperTuning(base, **settings), count("Super-tuning"), numbers, not_for=ONLY_MATRICES)


ROWS = {
    "Sparse (masks, FISH, LT-SFT)": Row(
        lambda base: Sparse(base, torch.tensor([11, 3, 0, 8, 7])), "positions", dict(positions=5)
    ),
    "SHiRA": Row(lambda base: SHiRA(base, 2), count("SHiRA"), dict(rank=2), not_for=ONLY_MATRICES),
    "SHiRA, largest weights": Row(
        lambda base: SHiRA(base, 1, choose=by_magnitude), count("SHiRA"), dict(rank=1), not_for=ONLY_MATRICES
    ),
    "Super-tuning": supertuning(sparsity=0.7),
    "Super-tuning, smallest": supertuning(sparsity=0.8, smallest=True),
    "Super-tuning, Supra": supertuning(sparsity=0.9, rank=2, alpha=3),
    "Diff pruning": Row(
        DiffPruning, count("Diff pruning"), dict(grouped=False), not_for={"LayerNorm": "its weight is no matrix"}
    ),
    "Diff pruning, grouped": Row(
        lambda base: DiffPruning(base, grouped=True),
        count("Diff pruning"),
        dict(grouped=True),
        not_for={"LayerNorm": "its weight is no matrix"},
    ),  # fmt: skip
    "OSF": Row(OSF, count("OSF"), dict(keep=4), not_for=ONLY_MATRICES),
    "OSF, little protected": Row(lambda base: OSF(base, keep=1), count("OSF"), dict(keep=1), not_for=ONLY_MATRICES),
    "LN-tuning": Row(
        Replaced, count("LN-tuning"), not_for={k: "no norm" for k in ("Linear", "Conv1D", "Embedding", *CONVS)}
    ),
    "BEFT": Row(BEFT, count("BEFT"), not_for={"Embedding": "an embedding has no bias"}),
    "Trainable tokens": Row(
        lambda base: TrainableTokens(base, [7, 1, 4]),
        count("Trainable tokens"),
        dict(tokens=3),
        not_for={k: "no table of tokens" for k in ("Linear", "Conv1D", *CONVS, "LayerNorm")},
    ),
    "Trainable tokens, head": Row(
        lambda base: TrainableTokens(base, [7, 1, 4]),
        "tokens * d_in",
        dict(tokens=3),
        not_for={k: "no output head" for k in ("Embedding", "Conv1D", *CONVS, "LayerNorm")},
    ),
}
