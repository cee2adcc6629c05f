"use strict";
const filter = document.getElementById("filter");
const groups = [...document.querySelectorAll("table.claims tbody")];
const rows = groups.flatMap((group) => [...group.querySelectorAll("tr[data-id]")]);

function wanted(row, form) {
  const words = form.get("words").toLowerCase().split(/\s+/).filter(Boolean);
  const has = (list, value) => !value || row.dataset[list].split(" ").includes(value);
  return words.every((word) => row.dataset.id.includes(word) || row.textContent.toLowerCase().includes(word))
    && has("topic", form.get("topic")) && has("results", form.get("result"))
    && has("documents", form.get("document")) && has("verdict", form.get("verdict"));
}

function apply() {
  const form = new FormData(filter);
  for (const row of rows) row.hidden = !wanted(row, form);
  for (const group of groups) group.hidden = [...group.querySelectorAll("tr[data-id]")].every((row) => row.hidden);
  const shown = rows.filter((row) => !row.hidden).length;
  document.getElementById("count").textContent = `${shown} of ${rows.length} claims`;
}

function open(button) {
  const dialog = document.getElementById("seen");
  const body = document.getElementById("seen-body");
  const parts = [button.dataset.seen, button.dataset.rows].map((id) => document.getElementById(id)).filter(Boolean);
  body.replaceChildren(...parts.map((part) => part.content.cloneNode(true)));
  document.getElementById("seen-title").textContent = button.dataset.title;
  dialog.showModal();
  dialog.scrollTop = 0;
}

filter.hidden = false;
filter.addEventListener("input", apply);
filter.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("reset", () => setTimeout(apply));
document.querySelector("table.claims").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-seen]");
  if (button) open(button);
});
apply();
