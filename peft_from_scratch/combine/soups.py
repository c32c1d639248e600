"""Model soups and WiSE-FT: average weights instead of predictions.
Wortsman et al. 2022, arXiv:2203.05482, section 2; Wortsman et al. 2021, arXiv:2109.01903, section 3.

    soup:     θ = mean_t θ_t                          runs that share θ_0 and differ in seed, rate or data order
    greedy:   add θ_t, best first, if the mean then scores no worse on dev
    WiSE-FT:  θ = (1 - α) θ_0 + α θ_1                 between the pretrained and the fine-tuned weights

One model's cost at inference. Works where the straight line between the weights stays in one valley of the loss, as it
does from one θ_0. Also on adapter states, if all began from the same numbers: A and B of LoRAs that did not are in
different bases, and then loras.cat is what averages the changes. Trains nothing.

Method: Model soup. Paper: Wortsman et al. 2022, arXiv:2203.05482 §2. Kind: combination. On: states of one start.
Trains: 0. Merges: yes.

Method: WiSE-FT. Paper: Wortsman et al. 2021, arXiv:2109.01903 §3. Kind: combination. On: a state and its start. Trains:
0. Merges: yes.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from .arithmetic import State, add, combine, task_vector


def soup(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of the states."""
    return combine(states, [1 / max(len(states), 1)] * len(states))


def greedy_soup(states: Sequence[State], score: Callable[[State], float]) -> tuple[dict[str, Tensor], list[int]]:
    """The soup of the states that help, and which they are. `score`: on dev, higher is better; never on test."""
    if not states:
        raise ValueError("a soup needs at least one state")
    scores = [score(state) for state in states]
    order = sorted(range(len(states)), key=lambda i: -scores[i])
    chosen, best = order[:1], scores[order[0]]
    for i in order[1:]:
        now = score(soup([states[k] for k in (*chosen, i)]))
        if now >= best:
            chosen, best = [*chosen, i], now
    return soup([states[i] for i in chosen]), chosen


def wise(before: State, after: State, alpha: float = 0.5) -> dict[str, Tensor]:
    """(1 - α) θ_0 + α θ_1."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha goes from 0 (before) to 1 (after), not {alpha}")
    return add(before, task_vector(after, before), alpha)
