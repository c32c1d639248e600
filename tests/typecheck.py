"""The checker of annotations and shapes: beartype, where an int will do for a float (PEP 484)."""

from beartype import BeartypeConf, beartype

shapes = beartype(conf=BeartypeConf(is_pep484_tower=True))
