"""Adapters in blocks: equal to the `adapters` library's recordings, sound on four architectures, clear in wrong use.

The fixtures are made by oracles/adapters_blocks.py and oracles/adapters_prefix.py. What the library has not (parallel
adapters on the normed input of a pre-norm block, Compacter's order of products, the inverse) is held to the papers'
equations written out here.
"""

import copy
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from hosts import batch, host, stir
from peft_twin import record
from safetensors import safe_open
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, GPT2Config, GPT2LMHeadModel

from peft_from_scratch import (
    Adapter,
    adapter_state,
    adapters,
    inject,
    load_adapter,
    merge,
    remove,
    save_adapter,
    switch,
    trained,
)
from peft_from_scratch.methods.adapters import adapter_fusion
from peft_from_scratch.methods.adapters.adapter_drop import RobustDrop, adapter_drop
from peft_from_scratch.methods.adapters.adapter_fusion import Fused, fusion
from peft_from_scratch.methods.adapters.bottleneck import Bottleneck
from peft_from_scratch.methods.adapters.compacter import Compact, KroneckerSum, Rule, compacter
from peft_from_scratch.methods.adapters.houlsby import Serial, houlsby
from peft_from_scratch.methods.adapters.invertible import Coupling, invertible
from peft_from_scratch.methods.adapters.layer_prefix import LayerPrefix, Shorter, layer_prefix
from peft_from_scratch.methods.adapters.mam import mam
from peft_from_scratch.methods.adapters.parallel import parallel
from peft_from_scratch.methods.adapters.pfeiffer import at_end, pfeiffer
from peft_from_scratch.methods.adapters.places import Places, blocks
from peft_from_scratch.methods.adapters.s4 import group_sizes, s4
from peft_from_scratch.methods.adapters.unipelt import GatedLoRA, GatedPrefix, gated_prefix, unipelt
from peft_from_scratch.methods.prompts.prefix_tuning import Prefix, prefix_tuning

RECORDED = Path(__file__).parent / "oracles" / "adapters_blocks.safetensors"
PREFIXED = RECORDED.with_name("adapters_prefix.safetensors")


def recorded(prefix, file=RECORDED):
    """The recorded tensors under a prefix, without it."""
    with safe_open(file, "pt") as f:
        return {k.removeprefix(prefix): f.get_tensor(k) for k in f.keys() if k.startswith(prefix)}


def recorded_host(name):
    torch.manual_seed(0)
    if name == "bert":
        sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, vocab_size=61)
        model = BertForMaskedLM(BertConfig(max_position_embeddings=16, **sizes))
    else:
        model = GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=3, vocab_size=61, n_positions=16))
    own = {k: t for k, t in recorded(f"{name}/base/").items() if k != "logits"}
    assert not model.load_state_dict(own, strict=False).unexpected_keys
    return model.eval()


NAMES = [  # the library's names as ours, in this order; {f} and {end} differ from method to method
    (r"^bert\..*self_prefix\.wte\.weight", "bert.P"),
    (r"^bert\..*self_prefix\.control_trans\.", "bert.network."),
    (r"prefix_tuning\.prefix_gates\.a\.", "gate."),
    (r"^transformer\.h\.(\d+)\.attention_adapters", r"transformer.h.\1.attn.resid_dropout"),
    (r"^transformer\.h\.(\d+)\.output_adapters", r"transformer.h.\1{place}"),
    (r"attention\.output\.adapters", "attention.output.dropout.adapters"),
    (r"layer\.(\d+)\.output\.adapter", r"layer.\1{place}.adapter"),
    (r"\.adapters\.a\.gate\.", ".A.gate."),
    (r"\.adapters\.a\.scaling", ".A.s"),
    (r"\.adapters\.a\.", ".A."),
    (r"\.adapters\.b\.", ".B."),
    (r"adapter_fusion_layer\.a,b\.", "A."),
    (r"loras\.a\.(lora_)?", ""),
    (r"^\w+\.invertible_adapters\.a\.(\w)\.0", r"{embeddings}.coupling.\1.adapter_down.0"),
    (r"^\w+\.invertible_adapters\.a\.(\w)\.2", r"{embeddings}.coupling.\1.adapter_up"),
    (r"adapter_down\.0\.weight", "D"),
    (r"adapter_down\.0\.bias", "b_D"),
    (r"adapter_up\.weight", "U"),
    (r"adapter_up\.bias", "b_U"),
    (r"adapter_down\.0\.W_left", "D.t"),
    (r"adapter_down\.0\.W_right", "D.s"),
    (r"adapter_up\.W_left", "U.t"),
    (r"adapter_up\.W_right", "U.s"),
    (r"adapter_down\.0\.b", "D.b"),
    (r"adapter_up\.b", "U.b"),
    (r"gate\.weight", "gate.w"),
    (r"gate\.bias", "gate.b"),
    (r"query\.weight", "Q"),
    (r"query\.bias", "b_Q"),
    (r"key\.weight", "K"),
    (r"key\.bias", "b_K"),
    (r"value\.weight", "V"),
]
PLACE = {
    "bert": {"f": ".output.dropout", "end": ".output.LayerNorm", "beside": ".output"},
    "gpt2": {"f": ".mlp", "end": "", "beside": ".mlp"},
}
EMBEDDINGS = {"bert": "bert.embeddings.dropout", "gpt2": "transformer.drop"}


def ours(tensors, host_name, place, rule_site=""):
    """The library's tensors under our names."""
    found = {}
    for key, t in tensors.items():
        if key.endswith("phm_rule"):
            found[f"{rule_site}.A.D.rule.A"] = t.mT  # the library multiplies x by W from the right
            continue
        t = t.squeeze(-1) if key.endswith("W_left") else t.squeeze(1) if key.endswith("W_right") else t
        for pattern, new in NAMES:
            new = new.replace("{place}", PLACE[host_name][place]).replace("{embeddings}", EMBEDDINGS[host_name])
            key = re.sub(pattern, new, key)
        found[key] = t
    return found


FROM_ZERO = torch.arange(7).expand(3, 7) - 4  # a prefix of 4 moves the text by 4; in the library it begins at 0


def check(card, host_name, name, make_targets, place="f", rule_site="", prepare=None, file=RECORDED):
    """Our model with the recorded weights has the recorded logits and gradients."""
    model = recorded_host(host_name)
    given = recorded("")
    inputs, target = {"input_ids": given["ids"], "attention_mask": given["mask"]}, given["target"]
    plain = recorded(f"{host_name}/base/logits")[""]
    assert (model(**inputs).logits - plain).abs().max() <= 1e-5, "the hosts themselves must agree"
    theirs = recorded(f"{host_name}/{name}/", file)
    inputs |= {"position_ids": FROM_ZERO} if file == PREFIXED else {}
    weights = ours({k[7:]: t for k, t in theirs.items() if k.startswith("weight/")}, host_name, place, rule_site)
    grads = ours({k[5:]: t for k, t in theirs.items() if k.startswith("grad/")}, host_name, place, rule_site)
    model = inject(model, make_targets(model, weights))
    with torch.no_grad():
        for key, p in trained(model).items():
            p.copy_(weights[key])
    if prepare:
        prepare(model)
    logits = model.eval()(**inputs).logits
    (logits * target).sum().backward()
    mine = {k: p.grad for k, p in trained(model).items() if p.grad is not None}
    assert mine.keys() == grads.keys()
    forward = (logits - theirs["logits"]).abs().max().item()
    gradients = max((mine[k] - grads[k]).abs().max().item() for k in mine)
    assert forward <= 1e-5 and gradients <= 1e-5, (forward, gradients)
    assert (logits - plain).abs().max() >= 0.1, "and the adapters matter"
    print(f"{host_name} {name}: forward {forward:.1e}, gradients {gradients:.1e}")
    record(card, "adapters 1.3.0 (recorded)", max(forward, gradients))


@pytest.mark.parametrize("host_name", ["bert", "gpt2"])
def test_houlsby_equals_the_library(host_name):
    check("Houlsby adapters", host_name, "houlsby", lambda m, _: houlsby(m, 3, act="swish", norms=False))


@pytest.mark.parametrize("host_name", ["bert", "gpt2"])
def test_pfeiffer_equals_the_library(host_name):
    check("Pfeiffer adapters", host_name, "pfeiffer", lambda m, _: pfeiffer(m, 3), "end")


@pytest.mark.parametrize(("name", "scale"), [("parallel", 1.0), ("parallel4", 4.0), ("parallel_learned", "learned")])
def test_parallel_equals_the_library(name, scale):
    card = "Parallel adapters" if name == "parallel" else "Scaled parallel adapters"
    check(card, "bert", name, lambda m, _: parallel(m, 6, scale), "beside")


def test_mam_equals_the_library():
    check("MAM adapter", "bert", "mam", lambda m, _: mam(m, 4, 6, hidden=5), "beside", file=PREFIXED)


def test_compacter_equals_the_library():
    site = "bert.encoder.layer.0.attention.output.dropout"
    check("Compacter", "bert", "compacter", lambda m, _: compacter(m, 8), rule_site=site)
    site = "bert.encoder.layer.0.output.dropout"
    check("Compacter++", "bert", "compacter++", lambda m, _: compacter(m, 8, attention=False), rule_site=site)


def test_the_librarys_own_place_of_compacter_plus_plus():
    def at_the_end(model, _):
        found = blocks(model)
        return at_end(found, partial(Compact, rule=Rule(found[0].norm), size=8))

    site = "bert.encoder.layer.0.output.LayerNorm"
    check("Compacter++", "bert", "compacter++ at the end", at_the_end, "end", rule_site=site)


def test_adapter_drop_equals_the_library():
    check(
        "AdapterDrop", "bert", "drop", lambda m, _: houlsby(m, 3, act="swish", norms=False),
        prepare=lambda model: adapter_drop(model, 1),
    )  # fmt: skip


@pytest.mark.parametrize("host_name", ["bert", "gpt2"])
def test_fusion_equals_the_library(host_name):
    def fused(model, weights):
        both = [{k: t for k, t in weights.items() if f".{expert}." in k} for expert in "AB"]
        return fusion(model, [{k.replace(".B.", ".A."): t for k, t in state.items()} for state in both], bias=True)

    check("AdapterFusion", host_name, "fusion", fused, "end")


@pytest.mark.parametrize("host_name", ["bert", "gpt2"])
def test_invertible_adapters_equal_the_library(host_name):
    check(
        "Invertible adapters", host_name, "invertible", lambda m, _: invertible(m, output=False) | pfeiffer(m, 3), "end"
    )


def test_unipelt_without_its_prefix_equals_the_library():
    check("UniPELT", "bert", "unipelt", lambda m, _: unipelt(m, 3, 3, n_tokens=0), "end")


def test_unipelt_equals_the_library():
    check("UniPELT", "bert", "unipelt", lambda m, _: unipelt(m, 3, 3, 4, hidden=5), "end", file=PREFIXED)


@pytest.mark.parametrize(("name", "lengths"), [("top", [0, 4]), ("bottom", [4, 0])])
def test_a_prefix_on_one_layer_equals_the_library(name, lengths):
    """Its `leave_out`, with no column in the other layer's cache."""
    model, given, theirs = recorded_host("bert"), recorded(""), recorded(f"bert/{name}/", PREFIXED)
    model = inject(model, layer_prefix(model, lengths)).eval()
    (P,) = trained(model).values()
    (weight,), (grad,) = ([t.view(4, -1) for k, t in theirs.items() if k.startswith(w)] for w in ("weight", "grad"))
    P.data = weight
    out = model(given["ids"], attention_mask=given["mask"], position_ids=FROM_ZERO).logits
    (out * given["target"]).sum().backward()
    assert (out - theirs["logits"]).abs().max() <= 1e-5 and (P.grad - grad).abs().max() <= 1e-5
    assert (out - recorded("bert/base/logits")[""]).abs().max() >= 0.03


def test_the_inverse_equals_the_librarys_and_undoes_the_adapter():
    theirs = recorded("bert/invertible/")
    coupling = Coupling(nn.LayerNorm(24))
    own = {k[7:]: t for k, t in theirs.items() if k.startswith("weight/") and "invertible" in k}
    own = {k.split("coupling.")[1]: t for k, t in ours(own, "bert", "end").items()}
    coupling.load_state_dict(own)
    o = recorded("")["target"][..., :24]
    assert (coupling.inverse(o) - theirs["inverse"]).abs().max() <= 1e-6
    coupling, e = coupling.double(), o.double()
    assert (coupling(e) - e).abs().max() > 0.1
    assert (coupling.inverse(coupling(e)) - e).abs().max() < 1e-14


METHODS = {
    "houlsby": lambda m: houlsby(m, 3),
    "pfeiffer": lambda m: pfeiffer(m, 3),
    "parallel": lambda m: parallel(m, 3),
    "scaled parallel": lambda m: parallel(m, 3, "learned"),
    "compacter": lambda m: compacter(m, 8),
    "compacter++": lambda m: compacter(m, 4, n=2, attention=False),
    "invertible": lambda m: invertible(m) | pfeiffer(m, 2),
    "mam": lambda m: mam(m, 3, size=5),
    "mam, its prefix made by a network": lambda m: mam(m, 3, size=5, hidden=4),
    "unipelt": lambda m: unipelt(m, 3, 2, 4),
    "layer prefix": lambda m: layer_prefix(m, [1, 3]),
    "s4": lambda m: s4(m, ("AL", "APB"), budget=400),
    "s4, prefix first": lambda m: s4(m, ("PBL", "A"), budget=700),
}
HYBRIDS = ["mam", "unipelt", "layer prefix", "s4"]
everywhere = pytest.mark.parametrize("host_name", ["bert", "gpt2", "llama", "t5"])


def logits(model, name):
    with torch.no_grad():
        return model(**batch(name)).logits


@everywhere
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_architecture(method, host_name, tmp_path):
    """A gradient for all that trains; one file, the same model again; a second set beside; and the base comes back."""
    base = logits(host(host_name), host_name)
    model = host(host_name)
    model = inject(model, METHODS[method](model)).eval()
    stir(trained(model).values())
    model(**batch(host_name)).loss.backward()
    assert all(p.grad is not None for p in trained(model).values())
    adapted = logits(model, host_name)
    assert (adapted - base).abs().max() > 1e-3

    again = host(host_name)
    again = inject(again, METHODS[method](again)).eval()
    load_adapter(again, save_adapter(model, tmp_path / "a.safetensors"))
    assert torch.equal(logits(again, host_name), adapted)

    model = inject(model, METHODS[method](model), name="second").eval()
    stir(trained(model).values(), std=0.5)
    assert not torch.equal(logits(model, host_name), adapted)
    assert torch.equal(logits(switch(model, "default"), host_name), adapted)
    assert torch.equal(logits(copy.deepcopy(model), host_name), adapted)
    assert torch.equal(logits(switch(model, None), host_name), base)
    model = remove(model)
    assert torch.equal(logits(model, host_name), base)
    assert not any(isinstance(m, Adapter) for m in model.modules())


SIZES = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, vocab_size=61, pad_token_id=0
)  # fmt: skip
RELATIVES = ["Roberta", "XLMRoberta", "Camembert", "Mistral", "Qwen2"]


@pytest.mark.parametrize("family", RELATIVES)
def test_relatives_in_the_table(family):
    """A host in the table that the tiny ones of the other tests do not cover: everything goes in, and has an effect."""
    kv = {"num_key_value_heads": 1, "head_dim": 8} if family in ("Mistral", "Qwen2") else {}
    config = getattr(transformers, f"{family}Config")(**SIZES, **kv, bos_token_id=1, eos_token_id=2)
    model = getattr(transformers, f"{family}Model")(config).eval()
    ids = torch.randint(3, 61, (2, 6))
    base = model(ids).last_hidden_state
    model = inject(model, invertible(model) | pfeiffer(model, 3) | parallel(model, 3)).eval()
    assert len(trained(model)) == 8 + 2 * (4 + 4)
    stir(trained(model).values())
    assert (model(ids).last_hidden_state - base).abs().max() > 1e-3
    assert torch.equal(remove(model)(ids).last_hidden_state, base)
    houlsby(model), unipelt(model)


@pytest.mark.parametrize("host_name", ["gpt2", "llama", "t5"])
def test_generation_with_a_cache_reads_the_same_as_without(host_name):
    model = host(host_name)
    model = inject(model, pfeiffer(model, 3) | parallel(model, 3)).eval()
    stir(trained(model).values())
    given = {k: batch(host_name)[k] for k in ("input_ids", "attention_mask")}
    told = dict(max_new_tokens=5, do_sample=False)
    assert torch.equal(model.generate(**given, **told), model.generate(**given, **told, use_cache=False))


@everywhere
def test_bfloat16_hosts_keep_their_dtype(host_name):
    model = host(host_name).bfloat16()
    model = inject(model, houlsby(model, 3) | parallel_where_free(model)).eval()
    assert logits(model, host_name).dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for k, p in trained(model).items() if ".A." in k)
    for method in HYBRIDS:
        model = host(host_name).bfloat16()
        model = inject(model, METHODS[method](model))
        out = model(**batch(host_name))
        out.loss.backward()
        assert out.logits.dtype == torch.bfloat16 and all(p.grad is not None for p in trained(model).values()), method


def parallel_where_free(model):
    """Parallel adapters where Houlsby's are not in their way: GPT-2 and Llama have one site for both."""
    return parallel(model, 3) if model.config.model_type in ("bert", "t5") else {}


@pytest.mark.parametrize("host_name", ["bert", "llama"])
def test_gradient_checkpointing_gives_the_same_gradients(host_name):
    model = host(host_name)
    model = inject(model, pfeiffer(model, 3))
    stir(trained(model).values())
    grads = []
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(5)  # dropout is on, and drops the same when the block is run again
        model.train()(**batch(host_name)).loss.backward()
        grads.append({k: p.grad.clone() for k, p in trained(model).items()})
        model.gradient_checkpointing_enable({"use_reentrant": False})
    assert all((g - grads[1][k]).abs().max() <= 1e-6 for k, g in grads[0].items())


def test_parallel_reads_the_normed_input_in_a_pre_norm_block():
    """The paper's f = FFN(x) + s A(x), x being what the feed-forward layer reads: written out for one Llama block."""
    model = host("llama")
    mlp, norm = model.model.layers[0].mlp, model.model.layers[0].post_attention_layernorm
    model = inject(model, parallel(model, 3, scale=2.0))
    stir(trained(model).values())
    A = model.model.layers[0].mlp.A
    u = torch.randn(2, 5, 32)
    x = norm(u)
    expected = mlp(x) + 2.0 * (torch.relu(x @ A.D.T + A.b_D) @ A.U.T + A.b_U)
    assert torch.allclose(model.model.layers[0].mlp(x), expected, atol=1e-6)


def test_kronecker_sum_is_the_sum_of_kronecker_products():
    rule = Rule(nn.Linear(1, 1), 2)
    layer = KroneckerSum(nn.Linear(1, 1), rule, 6, 4).double()
    stir(layer.parameters())
    W = sum(torch.kron(A, torch.outer(s, t)) for A, s, t in zip(rule.A, layer.s, layer.t, strict=True))
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    assert torch.allclose(layer(x), x @ W.T + layer.b, atol=1e-14)


def test_adapter_drop_leaves_out_the_first_blocks_and_takes_it_back():
    model = host("gpt2")
    model = inject(model, pfeiffer(model, 3)).eval()
    base = logits(host("gpt2"), "gpt2")
    stir(trained(model).values())
    adapted = logits(model, "gpt2")
    assert torch.equal(logits(adapter_drop(model, 2), "gpt2"), base)
    adapter_drop(model, 1)(**batch("gpt2")).loss.backward()
    assert {k for k, p in trained(model).items() if p.grad is None} == {k for k in trained(model) if ".h.0." in k}
    assert torch.equal(logits(adapter_drop(model, 0), "gpt2"), adapted)
    drop = RobustDrop(model, most=2)
    assert {drop.step() for _ in range(30)} == {0, 1, 2}
    with pytest.raises(ValueError, match="from 0 to 2 blocks"):
        adapter_drop(model, 3)
    with pytest.raises(ValueError, match="from 0 to 2 blocks"):
        RobustDrop(model, most=5)
    with pytest.raises(ValueError, match="no block has a bottleneck adapter"):
        adapter_drop(host("gpt2"), 1)


def test_fusion_of_equal_experts_is_the_expert():
    """V starts as the identity, nearly, and attention over equal values gives the value (section 3.2)."""
    one = host("bert")
    one = inject(one, pfeiffer(one, 3)).eval()
    stir(trained(one).values())
    model = host("bert")
    model = inject(model, fusion(model, [adapter_state(one)] * 3)).eval()
    assert (logits(model, "bert") - logits(one, "bert")).abs().max() < 1e-4
    assert all(k.split(".")[-1] in "QKV" for k in trained(model)), "the experts stay frozen"
    assert adapter_fusion.penalty(model) < 1e-6
    stir(trained(model).values())
    adapter_fusion.penalty(model).backward()
    assert sum(p.grad is not None for p in trained(model).values()) == 2
    with pytest.raises(ValueError, match="no block has a fusion"):
        adapter_fusion.penalty(one)
    with pytest.raises(KeyError, match="has no Pfeiffer adapter"):
        fusion(model, [{"classifier.weight": torch.zeros(1)}])
    with pytest.raises(ValueError, match="at least one trained adapter"):
        Fused(nn.LayerNorm(4), [])


@everywhere
@pytest.mark.parametrize("method", HYBRIDS)
def test_eager_and_sdpa_see_the_same_prefix(method, host_name):
    """Whatever mask the host makes of it, with padding on either side and without: compared where there is a text."""
    given = batch(host_name)
    mask = given["attention_mask"]
    mask[0, -2:] = 0
    if host_name in ("gpt2", "llama"):
        mask[1, :2] = 0
    for given["attention_mask"] in mask, torch.ones_like(mask), None:
        seen = []
        for implementation in ("eager", "sdpa"):
            model = host(host_name)
            model.set_attn_implementation(implementation)
            model = inject(model, METHODS[method](model)).eval()
            stir(trained(model).values())
            out = model(**given).logits
            seen.append(out[mask.bool()] if host_name in ("gpt2", "llama") else out)
        assert (seen[0] - seen[1]).abs().max() <= 1e-5


@pytest.mark.compiled
@pytest.mark.parametrize("host_name", ["gpt2", "llama"])
@pytest.mark.parametrize("method", HYBRIDS)
def test_hybrids_compile_in_one_graph(method, host_name):
    model = host(host_name)
    model = inject(model, METHODS[method](model)).eval()
    stir(trained(model).values())
    ids = batch(host_name)["input_ids"]
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert (compiled(input_ids=ids).logits - model(input_ids=ids).logits).abs().max() <= 1e-6


@everywhere
def test_a_gate_scales_the_prefix_of_its_layer(host_name):
    """With w = 0 a gate is σ(b), whatever the text: then the model is prefix tuning with σ(b) P."""
    model, plain = host(host_name), host(host_name)
    model = inject(model, gated_prefix(model, blocks(model), 4)).eval()
    plain = inject(plain, prefix_tuning(plain, 4)).eval()
    stir(trained(model).values())
    body = next(a for _, a in adapters(model) if isinstance(a, Prefix))
    gates = [a.gate for _, a in adapters(model) if isinstance(a, GatedPrefix)]
    (P,) = trained(plain).values()
    with torch.no_grad():
        for gate in gates:
            gate.w.zero_()
        P.copy_((body.P.view(4, 2, -1) * torch.stack([gate.b.sigmoid() for gate in gates])).view_as(P))
    assert (logits(model, host_name) - logits(plain, host_name)).abs().max() <= 1e-5
    if host_name != "bert":
        told = dict(input_ids=batch(host_name)["input_ids"], do_sample=False, max_new_tokens=4)
        assert torch.equal(model.generate(**told), plain.generate(**told)), "the gate is applied once"


@everywhere
def test_a_shorter_prefix_hides_the_other_columns_and_nothing_else(host_name):
    class Noisy(LayerPrefix):
        noise = None

        def rows(self):
            return super().rows() + (0 if self.noise is None else self.noise)

    model = host(host_name)
    model = inject(model, layer_prefix(model, [1, 3])).eval()
    body = next(a for _, a in adapters(model) if isinstance(a, LayerPrefix))
    body.__class__ = Noisy
    stir(trained(model).values())
    before, width = logits(model, host_name), body.layout.width // 2
    for layer, column in [(0, 0), (0, 1), (0, 2), (1, 0)]:
        body.noise = torch.zeros(3, 2, width)
        body.noise[column, layer] = 1
        body.noise = body.noise.flatten(1)
        hidden = (layer, column) in [(0, 0), (0, 1)]
        assert torch.equal(logits(model, host_name), before) == hidden, (layer, column)


@everywhere
def test_a_layer_prefix_of_one_length_is_prefix_tuning(host_name):
    model, plain = host(host_name), host(host_name)
    model = inject(model, layer_prefix(model, [4, 4])).eval()
    plain = inject(plain, prefix_tuning(plain, 4)).eval()
    (P,) = trained(plain).values()
    stir([P])
    for ours, theirs in zip(trained(model).values(), P.detach().chunk(2, 1), strict=True):
        ours.data = theirs
    assert not any(isinstance(a, Shorter) for _, a in adapters(model))
    assert torch.equal(logits(model, host_name), logits(plain, host_name))


@pytest.mark.parametrize("window", [None, 6, 40])
def test_a_layer_prefix_generates_as_it_reads(window):
    """Also where the attention sees a window, from which the prefix falls out while the text grows."""
    config = transformers.MistralConfig(**SIZES, num_key_value_heads=1, head_dim=8, bos_token_id=1, eos_token_id=2)
    config.sliding_window = window
    for model in host("gpt2"), host("llama"), host("t5"), transformers.MistralForCausalLM(config).eval():
        model = inject(model, layer_prefix(model, [0, 3])).eval()
        stir(trained(model).values(), std=1.0)
        ids = batch("gpt2")["input_ids"]
        told = dict(attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, eos_token_id=[])
        assert torch.equal(model.generate(ids, **told), model.generate(ids, **told, use_cache=False))


def test_prefixes_that_cannot_be():
    model = host("bert")
    for lengths in ([3], [3, -1], [0, 0], []):
        with pytest.raises(ValueError, match="give 2 numbers, one for each layer"):
            layer_prefix(model, lengths)
    with pytest.raises(ValueError, match="n_tokens must be at least 1"):
        mam(model, 0)
    nameless = replace(blocks(model)[0].places, query_value=())
    with pytest.raises(ValueError, match="name its query and value"):
        layer_prefix(model, [1, 2], places=nameless)
    assert s4(model, ("A", "B"), budget=400, places=nameless), "which needs no attention"
    for targets in layer_prefix(model, [1, 2]), unipelt(model):
        alone = {k: make for k, make in targets.items() if "self" in str(k)}
        with pytest.raises(ValueError, match="no prefix reached this attention"):
            inject(host("bert"), alone)(**batch("bert"))
    model = host("llama")
    model = inject(model, unipelt(model)).train()
    model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="turn checkpointing off"):
        model(**batch("llama"))


def test_s4_groups_and_budget():
    assert group_sizes(12, 4) == [2, 4, 4, 2]
    assert group_sizes(12, 4, "uniform") == [3, 3, 3, 3]
    assert group_sizes(10, 4, "increasing") == [1, 2, 3, 4]
    assert group_sizes(10, 4, "decreasing") == [4, 3, 2, 1]
    assert group_sizes(14, 4, "bottleneck") == [4, 3, 3, 4]
    with torch.device("meta"):
        model = BertModel(BertConfig())
    total = sum(p.numel() for p in model.parameters())
    made = inject(model, s4(model))
    layers = {k: re.search(r"(?:layer|^P)\.(\d+)", k)[1] for k in trained(made)}
    count = Counter()
    for k, p in trained(made).items():
        count[int(layers[k])] += p.numel()
    assert set(count) == set(range(12)), "all groups are tuned"
    assert max(count.values()) <= total // 2400 and min(count.values()) >= 0.95 * total // 2400, "and alike"
    lengths = next(a.lengths for _, a in adapters(made) if isinstance(a, LayerPrefix))
    assert lengths == (0,) * 2 + (14,) * 4 + (12,) * 4 + (12,) * 2
    assert sum(count.values()) <= 0.005 * total
    kinds = {n: {type(a).__name__ for site, a in adapters(made) if f"layer.{n}." in site} for n in range(12)}
    assert kinds[0] == kinds[1] == {"AroundNorm", "LoRA", "Shorter"}
    assert kinds[2] == kinds[5] == {"AroundNorm"}
    assert kinds[6] == kinds[9] == {"AroundNorm", "BitFit", "Shorter"}
    assert kinds[10] == kinds[11] == {"LoRA", "BitFit", "Shorter"}
    frozen = host("bert")
    frozen = inject(frozen, s4(frozen, ("", "B")))
    assert all("layer.1" in k for k in trained(frozen))
    model = host("t5")  # whose encoder keeps no cache
    model = inject(model, s4(model, ("P", "A"), budget=120))
    assert {k.split(".block.")[0] for k in trained(model)} == {"decoder.P.0", "decoder", "encoder"}
    assert next(a.lengths for _, a in adapters(model) if isinstance(a, LayerPrefix)) == (2, 0)
    with pytest.raises(ValueError, match="cannot make 4 groups"):
        s4(host("bert"))
    with pytest.raises(ValueError, match="unknown strategies"):
        s4(host("bert"), ("X", "A"))
    with pytest.raises(ValueError, match="unknown pattern"):
        s4(host("bert"), ("A", "A"), pattern="star")


def test_an_unknown_architecture_says_how_to_name_its_sites():
    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.stack = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(4), "net": nn.Linear(4, 4)}) for _ in "ab")

        def forward(self, x):
            for block in self.stack:
                x = x + block["net"](block["norm"](x))
            return x

    model = Unknown()
    with pytest.raises(ValueError, match=r"the table of places has no 'Unknown'.*Places\(blocks="):
        houlsby(model)
    places = Places(r"stack\.\d", "net", "net", "net", "net", ("norm",), "stack", ())
    with pytest.raises(ValueError, match="'stack.0.nett'"):
        blocks(model, replace(places, end="nett"))
    with pytest.raises(ValueError, match="matches no module"):
        blocks(model, replace(places, blocks="heap"))
    x = torch.randn(2, 3, 4)
    base = model(x)
    model = inject(model, parallel(model, 2, places=places))
    assert torch.equal(model(x), base)
    assert len(trained(model)) == 8


def test_wrong_settings_are_one_clear_sentence():
    norm = nn.LayerNorm(6)
    for wrong, words in [
        (lambda: Bottleneck(norm, 0), "size of at least 1"),
        (lambda: Bottleneck(norm, 2, act="sigmoid"), "unknown non-linearity 'sigmoid'"),
        (lambda: Bottleneck(norm, 2, scale="big"), "a number or 'learned'"),
        (lambda: Rule(norm, 0), "at least 1"),
        (lambda: Compact(norm, Rule(norm, 4), 8), "n = 4 must divide 6 and 8: .2. would"),
        (lambda: Coupling(nn.LayerNorm(5)), "5 features have no halves"),
    ]:
        with pytest.raises(ValueError, match=words):
            wrong()
    with pytest.raises(TypeError, match="features last"):
        Serial(nn.Conv2d(1, 2, 3), partial(Bottleneck, size=2))
    for layer in nn.Embedding(3, 4), nn.Conv2d(1, 2, 3):
        with pytest.raises(TypeError, match="linear layers"):
            GatedLoRA(layer)
    several = Serial(nn.LSTM(4, 4), partial(Bottleneck, size=2), nn.LayerNorm(4))
    with pytest.raises(TypeError, match="returns a tuple"):
        several(torch.zeros(1, 2, 4))
    model = host("bert")
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(inject(model, pfeiffer(model)))
