"""What lesson 02's checks wrap: a host of two blocks with names that contain each other, and two adapters."""

import copy

import torch
from torch import nn

from .tools import distance, expect


def cell(head, body):
    """A function of a cell: its head, and its body without indentation."""
    return f"def {head}:\n    " + body.strip("\n").replace("\n", "\n    ")


def some(names, most=1):
    """The first names as text; for messages, which are made also where they are not needed."""
    return ", ".join(names[:most])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.query_norm, self.value = nn.Linear(6, 7), nn.LayerNorm(7), nn.Linear(6, 7)
        self.output = nn.ModuleDict({"dense": nn.Linear(7, 6)})

    def forward(self, x):
        return self.output["dense"](self.query_norm(self.query(x)).tanh() * self.value(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm(6)
        self.output = nn.ModuleDict({"dense": nn.Linear(6, 6)})

    def forward(self, x):
        return self.output["dense"](self.norm(x + self.attention(x)))


class Host(nn.Module):
    """(..., 5) -> (..., 3)."""

    def __init__(self):
        super().__init__()
        self.embed, self.block = nn.Linear(5, 6), nn.ModuleList([Block(), Block()])
        self.pre_classifier, self.classifier = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.embed(x)
        for block in self.block:
            x = block(x)
        return self.classifier(self.pre_classifier(x).relu())


class Patch(nn.Module):
    """`base` frozen, plus a rank-2 correction that starts at zero."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(2, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + 0.5 * (x @ self.A.T) @ self.B.T

    def merged(self):
        layer = copy.deepcopy(self.base)
        layer.weight.data += 0.5 * self.B.data @ self.A.data
        return layer


class Head(nn.Module):
    """`base` frozen, and a copy of it that trains and answers."""

    def __init__(self, base):
        super().__init__()
        self.base, self.trained = base.requires_grad_(False), copy.deepcopy(base).requires_grad_(True)

    def forward(self, x):
        return self.trained(x)

    def merged(self):
        return copy.deepcopy(self.trained).requires_grad_(False)


ATTENTION = r"block\.\d+\.attention\.(query|value)"
PLACES = [f"block.{i}.attention.{part}" for i in range(2) for part in ("query", "value")]


def wrapped():
    """A host with patches at four places and a trained head, none of them at its start any more."""
    host = Host().requires_grad_(False).eval()
    for name in PLACES:
        parent, _, child = name.rpartition(".")
        setattr(host.get_submodule(parent), child, Patch(host.get_submodule(name)))
    host.classifier = Head(host.classifier)
    with torch.no_grad():
        for p in training(host).values():
            p.copy_(torch.randn_like(p))
    return host


def training(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def snapshot(model):
    """Copies of everything in the model, by name."""
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def same(before, after):
    """Same names, and bit-equal values."""
    return before.keys() == after.keys() and all(distance(t, after[name]) == 0 for name, t in before.items())


def is_model(got, advice):
    expect(isinstance(got, nn.Module), advice)
