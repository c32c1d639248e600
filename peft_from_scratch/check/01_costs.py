"""Lesson 01, what full fine-tuning costs: bytes that are always there, the order of a step, its FLOPs, what is kept for
the way back, a base in two bytes, the disk, forgetting, the longest text that fits."""

from .costs_numbers import (
    disk_total,
    fits,
    four_for_lora,
    gradients_of_adapters,
    gradients_of_trained,
    matrices,
    moments_of_adapters,
    moments_of_trained,
    no_length,
    one_per_task,
    six_for_full,
    three_parts,
    two_for_head,
    weights_of_all,
    weights_of_both,
    without_scores,
)
from .costs_runs import (
    counts_all_kept,
    is_a_number,
    is_the_rise,
    leaves_the_model,
    no_dropout,
    once_and_whole,
    targets_only,
    without_residents,
)
from .exercise import Exercise, Lesson, Property, Wrong
from .tools import expect, expect_before, letters

# 1. What is always there


def static_with(weights="4 * total", gradients="4 * trained", optimizer="8 * trained", end=None):
    return (f"def static_bytes(total, trained):\n    weights = {weights}\n    gradients = {gradients}\n"
            f"    optimizer = {optimizer}\n    return {end or 'weights, gradients, optimizer'}")  # fmt: skip


STATIC = Exercise(
    name="cost.static", defines="static_bytes", title="What is always there", tier="core", difficulty=2, minutes=5,
    points=3, unlocks="the first three parts of the bill, for any model", reference=static_with(),
    properties=(Property("gives three numbers of bytes", three_parts, core=True),
                Property("holds every number, trained or not", weights_of_all, core=True),
                Property("has a gradient for what trains", gradients_of_trained, core=True),
                Property("has two moments for what trains", moments_of_trained, core=True)),
    hints=("Which of the three parts does a frozen number need, and which only one that moves?",
           "weights 4 P, gradients 4 T, Adam 2 · 4 T, for P numbers of which T train",
           "gradients = 4 * ...; optimizer = 2 * 4 * ..."),
    remark="4 P + 12 T: sixteen bytes for a number that trains, four for one that does not.",
    wrong=(Wrong("frozen ones charged too", static_with(gradients="4 * total", optimizer="8 * total"),
                 "frozen number needs no gradient", museum="base left trainable"),
           Wrong("moments of frozen ones", static_with(optimizer="8 * total"), "moments of frozen"),
           Wrong("one moment", static_with(optimizer="4 * trained"), "two numbers for each"),
           Wrong("frozen ones gone", static_with(weights="4 * trained"), "still there"),
           Wrong("trained ones left out", static_with(weights="4 * (total - trained)"), "among the total"),
           Wrong("bits", static_with("32 * total", "32 * trained", "64 * trained"), "bits"),
           Wrong("half precision", static_with("2 * total", "2 * trained", "4 * trained"), "two bytes"),
           Wrong("one sum", static_with(end="weights + gradients + optimizer"), "three numbers"),
           Wrong("a copy of the weights", static_with(optimizer="12 * trained"), "copy of the weights"),
           Wrong("no gradients", static_with(gradients="0"), "gradient is there"),
           Wrong("numbers", static_with(gradients="trained", optimizer="2 * trained"), "counts numbers"),
           Wrong("two numbers", static_with(optimizer="2 * trained"), "counts the two moments as numbers"),
           Wrong("in MiB", static_with(end="weights / 2**20, gradients / 2**20, optimizer / 2**20"), "MiB"),
           Wrong("another order", static_with(end="weights, optimizer, gradients"), "in this order"),
           Wrong("moments of the change", static_with("4 * total", "4 * trained", "0"), "keeps nothing")),
)  # fmt: skip


# 2. A step, in order

FAULTS = {
    "B": "B: the way back cannot jump: to reach an adapter, the gradient must pass through the frozen layers above it.",
    "F": "F: a number that does not ask for a gradient gets none; nothing is made to be ignored.",
    "H": "H: frozen weights stay. The way back multiplies by them, and so does the next step.",
}


def five_of_eight(order, rng):
    found = letters(order, '"A", "B"', last="H")
    for letter, advice in FAULTS.items():
        expect(letter not in found, advice)
    expect(len(set(found)) == len(found), "a letter comes twice.")
    expect(len(found) == 5, f"five lines are wanted; you gave {len(found)}.")


def in_order(order, rng):
    found = letters(order, '"A", "B"', last="H")
    expect_before(found, (
        ("C", "E", "the loss (E) is the last thing that the forward pass (C) computes."),
        ("E", "G", "the way back (G) starts at the loss (E)."),
        ("G", "A", "Adam (A) needs the gradients that the way back (G) makes."),
        ("A", "D", "drop the gradients (D) only after Adam (A) has used them."),
    ))  # fmt: skip


ORDER = Exercise(
    name="cost.order", defines="order", title="A step, in order", tier="core", difficulty=1, minutes=3, points=2,
    unlocks="the reason why compute has a floor", kind="order", reference='order = ["C", "E", "G", "A", "D"]',
    properties=(Property("has the five lines, and only them", five_of_eight, core=True),
                Property("has them in order", in_order, core=True)),
    hints=("How does a gradient get from the loss, at the top, to an adapter in the first block?",
           "forward, loss, backward through all layers, optimiser, clear", 'order = ["C", ...], five letters'),
    remark="Each part of memory has its own lifetime. The weights stay, the gradients come as what was kept goes.",
    wrong=(Wrong("backward jumps", 'order = ["C", "E", "B", "A", "D"]', "cannot jump",
                 museum="frozen layers under no_grad"),
           Wrong("gradients for all", 'order = ["C", "E", "G", "F", "A", "D"]', "asks? for a gradient|gets none"),
           Wrong("frozen weights leave", 'order = ["C", "H", "E", "G", "A", "D"]', "frozen weights stay"),
           Wrong("cleared too early", 'order = ["C", "E", "G", "D", "A"]', "only after Adam"),
           Wrong("Adam first", 'order = ["C", "E", "A", "G", "D"]', "needs the gradients"),
           Wrong("loss first", 'order = ["E", "C", "G", "A", "D"]', "last thing"),
           Wrong("nothing dropped", 'order = ["C", "E", "G", "A"]', "you gave 4"),
           Wrong("dropped before all", 'order = ["D", "C", "E", "G", "A"]', "only after Adam"),
           Wrong("nothing", "order = None", r'as a list: \["A", "B", \.\.\.\]'),
           Wrong("as words", 'order = ["forward", "loss", "backward"]', "letters")),
)  # fmt: skip


# 3. FLOPs


def flops_with(count="m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear)",
               table='{"full": 6, "LoRA": 4, "head": 2}', end="* n * tokens"):  # fmt: skip
    return (f"def linear_numbers(model):\n    return sum({count})\n\n\ndef step_flops(n, tokens, kind):\n"
            f"    return {table}[kind] {end}")  # fmt: skip


FLOPS = Exercise(
    name="cost.flops", defines="linear_numbers, step_flops", title="The FLOPs of a step", tier="core", difficulty=2,
    minutes=8, points=4, unlocks="an estimate for any model, and the limit that no adapter gets under", needs=("nn",),
    reference=flops_with(),
    properties=(Property("counts the matrices of the linear layers", matrices, core=True),
                Property("full: forward, and two gradients", six_for_full, core=True),
                Property("LoRA: forward, and one gradient", four_for_lora, core=True),
                Property("head: forward", two_for_head, core=True)),
    hints=("A frozen weight needs no gradient of its own. Does its input need one?",
           "2 n T forward; 2 n T for the gradients of inputs; 2 n T for the gradients of weights",
           'return {"full": 2 + 2 + 2, "LoRA": ..., "head": ...}[kind] * n * tokens'),
    remark="A frozen weight saves one product of three. That is the whole saving, whatever the adapter.",
    wrong=(Wrong("all parameters", flops_with("p.numel() for p in model.parameters()"), "look-up"),
           Wrong("backward stops at the adapters", flops_with(table='{"full": 6, "LoRA": 2, "head": 2}'),
                 "through the frozen", museum="frozen layers under no_grad"),
           Wrong("LoRA saves nothing", flops_with(table='{"full": 6, "LoRA": 6, "head": 2}'), "gradient of its own"),
           Wrong("forward only", flops_with(table='{"full": 2, "LoRA": 2, "head": 2}'), "way back"),
           Wrong("a multiply-add is one", flops_with(table='{"full": 3, "LoRA": 2, "head": 1}'), "counts as two"),
           Wrong("backward like forward", flops_with(table='{"full": 4, "LoRA": 4, "head": 2}'), "two products"),
           Wrong("the body goes back too", flops_with(table='{"full": 6, "LoRA": 4, "head": 4}'), "nothing below"),
           Wrong("biases too", flops_with("p.numel() for m in model.modules() if isinstance(m, nn.Linear)"
                                          " for p in m.parameters()"), "bias"),
           Wrong("only what trains", flops_with("m.weight.numel() for m in model.modules()"
                                                " if isinstance(m, nn.Linear) and m.weight.requires_grad"),
                 "frozen layer multiplies"),
           Wrong("norms too", flops_with('m.weight.numel() for m in model.modules() if hasattr(m, "weight")'),
                 "look-up"),
           Wrong("children only", flops_with("m.weight.numel() for m in model.children() if isinstance(m, nn.Linear)"),
                 "inside another"),
           Wrong("every matrix", flops_with("p.numel() for p in model.parameters() if p.ndim == 2"),
                 "embedding is a matrix too"),
           Wrong("tokens forgotten", flops_with(end="* n"), "token"),
           Wrong("layers, not numbers", flops_with("1 for m in model.modules() if isinstance(m, nn.Linear)"),
                 "numbers, not the layers")),
)  # fmt: skip


# 4. What is kept for the way back

SAVED_LINES = {
    "there": "there = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}",
    "keep": "storage = tensor.untyped_storage()\nif storage.data_ptr() not in there:\n"
            "    found[storage.data_ptr()] = storage.nbytes()",
    "run": "loss = model(**batch).loss",
    "end": "return sum(found.values())",
}  # fmt: skip


def saved_with(before="", **lines):
    part = {key: value.replace("\n", "\n        ") for key, value in {**SAVED_LINES, **lines}.items()}
    return (f"def saved_bytes(model, batch):\n    {before}{part['there']}\n    found = {{}}\n\n"
            f"    def keep(tensor):\n        {part['keep']}\n        return tensor.detach()\n\n"
            "    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):\n"
            f"        {part['run']}\n    {part['end']}")  # fmt: skip


EACH = "if tensor.untyped_storage().data_ptr() not in there:\n    found[{}] = tensor.nbytes"
SAVED = Exercise(
    name="cost.saved", defines="saved_bytes", title="What is kept for the way back", tier="core", difficulty=4,
    minutes=12, points=5, unlocks="the fourth part of the bill, and the trap of this lesson", needs=("torch",),
    reference=saved_with(),
    properties=(Property("counts all that is kept", counts_all_kept, core=True),
                Property("each storage once, and whole", once_and_whole, core=True),
                Property("leaves out weights and buffers", without_residents, core=True),
                Property("leaves the model as it was", leaves_the_model, core=True)),
    hints=("Query, key and value all keep the same input. Is it three times in memory?",
           "Σ bytes of the distinct storages that were saved and are no parameter's and no buffer's",
           "in keep: storage = tensor.untyped_storage(); found[storage.data_ptr()] = ..."),
    remark="A view keeps its whole storage alive, so the storage is what counts, by its address.",
    wrong=(Wrong("each tensor", saved_with(keep=EACH.format("len(found)")), "more than once"),
           Wrong("views by their own size", saved_with(keep=EACH.format("tensor.data_ptr()")), "view"),
           Wrong("parameters too", saved_with(there="there = {t.untyped_storage().data_ptr() for t in "
                                                    "model.buffers()}"), "parameters"),
           Wrong("buffers too", saved_with(there="there = {t.untyped_storage().data_ptr() for t in "
                                                 "model.parameters()}"), "buffers"),
           Wrong("only what trains left out", saved_with(there="there = {t.untyped_storage().data_ptr() for t in "
                                                         "[*(p for p in model.parameters() if p.requires_grad), "
                                                         "*model.buffers()]}"),
                 "frozen weight is kept too"),
           Wrong("all tensors", saved_with(there="there = ()", keep=EACH.format("len(found)")), "in memory anyway"),
           Wrong("all storages", saved_with(there="there = ()"), "in memory anyway"),
           Wrong("all by their own address", saved_with(there="there = ()", keep=EACH.format("tensor.data_ptr()")),
                 "in memory anyway"),
           Wrong("parameters by their class", saved_with(keep="storage = tensor.untyped_storage()\nif not isinstance("
                                                         "tensor, torch.nn.Parameter):\n    "
                                                         "found[storage.data_ptr()] = storage.nbytes()"),
                 "kept as a view"),
           Wrong("without the batch", saved_with(there="there = {t.untyped_storage().data_ptr() for t in [*model."
                                                 "parameters(), *model.buffers(), *batch.values()]}"),
                 "of the batch"),
           Wrong("without gradients", saved_with(run="with torch.no_grad():\n    loss = model(**batch).loss"),
                 "no_grad"),
           Wrong("numbers, not bytes", saved_with(keep="storage = tensor.untyped_storage()\nif storage.data_ptr() not "
                                                  "in there:\n    found[storage.data_ptr()] = storage.nbytes() // 4"),
                 "numbers, not bytes"),
           Wrong("in eval mode", saved_with("model.eval()\n    "), "eval mode"),
           Wrong("the whole step", saved_with(run="loss = model(**batch).loss\nloss.backward()"), "gradients behind"),
           Wrong("outputs of the layers", "def saved_bytes(model, batch):\n    found = []\n    hooks = [m."
                 "register_forward_hook(lambda m, i, o: found.append(getattr(o, 'nbytes', 0)))\n"
                 "             for m in model.modules()]\n    model(**batch)\n    for hook in hooks:\n"
                 "        hook.remove()\n    return sum(found)", "outputs of the modules"),
           Wrong("by identity", saved_with(there="there = {id(t) for t in [*model.parameters(), *model.buffers()]}",
                                           keep="if id(tensor) not in there:\n    found[len(found)] = tensor.nbytes"),
                 "more than once|identity"),
           Wrong("in MiB", saved_with(end="return sum(found.values()) / 2**20"), "MiB"),
           Wrong("nothing asked", "def saved_bytes(model, batch):\n    return sum(p.nbytes for p in "
                 "model.parameters())", "no hook saw")),
)  # fmt: skip


# 5. A base in two bytes


def half_with(weights="2 * base + 4 * adapter", gradients="4 * adapter", optimizer="8 * adapter", end=None):
    return f"def lora_bytes(base, adapter):\n    return {end or f'{weights}, {gradients}, {optimizer}'}"


HALF = Exercise(
    name="cost.half", defines="lora_bytes", title="A base in two bytes", tier="full", difficulty=2, minutes=4, points=2,
    unlocks="the usual recipe for large models, and lesson 06, where the base shrinks again", reference=half_with(),
    properties=(Property("holds both, each in its format", weights_of_both, core=True),
                Property("has a gradient for the adapters", gradients_of_adapters, core=True),
                Property("has two moments for the adapters", moments_of_adapters, core=True)),
    hints=("Two bytes a number for what is only read. What does a number need that is trained in float32?",
           "weights 2 N + 4 A, gradients 4 A, Adam 8 A",
           "return 2 * base + ..., ..., ..."),
    remark="2 N + 16 A. With A at one per cent of N that is 2.16 bytes a number, against 16 in full in float32.",
    wrong=(Wrong("base in four bytes", half_with("4 * base + 4 * adapter"), "bfloat16 takes two"),
           Wrong("adapters in two bytes", half_with("2 * base + 2 * adapter"), "adapters are float32"),
           Wrong("all of the adapters in two", half_with("2 * (base + adapter)", "2 * adapter", "4 * adapter"),
                 "adapters are float32"),
           Wrong("base has gradients", half_with(gradients="2 * base + 4 * adapter"), "base is frozen"),
           Wrong("base has moments", half_with(optimizer="8 * (base + adapter)"), "base is frozen"),
           Wrong("adapters forgotten", half_with("2 * base"), "adapters are weights too"),
           Wrong("adapters inside the base", half_with("2 * (base - adapter) + 4 * adapter"), "come on top"),
           Wrong("one moment", half_with(optimizer="4 * adapter"), "two numbers for each"),
           Wrong("one sum", half_with(end="2 * base + 16 * adapter"), "three numbers")),
)  # fmt: skip


# 6. The disk

DISK = Exercise(
    name="cost.disk", defines="disk", title="One copy per task", tier="full", difficulty=1, minutes=3, points=2,
    unlocks="the part of the bill that grows with every customer",
    reference="def disk(tasks, base, adapter):\n    return tasks * base, base + tasks * adapter",
    properties=(Property("in full: one model for each task", one_per_task, core=True),
                Property("adapted: one base, and a file for each task", disk_total, core=True)),
    hints=("What has changed between the model of task 1 and that of task 2?",
           "in full n · base; adapted base + n · adapter", "return tasks * ..., base + ..."),
    remark="With one task the adapter is extra. From the second on it pays.",
    wrong=(Wrong("the base forgotten", "def disk(tasks, base, adapter):\n    return tasks * base, tasks * adapter",
                 "is no use without its base"),
           Wrong("a base for each adapter", "def disk(tasks, base, adapter):\n"
                 "    return tasks * base, tasks * (base + adapter)", "shared"),
           Wrong("one model for all", "def disk(tasks, base, adapter):\n    return base, base + tasks * adapter",
                 "every number has changed"),
           Wrong("the original kept as well", "def disk(tasks, base, adapter):\n"
                 "    return (tasks + 1) * base, base + tasks * adapter", "original"),
           Wrong("one adapter for all", "def disk(tasks, base, adapter):\n    return tasks * base, base + adapter",
                 "one file for each"),
           Wrong("bytes of bytes", "def disk(tasks, base, adapter):\n"
                 "    return 4 * tasks * base, 4 * (base + tasks * adapter)", "bytes already"),
           Wrong("swapped", "def disk(tasks, base, adapter):\n    return base + tasks * adapter, tasks * base",
                 "other way round"),
           Wrong("what is saved", "def disk(tasks, base, adapter):\n    return tasks * base - base - tasks * adapter",
                 "two numbers")),
)  # fmt: skip


# 7. Forgetting


def forgetting_with(models="(before.eval(), after.eval())", tokens='(batch["labels"][:, 1:] != -100).sum().item()',
                    add="told * model(**batch).loss.item()", end="losses[1] - losses[0]", guard="torch.no_grad()",
                    mean="total / tokens"):  # fmt: skip
    return (f"def forgetting(before, after, texts):\n    losses = []\n    for model in {models}:\n"
            "        total = tokens = 0\n        for batch in texts:\n"
            f"            told = {tokens}\n            with {guard}:\n                total += {add}\n"
            f"            tokens += told\n        losses.append({mean})\n    return {end}")  # fmt: skip


FORGETTING = Exercise(
    name="cost.forgetting", defines="forgetting", title="What was forgotten", tier="full", difficulty=3, minutes=8,
    points=4, unlocks="the price that no memory calculator shows", needs=("torch",), reference=forgetting_with(),
    properties=(Property("is the rise of the loss", is_the_rise, core=True),
                Property("every predicted token counts once", targets_only, core=True),
                Property("with dropout off", no_dropout, core=True),
                Property("is a plain number that keeps no graph", is_a_number, core=True)),
    hints=("A batch with three predicted tokens and one with three hundred: should they count alike?",
           "(Σ tokens · loss / Σ tokens) of after, minus that of before; tokens: labels but the first, unless -100",
           'told = (batch["labels"][:, 1:] != -100).sum().item(); total += told * model(**batch).loss.item()'),
    remark="The loss of a batch is a mean. To join means, give each the weight of what it is a mean of.",
    wrong=(Wrong("mean of the batches", forgetting_with(tokens="1"), "batches count alike"),
           Wrong("the first token too", forgetting_with(tokens='(batch["labels"] != -100).sum().item()'),
                 "first label"),
           Wrong("masked ones too", forgetting_with(tokens='batch["labels"][:, 1:].numel()'), "-100"),
           Wrong("the other way round", forgetting_with(end="losses[0] - losses[1]"), "sign"),
           Wrong("as a ratio", forgetting_with(end="losses[1] / losses[0]"), "difference"),
           Wrong("only afterwards", forgetting_with(end="losses[1]"), "loss before"),
           Wrong("sums", forgetting_with(mean="total"), "divide"),
           Wrong("means added up", forgetting_with(tokens="1", mean="total"), "added up"),
           Wrong("one off for each text", forgetting_with(tokens='((batch["labels"] != -100).sum() - '
                                                          'len(batch["labels"])).item()'), "may be -100 itself"),
           Wrong("all that the model reads", forgetting_with(tokens='batch["attention_mask"].sum().item()'),
                 "first label"),
           Wrong("dropout on", forgetting_with(models="(before.train(), after.train())"), "dropout"),
           Wrong("mode as it came", forgetting_with(models="(before, after)"), "dropout"),
           Wrong("graph kept", forgetting_with(add="told * model(**batch).loss", guard="torch.enable_grad()"),
                 "graph"),
           Wrong("the same model", forgetting_with(models="(after.eval(), after.eval())"), "one model twice"),
           Wrong("perplexity", forgetting_with(end="2.718281828459045**losses[1] - 2.718281828459045**losses[0]"),
                 "perplexit")),
)  # fmt: skip


# 8. The longest text that fits


def longest_with(cost="static + batch * (a * (length + 1) + b * (length + 1) ** 2)", end="length", rule="<="):
    return ("def longest_length(static, batch, a, b, budget):\n    length = 0\n"
            f"    while {cost} {rule} budget:\n        length += 1\n    return {end}")  # fmt: skip


ROOT = ("def longest_length(static, batch, a, b, budget):\n    room = (budget - static) / batch\n"
        "    return int((-a + (a * a + 4 * b * room) ** 0.5) / (2 * b))")  # fmt: skip
GUARDED = ("def longest_length(static, batch, a, b, budget):\n    room = (budget - static) / batch\n"
           "    root = room / a if b == 0 else (-a + max(0, a * a + 4 * b * room) ** 0.5) / (2 * b)\n"
           "    return {}(root)")  # fmt: skip
LONGEST = Exercise(
    name="cost.longest", defines="longest_length", title="The longest text that fits", tier="stretch", difficulty=3,
    minutes=8, points=3, unlocks="an answer to the question that comes before every run", reference=longest_with(),
    properties=(Property("fits, and one more token does not", fits, core=True),
                Property("works without the square", without_scores, core=True),
                Property("is 0 where nothing fits", no_length, core=True)),
    hints=("Your formula gives bytes for a length. How do you find the length for given bytes?",
           "the largest whole L ≥ 0 with static + batch · (a L + b L²) ≤ budget",
           "length = 0; while (bytes at length + 1) <= budget: length += 1"),
    remark="Counting up is slow and never wrong. The formula with the root is fast, and divides by b, which may be 0.",
    wrong=(Wrong("no square", longest_with("static + batch * a * (length + 1)"), "square"),
           Wrong("nothing static", longest_with("batch * (a * (length + 1) + b * (length + 1) ** 2)"), "static"),
           Wrong("one text", longest_with("static + a * (length + 1) + b * (length + 1) ** 2"), "whole batch"),
           Wrong("one too many", longest_with(end="length + 1"), "one token too long"),
           Wrong("one too few", longest_with(rule="<", end="max(0, length - 1)"), "would fit"),
           Wrong("the root", ROOT, "square term is 0|ZeroDivision|division"),
           Wrong("less than nothing", GUARDED.format("int"), "0 is the least"),
           Wrong("rounded", GUARDED.format("0 if room < 0 else round"), "round down"),
           Wrong("static for each text", longest_with("batch * (static + a * (length + 1) + b * (length + 1) ** 2)"),
                 "once, not once for each text"),
           Wrong("in proportion", "def longest_length(static, batch, a, b, budget):\n"
                 "    return max(0, int((budget - static) / (batch * (a + b))))", "square"),
           Wrong("not whole", longest_with(end="length + 0.5"), "whole number"),
           Wrong("at least one", longest_with(end="max(1, length)"), "not even one")),
)  # fmt: skip

LESSON = Lesson(id="01", slug="costs", title="What full fine-tuning costs", requires=("00",), minutes=85,
                exercises=(STATIC, ORDER, FLOPS, SAVED, HALF, DISK, FORGETTING, LONGEST))  # fmt: skip
