"""Lesson 02, The map and the mechanism: three families, then freeze, inject, save, load, take away, swap."""

import copy

import torch
from torch import nn

from .exercise import Exercise, Lesson, Property, Wrong
from .mechanism_host import (
    ATTENTION,
    PLACES,
    Head,
    Host,
    Patch,
    cell,
    is_model,
    same,
    snapshot,
    some,
    training,
    wrapped,
)  # fmt: skip
from .mechanism_saving import LOADING, RELOAD, STATE, SWAP
from .tools import close, draw, expect

# 1. Three families

CARDS = {
    "BitFit": ("selective", "its numbers are the biases that the model already has"),
    "LN-tuning": ("selective", "the gains and biases of the LayerNorms are in the model already"),
    "FISH mask": ("selective", "a mask only picks weights that are there"),
    "Houlsby adapters": ("additive", "the small networks are new modules between the old ones"),
    "Prompt tuning": ("additive", "the vectors are new inputs; no weight is expressed by them"),
    "Prefix tuning": ("additive", "keys and values are added for the attention to look at"),
    "LoReFT": ("additive", "a new module edits the hidden states; no weight changes"),
    "LoRA": ("reparametrized", "the change of W is written as B A, and can be folded into W"),
    "OFT": ("reparametrized", "the new W is written as R W, and R can be folded in"),
    "FourierFT": ("reparametrized", "the change of W is written in a few Fourier coefficients, and folds into W"),
    "MAM adapter": ("hybrid", "a prefix and a parallel adapter together: two methods in one"),
    "UniPELT": ("hybrid", "LoRA, a prefix and adapters, with gates: it spans two families"),
}
FAMILIES = ("selective", "additive", "reparametrized", "hybrid")


def uses_the_words(families, rng):
    expect(isinstance(families, dict), 'keep the dictionary: {"BitFit": "...", ...}.')
    lost = [card for card in CARDS if card not in families]
    expect(not lost, f"{', '.join(lost)} is missing: keep all twelve names as they are.")
    for card in CARDS:
        said = families[card]
        expect(said in FAMILIES, f"{card} is {said!r}; the words are {', '.join(FAMILIES)}.")


def family(word):
    """A property: the cards of one family, and no others, carry its word."""

    def sorts(families, rng):
        expect(isinstance(families, dict), 'keep the dictionary: {"BitFit": "...", ...}.')
        for card, (right, why) in CARDS.items():
            said = families.get(card)  # None fails its own family only
            expect(right != word or said == word, f"{card} is not {said}: {why}.")
            expect(said != word or right == word, f"{card} is not {word}: {why}.")

    return sorts


def sorted_as(**moved):
    """The right dictionary's source, some cards moved: sorted_as(LoRA="additive")."""
    words = {card: moved.get(card.replace(" ", "_").replace("-", "_"), right) for card, (right, _) in CARDS.items()}
    return "families = {\n" + "".join(f'    "{card}": "{word}",\n' for card, word in words.items()) + "}"


SORT = Exercise(
    name="families.sort", defines="families", title="Twelve cards", tier="full", difficulty=2, minutes=5, points=2,
    unlocks="knowing which methods can be folded away (Exercise 8)", kind="value", reference=sorted_as(),
    properties=(Property("says one of four words for each card", uses_the_words, core=True),
                *(Property(f"{word}: the right cards", family(word), core=True) for word in FAMILIES)),
    hints=("Three questions for a card: are its numbers in the model already? Are they a formula for a new weight? "
           "Or is something computed that was not there?",
           "numbers that are there: selective. W' = f(W, few numbers): reparametrized. Something new beside: additive.",
           "three selective, four additive, three reparametrized, two hybrid"),
    remark="The family says what you can do afterwards: a change of W folds into W; a new input never does.",
    wrong=(Wrong("LoRA is a module, so additive", sorted_as(LoRA="additive"), "LoRA is not additive"),
           Wrong("everything with new numbers is additive", sorted_as(
               LoRA="additive", OFT="additive", FourierFT="additive"), "not additive"),
           Wrong("a mask is something new", sorted_as(FISH_mask="additive"), "picks weights"),
           Wrong("LoReFT has low rank, so it is like LoRA", sorted_as(LoReFT="reparametrized"), "no weight changes"),
           Wrong("prompts select tokens", sorted_as(Prompt_tuning="selective"), "new inputs"),
           Wrong("no hybrids", sorted_as(MAM_adapter="additive", UniPELT="reparametrized"), "two methods|spans two"),
           Wrong("hybrid of two additive ones", sorted_as(MAM_adapter="additive"), "two methods in one"),
           Wrong("biases are re-expressed", sorted_as(BitFit="reparametrized"), "already has"),
           Wrong("adapters are hybrids", sorted_as(Houlsby_adapters="hybrid"), "new modules"),
           Wrong("other words", sorted_as(LoRA="low-rank"), "the words are"),
           Wrong("a list", 'families = ["selective", "additive"]', "keep the dictionary")),
)  # fmt: skip


# 2. Freeze


def used_host():
    """A host after a backward pass, as a model is that somebody has trained or tried before."""
    host = Host()
    host(torch.randn(4, 5)).pow(2).mean().backward()
    return host


def nothing_trains(freeze, rng):
    host = used_host()
    freeze(host)
    free = [name for name, p in host.named_parameters() if p.requires_grad]
    hidden = [m for m in host.modules() if "requires_grad" in vars(m)]
    expect(not hidden, "`module.requires_grad = False` makes a new attribute that nothing reads: "
                       "call requires_grad_(False), with the underscore.")  # fmt: skip
    expect(len(free) < len(list(host.parameters())), "every parameter still trains. Was another model frozen, "
                                                     "a copy, or was it only put in eval mode?")  # fmt: skip
    expect(not free, f"{len(free)} parameters still train, {some(free)} among them: freeze all, at every depth.")


def no_stale_gradient(freeze, rng):
    host = used_host()
    before = snapshot(host)
    freeze(host)
    expect(same(before, snapshot(host)), "the weights themselves changed: freezing must leave every value.")
    kept = [p.grad for p in host.parameters() if p.grad is not None]
    stale = bool(kept) and not any(grad.any() for grad in kept)
    expect(
        not stale, "a gradient of zeros still counts: AdamW's weight decay would move the weights. Set p.grad = None."
    )
    expect(not kept, f"a gradient from before is left in {len(kept)} frozen tensors; an optimiser's next step would "
                     "move them: set p.grad = None.")  # fmt: skip
    try:
        freeze(Host())
    except AttributeError:
        raise AssertionError("your freeze stops on a model that was never trained: there p.grad is None already, so "
                             "set it, and ask nothing of it.") from None  # fmt: skip


def gives_it_back(freeze, rng):
    host = used_host()
    got = freeze(host)
    expect(got is host, "return the model that was given, so that calls can be chained.")


FREEZE = Exercise(
    name="mechanism.freeze", defines="freeze", title="Freeze", tier="core", difficulty=1, minutes=4, points=3,
    unlocks="inject (Exercise 3), which freezes first",
    reference=cell("freeze(model)", """
for p in model.parameters():
    p.requires_grad_(False)
    p.grad = None
return model"""),
    properties=(Property("no parameter trains", nothing_trains, core=True),
                Property("no gradient is left", no_stale_gradient, core=True),
                Property("returns the model", gives_it_back, core=True)),
    hints=("A parameter has two things to do with training. One is a flag; what is the other?",
           "for every parameter: requires_grad = False and grad = None",
           "for p in model.parameters(): two lines; then return ..."),
    remark="The flag stops new gradients. It leaves one that is there, and an optimiser reads it.",
    wrong=(Wrong("flag only", cell("freeze(model)", "return model.requires_grad_(False)"), "gradient from before"),
           Wrong("zeros, not None", cell("freeze(model)", """
for p in model.parameters():
    p.requires_grad_(False)
    p.grad.zero_()
return model"""), "zeros still counts"),
           Wrong("asks the gradient", cell("freeze(model)", """
for p in model.parameters():
    p.requires_grad_(False)
    p.grad.zero_()
    p.grad = None
return model"""), "never trained"),
           Wrong("no underscore", cell("freeze(model)", """
for module in model.modules():
    module.requires_grad = False
model.zero_grad()
return model"""), "with the underscore"),
           Wrong("eval is frozen", cell("freeze(model)", "return model.eval()"), "eval mode"),
           Wrong("top level only", cell("freeze(model)", """
for p in model.embed.parameters():
    p.requires_grad_(False)
model.zero_grad()
return model"""), "at every depth"),
           Wrong("matrices only", cell("freeze(model)", """
for p in model.parameters():
    p.grad = None
    if p.ndim > 1:
        p.requires_grad_(False)
return model"""), "bias among them"),
           Wrong("a copy", "import copy\n" + cell("freeze(model)", """
model = copy.deepcopy(model)
model.zero_grad()
return model.requires_grad_(False)"""), "a copy"),
           Wrong("no return", cell("freeze(model)", """
for p in model.parameters():
    p.requires_grad_(False)
    p.grad = None"""), "return the model")),
)  # fmt: skip


# 3. Inject

ENDLESS = (
    "a wrapper was wrapped again: you replace while you walk, and meet your own wrappers. List first, then replace."
)
DOTTED = ('setattr(model, "a.b", ...) makes a new entry called "a.b", which no forward ever calls: set the last part '
          "of the name on the module that holds it, or use put().")  # fmt: skip


class Endless(Exception):
    """A factory was called more often than there are modules."""


def factory(kind=Patch):
    """A factory that remembers what it made, and stops one who wraps without end."""

    def make(base):
        make.count += 1
        if make.count > 60:
            raise Endless
        return kind(base) if isinstance(base, nn.Linear) else Head(base)

    make.count = 0
    return make


def injected(inject, targets, host):
    try:
        got = inject(host, targets)
    except (Endless, RecursionError):
        raise AssertionError(ENDLESS) from None
    except (ValueError, KeyError) as error:
        said = str(error)[:60].rstrip(". ")
        raise AssertionError(f"these patterns name modules: {' '.join(targets)}. Your inject said: {said}. "
                             "Read each pattern as a regular expression.") from None  # fmt: skip
    expect(got is host, "return the model that was given.")
    dotted = [key for module in host.modules() for key in module._modules if "." in key]
    expect(not dotted, DOTTED)
    everywhere = host.named_modules(remove_duplicate=False)
    return {name: m for name, m in everywhere if isinstance(m, (Patch, Head))}


def wraps_the_named(inject, rng):
    ends = ["block.0.output.dense", "block.1.output.dense"]
    cases = ((ATTENTION, PLACES), (r"block\.\d+\.output\.dense", ends), ("classifier", ["classifier"]))
    for pattern, want in cases:
        host = Host()
        old = dict(host.named_modules())
        found = injected(inject, {pattern: factory()}, host)
        again = [name for name, m in found.items() if isinstance(m.base, (Patch, Head))]
        expect(not again, ENDLESS)
        extra = [name for name in found if name not in want]
        expect(not extra, f"`{pattern}` also hit {some(extra, 2)}: it must match the whole name, "
                          "so use re.fullmatch.")  # fmt: skip
        lost = [name for name in want if name not in found]
        expect(not lost, f"`{pattern}` names {some(lost, 2)}, which is not wrapped. "
                         "Is it read as a regular expression, and does the loop go on after the first?")  # fmt: skip
        expect(len({id(m) for m in found.values()}) == len(want), "all places share one adapter: call factory(module) "
                                                                  "for each place.")  # fmt: skip
        own = all(m.base is old[name] for name, m in found.items())
        expect(own, "an adapter holds another layer than the one that was there: give the factory the module itself.")


def keeps_what_trains(inject, rng):
    host = used_host()
    found = injected(inject, {ATTENTION: factory()}, host)
    own = {id(p) for m in found.values() for p in (m.A, m.B)}
    frozen = [p for m in found.values() for p in (m.A, m.B) if not p.requires_grad]
    expect(not frozen, "A and B are frozen too, so nothing trains: freeze before you put the adapters in.")
    free = [name for name, p in host.named_parameters() if p.requires_grad and id(p) not in own]
    expect(not free, f"{len(free)} tensors of the base still train, {some(free)} for one: freeze the model first.")
    expect(all(p.grad is None for p in host.parameters()), "a stale gradient is left: use your freeze().")


def takes_several(inject, rng):
    targets = {ATTENTION: factory(), "classifier": factory(Head)}
    host = Host()
    found = injected(inject, targets, host)
    kinds = {name: type(m) for name, m in found.items()}
    lost = [name for name in (*PLACES, "classifier") if name not in kinds]
    expect(
        not lost, f"with two patterns, {some(lost)} is not wrapped: does the first pattern's work survive the second?"
    )
    expect(kinds["classifier"] is Head and all(kinds[name] is Patch for name in PLACES),
           "an adapter was made by the other pattern's factory: keep each name with its own factory.")  # fmt: skip
    asleep = [name for name, m in found.items() if not training(m)]
    expect(not asleep, f"{some(asleep)} does not train any more: freeze once, before all patterns.")


def starts_and_learns(inject, rng):
    host, x = Host(), draw(rng, 2, 3, 5)
    before = host(x).detach()
    found = injected(inject, {ATTENTION: factory()}, host)
    expect(close(host(x), before), "the model's answers changed although the adapters start at zero.")
    host(x).pow(2).sum().backward()
    dead = [name for name, m in found.items() if m.B.grad is None]
    expect(found and not dead, "no gradient reaches the adapters: they are not where the forward pass goes.")


def refuses_a_miss(inject, rng):
    for pattern, near in ((r"block\.0\.attention\.querry", "query"), ("output.dense", "output.dense")):
        host = Host()
        try:
            inject(host, {ATTENTION: factory(), pattern: factory()})
        except (Endless, RecursionError):
            raise AssertionError(ENDLESS) from None
        except Exception as error:
            said = str(error)
        else:
            said = None
        part = "No module has that whole name" if near == pattern else "No module has it"
        expect(said is not None, f"`{pattern}` should be an error: {part}, and whoever wrote it must learn that here.")
        names = [name for name, _ in host.named_modules() if name and near in name]
        expect(any(name in said for name in names),
               f"the error for `{pattern}` names no module near it: difflib.get_close_matches.")  # fmt: skip
        touched = any(isinstance(m, Patch) for m in host.modules())
        expect(not touched, "the error came when a part was already replaced: look up all patterns first, "
                            "then change the model.")  # fmt: skip


INJECT_HEAD = "inject(model, targets)"
INJECT = """
names = [name for name, _ in model.named_modules()]
found = {}
for pattern, factory in targets.items():
    hits = [name for name in names if re.fullmatch(pattern, name)]
    if not hits:
        near = difflib.get_close_matches(pattern, names, cutoff=0.0)
        raise ValueError(f"{pattern!r} names no module. Near it: {near}")
    found.update(dict.fromkeys(hits, factory))
freeze(model)
for name, factory in found.items():
    model.set_submodule(name, factory(model.get_submodule(name)))
return model"""


def inject_with(*swaps):
    """The reference with some of its text replaced: (old, new), ..."""
    body = INJECT
    for old, new in swaps:
        assert old in body, old
        body = body.replace(old, new)
    return cell(INJECT_HEAD, body)


WALK = """
freeze(model)
for pattern, factory in targets.items():
    hits = 0
    for name, module in model.named_modules():
        for child, layer in list(module.named_children()):
            if {test}:
                setattr(module, child, factory(layer))
                hits += 1
    if not hits:
        names = [name for name, _ in model.named_modules()]
        raise ValueError(f"{{pattern}}: near it {{difflib.get_close_matches(pattern, names, cutoff=0.0)}}")
return model"""
INJECT_TASK = Exercise(
    name="mechanism.inject", defines="inject", title="Inject", tier="core", difficulty=4, minutes=10, points=6,
    unlocks="everything below: your LoRA in a real model", needs=("re", "difflib"),
    reference=cell(INJECT_HEAD, INJECT),
    properties=(Property("wraps the modules that are named, and no others", wraps_the_named, core=True),
                Property("freezes the base, not the adapters", keeps_what_trains, core=True),
                Property("takes several patterns", takes_several, core=True),
                Property("starts as the base, and learns", starts_and_learns, core=True),
                Property("refuses a pattern that matches nothing", refuses_a_miss, core=True)),
    hints=("Is a name hit where only a part of it matches? And when do you freeze, if A and B must go on training?",
           "hits = names whose whole text the pattern matches; none: ValueError with names near it; freeze; put each",
           "re.fullmatch(pattern, name); raise ValueError(f\"... {near}\"); then freeze(...) and a loop with put(...)"),
    remark="Everything that can fail is done before anything is changed, so an error leaves the model as it was. "
           "set_submodule is PyTorch's own put.",
    wrong=(Wrong("part of the name", inject_with(("re.fullmatch", "re.search")), "use re.fullmatch"),
           Wrong("start of the name", inject_with(("re.fullmatch", "re.match")), "use re.fullmatch"),
           Wrong("end of the name", inject_with(("re.fullmatch(pattern, name)", "name.endswith(pattern)")),
                 "regular expression"),
           Wrong("walks and replaces", cell(INJECT_HEAD, WALK.format(
               test="isinstance(layer, nn.Linear) and re.search(pattern, f'{name}.{child}'.strip('.'))")),
               "List first"),
           Wrong("freezes last", inject_with(("freeze(model)\n", ""), ("return model", "return freeze(model)")),
                 "before you put"),
           Wrong("never freezes", inject_with(("freeze(model)\n", "")), "freeze the model first",
                 museum="never frozen"),
           Wrong("freezes for each pattern", inject_with(("freeze(model)\nfor name", "for name"), (
               "    found.update(dict.fromkeys(hits, factory))",
               "    freeze(model)\n    for name in hits:\n"
               "        model.set_submodule(name, factory(model.get_submodule(name)))")),
               "freeze once"),
           Wrong("dotted setattr", inject_with(("model.set_submodule(", "setattr(model, ")), "no forward ever calls",
                 museum="a dot in setattr"),
           Wrong("one adapter for all", inject_with((
               "for name, factory in found.items():\n    model.set_submodule(name, factory(model.get_submodule(name)))",
               "for pattern, factory in targets.items():\n    hits = [n for n in found if re.fullmatch(pattern, n)]\n"
               "    shared = factory(model.get_submodule(hits[0]))\n"
               "    for name in hits:\n        model.set_submodule(name, shared)")),
               "share one adapter"),
           Wrong("a copy of the layer", inject_with((
               "factory(model.get_submodule(name))", "factory(copy.deepcopy(model.get_submodule(name)))")),
                 "the module itself"),
           Wrong("silent miss", inject_with((
               '    if not hits:\n        near = difflib.get_close_matches(pattern, names, cutoff=0.0)\n'
               '        raise ValueError(f"{pattern!r} names no module. Near it: {near}")\n', "")),
               "should be an error"),
           Wrong("an error without names", inject_with((" Near it: {near}", "")), "names no module near it"),
           Wrong("the last factory for all", inject_with((
               "for name, factory in found.items():", "for name in found:")), "other pattern's factory"),
           Wrong("no return", inject_with(("\nreturn model", "")), "return the model")),
)  # fmt: skip


# 8. Take away, fold in


def adapters_in(model):
    return [name for name, m in model.named_modules() if isinstance(m, (Patch, Head))]


def before_and_after():
    """A host as it was (its tensors), and the same host wrapped and trained."""
    model = wrapped()
    plain = {name.replace(".base.", "."): t for name, t in snapshot(model).items()
             if not name.endswith((".A", ".B")) and ".trained." not in name}  # fmt: skip
    return plain, model


def remove_is_exact(answer, rng):
    remove, _ = answer
    plain, model = before_and_after()
    got = remove(model)
    is_model(got, "remove returns no model: is a `return` missing?")
    left = adapters_in(got)
    what = "the head" if left == ["classifier"] else f"{len(left)} adapters"
    expect(not left, f"{what} left after remove ({some(left)}): an adapter is any module with a `base`.")
    expect(same(plain, snapshot(got)), "after remove the model is not the base bit for bit: "
                                       "put back `base` itself, and subtract nothing.")  # fmt: skip


def merge_answers_alike(answer, rng):
    _, merge = answer
    model, x = wrapped(), draw(rng, 2, 3, 5)
    want = model(x).detach()
    got = merge(model)
    is_model(got, "merge returns no model: is a `return` missing?")
    off = not close(got(x), want, 1e-4)
    left = adapters_in(got)
    expect(not (off and len(left) == 5), "the adapters are still there and their change counts twice: "
                                         "put merged() in place of the adapter, not of its base.")  # fmt: skip
    expect(not left, f"{len(left)} adapters are left in the merged model ({some(left)}): "
                     "an adapter is any module with a `base`.")  # fmt: skip
    plain = not off or close(got(x), answer_of_base(model, x), 1e-4)
    expect(not off or not plain, "the merged model answers as the base: use merged(), which holds the change.")
    expect(not off, "the merged model answers otherwise than the adapted one: fold in every adapter, the head too.")


def answer_of_base(model, x):
    """What the wrapped host answers when its adapters are passed by."""
    model = copy.deepcopy(model)
    for name in adapters_in(model):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, model.get_submodule(name).base)
    return model(x).detach()


def merge_makes_a_new_model(answer, rng):
    _, merge = answer
    model = wrapped()
    before, places = snapshot(model), adapters_in(model)
    got = merge(model)
    is_model(got, "merge returns no model: is a `return` missing?")
    changed = got is model or adapters_in(model) != places or not same(before, snapshot(model))
    expect(not changed, "the adapted model itself was changed: merge a copy.deepcopy of it, so that you keep both.")


TAKE = """
{copy}for name, module in list(model.named_modules()):
    if {test}:
        model.set_submodule(name, module.{new})
return model"""


def take_with(remove=None, merge=None):
    """Both functions; {name: text} replaces parts of one of them."""
    removing = {"copy": "", "test": 'hasattr(module, "base")', "new": "base", **(remove or {})}
    merging = {"copy": "model = copy.deepcopy(model)\n", "test": 'hasattr(module, "base")', "new": "merged()",
               **(merge or {})}  # fmt: skip
    return "\n\n".join((cell("remove(model)", TAKE.format(**removing)), cell("merge(model)", TAKE.format(**merging))))


LORA_ONLY = 'hasattr(module, "A")'
REMOVE = Exercise(
    name="mechanism.remove", defines="remove, merge", title="Take away, fold in", tier="full", difficulty=3, minutes=8,
    points=4, unlocks="a base that is whole again, and a model that ships without adapters", needs=("copy",),
    reference=take_with(),
    properties=(Property("remove gives back the base, bit for bit", remove_is_exact, core=True),
                Property("merge answers as the adapted model", merge_answers_alike, core=True),
                Property("merge leaves the adapted model as it was", merge_makes_a_new_model, core=True)),
    hints=("Both put something where the adapter stands. What is it in each case?",
           "remove: model.set_submodule(name, module.base). merge: the same on a deep copy, with module.merged()",
           'for name, module in list(model.named_modules()): if hasattr(module, "base"): put(...)'),
    remark="remove is exact because the base was never touched. Subtracting a merged change again would not be.",
    wrong=(Wrong("the head stays", take_with(remove={"test": LORA_ONLY}), "the head left"),
           Wrong("the head is not folded in", take_with(merge={"test": LORA_ONLY}), "left in the merged model"),
           Wrong("merge in place", take_with(merge={"copy": ""}), "merge a copy"),
           Wrong("a shallow copy", take_with(merge={"copy": "model = copy.copy(model)\n"}), "merge a copy"),
           Wrong("merge removes", take_with(merge={"new": "base"}), "answers as the base"),
           Wrong("remove merges", take_with(remove={"new": "merged()"}), "bit for bit"),
           Wrong("counts twice", take_with().replace("model.set_submodule(name, module.merged())",
                                                     "module.base = module.merged()"), "counts twice"),
           Wrong("zeros instead of removing", take_with().replace("model.set_submodule(name, module.base)",
                 "[p.data.zero_() for p in module.parameters() if p.requires_grad]"), "left after remove"),
           Wrong("merges, then subtracts", take_with().replace("model.set_submodule(name, module.base)",
                 "layer = module.merged()\n            if hasattr(module, 'A'):\n                "
                 "layer.weight.data -= 0.5 * module.B.data @ module.A.data\n            "
                 "model.set_submodule(name, layer if hasattr(module, 'A') else module.base)"), "bit for bit"),
           Wrong("dotted setattr", take_with().replace("model.set_submodule(", "setattr(model, "), "left after remove"),
           Wrong("no returns", take_with().replace("return model", "pass"), "return")),
)  # fmt: skip

LESSON = Lesson(id="02", slug="mechanism", title="The map and the mechanism", requires=("00",), minutes=75,
                exercises=(SORT, FREEZE, INJECT_TASK, STATE, LOADING, RELOAD, SWAP, REMOVE))  # fmt: skip
