"""Run a learner's code so that nothing it does to torch, numpy, random or the screen outlives the check."""

import io
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy


class _Nowhere(io.TextIOBase):
    """Drops what is written: an endless loop that prints must not fill the memory."""

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """A fixed seed (below 2**32), float32, gradients on, CPU, no printing, no warnings; afterwards all is as before."""
    import torch  # here, so that progress and reports need no torch

    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    dtype = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float32)
        random.seed(seed)
        numpy.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.device("cpu"),
            warnings.catch_warnings(),
            redirect_stdout(_Nowhere()),
            redirect_stderr(_Nowhere()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(dtype)
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])
