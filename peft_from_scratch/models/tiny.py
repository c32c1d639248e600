"""Four random models of two layers, one per architecture the course meets, and the tokenizer they share.

Sizes are odd and no weight is square where the architecture allows it, so that a transposed or confused shape
fails at once. The body comes from one fixed seed, as a pretrained one would; only the head follows `seed`.
"""

import string

import torch
from torch import nn

from ..data.toy import words

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|im_start|>", "<|im_end|>"]
PAD, CLS, SEP, START, END = 0, 2, 3, 5, 6
CHAT = (  # the form of SmolLM2, without its system message
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def vocabulary() -> dict[str, int]:
    """Special tokens, the words of the toy tasks and the chat form, and single characters for all other ASCII text."""
    characters = [c for c in string.printable.lower() if not c.isspace()]
    pieces = SPECIAL + words() + ["user", "assistant"] + characters + [f"##{c}" for c in characters]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def configs() -> dict[str, object]:
    """The transformers configuration of each tiny model."""
    from transformers import BertConfig, GPT2Config, LlamaConfig, T5Config

    size = len(vocabulary())
    chat = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}
    return {
        "tiny-bert": BertConfig(
            vocab_size=size, hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=70,
            max_position_embeddings=130, initializer_range=0.08, pad_token_id=PAD,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        ),
        "tiny-gpt2": GPT2Config(
            vocab_size=size, n_embd=36, n_layer=2, n_head=3, n_inner=70, n_positions=130, initializer_range=0.15,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **chat,
        ),
        "tiny-llama": LlamaConfig(
            vocab_size=size, hidden_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=10, intermediate_size=70, max_position_embeddings=130, initializer_range=0.15,
            tie_word_embeddings=True, **chat,
        ),
        "tiny-t5": T5Config(
            vocab_size=size, d_model=36, d_kv=10, d_ff=70, num_layers=2, num_heads=3, dropout_rate=0.0,
            feed_forward_proj="gated-gelu", pad_token_id=PAD, eos_token_id=SEP, decoder_start_token_id=PAD,
        ),
    }  # fmt: skip


def tiny_model(name: str, auto: type, num_labels: int, dtype: torch.dtype, seed: int, **kwargs) -> nn.Module:
    """The tiny model called `name` for the task of the transformers class `auto`, in eval mode."""
    from transformers import AutoModel

    config = configs()[name]
    config.num_labels = num_labels
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        body = AutoModel.from_config(config, dtype=dtype, **kwargs)
        torch.default_generator.manual_seed(seed)
        model = auto.from_config(config, dtype=dtype, **kwargs)
    prefix = model.base_model_prefix
    getattr(model, prefix, model).load_state_dict(body.state_dict(), strict=False)  # not strict: no head in it
    return model.eval()


def tiny_tokenizer(name: str):
    """A lower-casing WordPiece tokenizer over `vocabulary`; it frames a text the way `name` expects."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordPiece(vocabulary(), unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    frame = {"tiny-bert": "[CLS] $A [SEP]", "tiny-t5": "$A [SEP]"}.get(name, "$A")
    inner.post_processor = processors.TemplateProcessing(single=frame, special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)])
    encoder = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    decoder = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    own = {"tiny-bert": encoder, "tiny-t5": {"eos_token": "[SEP]"}}.get(name, decoder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", model_max_length=128, **own,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    tokenizer.chat_template = CHAT
    return tokenizer
