"""The measured comparison, where its results are there; the report is a page of its own."""

from pathlib import Path

REPORT = Path(__file__).resolve().parents[3] / "results" / "compare" / "report.html"
INTRO = (
    "<h1>The measured comparison</h1><p>Methods beside full fine-tuning: the same data, the same budget, each with its "
    "own learning rate, several seeds, and intervals.</p>"
)
COMMANDS = "python -m peft_from_scratch compare\npython -m peft_from_scratch compare report --out results/compare"
MAKE = f'<pre tabindex="0"><code>{COMMANDS}</code></pre>'


def body() -> str:
    """comparison.html: the way to the report, or how to make one."""
    if REPORT.is_file():
        return INTRO + '<p><a href="report.html">The report, with its tables and figures</a></p>'
    how = "These two commands make one, in hours on two cores; the next build of these pages takes it over:"
    return f"{INTRO}<p>There is no report in this copy. {how}</p>{MAKE}"


def files() -> dict[str, str]:
    """The report itself, with a way back."""
    if not REPORT.is_file():
        return {}
    text = REPORT.read_text(encoding="utf-8")
    back = '<main><p><a href="comparison.html">Back to the course</a></p>'
    return {
        "report.html": text.replace("<main>", back, 1).replace("</head>", '<link rel="icon" href="data:,"></head>', 1)
    }
