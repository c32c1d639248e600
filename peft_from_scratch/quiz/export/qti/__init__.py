"""QTI 2.1: every question one item, all items one test, in the zip that learning systems import."""

from .package import to_qti

__all__ = ["to_qti"]
