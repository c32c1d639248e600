"""ReFT equals pyreft's interventions (recorded); side networks beside frozen bodies, and what they keep in memory.

Side-tuning and ladder side tuning have no library here. Two properties each from the papers: no gradient reaches the
base (its activations are not kept, measured), and the start is the base (ours: α, and U = 0); and they learn.
"""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from contract import count
from hosts import batch, host, stir
from peft_twin import peft, record
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint as torch_checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

from peft_from_scratch import (
    LoRA,
    adapter_state,
    adapters,
    freeze,
    full,
    inject,
    load_adapter,
    merge,
    remove,
    save_adapter,
    switch,
    trained,
)
from peft_from_scratch.measure.memory import saved_bytes
from peft_from_scratch.methods.maths import orthonormal_rows
from peft_from_scratch.methods.representation import lst
from peft_from_scratch.methods.representation.direft import DiReFT
from peft_from_scratch.methods.representation.lst import LST
from peft_from_scratch.methods.representation.positions import at, first_and_last
from peft_from_scratch.methods.representation.reft import LoReFT, NoReFT
from peft_from_scratch.methods.representation.shadow import ShadowBlock, ShadowBody, penalty, shadow
from peft_from_scratch.methods.representation.side import SideTuning

checkpoint = partial(torch_checkpoint, use_reentrant=False)
ORACLE = Path(__file__).parent / "oracles" / "reft.safetensors"
KINDS = {
    "loreft": LoReFT,
    "noreft": NoReFT,
    "direft": lambda *args, **kw: DiReFT(*args, orthonormal=True, **kw),
    "nodireft": DiReFT,
}
NAMES = {"loreft": "LoReFT", "noreft": "NoReFT", "nodireft": "DiReFT", "direft": "DiReFT"}
BLOCKS = {
    "bert": (r"bert\.encoder\.layer\.\d+", 24),
    "gpt2": (r"transformer\.h\.\d+", 24),
    "llama": (r"model\.layers\.\d+", 32),
    "t5": (r"(en|de)coder\.block\.\d+", 24),
}
names = pytest.mark.parametrize("name", BLOCKS)


class Same(nn.Module):
    """A block that changes nothing, with a weight to tell dtype and device."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, h):
        return h


@pytest.mark.parametrize("kind", KINDS)
def test_reft_is_pyreft_s(kind):
    """An orthonormal R is its own M. pyreft's DiReFT has one, the paper's (its Nodireft) does not."""
    kept = {k.split(".")[1]: t for k, t in load_file(ORACLE).items() if k.startswith(f"{kind}.")}
    made = KINDS[kind](Same(), rank=3, width=12)
    with torch.no_grad():
        made.M.copy_(kept["R"].T), made.W.copy_(kept["W"]), made.b.copy_(kept["b"])
    x = kept["x"].requires_grad_(True)
    y = made(x)
    (y * torch.arange(12)).square().sum().backward()
    apart = (y - kept["y"]).abs().max().item()
    slopes = {"grad_W": made.W.grad, "grad_b": made.b.grad, "grad_x": x.grad}
    slope = max(((g - kept[k]).abs().max() / kept[k].abs().max()).item() for k, g in slopes.items())
    assert apart <= 1e-5 and slope <= 1e-5, (apart, slope)
    assert (kept["y"] - kept["x"]).abs().max() > 0.1
    record(NAMES[kind], "pyreft 0.1.0", max(apart, slope))


def test_the_rotation_survives_weight_decay_and_pyreft_s_does_not():
    assert not load_file(ORACLE)["loreft.R after a step"].any()
    model = inject(nn.Sequential(nn.Linear(9, 12)), {"0": lambda b: LoReFT(b, rank=4)})
    optimizer = torch.optim.AdamW(trained(model).values(), lr=1e-2, weight_decay=0.1)
    x, target = torch.randn(40, 9), torch.randn(40, 12)
    start, first = model[0].R().detach().clone(), None
    for _ in range(100):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        first = first or loss.item()
        loss.backward()
        optimizer.step()
    R = model[0].R().detach()
    assert (R @ R.T - torch.eye(4)).abs().max() < 1e-5
    assert (R - start).abs().max() > 0.1 and loss.item() < 0.9 * first


def test_orthonormal_rows_do_not_see_the_scale_and_do_not_jump():
    M = torch.randn(7, 3)
    assert torch.allclose(orthonormal_rows(M), orthonormal_rows(1e-3 * M), atol=1e-6)
    M[0, 0] = 1e-6
    near = M.clone()
    near[0, 0] = -1e-6
    assert (orthonormal_rows(M) - orthonormal_rows(near)).abs().max() < 1e-4


def test_loreft_sets_the_coordinates_in_its_subspace():
    """R h' = W h + b, and what is orthogonal to R stays."""
    made = LoReFT(Same(), rank=3, width=12, random_start=True)
    h = torch.randn(5, 12)
    R, new = made.R(), made(h)
    assert torch.allclose(new @ R.T, h @ made.W.T + made.b, atol=1e-5)
    rest = torch.eye(12) - R.T @ R
    assert torch.allclose(new @ rest, h @ rest, atol=1e-5)


def reft(name, factory=LoReFT, **kw):
    pattern, width = BLOCKS[name]
    return inject(host(name), {pattern: lambda b: factory(b, 2, width, **kw)})


@names
@pytest.mark.parametrize("kind", ["loreft", "nodireft"])
def test_blocks_of_real_hosts(name, kind, tmp_path):
    base = freeze(host(name))(**batch(name)).logits  # T5 rounds otherwise where its weights want gradients
    model = reft(name, KINDS[kind])
    assert torch.equal(model(**batch(name)).logits, base), "the start is the base"
    width, blocks = BLOCKS[name][1], 4 if name == "t5" else 2
    assert sum(p.numel() for p in trained(model).values()) == blocks * (2 * 2 * width + 2)
    model.train()
    model(**batch(name)).loss.backward()
    model.eval()
    assert all(p.grad is not None for p in trained(model).values())
    stir(trained(model).values(), std=0.6)
    y = model(**batch(name)).logits
    assert (y - base).abs().max() > 1e-2
    again = load_adapter(reft(name, KINDS[kind]), save_adapter(model, tmp_path / "a.safetensors"))
    assert torch.equal(again(**batch(name)).logits, y)
    assert torch.equal(copy.deepcopy(model)(**batch(name)).logits, y)
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(model)
    assert torch.equal(remove(model)(**batch(name)).logits, base)


def test_two_named_sets_and_lora_inside():
    model = reft("llama")
    stir(trained(model).values())
    y = model(**batch("llama")).logits
    model = inject(model, {r".*\.q_proj": LoRA}, name="second")
    assert torch.equal(switch(model, "default")(**batch("llama")).logits, y)
    assert torch.equal(switch(model, None)(**batch("llama")).logits, host("llama")(**batch("llama")).logits)


def test_first_and_last_positions_with_padding_on_either_side():
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0]])
    chosen = first_and_last(mask, first=1, last=2).int().tolist()
    assert chosen == [[1, 0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0, 0]]
    with pytest.raises(ValueError, match="at least one in all"):
        first_and_last(mask, 0, 0)


def test_only_the_chosen_positions_change():
    model = inject(nn.Sequential(nn.Linear(6, 8)), {"0": lambda b: LoReFT(b, 2, random_start=True)})
    x = torch.randn(2, 4, 6)
    base, everywhere = model[0].base(x), model(x)
    chosen = torch.tensor([[True, False, False, True], [False, False, False, False]])
    with at(model, chosen):
        y = model(x)
    assert torch.equal(y[chosen], everywhere[chosen]) and torch.equal(y[~chosen], base[~chosen])
    assert torch.equal(model(x), everywhere), "after the block it is everywhere again"
    with at(model, chosen), pytest.raises(ValueError, match="2 rows do not fit"):
        model(torch.randn(3, 4, 6))
    with at(model, torch.ones(2, 6, dtype=torch.bool)), pytest.raises(ValueError, match="the batch's own mask"):
        model(x)
    with pytest.raises(ValueError, match="leave `at` out"), at(host("bert"), chosen):
        pass


@pytest.mark.parametrize(("name", "beams"), [("gpt2", 2), ("llama", 1), ("llama", 2)])
def test_generation_changes_the_prompt_alone(name, beams):
    """With a cache and without it the same text, which is not the base's, nor that of a change everywhere."""
    model = reft(name, random_start=True)
    stir(trained(model).values(), std=0.5)
    given = {k: batch(name)[k] for k in ("input_ids", "attention_mask")}
    kw = dict(max_new_tokens=6, do_sample=False, num_beams=beams, pad_token_id=0)
    with at(model, first_and_last(given["attention_mask"], 1, 1)):
        out = model.generate(**given, **kw)
        assert torch.equal(out, model.generate(**given, **kw, use_cache=False))
    assert not torch.equal(out, model.generate(**given, **kw))
    assert not torch.equal(out, host(name).generate(**given, **kw))


def test_gradient_checkpointing_of_blocks():
    model = reft("llama")
    stir(trained(model).values())
    model.train()
    model(**batch("llama")).loss.backward()
    wanted = {k: p.grad.clone() for k, p in trained(model).items()}
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model(**batch("llama")).loss.backward()
    assert all(torch.equal(p.grad, wanted[k]) for k, p in trained(model).items())


def test_exact_count_of_llama_7b():
    """Rank 8 on all 32 blocks, as in the paper's commonsense runs: 32 · (2 · 8 · 4096 + 8)."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())
        model = inject(model, {r"model\.layers\.\d+": lambda b: NoReFT(b, 8, 4096)})
    assert sum(p.numel() for p in trained(model).values()) == 32 * (2 * 8 * 4096 + 8) == 2_097_408


def test_bad_arguments():
    with pytest.raises(ValueError, match="rank must be 1 to the width 8"):
        LoReFT(nn.Linear(6, 8), 9)
    with pytest.raises(ValueError, match="give width="):
        LoReFT(Same(), 2)
    with pytest.raises(TypeError, match="leave Conv2d out"):
        LoReFT(nn.Conv2d(3, 4, 2), 2)
    with pytest.raises(ValueError, match="share between 0 and 1"):
        SideTuning(nn.Linear(2, 2), alpha=1.0)
    with pytest.raises(ValueError, match="they must be alike"):
        SideTuning(nn.Linear(2, 2), nn.Linear(2, 3))(torch.randn(1, 2))
    with pytest.raises(ValueError, match="reduction must divide the 3 attention heads"):
        LST(host("bert").bert, reduction=2)
    with pytest.raises(ValueError, match="no list of 2 blocks in Linear"):
        linear = nn.Linear(2, 2)
        linear.config = host("bert").config
        lst.blocks_of(linear)


def test_side_tuning_mixes_and_lets_no_gradient_through_the_base():
    base, side, x = nn.Linear(3, 4), nn.Linear(3, 4), torch.randn(5, 3, requires_grad=True)
    y = SideTuning(base, side, alpha=0.8)(x)
    assert torch.allclose(y, 0.8 * base(x) + 0.2 * side(x), atol=1e-6)
    y.sum().backward()
    assert torch.allclose(x.grad, 0.2 * side.weight.sum(0).expand(5, 3), atol=1e-6)


def test_side_tuning_of_a_body():
    """The whole body with a copy beside it; the pooler reads the mixture's own first part, the base's hidden states."""
    base = host("llama")(**batch("llama")).logits
    model = inject(host("llama"), {"model": lambda b: SideTuning(b, alpha=0.3)})
    assert torch.equal(model(**batch("llama")).logits, base)
    assert model.model.a.sigmoid().item() == pytest.approx(0.3)
    optimizer = torch.optim.Adam(trained(model).values(), lr=1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(**batch("llama")).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert torch.equal(remove(model)(**batch("llama")).logits, base)


LADDERS = {"bert": 3, "gpt2": 3, "llama": 2}
ladders = pytest.mark.parametrize("name", LADDERS)


def ladder(name, seed=7):
    model = host(name)
    torch.manual_seed(seed)
    return inject(model, {model.base_model_prefix: lambda body: LST(body, LADDERS[name])}).eval()


@ladders
def test_the_ladder_starts_as_the_base_learns_and_is_removed(name, tmp_path):
    base = host(name)(**batch(name)).logits
    model = ladder(name)
    assert torch.equal(model(**batch(name)).logits, base)
    frozen = {k: p.clone() for k, p in host(name).named_parameters()}
    optimizer = torch.optim.Adam(trained(model).values(), lr=2e-2)
    losses, before = [], adapter_state(model)
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(**batch(name)).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.02
    moved = {k for k, t in adapter_state(model).items() if not torch.equal(before[k], t)}
    assert moved == trained(model).keys()
    y = model(**batch(name)).logits
    again = load_adapter(ladder(name, seed=8), save_adapter(model, tmp_path / "a.safetensors"))
    assert torch.equal(again(**batch(name)).logits, y) and torch.equal(copy.deepcopy(model)(**batch(name)).logits, y)
    model = remove(model)
    assert all(torch.equal(p, frozen[k]) for k, p in model.named_parameters())
    assert torch.equal(model(**batch(name)).logits, base)


@ladders
def test_the_ladder_keeps_nothing_of_the_base_but_its_rungs(name):
    """Bytes kept for backward: those of the side network alone on the base's hidden states, and of the head."""
    model = ladder(name)
    body = getattr(model, model.base_model_prefix)
    given = batch(name)
    with torch.no_grad():
        ids = {k: given[k] for k in ("input_ids", "attention_mask")}
        taps = body.base(**ids, output_hidden_states=True).hidden_states

    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = body

        def forward(self, labels, **kw):
            g = body.climb(taps, {"attention_mask": given["attention_mask"]}) @ body.U.T
            return type("Out", (), {"loss": g.sum()})()

    class Head(nn.Module):
        """What follows the body, on an input that wants a gradient."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, **kw):
            y = taps[-1].clone().requires_grad_(True)
            pooler = getattr(body.base, "pooler", None)
            if pooler is not None:
                logits = self.model.classifier(self.model.dropout(pooler(y)))
                return type("Out", (), {"loss": self.loss(logits, kw)})()
            logits = self.model.lm_head(y)
            return type("Out", (), {"loss": self.model.loss_function(logits, kw["labels"], logits.shape[-1])})()

        def loss(self, logits, kw):
            return nn.functional.cross_entropy(logits, kw["labels"])

    ladder_bytes, alone, head = saved_bytes(model, given), saved_bytes(Alone(), given), saved_bytes(Head(), given)
    assert ladder_bytes == alone + head


def test_memory_of_a_deeper_body_against_lora_and_full_fine_tuning():
    """The claim of the paper's abstract: LST saves most of what training keeps; other methods little."""
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=8, intermediate_size=172,
        vocab_size=61, pad_token_id=0,
    )  # fmt: skip
    given = batch("llama", rows=4, length=24)

    def kept(adapt):
        torch.manual_seed(0)
        return saved_bytes(adapt(LlamaForCausalLM(config)), given)

    everything, lora = kept(full), kept(lambda m: inject(m, {"all-linear": lambda b: LoRA(b, 2)}))
    small = kept(lambda m: inject(m, {"model": lambda b: LST(b, 8)}))
    assert lora > 0.6 * everything and small < 0.4 * everything, (everything, lora, small)


def test_the_ladder_generates_without_a_cache_and_says_so():
    model = ladder("llama")
    stir(trained(model).values())
    ids = batch("llama")["input_ids"]
    kw = dict(max_new_tokens=4, do_sample=False, pad_token_id=0)
    out = model.generate(ids, **kw, use_cache=False)
    assert out.shape[1] == ids.shape[1] + 4
    with torch.no_grad():
        again = model(out[:, :-1]).logits[:, -1].argmax(-1)
    assert torch.equal(again, out[:, -1])
    with pytest.raises(ValueError, match="use_cache=False"):
        model.generate(ids, **kw)


@ladders
def test_the_ladder_in_bfloat16_and_under_gradient_checkpointing(name):
    model = host(name).bfloat16()
    base = model(**batch(name)).logits
    model = inject(model, {model.base_model_prefix: lambda body: LST(body, LADDERS[name])})
    assert torch.equal(model(**batch(name)).logits, base) and base.dtype == torch.bfloat16
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    stir(trained(model).values())
    model(**batch(name)).loss.backward()
    wanted = {k: p.grad.clone() for k, p in trained(model).items()}
    model.zero_grad()
    for module in model.modules():  # on, as gradient_checkpointing_enable does, but without dropout of train mode
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing, module._gradient_checkpointing_func = True, checkpoint
            module.training = True
    model(**batch(name)).loss.backward()
    assert all(torch.equal(p.grad, wanted[k]) for k, p in trained(model).items())


def test_the_ladder_is_narrow():
    """Heads keep their size, and no gradient reaches the base."""
    model = ladder("llama")
    body = next(a for _, a in adapters(model))
    assert body.side.config.hidden_size == 16 and body.side.config.num_attention_heads == 2
    assert body.side.config.head_dim == body.base.config.head_dim
    small = sum(p.numel() for p in trained(model).values())
    assert small < 0.5 * sum(p.numel() for p in body.base.parameters())
    model(**batch("llama")).loss.backward()
    assert all(p.grad is None for p in body.base.parameters())


def test_the_ladder_beside_t5_s_encoder_and_not_its_decoder():
    base = freeze(host("t5"))(**batch("t5")).logits
    model = inject(host("t5"), {"encoder": lambda body: LST(body, 3)})
    assert (model(**batch("t5")).logits - base).abs().max() < 1e-5
    model(**batch("t5")).loss.backward()
    assert next(a for _, a in adapters(model)).U.grad.abs().max() > 0
    model = inject(host("t5"), {"decoder": lambda body: LST(body, 3)})
    with pytest.raises(ValueError, match="reads an encoder's output.*beside the encoder alone"):
        model(**batch("t5"))


def shadowed(name, **kw):
    model = host(name)
    return inject(model, shadow(model, BLOCKS[name][0], **kw)).eval()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_shadow_is_peft_s(name):
    """Logits, and gradients of everything that trains, with the penalty at peft's weight."""
    ours = shadowed(name, rank=3, u=5, alpha=0.7)
    stir(trained(ours).values())
    config = peft.ShadowConfig(r=3, update_hidden_size=5, shadow_alpha=0.7, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(host(name), config).eval()
    twins = []
    for site, a in adapters(ours):
        if isinstance(a, ShadowBlock):
            layer = theirs.base_model.model.get_submodule(site)
            twins += [(a.D.weight, layer.shadow_down["default"].weight), (a.U, layer.shadow_up["default"].weight)]
            for mine, other in ((a.T, layer.shadow_update_transform), (a.G, layer.shadow_update_gate)):
                twins += list(zip(mine.parameters(), other["default"].parameters(), strict=True))
        else:
            side, other = dict(a.side.named_parameters()), theirs.base_model.shadow_backbone["default"]
            twins += [(side[k], p) for k, p in other.named_parameters() if k != "wte.weight"]  # not used by either
    with torch.no_grad():
        for mine, other in twins:
            other.copy_(mine)
    given = batch(name)
    mine, other = ours(**given), theirs(**given)
    apart = (mine.logits - other.logits).abs().max().item()
    (mine.loss + 0.05 * penalty(ours, given["labels"])).backward()
    other.loss.backward()
    slope = max((a.grad - b.grad).abs().max().item() for a, b in twins if a.grad is not None)
    assert apart <= 1e-5 and slope <= 1e-5, (apart, slope)
    assert (mine.logits - host(name)(**given).logits).abs().max() > 1e-2
    record("Shadow", "peft 0.21.2", max(apart, slope))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_shadow_starts_as_the_base_and_is_saved_copied_and_removed(name, tmp_path):
    base = host(name)(**batch(name)).logits
    model = shadowed(name, rank=2)
    assert torch.equal(model(**batch(name)).logits, base)
    width, side = BLOCKS[name][1], next(a.side for _, a in adapters(model) if isinstance(a, ShadowBody))
    own = sum(p.numel() for p in trained(model).values()) - sum(p.numel() for p in side.parameters() if p.requires_grad)
    assert own == 2 * eval(count("Shadow"), {}, dict(rank=2, width=width, u=2))
    stir(trained(model).values())
    y = model(**batch(name)).logits
    again = load_adapter(shadowed(name, rank=2), save_adapter(model, tmp_path / "a.safetensors"))
    assert torch.equal(again(**batch(name)).logits, y) and torch.equal(copy.deepcopy(model)(**batch(name)).logits, y)
    with pytest.raises(ValueError, match="use_cache=False"):
        model.generate(batch(name)["input_ids"], max_new_tokens=2, pad_token_id=0)
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(model)
    half = shadowed(name).bfloat16()(**batch(name)).logits
    assert torch.equal(half, host(name).bfloat16()(**batch(name)).logits)
    assert torch.equal(remove(model)(**batch(name)).logits, base)
    with pytest.raises(ValueError, match="no shadow has run"):
        penalty(model, batch(name)["labels"])
    for wrong, said in ((dict(layers=0), "at least one block"), (dict(rank=0), "rank and u")):
        with pytest.raises(ValueError, match=said):
            shadowed(name, **wrong)
