"""What the starts that look at data need: a pass over the plain model that shows them its inputs or gradients.

Nothing stays behind: hooks, train mode and requires_grad are as before when a function returns or raises.
"""

import copy
from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ....layers import is_linear, refuse_4bit, weight_of
from ...parts import Sites, layers_at
from .temporary import evaluating, hooked, only_these_train

Batch = dict[str, Tensor] | Tensor


def attended(batch: Batch) -> Bool[Tensor, "batch length"] | None:
    """The tokens that count: not padding, and labelled where labels are per token (-100 is ignored)."""
    if not isinstance(batch, dict) or "attention_mask" not in batch:
        return None
    mask, labels = batch["attention_mask"].bool(), batch.get("labels")
    return mask & (labels != -100) if labels is not None and labels.shape == mask.shape else mask


def each_input(
    model: nn.Module,
    sites: Sites,
    batches: Iterable[Batch],
    see: Callable[[nn.Module, Float[Tensor, "tokens d_in"]], None],
    keep: Callable[[Batch], Tensor | None] = lambda batch: None,
) -> None:
    """Call `see(layer, X)` with the inputs of each linear layer at `sites`, batch by batch, in eval mode.

    `keep(batch)` may return a mask of the tokens that count; it is used where it fits the layer's input.
    """
    mask: Tensor | None = None

    def hook(layer: nn.Module, inputs: tuple) -> None:
        x = inputs[0].detach()
        x = x[mask] if mask is not None and mask.shape == x.shape[:-1] else x.flatten(0, -2)
        see(layer, x.to(torch.promote_types(x.dtype, torch.float32)))

    with torch.no_grad(), hooked(linear_at(model, sites), hook), evaluating(model):
        for batch in some(batches):
            mask = keep(batch)
            run(model, batch)


def gradients(
    model: nn.Module, sites: Sites, batches: Iterable[Batch], loss: Callable[[object], Tensor] = lambda out: out.loss
) -> dict[nn.Module, Float[Tensor, "d_out d_in"]]:
    """The mean gradient of each linear layer's W over the batches, in eval mode, of `loss(output)`."""
    layers = linear_at(model, sites)
    for layer in layers:
        refuse_4bit(layer, "A gradient of W")
    weights = [layer.weight for layer in layers]
    mean: list[Tensor | int] = [0] * len(layers)
    with torch.enable_grad(), evaluating(model), only_these_train(model, weights):
        for n, batch in enumerate(some(batches), 1):
            found = torch.autograd.grad(loss(run(model, batch)), weights, materialize_grads=True)
            mean = [m + (g - m) / n for m, g in zip(mean, found, strict=True)]
    return {layer: as_matrix(layer, g) for layer, g in zip(layers, mean, strict=True)}


def some(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches; ValueError where there are none."""
    batch = None
    for batch in batches:
        yield batch
    if batch is None:
        raise ValueError("there are no batches to look at: give a list of them (an iterator can only be used once)")


def linear_at(model: nn.Module, sites: Sites) -> list[nn.Module]:
    """The layers at `sites`; ValueError where one is not a Linear or Conv1D."""
    layers = layers_at(model, sites)
    for layer in layers:
        if not is_linear(layer):
            raise ValueError(
                f"this start looks at inputs of linear layers: leave {type(layer).__name__} out of the sites"
            )
    return layers


def as_matrix(layer: nn.Module, stored: Tensor) -> Float[Tensor, "d_out d_in"]:
    """A tensor that is stored like the layer's weight (its gradient), as a (d_out, d_in) matrix."""
    like = copy.deepcopy(layer)
    like.weight = nn.Parameter(stored, requires_grad=False)
    return weight_of(like).detach()


def run(model: nn.Module, batch: Batch) -> object:
    """The model's output for one batch, a dict of named inputs or one tensor."""
    return model(**batch) if isinstance(batch, dict) else model(batch)
