"""The body of a model: what turns token ids into hidden states, under the names that models give it."""

import re

from torch import nn

from ...adapter import Adapter, plain, sites
from ...layers import new_weight


class Body(Adapter):
    """An adapter around a body, with what hosts read from it."""

    def get_input_embeddings(self) -> nn.Module:
        """The body's: hosts ask it for them."""
        return self.base.get_input_embeddings()

    @property
    def main_input_name(self) -> str:
        """The body's: `generate` asks an encoder for it."""
        return self.base.main_input_name


def body_of(model: nn.Module) -> nn.Module:
    """The plain module that turns token ids into hidden states; in an encoder-decoder model, its encoder."""
    root = plain(model)
    if encoder_decoder(root):
        return plain(root.get_encoder())
    body = plain(getattr(root, getattr(root, "base_model_prefix", "") or "no body", root))
    return plain(getattr(body, "decoder", body))  # OPT's is inside another


def name_of(model: nn.Module, module: nn.Module) -> str:
    """The plain name of one of the model's modules."""
    return next(site for site, m in sites(model) if plain(m) is plain(module))


def encoder_decoder(model: nn.Module) -> bool:
    """Has the model, or this part of one, an encoder of its own before the decoder?"""
    return bool(getattr(getattr(plain(model), "config", None), "is_encoder_decoder", False))


def only(name: str) -> str:
    """The pattern that matches just this name."""
    return re.escape(name)


def check_tokens(n_tokens: int) -> None:
    if n_tokens < 1:
        raise ValueError(f"n_tokens must be at least 1, not {n_tokens}")


def embeddings_of(body: nn.Module) -> nn.Module:
    """The body's plain table of token embeddings."""
    return plain(body.get_input_embeddings())


def new_vectors(body: nn.Module, n: int) -> nn.Parameter:
    """n vectors of zeros to train beside the body's token embeddings."""
    table = embeddings_of(body)
    return new_weight(table, n, table.weight.shape[1])
