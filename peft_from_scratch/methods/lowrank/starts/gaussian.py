"""LoRA, Gaussian start: the words of the paper.  Hu et al. 2021, arXiv:2106.09685, section 4.1.

    A ~ N(0, 1/r²),  B = 0        A: (r, d_in),  B: (d_out, r)

The released code draws a uniform A instead (lora.py). The standard deviation 1/r is Hugging Face peft's, since the
paper names none. B = 0: starts as the base. Trains and merges as LoRA.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft:
init_lora_weights='gaussian'.
"""

from torch import nn

from ....layers import new_weight, weight_of
from ..lora import Start, uniform


def gaussian(base: nn.Module, rank: int, scale: float) -> Start:
    """A ~ N(0, 1/r²), B = 0; an embedding, whose other matrix is the random one, starts as in `uniform`."""
    if isinstance(base, nn.Embedding):
        return uniform(base, rank, scale)
    d_out, d_in = weight_of(base).shape
    return Start(nn.init.normal_(new_weight(base, rank, d_in), std=1 / rank), new_weight(base, d_out, rank))
