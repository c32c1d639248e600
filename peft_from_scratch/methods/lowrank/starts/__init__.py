"""Where LoRA's A and B begin: one paper, one file, one function for `LoRA(base, start=...)`.

From the weights alone: gaussian, pissa, fast_pissa, olora, orthogonal, mica (which also freezes B).
From data, collected by a pass over the plain model (collect.py): corda, eva, lora_ga. From a quantiser: loftq.
"""
