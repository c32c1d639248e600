"""What an adapter keeps in memory is what it counts."""

import pytest
from test_contract import TABLE, made

SHARED = {"index_A", "index_B"}  # Uni-LoRA's: the layers share one list of indices, and use all of it


@pytest.mark.parametrize("method", TABLE)
def test_no_tensor_of_an_adapter_keeps_something_larger_alive(method):
    """A row of a decomposition that is a view holds the whole of it, as large as the layer's weight."""
    model, *_ = made(method, "Linear")
    own = {k: t for k, t in model.layer.state_dict(keep_vars=True).items() if not k.startswith("base.")}
    own |= {k: t for k, t in model.layer.named_buffers() if not k.startswith("base.")}
    larger = {k for k, t in own.items() if t.untyped_storage().nbytes() > t.numel() * t.element_size()}
    assert larger <= SHARED
