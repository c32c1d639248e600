"""What the papers of optimisers say at their edges: smallest rank and period, square matrices, half precision."""

import pytest
import torch
from torch import nn

from peft_from_scratch import LoRA, full, trained
from peft_from_scratch.optim import apollo
from peft_from_scratch.optim.adalomo import AdaLomo, inverse_root
from peft_from_scratch.optim.apollo import Apollo
from peft_from_scratch.optim.badam import BAdam
from peft_from_scratch.optim.galore import GaLore
from peft_from_scratch.optim.lisa import LISA
from peft_from_scratch.optim.lora_fa import lora_fa
from peft_from_scratch.optim.lora_plus import lora_plus
from peft_from_scratch.optim.riemannian import riemannian
from peft_from_scratch.quant import paged

PROJECTING = [GaLore, Apollo]


def weight(*shape, dtype=torch.float32):
    """A parameter with a gradient."""
    p = nn.Parameter(torch.randn(*shape).to(dtype))
    p.grad = torch.randn(*shape).to(dtype)
    return p


@pytest.mark.parametrize("make", PROJECTING)
def test_a_projected_optimiser_takes_every_rank_that_fits_and_every_period(make):
    for rank in (1, 4):
        before = (p := weight(4, 6)).detach().clone()
        make([{"params": [p], "rank": rank}], every=1).step()
        assert not torch.equal(p, before)
    for wrong in (0, 5, 6):
        with pytest.raises(ValueError, match="rank"):
            make([{"params": [weight(4, 6)], "rank": wrong}])
    for wrong in ({"lr": 0.0}, {"every": 0}):
        with pytest.raises(ValueError, match="lr"):
            make([weight(4, 6)], **wrong)


@pytest.mark.parametrize("make", [*PROJECTING, AdaLomo])
@pytest.mark.parametrize("rank", [{}, {"rank": 2}])
def test_a_step_of_bfloat16_weights_is_that_of_float32_ones_rounded(make, rank):
    half, full = weight(4, 6, dtype=torch.bfloat16), nn.Parameter(torch.zeros(4, 6))
    full.data, full.grad = half.detach().float(), half.grad.float()
    for p in (half, full):
        make([{"params": [p], **rank}], lr=0.1).step()
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), full, rtol=0.02, atol=0.02)


def test_galore_projects_a_square_gradient_on_the_right():
    """m ≥ n: W ← W - η α N Pᵀ, so that a step lies in the span of r right singular vectors of G."""
    p = weight(5, 5)
    before, V = p.detach().clone(), torch.linalg.svd(p.grad).Vh[:2]
    GaLore([{"params": [p], "rank": 2}], lr=0.1).step()
    step = p.detach() - before
    assert step.norm() > 1e-3 and torch.allclose(step @ V.T @ V, step, atol=1e-6)


def test_adalomo_computes_in_float32_and_rounds_once():
    half, full = weight(40, 6, dtype=torch.bfloat16), nn.Parameter(torch.zeros(40, 6))
    full.data, full.grad = half.detach().float(), half.grad.float()
    for p in (half, full):
        AdaLomo([p], lr=0.5).step()
    assert torch.equal(half, full.bfloat16())


def test_adalomo_takes_a_weight_of_three_dimensions_as_so_many_matrices():
    squares = torch.rand(2, 3, 4)
    apart = torch.stack([inverse_root(square, {}, 0.0) for square in squares])
    assert torch.allclose(inverse_root(squares, {}, 0.0), apart)


@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_lora_fa_damps_as_much_as_it_is_asked_to(damping):
    """g_B ← g_B (A Aᵀ + δ I)⁻¹ / s²."""
    model = nn.Sequential(LoRA(nn.Linear(12, 8), rank=3, alpha=6))
    optimizer = lora_fa(model, lr=1.0, damping=damping, optimizer=torch.optim.SGD)
    model(torch.randn(5, 12)).square().sum().backward()
    A, B = model[0].A, model[0].B
    wanted = B.detach() - B.grad @ torch.linalg.inv(A @ A.T + damping * torch.eye(3)) / 2**2
    optimizer.step()
    assert torch.allclose(B, wanted, atol=1e-4 * wanted.abs().max())
    assert all(group["damping"] == damping for group in optimizer.param_groups), "a checkpoint tells runs apart"


def test_apollo_has_a_projection_of_its_own_for_each_weight_seed_and_period(monkeypatch):
    drawn = [apollo.projection(2, 6, seed, period) for seed in range(3) for period in range(3)]
    assert all(not torch.equal(P, Q) for i, P in enumerate(drawn) for Q in drawn[:i])
    asked = []
    monkeypatch.setattr(apollo, "projection", lambda *how: asked.append(how) or torch.ones(how[:2]))
    optimizer = Apollo([{"params": [weight(4, 6), weight(4, 6)], "rank": 2}], every=1, seed=7)
    for _ in range(3):
        optimizer.step()
    (a, b), seeds = ({seed for *_, seed, _ in asked[i::2]} for i in (0, 1)), {seed for *_, seed, _ in asked}
    assert len(a) == len(b) == 1 and len(seeds) == 2 and seeds != {0, 1}, "the seed counts, and the weight"
    assert [period for *_, period in asked] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_apollo_scales_a_half_precision_gradient_in_float32(shape):
    (group,), G = (Apollo([{"params": [weight(*shape)], "rank": 2}]).param_groups, torch.randn(shape).bfloat16())
    there, here = (Apollo.direction(None, g, {"seed": 3}, group)[0] for g in (G, G.float()))
    assert there.dtype == torch.float32 and torch.equal(there, here)


def test_apollo_scales_a_square_gradient_row_by_row_as_apollo_torch_does():
    p = weight(5, 5)
    before = p.detach().clone()
    Apollo([{"params": [p], "rank": 2}], lr=0.1).step()
    scale = (p.detach() - before) / p.grad
    assert (scale.std(1) < 1e-4 * scale.abs().mean()).all() and scale[:, 0].std() > 1e-3 * scale.abs().mean()


def test_apollo_leaves_a_channel_without_a_gradient_where_it_is():
    p = weight(4, 6)
    p.grad[:, 2] = 0
    before = p.detach().clone()
    Apollo([{"params": [p], "rank": 2}]).step()
    assert torch.equal(p[:, 2], before[:, 2]) and p.isfinite().all() and not torch.equal(p, before)


def walk(model, turns, steps):
    for _ in range(steps):
        model(torch.randn(5, 4)).square().sum().backward()
        turns.step()
        turns.zero_grad()


def blocks(n):
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(n)])
    return full(model), torch.optim.AdamW(model.parameters(), lr=0.1)


def test_a_block_may_have_a_turn_of_one_step_and_all_blocks_may_be_awake():
    model, optimizer = blocks(2)
    badam = BAdam(model, r"\d", optimizer, every=1, order="ascending")
    seen = [badam.awake[:]]
    for _ in range(3):
        walk(model, badam, 1)
        seen.append(badam.awake[:])
    assert seen == [[0], [1], [0], [1]]
    assert LISA(*blocks(2)[:1], r"\d", optimizer, active=2, every=1).awake == [0, 1]
    for make, wrong in ((BAdam, dict(every=0)), (LISA, dict(every=0)), (LISA, dict(active=3)), (LISA, dict(active=0))):
        with pytest.raises(ValueError, match="every at least 1"):
            make(model, r"\d", optimizer, **wrong)


def test_badam_starts_from_nothing_even_where_the_same_block_goes_on():
    model, optimizer = blocks(1)
    badam = BAdam(model, r"\d", optimizer, every=2)
    walk(model, badam, 1)
    assert optimizer.state
    walk(model, badam, 1)
    assert not optimizer.state


def test_loaded_states_wait_at_home(monkeypatch):
    p, moved = weight(3, 3), []
    states = paged.Paged([p])
    states.step()
    monkeypatch.setattr(paged, "move", lambda state, device: moved.append(device))
    states.load_state_dict(states.state_dict())
    assert moved == [torch.device("cpu")]


def test_a_preconditioned_gradient_hangs_on_no_graph():
    model = nn.Sequential(LoRA(nn.Linear(12, 8), rank=3))
    optimizer = riemannian(model, torch.optim.SGD(trained(model).values(), lr=0.1))
    model(torch.randn(5, 12)).square().sum().backward()
    optimizer.step()
    assert not any(p.grad.requires_grad for p in trained(model).values())


@pytest.mark.parametrize("wrong", [dict(lr=0.0), dict(lr=1e-3, ratio=0.0)])
def test_lora_plus_needs_rates_above_nothing(wrong):
    with pytest.raises(ValueError, match="above 0"):
        lora_plus(nn.Sequential(LoRA(nn.Linear(12, 8))), **wrong)
