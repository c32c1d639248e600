"""P-tuning: a small network makes the prompt.  Liu et al. 2021, arXiv:2103.10385, section 3.2.

    P = MLP(LSTM(E))        E: (n, width) trained;  a bidirectional LSTM of `layers` layers and 2 x hidden outputs,
                            MLP: 2 hidden -> 2 hidden -> width with a ReLU between

Vectors trained on their own hardly leave their start and know nothing of each other; through the network they move
together. With `lstm=False` E goes through width -> hidden -> hidden -> width instead (NVIDIA NeMo's variant, and the
default of Hugging Face peft). After training only P is needed: `made` gives it, as a prompt tuning of its own.
Trains E and the network. Does not start as the base.

Kind: additive: soft prompt. On: the body of a model. Trains: n_tokens * width + 8 * hidden * (width + hidden + 2) +
(layers - 1) * 8 * hidden * (3 * hidden + 2) + (2 * hidden + 1) * (2 * hidden + width). Merges: no. peft: P_TUNING.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ...targets import Targets
from .body import new_vectors
from .soft import SoftPrompt, around_body

MLP_COUNT = "n_tokens * width + (width + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * width"


def p_tuning(model: nn.Module, n_tokens: int = 20, *settings, **more) -> Targets:
    """What `inject(model, ...)` needs; the settings are those of `PTuning`."""
    return around_body(model, n_tokens, lambda body: PTuning(body, n_tokens, *settings, **more))


class PTuning(SoftPrompt):
    """The body `base` after vectors that a network makes of E. `hidden`: its width, by default the embeddings'."""

    def __init__(
        self, base: nn.Module, n_tokens: int = 20, hidden: int | None = None, lstm: bool = True, layers: int = 2
    ):
        super().__init__(base, n_tokens)
        self.E = nn.init.normal_(new_vectors(base, n_tokens))
        width = self.E.shape[1]
        hidden = width if hidden is None else hidden
        if hidden < 1 or layers < 1:
            raise ValueError(f"hidden and layers must be at least 1, not hidden={hidden} and layers={layers}")
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True, bidirectional=True) if lstm else None
        widths = [2 * hidden, 2 * hidden, width] if lstm else [width, hidden, hidden, width]
        linear = [nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        between = [part for layer in linear[:-1] for part in (layer, nn.ReLU())]
        self.mlp = nn.Sequential(*between, linear[-1])
        for network in (self.lstm, self.mlp):
            if network is not None:
                network.to(self.E)

    def prompt(self, rows: int) -> Float[Tensor, "1 n width"]:
        h = self.E[None]
        if self.lstm is not None:
            h = self.lstm(h)[0]
        return self.mlp(h)

    def made(self) -> Float[Tensor, "n width"]:
        """The prompt that training arrived at: the P of a `PromptTuning`."""
        return self.prompt(1)[0].detach()
