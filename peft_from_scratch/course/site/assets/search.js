// Looks every word up in the index: all must occur; a hit in a heading counts most.
"use strict";

const field = document.getElementById("q");
const hits = document.getElementById("hits");
const simple = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const index = window.INDEX.map((entry) => ({ ...entry, head: simple(`${entry.t} ${entry.h}`), body: simple(entry.x) }));

function look(query) {
  const words = simple(query).split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const found = [];
  for (const entry of index) {
    const points = words.map((word) => (entry.head.includes(word) ? 10 : 0) + Math.min(5, entry.body.split(word).length - 1));
    if (points.every(Boolean)) found.push([points.reduce((a, b) => a + b), entry]);
  }
  return found.sort((a, b) => b[0] - a[0]).map((each) => each[1]);
}

/** The words around the first hit, the hits marked; built from text nodes, never from HTML. */
function excerpt(entry, words) {
  const at = Math.max(0, entry.body.indexOf(words.find((word) => entry.body.includes(word)) ?? "") - 60);
  const place = document.createElement("p");
  place.textContent = (at ? "… " : "") + entry.x.slice(at, at + 200) + (entry.x.length > at + 200 ? " …" : "");
  return place;
}

function show() {
  const words = simple(field.value).split(/\s+/).filter(Boolean);
  const found = look(field.value);
  hits.replaceChildren(
    ...found.slice(0, 40).map((entry) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = entry.u;
      link.textContent = entry.h ? `${entry.t}: ${entry.h}` : entry.t;
      item.append(link, excerpt(entry, words));
      return item;
    })
  );
  const most = found.length > 40 ? ", the best 40 below" : "";
  document.getElementById("count").textContent = words.length ? `${found.length} places${most}.` : "";
}

field.value = new URLSearchParams(location.search).get("q") || "";
field.addEventListener("input", show);
field.form.addEventListener("submit", (event) => (event.preventDefault(), show()));
show();
field.focus();
