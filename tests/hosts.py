"""Tiny random host models, one of each shape that the adapters must fit, and a batch for each."""

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)


def bert():
    config = BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, vocab_size=61,
        max_position_embeddings=32,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def roberta():
    """A head of two layers, and positions that are counted from behind the padding token's number."""
    config = RobertaConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, vocab_size=61,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    return RobertaForSequenceClassification(config)


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=3, vocab_size=61, n_positions=32, pad_token_id=0))


def llama():
    """Grouped-query attention, so that k and v are not square."""
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40,
        vocab_size=61, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def t5():
    """`d_kv * num_heads` differs from `d_model`; one embedding under three names."""
    config = T5Config(
        d_model=24, num_layers=2, num_heads=3, d_kv=10, d_ff=40, vocab_size=61, decoder_start_token_id=0, pad_token_id=0
    )
    return T5ForConditionalGeneration(config)


HOSTS = {"bert": bert, "roberta": roberta, "gpt2": gpt2, "llama": llama, "t5": t5}


def host(name, seed=0):
    torch.manual_seed(seed)
    return HOSTS[name]().eval()


def batch(name, rows=3, length=7, seed=1):
    g = torch.Generator().manual_seed(seed)
    encoder = name in ("bert", "roberta")
    ids = torch.randint(2 if name == "roberta" else 1, 61, (rows, length), generator=g)  # no padding token
    labels = torch.randint(0, 2, (rows,), generator=g) if encoder else ids
    mask = torch.ones_like(ids)
    mask[0, -2:] = 0 if encoder else 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def stir(parameters, seed=2, std=0.3):
    """Move parameters away from their start, so that a test of an adapter does not test zeros."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in parameters:
            p.add_(std * torch.randn(p.shape, generator=g).to(p.dtype))
