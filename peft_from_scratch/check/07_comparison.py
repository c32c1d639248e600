"""Lesson 07, the great comparison: an interval over seeds and items, a verdict, a grid of rates, the order of a
comparison, the Pareto front, forgetting at an equal score, the five promises, many comparisons at once."""

import math
from collections.abc import Callable

import torch

from .comparison_intervals import draws_items, draws_seeds, gives_the_difference
from .comparison_promises import BOUNDS, number_of, verdicts_follow
from .exercise import Exercise, Lesson, Property, Wrong
from .tools import expect, expect_before, expect_number, letters

# 1. An interval over seeds and items


def bootstrap_with(difference="correct_a.double() - correct_b.double()", s="torch.randint(seeds, (seeds,))",
                   t="torch.randint(items, (items,))", mean="difference[s][:, t].mean()", levels="0.025, 0.975",
                   give="difference.mean().item(), low.item(), high.item()"):  # fmt: skip
    return (
        "def bootstrap(correct_a, correct_b, draws=1000):\n"
        f"    difference = {difference}\n"
        "    seeds, items = difference.shape\n"
        "    means = torch.empty(draws).double()\n"
        "    for i in range(draws):\n"
        f"        s = {s}\n"
        f"        t = {t}\n"
        f"        means[i] = {mean}\n"
        f"    low, high = means.quantile(torch.tensor([{levels}]).double())\n"
        f"    return {give}"
    )


APART = (
    "def bootstrap(correct_a, correct_b, draws=1000):\n"
    "    a, b = correct_a.double(), correct_b.double()\n"
    "    seeds, items = a.shape\n"
    "    means = torch.empty(draws).double()\n"
    "    for i in range(draws):\n"
    "        s, t = torch.randint(seeds, (2, seeds)), torch.randint(items, (2, items))\n"
    "        means[i] = a[s[0]][:, t[0]].mean() - b[s[1]][:, t[1]].mean()\n"
    "    low, high = means.quantile(torch.tensor([0.025, 0.975]).double())\n"
    "    return (a - b).mean().item(), low.item(), high.item()"
)

BOOTSTRAP = Exercise(
    name="compare.bootstrap", defines="bootstrap", title="Resample seeds and items", tier="core", difficulty=3,
    minutes=10, points=5, unlocks="every interval of this lesson", needs=("torch",), reference=bootstrap_with(),
    properties=(Property("gives the mean of a - b, and low and high around it", gives_the_difference, core=True),
                Property("draws the items, the same for a, b and all seeds", draws_items, core=True),
                Property("draws the seeds as well", draws_seeds, core=True)),
    hints=("Two things were drawn by luck before anything was measured. Which lines of the loop draw them again?",
           "s: so many seeds as there are, with replacement; t: so many items; then the mean of difference[s][:, t]",
           "s = torch.randint(seeds, (seeds,)); t = torch.randint(...); return difference.mean().item(), ..."),
    remark="The difference is taken first, item by item: so each draw keeps the pairs together by itself.",
    wrong=(Wrong("seeds only", bootstrap_with(t="torch.arange(items)"), "seeds alone"),
           Wrong("unpaired", APART, "resampled apart"),
           Wrong("items only", bootstrap_with(s="torch.arange(seeds)"), "items alone"),
           Wrong("other items for each seed", bootstrap_with(
               s="torch.randint(seeds, (seeds, items))", t="torch.randint(items, (seeds, items))",
               mean="difference[s, t].mean()"), "by itself"),
           Wrong("b - a", bootstrap_with("correct_b.double() - correct_a.double()"), "b - a"),
           Wrong("without replacement", bootstrap_with(s="torch.randperm(seeds)", t="torch.randperm(items)"),
                 "with replacement"),
           Wrong("90 %", bootstrap_with(levels="0.05, 0.95"), "90 %"),
           Wrong("standard error", bootstrap_with(
               give="means.mean().item(), (means.mean() - means.std()).item(), (means.mean() + means.std()).item()"),
               "one standard error"),
           Wrong("the first method alone", bootstrap_with("correct_a.double()"), "first method"),
           Wrong("all that was drawn", bootstrap_with(levels="0, 1"), "times as wide|resampled apart"),
           Wrong("few items", bootstrap_with(t="torch.randint(items, (items // 16,))"), "times as wide"),
           Wrong("half the items", bootstrap_with(t="torch.randint(items, (items // 2,))"), "times as wide"),
           Wrong("one seed", bootstrap_with(s="torch.randint(seeds, (1,))"), "one seed at a time"),
           Wrong("always five seeds", bootstrap_with(s="torch.randint(5, (5,))"), "times as wide"),
           Wrong("never the last", bootstrap_with(
               s="torch.randint(0, seeds - 1, (seeds,))", t="torch.randint(0, items - 1, (items,))"), "never drawn"),
           Wrong("permuted, mean of the draws", bootstrap_with(
               s="torch.randperm(seeds)", t="torch.randperm(items)",
               give="means.mean().item(), low.item(), high.item()"), "with replacement"),
           Wrong("a mean for each seed", bootstrap_with(give="difference.mean(1), low, high"), "one number each"),
           Wrong("two numbers", bootstrap_with(give="low.item(), high.item()"), "three numbers")),
)  # fmt: skip


# 2. A verdict


CASES = [(-0.004, 0.006, 0.01), (0.012, 0.03, 0.01), (-0.03, -0.012, 0.01), (-0.02, 0.004, 0.01),
         (0.002, 0.008, 0.01), (0.004, 0.03, 0.01), (-0.009, -0.001, 0.01), (-0.02, 0.03, 0.01), (-0.008, 0.004, 0.005),
         (-0.03, -0.004, 0.01)]  # fmt: skip


def verdict_of(low: float, high: float, margin: float) -> str:
    if -margin < low and high < margin:
        return "yes"
    return "no" if low > margin or high < -margin else "not decided"


SLIPS: dict[str, Callable] = {
    'an interval that holds 0 does not make two methods equal: a wide one holds 0 too. p > .05 is "not decided".':
        lambda low, high, m: "yes" if low < 0 < high else "no",
    "the middle of the interval alone decides nothing: ask where its ends are.":
        lambda low, high, m: "yes" if abs(low + high) / 2 < m else "no",
    'what is not "yes" is not yet "no": an interval that reaches across the margin decides nothing.':
        lambda low, high, m: "yes" if -m < low and high < m else "no",
    'a difference can be real and still smaller than the margin: (0.002, 0.008) within 0.01 is a "yes".':
        lambda low, high, m: "no" if low > 0 or high < 0 else "yes" if -m < low and high < m else "not decided",
    "both sides count: a method that is worse by more than the margin is not equivalent either.":
        lambda low, high, m: "yes" if high < m else "no" if low > m else "not decided",
    '"no" is for an interval that lies beyond the margin as a whole, on one side.':
        lambda low, high, m: "yes" if -m < low and high < m else "no" if low > 0 or high < 0 else "not decided",
}  # fmt: skip


def says_one_of_three(equivalent, rng):
    for case in CASES:
        got = equivalent(*case)
        expect(got in ("yes", "no", "not decided"), f'{got!r} came back; the three answers are "yes", "no" and '
               '"not decided".')  # fmt: skip


def decides(equivalent, rng):
    got = [equivalent(*case) for case in CASES]
    said = next((advice for advice, slip in SLIPS.items() if got == [slip(*case) for case in CASES]), None)
    for case, answer in zip(CASES, got, strict=True):
        want = verdict_of(*case)
        expect(answer == want, said or f"equivalent{case} is {want!r}, not {answer!r}.")


def equivalent_with(body):
    return "def equivalent(low, high, margin):\n    " + body.replace("\n", "\n    ")


EQUIVALENT = Exercise(
    name="compare.equivalent", defines="equivalent", title="Three answers", tier="core", difficulty=2, minutes=4,
    points=2, unlocks="every verdict below",
    reference=equivalent_with('if -margin < low and high < margin:\n    return "yes"\n'
                              'return "no" if low > margin or high < -margin else "not decided"'),
    properties=(Property("says yes, no or not decided", says_one_of_three, core=True),
                Property("by where the whole interval lies", decides, core=True)),
    hints=("Draw the band from -margin to +margin. In how many ways can an interval lie to it?",
           "inside the band: yes; wholly outside, on one side: no; across one of its edges: not decided",
           'if -margin < low and ...: return "yes"; if low > margin or ...: return "no"; return ...'),
    remark='"Not decided" is an answer: it says what the next experiment must be, more items or more seeds.',
    wrong=(Wrong("p above .05, so equal", equivalent_with('return "yes" if low < 0 < high else "no"'), "p > .05"),
           Wrong("the middle", equivalent_with('return "yes" if abs(low + high) / 2 < margin else "no"'), "middle"),
           Wrong("never undecided", equivalent_with(
               'return "yes" if -margin < low and high < margin else "no"'), "not yet"),
           Wrong("significant, so different", equivalent_with(
               'if low > 0 or high < 0:\n    return "no"\n'
               'return "yes" if -margin < low and high < margin else "not decided"'), "smaller than the margin"),
           Wrong("one side", equivalent_with(
               'if high < margin:\n    return "yes"\nreturn "no" if low > margin else "not decided"'), "both sides"),
           Wrong("no at significance", equivalent_with(
               'if -margin < low and high < margin:\n    return "yes"\n'
               'return "no" if low > 0 or high < 0 else "not decided"'), "as a whole"),
           Wrong("a bool", equivalent_with("return -margin < low and high < margin"), "three answers"),
           Wrong("wide is no", equivalent_with(
               'if high - low > 2 * margin:\n    return "no"\n'
               'return "yes" if -margin < low and high < margin else "not decided"'), "is 'no|is 'not")),
)  # fmt: skip


# 3. A grid of rates, and whether its best is inside


RANGES = ((1e-4, 1e-2), (3e-4, 3e-2), (1e-3, 1e-1), (1e-5, 1e-4))


def halves(lo, hi):
    return round(2 * math.log10(hi / lo))


GRID_SLIPS = {
    "these steps are equal on a ruler; rates are equal steps on a log scale: multiply, do not add.":
        lambda lo, hi: [lo + (hi - lo) * k / halves(lo, hi) for k in range(halves(lo, hi) + 1)],
    "these are whole decades. The best rate often lies between two of them: take half a decade a step.":
        lambda lo, hi: [lo * 10**k for k in range(round(math.log10(hi / lo)) + 1)],
    "the last rate is missing: `hi` belongs to the grid.":
        lambda lo, hi: [lo * 10 ** (k / 2) for k in range(halves(lo, hi))],
    "the first rate is missing: `lo` belongs to the grid.":
        lambda lo, hi: [lo * 10 ** (k / 2) for k in range(1, halves(lo, hi) + 1)],
    "each rate is twice the one before. Half a decade is a factor of √10, about 3.2.":
        lambda lo, hi: [lo * 2**k for k in range(math.floor(math.log2(hi / lo)) + 1)],
    "a factor of exactly 3 drifts away from the decades: √10 twice is 10.":
        lambda lo, hi: [lo * 3**k for k in range(halves(lo, hi) + 1)],
    "half a decade in powers of e is something else: the decade is 10.":
        lambda lo, hi: [lo * math.exp(k / 2) for k in range(math.floor(2 * math.log(hi / lo)) + 1)],
}  # fmt: skip


def same_rates(got: list[float], want: list[float]) -> bool:
    """1, 3, 10 counts as half decades too; 1, 3, 9 does not."""
    return len(got) == len(want) and all(abs(g / w - 1) < 0.06 for g, w in zip(sorted(got), want, strict=True))


def rates_of(grid, lo, hi):
    got = grid(lo, hi)
    try:
        return [float(each) for each in got]
    except (TypeError, ValueError):
        raise AssertionError(f"{got!r} came back; a list of rates is wanted (is a `return` missing?).") from None


def has_half_decades(answer, rng):
    found = [rates_of(answer[0], *ends) for ends in RANGES]
    slips = (advice for advice, slip in GRID_SLIPS.items()
             if all(len(g) == len(w := slip(*e)) and all(math.isclose(a, b, rel_tol=1e-3) for a, b in
                    zip(sorted(g), w, strict=True)) for g, e in zip(found, RANGES, strict=True)))  # fmt: skip
    said = next(slips, "wanted are lo, lo √10, lo 10, ... up to hi.")
    for got, (lo, hi) in zip(found, RANGES, strict=True):
        steps = round(2 * math.log10(hi / lo))
        expect(same_rates(got, [lo * 10 ** (k / 2) for k in range(steps + 1)]), f"grid({lo:g}, {hi:g}): {said}")


def knows_the_edges(answer, rng):
    _, interior = answer
    rates = [1e-3, 3.16e-3, 1e-2, 3.16e-4]  # in the order in which they were tried
    edges = {3.16e-4: interior(3.16e-4, rates), 1e-2: interior(1e-2, rates)}
    expect(not all(edges.values()), "the edge of the grid counts as inside here. At the edge the search has not ended: "
           "the best may lie beyond.")  # fmt: skip
    expect(not edges[1e-2], "the highest rate is an edge too: a still higher one may be better.")
    expect(not edges[3.16e-4], "the lowest rate is an edge, wherever in the list it stands: a sweep that goes on "
           "downwards tries it last.")  # fmt: skip
    for best in (1e-3, 3.16e-3):
        expect(interior(best, rates), f"{best:g} has a neighbour on each side, so it is interior; the list need not be "
               "sorted.")  # fmt: skip
    expect(not interior(1e-3, [1e-3]), "a grid of one rate has no inside.")


def grid_with(rates="[lo * 10 ** (k / 2) for k in range(steps + 1)]", inside="min(grid) < best < max(grid)"):
    return (f"def grid(lo, hi):\n    steps = round(2 * math.log10(hi / lo))\n    return {rates}\n\n\n"
            f"def interior(best, grid):\n    return {inside}")  # fmt: skip


GRID = Exercise(
    name="compare.grid", defines="grid, interior", title="A grid of rates", tier="core", difficulty=1, minutes=4,
    points=2, unlocks="the search that is run next", needs=("math",), reference=grid_with(),
    properties=(Property("has both ends and two rates to a decade", has_half_decades, core=True),
                Property("knows when the best is at an edge", knows_the_edges, core=True)),
    hints=("By what factor do you multiply twice to get 10?",
           "grid: lo · 10^(k/2) for k = 0 ... 2 log10(hi / lo); interior: neither the smallest rate nor the largest",
           "steps = round(2 * math.log10(hi / lo)); [lo * 10 ** (...) for k in range(...)]; min(grid) < ..."),
    remark="√10 and not 3: a method whose search goes on for two decades meets the same rates as all others.",
    wrong=(Wrong("the edge counts as inside", grid_with(inside="min(grid) <= best <= max(grid)"),
                 "counts as inside", museum="the rate at the edge of the grid"),
           Wrong("only the lower edge", grid_with(inside="best > min(grid)"), "highest rate is an edge"),
           Wrong("only the upper edge", grid_with(inside="best < max(grid)"), "lowest rate is an edge"),
           Wrong("first and last of the list", grid_with(inside="best not in (grid[0], grid[-1])"),
                 "highest rate is an edge|sorted"),
           Wrong("on a ruler", grid_with("[lo + (hi - lo) * k / steps for k in range(steps + 1)]"), "ruler"),
           Wrong("whole decades", grid_with("[lo * 10 ** k for k in range(steps // 2 + 1)]"), "whole decades"),
           Wrong("without the end", grid_with("[lo * 10 ** (k / 2) for k in range(steps)]"), "last rate is missing"),
           Wrong("rounded down", grid_with("[lo * 10 ** (k / 2) for k in range(1 + int("
                 "2 * (math.log10(hi) - math.log10(lo))))]"), "up to hi"),
           Wrong("doubling", grid_with("[lo * 2 ** k for k in range(int(math.log2(hi / lo)) + 1)]"), "twice"),
           Wrong("a factor of 3", grid_with("[lo * 3 ** k for k in range(steps + 1)]"), "drifts"),
           Wrong("in the list is enough", grid_with(inside="best in grid"), "counts as inside",
                 museum="the rate at the edge of the grid")),
)  # fmt: skip


# 4. The order of a comparison


STRANGERS = {
    "B": "B gives all methods one rate: then the table ranks how near each method's own rate is to it.",
    "E": "E chooses by the test set, once a run. What was chosen by a score is no longer judged by it.",
    "G": "G sets the margin after looking: there is always one that fits.",
    "I": "I leaves out what went badly: the rest is then no sample of what the method does.",
}


def five_of_nine(order, rng):
    found = letters(order, '"C", "A"', last="I")
    for letter, advice in STRANGERS.items():
        expect(letter not in found, advice)
    expect(len(set(found)) == len(found), "a letter comes twice.")
    expect(len(found) == 5, f"five steps are wanted; you gave {len(found)}.")


def in_order(order, rng):
    found = letters(order, '"C", "A"', last="I")
    expect_before(found, (
        ("F", "C", "the margin and the budget (F) come before anything is run: later they could be chosen to fit."),
        ("C", "H", "the seeds (H) run at the rate that the search (C) has found."),
        ("H", "A", "test (A) is scored on the runs of H, so after them."),
        ("A", "D", "D resamples what A has scored."),
        ("F", "D", "the verdict (D) needs the margin (F)."),
    ))  # fmt: skip


ORDER = Exercise(
    name="compare.order", defines="order", title="Order the comparison", tier="core", difficulty=1, minutes=3, points=2,
    unlocks="reading the great table with trust", kind="order", reference='order = ["F", "C", "H", "A", "D"]',
    properties=(Property("has the five steps, and only them", five_of_nine, core=True),
                Property("has them in order", in_order, core=True)),
    hints=("What could somebody still bend after seeing a result? That must come first.",
           "margin and budget, then rates on dev, then seeds, then test once, then the verdict",
           'order = ["F", "C", ...], five letters'),
    remark="Test is looked at once, at the end: every choice before it was made on dev, or before any run.",
    wrong=(Wrong("one rate for all", 'order = ["F", "B", "H", "A", "D"]', "one rate",
                 museum="full fine-tuning at LoRA's rate"),
           Wrong("best on test", 'order = ["F", "C", "H", "E", "D"]', "chooses by the test"),
           Wrong("margin afterwards", 'order = ["C", "H", "A", "G", "D"]', "after looking"),
           Wrong("margin last", 'order = ["C", "H", "A", "F", "D"]', "before anything is run"),
           Wrong("bad seeds out", 'order = ["F", "C", "H", "I", "A", "D"]', "went badly"),
           Wrong("seeds before rates", 'order = ["F", "H", "C", "A", "D"]', "search"),
           Wrong("test first", 'order = ["F", "C", "A", "H", "D"]', "after them"),
           Wrong("verdict before test", 'order = ["F", "C", "H", "D", "A"]', "resamples what"),
           Wrong("four steps", 'order = ["F", "C", "H", "A"]', "you gave 4")),
)  # fmt: skip


# 5. The Pareto front


def rows(*triples):
    return [{"name": name, "quality": quality, "cost": cost} for name, quality, cost in triples]


PLAIN = rows(("full", 80, 10), ("LoRA", 79, 4), ("slow", 78, 9), ("head", 63, 1), ("small", 70, 2), ("bad", 60, 3))
TIED = rows(("a", 80, 5), ("b", 80, 5), ("c", 70, 2), ("d", 60, 2), ("e", 80, 7))


def names_of(pareto, table):
    given = [dict(row) for row in table]
    got = pareto(given)
    expect(given == table, "it changes the rows it is given: sort a copy.")
    try:
        found = list(got)
    except TypeError:
        raise AssertionError(f"{got!r} came back; a list of names is wanted (is a `return` missing?).") from None
    expect(all(isinstance(each, str) for each in found), "return the names of the rows, as a list of strings.")
    expect(len(set(found)) == len(found), "a name comes twice.")
    return set(found)


def keeps_the_front(pareto, rng):
    found = names_of(pareto, PLAIN)
    expect(found, "nothing is left. Each row is at least as good as itself: a row is beaten only by one that is "
           "really better in something.")  # fmt: skip
    expect("bad" not in found, "`bad` costs more than `small` and is worse: quality is to go up, cost to go down.")
    expect("slow" not in found, "`slow` costs more than `LoRA` and is worse: it is beaten, though nothing is like it.")
    expect("head" in found, "`head` is the cheapest: nothing cheaper is as good, so it stays, however bad it is.")
    expect("full" in found, "`full` is the best: nothing as good is cheaper, so it stays, however dear it is.")
    expect(found == {"full", "LoRA", "small", "head"}, "`LoRA` and `small` stay: whoever is better costs more. It is "
           "not the best ratio of the two, nor the two ends alone.")  # fmt: skip


def keeps_ties(pareto, rng):
    found = names_of(pareto, TIED)
    expect({"a", "b"} & found, "`a` and `b` are equal, and each drops out for the other: both stay.")
    expect({"a", "b"} <= found, "`a` and `b` are equal in both: keep ties, since nothing tells them apart.")
    expect("d" not in found, "`d` costs what `c` costs and is worse: equal in one and worse in the other is beaten.")
    expect("e" not in found, "`e` is as good as `a` and costs more: equal in one and worse in the other is beaten.")
    expect(found == {"a", "b", "c"}, "`a`, `b` and `c` stay.")


def random_rows(pareto, rng):
    values = torch.randint(1, 8, (20, 2), generator=rng).tolist()
    table = rows(*((f"m{i}", q, c) for i, (q, c) in enumerate(values)))
    want = {r["name"] for r in table if not any(
        o["quality"] >= r["quality"] and o["cost"] <= r["cost"]
        and (o["quality"] > r["quality"] or o["cost"] < r["cost"]) for o in table)}  # fmt: skip
    found = names_of(pareto, table)
    expect(found == want, f"of 20 random rows {len(want)} are not beaten; you keep {len(found)}.")


def pareto_with(beats, tail="[row['name'] for row in rows if not any(beats(other, row) for other in rows)]"):
    return ("def pareto(rows):\n    def beats(a, b):\n"
            "        better, cheaper = a['quality'] >= b['quality'], a['cost'] <= b['cost']\n"
            "        same = (a['quality'], a['cost']) == (b['quality'], b['cost'])\n"
            f"        return {beats}\n\n    return {tail}")  # fmt: skip


PARETO = Exercise(
    name="compare.pareto", defines="pareto", title="Who is beaten by nobody", tier="core", difficulty=3, minutes=8,
    points=3, unlocks="the front of the great table, for three costs",
    reference=pareto_with("better and cheaper and not same"),
    properties=(Property("keeps who is beaten by nobody", keeps_the_front, core=True),
                Property("keeps ties, and drops who is equal in one and worse in the other", keeps_ties, core=True),
                Property("holds for random rows", random_rows, core=True)),
    hints=("When does a row beat another for everybody, whatever quality is worth to them?",
           "a beats b if a is at least as good and at most as dear, and not equal in both",
           "keep row if not any(other['quality'] >= ... and other['cost'] <= ... and ... for other in rows)"),
    remark="Nothing here says how much a point of accuracy is worth. That is for whoever pays to say.",
    wrong=(Wrong("better in both", pareto_with("a['quality'] > b['quality'] and a['cost'] < b['cost']"),
                 "equal in one"),
           Wrong("beaten by itself", pareto_with("better and cheaper"), "nothing is left"),
           Wrong("dear is good", pareto_with("better and a['cost'] >= b['cost'] and not same"),
                 "cost to go down|cheapest"),
           Wrong("best ratio", "def pareto(rows):\n    best = max(r['quality'] / r['cost'] for r in rows)\n"
                 "    return [r['name'] for r in rows if r['quality'] / r['cost'] == best]", "however dear"),
           Wrong("rows for names", pareto_with("better and cheaper and not same",
                 "[row for row in rows if not any(beats(other, row) for other in rows)]"), "the names of the rows"),
           Wrong("the two ends", "def pareto(rows):\n    best = max(rows, key=lambda r: r['quality'])\n"
                 "    cheap = min(rows, key=lambda r: r['cost'])\n    return [best['name'], cheap['name']]",
                 "two ends alone"),
           Wrong("one of a tie", "def pareto(rows):\n    kept, best = [], -1\n"
                 "    for r in sorted(rows, key=lambda r: (r['cost'], -r['quality'])):\n"
                 "        if r['quality'] > best:\n            kept, best = [*kept, r['name']], r['quality']\n"
                 "    return kept", "keep ties"),
           Wrong("the best alone", pareto_with("a['quality'] > b['quality']"), "cheapest"),
           Wrong("the beaten", pareto_with("better and cheaper and not same",
                 "[row['name'] for row in rows if any(beats(other, row) for other in rows)]"), "quality is to go up"),
           Wrong("better than the next cheaper alone",
                 "def pareto(rows):\n    line = sorted(rows, key=lambda r: (r['cost'], -r['quality']))\n"
                 "    return [line[0]['name']] + [b['name'] for a, b in zip(line, line[1:])\n"
                 "                                if b['quality'] >= a['quality']]", "`slow`|`bad`|`e`|random")),
)  # fmt: skip


# 6. Forgetting at an equal score


CURVE = [(3.40, 4.20), (3.31, 4.17), (3.20, 4.19), (3.16, 4.30), (3.12, 4.60)]  # from no training on


def between(score, curve):
    points = sorted(curve)
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x0 <= score <= x1:
            return y0 + (score - x0) / (x1 - x0) * (y1 - y0)
    return None


def nearest(score, curve):
    return min(curve, key=lambda p: abs(p[0] - score))[1]


def halfway(score, curve):
    points = sorted(curve)
    return next((y0 + y1) / 2 for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False) if x0 <= score <= x1)


FORGET_SLIPS = {
    "this is the loss at the nearest point: interpolate between the two neighbours.": nearest,
    "this is the middle of the two neighbours: weigh them by how near they are.": halfway,
    "this is what the best rate gave, whatever the score. At an equal score is the question.":
        lambda score, curve: min(curve)[1],
    "the axes are exchanged: the score is a loss on the task, the first of each pair.":
        lambda score, curve: score,
}  # fmt: skip


SCORES = [3.255, 3.18, 3.13, 3.38, 3.35]
ORDERS = (CURVE[::-1], CURVE, [CURVE[i] for i in (2, 0, 4, 1, 3)])


def interpolates(forgetting_at, rng):
    found = [[read_off(forgetting_at, score, curve) for score in SCORES] for curve in ORDERS]
    right = [all(is_close(g, between(s, CURVE)) for s, g in zip(SCORES, got, strict=True)) for got in found]
    expect(not any(right) or all(right), "right for one order of the points and wrong for another: sort them by the "
           "loss on the task first. (np.interp wants rising x, and says nothing where it gets falling x.)")  # fmt: skip
    for curve, got in zip(ORDERS, found, strict=True):
        expect(None not in got, "None came back for a score that the method has reached (is a `return` missing?).")
        for advice, slip in FORGET_SLIPS.items():
            expect(not all(is_close(g, slip(s, curve)) for s, g in zip(SCORES, got, strict=True)), advice)
        for score, value in zip(SCORES, got, strict=True):
            want = between(score, curve)
            expect_number(value, want, f"at the score {score} the line between the neighbours gives {want:.4f}, not "
                          f"{value:.4f}." if isinstance(value, float) else "a number is wanted.", rel=1e-6)  # fmt: skip
    for score, want in CURVE:
        got = read_off(forgetting_at, score, CURVE)
        expect(got is not None, f"None came back for {score}, a point of the curve: the points belong to it, both ends "
               "too.")  # fmt: skip
        expect_number(got, want, f"at {score}, a point of the curve, its own loss {want} is wanted.")


def read_off(forgetting_at, score, curve):
    given = list(curve)
    got = forgetting_at(score, given)
    expect(given == list(curve), "it changes the curve that it is given: sorted(curve) makes a new list.")
    return got


def is_close(got, want):
    return isinstance(got, (int, float)) and abs(got - want) < 1e-6


def stays_inside(forgetting_at, rng):
    for score in (3.05, 3.5):
        got = forgetting_at(score, list(CURVE))
        where = "better than the method ever was" if score < 3.1 else "worse than where it started"
        expect(got is None, f"the score {score} is {where}: nothing was measured there. Return None; do not "
               "go on beyond the ends.")  # fmt: skip


def forget_with(body):
    return "def forgetting_at(score, curve):\n    " + body.replace("\n", "\n    ")


WALK = ("points = sorted(curve)\nfor (x0, y0), (x1, y1) in zip(points, points[1:]):\n    if x0 <= score <= x1:\n"
        "        return {give}\nreturn None")  # fmt: skip
FORGETTING = Exercise(
    name="compare.forgetting", defines="forgetting_at", title="At an equal score", tier="full", difficulty=3, minutes=8,
    points=3, unlocks="the verdict on forgetting",
    reference=forget_with(WALK.format(give="y0 + (score - x0) / (x1 - x0) * (y1 - y0)")),
    properties=(Property("interpolates between the neighbours, in any order of the points", interpolates, core=True),
                Property("gives None where nothing was measured", stays_inside, core=True)),
    hints=("Between which two points of the sorted curve does the score lie, and how far along?",
           "y = y0 + (score - x0) / (x1 - x0) · (y1 - y0) with x0 ≤ score ≤ x1; outside, None",
           "points = sorted(curve); for (x0, y0), (x1, y1) in zip(points, points[1:]): if ...: return ..."),
    remark="None is the honest value: beyond the last point there is an opinion, and no measurement.",
    wrong=(Wrong("the best rate", forget_with("return min(curve)[1]"), "whatever the score"),
           Wrong("the nearest point", forget_with("return min(curve, key=lambda p: abs(p[0] - score))[1]"), "nearest"),
           Wrong("the middle", forget_with(WALK.format(give="(y0 + y1) / 2")), "middle"),
           Wrong("not sorted", forget_with(WALK.format(give="y0 + (score - x0) / (x1 - x0) * (y1 - y0)").replace(
               "sorted(curve)", "curve")), "one order"),
           Wrong("np.interp, not sorted", "import numpy as np\n\n\n" + forget_with(
               "x, y = zip(*curve)\nreturn float(np.interp(score, x, y)) if min(x) <= score <= max(x) else None"),
               "np.interp wants"),
           Wrong("without the points themselves", forget_with(WALK.replace("<= score <=", "< score <").format(
               give="y0 + (score - x0) / (x1 - x0) * (y1 - y0)")), "a point of the curve"),
           Wrong("sorted in place", forget_with("curve.sort()\n" + WALK.replace("sorted(curve)", "curve").format(
               give="y0 + (score - x0) / (x1 - x0) * (y1 - y0)")), "changes the curve"),
           Wrong("the wrong way along", forget_with(WALK.format(give="y1 + (score - x0) / (x1 - x0) * (y0 - y1)")),
                 "line between"),
           Wrong("the score itself", forget_with("return score"), "exchanged"),
           Wrong("held at the ends", forget_with(
               "points = sorted(curve)\nscore = min(max(score, points[0][0]), points[-1][0])\n"
               + WALK.format(give="y0 + (score - x0) / (x1 - x0) * (y1 - y0)").split("\n", 1)[1]), "beyond the ends"),
           Wrong("a straight line through all", forget_with(
               "x = torch.tensor([[p[0], 1.0] for p in curve]).double()\n"
               "y = torch.tensor([[p[1]] for p in curve]).double()\n"
               "a, b = torch.linalg.lstsq(x, y).solution.flatten().tolist()\nreturn a * score + b"), "line between")),
)  # fmt: skip


# 7. The five promises


NUMBERS = {
    "cuts training cost": 'costs["LoRA"]["flops"] / costs["full"]["flops"]',
    "preserves knowledge": "kept_knowledge[0]",
    "adapts with little data": "-100 * few[64][0]",
    "switches tasks fast": 'switch["median"]',
    "costs nothing at inference": 'latency["LoRA"]["unmerged"]["median"]',
}
SPANS = {
    "cuts training cost": "below(ratio, ratio, 0.5)",
    "preserves knowledge": "below(*kept_knowledge[1:], 0)",
    "adapts with little data": "below(-100 * few[64][2], -100 * few[64][1], 1)",
    "switches tasks fast": 'below(switch["low"], switch["high"], 0.1)',
    "costs nothing at inference": 'below(slow["low"], slow["high"], 1.02)',
}


def promises_with(numbers=None, verdicts=None):
    numbers, verdicts = NUMBERS | (numbers or {}), SPANS | (verdicts or {})
    lines = ['ratio, slow = costs["LoRA"]["flops"] / costs["full"]["flops"], latency["LoRA"]["unmerged"]']
    for name, values in (("numbers", numbers), ("verdicts", verdicts)):
        items = [f"{key!r}: {value}" for key, value in values.items()]
        lines += [f"{name} = {{", *(f"    {item}," for item in items), "}"]
    return "\n".join(lines)


PROMISES = Exercise(
    name="compare.promises", defines="numbers, verdicts", title="Five promises", tier="core", difficulty=2, minutes=10,
    points=5, unlocks="an honest recommendation", kind="value",
    needs=("costs", "kept_knowledge", "few", "switch", "latency", "below"), reference=promises_with(),
    properties=(*(Property(f"the number of “{promise}”", number_of(promise), core=True) for promise in BOUNDS),
                Property("each verdict follows from its interval", verdicts_follow, core=True)),
    hints=("Each promise is a number that should be below a bound. Which cell above has measured it?",
           "FLOPs of a step; loss on films at an equal loss on speeches; points lost on 64 reviews; seconds to switch "
           "over seconds to load; seconds unmerged over the plain model's",
           'numbers["cuts training cost"] = costs["LoRA"]["flops"] / ...; verdicts by below(low, high, bound)'),
    remark="None of the five is a matter of taste: each has a number, an interval and a bound that was set before.",
    wrong=(Wrong("the share that trains", promises_with(
               {"cuts training cost": 'costs["LoRA"]["numbers"] / costs["full"]["numbers"]'},
               {"cuts training cost": '"yes"'}), "share of the trained numbers"),
           Wrong("full minus LoRA", promises_with({"preserves knowledge": "-kept_knowledge[0]"}), "full minus LoRA"),
           Wrong("memory for compute", promises_with(
               {"cuts training cost": 'costs["LoRA"]["memory"] / costs["full"]["memory"]'}), "memory of a step"),
           Wrong("merged", promises_with(
               {"costs nothing at inference": 'latency["LoRA"]["merged"]["median"]'}), "merged model"),
           Wrong("bytes for seconds", promises_with(
               {"switches tasks fast": 'costs["LoRA"]["file"] / costs["full"]["file"]'}), "size of the files"),
           Wrong("gain for loss", promises_with({"adapts with little data": "100 * few[64][0]"}), "LoRA minus full"),
           Wrong("2,000 reviews", promises_with({"adapts with little data": "-100 * few[2000][0]"}), "2,000 reviews"),
           Wrong("another method's time", promises_with(
               {"costs nothing at inference": 'latency["Pfeiffer"]["unmerged"]["median"]'}), "Pfeiffer"),
           Wrong("all kept", promises_with(verdicts=dict.fromkeys(BOUNDS, '"yes"')), "your verdict is 'yes'"),
           Wrong("what is not proven is false", promises_with(verdicts={
               key: value.replace("below(", "('yes' if below(", 1) + " == 'yes' else 'no')"
               for key, value in SPANS.items()}), "your verdict is 'no'"),
           Wrong("as true and false", promises_with(verdicts=dict.fromkeys(BOUNDS, "True")), "none of")),
)  # fmt: skip


# 8. Many comparisons at once


def adjusted(p):
    found, before = {}, 0.0
    for i, name in enumerate(sorted(p, key=p.__getitem__)):
        before = max(before, min(1.0, (len(p) - i) * p[name]))
        found[name] = before
    return found


def raw_steps(p):
    return {name: min(1.0, (len(p) - i) * p[name]) for i, name in enumerate(sorted(p, key=p.__getitem__))}


HOLM_SLIPS = {
    "every value is multiplied by n: that is Bonferroni. Holm multiplies the smallest by n, the next by n - 1, ...":
        lambda p: {name: min(1.0, len(p) * value) for name, value in p.items()},
    "a later value is smaller than one before it: none may be, since a weaker finding cannot be surer.": raw_steps,
    "the steps are taken in the order of the dict: sort by p first.":
        lambda p: {name: min(1.0, (len(p) - i) * p[name]) for i, name in enumerate(p)},
    "the largest is multiplied by n here, and the smallest by 1: the other way round.":
        lambda p: {name: min(1.0, (i + 1) * p[name]) for i, name in enumerate(sorted(p, key=p.__getitem__))},
    "this is the false discovery rate (n / rank, from the top): another question than that of any error at all.":
        lambda p: fdr(p),
    "nothing is changed: with so many comparisons some are small by luck.": dict,
}  # fmt: skip


def fdr(p):
    found, before = {}, 1.0
    for i, name in reversed(list(enumerate(sorted(p, key=p.__getitem__), 1))):
        before = min(before, len(p) / i * p[name])
        found[name] = before
    return found


P_VALUES = ({"DoRA": 0.04, "LoRA": 0.001, "VeRA": 0.012, "prompt": 0.013}, {"a": 0.55, "b": 0.02, "c": 0.6},
            {"w": 0.03, "x": 0.04, "y": 0.041, "z": 0.2, "v": 0.009})  # fmt: skip


def table_of(holm, p):
    got = holm(dict(p))
    expect(isinstance(got, dict) and set(got) == set(p), "return a dict with the same names (is a `return` missing?).")
    return got


def corrects(holm, rng):
    found = [table_of(holm, p) for p in P_VALUES]
    expect(
        all(isinstance(v, (int, float)) and not isinstance(v, bool) for one in found for v in one.values()),
        "return numbers, not verdicts.",
    )
    said = "the smallest p times n, the next times n - 1, ..., none below the one before it, none above 1."
    for advice, slip in HOLM_SLIPS.items():
        if all(close_dicts(got, slip(p)) for got, p in zip(found, P_VALUES, strict=True)):
            said = advice
    expect(all(v <= 1 for one in found for v in one.values()), "a probability above 1: cap it.")
    for got, p in zip(found, P_VALUES, strict=True):
        expect(close_dicts(got, adjusted(p)), said)


def close_dicts(a, b):
    return all(abs(a[name] - b[name]) < 1e-9 for name in b)


def holm_with(
    factor="len(p) - i", step="before = max(before, min(1.0, factor * p[name]))", order="sorted(p, key=p.get)"
):
    return ("def holm(p):\n    found, before = {}, 0.0\n"
            f"    for i, name in enumerate({order}):\n        factor = {factor}\n        {step}\n"
            "        found[name] = before\n    return found")  # fmt: skip


HOLM = Exercise(
    name="compare.holm", defines="holm", title="Many rows at once", tier="stretch", difficulty=3, minutes=6, points=2,
    unlocks="saying of a table which rows differ at all", reference=holm_with(),
    properties=(Property("multiplies by n, n - 1, ..., from the smallest on", corrects, core=True),),
    hints=("Of twenty equal methods, how many have p below .05 by luck? What would the smallest have to be?",
           "sorted p: p₁ n, p₂ (n - 1), p₃ (n - 2), ...; each at least the one before, at most 1",
           "for i, name in enumerate(sorted(p, key=p.get)): before = max(before, min(1.0, (...) * p[name]))"),
    remark="Below .05 after this, the whole table is wrong about any row in at most one of twenty tables.",
    wrong=(Wrong("Bonferroni", holm_with("len(p)"), "Bonferroni"),
           Wrong("may fall again", holm_with(step="before = min(1.0, factor * p[name])"), "weaker finding"),
           Wrong("not sorted", holm_with(step="before = min(1.0, factor * p[name])", order="p"), "sort by p"),
           Wrong("upside down", holm_with("i + 1", "before = min(1.0, factor * p[name])"), "other way round"),
           Wrong("above one", holm_with(step="before = max(before, factor * p[name])"), "cap it"),
           Wrong("false discovery rate", "def holm(p):\n    found, before = {}, 1.0\n"
                 "    for i, name in reversed(list(enumerate(sorted(p, key=p.get), 1))):\n"
                 "        before = min(before, len(p) / i * p[name])\n        found[name] = before\n    return found",
                 "false discovery"),
           Wrong("unchanged", "def holm(p):\n    return dict(p)", "nothing is changed"),
           Wrong("verdicts", "def holm(p):\n    return {name: value < 0.05 / len(p) for name, value in p.items()}",
                 "numbers, not")),
)  # fmt: skip

LESSON = Lesson(id="07", slug="comparison", title="The great comparison", requires=("00", "04"), minutes=75,
                exercises=(BOOTSTRAP, EQUIVALENT, GRID, ORDER, PARETO, FORGETTING, PROMISES, HOLM))  # fmt: skip
