"""What the interventions of pyreft compute, recorded: this script writes reft.safetensors beside it.

Needs packages that this project does not install (their own dependencies are not needed):
    pip install torch==2.13.0 transformers==5.23.0
    pip install --no-deps pyreft==0.1.0 pyvene==0.1.8

Of each intervention: R, W and b, an output, and the gradients of W, b and the input; of LoReFT also R after one step
of AdamW with its default weight decay, which is zero. The versions are in the file's header.
"""

from importlib.metadata import version
from pathlib import Path

import torch
from pyreft.interventions import DireftIntervention, LoreftIntervention, NodireftIntervention, NoreftIntervention
from safetensors.torch import save_file

KINDS = {
    "loreft": LoreftIntervention,
    "noreft": NoreftIntervention,
    "direft": DireftIntervention,
    "nodireft": NodireftIntervention,
}
WIDTH, RANK = 12, 3


def rows(intervention):
    """R as rows of (rank, width)."""
    rotated = hasattr(intervention, "rotate_layer")
    return intervention.rotate_layer.weight.T if rotated else intervention.proj_layer.weight


def record(kind):
    torch.manual_seed(0)
    made = KINDS[kind](
        embed_dim=WIDTH, low_rank_dimension=RANK, dtype=torch.float32, dropout=0.0, act_fn=None, add_bias=False
    )
    made.train()
    x = torch.randn(2, 5, WIDTH, requires_grad=True)
    y = made(x)
    (y * torch.arange(WIDTH)).square().sum().backward()
    source = made.learned_source
    return {
        "x": x.detach(), "y": y.detach(),
        "R": rows(made).detach(), "W": source.weight.detach(), "b": source.bias.detach(),
        "grad_x": x.grad, "grad_W": source.weight.grad, "grad_b": source.bias.grad,
    }, made  # fmt: skip


def main():
    kept = {}
    for kind in KINDS:
        state, made = record(kind)
        kept |= {f"{kind}.{k}": t.clone().contiguous() for k, t in state.items()}
        if kind == "loreft":
            torch.optim.AdamW(made.parameters(), lr=1e-3).step()
            kept["loreft.R after a step"] = rows(made).detach().clone().contiguous()
    header = {name: version(name) for name in ("torch", "transformers", "pyreft", "pyvene")}
    path = Path(__file__).with_suffix(".safetensors")
    save_file(kept, path, header)
    path.chmod(0o644)
    print(header, kept["loreft.R after a step"].abs().max().item(), {k: tuple(t.shape) for k, t in kept.items()})


if __name__ == "__main__":
    main()
