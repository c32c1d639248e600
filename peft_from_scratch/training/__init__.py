"""The parts of the training loop that train.py leaves out: one step, scoring, resuming, the progress bar."""
