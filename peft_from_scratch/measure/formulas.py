"""What a training step costs, by formulas that fit on a page. The tests hold them equal to the counted costs.

FLOPs (a multiply-add is two) of T = rows x length tokens through `layers` blocks of N numbers in matrices, with
queries of width a in all heads together:

    forward    layers (2 T N  +  4 T length a)  +  the head        Q K^T and P V have no weights
    full       3 x forward                                         the gradient of every input and of every weight
    LoRA       forward + gradients of inputs + its own             so 2/3 of full, and a little more: a product of two
                                                                   activations asks for both gradients, as in full

Saved for the backward pass, a block, in units of X = T h numbers (h the width), as Korthikanti et al. 2022,
arXiv:2205.05198, equation 1: with 2-byte numbers and 1-byte masks  X (34 + 5 heads length / h)  bytes.
"""

from typing import NamedTuple


class Sizes(NamedTuple):
    """Of a transformer with the same block throughout. `head`: numbers of the matrices behind the last block; they
    multiply one vector a text (`pooled`), as BERT's, or all tokens, as a language model's."""

    layers: int
    width: int
    attention: int
    heads: int
    inner: int
    head: tuple[int, ...]
    pooled: bool = False

    @property
    def linear(self) -> int:
        """q, k, v and o, and the two matrices of the feed-forward layer."""
        return 4 * self.width * self.attention + 2 * self.width * self.inner


def bert(config, labels: int = 2) -> Sizes:
    h = config.hidden_size
    sizes = config.num_hidden_layers, h, h, config.num_attention_heads, config.intermediate_size
    return Sizes(*sizes, (h * h, h * labels), pooled=True)


def gpt2(config) -> Sizes:
    h = config.n_embd
    return Sizes(config.n_layer, h, h, config.n_head, config.n_inner or 4 * h, (h * config.vocab_size,))


def forward_flops(s: Sizes, rows: int, length: int) -> int:
    tokens = rows * length
    block = 2 * tokens * s.linear + 4 * tokens * length * s.attention
    return s.layers * block + 2 * (rows if s.pooled else tokens) * sum(s.head)


def full_flops(s: Sizes, rows: int, length: int) -> int:
    """All weights train, embeddings too: behind them even the first block's input wants a gradient."""
    return 3 * forward_flops(s, rows, length)


def lora_flops(s: Sizes, rows: int, length: int, rank: int) -> int:
    """LoRA on q and v of an encoder, whose classifier trains too."""
    tokens, texts = rows * length, rows if s.pooled else rows * length
    trunk = 2 * forward_flops(s, rows, length) + s.layers * 4 * tokens * length * s.attention
    adapters = s.layers * 2 * 3 * 2 * tokens * rank * (s.width + s.attention)  # q and v; forward, inputs, weights
    classifier = 2 * texts * s.head[-1]
    return trunk + adapters + classifier - _first_block(s, tokens, length, rank)


def _first_block(s: Sizes, tokens: int, length: int, rank: int) -> int:
    """What is not computed there: its input is frozen, so q, k, v and A pass nothing down; nor do the keys want any."""
    passed_down = 2 * tokens * (3 * s.width * s.attention + 2 * rank * s.width)
    keys = 2 * tokens * length * s.attention
    return passed_down + keys


def block_activations(s: Sizes, rows: int, length: int, number: int = 4, mask: int = 4, fused: bool = False) -> int:
    """Bytes that one block of BERT keeps in full fine-tuning with dropout. `number`: bytes of one; `mask`: bytes that
    dropout keeps a number, 1 on a GPU, as many as `number` on a CPU. Norms keep two float32 a token besides.

    Of X: the block's input, q, k, v, what goes into o, each norm's input, and the first one's output (8); two masks.
    Of the inner width: into and out of the activation. Of the scores: the softmax, its mask, and what is left of it;
    fused attention keeps none of these but one float32 a token and head, and the heads' output, which goes into o.
    """
    tokens = rows * length
    x, scores = tokens * s.width, rows * s.heads * length**2
    attention = 4 * tokens * s.heads if fused else scores * (2 * number + mask)
    return x * (8 * number + 2 * mask) + 2 * number * tokens * s.inner + attention + 2 * 2 * 4 * tokens


def static_rule(total: float, trained: float, frozen: float = 2, training: float = 16) -> float:
    """Bytes of weights, gradients and optimiser by the rule of thumb: so many a frozen number, so many a trained one.

    16 is float32 with Adam (4 the weight, 4 the gradient, 8 the moments). Biderman et al. 2024, arXiv:2405.09673,
    appendix H, keep the base in 2 bytes and count what trains as extra: `frozen` holds for all of `total`.
    """
    return frozen * total + training * trained
