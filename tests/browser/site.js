// Opens pages of a built site from its folder, with the network off; prints one JSON object. See test_site_browser.py.
"use strict";
const { chromium } = require("./playwright-core");
const axe = require("fs").readFileSync(require.resolve("./axe-core/axe.min.js"), "utf8");
const [root, browser, ...pages] = process.argv.slice(2);
const LOOKS = [{ width: 390, colorScheme: "light" }, { width: 1200, colorScheme: "dark" }];

async function open(instance, page, look) {
  const viewport = { width: look.width, height: 850 };
  const context = await instance.newContext({ offline: true, viewport, colorScheme: look.colorScheme });
  const tab = await context.newPage();
  tab.faults = [];
  tab.on("console", (message) => message.type() === "error" && tab.faults.push(`console: ${message.text()}`));
  tab.on("pageerror", (error) => tab.faults.push(`error: ${error.message}`));
  tab.on("requestfailed", (request) => tab.faults.push(`failed: ${request.url().slice(0, 120)}`));
  tab.on("request", (request) => /^(file|data):/.test(request.url()) || tab.faults.push(`request: ${request.url()}`));
  await tab.goto(`file://${root}/${page}`);
  return tab;
}

/** No fault while loading, nothing wider than the screen, no serious finding of axe. */
async function look(instance, page) {
  const found = [];
  for (const each of LOOKS) {
    const tab = await open(instance, page, each);
    const wide = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) found.push(`${each.width}: ${wide} pixels too wide`);
    await tab.evaluate(axe);
    const { violations } = await tab.evaluate(() => window.axe.run(document, { preload: false }));
    const serious = violations.filter((each) => ["serious", "critical"].includes(each.impact));
    found.push(...tab.faults, ...serious.map((rule) => `${each.colorScheme} ${rule.id}: ${rule.nodes[0].html.slice(0, 120)}`));
    await tab.context().close();
  }
  return found;
}

/** With the keyboard alone: skip link, a quiz answered wrong and right, remembered, the theme, the search. */
async function keyboard(instance) {
  const tab = await open(instance, "quiz.html", LOOKS[0]);
  const seen = {};
  const press = (...keys) => keys.reduce((before, key) => before.then(() => tab.keyboard.press(key)), Promise.resolve());
  const inside = (selector) => tab.evaluate((wanted) => document.activeElement.matches(wanted), selector);
  await press("Tab");
  seen.skip = await inside(".skip");
  await press("Enter");
  const until = async (selector) => {
    for (let i = 0; i < 80 && !(await inside(selector)); i++) await press("Tab");
    return inside(selector);
  };
  seen.reached = await until("#q-99-single input");
  await press("ArrowDown", "Enter");
  seen.wrong = (await tab.innerText("#q-99-single .feedback")).includes("Not yet");
  seen.back = await tab.evaluate(() => (document.querySelector("#q-99-single input").focus(), true));
  await press("ArrowDown", "ArrowUp", "Enter");
  seen.right = (await tab.innerText("#q-99-single .feedback")).includes("Right");
  seen.order = await until("#q-99-order .line");
  for (const line of await tab.evaluate(() => JSON.parse(document.getElementById("quiz-data").textContent)[0].questions[4].key)) {
    await tab.focus(`#q-99-order [data-line="${line}"]`);
    await press("Enter");
  }
  await tab.focus("#q-99-order .check");
  await press("Enter");
  seen.ordered = (await tab.innerText("#q-99-order .feedback")).includes("Right");
  await tab.reload();
  seen.kept = (await tab.innerText("#q-99-single .feedback")).includes("Right");
  seen.score = await tab.innerText(".score");
  await tab.focus("button.theme");
  await press("Enter");
  await tab.reload();
  seen.theme = await tab.evaluate(() => document.documentElement.dataset.theme);
  await tab.focus("#find");
  await tab.keyboard.type("needle");
  await Promise.all([tab.waitForNavigation(), press("Enter")]);
  seen.found = await tab.innerText("#hits li:first-child a");
  seen.faults = tab.faults;
  return seen;
}

(async () => {
  const instance = await chromium.launch({ executablePath: browser, args: ["--no-sandbox", "--disable-gpu"] });
  const faults = {};
  for (const page of pages) faults[page] = await look(instance, page);
  console.log(JSON.stringify({ faults, keyboard: await keyboard(instance) }));
  await instance.close();
})();
