"use strict";
// The table: sorting, choosing rows, comparing two of them.  Figures are in the rows' own attributes.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const body = $("#entries tbody");
const rows = $$("tr", body);
const heads = $$("#entries thead th");
const columns = heads.map((th) => ({ th, label: $("button", th).textContent, numeric: th.dataset.sort === "number" }));
const order = $("#order");

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// a name that may be broken after its underscores
const broken = (name) => name.split(/(?<=_)/).flatMap((part) => [part, make("wbr")]);
const cell = (row, index) => row.children[index + 1]; // the first one is the box
const value = (row, index) => {
  const { value: given } = cell(row, index).dataset;
  return given === undefined || given === "" ? null : Number(given);
};
const text = (row, index) => cell(row, index).textContent.trim();

// sorting: rows without a figure come last, whichever way
function sort(index, direction) {
  const { numeric } = columns[index];
  const sign = direction === "ascending" ? 1 : -1;
  const compare = (a, b) => {
    if (!numeric) return sign * text(a, index).localeCompare(text(b, index), "en", { numeric: true });
    const [x, y] = [value(a, index), value(b, index)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  };
  body.append(...rows.slice().sort(compare));
  columns.forEach(({ th }, i) => (i === index ? th.setAttribute("aria-sort", direction) : th.removeAttribute("aria-sort")));
  order.value = `${index} ${direction}`;
}

columns.forEach(({ th, label, numeric }, index) => {
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  $("button", th).addEventListener("click", () => sort(index, th.getAttribute("aria-sort") === first ? second : first));
  for (const direction of [first, second]) {
    const words = numeric ? { descending: "highest first", ascending: "lowest first" } : { ascending: "A to Z", descending: "Z to A" };
    order.append(make("option", { value: `${index} ${direction}`, textContent: `${label}, ${words[direction]}` }));
  }
});
order.addEventListener("change", () => {
  const [index, direction] = order.value.split(" ");
  sort(Number(index), direction);
});

// choosing
const search = $("#search");
const least = $("#least");
const masks = $("#masks");
const available = $("#available");
const selects = $$("select[data-filter]");

function fits(row) {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  return (
    words.every((word) => row.dataset.words.includes(word)) &&
    selects.every((select) => !select.value || row.dataset[select.dataset.filter] === select.value) &&
    (!least.value || Number(row.dataset.box) >= Number(least.value)) &&
    (!masks.checked || row.dataset.masks === "1") &&
    (!available.checked || row.dataset.available === "1")
  );
}

function choose() {
  for (const row of rows) {
    row.hidden = !fits(row);
    document.getElementById(row.dataset.name).hidden = row.hidden;
  }
  const left = rows.filter((row) => !row.hidden).length;
  $("#shown").textContent = left === rows.length ? `${left} entries` : `${left} of ${rows.length} entries`;
  document.dispatchEvent(new Event("chosen"));
}

for (const control of [search, least, masks, available, ...selects]) control.addEventListener("input", choose);
$("#reset").addEventListener("click", () => {
  for (const control of [search, least, ...selects]) control.value = "";
  masks.checked = available.checked = false;
  choose();
});

// speeds: those measured under the conditions that are chosen
const conditions = $("#conditions");
const speed = (row) => JSON.parse(row.dataset.speeds)[conditions ? conditions.value : 0] ?? null;

function showSpeeds() {
  for (const row of rows) {
    const fps = speed(row);
    const shown = $("[data-speed]", row);
    shown.dataset.value = fps ?? "";
    shown.replaceChildren(fps === null ? make("span", { className: "no", ariaLabel: "none" }, "–") : fps.toFixed(1));
  }
  document.dispatchEvent(new Event("chosen"));
}
conditions?.addEventListener("change", showSpeeds);

// comparing
const chosen = $("#chosen");
const boxes = rows.map((row) => $(".pick input", row));
let picked = [];

function pick() {
  boxes.forEach((box, i) => (box.checked = picked.includes(rows[i])));
  boxes.forEach((box) => (box.disabled = picked.length === 2 && !box.checked));
  chosen.hidden = picked.length === 0;
  const names = picked.map((row) => row.dataset.name);
  $("#two").textContent = names.length === 1 ? `${names[0]}: choose another one to compare it with` : names.join(" and ");
  $("#compare").disabled = picked.length !== 2;
}
boxes.forEach((box, i) =>
  box.addEventListener("change", () => {
    picked = box.checked ? [...picked, rows[i]] : picked.filter((row) => row !== rows[i]);
    pick();
  }),
);
$("#drop").addEventListener("click", () => {
  picked = [];
  pick();
});

$("#compare").addEventListener("click", () => {
  const dialog = $("#comparison");
  const names = picked.map((row) => make("th", { scope: "col" }, ...broken(row.dataset.name)));
  $("thead", dialog).replaceChildren(make("tr", {}, make("td"), ...names, make("th", { scope: "col" }, "difference")));
  const lines = columns.slice(1).map(({ th, label }, i) => {
    const [a, b] = picked.map((row) => value(row, i + 1));
    const better = th.dataset.better;
    const cells = picked.map((row) => make("td", { textContent: text(row, i + 1) }));
    let difference = "";
    if (a !== null && b !== null && a !== b) {
      const high = better === "high" ? a > b : a < b;
      if (better) cells[high ? 0 : 1].className = "better";
      difference = better === "low" ? `× ${(b / a).toFixed(2)}` : `${b > a ? "+" : "−"}${Math.abs(b - a).toFixed(1)}`;
    }
    return make("tr", {}, make("th", { scope: "row", textContent: label }), ...cells, make("td", { textContent: difference }));
  });
  $("tbody", dialog).replaceChildren(...lines);
  dialog.showModal();
});

// an address of an entry opens its section
function openEntry() {
  const entry = document.getElementById(location.hash.slice(1));
  if (!entry?.matches("details")) return;
  entry.hidden = false;
  entry.open = true;
  entry.scrollIntoView();
  $("summary", entry).focus({ preventScroll: true });
}
addEventListener("hashchange", openEntry);
document.addEventListener("click", (event) => event.target.closest('a[href^="#"]') && setTimeout(openEntry));

sort(1, "descending");
showSpeeds();
