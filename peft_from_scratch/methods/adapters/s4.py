"""S4: a design space of methods, and the point in it that won.  Chen et al. 2023, arXiv:2301.01821, sections 3 and 4.

Four choices: how the blocks are grouped, how the numbers are shared out, which groups train, and by which methods.

    pattern     sizes of the groups of blocks, in order         S4: spindle, small at both ends
    budget      numbers a block                                 S4: the same for each; 0.5 % of the model in all
    strategies  for each group letters, "" leaves it frozen     S4: AL, AP, APB, PBL

A: adapter at the block's end (pfeiffer.py), L: LoRA on query and value, B: biases, P: prefix (layer_prefix.py). A
block's budget, less its biases, is cut evenly between A, L and P, each as large as its part allows. An encoder and a
decoder have groups each; an encoder beside a decoder (T5) keeps no cache: there P adds nothing and takes no part.

    model = inject(model, s4(model))

Kind: hybrid. On: blocks of BERT, GPT-2, Llama, T5 (places.py); count of its adapters. Trains: 2 * size * d_out + size +
d_out. Merges: no.
"""

import re
from collections.abc import Callable, Iterator

from torch import nn

from ...adapter import plain
from ...adapter import sites as named
from ...layers import is_linear, weight_of
from ...targets import Targets
from ..lowrank.lora import LoRA
from ..prompts.cache import layout_of
from ..prompts.prefix_tuning import caching_body
from ..selective.bitfit import BitFit
from .bottleneck import Bottleneck, width
from .layer_prefix import attentions, layer_prefix
from .pfeiffer import at_end
from .places import Block, Places, blocks

S4 = ("AL", "AP", "APB", "PBL")
PATTERNS: dict[str, Callable[[int, int], int]] = {  # the weight of group i of n
    "uniform": lambda i, n: 1,
    "increasing": lambda i, n: i + 1,
    "decreasing": lambda i, n: n - i,
    "spindle": lambda i, n: min(i + 1, n - i),
    "bottleneck": lambda i, n: max(i + 1, n - i),
}


def group_sizes(n_blocks: int, n_groups: int, pattern: str = "spindle") -> list[int]:
    """How many blocks each group has, at least one: what is over goes where the weights leave the most undone."""
    if pattern not in PATTERNS:
        raise ValueError(f"unknown pattern {pattern!r}: one of {', '.join(PATTERNS)}")
    if not 1 <= n_groups <= n_blocks:
        raise ValueError(
            f"{n_blocks} blocks cannot make {n_groups} groups: give as many strategies as groups, or fewer"
        )
    weights = [PATTERNS[pattern](i, n_groups) for i in range(n_groups)]
    sizes = [1] * n_groups
    for _ in range(n_blocks - n_groups):
        owed = [w / sum(weights) * n_blocks - size for w, size in zip(weights, sizes, strict=True)]
        sizes[owed.index(max(owed))] += 1
    return sizes


def s4(
    model: nn.Module,
    strategies: tuple[str, ...] = S4,
    pattern: str = "spindle",
    budget: int | None = None,
    places: Places | None = None,
) -> Targets:
    """What `inject(model, ...)` needs. `budget`: numbers a block."""
    if wrong := set("".join(strategies)) - set("ALBP"):
        raise ValueError(f"unknown strategies {sorted(wrong)}: A (adapter), L (LoRA), B (biases) or P (prefix)")
    found = blocks(model, places)
    budget = sum(p.numel() for p in model.parameters()) // (200 * len(found)) if budget is None else budget
    cached = set(attentions(model, found).values() if "P" in "".join(strategies) else ())
    lengths = []
    chosen: Targets = {}
    for block, letters in grouped(found, strategies, pattern):
        letters = letters if block in cached else letters.replace("P", "")
        targets, n_tokens = of_block(model, block, letters, budget)
        chosen |= targets
        lengths += [n_tokens] if block in cached else []
    return chosen | (layer_prefix(model, lengths, places=places) if any(lengths) else {})


def grouped(found: list[Block], strategies: tuple[str, ...], pattern: str) -> Iterator[tuple[Block, str]]:
    """Each block with the letters of its group, stack by stack."""
    for entry in dict.fromkeys(b.places for b in found):
        stack = [b for b in found if b.places is entry]
        sizes = group_sizes(len(stack), len(strategies), pattern)
        letters = [word for word, size in zip(strategies, sizes, strict=True) for _ in range(size)]
        yield from zip(stack, letters, strict=True)


def of_block(model: nn.Module, block: Block, letters: str, budget: int) -> tuple[Targets, int]:
    """The adapters of one block and its prefix's tokens; each of A, L, P as large as its share allows, at least 1."""
    linear = {n: plain(m) for n, m in named(model) if n.startswith(f"{block.name}.") and is_linear(plain(m))}
    biased = {n for n, m in linear.items() if m.bias is not None and "B" in letters}
    share = (budget - sum(len(linear[n].bias) for n in biased)) // max(1, len(set(letters) & set("ALP")))
    chosen: Targets = {}
    if "A" in letters:
        d = width(block.norm)
        size = max(1, (share - d) // (2 * d + 1))
        chosen |= at_end([block], lambda layer: Bottleneck(layer, size))
    if "L" in letters:
        sites = [block.site(part) for part in block.places.query_value]
        rank = max(1, share // sum(sum(weight_of(linear[n]).shape) for n in sites))
        for n in sites:  # LoRA has a bias of its own: two adapters cannot stand at one site
            chosen[re.escape(n)] = lambda base, n=n: LoRA(base, rank, alpha=rank, bias=n in biased)
    n_tokens = max(1, share // tokens_width(model)) if "P" in letters else 0
    return {re.escape(n): BitFit for n in biased} | chosen, n_tokens


def tokens_width(model: nn.Module) -> int:
    """The numbers of one token's key and value in one layer."""
    layout = layout_of(caching_body(model))
    return layout.width // layout.layers
