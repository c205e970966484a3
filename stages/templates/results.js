"use strict";
// Everything here acts inside the page: nothing is sent, nothing is fetched. Text enters by textContent only.
const $ = (query, from = document) => from.querySelector(query), all = (query, from = document) => [...from.querySelectorAll(query)];
const root = document.documentElement;
root.classList.add("has-js");

$("#theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
$("#print").addEventListener("click", () => print());
let opened = [];
addEventListener("beforeprint", () => { opened = all("details:not([open])"); opened.forEach((each) => { each.open = true; }); });
addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
const seen = new IntersectionObserver((entries) => entries.filter((each) => each.isIntersecting).forEach((entry) => all(".rail a").forEach((link) =>
  link.classList.toggle("here", link.getAttribute("href") === "#" + entry.target.id))), { rootMargin: "-10% 0px -80% 0px" });
all("main section").forEach((section) => seen.observe(section));

// A link to a row's details opens them.
const open = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", open);
open();

// Which lines are shown: words, task, measured or not.
const lines = all("[data-line]"), tables = all("[data-task]");
const show = () => {
  const words = $("#find").value.toLowerCase().split(/\s+/).filter(Boolean), task = $("#task").value;
  const state = $("[data-state][aria-pressed=true]").dataset.state;
  let count = 0;
  tables.forEach((table) => {
    let some = 0;
    all("[data-line]", table).forEach((line) => {
      const text = line.textContent.toLowerCase();
      line.hidden = !(words.every((word) => text.includes(word)) && (state === "all" || line.dataset.line === state));
      some += line.hidden ? 0 : 1;
    });
    table.hidden = !some || (task !== "" && table.dataset.task !== task);
    count += table.hidden ? 0 : some;
  });
  $("#shown").textContent = count + " of " + lines.length + " lines";
};
$("#find").addEventListener("input", show);
$("#task").addEventListener("change", show);
all("[data-state]").forEach((chip) => chip.addEventListener("click", () => {
  all("[data-state]").forEach((other) => other.setAttribute("aria-pressed", String(other === chip)));
  show();
}));
show();

// Sorting by a column; lines without a value stay last either way.
all("th button.sort").forEach((button) => button.addEventListener("click", () => {
  const head = button.closest("th"), table = head.closest("table"), at = [...head.parentNode.children].indexOf(head);
  const falling = head.getAttribute("aria-sort") === "ascending";
  all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const value = (line) => { const cell = line.children[at]; return cell.dataset.sort ?? cell.textContent.trim(); };
  const body = table.tBodies[0];
  [...body.rows].map((line) => [value(line), line]).sort(([one], [other]) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    const way = falling ? -1 : 1, numbers = [Number(one), Number(other)];
    return way * (numbers.some(Number.isNaN) ? one.localeCompare(other) : numbers[0] - numbers[1]);
  }).forEach(([, line]) => body.append(line));
}));
