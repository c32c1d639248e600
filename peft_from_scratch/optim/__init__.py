"""Methods that live in the optimiser: LoRA's gradients, and training all weights in less memory."""
