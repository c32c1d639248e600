"""Methods that live in the optimiser: LoRA's gradients, and training all weights in less memory.

Each is made from (model, lr), so that `train.fit(..., optimizer=lambda model, lr: ...)` trains with it.
checkpointing: keep block inputs and compute the rest again.
"""
