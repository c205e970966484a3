"use strict";
// Everything here acts inside the page: nothing is sent, nothing is fetched. Text enters by textContent only.
const $ = (query, root = document) => root.querySelector(query), all = (query, root = document) => [...root.querySelectorAll(query)];
const data = JSON.parse($("#data").textContent), root = document.documentElement;
root.classList.add("has-js");
const full = new Intl.NumberFormat("en"), percent = (part, whole) => whole ? (100 * part / whole).toFixed(1) + " %" : "–";
const signed = (value, digits = 1) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits) + " %";
const change = (rows) => (rows < 0 ? "−" : rows > 0 ? "+" : "") + full.format(Math.abs(rows));
const far = (value) => value >= 1 ? (1 + value).toFixed(1) + " times" : signed(100 * value);
const plain = (value) => String(value).replace("-", "−");
const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : "'" + text.replaceAll("'", `'"'"'`) + "'";
const copy = (text) => navigator.clipboard?.writeText(text).catch(() => {});

// Theme, print, copy, rail.
$("#theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
$("#print").addEventListener("click", () => print());
$("#copy-link").addEventListener("click", () => copy(location.href));
all("[data-copy]").forEach((button) => button.addEventListener("click", () => copy($("#" + button.dataset.copy).textContent)));
let opened = [];
addEventListener("beforeprint", () => { opened = all("details:not([open])"); opened.forEach((each) => { each.open = true; }); });
addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
const seen = new IntersectionObserver((entries) => entries.filter((each) => each.isIntersecting).forEach((entry) => all(".rail a").forEach((link) =>
  link.classList.toggle("here", link.getAttribute("href") === "#" + entry.target.id))), { rootMargin: "-10% 0px -80% 0px" });
all("main section").forEach((section) => seen.observe(section));

// Chips restrict the table of rules to one source or language.
all("[data-group]").forEach((chip) => chip.addEventListener("click", () => {
  all("[data-group]").forEach((other) => other.setAttribute("aria-pressed", String(other === chip)));
  const [rows, counts] = data.groups[Number(chip.dataset.group)];
  all("[data-rule-row]").forEach((row) => {
    const [total, alone, first] = counts[Number(row.dataset.ruleRow)];
    const fine = (part) => rows ? (100 * part / rows).toFixed(part / rows < 0.1 ? 2 : 1) + " %" : "–";
    [total, alone, first].forEach((part, at) => { const cell = row.querySelectorAll("[data-count]")[at]; cell.textContent = fine(part); cell.title = full.format(part); });
    $("[data-overlap]", row).textContent = total ? percent(total - alone, total) : "–";
  });
  $("#rule-rows").textContent = full.format(rows);
}));

// What if: rows by stops passed, counted anew for every setting.
const sources = data.whatIf.sources.map((source) => {
  const groups = source.groups.map((group) => {
    const words = group.cells ? group.cells.split(" ") : [];
    const rows = [], digits = [];
    for (let at = 0; at < words.length; at += 2) { digits.push([...words[at]].map((digit) => parseInt(digit, 36))); rows.push(Number(words[at + 1])); }
    return { rows, digits };
  });
  return { ...source, groups, now: source.rules.map((rule) => rule.now), stops: source.rules.map((rule) => rule.now) };
});
const byGroup = (source, stops) => source.groups.map(({ rows, digits }) => rows.reduce((sum, count, at) =>
  digits[at].every((digit, rule) => digit > stops[rule]) ? sum + count : sum, 0));
const kept = (source, stops) => byGroup(source, stops).reduce((one, other) => one + other, 0);
// Rows that every other rule keeps, by how many of this rule's stops they pass: what its slider alone decides.
const decided = (source, stops, rule) => {
  const bars = new Array(source.rules[rule].stops.length + 1).fill(0);
  source.groups.forEach(({ rows, digits }) => rows.forEach((count, at) => {
    if (digits[at].every((digit, other) => other === rule || digit > stops[other])) bars[digits[at][rule]] += count;
  }));
  return bars;
};
let shown = 0, everywhere = false;
const svg = (name, attributes) => { const made = document.createElementNS("http://www.w3.org/2000/svg", name); Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value)); return made; };
function draw(slider, source, rule) {
  const bars = decided(source, source.stops, rule), most = Math.sqrt(Math.max(...bars.slice(1), 1)), slots = bars.length - 1, chart = $("svg", slider);
  const upright = (stop, kind) => svg("line", { class: kind, x1: stop / slots * 320, x2: stop / slots * 320, y1: 0, y2: 34 });
  chart.replaceChildren(...bars.slice(1).map((count, at) => { const tall = 32 * Math.sqrt(count) / most;
    return svg("rect", { class: at < source.stops[rule] ? "lost" : "kept", x: at / slots * 320, width: 320 / slots - 1.5, y: 34 - tall, height: tall }); }),
  ...(source.stops[rule] === source.now[rule] ? [] : [upright(source.now[rule], "now")]), upright(source.stops[rule], "threshold"));
}
function result(source, index) {
  const rows = kept(source, source.stops), now = kept(source, source.now), line = $(`[data-result="${index}"]`), distance = rows / source.judged / source.paper - 1;
  $("[data-then]", line).textContent = percent(rows, source.judged);
  const pill = $(".pill", line), good = source.paper && Math.abs(distance) <= data.whatIf.band;
  if (source.paper) { pill.textContent = (good ? "✓ " : "✕ ") + far(distance); pill.className = "pill " + (good ? "ok" : "alarm"); }
  line.classList.toggle("here", index === shown);
  return { rows, now, good, was: source.paper && Math.abs(now / source.judged / source.paper - 1) <= data.whatIf.band };
}
function update() {
  const found = sources.map(result), source = sources[shown], { rows, now } = found[shown], aimed = sources.filter((each) => each.paper).length;
  const moved = source.rules.map((rule, at) => at).filter((at) => source.stops[at] !== source.now[at]);
  const alone = moved.map((at) => kept(source, source.now.map((stop, other) => other === at ? source.stops[at] : stop)) - now);
  const lines = [["Kept", full.format(now) + " → " + full.format(rows)], [rows < now ? "Newly dropped" : "Newly kept", change(rows - now)],
    ...moved.map((at, index) => [source.rules[at].name + " by itself", change(alone[index])]),
    ...(moved.length > 1 ? [["Only together", change(rows - now - alone.reduce((one, other) => one + other, 0))]] : []),
    ...(aimed ? [["On target", found.filter((each) => each.was).length + " → " + found.filter((each) => each.good).length + " of " + aimed]] : [])];
  $("#changes").replaceChildren(...lines.map((cells) => { const row = document.createElement("tr"); cells.forEach((text, at) => { const cell = document.createElement(at ? "td" : "th");
    cell.textContent = text; if (at) cell.className = "n"; else cell.scope = "row"; row.append(cell); }); return row; }));
  $("#kept-rows").textContent = String(rows);
  all(`[data-sliders="${shown}"] .slider`).forEach((slider) => { const rule = Number(slider.dataset.rule), { stops, sign, unit, atLeast } = source.rules[rule], stop = source.stops[rule], was = source.now[rule], input = $("input", slider);
    input.value = stop; input.setAttribute("aria-valuetext", `${atLeast ? "at least" : "at most"} ${stops[stop]} ${unit}`);
    slider.classList.toggle("moved", stop !== was);
    $("output", slider).textContent = stop === was ? `${sign} ${plain(stops[was])}` : `${sign} ${plain(stops[was])} → ${plain(stops[stop])}`; draw(slider, source, rule); });
  all("[data-changing]").forEach((list) => { const [at, rule, way] = list.dataset.changing.split(" "), by = source.stops[rule] - source.now[rule];
    list.hidden = Number(at) !== shown || !(way === "stricter" ? by > 0 : by < 0); });
  byGroup(source, source.stops).forEach((count, group) => { const cell = $(`[data-language="${shown} ${group}"]`); if (cell) cell.textContent = full.format(count); });
  const sets = moved.map((at) => `${source.rules[at].path}=${source.rules[at].stops[source.stops[at]]}`), aimedAt = everywhere ? sources : [source], paths = new Set(moved.map((at) => source.rules[at].path));
  // One call for all sources that start from the same and differ in the same already.
  const calls = !aimedAt.every((each) => each.apply) ? [] : [...new Set(aimedAt.map((each) => JSON.stringify(each.apply)))].map((start) => aimedAt.filter((each) => JSON.stringify(each.apply) === start)).map((some) => ({ stage: "filter", recipe: some[0].apply.recipe, sources: some.map((each) => each.id),
    changes: [...some[0].apply.standing.filter((set) => !paths.has(set.split("=", 1)[0])), ...sets], version: some[0].apply.version, new_version: data.whatIf.version }));
  $("#command").textContent = !moved.length ? "No threshold moved." : !calls.length ? sets.join("\n") : calls.map(({ recipe, sources: ids, changes, version, new_version }) => ["internvl rerun filter", "--recipe " + recipe, ...(version === recipe ? [] : ["--version " + version]),
    ...ids.map((id) => "--source " + id), ...changes.map((set) => "--set " + quoted(set)), "--new-version " + new_version].join(" \\\n  ")).join("\n");
  $("#form").textContent = moved.length ? calls.map((call) => JSON.stringify(call, null, 1)).join("\n") : "";
  const state = moved.map((at) => `${source.rules[at].name}=${source.stops[at]}`);
  clearTimeout(update.later);
  update.later = setTimeout(() => { $("#live").textContent = `${percent(rows, source.judged)} kept`;
    if (state.length || location.hash.startsWith("#w=")) history.replaceState(null, "", state.length ? `#w=${[everywhere ? "all" : source.id, ...state].join(";")}` : "#what-if"); }, 300);
}
function show(index, whole) {
  shown = index; everywhere = whole;
  all("[data-sliders]").forEach((block) => { block.hidden = Number(block.dataset.sliders) !== shown; });
  all("[data-scope]").forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.scope === (whole ? "all" : String(index)))));
}
function move(rule, stop) { (everywhere ? sources : [sources[shown]]).forEach((source) => { source.stops[rule] = stop; }); update(); }
const reset = () => sources.forEach((source) => { source.stops = [...source.now]; });
// The address holds a proposal; only names and stops that this page knows are taken from it.
function fromAddress() {
  const [scope, ...moves] = location.hash.startsWith("#w=") ? location.hash.slice(3).split(";").slice(0, 40) : [];
  const index = scope === "all" && $('[data-scope="all"]') ? 0 : sources.findIndex((source) => source.id === scope);
  if (index < 0 || !scope) return;
  reset(); show(index, scope === "all");
  moves.forEach((text) => { const found = /^([a-z0-9_]{1,80})=([0-9]{1,2})$/.exec(text), rule = found ? sources[index].rules.findIndex((each) => each.name === found[1]) : -1;
    if (rule >= 0 && Number(found[2]) < sources[index].rules[rule].stops.length) (everywhere ? sources : [sources[index]]).forEach((source) => { source.stops[rule] = Number(found[2]); }); });
  update(); $("#what-if").scrollIntoView();
}
if (sources.length) {
  all("[data-scope]").forEach((chip) => chip.addEventListener("click", () => { reset(); show(chip.dataset.scope === "all" ? 0 : Number(chip.dataset.scope), chip.dataset.scope === "all"); update(); }));
  all(".slider input").forEach((input) => input.addEventListener("input", () => move(Number(input.closest(".slider").dataset.rule), Number(input.value))));
  $("#reset").addEventListener("click", () => { reset(); update(); });
  show(0, false); update(); fromAddress(); addEventListener("hashchange", fromAddress);
}

// Answers stay in this browser; a file of them can be saved and handed to `internvl report --reviews`.
const place = "internvl-reviews-" + data.artifact;
let answers = {};
try { answers = JSON.parse(localStorage.getItem(place) || "{}"); } catch { answers = {}; }
function tell() {
  all(".answers").forEach((row) => { const given = answers[row.dataset.rule + " " + row.dataset.uid]; all("button", row).forEach((button) => button.setAttribute("aria-pressed", String(given?.agree === (button.value === "agree")))); });
  all("[data-answers]").forEach((each) => { each.textContent = String(Object.keys(answers).length); });
}
all(".answers button").forEach((button) => button.addEventListener("click", () => {
  const { rule, uid, source, language, kept: was } = button.parentElement.dataset;
  answers[rule + " " + uid] = { source, rule, uid, language, kept: was === "true", agree: button.value === "agree" };
  try { localStorage.setItem(place, JSON.stringify(answers)); } catch { /* A page opened from a file may have no storage: answers last as long as the page. */ }
  tell();
}));
$("#export")?.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([Object.values(answers).map((each) => JSON.stringify(each) + "\n").join("")], { type: "application/jsonl" }));
  link.download = "reviews.jsonl"; link.click(); URL.revokeObjectURL(link.href);
});
tell();
