"""The first methods."""

from contract import ONLY_MATRICES, Row, count

from peft_from_scratch import BitFit, LoRA, Replaced

ROWS = {
    "LoRA": Row(lambda base: LoRA(base, rank=3, alpha=5), count("LoRA"), dict(rank=3), not_for=ONLY_MATRICES),
    "LoRA, rsLoRA scale": Row(
        lambda base: LoRA(base, rank=2, alpha=5, rslora=True), count("LoRA"), dict(rank=2), not_for=ONLY_MATRICES
    ),
    "LoRA, dropout": Row(
        lambda base: LoRA(base, rank=3, alpha=5, dropout=0.3), count("LoRA"), dict(rank=3), not_for=ONLY_MATRICES
    ),
    "BitFit": Row(BitFit, count("BitFit"), not_for={"Embedding": "an embedding has no bias"}),
    "Replaced": Row(Replaced, "everything"),
}
