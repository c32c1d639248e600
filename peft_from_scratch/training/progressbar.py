"""A progress bar where one can be drawn, and a line every tenth of the way where the output is a log."""

import os
import sys
import time

from tqdm.auto import tqdm


class Progress:
    """Shows `step` of `total` with a few numbers and the time left; nothing at all when `show` is False."""

    def __init__(self, total: int, done: int = 0, label: str = "", show: bool = True):
        self.total, self.first, self.label, self.show = total, done, label or "training", show
        self.start, self.tenth = time.monotonic(), 10 * done // total
        self.bar = tqdm(total=total, initial=done, desc=self.label, unit="step") if show and _can_draw() else None

    def update(self, step: int, **numbers: str) -> None:
        """Say that `step` steps are done."""
        if self.bar is not None:
            self.bar.set_postfix(numbers, refresh=False)
            self.bar.update(1)
        elif self.show and 10 * step // self.total > self.tenth:
            self.tenth = 10 * step // self.total
            left = (time.monotonic() - self.start) / (step - self.first) * (self.total - step)
            said = "  ".join(f"{key} {value}" for key, value in numbers.items())
            print(f"{self.label}: step {step}/{self.total}  {said}  {_clock(left)} left", flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()


def _can_draw() -> bool:
    """A terminal or a notebook; a file or a pipe would get one line per redraw."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and "IPKernelApp" in shell.config:
        return True
    return sys.stderr.isatty() and min(os.get_terminal_size(sys.stderr.fileno())) > 1  # 0 by 0: a container's


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
