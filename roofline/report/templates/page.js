"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // Figures. Text and grid colours are the style sheet's, so light, dark and paper need no redrawing.
  const figures = JSON.parse(byId("figures").textContent);
  const drawn = Object.keys(figures).filter(byId);
  const touch = matchMedia("(pointer: coarse)").matches;
  for (const id of drawn) {
    const { data, layout } = figures[id];
    if (touch) layout.dragmode = false; // a finger on the plot scrolls the page
    Plotly.newPlot(id, data, layout, {
      responsive: true,
      displaylogo: false,
      // Named one by one: left to itself, plotly.js adds a button that uploads the data.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      displayModeBar: layout.dragmode === false ? false : "hover",
    });
  }
  const paper = (width) => drawn.forEach((id) => Plotly.relayout(id, { width, autosize: width === null }));
  addEventListener("beforeprint", () => paper(660)); // A4 within its margins
  addEventListener("afterprint", () => paper(null));

  // Tables.
  const cells = (row) => [...row.cells];
  const value = (cell) => cell.dataset.value;
  const numeric = (heading) => !heading.classList.contains("text");

  const sort = (heading) => {
    const table = heading.closest("table");
    const column = heading.cellIndex;
    const first = numeric(heading) ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const number = (row) => { const text = value(row.cells[column]); return text === "" ? NaN : Number(text); };
    const compare = numeric(heading)
      ? (a, b) => {
          const [x, y] = [number(a), number(b)];
          return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y || 0); // what is no number stays last
        }
      : (a, b) => sign * value(a.cells[column]).localeCompare(value(b.cells[column]), "en");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    cells(table.tHead.rows[0]).forEach((each) => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
  };

  // A text that a spreadsheet would run as a formula gets an apostrophe; numbers stay as they are.
  const inert = (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text);
  const rows = (table) => [
    cells(table.tHead.rows[0]).map((heading) => heading.dataset.key),
    ...[...table.tBodies[0].rows].map((row) => cells(row).map((cell) => inert(value(cell)))),
  ];
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = (table) => rows(table).map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  const tabs = (table) => rows(table).map((row) => row.map((text) => text.replace(/\s/g, " ")).join("\t")).join("\n");

  const download = (name, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const copy = async (button, text) => {
    const said = button.parentElement.querySelector(".said");
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "copied";
    } catch {
      said.textContent = "the browser refused: select the text instead";
    }
    setTimeout(() => { said.textContent = ""; }, 4000);
  };

  const actions = {
    sort: (button) => sort(button.closest("th")),
    csv: (button) => download(`${button.dataset.table}.csv`, csv(byId(button.dataset.table))),
    copy: (button) => copy(button, tabs(byId(button.dataset.table))),
    "copy-text": (button) => copy(button, byId(button.dataset.text).textContent),
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    if (button) actions[button.dataset.do](button);
  });
})();
