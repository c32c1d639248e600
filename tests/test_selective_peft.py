"""The selective methods equal Hugging Face peft 0.21.2 where it has them, torch.func or their formulas elsewhere.

FISH mask: its Fisher information equals torch.func's per-sample gradients. Diff pruning: the frequency of open gates
equals the L0 formula, and projecting keeps exactly so many changes. LT-SFT: the positions are those that training moved
most, and the model is back where it started. Masks: super-tuning's positions in one layer, and the largest over all.
Top-k: gradients equal training in place, and the cost is 1/3 + 2/3 k/L.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from hosts import batch, host, stir
from peft_twin import Twin, peft
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from peft_from_scratch import (
    Replaced,
    adapter_state,
    adapters,
    full,
    inject,
    load_adapter,
    merge,
    remove,
    trained,
)
from peft_from_scratch.measure import flop_ratio
from peft_from_scratch.methods.selective import diff_pruning, lt_sft, osf
from peft_from_scratch.methods.selective.beft import BEFT
from peft_from_scratch.methods.selective.diff_pruning import DiffPruning
from peft_from_scratch.methods.selective.fish_mask import fish_mask, fisher
from peft_from_scratch.methods.selective.ln_tuning import ln_tuning
from peft_from_scratch.methods.selective.lt_sft import lottery_ticket
from peft_from_scratch.methods.selective.masks import gradient_mask, magnitude_mask
from peft_from_scratch.methods.selective.osf import OSF
from peft_from_scratch.methods.selective.shira import SHiRA, by_magnitude
from peft_from_scratch.methods.selective.sparse import Sparse
from peft_from_scratch.methods.selective.supertuning import SuperTuning
from peft_from_scratch.methods.selective.top_k import layer_stack, top_k
from peft_from_scratch.methods.selective.trainable_tokens import TrainableTokens, trainable_tokens

LINEAR = {
    "bert": ["query", "value", "intermediate.dense"],
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "t5": ["q", "v", "wi", "wo"],
}
linear = pytest.mark.parametrize("name", LINEAR)


def loud(name):
    """A host with weights large enough for a change inside it to reach the end: BERT's are tiny."""
    model = host(name)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4 if p.dim() > 1 and name == "bert" else 1)
    return model


def count(model):
    return sum(p.numel() for p in trained(model).values())


# -- SHiRA -------------------------------------------------------------------------------------------------------------


sparse_warns = pytest.mark.filterwarnings("ignore:Sparse invariant checks")


@linear
@sparse_warns
def test_shira(name):
    config = peft.ShiraConfig(r=2, random_seed=7, target_modules=LINEAR[name])
    twin = Twin(
        loud(name),
        LINEAR[name],
        lambda b: SHiRA(b, 2, seed=7),
        config,
        lambda o, t: [(o.values, t.shira_weight["default"])],
    )
    for site, ours in adapters(twin.ours):
        rows, columns = twin.theirs.base_model.model.get_submodule(site).shira_indices["default"].long()
        assert torch.equal(ours.positions.long(), rows * ours.in_features + columns)
    twin.check("SHiRA", name, tol=2e-6)


@sparse_warns
@pytest.mark.filterwarnings("ignore:Argument self.mask_type")
def test_shira_with_the_largest_weights():
    def mask(layer, r):
        n = r * sum(layer.weight.shape)
        return (layer.weight.abs() >= layer.weight.abs().flatten().topk(n).values[-1]).float()

    config = peft.ShiraConfig(r=2, mask_type="largest", target_modules=["q_proj"])
    config.mask_fn = mask
    Twin(
        "llama",
        ["q_proj"],
        lambda b: SHiRA(b, 2, by_magnitude),
        config,
        lambda o, t: [(o.values, t.shira_weight["default"])],
    ).check("SHiRA", "llama", tol=2e-6, effect=1e-3)


@pytest.mark.parametrize("rank", [0, 5])
def test_shira_refuses(rank):
    with pytest.raises(ValueError, match="use a rank from 1 to 4"):
        SHiRA(nn.Linear(12, 8), rank)


@pytest.mark.parametrize("positions", [[-1], [96], [3, 3]])
def test_sparse_refuses(positions):
    with pytest.raises(ValueError, match="different numbers from 0 to 95"):
        Sparse(nn.Linear(12, 8), torch.tensor(positions))


# -- Super-tuning ------------------------------------------------------------------------------------------------------


@linear
@pytest.mark.parametrize("settings", [{}, dict(rank=2), dict(rank=3, alpha=2.0), dict(smallest=True)])
def test_supertuning(name, settings):
    config = peft.SupertuningConfig(
        sparsity=0.7,
        select_top=not settings.get("smallest", False),
        r=settings.get("rank"),
        lora_alpha=settings.get("alpha"),
        target_modules=LINEAR[name],
    )

    def pairs(o, t):
        assert torch.equal(o.positions, t.supertuning_indices["default"])
        low_rank = [(o.A, t.supertuning_lora_A), (o.B, t.supertuning_lora_B)] if o.rank else []
        return [(o.values, t.supertuning_values["default"])] + [(mine, t["default"].weight) for mine, t in low_rank]

    Twin(loud(name), LINEAR[name], lambda b: SuperTuning(b, 0.7, **settings), config, pairs).check(
        "Super-tuning", name, tol=2e-6
    )


def test_supertuning_rounds_down_as_peft_does():
    """10 % of 100 are 9, since 1 - 0.9 is less than 0.1 in binary."""
    assert len(SuperTuning(nn.Linear(10, 10), 0.9).values) == 9
    config = peft.SupertuningConfig(sparsity=0.9, target_modules=["0"])
    theirs = peft.get_peft_model(nn.Sequential(nn.Linear(10, 10)), config)
    assert theirs.base_model.model[0].supertuning_values["default"].numel() == 9


@pytest.mark.parametrize(
    "settings", [dict(sparsity=0.999), dict(sparsity=1.0), dict(rank=-1), dict(sparsity=0.5, rank=2, alpha=0)]
)
def test_supertuning_refuses(settings):
    with pytest.raises(ValueError, match="sparsity must be"):
        SuperTuning(nn.Linear(10, 10), **settings)


# -- OSF ---------------------------------------------------------------------------------------------------------------


@linear
@pytest.mark.parametrize("keep", [None, 3])
def test_osf(name, keep):
    config = peft.OSFConfig(effective_rank=keep, target_modules=LINEAR[name])

    def pairs(o, t):
        theirs = t.osf_svd_params["default"]
        return [(o.U, theirs["U_low"]), (o.S, theirs["S_low"]), (o.V, theirs["V_low"])]

    Twin(loud(name), LINEAR[name], lambda b: OSF(b, keep), config, pairs).check("OSF", name, tol=5e-6)


def protected(adapter):
    """How much of the change lies along the protected directions."""
    dU, dV = (adapter.U - adapter.U0).detach(), (adapter.V - adapter.V0).detach()
    return max((adapter.U_h.T @ dU).abs().max().item(), (dV @ adapter.V_h.T).abs().max().item())


def steps(model, optimizer, n=3):
    for _ in range(n):
        optimizer.zero_grad()
        model(torch.randn(9, 12)).sub(1).square().mean().backward()
        optimizer.step()


def test_osf_protects_under_sgd_and_under_adam_only_when_projected():
    for make, free in ((torch.optim.SGD, True), (torch.optim.AdamW, False)):
        adapter = OSF(nn.Linear(12, 8))
        start = adapter.U.detach().clone()
        steps(adapter, make(trained(adapter).values(), lr=0.05))
        assert (adapter.U - start).abs().max() > 1e-3
        assert (protected(adapter) < 1e-6) == free
        osf.project(adapter)
        assert protected(adapter) < 1e-6
        assert (adapter.U - start).abs().max() > 1e-3


def test_a_deep_copy_of_osf_still_protects_and_peft_forgets_to():
    """peft 0.21.2 projects in a hook on the tensor, which copying leaves behind."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8))
    theirs = peft.get_peft_model(copy.deepcopy(net), peft.OSFConfig(target_modules=["0"]))
    ours = inject(net, {"0": OSF})
    x = torch.randn(5, 12)
    along = {}
    for name, model in (("ours", copy.deepcopy(ours)), ("theirs", copy.deepcopy(theirs))):
        model(x).square().mean().backward()
        U = model[0].U if name == "ours" else model.base_model.model[0].osf_svd_params["default"]["U_low"]
        along[name] = (ours[0].U_h.T @ U.grad).abs().max()
    assert along["ours"] < 1e-6 < 1e-3 < along["theirs"]


@pytest.mark.parametrize("keep", [0, 8])
def test_osf_refuses(keep):
    with pytest.raises(ValueError, match="keep must be from 1 to 7"):
        OSF(nn.Linear(12, 8), keep)


# -- BEFT and norms ----------------------------------------------------------------------------------------------------


@linear
@pytest.mark.filterwarnings("ignore:Detected that the base layer has no bias")
def test_beft(name):
    pairs = lambda o, t: [(o.beta, Flat(t.beft_bias["default"]))]  # noqa: E731
    twin = Twin(loud(name), LINEAR[name], BEFT, peft.BeftConfig(target_modules=LINEAR[name]), pairs)
    twin.check("BEFT", name, tol=1e-6)
    if name == "bert":
        given = batch(name)
        assert (merge(twin.ours)(**given).logits - twin.theirs.merge_and_unload()(**given).logits).abs().max() < 1e-6
    else:
        with pytest.raises(NotImplementedError, match="no place for β"):
            merge(twin.ours)


class Flat:
    """Their (1, d) seen as (d)."""

    def __init__(self, theirs):
        self.theirs = theirs

    def copy_(self, mine):
        self.theirs.copy_(mine[None])

    @property
    def grad(self):
        return self.theirs.grad[0]


def test_beft_refuses_an_embedding():
    with pytest.raises(ValueError, match="TrainableTokens"):
        BEFT(nn.Embedding(5, 3))


NORMS = {
    "bert": ["LayerNorm"],
    "gpt2": ["ln_1", "ln_2", "ln_f"],
    "llama": ["input_layernorm", "post_attention_layernorm", "norm"],
    "t5": ["layer_norm", "final_layer_norm"],
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.filterwarnings("ignore:Unsupported layer type")
def test_ln_tuning(name):
    def pairs(o, t):
        theirs = t.ln_tuning_layers["default"]
        return [(mine, getattr(theirs, key)) for key, mine in o.trained.named_parameters()]

    twin = Twin(loud(name), NORMS[name], Replaced, peft.LNTuningConfig(target_modules=NORMS[name]), pairs)
    twin.check("LN-tuning", name, tol=2e-6, effect=1e-3)
    assert trained(ln_tuning(host(name))).keys() == trained(twin.ours).keys(), "it finds the norms itself"


def test_ln_tuning_with_a_head_and_without_a_norm():
    model = ln_tuning(host("bert"), norms=".*encoder.*", head="classifier")
    assert not any("embeddings" in name for name in trained(model))
    assert count(model) == 2 * 2 * 2 * 24 + 2 * 24 + 2
    with pytest.raises(ValueError, match="no norm"):
        ln_tuning(nn.Sequential(nn.Linear(3, 3), nn.PReLU()))


def test_a_norm_is_what_has_a_gain_alone():
    norms = nn.Sequential(nn.LayerNorm(4), nn.RMSNorm(4), nn.GroupNorm(2, 4), nn.BatchNorm1d(4))
    assert count(ln_tuning(norms)) == 8 + 4 + 8 + 8


# -- Trainable tokens --------------------------------------------------------------------------------------------------

TOKENS = [3, 17, 18, 60]


@pytest.mark.parametrize(
    ("name", "targets"), [("bert", ["word_embeddings"]), ("gpt2", ["wte", "lm_head"]), ("llama", ["embed_tokens"])]
)
def test_trainable_tokens(name, targets):
    def sharing(model):
        rows = TrainableTokens(model.get_input_embeddings(), TOKENS).rows
        return lambda base: TrainableTokens(base, TOKENS, rows)

    config = peft.TrainableTokensConfig(target_modules=targets[:1], token_indices=TOKENS)
    pairs = lambda o, t: [(o.rows.weight, t.trainable_tokens_delta["default"])]  # noqa: E731
    given = batch(name)
    given["input_ids"][:, 1:5] = torch.tensor(TOKENS)
    if "labels" in given and name != "bert":
        given["labels"] = given["input_ids"]
    twin = Twin(loud(name), targets, sharing, config, pairs, of_model=True)
    twin.check("Trainable tokens", given, tol=2e-6, effect=1e-3)
    y = twin.ours(**given).logits
    assert (merge(twin.ours)(**given).logits - y).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_tied_heads_and_shared_embeddings_use_the_same_rows(name, tmp_path):
    model, given = trainable_tokens(host(name), iter(TOKENS)), batch(name)
    assert count(model) == len(TOKENS) * 24
    assert sum(t.numel() for k, t in adapter_state(model).items() if "rows" in k) == len(TOKENS) * 24
    assert (model(**given).logits - host(name)(**given).logits).abs().max() < 1e-6
    stir(trained(model).values())
    y = model(**given).logits
    table = host(name).get_input_embeddings().weight.detach().clone()
    table[TOKENS] = next(iter(trained(model).values())).detach()
    by_hand = host(name)
    by_hand.get_input_embeddings().weight.data.copy_(table)  # tied, so the head has it too
    assert (y - by_hand(**given).logits).abs().max() < 1e-5
    again = load_adapter(trainable_tokens(host(name), [1, 2, 3, 4]), adapter_state(model))
    assert torch.equal(again(**given).logits, y), "the tokens are part of the state"
    assert torch.equal(copy.deepcopy(model)(**given).logits, y)
    # frozen as ours is: T5's attention takes another kernel where nothing needs a gradient
    assert torch.equal(remove(model)(**given).logits, host(name).requires_grad_(False)(**given).logits)


def test_peft_forgets_the_bias_of_a_tied_head_and_we_keep_it():
    """huggingface/peft issue 3649: with nothing trained yet, peft 0.21.2 already moves the logits of BERT's head."""

    def masked():
        torch.manual_seed(0)
        model = BertForMaskedLM(
            BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40, vocab_size=61)
        )
        nn.init.normal_(model.cls.predictions.decoder.bias)
        return model.eval()

    ids = torch.arange(1, 15).view(2, 7)
    y = masked()(ids).logits
    config = peft.TrainableTokensConfig(target_modules=["word_embeddings"], token_indices=TOKENS)
    assert (peft.get_peft_model(masked(), config).eval()(ids).logits - y).abs().max() > 1
    ours = trainable_tokens(masked(), TOKENS)
    assert torch.equal(ours(ids).logits, y)
    stir(trained(ours).values())
    moved = (ours(ids).logits - y).abs().amax((0, 1))
    assert moved[TOKENS].min() > 0.1
    assert (merge(ours)(ids).logits - ours(ids).logits).abs().max() < 1e-5


def test_a_scaled_embedding_scales_the_trained_rows_and_padding_trains():
    class Scaled(nn.Embedding):
        def forward(self, x):
            return super().forward(x) * 5

    base, x = Scaled(9, 4, padding_idx=0), torch.tensor([[0, 1, 8]])
    adapter = TrainableTokens(base, [8, 0])
    assert torch.equal(adapter(x), base(x))
    adapter(x).sum().backward()
    assert adapter.rows.weight.grad.tolist() == [[5.0] * 4] * 2


@pytest.mark.parametrize("tokens", [[], [-1], [9]])
def test_trainable_tokens_refuses(tokens):
    with pytest.raises(ValueError, match="from 0 to 8.*resize_token_embeddings"):
        TrainableTokens(nn.Embedding(9, 4), tokens)


# -- Masks, FISH, lottery tickets --------------------------------------------------------------------------------------


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def cross_entropy(model, given):
    return F.cross_entropy(model(given["x"]), given["y"])


def examples(n=8):
    g = torch.Generator().manual_seed(5)
    return {"x": torch.randn(n, 4, generator=g), "y": torch.randint(0, 3, (n,), generator=g)}


def test_fisher_equals_per_sample_gradients_of_torch_func():
    model, given = net(), examples()
    parameters = {k: p.detach() for k, p in model.named_parameters()}

    def loss(parameters, x, y):
        return F.cross_entropy(torch.func.functional_call(model, parameters, (x[None],)), y[None])

    singles = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, given["x"], given["y"])
    ours = fisher(
        model, [{k: v[:3] for k, v in given.items()}, {k: v[3:] for k, v in given.items()}], loss_fn=cross_entropy
    )
    assert list(ours) == ["0", "2"]
    cross_entropy(model, given).backward()
    for site, found in ours.items():
        assert (found - singles[f"{site}.weight"].square().mean(0)).abs().max() < 1e-7
        of_the_batch = model.get_submodule(site).weight.grad.square()
        assert found.sum() > 1.5 * of_the_batch.sum(), "the square of the sum is another thing"


def where(model):
    return {f"{site}:{p}" for site, a in adapters(model) if isinstance(a, Sparse) for p in a.positions.tolist()}


def test_fish_mask_trains_the_largest_over_all_layers():
    given = examples()
    F_ = fisher(net(), [given], loss_fn=cross_entropy)
    model = fish_mask(net(), [given], keep=0.25, loss_fn=cross_entropy)
    assert count(model) == len(where(model)) == int(0.25 * (24 + 18))
    scores = {f"{site}:{i}": s for site, f in F_.items() for i, s in enumerate(f.flatten().tolist())}
    assert where(model) == set(sorted(scores, key=scores.get)[-count(model) :])


def test_fish_mask_leaves_the_model_as_it_was():
    model = host("bert").train()
    before = [p.requires_grad for p in model.parameters()]
    fisher(model, [batch("bert")], targets=r".*\.query")
    assert model.training and before == [p.requires_grad for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())
    model = fish_mask(model, [batch("bert")], keep=0.01, head="classifier")
    assert {"classifier.trained.weight", "classifier.trained.bias"} <= trained(model).keys()
    model(**batch("bert")).loss.backward()
    assert all(p.grad is not None for p in trained(model).values())


def test_magnitude_in_one_layer_is_super_tuning():
    torch.manual_seed(0)
    layer = nn.Linear(12, 8)
    for smallest in (False, True):
        model = magnitude_mask(nn.Sequential(copy.deepcopy(layer)), keep=0.25, smallest=smallest, targets="0")
        same = SuperTuning(layer, 0.75, smallest=smallest)
        assert set(model[0].positions.tolist()) == set(same.positions.tolist())


@pytest.mark.parametrize("times_weight", [False, True])
def test_gradient_mask(times_weight):
    given, plain = examples(), net()
    halves = [{k: v[:4] for k, v in given.items()}, {k: v[4:] for k, v in given.items()}]
    cross_entropy(plain, given).backward()
    scores = {}
    for site in ("0", "2"):
        W = plain.get_submodule(site).weight
        score = (W.grad * W).abs() if times_weight else W.grad.abs()
        scores |= {f"{site}:{i}": s for i, s in enumerate(score.flatten().tolist())}
    model = gradient_mask(net(), halves, keep=0.3, times_weight=times_weight, loss_fn=cross_entropy)
    assert where(model) == set(sorted(scores, key=scores.get)[-int(0.3 * 42) :])


@pytest.mark.parametrize("keep", [0.0, 0.001, 1.5])
def test_masks_refuse_a_share_that_leaves_nothing(keep):
    with pytest.raises(ValueError, match="use a share above 0"):
        magnitude_mask(net(), keep)


def test_masks_need_data():
    with pytest.raises(ValueError, match="at least one"):
        gradient_mask(net(), [], loss_fn=cross_entropy)
    with pytest.raises(ValueError, match="at least one"):
        fish_mask(net(), [], loss_fn=cross_entropy)


def test_lottery_ticket_rewinds_and_trains_what_moved_most():
    model = full(host("bert"))
    start = {k: t.clone() for k, t in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(**batch("bert")).loss.backward()
    optimizer.step()
    moved = {k: (t - start[k]).abs() for k, t in model.state_dict().items()}
    model = lottery_ticket(model, start, keep=0.1, head="classifier")
    assert torch.equal(model(**batch("bert")).logits, host("bert")(**batch("bert")).logits)
    kept, left = [], []
    for site, adapter in adapters(model):
        if isinstance(adapter, Sparse):
            mask = torch.zeros(adapter.base.weight.numel(), dtype=torch.bool)
            mask[adapter.positions.long()] = True
            kept.append(moved[f"{site}.weight"].flatten()[mask])
            left.append(moved[f"{site}.weight"].flatten()[~mask])
    kept, left = torch.cat(kept), torch.cat(left)
    assert kept.min() >= left.max()
    assert len(kept) <= int(0.1 * 2 * (4 * 24 * 24 + 2 * 24 * 40)) < len(kept) + 20
    stir(trained(model).values())
    assert lt_sft.distance(model) > 0.1


def test_lottery_ticket_refuses():
    model = net()
    start = {k: t.clone() for k, t in model.state_dict().items()}
    with pytest.raises(ValueError, match="no target has moved"):
        lottery_ticket(model, start)
    with pytest.raises(ValueError, match="names or shapes differ"):
        lottery_ticket(model, {"0.weight": torch.zeros(6, 4)})
    with pytest.raises(ValueError, match="no sparse change"):
        lt_sft.distance(model)


# -- Diff pruning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_the_penalty_is_how_often_a_gate_is_open(grouped):
    adapter = DiffPruning(nn.Linear(5, 4), grouped=grouped).train()
    with torch.no_grad():
        adapter.alpha.copy_(torch.linspace(-4, 4, 20).view(4, 5))
        adapter.w.fill_(1)
        if grouped:
            adapter.group.fill_(0.5)
    draws = torch.stack([adapter.change().detach() for _ in range(4000)])
    assert ((draws > 0).float().mean(0) - adapter.open()).abs().max() < 0.04
    assert (draws == 0).any() and (draws == 1).any() and ((draws > 0) & (draws < 1)).any()
    model = inject(nn.Sequential(nn.Linear(5, 4)), {"0": lambda b: DiffPruning(b, grouped=grouped)})
    diff_pruning.penalty(model).backward()
    assert (model[0].alpha.grad > 0).all(), "a step on the penalty shuts gates"


def test_projecting_keeps_exactly_so_many_changes_and_then_trains_those_alone():
    model = inject(net(), {"[02]": lambda b: DiffPruning(b, grouped=True)})
    stir([p for k, p in trained(model).items() if k.endswith("w")])
    largest = torch.cat([model[i].eval().change().abs().flatten() for i in (0, 2)]).sort().values[-10:]
    model.train()
    model = diff_pruning.project(model, 10 / 42)
    assert model.training and sorted(trained(model)) == ["0.w", "2.w"]
    changes = torch.cat([model[i].change().flatten() for i in (0, 2)])
    assert torch.allclose(changes[changes != 0].abs().sort().values, largest)
    optimizer = torch.optim.AdamW(trained(model).values(), lr=0.1)
    cross_entropy(model, examples()).backward()
    optimizer.step()
    after = torch.cat([model[i].change().flatten() for i in (0, 2)])
    assert torch.equal(after != 0, changes != 0) and not torch.equal(after, changes)
    again = inject(net(), {"[02]": lambda b: DiffPruning(b, grouped=True)})
    load_adapter(again, adapter_state(model))
    assert torch.equal(again[0].change(), model[0].change())


def test_diff_pruning_needs_its_adapters():
    with pytest.raises(ValueError, match="no DiffPruning"):
        diff_pruning.penalty(net())


# -- Top-k layers ------------------------------------------------------------------------------------------------------


def deep(layers=12, **sizes):
    torch.manual_seed(0)
    config = dict(hidden_size=24, num_attention_heads=3, intermediate_size=96, vocab_size=61) | sizes
    return BertForSequenceClassification(BertConfig(num_hidden_layers=layers, **config)).eval()


def test_top_k_counts_from_the_top_and_by_whole_names():
    for k in (1, 2, 11):
        names = {name.split("layer.")[1].split(".")[0] for name in trained(top_k(deep(), k))}
        assert names == {str(i) for i in range(12 - k, 12)}
    assert any(name.startswith("classifier") for name in trained(top_k(deep(), 1, head="classifier|bert.pooler")))


def test_top_k_equals_training_in_place():
    ours, in_place = top_k(deep(), 2), deep().requires_grad_(False)
    in_place.bert.encoder.layer[10:].requires_grad_(True)
    given = batch("bert")
    for model in (ours, in_place):
        model(**given).loss.backward()
    theirs = {k: p.grad for k, p in in_place.named_parameters() if p.grad is not None}
    mine = {k.replace(".trained.", "."): p.grad for k, p in trained(ours).items()}
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in theirs)
    stir(trained(ours).values(), std=0.02)
    y = ours(**given).logits
    assert torch.equal(merge(ours)(**given).logits, y)
    assert torch.equal(remove(ours)(**given).logits, deep()(**given).logits)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_top_k_costs_a_third_and_two_thirds_of_its_share(k):
    """Just below the formula: the lowest trained layer needs no gradient of what it reads."""
    sizes = dict(hidden_size=96, intermediate_size=384)
    ratio = flop_ratio(top_k(deep(6, **sizes), k, head="classifier|bert.pooler"), full(deep(6, **sizes)), batch("bert"))
    assert 1 / 3 + 2 / 3 * k / 6 - 0.03 < ratio <= 1 / 3 + 2 / 3 * k / 6 + 0.005


@pytest.mark.parametrize(
    ("name", "stack"),
    [("bert", "bert.encoder.layer"), ("gpt2", "transformer.h"), ("llama", "model.layers"), ("t5", "decoder.block")],
)
def test_top_k_finds_the_layers(name, stack):
    model = host(name)
    assert layer_stack(model) == stack
    model = top_k(model, 1)
    assert (model(**batch(name)).logits - host(name)(**batch(name)).logits).abs().max() < 1e-6
    model(**batch(name)).loss.backward()
    assert all(k.startswith(f"{stack}.1.") for k in trained(model))
    if name == "llama":
        assert torch.equal(model.generate(torch.ones(1, 3, dtype=torch.long), max_new_tokens=4, do_sample=False)[:, :3],
                           torch.ones(1, 3, dtype=torch.long))  # fmt: skip


def test_top_k_takes_the_named_stack_and_not_the_experts():
    assert all(k.startswith("encoder.block.1.") for k in trained(top_k(host("t5"), 1, stack="encoder.block")))
    experts = nn.ModuleList(
        nn.ModuleDict({"experts": nn.ModuleList(nn.Linear(3, 3) for _ in range(9))}) for _ in range(4)
    )
    assert layer_stack(nn.ModuleDict({"layers": experts})) == "layers"


@pytest.mark.parametrize(
    ("settings", "words"),
    [(dict(k=0), "from 1 to 2"), (dict(k=3), "from 1 to 2"), (dict(stack="bert.pooler"), "not a list of layers")],
)
def test_top_k_refuses(settings, words):
    with pytest.raises(ValueError, match=words):
        top_k(host("bert"), **settings)


def test_top_k_without_a_stack():
    with pytest.raises(ValueError, match="no list of like layers"):
        top_k(net(), 1)
