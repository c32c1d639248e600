"""What hybrids with a prefix do in the `adapters` library, recorded: this script writes adapters_prefix.safetensors.

In the environment of adapters_blocks.py, on the BERT and the batch that are in its file. For each configuration the
adapters' weights (moved at random), the logits, and the gradients of the sum of logits times the fixed tensor.
(With these versions a prefix has no effect at all on the library's GPT-2.)
"""

from importlib.metadata import version
from pathlib import Path

import torch
from adapters import ConfigUnion, LoRAConfig, ParBnConfig, PrefixTuningConfig, SeqBnConfig
from adapters_blocks import bert, record
from safetensors.torch import load_file, save_file

LENGTHS = dict(prefix_length=4, bottleneck_size=5)
UNIPELT = ConfigUnion(
    PrefixTuningConfig(use_gating=True, **LENGTHS),
    SeqBnConfig(reduction_factor=8, use_gating=True),
    LoRAConfig(r=3, use_gating=True),
)
CONFIGS = {
    "unipelt": UNIPELT,
    "mam": ConfigUnion(PrefixTuningConfig(**LENGTHS), ParBnConfig(reduction_factor=4)),
    "top": PrefixTuningConfig(flat=True, prefix_length=4, leave_out=[0]),
    "bottom": PrefixTuningConfig(flat=True, prefix_length=4, leave_out=[1]),
}


def main():
    torch.manual_seed(0)
    given = load_file(Path(__file__).with_name("adapters_blocks.safetensors"))
    batch = {"input_ids": given["ids"], "attention_mask": given["mask"]}
    own = {k.removeprefix("bert/base/"): t for k, t in given.items() if k.startswith("bert/base/")}
    host, state = bert().eval(), {}
    host.load_state_dict({k: t for k, t in own.items() if k != "logits"}, strict=False)
    assert (host(**batch).logits - own["logits"]).abs().max() <= 1e-6
    for name, config in CONFIGS.items():
        found = record(host, name, config, batch, given["target"])
        state |= {f"bert/{name}/{k}": t for k, t in found.items()}
        print(name, (found["logits"] - own["logits"]).abs().max().item())
    versions = {name: version(name) for name in ("torch", "transformers", "adapters")}
    state = {k: t.detach().clone().contiguous() for k, t in state.items()}
    save_file(state, Path(__file__).with_suffix(".safetensors"), versions)
    print(versions, len(state))


if __name__ == "__main__":
    main()
