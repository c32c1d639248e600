"""What lesson 03's checks choose from: a host of twelve blocks whose names contain each other."""

import torch
from torch import Tensor, nn

from .tools import expect

STACK = "trunk.layer"
HEAD = ("classifier",)
ABOVE = ("trunk.pooler", "classifier")  # what stands above the blocks
L = 12  # so that layer 1 has layers 10 and 11 beside it


class Gain(nn.Module):
    """An RMS norm: a vector of gains and no bias. It is no nn.LayerNorm."""

    def __init__(self, d: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.weight


class Block(nn.Module):
    """`relative_attention_bias` is T5's, a table and no bias; `ln_1` GPT-2's; `norm_gate` a layer named like a norm."""

    def __init__(self):
        super().__init__()
        self.relative_attention_bias = nn.Embedding(3, 2)
        self.query, self.up, self.down = nn.Linear(4, 5), nn.Linear(4, 6, bias=False), nn.Linear(6, 4)
        self.ln_1, self.norm_gate, self.input_layernorm = nn.LayerNorm(4), nn.Linear(4, 4, bias=False), Gain(4)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.query(self.ln_1(x)).sum(-1, keepdim=True) + self.relative_attention_bias.weight.sum()
        return x + self.down(self.up(self.norm_gate(self.input_layernorm(x))).tanh())


class Host(nn.Module):
    """Token ids (..., n) -> logits (..., 3)."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.ModuleDict({
            "embed": nn.Embedding(9, 4), "embed_norm": nn.LayerNorm(4),
            "layer": nn.ModuleList([Block() for _ in range(L)]), "pooler": nn.Linear(4, 4),
        })  # fmt: skip
        self.pre_classifier, self.classifier = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.trunk["embed_norm"](self.trunk["embed"](ids))
        for block in self.trunk["layer"]:
            x = block(x)
        return self.classifier(self.pre_classifier(self.trunk["pooler"](x.mean(-2))))


def names_of(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def inside(model: nn.Module, *modules: str) -> set[str]:
    """The names of all parameters of these modules."""
    return {name for name in names_of(model) if name.startswith(tuple(f"{module}." for module in modules))}


def training(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def chosen_by(answer, *arguments) -> set[str]:
    """What trains after answer(a fresh host, *arguments); it must give the host back."""
    model = Host()
    got = answer(model, *arguments)
    expect(got is not None, "None came back: return the model (is a `return` missing?).")
    expect(got is model, f"return the model itself, with its flags set; {type(got).__name__} came back.")
    return training(model)


def is_chosen(got: set[str], want: set[str], faults: dict[str, set[str]], otherwise: str) -> None:
    """Pass if the right names train; else the advice of the known fault that trains these, or the first odd name."""
    if got == want:
        return
    said = next((advice for advice, wrong in faults.items() if got == wrong), None)
    extra, lost = sorted(got - want), sorted(want - got)
    odd = f"{extra[0]} trains and should not" if extra else f"{lost[0] if lost else ''} does not train and should"
    expect(False, said or f"{odd}. {otherwise}")


def vectors(model: nn.Module) -> list[str]:
    """The modules whose weight is a vector: the norms, whatever they are called."""
    return [name for name, m in model.named_modules()
            if isinstance(getattr(m, "weight", None), nn.Parameter) and m.weight.dim() == 1]  # fmt: skip
