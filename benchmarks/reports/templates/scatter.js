// The chart: accuracy against FLOPs or speed on a logarithmic axis, and the front of what nothing beats in both.
const chart = $("#chart");
const tip = make("div", { className: "tip", hidden: true });
let points = [];
let current = -1;

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, given] of Object.entries(attributes)) element.setAttribute(key, given);
  element.append(...children);
  return element;
}

function ticks(low, high) {
  const steps = high / low > 3 ? [1, 2, 3, 5, 7] : [1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5];
  const found = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    found.push(...steps.map((times) => times * power).filter((tick) => tick >= low && tick <= high));
  }
  return found;
}

// what can be had and is not beaten in both; cost is better the lower (FLOPs) or the higher (speed)
function front(given, lower) {
  const byCost = given.filter((p) => p.available).sort((a, b) => (lower ? a.x - b.x : b.x - a.x) || b.y - a.y);
  let best = -Infinity;
  return byCost.filter((p) => p.y > best && ((best = p.y), true));
}

function draw() {
  const lower = $("#axis").value === "flops";
  const figure = $("#figure").value;
  const given = rows
    .filter((row) => !row.hidden && row.dataset[figure])
    .map((row) => ({
      row,
      y: Number(row.dataset[figure]),
      x: lower ? Number(row.dataset.flops) / 1e9 : speed(row),
      available: row.dataset.available === "1",
    }))
    .filter((p) => p.x);
  current = -1;
  tip.hidden = true;
  if (!given.length) {
    points = [];
    chart.replaceChildren(make("p", { className: "soft", textContent: "No entry that is shown has both figures." }));
    $("#said").textContent = "";
    return;
  }
  const width = Math.max(320, chart.clientWidth - 40);
  const narrow = width < 640;
  const height = narrow ? 340 : 440;
  const [left, right, top, bottom] = [narrow ? 30 : 44, 16, 16, 46];
  const radius = narrow ? 4 : 5;
  const [xs, ys] = [given.map((p) => p.x), given.map((p) => p.y)];
  const [x0, x1] = [Math.min(...xs) / 1.15, Math.max(...xs) * 1.15].map(Math.log);
  const [y0, y1] = [Math.floor(Math.min(...ys) - 1), Math.ceil(Math.max(...ys) + 1)];
  const px = (x) => left + ((Math.log(x) - x0) / (x1 - x0)) * (width - left - right);
  const py = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);

  const label = `${figure} AP, published, in percent`;
  const cost = lower ? "GFLOPs, logarithmic: cheaper to the left" : "images per second, logarithmic: faster to the right";
  const parts = [];
  const step = [1, 2, 5, 10].find((s) => (y1 - y0) / s <= 9) ?? 20;
  for (let y = Math.ceil(y0 / step) * step; y <= y1; y += step) {
    parts.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: py(y), y2: py(y) }));
    parts.push(svg("text", { x: left - 8, y: py(y) + 4, "text-anchor": "end" }, String(y)));
  }
  let free = -Infinity;
  for (const tick of ticks(Math.exp(x0), Math.exp(x1))) {
    if (px(tick) < free) continue;
    free = px(tick) + 42;
    parts.push(svg("line", { class: "axis", x1: px(tick), x2: px(tick), y1: top, y2: height - bottom }));
    const words = tick.toLocaleString("en", { maximumSignificantDigits: 3 });
    parts.push(svg("text", { x: px(tick), y: height - bottom + 18, "text-anchor": "middle" }, words));
  }
  parts.push(svg("text", { x: width - right, y: height - 6, "text-anchor": "end" }, cost));
  parts.push(svg("text", { x: left + 4, y: top + 12 }, label));

  const best = front(given, lower);
  const line = best.map((p, i) => {
    const corner = i ? `H ${px(p.x)} V ${py(p.y)}` : `M ${px(p.x)} ${py(p.y)}`;
    return corner;
  });
  parts.push(svg("path", { class: "front", d: line.join(" ") }));
  points = given.sort((a, b) => a.x - b.x || a.y - b.y);
  for (const p of points) {
    const attributes = { class: `point ${p.row.className}${p.available ? "" : " none"}`, "data-name": p.row.dataset.name };
    const [cx, cy] = [px(p.x), py(p.y)];
    p.mark =
      p.row.dataset.masks === "1"
        ? svg("rect", { ...attributes, x: cx - radius, y: cy - radius, width: 2 * radius, height: 2 * radius })
        : svg("circle", { ...attributes, cx, cy, r: radius + 0.5 });
    [p.left, p.top] = [cx, cy];
    parts.push(p.mark);
  }
  if (!narrow) parts.push(...names(best, left, width));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "application", tabindex: 0 }, ...parts);
  const told = best.map((p) => `${p.row.dataset.name} (${p.row.dataset[figure]})`).join(", ");
  $("#said").textContent = `${points.length} entries are drawn. On the front, from the cheapest: ${told}.`;
  picture.setAttribute("aria-label", `${label} against ${cost}. Arrow keys go from entry to entry, Enter opens one.`);
  chart.replaceChildren(picture, tip);
}

// names of the front's entries, the most accurate first, beside their points where there is room
function names(best, left, right) {
  const taken = points.map((p) => ({ x: p.left - 7, y: p.top + 7, long: 14, high: 14 }));
  const shown = [];
  for (const p of [...best].sort((a, b) => b.y - a.y)) {
    const name = p.row.dataset.name.replace(/\.[^.]*$/, "");
    const [long, high] = [name.length * 7, 13];
    const places = [-8 - long, 8].flatMap((x) => [[p.left + x, p.top - 9], [p.left + x, p.top + 14]]).sort((a, b) => a[1] - b[1]);
    const meets = (x, y) => taken.some((o) => x < o.x + o.long && o.x < x + long && y - high < o.y && o.y - o.high < y);
    const free = places.find(([x, y]) => x > left && x + long < right && !meets(x, y));
    if (!free) continue;
    const [x, y] = free;
    taken.push({ x, y, long, high });
    const before = x < p.left;
    shown.push(svg("text", { class: "name", x: before ? x + long : x, y: y - 2, "text-anchor": before ? "end" : "start" }, name));
  }
  return shown;
}

function show(index) {
  points[current]?.mark.classList.remove("now");
  current = index;
  const p = points[current];
  tip.hidden = !p;
  if (!p) return;
  p.mark.classList.add("now");
  const { name, box, mask, flops } = p.row.dataset;
  const fps = speed(p.row);
  const figures = [`box AP ${box}`, mask && `mask AP ${mask}`, `${Math.round(flops / 1e9)} GFLOPs`, fps && `${fps.toFixed(1)} fps`];
  tip.replaceChildren(make("b", { textContent: name }), make("div", { textContent: figures.filter(Boolean).join(", ") }));
  const scale = $("svg", chart).clientWidth / $("svg", chart).viewBox.baseVal.width;
  const padding = Number.parseFloat(getComputedStyle(chart).paddingLeft);
  tip.style.left = `${Math.max(8, Math.min(p.left * scale + padding + 12, chart.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(8, p.top * scale - tip.offsetHeight - 4)}px`;
}

const go = (p) => {
  location.hash = p.row.dataset.name;
  openEntry();
};
const at = (event) => points.findIndex((p) => p.mark === event.target);
chart.addEventListener("pointerover", (event) => at(event) >= 0 && show(at(event)));
chart.addEventListener("pointerleave", () => show(-1));
chart.addEventListener("click", (event) => at(event) >= 0 && go(points[at(event)]));
chart.addEventListener("focusout", () => show(-1));
chart.addEventListener("keydown", (event) => {
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
  if (event.key in steps) {
    event.preventDefault();
    const next = current < 0 ? 0 : current + steps[event.key];
    show(Math.max(0, Math.min(points.length - 1, next)));
    tell(points[current]);
  } else if (event.key === "Enter" && points[current]) go(points[current]);
  else if (event.key === "Escape") show(-1);
});
function tell(p) {
  if (p) $("#said").textContent = tip.textContent;
}

$("#axis").addEventListener("change", draw);
$("#figure").addEventListener("change", draw);
document.addEventListener("chosen", draw);
addEventListener("resize", draw);
draw();
openEntry(); // once the chart has its height
