// The run's page: a box that filters its cases, and headings that sort them.
"use strict";
(() => {
  const body = document.querySelector("tbody");
  const rows = [...body.rows];
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const box = document.getElementById("filter");
  const shown = document.getElementById("shown");

  function filter() {
    const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      row.hidden = !wanted.every((word) => words.get(row).includes(word));
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = wanted.length ? `${count} of ${rows.length}` : "";
  }

  // A cell without a value stays at the end either way.
  function order(place, kind, sign) {
    const keys = new Map(rows.map((row) => [row, row.cells[place].dataset.value]));
    const compare = kind === "number"
      ? (a, b) => Number(a) - Number(b)
      : (a, b) => a.localeCompare(b, undefined, { numeric: true });
    rows.sort((one, other) => {
      const a = keys.get(one);
      const b = keys.get(other);
      return a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b);
    });
    body.append(...rows);
  }

  for (const heading of document.querySelectorAll("th[data-sort]")) {
    heading.querySelector("button").addEventListener("click", () => {
      const rising = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      order(heading.cellIndex, heading.dataset.sort, rising ? 1 : -1);
    });
  }
  box.addEventListener("input", filter);
  document.querySelector(".filter").hidden = false;
  filter();
})();
