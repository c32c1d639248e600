"""Several processes on one results folder, each with its share of the cores.

They share nothing but the store, which gives each run to one of them, so that none waits for another's data or scoring.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PASSED_ON = ("task", "model", "methods", "seeds", "budget", "results", "rates")


@contextmanager
def helpers(args: argparse.Namespace) -> Iterator[None]:
    """While the block runs, `args.jobs - 1` more processes run the same command; it is left when all have ended.

    An error here ends them too. One that fails is no loss: what it had begun is done by the others.
    """
    if args.jobs < 1:
        raise ValueError(f"--jobs is {args.jobs}: at least one process is needed")
    before = torch.get_num_threads()
    threads = max(1, before // args.jobs)
    torch.set_num_threads(threads)
    given = {name: getattr(args, name) for name in PASSED_ON}
    words = [f"--{name}={value}" for name, value in given.items() if value not in (None, "")]
    command = [sys.executable, "-m", "peft_from_scratch", "compare", "--helper", *words]
    surroundings = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started = [subprocess.Popen(command, env=surroundings) for _ in range(args.jobs - 1)]
    try:
        yield
    except BaseException:
        for process in started:
            process.terminate()
        raise
    finally:
        for process in started:
            process.wait()
        torch.set_num_threads(before)
