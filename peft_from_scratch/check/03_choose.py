"""Lesson 03, Choose what to train: by name (head, top layers, biases, norms), by price, by a cache, by a budget."""

from torch import nn

from .choose_host import ABOVE, HEAD, STACK, Host, L, chosen_by, inside, is_chosen, names_of, vectors
from .choose_price import caches_what_the_head_sees, is_valid, keeps_no_graph, stays_below, trains_at_least
from .exercise import Exercise, Lesson, Property, Wrong
from .tools import agrees, expect, expect_before, letters

# 1. What lies in a module


def tells_names(answer, rng):
    within, _ = answer
    cases = (("classifier.weight", ("classifier",)), ("pre_classifier.weight", ("classifier",)),
             ("a.layer.1.up.bias", ("a.layer.1",)), ("a.layer.10.up.bias", ("a.layer.1",)),
             ("a.pooler.bias", ("b", "a.pooler")), ("a.b.a.pooler.bias", ("a.pooler",)), ("x.y", ()))  # fmt: skip
    want = (True, False, True, False, True, False, False)
    for (name, modules), right in zip(cases, want, strict=True):
        got = within(name, modules)
        advice = {
            "a.layer.10.up.bias": "layer.1 is no part of layer.10: what follows a module's name is a dot.",
            "pre_classifier.weight": "`pre_classifier` is another module, and `in` finds `classifier` in it: the name "
                                     "must begin with the module's.",
            "x.y": "nothing lies in no modules: with an empty tuple the answer is False.",
        }.get(name, f"within({name!r}, {modules!r}) should be {right}.")  # fmt: skip
        expect(bool(got) == right, advice)


def trains_the_head(answer, rng):
    _, head_only = answer
    model = Host()
    for head in (HEAD, ABOVE):
        want = inside(model, *head)
        is_chosen(chosen_by(head_only, head), want, {
            "that is everything but the head: the head must train, the rest is frozen.": set(names_of(model)) - want,
            "nothing trains: without its new head the model can only keep its random answers.": set(),
            "everything trains: that is full fine-tuning.": set(names_of(model)),
        }, "What lies in the modules `head`, and nothing else.")  # fmt: skip


def head_with(test='return name.startswith(tuple(f"{module}." for module in modules))', pick="if within(name, head)",
              end="return "):  # fmt: skip
    return (f"def within(name, modules):\n    {test}\n\n\ndef head_only(model, head):\n"
            f"    {end}train_only(model, [name for name, _ in model.named_parameters() {pick}])")  # fmt: skip


HEAD_ONLY = Exercise(
    name="choose.head", defines="within, head_only", title="What lies in the head", tier="core", difficulty=2,
    minutes=4, points=3, unlocks="every other choice by name, and the bottom rung of the ladder",
    needs=("train_only",), reference=head_with(),
    properties=(Property("knows what lies in a module", tells_names, core=True),
                Property("trains the head and nothing else", trains_the_head, core=True)),
    hints=("What is the difference between layer.1.up.bias and layer.10.up.bias, letter by letter?",
           "a name lies in a module if it begins with the module's name and a dot",
           'any(name.startswith(f"{module}.") for ...); then [name for ... if within(name, head)]'),
    remark="The dot is the whole exercise: on a model of six layers the fault is silent, and on twelve it is not.",
    wrong=(Wrong("in", head_with("return any(module in name for module in modules)"), "another module"),
           Wrong("no dot", head_with("return name.startswith(tuple(modules))"), "layer.10"),
           Wrong("first part only", head_with('return name.split(".")[0] in modules'), "should be True"),
           Wrong("the module alone", head_with("return name in modules"), "should be True"),
           Wrong("a part anywhere", head_with('return any(f"{module}." in name for module in modules)'),
                 "another module"),
           Wrong("the first module only", head_with('return name.startswith(f"{modules[0]}.")'),
                 "should be True|IndexError"),
           Wrong("all of them", head_with('return all(name.startswith(f"{module}.") for module in modules)'),
                 "should be True"),
           Wrong("everything but the head", head_with(pick="if not within(name, head)"), "everything but the head"),
           Wrong("no return", head_with(end=""), "return the model"),
           Wrong("the names", head_with(end="return [n for n, _ in model.named_parameters() if within(n, head)]\n    "),
                 "itself")),
)  # fmt: skip


# 2. The top k layers


def layers(first, last, *more):
    return inside(Host(), *(f"{STACK}.{i}" for i in range(first, last)), *more)


def trains_the_top(top_k, rng):
    for k in (4, 1, 11):
        is_chosen(chosen_by(top_k, k, STACK, ABOVE), layers(L - k, L, *ABOVE), {
            "counted from the bottom: layer 0 is the one next to the input.": layers(0, k, *ABOVE),
            "the new head stays frozen, as random as it was drawn: add what stands above the layers.": layers(L - k, L),
            "that is one layer; the last k are wanted.": layers(L - k, L - k + 1, *ABOVE),
            "one layer too few: the last k are L - k, ..., L - 1.": layers(L - k + 1, L, *ABOVE),
            "one layer too many: the last k are L - k, ..., L - 1.": layers(L - k - 1, L, *ABOVE),
            "the first L - k train and the top is frozen: turn it round.": layers(0, L - k, *ABOVE),
            "k was not used.": layers(L - 2, L, *ABOVE),
            "layers 10 and 11 stay frozen: is layer.1 taken for a part of them? What follows a module's name is a dot.":
                layers(L - k, 10, *ABOVE),
        }, "The last k of the layers, whole, and the modules `head`.")  # fmt: skip


def has_both_ends(top_k, rng):
    nothing = chosen_by(top_k, 0, STACK, ABOVE)
    expect(nothing != layers(0, L, *ABOVE), "k = 0 takes every layer: a list's [-0:] is the whole list. Count instead.")
    is_chosen(nothing, inside(Host(), *ABOVE), {}, "With k = 0 only the modules `head` train.")
    every = chosen_by(top_k, L, STACK, ABOVE)
    advice = "With k = L every layer trains, and still nothing below the layers."
    expect(every != layers(0, L) | inside(Host(), *ABOVE, "trunk.embed", "trunk.embed_norm"), advice)
    is_chosen(every, layers(0, L, *ABOVE), {}, advice)


def works_without_a_head(top_k, rng):
    is_chosen(chosen_by(top_k, 2, STACK, ()), layers(L - 2, L), {}, "With no `head` only the layers train.")


TOP = ('def top_k(model, k, stack, head):\n    L = len(model.get_submodule(stack))\n    chosen = {chosen}\n'
       "    return train_only(model, [name for name, _ in model.named_parameters() if {test}])")  # fmt: skip


def top_with(chosen='[f"{stack}.{i}" for i in range(L - k, L)] + list(head)', test="within(name, chosen)"):
    return TOP.format(chosen=chosen, test=test)


TOP_K = Exercise(
    name="choose.top_k", defines="top_k", title="The top k layers", tier="core", difficulty=2, minutes=5, points=3,
    unlocks="the ladder from the head alone to every layer", needs=("train_only",), reference=top_with(),
    properties=(Property("trains the last k layers and what stands above", trains_the_top, core=True),
                Property("k = 0 and k = L", has_both_ends, core=True),
                Property("a model without a new head", works_without_a_head, core=True)),
    hints=("Layer 0 reads the embeddings. Which numbers do the last k of L layers have?",
           "modules: stack.(L - k), ..., stack.(L - 1), and those of `head`; L is len(model.get_submodule(stack))",
           'chosen = [f"{stack}.{i}" for i in range(..., L)] + ...'),
    remark="range(L - k, L) is right for k = 0 too; a slice [-k:] would take everything there.",
    wrong=(Wrong("from the bottom", top_with('[f"{stack}.{i}" for i in range(k)] + list(head)'),
                 "counted from the bottom", museum="counted from the bottom"),
           Wrong("head frozen", top_with('[f"{stack}.{i}" for i in range(L - k, L)]'),
                 "as random as it was drawn", museum="the new head frozen"),
           Wrong("one layer", top_with('[f"{stack}.{L - k}"] + list(head)'), "that is one layer"),
           Wrong("the last one left out", top_with('[f"{stack}.{i}" for i in range(L - k, L - 1)] + list(head)'),
                 "L - 1|layer.11"),
           Wrong("one too few", top_with('[f"{stack}.{i}" for i in range(L - k + 1, L)] + list(head)'),
                 "one layer too few|only the modules"),
           Wrong("one too many", top_with('[f"{stack}.{i}" for i in range(L - k - 1, L)] + list(head)'), "too many"),
           Wrong("a slice", top_with('[f"{stack}.{i}" for i in list(range(L))[-k:]] + list(head)'), "k = 0 takes"),
           Wrong("freezing layer.1 freezes layer.10", top_with(
               'tuple(f"{stack}.{i}" for i in range(L - k))',
               "name.startswith(stack) and not name.startswith(chosen) or within(name, head)"), "layer.1 taken for"),
           Wrong("frozen and trained swapped", top_with('[f"{stack}.{i}" for i in range(L - k)] + list(head)'),
                 "turn it round"),
           Wrong("k of the top forgotten", top_with('[f"{stack}.{i}" for i in range(L - 2, L)] + list(head)'),
                 "k was not used"),
           Wrong("6 layers written in", top_with('[f"{stack}.{i}" for i in range(6 - k, 6)] + list(head)'),
                 "does not train|trains and should not")),
)  # fmt: skip

# 3. BitFit


def biases(model):
    return {name for name in names_of(model) if name.endswith(".bias")}


def trains_biases(bitfit, rng):
    model = Host()
    table = {name for name in names_of(model) if "bias" in name}
    linear = {f"{name}.bias" for name, m in model.named_modules() if isinstance(m, nn.Linear) and m.bias is not None}
    flat = {name for name, p in model.named_parameters() if p.dim() == 1}
    head = inside(model, *HEAD)
    is_chosen(chosen_by(bitfit, HEAD), biases(model) | head, {
        "`relative_attention_bias.weight` is a table, not a bias: \"bias\" in name takes it too (T5 has one). The name "
        "must end with .bias.": table | head,
        "the new head's weight stays frozen at random: train the head in full.": biases(model),
        "a norm's bias is a bias too: BitFit trains every one.": linear | head,
        "a vector need not be a bias: the gains of the norms train too.": flat | head,
        "only the head trains.": head,
        "everything but the biases trains.": set(names_of(model)) - biases(model) | head,
    }, "Every parameter that is called bias, and the head in full.")  # fmt: skip


def chooses_nothing_where_nothing_is(bitfit, rng):
    """A Llama: no bias anywhere."""
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    bitfit(model, ())
    expect(not any(p.requires_grad for p in model.parameters()),
           "a model without biases has nothing for BitFit: then nothing must train.")  # fmt: skip


BIT = ("def bitfit(model, head):\n"
       "    return train_only(model, [name for name, {p} in model.named_parameters() if {test}])")  # fmt: skip


def bitfit_with(test='name.endswith(".bias") or within(name, head)', p="_"):
    return BIT.format(test=test, p=p)


BITFIT = Exercise(
    name="choose.bitfit", defines="bitfit", title="BitFit", tier="core", difficulty=2, minutes=4, points=3,
    unlocks="a method that trains next to nothing, everywhere", needs=("train_only",), reference=bitfit_with(),
    properties=(Property("trains every bias, and the head", trains_biases, core=True),
                Property("trains nothing where there is no bias", chooses_nothing_where_nothing_is)),
    hints=("What are all the biases called, in a linear layer and in a norm?",
           "{name : name ends with .bias, or lies in the head}",
           'return train_only(model, [name for ... if name.endswith(...) or ...])'),
    remark="The name decides, and a name is a convention: a library that calls its offset `beta` would be passed by.",
    wrong=(Wrong("bias anywhere in the name", bitfit_with('"bias" in name or within(name, head)'), "is a table"),
           Wrong("head frozen but for its bias", bitfit_with('name.endswith(".bias")'), "weight stays frozen"),
           Wrong("every vector", bitfit_with("p.dim() == 1 or within(name, head)", "p"), "gains of the norms"),
           Wrong("linear layers only", "def bitfit(model, head):\n"
                 '    linear = [f"{n}.bias" for n, m in model.named_modules() if isinstance(m, nn.Linear)]\n'
                 "    return train_only(model, [n for n, _ in model.named_parameters() if n in linear "
                 "or within(n, head)])", "norm's bias is a bias"),
           Wrong("and, not or", bitfit_with('name.endswith(".bias") and within(name, head)'), "does not train"),
           Wrong("the rest", bitfit_with('not name.endswith(".bias") or within(name, head)'),
                 "everything but the biases"),
           Wrong("ends with weight", bitfit_with('name.endswith(".weight") or within(name, head)'),
                 "everything but"),
           Wrong("head only", bitfit_with('name == "bias" or within(name, head)'), "only the head trains"),
           Wrong("no return", bitfit_with().replace("return ", ""), "return the model")),
)  # fmt: skip


# 4. LN-tuning


def norms(model):
    return {f"{name}.{key}" for name in vectors(model) for key, _ in model.get_submodule(name).named_parameters()}


def trains_norms(ln_tuning, rng):
    model = Host()
    head, right = inside(model, *HEAD), norms(model)
    layer_norms = [name for name, m in model.named_modules() if isinstance(m, nn.LayerNorm)]
    flat = {name for name, p in model.named_parameters() if p.dim() == 1}
    is_chosen(chosen_by(ln_tuning, HEAD), right | head, {
        "a Llama's norms are no nn.LayerNorm, and a class may have any name: `input_layernorm` is passed by. Ask what "
        "all norms have in common: their weight is a vector.": inside(model, *layer_norms) | head,
        "a name is no proof: `ln_1` is a norm, `norm_gate` a linear layer. Ask for the weight: a norm's is a vector.":
            {name for name in names_of(model) if "norm" in name.lower()} | head,
        "`norm_gate` is a linear layer. A name is no proof; ask for the weight: a norm's is a vector.":
            right | {name for name in names_of(model) if "norm" in name.lower()} | head,
        "the biases of linear layers are vectors too: ask what the module's *weight* is.": flat | head,
        "the gains alone: a LayerNorm's bias trains as well.": {n for n in right if n.endswith(".weight")} | head,
        "the biases of the norms alone: their gains train as well.": {n for n in right if n.endswith(".bias")} | head,
        "the new head stays frozen at random: train it in full.": right,
        "only the head trains: was a norm looked for by its name, or a module's name taken for a parameter's?": head,
    }, "Both vectors of every norm, and the head in full.")  # fmt: skip


def takes_rms_norms(ln_tuning, rng):
    model = nn.Sequential(nn.Linear(4, 4), Host().trunk["layer"][0].input_layernorm)
    ln_tuning(model, ())
    got = {name for name, p in model.named_parameters() if p.requires_grad}
    expect("1.weight" in got, "a Llama's norms are no nn.LayerNorm: ask what all norms have in common: their weight is "
                              "a vector.")  # fmt: skip
    expect(got == {"1.weight"}, "only the norm should train in a linear layer with a norm behind it.")


LN = ("def ln_tuning(model, head):\n"
      "    norms = [name for name, m in model.named_modules() if {rule}]\n"
      "    return train_only(model, [name for name, {p} in model.named_parameters() if {test}])")  # fmt: skip
VECTOR = 'getattr(m, "weight", None) is not None and m.weight.dim() == 1'


def ln_with(rule=VECTOR, test="within(name, norms) or within(name, head)", p="_"):
    return LN.format(rule=rule, test=test, p=p)


LN_TUNING = Exercise(
    name="choose.ln", defines="ln_tuning", title="LN-tuning", tier="core", difficulty=3, minutes=5, points=4,
    unlocks="the one of these methods that every transformer has numbers for", needs=("train_only", "nn"),
    reference=ln_with(),
    properties=(Property("trains the norms, and the head", trains_norms, core=True),
                Property("knows an RMS norm", takes_rms_norms, core=True)),
    hints=("Every library has its own name for a norm. What do their weights have in common?",
           "norms: the modules m with m.weight a vector, m.weight.dim() == 1",
           'norms = [name for name, m in model.named_modules() if getattr(m, "weight", None) is not None and ...]'),
    remark="A norm without a gain has nothing to train, and a PReLU's slope is a vector too: no rule is perfect.",
    wrong=(Wrong("nn.LayerNorm", ln_with("isinstance(m, nn.LayerNorm)"), "no nn.LayerNorm"),
           Wrong("by name", ln_with('"norm" in name.lower()'), "name is no proof"),
           Wrong("by every name", ln_with('"norm" in name.lower() or "ln_" in name'), "norm_gate. is a linear layer"),
           Wrong("BERT's name", ln_with('"LayerNorm" in name'), "looked for by its name"),
           Wrong("all vectors", ln_with(test="p.dim() == 1 or within(name, head)", p="p"), "linear layers are vectors"),
           Wrong("gains only", ln_with(test='within(name, norms) and name.endswith(".weight") or within(name, head)'),
                 "gains alone"),
           Wrong("biases only", ln_with(test='within(name, norms) and name.endswith(".bias") or within(name, head)'),
                 "biases of the norms alone"),
           Wrong("head frozen", ln_with(test="within(name, norms)"), "stays frozen at random"),
           Wrong("class name", ln_with('"LayerNorm" in type(m).__name__'), "no nn.LayerNorm"),
           Wrong("no head, no norms", ln_with(test="name in norms or within(name, head)"), "only the head trains"),
           Wrong("matrices", ln_with('getattr(m, "weight", None) is not None and m.weight.dim() == 2'),
                 "trains and should not"),
           Wrong("no return", ln_with().replace("return ", ""), "return the model")),
)  # fmt: skip


# 5. The price

CASES = [(6, 0), (6, 1), (6, 3), (6, 6), (12, 5), (30, 2), (7, 4)]
LOWEST = ("the lowest trained layer is spared a part of its own input's gradient, and the counter will see it. The "
          "formula counts two gradients in each of the k layers.")  # fmt: skip
PARENTHESES = "a / 3 * L multiplies by L: the divisor needs parentheses."
FLOOR = "// drops what is behind the point; a share needs /."


def prices_the_top(answer, rng):
    agrees(answer[0], CASES, lambda L, k: 1 / 3 + 2 / 3 * k / L, {
        "that is the share of the layers: the forward pass goes through all of them, and is a third.":
            lambda L, k: k / L,
        "the forward pass is missing: it is a third of full fine-tuning, whatever trains.": lambda L, k: 2 / 3 * k / L,
        "forward is 2 N of 6 N: a third. Half is too much.": lambda L, k: 1 / 2 + 1 / 2 * k / L,
        "a trained layer needs two gradients, of its weights and of its input: 4 N of 6 N.":
            lambda L, k: 1 / 3 + 1 / 3 * k / L,
        "that counts the frozen layers: the backward pass stops below the lowest trained one.":
            lambda L, k: 1 / 3 + 2 / 3 * (L - k) / L,
        "the frozen layers below need no gradient of their input: nothing there asks for it.":
            lambda L, k: 2 / 3 + 1 / 3 * k / L,
        "in FLOPs of N; divide by full fine-tuning's 6.": lambda L, k: 2 + 4 * k / L,
        "in FLOPs of N; divide by full fine-tuning's 6 L.": lambda L, k: 2 * L + 4 * k,
        f"{LOWEST} Divide by 6 L.": lambda L, k: (L + k + max(k - 1, 0)) / (3 * L - 1),
        LOWEST: lambda L, k: (L + k + max(k - 1, 0)) / (3 * L),
        f"{LOWEST} With k = 0 there is none.": lambda L, k: (L + 2 * k - 1) / (3 * L),
        PARENTHESES: lambda L, k: (L + 2 * k) / 3 * L,
        FLOOR: lambda L, k: (L + 2 * k) // (3 * L),
        "a share of full fine-tuning is wanted, so that k = L gives 1.": lambda L, k: 1 + 2 * k / L,
        "in per cent; a share is wanted, 1 for full fine-tuning.": lambda L, k: 100 * (1 / 3 + 2 / 3 * k / L),
    }, "forward everywhere: 2 N. In each of the k layers also 4 N backward. Full is 6 N.")  # fmt: skip


def prices_thin_methods(answer, rng):
    agrees(answer[1], CASES, lambda L, depth: 1 / 3 + 1 / 3 * depth / L, {
        "that is the price of training these layers in full: a frozen weight saves the product for its own gradient.":
            lambda L, d: 1 / 3 + 2 / 3 * d / L,
        "hardly any numbers train, but the gradient has to pass through these layers: 2 N in each.": lambda L, d: 1 / 3,
        "right for methods that reach the bottom only: `depth` says how far down the gradient has to go.":
            lambda L, d: 2 / 3,
        "the forward pass is missing: it is a third.": lambda L, d: 1 / 3 * d / L,
        "that is the share of the layers; forward goes through all of them.": lambda L, d: d / L,
        "in FLOPs of N; divide by full fine-tuning's 6.": lambda L, d: 2 + 2 * d / L,
        "in FLOPs of N; divide by full fine-tuning's 6 L.": lambda L, d: 2 * L + 2 * d,
        PARENTHESES: lambda L, d: (L + d) / 3 * L,
        FLOOR: lambda L, d: (L + d) // (3 * L),
    }, "forward everywhere: 2 N. In each of the `depth` layers also 2 N, for the gradient of its input.")  # fmt: skip


def price_with(top="1 / 3 + 2 / 3 * k / L", thin="1 / 3 + 1 / 3 * depth / L"):
    return f"def flops_ratio(L, k):\n    return {top}\n\n\ndef thin_ratio(L, depth):\n    return {thin}"


PRICE = Exercise(
    name="choose.flops", defines="flops_ratio, thin_ratio", title="The price", tier="core", difficulty=2, minutes=6,
    points=4, unlocks="telling a step's price before running it, for any method", reference=price_with(),
    properties=(Property("the top k layers in full", prices_the_top, core=True),
                Property("a few numbers in each of the top layers", prices_thin_methods, core=True)),
    hints=("Which of the three products of a layer (forward, input's gradient, weights' gradient) are needed in a "
           "trained layer, in a frozen one above a trained one, and in one below all that trains?",
           "forward 2 N everywhere; +2 N where a gradient passes; +2 N more where weights train; full is 6 N",
           "return 1 / 3 + ... * k / L, and for the thin one another factor"),
    remark="The count of trained numbers is in neither formula: only how deep the gradient goes and what it makes.",
    wrong=(Wrong("share of the layers", price_with(top="k / L"), "share of the layers"),
           Wrong("no forward", price_with(top="2 / 3 * k / L"), "forward pass is missing"),
           Wrong("forward is half", price_with(top="1 / 2 + 1 / 2 * k / L"), "third"),
           Wrong("one gradient", price_with(top="1 / 3 + 1 / 3 * k / L"), "two gradients"),
           Wrong("frozen ones counted", price_with(top="1 / 3 + 2 / 3 * (L - k) / L"), "stops below"),
           Wrong("backward to the bottom", price_with(top="2 / 3 + 1 / 3 * k / L"), "nothing there asks"),
           Wrong("not a share", price_with(top="2 + 4 * k / L"), "divide by"),
           Wrong("not a share either", price_with(top="2 * L + 4 * k"), "divide by"),
           Wrong("the lowest one spared", price_with(top="(L + 2 * k - 1) / (3 * L) if k else 1 / 3"), "is spared"),
           Wrong("spared in full too", price_with(top="(L + k + max(k - 1, 0)) / (3 * L - 1)"), "is spared"),
           Wrong("no parentheses", price_with(top="(L + 2 * k) / 3 * L"), "needs parentheses"),
           Wrong("whole numbers", price_with("(L + 2 * k) // (3 * L)", "(L + depth) // (3 * L)"), "needs /"),
           Wrong("one gradient, one fraction", price_with(top="(L + k) / (3 * L)"), "two gradients"),
           Wrong("one fraction, to the bottom", price_with(top="(2 * L + k) / (3 * L)"), "nothing there asks"),
           Wrong("few numbers, no price", price_with(thin="1 / 3"), "hardly any numbers"),
           Wrong("thin as dear as full", price_with(thin="flops_ratio(L, depth)"), "in full"),
           Wrong("always to the bottom", price_with(thin="2 / 3"), "reach the bottom"),
           Wrong("thin without forward", price_with(thin="1 / 3 * depth / L"), "forward pass is missing"),
           Wrong("swapped", price_with("1 / 3 + 1 / 3 * k / L", "1 / 3 + 2 / 3 * depth / L"), "two gradients")),
)  # fmt: skip


# 6. Order: once through the trunk

ORDER_KEY = ("D", "B", "F", "C", "H")
LINES = {
    "A": "model.train() leaves dropout on: each text's features would be another draw, kept for good.",
    "E": "this runs the trunk in every epoch: the price that the cache is there to save.",
    "G": "the head is no part of `model`: nothing in this optimiser ever gets a gradient, and the head would not move.",
}


def five_of_eight(order, rng):
    found = letters(order, '"A"', last="H")
    for letter, why in LINES.items():
        expect(letter not in found, f"{letter}: {why}")
    lost = [letter for letter in ORDER_KEY if letter not in found]
    without = f", without {lost[0]}" if lost else ""
    expect(not lost and len(found) == 5, f"five letters are wanted, each once; you gave {len(found)}{without}.")


def in_order(order, rng):
    found = letters(order, '"A"', last="H")
    expect_before(found, (
        ("D", "B", "D comes before B: eval mode first, then the features."),
        ("B", "C", "B comes before C: the features before what is trained on them."),
        ("F", "C", "F comes before C: the optimiser is made once, before the epochs."),
        ("C", "H", "C comes before H: the epochs, and inside them the step."),
    ))  # fmt: skip
    expect(found[-1:] == ["H"], "H is the last: it is what each round does.")


ORDER = Exercise(
    name="choose.order", defines="order", title="Order the lines", tier="core", difficulty=2, minutes=3, points=2,
    unlocks="the cache that you write next", kind="order", reference='order = ["D", "B", "F", "C", "H"]',
    properties=(Property("has the five lines, and only them", five_of_eight, core=True),
                Property("has them in order", in_order, core=True)),
    hints=("Which lines need the trunk, and how often must they run?",
           "eval, features, optimiser of the head, epochs, step", 'order = ["D", ...], five letters'),
    remark="A frozen trunk in eval mode is a fixed function: what it says of a text need be computed only once.",
    wrong=(Wrong("dropout on", 'order = ["A", "B", "F", "C", "H"]', "dropout on"),
           Wrong("trunk in every epoch", 'order = ["D", "F", "C", "E", "H"]', "in every epoch"),
           Wrong("the trunk's parameters", 'order = ["D", "B", "G", "C", "H"]', "no part of"),
           Wrong("optimiser in the loop", 'order = ["D", "B", "C", "F", "H"]', "made once"),
           Wrong("features before eval", 'order = ["B", "D", "F", "C", "H"]', "eval mode first"),
           Wrong("step before the epochs", 'order = ["D", "B", "F", "H", "C"]', "C comes before H"),
           Wrong("no optimiser", 'order = ["D", "B", "C", "H"]', "without F"),
           Wrong("as code", 'order = ["eval", "features", "step"]', "letters")),
)  # fmt: skip


# 7. The cache

CACHE = """
@torch.no_grad()
def cache_features(model, batches):
    model.eval()
    x, y = [], []
    for batch in batches:
        out = model.base_model(batch["input_ids"], batch["attention_mask"])
        x.append(out.pooler_output)
        y.append(batch["labels"])
    return torch.cat(x), torch.cat(y)
""".strip()


def cache_with(*swaps):
    source = CACHE
    for old, new in swaps:
        assert old in source
        source = source.replace(old, new)
    return source


CACHED = Exercise(
    name="choose.cache", defines="cache_features", title="Run the trunk once", tier="full", difficulty=3, minutes=8,
    points=4, unlocks="training a head for a hundred epochs in a second", reference=CACHE,
    properties=(Property("keeps what the head is shown", caches_what_the_head_sees, core=True),
                Property("keeps no graph", keeps_no_graph, core=True)),
    hints=("What is the classifier given, and in which mode must the model be so that it is always the same?",
           "x = pooler_output of model.base_model in eval mode, without gradients; one row a text; labels beside",
           'with torch.no_grad(): out = model.base_model(batch["input_ids"], batch["attention_mask"]); x.append(...)'),
    remark="Without a graph nothing below the head is stored at all: the cache saves memory as well as time.",
    wrong=(Wrong("train mode", cache_with(("model.eval()", "model.train()")), "dropout"),
           Wrong("no mode", cache_with(("    model.eval()\n", "")), "dropout"),
           Wrong("the logits", cache_with(("model.base_model(", "model("), (".pooler_output", ".logits")),
                 "head's answer"),
           Wrong("the first token", cache_with((".pooler_output", ".last_hidden_state[:, 0]")), "pooler"),
           Wrong("mean of tokens", cache_with((".pooler_output", ".last_hidden_state.mean(1)")), "pooler"),
           Wrong("no mask", cache_with((', batch["attention_mask"]', "")), "attention_mask"),
           Wrong("keeps the graph", cache_with(("@torch.no_grad()\n", "")), "graph"),
           Wrong("first batch", cache_with(("        y.append(batch[\"labels\"])\n    return",
                                            "        y.append(batch[\"labels\"])\n        return")), "one batch"),
           Wrong("last batch", cache_with(("x.append(out.pooler_output)", "x = [out.pooler_output]"),
                                          ("y.append(batch[\"labels\"])", "y = [batch[\"labels\"]]")), "one batch"),
           Wrong("features alone", cache_with(("return torch.cat(x), torch.cat(y)", "return torch.cat(x)")), "labels"),
           Wrong("lists", cache_with(("return torch.cat(x), torch.cat(y)", "return x, y")), "torch.cat")),
)  # fmt: skip


# 8. A subset under a budget

SUBSET = Exercise(
    name="choose.subset", defines="subset", title="As much as possible for half the price", tier="stretch",
    difficulty=4, minutes=10, points=4, unlocks="spending a budget of compute where it buys most", kind="value",
    time_limit=20.0,
    reference=r'subset = r"bert\.(pooler|encoder\.layer\.(5|4\.(intermediate|output)))\..*|classifier\..*"',
    properties=(Property("names parameters, the head's among them", is_valid, core=True),
                Property("costs at most half of full fine-tuning", stays_below, core=True),
                Property("trains at least 2.5 million numbers", trains_at_least(2_500_000), core=True),
                Property("trains at least 3 million numbers", trains_at_least(3_000_000))),
    hints=("From which layer down can the gradient still be afforded, and which matrices there are the largest?",
           "price = 1/3 + 1/3 · (share of the layers that the gradient passes) + 1/3 · (share of weights that train)",
           r'subset = r"bert\.encoder\.layer\.(5|4\.(...))\..*|classifier\..*", and something that is nearly free'),
    remark="The pooler reads one token a text: nearly free. The embeddings, half of all numbers, cost the whole way.",
    wrong=(Wrong("top layer and head", r'subset = r"bert\.encoder\.layer\.5\..*|classifier\..*"', "2.5 million"),
           Wrong("two layers", r'subset = r"bert\.encoder\.layer\.[45]\..*|classifier\..*"', "more than half"),
           Wrong("embeddings are no products", r'subset = r"bert\.embeddings\..*|classifier\..*"', "more than half"),
           Wrong("biases everywhere", r'subset = r".*\.bias|classifier\..*"', "more than half"),
           Wrong("no head", r'subset = r"bert\.encoder\.layer\.(5|4\.output)\..*"', "head"),
           Wrong("modules, not parameters", r'subset = r"bert\.encoder\.layer\.5|classifier"', "whole name"),
           Wrong("not a pattern", r'subset = r"bert.encoder.layer.(5"', "regular expression"),
           Wrong("everything", 'subset = ".*"', "more than half"),
           Wrong("head only", r'subset = r"classifier\..*"', "2.5 million"),
           Wrong("a part of the name", r'subset = r"layer\.[45]\.(intermediate|output)\..*|classifier\..*"',
                 "head alone.*whole name")),
)  # fmt: skip

LESSON = Lesson(id="03", slug="choose", title="Choose what to train", requires=("00", "01", "02"), minutes=60,
                exercises=(HEAD_ONLY, TOP_K, BITFIT, LN_TUNING, PRICE, ORDER, CACHED, SUBSET))  # fmt: skip
