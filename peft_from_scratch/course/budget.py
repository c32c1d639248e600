"""How much this machine can do: PEFT_COURSE_MODE=ci|cpu|gpu, read only here; unset, the hardware decides."""

import os
import random
from dataclasses import dataclass

MODES = ("ci", "cpu", "gpu")


@dataclass(frozen=True)
class Budget:
    """Sizes of one run. `amp` is off, bf16 or fp16; `model` and `data` are names for load() and load_data()."""

    mode: str
    device: str
    amp: str
    model: str
    data: str
    train_size: int
    steps: int
    batch_size: int
    max_length: int
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        run = f"{self.model}, {self.steps} steps of {self.batch_size} x {self.max_length}"
        if self.mode == "ci":
            return f"ci: a tiny random model, its numbers mean nothing | {run}"
        if self.mode == "gpu":
            return f"GPU: {_gpu()}, {self.amp}{' (no bf16)' if self.amp == 'fp16' else ''} | {run}"
        hint = "" if has_gpu() else "; in Colab: Runtime > Change runtime type > T4"
        start = "small mode" if has_gpu() else "no GPU: small mode"
        return f"{start} on the CPU, {_threads()} threads{hint}"


def budget() -> Budget:
    """The budget of this machine, or of PEFT_COURSE_MODE."""
    mode = os.environ.get("PEFT_COURSE_MODE") or ("gpu" if has_gpu() else "cpu")
    if mode not in MODES:
        raise ValueError(f"PEFT_COURSE_MODE is {mode!r}; set it to ci, cpu or gpu, or unset it.")
    if mode == "gpu" and not has_gpu():
        raise RuntimeError("PEFT_COURSE_MODE is gpu, but torch finds no GPU. Unset it, or look at nvidia-smi.")
    if mode == "ci":
        return Budget(
            mode, "cpu", "off", "tiny-bert", "toy", train_size=32, steps=4, batch_size=8, max_length=16, seeds=(0,)
        )
    if mode == "cpu":
        return Budget(
            mode,
            "cpu",
            "off",
            "minilm",
            "reviews",
            train_size=2000,
            steps=125,
            batch_size=16,
            max_length=64,
            seeds=(0,),
        )
    return Budget(
        mode,
        "cuda",
        _amp(),
        "FacebookAI/roberta-base",
        "reviews",
        train_size=2000,
        steps=250,
        batch_size=16,
        max_length=128,
        seeds=(0, 1, 2),
    )


def setup(lesson: str = "", seed: int = 0) -> Budget:
    """Seed Python, numpy and torch, say what this machine is and how long the lesson's runs took where they were
    measured, and return the machine's budget."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    machine = budget()
    print(machine)
    if took := run_time(lesson, machine.mode):
        print(took)
    return machine


def run_time(lesson: str, mode: str) -> str:
    """The measured minutes and memory of a lesson's runs in one sentence; "" where nobody measured them."""
    from .saved import measured_runs

    if not (found := measured_runs(lesson).get(mode)):
        return ""
    took, memory = f"{found['seconds'] / 60:.1f} minutes", f"at most {found['peak_mb'] / 1000:.1f} GB of memory"
    return f"all runs of this lesson: {took}, {memory} (measured on {found['machine']}, nothing beside it)"


def has_gpu() -> bool:
    """Whether torch finds a GPU; False too where there is no torch, which quizzes and reports do not need."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.cuda.is_available()


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _amp() -> str:
    import torch

    # torch.cuda.is_bf16_supported() also says yes where bf16 is only emulated, as on a T4
    return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"


def _gpu() -> str:
    import torch

    device = torch.cuda.get_device_properties(0)
    return f"{device.name} {device.total_memory / 2**30:.0f} GB"
