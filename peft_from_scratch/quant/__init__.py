"""Quantisation: fewer bits for weights that do not train.

codes: which numbers 4 or 8 bits stand for     absmax: whole numbers and a scale     blocks: 4 bits a weight, two a byte
double: constants quantised too                linear: the layer                     replace: 4-bit layers in a model
bnb_format: reading bitsandbytes' checkpoints  paged: optimiser states that wait on the CPU
"""

from .absmax import absmax_dequantize, absmax_quantize
from .bnb_format import bitsandbytes_state, load_bitsandbytes
from .linear import Linear4bit
from .paged import Paged
from .replace import merge_4bit, quantize_, to_4bit
from .stored import Stored, restore, rounded, store

__all__ = [
    "Linear4bit",
    "Paged",
    "Stored",
    "absmax_dequantize",
    "absmax_quantize",
    "bitsandbytes_state",
    "load_bitsandbytes",
    "merge_4bit",
    "quantize_",
    "restore",
    "rounded",
    "store",
    "to_4bit",
]
