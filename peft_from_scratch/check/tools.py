"""What properties are written with: random inputs, comparisons, advice. None of it uses torch.allclose."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# held here, so that a name patched in the notebook (torch.allclose = ...) changes no verdict
_randn, _isfinite, _Tensor, _Parameter = torch.randn, torch.isfinite, torch.Tensor, torch.nn.Parameter


def draw(rng: torch.Generator, *shape: int) -> Tensor:
    """A standard normal float32 tensor on the CPU."""
    return _randn(*shape, generator=rng, device="cpu", dtype=torch.float32)


def expect(condition: object, advice: str) -> None:
    """Fail the property with one sentence of advice."""
    if not bool(condition):
        raise AssertionError(advice)


def letters(order: object, like: str, last: str = "") -> list[str]:
    """The letters of an answer that puts lines in order; `like` shows how to write them, `last` is the last one."""
    expect(isinstance(order, (list, tuple, str)), f"write the letters as a list: [{like}, ...].")
    given = order.translate({ord(mark): None for mark in " ,;"}) if isinstance(order, str) else order
    found = [str(each).strip().upper() for each in given]
    expect(not last or all(len(each) == 1 and "A" <= each <= last for each in found), f"use the letters A to {last}.")
    return found


def expect_before(found: list[str], rules: Iterable[tuple[str, str, str]]) -> None:
    """Fail with the advice of the first rule (first, then, advice) whose `then` has no `first` before it."""
    for first, then, advice in rules:
        expect(then not in found or (first in found and found.index(first) < found.index(then)), advice)


def distance(got: object, want: Tensor) -> float:
    """max |got - want|, or inf where shapes differ or a value is not finite."""
    expect_tensor(got)
    if got.shape != want.shape or not bool(_isfinite(got).all()):
        return math.inf
    return float((got.detach().double() - want.detach().double()).abs().max()) if got.numel() else 0.0


def close(got: object, want: Tensor, tol: float = 1e-5) -> bool:
    """Equal within `tol`, relative to the largest wanted value where that exceeds 1."""
    scale = max(1.0, float(want.detach().abs().max())) if want.numel() else 1.0
    return distance(got, want) <= tol * scale


def expect_tensor(got: object, what: str = "it") -> None:
    """Fail with words where something other than a tensor came back, or one of a class that answers for itself."""
    if got is None:
        raise AssertionError(f"{what} returned None: is a `return` missing?")
    kind = type(got)  # isinstance would ask the object
    if kind in (_Tensor, _Parameter) or issubclass(kind, _Tensor) and _of_torch(kind):
        return
    if issubclass(kind, _Tensor):
        raise AssertionError(f"{what} returned {_a(got)}, a tensor of a class of its own; return a plain torch.Tensor.")
    raise AssertionError(f"{what} returned {_a(got)}; a tensor is wanted.")


def _of_torch(kind: type) -> bool:
    """Whether torch has this class under its own name: a name alone is soon given."""
    there = sys.modules.get(kind.__module__) if kind.__module__.split(".")[0] == "torch" else None
    return getattr(there, kind.__name__, None) is kind


def expect_close(got: object, want: Tensor, advice: str, tol: float = 1e-5) -> None:
    """Fail with `advice` unless `got` is a tensor equal to `want`; a wrong shape is named too."""
    expect_tensor(got)
    if got.shape != want.shape:
        raise AssertionError(f"{advice} (shape {tuple(got.shape)}; wanted {tuple(want.shape)})")
    expect(close(got, want, tol), advice)


def expect_number(got: object, want: float, advice: str, rel: float = 1e-6) -> None:
    """Fail with `advice` unless `got` is a number within `rel` of `want`."""
    if got is None:
        raise AssertionError("None came back; a number is wanted (is a `return` missing?).")
    try:
        value = float(got) if not isinstance(got, (str, bool)) else math.nan
    except (TypeError, ValueError):
        value = math.nan
    if math.isnan(value):
        raise AssertionError(f"{_a(got)} came back; a number is wanted.")
    expect(abs(value - want) <= rel * max(abs(want), 1e-12), advice)


LORA_SHAPES = (
    "the shapes do not fit. A is (r, d_in) and B is (d_out, r): x meets A.T first, then B.T. "
    "In another order it would run on square layers only, and be wrong there."
)


def run(answer: Callable, *arguments: object, shapes: str = LORA_SHAPES) -> object:
    """Call the answer; where shapes do not fit, say what they mean instead of torch's message."""
    try:
        return answer(*arguments)
    except RuntimeError as error:
        if "shape" not in str(error) and "size" not in str(error):
            raise
    raise AssertionError(shapes)


def name_the_fault(got: object, want: Tensor, suspects: dict[str, Tensor], otherwise: str) -> None:
    """Pass if `got` is `want`; else say which of the known faults it equals: {advice: what that fault gives}."""
    expect_tensor(got)
    if close(got, want):
        return
    for advice, value in suspects.items():
        if got.shape == value.shape and close(got, value):
            raise AssertionError(advice)
    expect_close(got, want, otherwise)


def agrees(
    answer: Callable, cases: Iterable[tuple], right: Callable, suspects: dict[str, Callable], otherwise: str
) -> None:
    """Pass if the answer is the number `right` says in all cases; else name the known fault that it is in all."""
    got = [answer(*case) for case in cases]
    said = next(
        (advice for advice, wrong in suspects.items() if _same(got, [wrong(*case) for case in cases])), otherwise
    )
    for value, case in zip(got, cases, strict=True):
        expect_number(value, right(*case), said)


def _same(got: list, faulty: list) -> bool:
    """Equal but for rounding: (L + k) / (3 * L) and (L + k) / 3 / L are one fault."""
    try:
        return all(math.isclose(float(a), float(b), rel_tol=1e-9) for a, b in zip(got, faulty, strict=True))
    except (TypeError, ValueError):
        return False


@contextmanager
def unchanged(**tensors: Tensor) -> Iterator[None]:
    """Fail if the body changes one of these tensors: `with unchanged(x=x, W=W): answer(x, W)`."""
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    yield
    for name, tensor in tensors.items():
        expect(
            distance(tensor, before[name]) == 0.0,
            f"it changed its input `{name}` in place; make a new tensor instead (no `+=`, no method ending in `_`).",
        )


def _a(thing: object) -> str:
    name = type(thing).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
