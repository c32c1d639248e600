"""Methods that change hidden states, or run a small network beside the frozen one."""
