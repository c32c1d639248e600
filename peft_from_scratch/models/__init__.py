"""Base models: where they come from, checked by hash, loaded as plain transformers models."""

from .loading import NAMES, load

__all__ = ["NAMES", "load"]
