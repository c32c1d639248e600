// The theme button. Without this script the pages follow the system's theme.
"use strict";

{
  // a scope of its own: the quiz scripts stand beside it
  const THEME = "peft-from-scratch.theme";
  const button = document.querySelector("button.theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => (button.textContent = dark() ? "Light" : "Dark");

  button.setAttribute("aria-label", "Change between light and dark");
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.setItem(THEME, document.documentElement.dataset.theme);
    } catch {
      // a browser that keeps nothing: the choice lasts for this page
    }
    label();
  });
  system.addEventListener("change", label);
  label();

  // On a narrow screen the list of headings starts folded.
  if (innerWidth < 900) document.querySelectorAll("aside details").forEach((list) => (list.open = false));
}
