"""Lesson 02's exercises on saving: what is saved, load or refuse, to another machine, swap."""

import torch

from .exercise import Exercise, Property, Wrong
from .mechanism_host import cell, same, snapshot, some, training, wrapped
from .tools import close, distance, draw, expect, expect_before, letters

# 4. Save


def state_of(answer, model):
    state = answer(model)
    expect(state is not None, "None came back: is a `return` missing?")
    expect(isinstance(state, dict), f"a {type(state).__name__} came back: return a dictionary, name -> tensor.")
    expect(all(isinstance(t, torch.Tensor) for t in state.values()), "a value of the dictionary is not a tensor.")
    return state


def holds_what_trains(answer, rng):
    model = wrapped()
    want, state = training(model), state_of(answer, model)
    expect(state, "nothing is in it. A model's state_dict() holds detached tensors, which never require gradients: "
                  "go through named_parameters().")  # fmt: skip
    shortened = not state.keys() & want.keys()
    expect(not shortened, "the names are not the model's own: keep them whole, or tensors of different layers collide.")
    lost = [name for name in want if name not in state]
    head = [name for name in lost if name.startswith("classifier")]
    expect(not head, f"the head is missing ({some(head)}): it trained, and a reload would answer with a random one.")
    expect(not lost, f"{some(lost, 2)} trains and is not saved.")
    wrong = [name for name in want if distance(state[name], want[name]) > 0]
    expect(not wrong, f"{some(wrong)} is saved with other values: keep the dtype, and round nothing.")


def holds_nothing_frozen(answer, rng):
    model = wrapped()
    state = state_of(answer, model)
    frozen = [name for name in state if name not in training(model)]
    expect(not frozen, f"{len(frozen)} frozen tensors are saved too, {some(frozen)} for one: everybody has the base, "
                       "so save only what trains.")  # fmt: skip


def is_a_copy(answer, rng):
    model = wrapped()
    state = state_of(answer, model)
    tied = [name for name, t in state.items() if t.requires_grad or t.grad_fn is not None]
    expect(not tied, "the saved tensors still require gradients: detach() them.")
    before = {name: t.clone() for name, t in state.items()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    expect(same(before, state), "training on changes what you saved: it is a view of the model. Add clone().")


STATE_HEAD = "adapter_state(model)"


def state_with(value="p.detach().clone()", test="p.requires_grad", source="model.named_parameters()", key="name"):
    return cell(STATE_HEAD, f"return {{{key}: {value} for name, p in {source} if {test}}}")


STATE = Exercise(
    name="mechanism.state", defines="adapter_state", title="What is saved", tier="core", difficulty=2, minutes=6,
    points=3, unlocks="the adapter's file, and how large it is", reference=state_with(),
    properties=(Property("holds all that trains", holds_what_trains, core=True),
                Property("holds nothing that is frozen", holds_nothing_frozen, core=True),
                Property("is a copy", is_a_copy, core=True)),
    hints=("Which parameters are different from the pretrained model after training? Not only those of LoRA.",
           "{name: a detached copy of p} for every parameter p that requires gradients",
           "{name: p.detach()... for name, p in model.named_parameters() if ...}"),
    remark="What trains is what is saved. The package saves all that an adapter owns, frozen too: some methods freeze "
           "a random matrix of their own.",
    wrong=(Wrong("LoRA's names only", state_with(test='name.endswith((".A", ".B"))'), "the head is missing",
                 museum="only LoRA's names saved"),
           Wrong("the whole model", cell(STATE_HEAD, "return {k: t.clone() for k, t in model.state_dict().items()}"),
                 "frozen tensors are saved"),
           Wrong("the flag of the state_dict", cell(STATE_HEAD,
                 "return {k: t for k, t in model.state_dict().items() if t.requires_grad}"), "nothing is in it"),
           Wrong("no clone", state_with("p.detach()"), "Add clone"),
           Wrong("no detach", state_with("p.clone()"), "detach"),
           Wrong("the parameters themselves", state_with("p"), "detach"),
           Wrong("short names", state_with(key='name.split(".")[-1]'), "not the model's own"),
           Wrong("half precision", state_with("p.detach().clone().half().float()"), "round nothing"),
           Wrong("all parameters", state_with(test="True"), "frozen tensors are saved"),
           Wrong("head only", state_with(test='name.startswith("classifier.trained")'), "trains and is not saved"),
           Wrong("a list", cell(STATE_HEAD,
                 "return [p.detach().clone() for p in model.parameters() if p.requires_grad]"), "dictionary"),
           Wrong("no return", cell(STATE_HEAD, "state = dict(model.named_parameters())"), "return")),
)  # fmt: skip


# 5. Load


def saved(rng):
    """A model, and a state that fits it, with values of its own."""
    model = wrapped()
    return model, {name: draw(rng, *p.shape) for name, p in training(model).items()}


def fills_every_tensor(load, rng):
    model, state = saved(rng)
    try:
        got = load(model, dict(state))
    except Exception as error:
        if "Missing key" in str(error):
            raise AssertionError(
                "load_state_dict wants the whole model, but the state holds only what trains."
            ) from None
        if "leaf Variable" in str(error):
            raise AssertionError("PyTorch refuses to write into what trains: copy under torch.no_grad().") from None
        raise
    after = training(model)
    expect(after.keys() == state.keys(), "other parameters train after loading than before: copy into them.")
    off = [name for name, t in state.items() if distance(after[name], t) > 0]
    expect(not off, f"{len(off)} tensors keep their old values, {some(off)} for one.")
    expect(got is model, "return the model that was given.")


def refused(load, rng, spoil, what):
    """The sentence of the error for a spoiled state; the model must be as it was."""
    model, state = saved(rng)
    name = spoil(state)
    before = snapshot(model)
    try:
        load(model, state)
    except Exception as error:
        said = str(error)
    else:
        raise AssertionError(f"{what} was taken without a word: it must be an error.")
    expect(same(before, snapshot(model)), f"{what} was an error, but a part was already loaded: check all, then copy.")
    expect(name in said, f"the error on {what} does not name it: put {name!r} into the message.")


def refuses_missing(load, rng):
    def spoil(state):
        del state["classifier.trained.bias"]
        return "classifier.trained.bias"

    refused(load, rng, spoil, "a missing tensor")


def refuses_extra(load, rng):
    def spoil(state):
        state["block.2.attention.query.A"] = draw(rng, 2, 6)
        return "block.2.attention.query.A"

    refused(load, rng, spoil, "a tensor that the model does not have")

    def spoil_the_base(state):
        state["embed.weight"] = draw(rng, 6, 5)
        return "embed.weight"

    refused(load, rng, spoil_the_base, "a tensor of the frozen base")


def refuses_other_shapes(load, rng):
    def spoil_by(shape):
        def spoil(state):
            state["block.1.attention.value.A"] = draw(rng, *shape)
            return "block.1.attention.value.A"

        return spoil

    for shape, what in (((1, 6), "a tensor of rank 1 where the model has rank 2"),
                        ((6, 2), "a tensor that lies the other way round")):  # fmt: skip
        refused(load, rng, spoil_by(shape), what)


def copies_into_place(load, rng):
    model, state = saved(rng)
    before = dict(model.named_parameters())
    load(model, state)
    after = dict(model.named_parameters())
    expect(all(after.get(name) is p for name, p in before.items()),
           "parameters were replaced by new ones, which an older optimiser does not know: copy into them.")  # fmt: skip
    kept = {name: t.clone() for name, t in state.items()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    expect(same(kept, state), "model and state share memory: training on would change the state. Use copy_().")


LOAD_HEAD = "load_adapter(model, state)"
LOAD = """
live = {name: p for name, p in model.named_parameters() if p.requires_grad}
odd = sorted(live.keys() ^ state.keys())
if odd:
    raise KeyError(f"missing, or not here: {odd}")
for name, p in live.items():
    if p.shape != state[name].shape:
        raise ValueError(f"{name}: {tuple(state[name].shape)} saved, {tuple(p.shape)} here")
with torch.no_grad():
    for name, p in live.items():
        p.copy_(state[name])
return model"""
ODD = 'odd = sorted(live.keys() ^ state.keys())\nif odd:\n    raise KeyError(f"missing, or not here: {odd}")\n'
SHAPES = ("for name, p in live.items():\n    if p.shape != state[name].shape:\n"
          '        raise ValueError(f"{name}: {tuple(state[name].shape)} saved, {tuple(p.shape)} here")\n')  # fmt: skip


def load_with(*swaps):
    body = LOAD
    for old, new in swaps:
        assert old in body, old
        body = body.replace(old, new)
    return cell(LOAD_HEAD, body)


LOADING = Exercise(
    name="mechanism.load", defines="load_adapter", title="Load, or refuse", tier="core", difficulty=3, minutes=8,
    points=4, unlocks="moving an adapter to another copy of the base", reference=cell(LOAD_HEAD, LOAD),
    properties=(Property("fills every tensor", fills_every_tensor, core=True),
                Property("refuses a state with something missing", refuses_missing, core=True),
                Property("refuses a state with something extra", refuses_extra, core=True),
                Property("refuses other shapes", refuses_other_shapes, core=True),
                Property("copies into the model's own tensors", copies_into_place, core=True)),
    hints=("Two sets of names, one in the model and one in the state: which three things can go wrong between them?",
           "names in one set only: KeyError that says them. Another shape: ValueError. Only then copy, under no_grad.",
           "live = {...}; if live.keys() ^ state.keys(): raise ...; a loop over shapes; under no_grad: p.copy_(...)"),
    remark="copy_ broadcasts: a (1, 6) tensor would fill a (2, 6) one without a word. Shapes are compared for that.",
    wrong=(Wrong("strict=False", cell(LOAD_HEAD, "model.load_state_dict(state, strict=False)\nreturn model"),
                 "missing tensor was taken"),
           Wrong("strict", cell(LOAD_HEAD, "model.load_state_dict(state)\nreturn model"), "wants the whole model"),
           Wrong("missing ones are skipped", load_with((
               ODD, "state = {n: state.get(n, p) for n, p in live.items()}\n")),
                 "missing tensor was taken"),
           Wrong("extra ones are skipped", load_with(("odd = sorted(live.keys() ^", "odd = sorted(live.keys() -")),
                 "does not have was taken"),
           Wrong("any name of the model is taken", load_with((ODD,
               "every = dict(model.named_parameters())\n"
               "odd = sorted(live.keys() - state.keys() | state.keys() - every.keys())\n"
               'if odd:\n    raise KeyError(f"missing, or not here: {odd}")\n'), (
               "    for name, p in live.items():\n        p.copy_(state[name])",
               "    for name, t in state.items():\n        every[name].copy_(t)")), "frozen base was taken"),
           Wrong("writes with autograd on", load_with((
               "with torch.no_grad():\n    for name, p in live.items():\n        p.copy_",
               "for name, p in live.items():\n    p.copy_")), "under torch.no_grad"),
           Wrong("broadcasts", load_with((SHAPES, "")), "rank 1 where the model has rank 2 was taken"),
           Wrong("counts numbers", load_with(("p.shape != state[name].shape", "p.numel() != state[name].numel()"), (
               "state[name])", "state[name].reshape(p.shape))")), "other way round was taken"),
           Wrong("checks while it copies", load_with((SHAPES, ""), (
               "        p.copy_", "        if p.shape != state[name].shape:\n            raise ValueError(name)\n"
                                  "        p.copy_")), "already loaded"),
           Wrong("shares memory", load_with(("p.copy_(state[name])", "p.data = state[name]")), "share memory"),
           Wrong("new parameters", load_with(("p.copy_(state[name])",
               "parent, _, leaf = name.rpartition('.')\n        "
               "setattr(model.get_submodule(parent), leaf, nn.Parameter(state[name].clone()))")), "replaced by new"),
           Wrong("says nothing", load_with(('f"missing, or not here: {odd}"', '"the state does not fit"')),
                 "does not name it"),
           Wrong("hides the error", cell(LOAD_HEAD, "try:\n    model.load_state_dict(state)\nexcept RuntimeError:\n"
                                                    "    pass\nreturn model"), "taken without a word"),
           Wrong("adds", load_with(("p.copy_(state[name])", "p.add_(state[name])")), "old values"),
           Wrong("no return", load_with(("\nreturn model", "")), "return the model")),
)  # fmt: skip


# 6. From one machine to another

BEFORE = {  # the other machine may begin at any time, so this is all that the order has to keep
    "AI": "inject comes before training: without adapters, the whole model would train.",
    "IE": "train before you save, or the file holds the start.",
    "EF": "save the file before you load it.",
    "HC": "the other machine needs the base first: the file holds only what trained.",
    "CF": "inject on the other machine too: without adapters there is no place to load into.",
    "FD": "answer last: until the state is loaded, the head is random.",
}


def seven_of_nine(order, rng):
    found = letters(order, '"A"')
    expect("B" not in found, "B is no step: a seed gives the same random head only by luck of versions and of order, "
                             "and never the trained one.")  # fmt: skip
    expect("G" not in found, "G is no step: strict=False takes a state that does not fit without a word.")
    expect(set(found) <= set("ABCDEFGHI"), "use the letters A to I.")
    expect(len(found) == 7, f"seven steps are wanted; you gave {len(found)}.")
    expect(len(set(found)) == 7, "a letter comes twice.")


def in_this_order(order, rng):
    found = letters(order, '"A"')
    expect_before(found, ((first, then, reason) for (first, then), reason in BEFORE.items()))


RELOAD = Exercise(
    name="mechanism.order", defines="order", title="To another machine", tier="full", difficulty=2, minutes=3, points=2,
    unlocks="the reload that you will break below", kind="order",
    reference='order = ["A", "I", "E", "H", "C", "F", "D"]',
    properties=(Property("has the seven steps, and only them", seven_of_nine, core=True),
                Property("has them in order", in_this_order, core=True)),
    hints=("Which lines run on the first machine? Which object must exist before anything can be loaded into it?",
           "first machine: adapters, training, file. Second machine: base, adapters, file, answer.",
           'order = ["A", ...]: three letters for the first machine, four for the second'),
    remark="The base is the same on both machines, so it does not travel. The targets do: they say where adapters go.",
    wrong=(Wrong("the seed brings the head", 'order = ["A", "I", "E", "H", "B", "C", "F", "D"]', "the trained one"),
           Wrong("strict=False", 'order = ["A", "I", "E", "H", "C", "G", "D"]', "without a word"),
           Wrong("loads before it injects", 'order = ["A", "I", "E", "H", "F", "C", "D"]', "no place to load into"),
           Wrong("saves before it trains", 'order = ["A", "E", "I", "H", "C", "F", "D"]', "holds the start"),
           Wrong("trains before it injects", 'order = ["I", "A", "E", "H", "C", "F", "D"]', "whole model would train"),
           Wrong("answers before it loads", 'order = ["A", "I", "E", "H", "C", "D", "F"]', "the head is random"),
           Wrong("loads before it saves", 'order = ["H", "C", "F", "A", "I", "E", "D"]', "save the file before"),
           Wrong("injects before the base is there", 'order = ["A", "I", "E", "C", "H", "F", "D"]', "the base first"),
           Wrong("no second inject", 'order = ["A", "I", "E", "H", "F", "D"]', "you gave 6"),
           Wrong("as words", 'order = ["inject", "fit", "save", "load", "inject", "load", "eval"]', "letters")),
)  # fmt: skip


# 7. Swap


def two_states(rng):
    model, second = saved(rng)
    first = {name: p.detach().clone() for name, p in training(model).items()}
    return model, first, second


def swaps_in(swap, rng):
    model, first, second = two_states(rng)
    swap(model, {name: t.clone() for name, t in second.items()})
    after = training(model)
    off = [name for name, t in second.items() if distance(after[name], t) > 0]
    head = off and all(name.startswith("classifier") for name in off)
    expect(not head, "the head was not swapped: the new task's features meet the old task's head.")
    expect(len(off) < len(second), "the model still holds the old state: load the new one into it.")
    expect(not off, f"{len(off)} tensors were not swapped, {some(off)} for one.")


def returns_the_old(swap, rng):
    model, first, second = two_states(rng)
    old = swap(model, {name: t.clone() for name, t in second.items()})
    expect(old is not None, "None came back: return the state that was in the model.")
    expect(isinstance(old, dict), "return the old state, a dictionary of tensors.")
    expect(not same(second, old), "what came back is the new state: take the old one before you load, as a copy.")
    expect(same(first, old), "what came back is not what was in the model: nothing learned may be lost.")


def there_and_back(swap, rng):
    model, first, second = two_states(rng)
    x = draw(rng, 2, 3, 5)
    base = {name: t for name, t in snapshot(model).items() if name not in first}
    want = model(x).detach()
    given = {name: t.clone() for name, t in second.items()}
    kept = swap(model, given)
    expect(same(second, given), "the state that was given was changed: a library of states must survive its use.")
    middle = model(x).detach()
    expect(not close(middle, want), "the answers are the same after the swap.")
    swap(model, kept)
    expect(distance(model(x), want) == 0, "there and back the answers differ: a swap must lose nothing.")
    after = snapshot(model)
    expect(all(distance(t, after[name]) == 0 for name, t in base.items()), "the base moved in the swap.")


def swap_refuses(swap, rng):
    model, first, second = two_states(rng)
    lost = second.popitem()[0]
    try:
        swap(model, second)
    except Exception:
        return
    raise AssertionError(f"a state without {lost} was taken without a word: fill with your load_adapter().")


SWAP_HEAD = "swap(model, state)"
SWAP = Exercise(
    name="mechanism.swap", defines="swap", title="Swap", tier="full", difficulty=2, minutes=5, points=3,
    unlocks="two tasks on one base, and the time it takes to change between them",
    reference=cell(SWAP_HEAD, "old = adapter_state(model)\nload_adapter(model, state)\nreturn old"),
    properties=(Property("puts the new state in", swaps_in, core=True),
                Property("returns what was there", returns_the_old, core=True),
                Property("is exact there and back", there_and_back, core=True),
                Property("refuses a state that does not fit", swap_refuses, core=True)),
    hints=("Which of your functions reads the adapters, and which one fills them? Which must come first?",
           "old = state of the model now; load the new one; return old",
           "old = adapter_state(...); load_adapter(...); return ..."),
    remark="Three lines, because saving copies and loading is exact. The base is not touched at all.",
    wrong=(Wrong("loads first", cell(SWAP_HEAD, "load_adapter(model, state)\nreturn adapter_state(model)"),
                 "before you load"),
           Wrong("a view, not a copy", cell(SWAP_HEAD,
                 "old = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}\n"
                 "load_adapter(model, state)\nreturn old"), "before you load, as a copy"),
           Wrong("without the head", cell(SWAP_HEAD, """
old = adapter_state(model)
with torch.no_grad():
    for name, p in model.named_parameters():
        if name.endswith((".A", ".B")):
            p.copy_(state[name])
return old"""), "head was not swapped"),
           Wrong("strict=False", cell(SWAP_HEAD, "old = adapter_state(model)\n"
                 "model.load_state_dict(state, strict=False)\nreturn old"), "taken without a word"),
           Wrong("only saves", cell(SWAP_HEAD, "return adapter_state(model)"), "still holds the old"),
           Wrong("no return", cell(SWAP_HEAD, "load_adapter(model, state)"), "None came back"),
           Wrong("adds the tasks", cell(SWAP_HEAD, """
old = adapter_state(model)
load_adapter(model, {name: old[name] + t for name, t in state.items()})
return old"""), "not swapped|still holds"),
           Wrong("returns the model", cell(SWAP_HEAD, "return load_adapter(model, state)"), "the old state"),
           Wrong("trades the tensors", cell(SWAP_HEAD, """
old = adapter_state(model)
load_adapter(model, state)
for name in state:
    state[name] = old[name]
return old"""), "must survive"),
           Wrong("a fresh start", cell(SWAP_HEAD, """
load_adapter(model, state)
return {name: torch.zeros_like(t) for name, t in state.items()}"""), "may be lost")),
)  # fmt: skip
