"""Soft prompts: trained vectors that stand before the text, at the input or in the cache of every layer."""
