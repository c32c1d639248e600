"""Gradient checkpointing by hand: the same gradients bit for bit, the bytes that it promises, and torch's trap."""

import copy
from functools import partial

import pytest
import torch
from hosts import batch, host, stir
from torch import nn
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from peft_from_scratch import LoRA, full, inject, trained
from peft_from_scratch.measure.memory import saved_bytes
from peft_from_scratch.methods.representation.reft import LoReFT
from peft_from_scratch.optim.checkpointing import checkpoint, checkpoint_blocks
from peft_from_scratch.optim.lomo import lomo
from peft_from_scratch.train import fit

WIDTH, ROWS, LENGTH, LAYERS = 12, 3, 5, 4
X = ROWS * LENGTH * WIDTH * 4  # bytes of a block's input


class Block(nn.Module):
    """Kept inside, in units of a block's input: x, 4 before GELU, 4 after it, and dropout's noise (on a CPU, float)."""

    def __init__(self):
        super().__init__()
        self.up, self.down, self.drop = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH), nn.Dropout(0.3)

    def forward(self, x):
        return x + self.drop(self.down(nn.functional.gelu(self.up(x))))


class Stack(nn.Module):
    """Blocks one after the other, each called by `call`; its loss keeps one more tensor of a block's size."""

    def __init__(self, call, layers=LAYERS):
        super().__init__()
        self.call, self.blocks = call, nn.ModuleList(Block() for _ in range(layers))

    def forward(self, x, labels=None):
        for block in self.blocks:
            x = self.call(block, x)
        return type("Output", (), {"loss": x.square().sum()})()


def plainly(block, x):
    return block(x)


def stacks(*calls):
    first = Stack(calls[0])
    made = [first, *(Stack(call) for call in calls[1:])]
    for other in made[1:]:
        other.load_state_dict(first.state_dict())
    return made


def gradients(model, given, seed=5, amp=False):
    """Of all that trains, and the random state afterwards."""
    torch.manual_seed(seed)
    model.train()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, amp):
        loss = model(**given).loss
    loss.backward()
    return {k: p.grad for k, p in trained(model).items()}, torch.rand(3)


def same(a, b):
    (mine, after), (theirs, then) = a, b
    assert mine.keys() == theirs.keys() and torch.equal(after, then)
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("wants", [False, True])
@pytest.mark.parametrize("amp", [False, True])
def test_gradients_are_bit_equal_with_dropout(wants, amp):
    plain, mine = stacks(plainly, checkpoint)
    x, other = (torch.randn(ROWS, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    x.requires_grad_(wants), other.requires_grad_(wants)
    same(gradients(plain, {"x": x}, amp=amp), gradients(mine, {"x": other}, amp=amp))
    assert (x.grad is None and other.grad is None) if not wants else torch.equal(x.grad, other.grad)


def test_without_the_random_state_dropout_would_drop_others(monkeypatch):
    """The test above sees what it is there to see."""
    from peft_from_scratch.optim import checkpointing

    plain, mine = stacks(plainly, checkpoint)
    x = torch.randn(ROWS, LENGTH, WIDTH)
    monkeypatch.setattr(checkpointing.torch, "set_rng_state", lambda state: None)
    a, b = gradients(plain, {"x": x})[0], gradients(mine, {"x": x})[0]
    assert not torch.equal(a["blocks.0.up.weight"], b["blocks.0.up.weight"])


def test_saved_bytes_are_one_input_a_block():
    """10 x a block plainly, x checkpointed, and the loss's square keeps x in both."""
    plain, mine, torchs = stacks(plainly, checkpoint, partial(torch_checkpoint, use_reentrant=True))
    given = {"x": torch.randn(ROWS, LENGTH, WIDTH), "labels": torch.zeros(ROWS)}
    assert saved_bytes(plain, given) == LAYERS * 10 * X + X
    assert saved_bytes(mine, given) == LAYERS * X + X
    wanted = given | {"x": given["x"].requires_grad_(True)}  # theirs makes a graph only then
    assert saved_bytes(torchs, wanted) == saved_bytes(mine, wanted) == LAYERS * X + X


def test_in_the_backward_pass_one_block_is_there_at_a_time():
    (mine,) = stacks(checkpoint)
    mine.train()
    loss = mine(torch.randn(ROWS, LENGTH, WIDTH)).loss
    alive, most = [0], [0]
    weights = {p.data_ptr() for p in mine.parameters()}

    class Kept:
        def __init__(self, t):
            self.t, self.bytes = t, 0 if t.data_ptr() in weights else t.nbytes
            alive[0] += self.bytes
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= self.bytes

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.t):
        loss.backward()
    assert most[0] == 10 * X


def checkpointed(model, kind):
    """Blocks of a transformers model by `checkpoint` or by torch's, without what enables input gradients."""
    checkpoint_blocks(model)
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module._gradient_checkpointing_func = kind
    return model


def lora(name):
    model = inject(host(name), {"all-linear": lambda m: LoRA(m, 2, dropout=0.2)})
    stir(trained(model).values())
    return model


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_real_hosts(name, method):
    """Dropout in base and adapters; T5's decoder is given the encoder's output, which wants a gradient."""
    plain = lora(name) if method == "lora" else full(host(name))
    plain = plain.double() if name == "t5" else plain
    mine = checkpoint_blocks(copy.deepcopy(plain))
    (a, after), (b, then) = gradients(plain, batch(name)), gradients(mine, batch(name))
    assert torch.equal(after, then) and a.keys() == b.keys()
    for key in a:  # T5 sums in another order what its position bias and the encoder's output get from several blocks
        assert torch.equal(a[key], b[key]) or name == "t5" and torch.allclose(a[key], b[key], rtol=1e-10), key
    assert saved_bytes(mine, batch(name)) < 0.6 * saved_bytes(plain, batch(name))


def test_as_many_bytes_as_torch_keeps():
    given = batch("llama")
    mine, torchs = (
        checkpointed(full(host("llama")), k) for k in (checkpoint, partial(torch_checkpoint, use_reentrant=True))
    )
    assert saved_bytes(mine, given) == saved_bytes(torchs, given)


def test_adapters_around_blocks():
    def model():
        made = inject(host("llama"), {r"model\.layers\.\d+": lambda b: LoReFT(b, 2, 32)})
        stir(trained(made).values())
        return made

    same(gradients(model(), batch("llama")), gradients(checkpoint_blocks(model()), batch("llama")))


def test_the_reentrant_trap_and_its_two_remedies():
    """torch's re-entrant kind behind frozen embeddings: no adapter in a block gets a gradient, and nothing fails."""
    reentrant = partial(torch_checkpoint, use_reentrant=True)
    given = batch("bert")

    def model():
        sites = {r".*\.(query|value)": lambda m: LoRA(m, 2), "classifier": lambda m: LoRA(m, 2)}
        return inject(host("bert"), sites)

    expected, _ = gradients(model(), given)
    trap = checkpointed(model(), reentrant)
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
        found, _ = gradients(trap, given)
    assert all((found[k] is None) == ("classifier" not in k) for k in found)
    assert len(found) == 10 and expected.keys() == found.keys()

    asked = checkpointed(model(), reentrant)
    asked.enable_input_require_grads()
    for cured in (
        asked,
        checkpointed(model(), partial(torch_checkpoint, use_reentrant=False)),
        checkpoint_blocks(model()),
    ):
        found, _ = gradients(cured, given)
        assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_one_more_forward_pass():
    """Of a full step's three thirds four; of an adapter's two halves, with the base frozen, three."""
    from torch.utils.flop_counter import FlopCounterMode

    def flops(call, frozen):
        (model,) = stacks(call)
        model.requires_grad_(not frozen)
        if frozen:  # a few numbers train, at the first place
            model.blocks[0].up.bias.requires_grad_(True)
        x = torch.randn(ROWS, LENGTH, WIDTH, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            model(x).loss.backward()
        return counter.get_total_flops()

    assert flops(checkpoint, False) * 3 == flops(plainly, False) * 4
    assert flops(checkpoint, True) * 2 == flops(plainly, True) * 3


def test_under_fit_with_updates_in_the_backward_pass():
    """Two backward passes (clipping) and weights that change as soon as their block is done."""

    def go(prepare, clip):
        model = prepare(full(host("llama")))
        fit(model, [batch("llama")] * 3, lr=0.1, optimizer=lomo, clip=clip, progress=False)
        return list(model.parameters())

    for p, q in zip(go(lambda m: m, None), go(checkpoint_blocks, None), strict=True):
        assert torch.equal(p, q)
    for p, q in zip(go(lambda m: m, 0.5), go(checkpoint_blocks, 0.5), strict=True):  # the norm sums in another order
        assert torch.allclose(p, q, rtol=1e-6, atol=1e-7)


def test_what_it_refuses():
    block, x = Block(), torch.randn(2, 3, WIDTH)
    with pytest.raises(ValueError, match="needs a module.*got function"):
        checkpoint(lambda x: block(x), x)
    with pytest.raises(ValueError, match="positional argument of its own"):
        checkpoint(block, x=x.requires_grad_(True))
    with pytest.raises(ValueError, match="positional argument of its own"):
        checkpoint(partial(block, x=x))
    with pytest.raises(ValueError, match="no module of Linear has gradient checkpointing"):
        checkpoint_blocks(nn.Linear(2, 2))


def test_without_a_gradient_it_only_runs():
    block, x = Block().eval(), torch.randn(2, 3, WIDTH)
    with torch.no_grad():
        assert torch.equal(checkpoint(block, x), block(x))
    y = checkpoint(block.requires_grad_(False), x)
    assert not y.requires_grad and torch.equal(y, block(x))
