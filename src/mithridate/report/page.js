"use strict";
// Copy the command; where the browser forbids it, select it. Open everything that is folded before printing.
// Sort and filter tables of results; without this script they show all their rows in their own order.
const button = document.getElementById("copy");
if (button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const command = document.getElementById("command");
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "Selected: press Ctrl-C";
    }
  });
}
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const each of folded) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of folded) each.open = false;
});

const LONG = 8;
const made = (tag, more, ...children) => {
  const element = Object.assign(document.createElement(tag), more);
  element.append(...children);
  return element;
};

// A value for each row: a number where the column has numbers; null, which goes last, where it was not run.
const valuesOf = (rows, column) => {
  const cells = rows.map((row) => row.cells[column]);
  const numeric = cells.some((cell) => cell && cell.dataset.value !== undefined);
  return cells.map((cell) => {
    if (!cell) return null;
    if (numeric) return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
    return cell.textContent.trim();
  });
};
const compared = (one, two) => (typeof one === "number" ? one - two : one.localeCompare(two, undefined, { numeric: true }));

const sort = (table, rows, column, direction) => {
  const values = valuesOf(rows, column);
  const order = rows.map((row, place) => place);
  if (direction !== "none") {
    const sign = direction === "descending" ? -1 : 1;
    order.sort((one, two) => {
      const [a, b] = [values[one], values[two]];
      if (a === null || b === null) return (a === null) - (b === null) || one - two;
      return sign * compared(a, b) || one - two;
    });
  }
  table.tBodies[0].append(...order.map((place) => rows[place]));
  table.classList.toggle("sorted", direction !== "none");
  [...table.tHead.rows[0].cells].forEach((cell, place) => {
    if (place === column && direction !== "none") cell.setAttribute("aria-sort", direction);
    else cell.removeAttribute("aria-sort");
  });
};

const filter = (rows, words, output) => {
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    if (!row.hidden) shown += 1;
  }
  output.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
};

const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
for (const table of document.querySelectorAll("table.results:not(.transfer)")) {
  const rows = table.tHead && table.tBodies[0] ? [...table.tBodies[0].rows] : [];
  if (rows.length < 3) continue;
  const heads = [...table.tHead.rows[0].cells];
  const select = made("select", {}, made("option", { value: "" }, "as they are"));
  heads.forEach((head, column) => {
    const name = head.textContent.trim();
    for (const direction of ["ascending", "descending"]) {
      select.append(made("option", { value: `${column} ${direction}` }, `${name}, ${direction}`));
    }
    const trigger = made("button", { type: "button", className: "sort" }, ...head.childNodes);
    trigger.addEventListener("click", () => {
      const direction = NEXT[head.getAttribute("aria-sort") || "none"];
      sort(table, rows, column, direction);
      select.value = direction === "none" ? "" : `${column} ${direction}`;
    });
    head.append(trigger);
  });
  select.addEventListener("change", () => {
    const [column, direction] = select.value.split(" ");
    sort(table, rows, Number(column || 0), direction || "none");
  });
  const tools = made("div", { className: "tools" });
  if (rows.length >= LONG) {
    const input = made("input", { type: "search", placeholder: "words in a row" });
    const output = made("output", {});
    input.addEventListener("input", () => filter(rows, input.value.toLowerCase().split(/\s+/).filter(Boolean), output));
    tools.append(made("label", {}, "Filter", input), output);
  }
  tools.append(made("label", { className: "by" }, "Sort by", select));
  (table.closest(".scroll") || table).before(tools);
}
