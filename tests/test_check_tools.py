"""What properties are written with: which tensors are compared, and what is said of the others."""

import pytest
import torch
from torch import nn

from peft_from_scratch.check import exercise
from peft_from_scratch.check.grading import grade
from peft_from_scratch.check.tools import close, distance, expect_close, expect_tensor, name_the_fault


class Yes(torch.Tensor):
    """Says of every comparison that nothing differs."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.zeros(args[0].size() if function is torch.Tensor.detach else ())


class Named(torch.Tensor):
    """Calls itself torch's."""


Named.__module__, Named.__name__ = "torch", "Tensor"


class Pretends:
    __class__ = torch.Tensor


WANT = torch.ones(2, 3)


@pytest.mark.parametrize("kind", [Yes, Named])
@pytest.mark.parametrize("compare", [
    expect_tensor, lambda got: close(got, WANT), lambda got: distance(got, WANT),
    lambda got: expect_close(got, WANT, "wrong."), lambda got: name_the_fault(got, WANT, {}, "wrong."),
])  # fmt: skip
def test_a_tensor_that_answers_for_itself_is_not_compared(kind, compare):
    with pytest.raises(AssertionError, match=f"a {kind.__name__}, a tensor of a class of its own"):
        compare(torch.zeros(2, 3).as_subclass(kind))


@pytest.mark.parametrize("other, said", [
    (None, "returned None: is a `return` missing"), (Pretends(), "a Pretends; a tensor"), ([1.0], "a list; a tensor"),
])  # fmt: skip
def test_what_is_no_tensor_is_named(other, said):
    with pytest.raises(AssertionError, match=said):
        distance(other, WANT)


def test_what_torch_makes_is_compared():
    from torch._subclasses.fake_tensor import FakeTensorMode

    for each in (WANT, nn.Parameter(WANT), nn.Buffer(WANT), nn.UninitializedParameter()):
        expect_tensor(each)
    with FakeTensorMode():
        expect_tensor(torch.ones(2))
    assert distance(nn.Parameter(WANT), WANT) == 0.0


def test_a_check_is_not_fooled_by_it():
    def lora_forward(x, W, b, A, B, scale):
        return (x @ W.T + b).as_subclass(Yes)

    result = grade(exercise("lora.forward"), lora_forward)
    assert not result.passed and result.points == 0 and "a tensor of a class of its own" in result.first_failure
