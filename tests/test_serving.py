"""Serving: rows of one batch with different adapters, and sets that come and go under a running model."""

import copy

import pytest
import torch
from contract import INPUTS, KINDS, load_rows
from hosts import batch, host, stir
from torch import nn

from peft_from_scratch import (
    Adapter,
    LoRA,
    Replaced,
    Switch,
    adapter_state,
    adapters,
    inject,
    load_adapter,
    remove,
    save_adapter,
    switch,
    trained,
)
from peft_from_scratch.adapter import base_parameters
from peft_from_scratch.combine.beside import load_beside
from peft_from_scratch.combine.rows import KNOWS_THE_BATCH, per_row
from peft_from_scratch.methods.lowrank.dora import DoRA
from peft_from_scratch.methods.prompts.prompt_tuning import prompt_tuning
from peft_from_scratch.methods.representation.side import SideTuning
from peft_from_scratch.methods.rotation.oft import OFT

QV = r".*\.(query|value)"
HEAD = r"classifier"


class Two(nn.Module):
    """A module with two answers, as many blocks have."""

    def forward(self, x):
        return x, x


class Doubled(Adapter):
    """Doubles the first of them."""

    def __init__(self, base):
        super().__init__(base)
        self.s = nn.Parameter(torch.ones(()))

    def forward(self, x):
        y, *rest = self.base(x)
        return (2 * self.s * y, *rest)


def with_sets(model, **sets):
    """The model with a trained set for each name; the first is active."""
    for seed, (name, targets) in enumerate(sets.items()):
        model = inject(model, targets, name=name)
        stir(trained(switch(model, name)).values(), seed=seed + 5)
    return switch(model, next(iter(sets)))


def three(name="bert", **more):
    """Sets of unlike ranks and sites; only one of them has a head."""
    if name == "bert":
        return with_sets(
            host(name), a={QV: LoRA, HEAD: Replaced}, b={r".*\.key": lambda b: LoRA(b, rank=3), QV: LoRA}, **more
        )
    return with_sets(host(name), a={"all-linear": LoRA}, b={"all-linear": lambda b: LoRA(b, rank=3, alpha=5)}, **more)


def tokens(name, rows):
    given = batch(name, rows)
    return {"input_ids": given["input_ids"]} | ({"labels": given["labels"]} if name == "t5" else {})


@torch.no_grad()
def logits(model, name, given):
    return model(**given).logits


def alone(model, name, given, names):
    """Each row as a batch of one, by its own adapter."""
    rows = [logits(switch(model, n), name, {k: t[i : i + 1] for k, t in given.items()}) for i, n in enumerate(names)]
    return torch.cat(rows)


# --- one batch, several adapters --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_rows_are_what_they_are_alone_and_base_rows_the_base_s_bit_for_bit(name):
    names, given = ["b", None, "a", "b", None, "a"], tokens(name, 6)
    model, plain = three(name), logits(host(name), name, given)
    with per_row(model, names):
        y = logits(model, name, given)
    base = torch.tensor([n is None for n in names])
    assert torch.equal(y[base], plain[base])
    assert (y[~base] - plain[~base]).abs().amax((1, 2) if y.dim() == 3 else 1).min() > 1e-3, "the adapters matter"
    assert (y - alone(model, name, given, names)).abs().max() <= 1e-5


def test_all_rows_of_one_adapter_are_its_batch_and_all_of_none_the_base_s():
    model, given = three(), tokens("bert", 4)
    with per_row(model, ["a"] * 4):
        y = logits(model, "bert", given)
    assert (y - logits(switch(model, "a"), "bert", given)).abs().max() <= 1e-6
    with per_row(model, [None] * 4):
        assert torch.equal(logits(model, "bert", given), logits(host("bert"), "bert", given))


def test_mixed_methods_in_one_batch():
    """LoRA beside methods that turn, rescale or replace: these answer their rows by their own forward."""
    sets = {
        "lora": {QV: LoRA},
        "dora": {QV: DoRA},
        "oft": {QV: lambda b: OFT(b, block_size=4)},
        "full": {r".*\.query": Replaced},
    }
    given, model = tokens("bert", 6), with_sets(host("bert"), **sets)
    for names in (["oft", "lora", None, "dora", "full", "oft"], ["oft", "dora", "full", "dora", "oft", "oft"]):
        with per_row(model, names):
            y = logits(model, "bert", given)
        if None in names:
            assert torch.equal(y[2], logits(host("bert"), "bert", given)[2])
        assert (y - alone(model, "bert", given, names)).abs().max() <= 1e-5


def test_dropout_is_on_in_training_and_off_otherwise():
    model = with_sets(nn.Sequential(nn.Linear(4, 3)), a={"0": lambda b: LoRA(b, dropout=0.5)}, b={"0": LoRA}).train()
    x = torch.randn(2, 4)
    with per_row(model, ["a", "b"]):
        answers = torch.stack([model(x) for _ in range(8)])
        assert (answers[:, 0] != answers[0, 0]).any() and torch.equal(answers[:, 1], answers[:1, 1].expand(8, -1))
        model.eval()
        assert torch.equal(model(x), model(x))


TABLE = load_rows()
CELLS = [(method, next(k for k in KINDS if k not in row.not_for)) for method, row in TABLE.items()]
CELLS += [("LoRA", kind) for kind in KINDS if kind not in TABLE["LoRA"].not_for and kind != "Linear"]


@pytest.mark.parametrize(("method", "kind"), CELLS)
def test_every_method_goes_row_by_row_or_is_refused(method, kind):
    torch.manual_seed(0)
    model = nn.Sequential(KINDS[kind]())
    plain = copy.deepcopy(model)
    x = INPUTS[kind](torch.Generator().manual_seed(3))
    x = torch.cat([x, x.flip(0), x[:1]])
    for seed, name in enumerate("ab"):
        model = inject(model, {"0": TABLE[method].factory}, name=name).eval()
        stir(trained(switch(model, name)).values(), seed=seed)
    names = ["b", None, "a", "a", "b"]
    if any(isinstance(a, KNOWS_THE_BATCH) for _, a in adapters(model)):
        with pytest.raises(ValueError, match="does not answer a row by itself"), per_row(model, names):
            pass
        return
    with per_row(model, names):
        y = model(x)
    assert torch.equal(y[1], plain(x)[1])
    for i, name in enumerate(names):
        assert (y[i] - switch(model, name)(x[i : i + 1])[0]).abs().max() <= 1e-5


def test_a_mixed_batch_is_peft_s():
    peft = pytest.importorskip("peft")
    config = dict(target_modules=["query", "value"], r=4, lora_alpha=6)
    theirs = peft.get_peft_model(host("bert"), peft.LoraConfig(**config), adapter_name="one")
    theirs.add_adapter("two", peft.LoraConfig(**config))
    sets = {n: {QV: lambda b: LoRA(b, rank=4, alpha=6)} for n in ("one", "two")}
    ours = with_sets(host("bert"), **sets)
    with torch.no_grad():
        for n in ("one", "two"):
            for site, a in adapters(ours, n):
                layer = theirs.base_model.model.get_submodule(site)
                layer.lora_A[n].weight.copy_(a.A)
                layer.lora_B[n].weight.copy_(a.B)
    given = tokens("bert", 5)
    names = ["one", "two", None, "two", "one"]
    with per_row(ours, names):
        y = logits(ours, "bert", given)
    z = logits(theirs.eval(), "bert", given | {"adapter_names": [n or "__base__" for n in names]})
    assert (y - z).abs().max() <= 1e-5


def test_a_4_bit_base():
    from peft_from_scratch.quant import to_4bit

    torch.manual_seed(0)
    model = with_sets(nn.Sequential(to_4bit(nn.Linear(64, 24))), a={"0": LoRA}, b={"0": LoRA})
    x = torch.randn(3, 5, 64)
    base = model[0].base(x)
    with per_row(model, ["b", None, "a"]):
        y = model(x)
    assert torch.equal(y[1], base[1])
    assert (y[0] - switch(model, "b")(x)[0]).abs().max() <= 1e-5
    assert (y[2] - switch(model, "a")(x)[2]).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["gpt2", "t5"])
@pytest.mark.parametrize("beams", [1, 3])
def test_generation(name, beams):
    names, ids = ["a", None, "b"], tokens(name, 3)["input_ids"]
    model = three(name)
    how = dict(max_new_tokens=6, num_beams=beams, do_sample=False)
    how |= dict(eos_token_id=None, pad_token_id=0, attention_mask=torch.ones_like(ids))
    with per_row(model, names, copies=beams):
        mixed = model.generate(ids, **how)
    for i, n in enumerate(names):
        assert torch.equal(mixed[i], switch(model, n).generate(ids, **how)[i])
    assert not all(torch.equal(mixed[i], switch(model, None).generate(ids, **how)[i]) for i in range(3))
    if beams > 1:
        with pytest.raises(ValueError, match="names for 3 rows.*sees 9.*copies=num_beams"), per_row(model, names):
            model.generate(ids, **how)


def test_gradients_reach_the_inputs_and_what_trains_stays_what_it_was():
    model = three()
    before = set(trained(model))
    x = torch.randn(3, 7, 24, requires_grad=True)
    with per_row(model, ["a", None, "b"]):
        assert set(trained(model)) == before
        model(inputs_embeds=x).logits.sum().backward()
    assert x.grad.abs().amax((1, 2)).min() > 0
    assert all(p.grad is not None for p in trained(model).values())


# --- what is refused, and what is left behind -------------------------------------------------------------------


def test_wrong_rows_and_names():
    model, given = three(), tokens("bert", 4)
    for wrong in (["a"], ["a", None], ["a"] * 5):
        with pytest.raises(ValueError, match=rf"names for {len(wrong)} rows, and Linear sees 4"):
            with per_row(model, wrong):
                logits(model, "bert", given)
    with pytest.raises(ValueError, match=r"no adapter is called 'c': this model has \['a', 'b'\]"):
        with per_row(model, ["a", "c"]):
            pass
    for wrong in ([], "ab"):
        with pytest.raises(ValueError, match="a list with a name or None for each row"), per_row(model, wrong):
            pass
    with pytest.raises(ValueError, match="copies of at least 1"), per_row(model, ["a"], copies=0):
        pass
    with pytest.raises(ValueError, match="this model has \\[\\]"), per_row(host("bert"), ["a"]):
        pass


def test_heads_of_different_sizes():
    def wider(base):
        return Replaced(base, nn.Linear(24, 5))

    model, given = with_sets(host("bert"), a={HEAD: Replaced}, b={HEAD: wider}), tokens("bert", 2)
    for names in (["a", "b"], [None, "b"]):
        with pytest.raises(ValueError, match=r"heads of different sizes.*\(2,\), \(5,\)"), per_row(model, names):
            logits(model, "bert", given)
    with per_row(model, ["b", "b"]):
        assert logits(model, "bert", given).shape == (2, 5)


def test_a_soft_prompt_is_refused_but_may_stand_by():
    model = with_sets(host("gpt2"), a={r".*c_attn": LoRA})
    model = with_sets(model, prompt=prompt_tuning(model, 3))
    with pytest.raises(ValueError, match="PromptTuning does not answer a row by itself.*batch of their own.*switch"):
        with per_row(model, ["a", "prompt"]):
            pass
    names, given = ["a", None], tokens("gpt2", 2)
    with per_row(model, names):
        y = logits(model, "gpt2", given)
    assert torch.equal(y[1], logits(host("gpt2"), "gpt2", given)[1])
    assert (y - alone(model, "gpt2", given, names)).abs().max() <= 1e-5


def test_a_block_with_more_than_rows_and_one_that_returns_more_than_a_tensor():
    model = with_sets(host("llama"), a={r"model\.layers\.0": SideTuning})
    with pytest.raises(ValueError, match="SideTuning around LlamaDecoderLayer is not called with tensors alone"):
        with per_row(model, ["a", None]):
            logits(model, "llama", tokens("llama", 2))
    model = with_sets(nn.Sequential(Two()), a={"0": Doubled})
    with pytest.raises(ValueError, match="returns more than one tensor cannot be split"), per_row(model, ["a", None]):
        model(torch.randn(2, 4))


def test_an_adapter_inside_another_s_module():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
    model = with_sets(model, a={"0": SideTuning}, b={r"0\.0": LoRA})
    with pytest.raises(ValueError, match="no adapter inside another's module"), per_row(model, ["a", "b", None]):
        model(torch.randn(3, 4))


def test_the_block_leaves_everything_as_it_was():
    model, given = switch(three(), "b"), tokens("bert", 3)
    y, state = logits(model, "bert", given), {n: adapter_state(model, n) for n in "ab"}
    with pytest.raises(KeyError), per_row(model, ["a", None, "b"]):
        raise KeyError
    assert torch.equal(logits(model, "bert", given), y)
    with per_row(model, ["a", None, "b"]):
        mixed = logits(model, "bert", given)
        with per_row(model, [None] * 3):
            assert torch.equal(logits(model, "bert", given), logits(host("bert"), "bert", given))
        assert torch.equal(logits(model, "bert", given), mixed)
        with pytest.raises(ValueError, match="leave the block of `per_row` before you switch"):
            switch(model, "a")
        assert torch.equal(logits(copy.deepcopy(model), "bert", given), mixed)
    assert torch.equal(logits(model, "bert", given), y)
    assert all(torch.equal(t, state[n][k]) for n in "ab" for k, t in adapter_state(model, n).items())


def test_an_adapter_that_stands_alone():
    model = inject(host("bert"), {QV: LoRA})
    stir(trained(model).values())
    given = tokens("bert", 2)
    y = logits(model, "bert", given)
    with per_row(model, ["default", None]):
        mixed = logits(model, "bert", given)
    assert torch.equal(mixed[1], logits(host("bert"), "bert", given)[1]) and (mixed[0] - y[0]).abs().max() <= 1e-6
    root = inject(nn.Linear(4, 3), {"": LoRA})
    stir(trained(root).values())
    with per_row(root, ["default", None]) as root:
        x = torch.randn(2, 4)
        assert torch.equal(root(x)[1], root.base(x)[1]) and not torch.equal(root(x)[0], root.base(x)[0])


# --- hot swap ---------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Two trained sets of one kind, one of another alpha, and what fresh models answer with them."""
    given, paths, answers = tokens("bert", 3), {}, {}
    for seed, (name, alpha) in enumerate({"a": 16, "b": 16, "c": 8}.items()):
        fresh = inject(host("bert"), {QV: lambda b, alpha=alpha: LoRA(b, alpha=alpha), HEAD: Replaced})
        stir(trained(fresh).values(), seed=seed)
        paths[name], answers[name] = save_adapter(fresh, tmp_path / f"{name}.st"), logits(fresh, "bert", given)
    return paths, answers, given


def running(files, name="a"):
    model = inject(host("bert"), {QV: LoRA, HEAD: Replaced}, name=name)
    return load_adapter(model, files[0]["a"], name)


def places(model):
    return {k: p.data_ptr() for k, p in base_parameters(model).items()}


def test_a_file_in_the_place_of_a_set(files):
    paths, answers, given = files
    model = running(files)
    base, own = places(model), {k: t.data_ptr() for k, t in trained(model).items()}
    assert torch.equal(logits(model, "bert", given), answers["a"])
    load_adapter(model, paths["b"], "a")
    assert torch.equal(logits(model, "bert", given), answers["b"])
    assert places(model) == base and {k: t.data_ptr() for k, t in trained(model).items()} == own
    with pytest.raises(
        ValueError, match=r"saved as LoRA\(rank=8, alpha=8\), but this model has LoRA\(rank=8, alpha=16"
    ):
        load_adapter(model, paths["c"], "a")
    assert torch.equal(logits(model, "bert", given), answers["b"])


def test_a_file_beside_a_running_set_and_the_old_one_dropped(files):
    paths, answers, given = files
    model = running(files)
    base, plain = places(model), logits(host("bert"), "bert", given)
    model = load_beside(model, paths["b"], "b")
    assert all(a.base is m.base for m in model.modules() if isinstance(m, Switch) for a in m.adapters.values())
    assert torch.equal(logits(model, "bert", given), answers["a"]), "the running set still answers"
    assert torch.equal(logits(switch(model, "b"), "bert", given), answers["b"])
    with per_row(model, ["b", None, "a"]):
        y = logits(model, "bert", given)
    assert torch.equal(y[1], plain[1])
    assert (y[0] - answers["b"][0]).abs().max() <= 1e-6 and (y[2] - answers["a"][2]).abs().max() <= 1e-6
    model = remove(model, "a")
    assert torch.equal(logits(model, "bert", given), answers["b"]) and {a.name for _, a in adapters(model)} == {"b"}
    model = switch(load_beside(model, paths["a"], "again", like="b"), "again")
    assert torch.equal(logits(model, "bert", given), answers["a"])
    assert places(model) == base and all(torch.equal(p, q) for p, q in zip(
        base_parameters(remove(model)).values(), host("bert").parameters(), strict=True
    ))  # fmt: skip


@pytest.mark.parametrize("active", ["a", None])
def test_the_new_set_trains_when_it_is_active_and_only_then(files, active):
    model = switch(running(files), active)
    wanted = set(trained(switch(model, "a")))
    switch(model, active)
    model = load_beside(model, files[0]["b"], "b")
    assert set(trained(model)) == (wanted if active else set())
    assert sum(p.requires_grad for p in model.parameters()) == (len(wanted) if active else 0), "two sets share names"
    assert set(trained(switch(model, "b"))) == wanted
    trained(model)[min(wanted)].data.add_(1)
    assert torch.equal(logits(switch(model, "a"), "bert", files[2]), files[1]["a"]), "nothing is shared with the old"


def test_a_file_that_does_not_fit_leaves_the_running_set_alone(files, tmp_path):
    paths, answers, given = files
    model = running(files)
    other = save_adapter(inject(host("bert"), {r".*\.key": LoRA}), tmp_path / "other.st")
    cut = tmp_path / "cut.st"
    cut.write_bytes(paths["b"].read_bytes()[:-100])
    for path, error, words in [
        (paths["c"], ValueError, "saved as LoRA"),
        (other, KeyError, "does not fit"),
        (cut, ValueError, "not a whole safetensors file"),
        (tmp_path / "none.st", FileNotFoundError, "no adapter file"),
    ]:
        with pytest.raises(error, match=words):
            load_beside(model, path, "b")
        assert {a.name for _, a in adapters(model)} == {"a"}
        assert torch.equal(logits(model, "bert", given), answers["a"]) and trained(model)
    for wrong in ("a", "", "x.y"):
        with pytest.raises(ValueError, match="must be new, not empty and without a dot"):
            load_beside(model, paths["b"], wrong)
    with pytest.raises(ValueError, match="say with like="):
        load_beside(model, paths["b"], "b", like="z")
    with pytest.raises(ValueError, match=r"say with like=.*\['a', 'b'\]"):
        load_beside(load_beside(model, paths["b"], "b"), paths["b"], "d")


def test_what_a_set_shares_its_copy_shares():
    from peft_from_scratch.methods.lowrank import vblora, vera

    for page in (vera, vblora):
        settings = dict(rank=3) if page is vera else dict(vectors=5, length=4, rank=3)
        plain = host("bert")
        model = inject(plain, {QV: page.shared(plain, QV, **settings)}, name="a")
        stir(trained(model).values(), seed=1)
        state = adapter_state(model, "a")
        stir(trained(model).values(), seed=2)
        given = tokens("bert", 2)
        old = logits(model, "bert", given)
        model = load_beside(model, state, "b", like="a")
        assert torch.equal(logits(model, "bert", given), old)
        assert adapter_state(model, "b").keys() == state.keys()
        new = logits(switch(model, "b"), "bert", given)
        assert torch.equal(new, logits(load_adapter(switch(model, "a"), state, "a"), "bert", given))
        assert not torch.equal(new, old) and sum(isinstance(m, Switch) for m in model.modules()) == 4
