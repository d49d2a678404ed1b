"use strict";
const root = document.documentElement;
const theme = document.getElementById("theme");
const isDark = () => {
  const chosen = root.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
theme.hidden = false;
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; });

// The table: numbers by their value, words by the alphabet, what is missing last.
const table = document.getElementById("results");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
heads.forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const isNumber = head.dataset.kind === "number";
    const key = (row) => {
      const text = row.cells[column].dataset.value ?? "";
      return text === "" ? null : isNumber ? Number(text) : text;
    };
    const compare = (a, b) => (isNumber ? a - b : a.localeCompare(b));
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return descending ? compare(b, a) : compare(a, b);
    });
    body.append(...rows.map(([, row]) => row));
  });
});

// A click on an entry of a legend hides its curves, or shows them again.
for (const entry of document.querySelectorAll(".legend button")) {
  entry.addEventListener("click", () => {
    const shown = entry.getAttribute("aria-pressed") === "false";
    entry.setAttribute("aria-pressed", String(shown));
    const marks = entry.closest(".curves").querySelectorAll(`[data-series="${entry.dataset.of}"]`);
    for (const mark of marks) mark.classList.toggle("off", !shown);
  });
}

// Paper cannot be clicked.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) { part.open = true; part.dataset.printed = ""; }
});
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-printed]")) { part.open = false; delete part.dataset.printed; }
});
