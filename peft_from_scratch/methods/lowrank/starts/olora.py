"""OLoRA: start LoRA on an orthonormal basis of the weight.  Büyükakyüz 2024, arXiv:2406.01775, section 3.

    W = Q R,    B = Q_r,    A = R_r        Q_r: (d_out, r) orthonormal columns,  R_r: (r, d_in)

One QR decomposition, far cheaper than PiSSA's SVD. s Q_r R_r is taken off, so the layer starts as it was, by buffers of
the adapter: the base is not changed. Trains and merges as LoRA.
Hugging Face peft 0.21.2 decomposes a GPT-2 Conv1D as it is stored, transposed, and cannot run it; here W is W.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft:
init_lora_weights='olora'.
"""

import torch
from torch import nn

from ....layers import weight_of
from ..lora import Start
from .spectrum import enough


def olora(base: nn.Module, rank: int, scale: float) -> Start:
    """The first r columns of Q and rows of R. ValueError for a rank above the smaller side of W."""
    Q, R = torch.linalg.qr(enough(weight_of(base), rank))
    return Start(R[:rank].clone(), Q[:, :rank].clone(), subtract=True)
