"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const order = before === (numeric ? "descending" : "ascending") ? (numeric ? "ascending" : "descending") : (numeric ? "descending" : "ascending");
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [a.cells[column], b.cells[column]];
        if (!numeric) return sign * x.textContent.localeCompare(y.textContent, undefined, { numeric: true });
        if (x.dataset.value === "" || y.dataset.value === "") return (x.dataset.value === "") - (y.dataset.value === "");
        return sign * (Number(x.dataset.value) - Number(y.dataset.value));
      });
      body.append(...rows);
    });
  });
}
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
function cellText(cell) {
  const copyOf = cell.cloneNode(true);
  for (const small of copyOf.querySelectorAll("small")) small.replaceWith(` (${small.textContent})`);
  return copyOf.textContent.trim().replace(/\s+/g, " ");
}
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const rows = [...document.getElementById(button.dataset.table).rows];
    const text = rows.map((row) => [...row.cells].map(cellText).join("\t")).join("\n");
    button.textContent = (await copy(text)) ? "Copied" : "Could not copy";
    setTimeout(() => { button.textContent = label; }, 1600);
  });
}
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
