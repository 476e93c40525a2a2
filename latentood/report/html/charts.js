"use strict";
const SVG = "http://www.w3.org/2000/svg";

/* Elements: children that are texts become text nodes, so that no name is ever taken for HTML. */
function build(space, name, attributes, children) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}
const html = (name, attributes, ...children) => build(null, name, attributes, children);
const svg = (name, attributes, ...children) => build(SVG, name, attributes, children);

const percent = (share) => (100 * share).toFixed(1) + "%";
const short = (value) => (value === null || value === undefined || Number.isNaN(value) ? "—" : String(Number(value.toPrecision(4))));

function ticksOf(low, high, log) {
  if (log) {
    const ticks = [];
    for (let e = Math.ceil(Math.log10(low) - 1e-9); e <= Math.log10(high) + 1e-9; e += 1) ticks.push(10 ** e);
    return ticks;
  }
  const raw = (high - low) / 7;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = base * [1, 2, 5, 10].find((one) => base * one >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) ticks.push(Number((k * step).toPrecision(12)));
  return ticks;
}

/* An empty chart with axes. Each axis: {label, low, high, log}. */
function frame(spec) {
  const [width, height] = spec.size || [640, 400];
  const box = { left: spec.left || 62, right: width - 14, top: spec.top || 12, bottom: height - (spec.foot || 46) };
  const scale = (axis, from, to) => (value) => {
    const at = axis.log ? Math.log(value / axis.low) / Math.log(axis.high / axis.low) : (value - axis.low) / (axis.high - axis.low);
    return from + (to - from) * at;
  };
  const x = scale(spec.x, box.left, box.right);
  const y = scale(spec.y, box.bottom, box.top);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.name });
  const axes = svg("g", { class: "axis", "aria-hidden": "true" });
  root.append(axes);
  for (const tick of spec.x.ticks || ticksOf(spec.x.low, spec.x.high, spec.x.log)) {
    axes.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }));
    axes.append(svg("text", { x: x(tick), y: box.bottom + 16, "text-anchor": "middle" }, short(tick)));
  }
  for (const tick of spec.y.ticks || ticksOf(spec.y.low, spec.y.high, spec.y.log)) {
    axes.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
    axes.append(svg("text", { x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  axes.append(svg("rect", { class: "frame", x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }));
  axes.append(svg("text", { x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, spec.x.label));
  const middle = (box.top + box.bottom) / 2;
  axes.append(svg("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, spec.y.label));
  return { root, x, y, box };
}

const DASHES = { near: "6 3", far: null, mixed: "2 3", id: null };
const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "down", "plus"];

function shape(kind, x, y, r, attributes) {
  const points = {
    square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    triangle: [[0, -1.25], [1.1, 0.9], [-1.1, 0.9]],
    down: [[0, 1.25], [1.1, -0.9], [-1.1, -0.9]],
    diamond: [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
    plus: [[-0.45, -1.2], [0.45, -1.2], [0.45, -0.45], [1.2, -0.45], [1.2, 0.45], [0.45, 0.45], [0.45, 1.2], [-0.45, 1.2], [-0.45, 0.45], [-1.2, 0.45], [-1.2, -0.45], [-0.45, -0.45]],
    cross: [[-1.2, -0.6], [-0.6, -1.2], [0, -0.6], [0.6, -1.2], [1.2, -0.6], [0.6, 0], [1.2, 0.6], [0.6, 1.2], [0, 0.6], [-0.6, 1.2], [-1.2, 0.6], [-0.6, 0]],
  }[kind];
  if (!points) return svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r, ...attributes });
  return svg("polygon", { points: points.map(([a, b]) => `${(x + r * a).toFixed(1)},${(y + r * b).toFixed(1)}`).join(" "), ...attributes });
}

const path = (points) => points.map(([a, b], k) => `${k ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");

function legend(entries) {
  return html("ul", { class: "legend" }, ...entries.map(({ name, style, dash, mark, fill }) => html("li", {},
    svg("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" },
      mark ? shape(mark, 13, 6, 4.5, { class: `dot ${style}` })
        : fill ? svg("rect", { x: 1, y: 1, width: 24, height: 10, class: "area" })
          : svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, class: `line ${style}`, "stroke-dasharray": dash })),
    name)));
}

/* The numbers of a chart as a table, built when it is opened. */
function numbers(columns, rows) {
  const details = html("details", {}, html("summary", {}, "numbers of this chart"));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const head = html("thead", {}, html("tr", {}, ...columns.map((one) => html("th", { scope: "col" }, one))));
    const lines = rows().map((row) => html("tr", {}, ...row.map((one, k) => html(k ? "td" : "th", k ? {} : { scope: "row" }, typeof one === "number" ? short(one) : String(one ?? "—")))));
    details.append(html("div", { class: "tall", tabindex: 0 }, html("table", {}, head, html("tbody", {}, ...lines))));
  });
  return details;
}

/* Put a chart into its figure, instead of an earlier one; an open table of numbers stays open. */
function place(figure, ...parts) {
  const open = figure.querySelector("details")?.open;
  const caption = figure.querySelector("figcaption");
  figure.replaceChildren(caption, ...parts);
  const details = figure.querySelector("details");
  if (open && details) details.open = true;
}

/* Let keys and the pointer walk through items [{x, y, text}]; `columns` makes rows of them. */
function browse(root, items, columns) {
  const readout = html("p", { class: "readout", "aria-live": "polite" });
  const ring = svg("circle", { class: "ring", r: 8, visibility: "hidden" });
  root.append(ring);
  root.setAttribute("tabindex", "0");
  root.setAttribute("role", "group");
  root.setAttribute("aria-roledescription", "chart; arrow keys walk through it");
  let at = -1;
  const show = (place) => {
    at = Math.max(0, Math.min(items.length - 1, place));
    ring.setAttribute("cx", items[at].x);
    ring.setAttribute("cy", items[at].y);
    ring.setAttribute("visibility", "visible");
    readout.textContent = items[at].text;
  };
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns || -1, ArrowUp: columns ? -columns : 1 };
  root.addEventListener("keydown", (event) => {
    if (event.key in steps) show(at < 0 ? 0 : at + steps[event.key]);
    else if (event.key === "Home") show(0);
    else if (event.key === "End") show(items.length - 1);
    else return;
    event.preventDefault();
  });
  root.addEventListener("pointermove", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(root.getScreenCTM().inverse());
    let best = -1;
    let nearest = 400;
    items.forEach((one, k) => {
      const distance = (one.x - point.x) ** 2 + (one.y - point.y) ** 2;
      if (distance < nearest) [best, nearest] = [k, distance];
    });
    if (best >= 0) show(best);
  });
  return readout;
}
