"""What all tests share: single-threaded torch, offline libraries, tiny models, and assets that may be missing."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from jaxtyping import install_import_hook

# Every annotation of the package is checked while the tests run. torch.compile cannot trace through the checker, so the
# tests marked `compiled` are run on their own with PFS_SHAPES=0.
if os.environ.get("PFS_SHAPES", "1") == "1":
    install_import_hook("peft_from_scratch", "typecheck.shapes")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def asset():
    """`asset("minilm")`: its verified folder. Skips where it cannot be had, unless PFS_REQUIRE_ASSETS=1."""
    from peft_from_scratch.fetch import AssetError, fetch

    def get(name):
        try:
            return fetch(name, quiet=True)
        except AssetError as error:
            if os.environ.get("PFS_REQUIRE_ASSETS") == "1":
                raise
            pytest.skip(f"{name} cannot be had here: {error}")

    return get
