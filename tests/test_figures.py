"""The rules for figures can fail: each breach is found, and a figure in the course's style has none."""

import pytest
from figure_rules import contrast, violations

from peft_from_scratch.plots import COLOURS, GREY, as_html, figure


def broken(draw, **style):
    fig, (ax,) = figure(3, 2)
    draw(ax)
    fig.set(**style)
    as_html(fig, "words")
    return " / ".join(violations(fig))


def pair(**two):
    """Two lines of two colours; `two` sets the second one apart, or does not."""

    def draw(ax):
        ax.plot([0, 1], [0, 1], color=COLOURS["full"])
        ax.plot([0, 1], [1, 0], color=COLOURS["LoRA"], **two)

    return draw


def bars(**two):
    def draw(ax):
        ax.barh([0], [1], color=COLOURS["full"])
        ax.barh([0], [1], left=1, color=COLOURS["LoRA"], **two)

    return draw


@pytest.mark.parametrize("draw", [pair(ls="--"), pair(marker="D"), pair(lw=4), bars(hatch="//")])
def test_a_second_cue_is_enough(draw):
    assert broken(draw) == ""


@pytest.mark.parametrize("draw", [pair(), bars()])
def test_colour_alone_is_not(draw):
    assert "differ in colour alone" in broken(draw)


def test_words_and_grounds_for_both_themes():
    assert "'dark' in #000000 cannot be read" in broken(lambda ax: ax.set_title("dark", color="black"))
    assert "cannot be read" in broken(lambda ax: ax.text(0, 0, "light", color="white"))
    assert "not transparent" in broken(pair(ls="--"), facecolor="white")
    assert contrast("black", "white") == pytest.approx(21) and contrast(GREY, "white") > 4


def test_other_colours_are_named():
    assert "#ff0000 is neither" in broken(lambda ax: ax.plot([0, 1], color="red"))
