const DATA = JSON.parse(document.getElementById("data").textContent);
const figureOf = (name) => document.querySelector(`figure[data-chart="${name}"]`);
const chooser = document.getElementById("detector");
const chosen = () => (chooser ? Number(chooser.value) : -1);
const oods = DATA.series.map((one, k) => ({ ...one, place: k })).filter((one) => one.against !== null)
  .map((one, k) => ({ ...one, style: `s${k % 7}` }));
const WHOLE = 10000;

/* Tables: sort by a column, filter by text, by value or by group. */
function sortTable(table, column, button) {
  const header = button.parentElement;
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.classList.contains("n") ? NaN : cell.textContent.toLowerCase();
  };
  const rows = [...body.rows];
  const numeric = rows.some((row) => row.cells[column].classList.contains("n"));
  const before = header.getAttribute("aria-sort");
  const down = before ? before === "ascending" : numeric;
  const compare = (a, b) => {
    if (!numeric) return a < b ? -1 : a > b ? 1 : 0;
    return a - b;
  };
  const known = rows.filter((row) => !numeric || !Number.isNaN(key(row)));
  const rest = rows.filter((row) => numeric && Number.isNaN(key(row)));
  known.sort((a, b) => (down ? -1 : 1) * compare(key(a), key(b)));
  body.append(...known, ...rest);
  for (const one of table.querySelectorAll("th[aria-sort]")) one.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = header.firstElementChild;
    button.addEventListener("click", () => sortTable(table, column, button));
  });
}
for (const controls of document.querySelectorAll("[data-table]")) {
  const rows = [...document.getElementById(controls.dataset.table).tBodies[0].rows];
  const [search] = controls.getElementsByTagName("input");
  const shown = controls.querySelector("output");
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const names = row.textContent.toLowerCase();
      let keep = words.every((word) => names.includes(word));
      for (const one of controls.querySelectorAll("select")) keep &&= !one.value || row.dataset[one.dataset.key] === one.value;
      for (const one of controls.querySelectorAll("[type=checkbox]")) keep &&= !one.checked || Boolean(row.dataset[one.dataset.only]);
      row.hidden = !keep;
      count += keep;
    }
    shown.textContent = `${count} of ${rows.length} shown`;
  };
  controls.addEventListener("input", apply);
  apply();
}

/* ROC, scores and threshold of the chosen detector. */
const state = { threshold: 0, split: "" };
const visible = () => oods.filter((one) => !state.split || one.split === state.split);
const curve = () => DATA.curves[chosen()];

function drawRoc() {
  const own = curve();
  const detector = DATA.detectors[chosen()];
  const text = (one) => {
    const auroc = detector.rows[one.split]?.auroc;
    return `${one.split} (${one.role})${auroc === undefined || auroc === null ? "" : `, AUROC ${Number(auroc).toFixed(4)}`}`;
  };
  const name = `ROC of ${detector.title}: ${visible().map(text).join("; ")}`;
  const plot = frame({ name, size: [520, 440], x: { label: "share of ID flagged", low: 0, high: 1 }, y: { label: "share of OOD caught", low: 0, high: 1 } });
  plot.root.append(svg("path", { class: "rule", d: path([[plot.x(0), plot.y(0)], [plot.x(1), plot.y(1)]]) }));
  for (const one of visible()) {
    const [id, ood] = [own.flagged[one.against], own.flagged[one.place]];
    plot.root.append(svg("path", { class: `line ${one.style}`, "stroke-dasharray": DASHES[one.role], d: path(id.map((value, k) => [plot.x(value / WHOLE), plot.y(ood[k] / WHOLE)])) }));
    plot.root.append(svg("circle", { class: `dot ${one.style} chosen`, r: 5, cx: plot.x(id[state.threshold] / WHOLE), cy: plot.y(ood[state.threshold] / WHOLE) }));
  }
  place(figureOf("roc"), plot.root, legend(visible().map((one) => ({ name: text(one), style: one.style, dash: DASHES[one.role] }))),
    numbers(["threshold", "split", "ID flagged", "OOD caught"], () => visible().flatMap((one) => own.thresholds.map((value, k) =>
      [value, one.split, own.flagged[one.against][k] / WHOLE, own.flagged[one.place][k] / WHOLE]))));
}

function drawHistogram() {
  const own = curve();
  const [low, high] = own.range;
  const bins = own.counts[0].length;
  const ids = [...new Set(visible().map((one) => one.against))];
  const all = [...ids.map((k) => own.counts[k]), ...visible().map((one) => own.counts[one.place])];
  const top = 1.08 * Math.max(...all.map((counts) => Math.max(...counts.slice(1, -1)))) / WHOLE || 1;
  const plot = frame({ name: `Scores of ${DATA.detectors[chosen()].title} by split, as shares of rows per bin`, size: [520, 440],
    x: { label: "score (higher = more OOD)", low, high }, y: { label: "share of rows", low: 0, high: top } });
  const edge = (k) => plot.x(low + ((high - low) * k) / bins);
  const steps = (counts) => counts.flatMap((count, k) => {
    const y = plot.y(Math.min(count / WHOLE, top));
    return [[edge(k), y], [edge(k + 1), y]];
  });
  for (const k of ids) plot.root.append(svg("path", { class: "area", d: `${path([[edge(0), plot.y(0)], ...steps(own.counts[k]), [edge(bins), plot.y(0)]])}Z` }));
  for (const one of visible()) plot.root.append(svg("path", { class: `line ${one.style}`, "stroke-dasharray": DASHES[one.role], d: path(steps(own.counts[one.place])) }));
  const at = Math.max(low, Math.min(high, own.thresholds[state.threshold]));
  plot.root.append(svg("path", { class: "rule", d: path([[plot.x(at), plot.box.top], [plot.x(at), plot.box.bottom]]) }));
  place(figureOf("histogram"), plot.root,
    legend([{ name: `ID: ${ids.map((k) => DATA.series[k].split).join(", ")}`, fill: true }, ...visible().map((one) => ({ name: `${one.split} (${one.role})`, style: one.style, dash: DASHES[one.role] }))]),
    numbers(["from score", "split", "share of rows"], () => [...ids, ...visible().map((one) => one.place)].flatMap((k) =>
      own.counts[k].map((count, bin) => [low + ((high - low) * bin) / bins, `${DATA.series[k].split} (${DATA.series[k].role})`, count / WHOLE]))));
}

function drawThreshold(moved) {
  const own = curve();
  const slider = document.getElementById("threshold");
  slider.max = own.thresholds.length - 1;
  if (!moved) slider.value = state.threshold;
  const share = (k) => own.flagged[k][state.threshold] / WHOLE;
  const caught = oods.map((one) => `${one.split} ${percent(share(one.place))}`).join(", ");
  const kept = DATA.series.map((one, k) => [one, k]).filter(([one]) => one.against === null).map(([one, k]) => `${percent(1 - share(k))} of ${one.split}`).join(", ");
  const sentence = `threshold ${short(own.thresholds[state.threshold])}: ID kept: ${kept}; OOD caught: ${caught}`;
  slider.setAttribute("aria-valuetext", sentence);
  document.getElementById("threshold-text").textContent = sentence;
  const rows = DATA.detectors[chosen()].rows;
  const number = (value) => (value === undefined || value === null ? "—" : Number(value).toFixed(4));
  document.getElementById("threshold-rows").replaceChildren(...DATA.series.map((one, k) => html("tr", { "data-role": one.role },
    html("th", { scope: "row" }, one.split), html("td", {}, one.role),
    html("td", { class: "n" }, percent(1 - share(k))), html("td", { class: "n" }, percent(share(k))),
    html("td", { class: "n" }, one.against === null ? "" : number(rows[one.split]?.fpr95_id)),
    html("td", { class: "n" }, one.against === null ? "" : number(rows[one.split]?.fpr95_ood)))));
}

function drawCurves(moved) {
  drawRoc();
  drawHistogram();
  drawThreshold(moved);
}

function setUpCurves() {
  const select = html("select", { id: "ood" }, html("option", { value: "" }, "all"), ...oods.map((one) => html("option", { value: one.split }, one.split)));
  document.getElementById("curve-controls").append(html("label", {}, "OOD split ", select));
  select.addEventListener("input", () => { state.split = select.value; drawCurves(); });
  const slider = html("input", { type: "range", id: "threshold", min: 0, step: 1, "aria-label": "threshold" });
  slider.addEventListener("input", () => { state.threshold = Number(slider.value); drawCurves(true); });
  const go = (name, find) => {
    const button = html("button", { type: "button" }, name);
    button.addEventListener("click", () => { state.threshold = find(curve()); drawCurves(); });
    return button;
  };
  const heads = ["split", "role", "kept", "flagged", "FPR95-id", "FPR95-ood"].map((one) => html("th", { scope: "col" }, one));
  document.getElementById("threshold-panel").append(
    html("h3", {}, "Threshold"),
    html("div", { class: "controls" }, slider, go("keep 95% of ID", (own) => own.kept), ...oods.map((one, k) => go(`catch 95% of ${one.split}`, (own) => own.caught[k]))),
    html("p", { id: "threshold-text", "aria-live": "polite" }),
    html("div", { class: "wide" }, html("table", {}, html("caption", {}, "Shares of rows at this threshold; both FPR95 at their own"),
      html("thead", {}, html("tr", {}, ...heads)), html("tbody", { id: "threshold-rows" }))));
}

/* Points with bars, one for each detector. */
function scatter(name, figure, axes, points, columns) {
  const plot = frame({ name, ...axes });
  const items = points.map((one) => ({ ...one, x: plot.x(one.at[0]), y: plot.y(one.at[1]) })).sort((a, b) => a.x - b.x);
  for (const one of items) {
    for (const [k, ends] of Object.entries(one.ends || {})) {
      const [a, b] = ends.map(Number(k) ? plot.y : plot.x);
      plot.root.append(svg("path", { class: "bars id", d: Number(k) ? path([[one.x, a], [one.x, b]]) : path([[a, one.y], [b, one.y]]) }));
    }
  }
  for (const one of [...items].sort((a, b) => a.own - b.own)) {
    plot.root.append(shape(one.own ? "diamond" : "circle", one.x, one.y, one.own ? 6 : 4, { class: `dot ${one.own ? "s1 chosen" : "s0"}` }));
  }
  place(figure, plot.root, browse(plot.root, items), legend([{ name: "detector × layer", style: "s0", mark: "circle" }, { name: `shown: ${DATA.detectors[chosen()]?.title ?? "none"}`, style: "s1", mark: "diamond" }]),
    numbers(columns, () => items.map((one) => one.row)));
}

function around(values, floor, ceiling) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.04 * (high - low) || 0.02;
  return { low: Math.max(floor, low - margin), high: Math.min(ceiling, high + margin) };
}
const finite = (value) => typeof value === "number" && Number.isFinite(value);

function drawNearFar() {
  const figure = figureOf("near-far");
  if (!figure) return;
  const points = DATA.detectors.map((one, k) => ({ one, k })).filter(({ one }) => finite(one.averages.near?.[0]) && finite(one.averages.far?.[0])).map(({ one, k }) => {
    const { near, far } = one.averages;
    return { at: [near[0], far[0]], ends: { 0: near.slice(1).map((v, i) => (finite(v) ? v : near[0])), 1: far.slice(1).map((v) => (finite(v) ? v : far[0])) }, own: k === chosen(),
      text: `${one.title}: near ${near.map(short).join(", ")}; far ${far.map(short).join(", ")} (AUROC, low, high)`, row: [one.title, ...near, ...far] };
  });
  const axis = (k, label) => ({ label, ...around(points.flatMap((one) => [one.at[k], ...one.ends[k]]), -0.02, 1.02) });
  scatter(`AUROC of ${points.length} detectors on near against far OOD`, figure, { x: axis(0, "AUROC near"), y: axis(1, "AUROC far"), size: [640, 460] }, points,
    ["detector", "near", "low", "high", "far", "low", "high"]);
}

function drawCost() {
  const figure = figureOf("cost");
  if (!figure) return;
  const points = DATA.detectors.map((one, k) => ({ one, k })).filter(({ one }) => finite(one.cost.us_per_row) && one.cost.us_per_row > 0 && finite(one.quality)).map(({ one, k }) => ({
    at: [one.cost.us_per_row, one.quality], own: k === chosen(), row: [one.title, one.cost.us_per_row, one.cost.fit_seconds, one.quality],
    text: `${one.title}: ${short(one.cost.us_per_row)} µs per row, fitted in ${short(one.cost.fit_seconds)} s, mean AUROC ${short(one.quality)}` }));
  if (!points.length) return;
  const costs = points.map((one) => one.at[0]);
  const x = { label: "µs to score a row", log: true, low: 10 ** Math.floor(Math.log10(Math.min(...costs))), high: 10 ** Math.ceil(Math.log10(Math.max(...costs)) + 1e-6) };
  scatter(`Mean AUROC of ${points.length} detectors against the time to score a row`, figure, { x, y: { label: "mean AUROC", ...around(points.map((one) => one.at[1]), -0.02, 1.02) } }, points,
    ["detector", "µs per row", "fit s", "mean AUROC"]);
}

function drawConvergence() {
  const figure = figureOf("convergence");
  if (!figure) return;
  const lines = DATA.convergence;
  const every = lines.flatMap((one) => one.values.flat()).filter(finite);
  const passes = lines.flatMap((one) => one.passes);
  const names = [...new Set(lines.map((one) => one.title))];
  const plot = frame({ name: `AUROC against the number of passes for ${names.join(", ")}`, x: { label: "passes T", low: Math.min(...passes) - 0.5, high: Math.max(...passes) + 0.5 }, y: { label: "AUROC", ...around(every, -0.02, 1.02) } });
  const items = [];
  lines.forEach((one) => {
    const k = names.indexOf(one.title) % 7;
    const shift = 3 * (names.indexOf(one.title) - (names.length - 1) / 2);
    const at = one.passes.map((t, n) => [plot.x(t) + shift, plot.y(one.values[n][0])]);
    plot.root.append(svg("path", { class: `line s${k}`, "stroke-dasharray": DASHES[one.role], d: path(at) }));
    one.values.forEach(([value, low, high], n) => {
      plot.root.append(svg("path", { class: `bars s${k}`, d: path([[at[n][0], plot.y(low)], [at[n][0], plot.y(high)]]) }));
      plot.root.append(shape(SHAPES[k], ...at[n], 4, { class: `dot s${k}` }));
      items.push({ x: at[n][0], y: at[n][1], text: `${one.title}, ${one.role}, T = ${one.passes[n]}: ${short(value)} [${short(low)}, ${short(high)}]`, row: [one.title, one.role, one.passes[n], value, low, high] });
    });
  });
  place(figure, plot.root, browse(plot.root, items), legend([...names.map((name, k) => ({ name, style: `s${k % 7}`, mark: SHAPES[k % 7] })), { name: "near", style: "id", dash: DASHES.near }, { name: "far", style: "id" }]),
    numbers(["detector", "role", "T", "AUROC", "low", "high"], () => items.map((one) => one.row)));
}

function mix(value) { /* −1 orange, 0 nothing, 1 blue */
  return { style: `fill:var(${value < 0 ? "--s1" : "--heat"});fill-opacity:${Math.abs(value).toFixed(2)}` };
}

function drawCorrelation() {
  const figure = figureOf("correlation");
  if (!figure) return;
  const { order, percent: matrix } = DATA.correlation;
  const names = order.map((k) => DATA.detectors[k].title);
  const side = Math.max(7, Math.min(26, 560 / order.length));
  const lead = 190;
  const root = svg("svg", { viewBox: `0 0 ${lead + side * order.length + 4} ${side * order.length + 30}`, "aria-label": `Rank correlation of ${order.length} detectors` });
  const items = [];
  matrix.forEach((line, i) => {
    const label = names[i].length > 32 ? `${names[i].slice(0, 31)}…` : names[i];
    root.append(svg("text", { x: lead - 5, y: (i + 0.5) * side + 3, "text-anchor": "end", style: `font-size:${Math.min(11, side + 1)}px` }, label));
    line.forEach((value, j) => {
      root.append(svg("rect", { x: lead + j * side, y: i * side, width: side, height: side, ...mix(value / 100) }));
      items.push({ x: lead + (j + 0.5) * side, y: (i + 0.5) * side, text: `${names[i]} and ${names[j]}: ${(value / 100).toFixed(2)}` });
    });
  });
  const key = svg("g", { transform: `translate(${lead} ${side * order.length + 8})` });
  [-1, -0.5, 0, 0.5, 1].forEach((value, k) => key.append(svg("rect", { x: 46 * k, y: 0, width: 14, height: 14, class: "frame", ...mix(value) }), svg("text", { x: 46 * k + 17, y: 11 }, String(value))));
  root.append(key);
  place(figure, root, browse(root, items, order.length), numbers(["detector", "detector", "ρ"], () => matrix.flatMap((line, i) => line.flatMap((value, j) => (j > i ? [[names[i], names[j], value / 100]] : [])))));
}

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function viridis(share) {
  const at = Math.min(share, 0.9999) * 4;
  const [a, b] = [VIRIDIS[Math.floor(at)], VIRIDIS[Math.floor(at) + 1]];
  return `rgb(${a.map((value, k) => Math.round(value + (b[k] - value) * (at % 1))).join(",")})`;
}

function drawProjection() {
  const figure = figureOf("projection");
  if (!figure) return;
  const { splits, of, maps, percentiles } = DATA.projection;
  const map = maps[Number(document.getElementById("map").value)];
  const byScore = document.getElementById("colouring").value === "score" && percentiles[chosen()];
  const root = svg("svg", { viewBox: "-10 -10 1020 1020", role: "img", "aria-label": `${map.name} of ${of.length} rows of ${splits.map((one) => one.name).join(", ")}` });
  map.xy.forEach(([x, y], k) => root.append(shape(SHAPES[of[k] % 7], x, 1000 - y, 7, byScore
    ? { fill: viridis(percentiles[chosen()][k] / 100), stroke: "currentColor", "stroke-opacity": 0.4 }
    : { class: `dot ${splits[of[k]].role === "id" ? "id" : `s${of[k] % 7}`}`, "fill-opacity": 0.75 })));
  const tallest = Math.max(...map.xy.map(([, y]) => y));
  root.setAttribute("viewBox", `-12 ${1000 - tallest - 12} ${Math.max(...map.xy.map(([x]) => x)) + 24} ${tallest + 24}`);
  const entries = splits.map((one, k) => ({ name: `${one.name} (${one.role}, ${one.points})`, mark: SHAPES[k % 7], style: one.role === "id" || byScore ? "id" : `s${k % 7}` }));
  const ramp = html("p", { class: "note" }, byScore ? `Colour: score of ${DATA.detectors[chosen()].title}, from the lowest (violet) over the median (green) to the highest (yellow) of all rows.` : "Shapes and colours: splits.");
  place(figure, root, legend(entries), ramp, numbers(["split", "x", "y", ...(percentiles[chosen()] ? ["rows below its score, %"] : [])], () =>
    map.xy.map(([x, y], k) => [splits[of[k]].name, x, y, ...(percentiles[chosen()] ? [percentiles[chosen()][k]] : [])])));
}

function setUpProjection() {
  const colours = html("select", { id: "colouring" }, html("option", { value: "split" }, "split"), html("option", { value: "score" }, "score of the detector shown"));
  const map = html("select", { id: "map" }, ...DATA.projection.maps.map((one, k) => html("option", { value: k }, one.name)));
  document.getElementById("projection-controls").append(html("label", {}, "colour by ", colours), html("label", {}, "map ", map));
  for (const one of [colours, map]) one.addEventListener("input", drawProjection);
}

function drawReliability() {
  const figure = figureOf("reliability");
  if (!figure) return;
  const { rows, confidence, accuracy } = DATA.reliability;
  const plot = frame({ name: `Accuracy by confidence in ${rows.length} bins`, size: [520, 440], x: { label: "mean confidence of a bin", low: 0, high: 1 }, y: { label: "accuracy", low: 0, high: 1 } });
  plot.root.append(svg("path", { class: "rule", d: path([[plot.x(0), plot.y(0)], [plot.x(1), plot.y(1)]]) }));
  const items = rows.map((count, k) => ({ count, k })).filter(({ count }) => count).map(({ count, k }) => ({ x: plot.x(confidence[k]), y: plot.y(accuracy[k]), k,
    text: `${count} rows: confidence ${short(confidence[k])}, accuracy ${short(accuracy[k])}`, row: [`bin ${k + 1}`, count, confidence[k], accuracy[k]] }));
  const most = Math.max(...rows);
  for (const one of items) plot.root.append(shape("circle", one.x, one.y, 3 + 9 * Math.sqrt(rows[one.k] / most), { class: "dot s0", "fill-opacity": 0.8 }));
  place(figure, plot.root, browse(plot.root, items), legend([{ name: "a bin; its area grows with its rows", style: "s0", mark: "circle" }]), numbers(["bin", "rows", "confidence", "accuracy"], () => items.map((one) => one.row)));
}

function drawAll() {
  if (chosen() >= 0 && figureOf("roc")) {
    state.threshold = curve().kept;
    drawCurves();
  }
  drawNearFar();
  drawCost();
  drawProjection();
}
if (figureOf("roc")) setUpCurves();
if (DATA.projection) setUpProjection();
if (chooser) chooser.addEventListener("input", drawAll);
drawAll();
drawConvergence();
if (DATA.correlation) drawCorrelation();
drawReliability();

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "selected: press Ctrl+C";
    }
  });
}

/* On paper the sentences of the warnings are open; what the reader closed is closed again after. */
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("#warnings details:not([open])")];
  for (const one of closed) one.open = true;
});
addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
