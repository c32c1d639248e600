"""The names of all tensors of a checkpoint, and the copying of a state into them: all of it, or nothing."""

import torch
from torch import Tensor, nn

from .build import Made
from .kind import Link, Links
from .match import named


def expected(made: Made, saving: bool = False) -> Links:
    """Every tensor by its name in the file."""
    kind = made.kind
    for site, a in made.adapters.items():
        if isinstance(a.base, nn.Conv2d) and not kind.conv2d:
            raise ValueError(
                f"{site}: a convolution with {kind.peft_type} cannot be read or written yet, only with LORA"
            )
    of_site, whole = (kind.saved, kind.whole_saved) if saving else (None, None)
    of_site, whole = of_site or kind.tensors, whole or kind.whole
    root = kind.root
    links = {f"{root}{site}.{key}": link for site, a in made.adapters.items() for key, link in of_site(a).items()}
    links |= {f"{kind.whole_root}{key}": link for key, link in whole(made.adapters).items()}
    for site, a in made.whole.items():
        links |= {f"{root}{site}.{key}": Link(t) for key, t in a.trained.state_dict(keep_vars=True).items()}
    middle = "" if kind.peft_type == "TRAINABLE_TOKENS" else "token_adapter."
    for site, (a, order) in made.tokens.items():
        links[f"{root}{site}.{middle}trainable_tokens_delta"] = _rows(a.rows.weight, order)
    for key, p in made.biases.items():
        site = key.removesuffix(".bias")
        links[f"{root}{site}.base_layer.bias" if site in made.adapters else f"{root}{key}"] = Link(p)
    return links


def _rows(weight: Tensor, order: list[int]) -> Link:
    """Trained rows: ours by ascending token, the file's in the order of its config."""
    place = torch.tensor(order).argsort()
    return Link(weight, lambda v: v[place.argsort()], lambda v: v[place])


def normal(model: nn.Module, made: Made, links: Links, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state without what repeats the base model, and in the current form where a type has several."""
    state = {k: t for k, t in state.items() if ".original_module." not in k and ".modules_to_save." not in k}
    state = made.kind.normal(made.config, made.adapters, state)
    if made.tokens:  # peft may repeat the rows for each module that is tied to the embedding
        state = {k: t for k, t in state.items() if k in links or not _same_rows(links, k, t, state)}
    modules, root = named(model), made.kind.root
    return {k: t for k, t in state.items() if k in links or not _is_of_base(modules, k, k.removeprefix(root), t)}


def _same_rows(links: Links, key: str, t: Tensor, state: dict[str, Tensor]) -> bool:
    own = [state[k] for k in links if k.endswith("trainable_tokens_delta") and k in state]
    return key.endswith("trainable_tokens_delta") and any(t.shape == o.shape and torch.equal(t, o) for o in own)


def _is_of_base(modules: dict[str, nn.Module], key: str, name: str, t: Tensor) -> bool:
    """Whether it is a weight of the base, as peft adds of embeddings and heads; ValueError if it is another one."""
    site, _, leaf = name.replace(".base_layer.", ".").rpartition(".")
    base = getattr(modules.get(site), leaf, None)
    if not isinstance(base, nn.Parameter):
        return False
    if t.shape != base.shape or not torch.equal(t.to(base), base):
        raise ValueError(
            f"{key} is another one than the model's: resize it, or load the base model that the adapter was trained on"
        )
    return True


def check(links: Links, state: dict[str, Tensor]) -> None:
    """ValueError for tensors that are missing, left over or of another shape."""
    missing, extra = sorted(links.keys() - state.keys()), sorted(state.keys() - links.keys())
    if missing or extra:
        parts = [(missing, "missing from the file"), (extra, "not in the model")]
        said = "; ".join(f"{what}: {', '.join(keys[:3])}" for keys, what in parts if keys)
        raise ValueError(
            f"the weights do not fit the config and this model ({len(missing)} missing, {len(extra)} extra). {said}"
        )
    for key, link in links.items():
        want = tuple(link.out(link.tensor.detach()).shape)
        if want != tuple(state[key].shape):
            raise ValueError(f"{key}: the file has shape {tuple(state[key].shape)}, the model needs {want}")


@torch.no_grad()
def fill(links: Links, made: Made, state: dict[str, Tensor]) -> None:
    """Copy a state that has been checked."""
    for key, link in links.items():
        link.tensor.copy_(link.back(state[key].to(link.tensor.device)))
    for adapter in made.adapters.values():
        made.kind.settle(adapter)
