"""Tasks: where they come from, licence, splits, collation."""

from .collate import batches, encode, encode_answers, encode_blocks
from .loading import NAMES, load_data

__all__ = ["NAMES", "batches", "encode", "encode_answers", "encode_blocks", "load_data"]
