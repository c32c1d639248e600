"""The first methods."""

from contract import ONLY_MATRICES, Row

from peft_from_scratch import BitFit, LoRA, Replaced
from peft_from_scratch.methods.lowrank.lora import CARD as LORA
from peft_from_scratch.methods.selective.bitfit import CARD as BITFIT

ROWS = {
    "LoRA": Row(lambda base: LoRA(base, rank=3, alpha=5), LORA.count, dict(rank=3), not_for=ONLY_MATRICES),
    "LoRA, rsLoRA scale": Row(
        lambda base: LoRA(base, rank=2, alpha=5, rslora=True), LORA.count, dict(rank=2), not_for=ONLY_MATRICES
    ),
    "LoRA, dropout": Row(
        lambda base: LoRA(base, rank=3, alpha=5, dropout=0.3), LORA.count, dict(rank=3), not_for=ONLY_MATRICES
    ),
    "BitFit": Row(BitFit, BITFIT.count, not_for={"Embedding": "an embedding has no bias"}),
    "Replaced": Row(Replaced, "everything"),
}
