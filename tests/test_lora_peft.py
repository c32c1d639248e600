"""LoRA equals Hugging Face peft 0.21.2 on copied weights: forward, gradients, generation, merging."""

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import Twin, peft
from torch import nn

from peft_from_scratch import LoRA, inject, merge, trained

TARGETS = {
    "bert": ["query", "value", "intermediate.dense", "word_embeddings"],
    "gpt2": ["c_attn", "c_proj", "wte"],
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj", "embed_tokens"],
    "t5": ["q", "v", "wi", "wo"],
}


def pairs(ours, theirs):
    """Their A and B beside ours (their embedding keeps them as bare parameters)."""
    if isinstance(ours.base, nn.Embedding):
        return [(ours.A, theirs.lora_embedding_A["default"]), (ours.B, theirs.lora_embedding_B["default"])]
    return [(ours.A, theirs.lora_A["default"].weight), (ours.B, theirs.lora_B["default"].weight)]


def both(name, rank=3, alpha=5, dropout=0.0, rslora=False):
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=rslora,
        target_modules=TARGETS[name],
        fan_in_fan_out=name == "gpt2",
    )
    return Twin(name, TARGETS[name], lambda b: LoRA(b, rank, alpha, dropout, rslora), config, pairs)


names = pytest.mark.parametrize("name", TARGETS)


@names
@pytest.mark.parametrize("rslora", [False, True])
def test_forward_and_gradients(name, rslora):
    both(name, rslora=rslora).check("rsLoRA" if rslora else "LoRA", name, tol=1e-6)


@names
def test_training_mode_with_dropout(name):
    both(name, dropout=0.4).check("LoRA", name, tol=1e-6, train_seed=5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_generation_is_identical(name):
    twin = both(name)
    ours, theirs = twin.ours, twin.theirs
    ids = {k: batch(name)[k] for k in ("input_ids", "attention_mask")}
    kw = dict(max_new_tokens=12, do_sample=False, pad_token_id=0)
    out = ours.generate(**ids, **kw)
    assert torch.equal(out, theirs.generate(**ids, **kw))
    assert not torch.equal(out, host(name).generate(**ids, **kw)), "the adapters must matter"
    assert torch.equal(out, merge(ours).generate(**ids, **kw))


@names
def test_merged(name):
    twin = both(name)
    ours, theirs = twin.ours, twin.theirs
    b = batch(name)
    plain = merge(ours)
    assert (plain(**b).logits - ours(**b).logits).abs().max() <= 1e-5
    if name != "gpt2":  # tied embedding: see below
        assert (plain(**b).logits - theirs.merge_and_unload()(**b).logits).abs().max() <= 1e-5


def test_peft_merges_a_tied_embedding_in_place_and_we_do_not():
    """GPT-2's output head shares the embedding's weight: merging in place moves the head, which nobody adapted."""
    twin = both("gpt2")
    ours, theirs = twin.ours, twin.theirs
    b = batch("gpt2")
    y = theirs(**b).logits
    assert (theirs.merge_and_unload()(**b).logits - y).abs().max() > 1
    plain = merge(ours)
    assert (plain(**b).logits - y).abs().max() <= 1e-5
    assert plain.config.tie_word_embeddings is False and ours.config.tie_word_embeddings is True


@names
def test_same_count(name):
    twin = both(name)
    ours, theirs = twin.ours, twin.theirs
    mine = sum(p.numel() for p in trained(ours).values())
    assert mine == sum(p.numel() for n, p in theirs.named_parameters() if "lora" in n)


def conv(**kw):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, (3, 2), **kw), nn.Flatten())


def test_convolution():
    ours = inject(conv(stride=2, padding=1), {"0": lambda b: LoRA(b, rank=3, alpha=5)})
    theirs = peft.get_peft_model(conv(stride=2, padding=1), peft.LoraConfig(r=3, lora_alpha=5, target_modules=["0"]))
    stir(trained(ours).values())
    their = theirs.base_model.model[0]
    with torch.no_grad():
        their.lora_A["default"].weight.copy_(ours[0].A.view(3, 4, 3, 2))
        their.lora_B["default"].weight.copy_(ours[0].B.view(6, 3, 1, 1))
    x = torch.randn(2, 4, 9, 8)
    assert (ours(x) - theirs(x)).abs().max() <= 1e-6
    ours(x).square().sum().backward(), theirs(x).square().sum().backward()
    assert torch.allclose(ours[0].A.grad, their.lora_A["default"].weight.grad.view(3, -1), rtol=1e-5, atol=1e-5)


def test_peft_drops_the_dilation_of_a_convolution_and_we_keep_it():
    """peft 0.21.2 copies stride and padding to its low-rank convolution, but not dilation: it cannot run."""
    ours = inject(conv(dilation=2), {"0": lambda b: LoRA(b, rank=3)})
    stir(trained(ours).values())
    x = torch.randn(2, 4, 9, 8)
    assert (merge(ours)(x) - ours(x)).abs().max() <= 1e-5
    theirs = peft.get_peft_model(conv(dilation=2), peft.LoraConfig(r=3, target_modules=["0"]))
    with pytest.raises(RuntimeError):
        theirs(x)


def test_start_is_drawn_from_the_same_distribution():
    """A ~ U(±1/√d_in) and B = 0 in both; in an embedding A = 0 and B ~ N(0, 1)."""
    ours, theirs = LoRA(nn.Linear(400, 300), rank=64), nn.Linear(400, 64)
    assert ours.A.abs().max() <= 1 / 20 and abs(ours.A.std() - theirs.weight.std()) < 1e-3
    assert not ours.B.any()
    token = LoRA(nn.Embedding(50, 300), rank=64)
    assert not token.A.any() and abs(token.B.std() - 1) < 0.02
