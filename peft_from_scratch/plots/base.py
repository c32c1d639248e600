"""One function a figure; each returns the Figure and its sentence, which is also its alternative text.

Okabe and Ito's colours, which colour-blind readers can tell apart; transparent ground and mid-grey text, for light and
dark pages.
"""

import base64
import html
import io

import matplotlib
import matplotlib.ticker
from matplotlib.figure import Figure

GREY = "#7a7a7a"
FAINT = "#7a7a7a66"
COLOURS = {"full": "#0072B2", "LoRA": "#D55E00", "BitFit": "#009E73", "head only": "#CC79A7"}
OTHER = "#E69F00"
STYLE = {
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "savefig.bbox": "tight",
    "text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "font.size": 11, "svg.hashsalt": "peft_from_scratch",
}  # fmt: skip


def figure(width: float, height: float, columns: int = 1, **kwargs) -> tuple[Figure, list]:
    """An empty figure in the course's style (inches), made without pyplot, so that nothing stays open."""
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        return fig, list(fig.subplots(1, columns, squeeze=False, **kwargs)[0])


def show(fig: Figure, alt: str) -> None:
    """Show a figure in a notebook with its sentence under it and as its alternative text; elsewhere, the sentence."""
    try:
        from IPython.display import display
    except ImportError:
        print(alt)
        return
    display({"text/html": as_html(fig, alt), "text/plain": alt}, raw=True)


def as_html(fig: Figure, alt: str) -> str:
    """The figure as HTML that needs no file, with its sentence as caption and alternative text."""
    png = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        fig.savefig(png, format="png", dpi=110)
    data, words = base64.b64encode(png.getvalue()).decode(), html.escape(alt)
    picture = f'<img alt="{words}" style="max-width:100%" src="data:image/png;base64,{data}">'
    return f'<figure style="margin:0">{picture}<figcaption>{words}</figcaption></figure>'


def percent(share: float) -> str:
    """A share in three figures or fewer: 100 %, 66.8 %, 0.33 %, 0.003 %."""
    digits = 0 if share > 0.995 else 1 if share > 0.05 else 2 if share > 0.0005 else 3
    return f"{100 * share:.{digits}f} %"
