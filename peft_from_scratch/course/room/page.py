"""The room's one page: how to get the course from here, who is where, and what the room guessed.

It asks this server for everything. Names come from learners, so they are set as text and never as HTML.
"""

import html

STYLE = """
:root { color-scheme: light dark; --line: #8886; --bar: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --bar: #56b4e9; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; }
pre { border: 1px solid var(--line); padding: .7rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .6rem .2rem 0; }
th { border-bottom: 1px solid var(--line); font-weight: 600; }
.bars { display: flex; align-items: flex-end; gap: 2px; height: 8rem; border-bottom: 1px solid var(--line); }
.bars i { flex: 1; background: var(--bar); min-height: 1px; }
.ends { display: flex; justify-content: space-between; }
"""

SCRIPT = """
const cell = (row, text) => { row.insertCell().textContent = text; };
const ago = s => s < 90 ? "now" : Math.round(s / 60) + " min ago";
const short = x => Number(x.toPrecision(4)).toLocaleString("en");
function guests(rows) {
  const body = document.querySelector("tbody"); body.replaceChildren();
  for (const g of rows) {
    const row = body.insertRow();
    cell(row, g.name); cell(row, g.exercise || "here"); cell(row, g.status); cell(row, g.passed); cell(row, ago(g.ago));
  }
  document.getElementById("count").textContent = rows.length ? rows.length + " here" : "nobody has joined yet";
}
function histogram(values) {
  const low = values[0], high = values.at(-1), n = low === high ? 1 : 12, bins = Array(n).fill(0);
  for (const v of values) bins[Math.min(n - 1, Math.floor((v - low) / (high - low) * n) || 0)]++;
  const most = Math.max(...bins), bars = document.getElementById("bars"); bars.replaceChildren();
  for (const b of bins) {
    const i = document.createElement("i"); i.style.height = 100 * b / most + "%"; bars.append(i);
  }
  document.getElementById("low").textContent = short(low);
  document.getElementById("high").textContent = short(high);
  const middle = short(values[Math.floor(values.length / 2)]);
  document.getElementById("said").textContent =
    `${values.length} guesses, from ${short(low)} to ${short(high)}; the middle one is ${middle}.`;
}
function predictions(found) {
  const choice = document.querySelector("select"), names = Object.keys(found);
  document.getElementById("guesses").hidden = !names.length;
  for (const name of names) if (![...choice.options].some(o => o.value === name)) choice.append(new Option(name, name));
  if (found[choice.value]) histogram(found[choice.value]);
}
async function look() {
  try {
    const state = await (await fetch("/state.json")).json();
    guests(state.guests); predictions(state.predictions);
  } catch { document.getElementById("count").textContent = "the room does not answer"; }
}
document.querySelector("select").onchange = look; look(); setInterval(look, 3000);
"""

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The room</title><style>{style}</style></head><body><main>
<h1>The room</h1>
<h2>Get the course from here</h2>
<p>No other network is needed. On Linux and macOS:</p>
<pre tabindex="0">export PIP_INDEX_URL={address}/simple PIP_TRUSTED_HOST={host}
curl -O {address}/course.zip &amp;&amp; unzip -q course.zip &amp;&amp; cd peft_from_scratch
make learn</pre>
<p>On Windows (PowerShell):</p>
<pre tabindex="0">$env:PIP_INDEX_URL="{address}/simple"; $env:PIP_TRUSTED_HOST="{host}"
curl.exe -O {address}/course.zip; Expand-Archive course.zip .; cd peft_from_scratch
py -m venv .venv; .venv\\Scripts\\python -m pip install -c constraints.txt -e ".[lab]"
.venv\\Scripts\\jupyter lab notebooks\\00_start_here.ipynb</pre>
{copies}<p>Models and data come from here too, each checked by its hash. To be seen below, run this in a notebook:</p>
<pre tabindex="0">from peft_from_scratch.course.room import join
join("any name you like", "{address}")</pre>
<h2>Who is where</h2>
<p id="count" role="status">asking …</p>
<table><thead><tr><th>name</th><th>last exercise</th><th></th><th>passed</th><th>seen</th></tr></thead>
<tbody></tbody></table>
<div id="guesses" hidden>
<h2>What the room guessed</h2>
<p><label>Prediction: <select></select></label></p>
<div class="bars" id="bars" aria-hidden="true"></div>
<div class="ends" aria-hidden="true"><span id="low"></span><span id="high"></span></div>
<p id="said"></p>
</div>
</main><script>{script}</script></body></html>
"""

COPIES = """<p>Work in the notebooks of this class. In the folder <code>peft_from_scratch</code>, in a second terminal
(on Windows with <code>curl.exe</code> and <code>Expand-Archive class.zip .</code>):</p>
<pre tabindex="0">curl -O {address}/class.zip &amp;&amp; unzip -q class.zip</pre>
<p>Then open the folder <code>class</code> in JupyterLab.</p>
"""


def page(address: str, copies: bool = False) -> str:
    """The page for a guest who reached the room at `address` ("http://192.168.1.5:8000"); `copies` of the notebooks
    are there if the class has its own.
    """
    host, address = html.escape(address.split("://", 1)[1].rsplit(":", 1)[0]), html.escape(address)
    own = COPIES.format(address=address) if copies else ""
    return PAGE.format(style=STYLE, script=SCRIPT, address=address, host=host, copies=own)
