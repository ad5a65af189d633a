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
    byId(id).style.height = `${layout.height}px`; // plotly.js takes it from here when the window changes its width
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

  // Tables. What a table has is its rows; of a large one, columns of the record, of which only the first rows are shown.
  const cells = (row) => [...row.cells];
  const headings = (table) => cells(table.tHead.rows[0]);
  const numeric = (heading) => !heading.classList.contains("text");
  const raw = (value) => (value === null || value === undefined ? "" : String(value));
  const STEP = 50;
  const collator = new Intl.Collator("en");

  const large = new Map();
  const heldBy = (table) => {
    if (!large.has(table)) {
      const part = table.dataset.source.split(".").reduce((held, key) => held[key], JSON.parse(byId("record").textContent));
      const columns = headings(table).map((heading) => part[heading.dataset.key] ?? []);
      const total = Math.min(...Object.values(part).filter(Array.isArray).map((column) => column.length));
      const all = Array.from({ length: total }, (_, row) => row);
      large.set(table, { columns, all, order: all, shown: STEP });
    }
    return large.get(table);
  };

  const rounded = (value, scale) => {
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
    if (scale === 0 && Number.isInteger(value)) return value.toLocaleString("en-US");
    const found = Number((value / (scale || 1)).toPrecision(3));
    const size = Math.abs(found);
    if (size !== 0 && (size < 1e-4 || size >= 1e9)) return found.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
    return size >= 100 ? found.toLocaleString("en-US", { maximumFractionDigits: 0 }) : String(found);
  };

  const draw = (table, from = 0) => {
    const { columns, order, all, shown } = heldBy(table);
    const kinds = headings(table);
    const rows = order.slice(from, shown).map((row) => {
      const line = document.createElement("tr");
      columns.forEach((column, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (!i) cell.scope = "row";
        cell.dataset.value = raw(column[row]);
        if (numeric(kinds[i])) cell.textContent = rounded(column[row], Number(kinds[i].dataset.scale));
        else {
          if (i) cell.className = "text";
          const text = document.createElement("bdi");
          text.textContent = rounded(column[row], 1);
          cell.append(text);
        }
        line.append(cell);
      });
      return line;
    });
    const body = table.tBodies[0];
    if (from) body.append(...rows);
    else body.replaceChildren(...rows);
    const controls = table.parentElement.previousElementSibling;
    const of = order.length === all.length ? "" : ` of ${order.length.toLocaleString("en-US")} found`;
    controls.querySelector(".said").textContent = `${body.rows.length}${of} of ${all.length.toLocaleString("en-US")} rows shown`;
    controls.querySelector("button[data-do=more]").disabled = shown >= order.length;
  };

  const more = (table) => {
    const held = heldBy(table);
    const from = held.shown;
    held.shown += STEP;
    draw(table, from);
  };

  const filter = (table, wanted) => {
    const held = heldBy(table);
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = held.columns.filter((_, i) => !numeric(headings(table)[i]));
    const row = (index) => texts.map((column) => raw(column[index])).join("\n").toLowerCase();
    const kept = held.all.filter((index) => { const text = row(index); return words.every((word) => text.includes(word)); });
    held.order = held.compare ? kept.sort(held.compare) : kept;
    held.shown = STEP;
    draw(table);
  };

  const comparison = (isNumber, sign) => {
    const number = (text) => (text === "" ? NaN : Number(text));
    return isNumber
      ? (a, b) => {
          const [x, y] = [number(a), number(b)];
          return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y || 0); // what is no number stays last
        }
      : (a, b) => sign * collator.compare(a, b);
  };

  const sort = (heading) => {
    const table = heading.closest("table");
    const column = heading.cellIndex;
    const first = numeric(heading) ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    const compare = comparison(numeric(heading), order === "ascending" ? 1 : -1);
    if (table.dataset.source) {
      const held = heldBy(table);
      const texts = held.columns[column].map(raw);
      held.compare = (a, b) => compare(texts[a], texts[b]);
      held.order = [...held.order].sort(held.compare);
      draw(table);
    } else {
      const text = (row) => row.cells[column].dataset.value;
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => compare(text(a), text(b))));
    }
    headings(table).forEach((each) => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
  };

  // A text that a spreadsheet would run as a formula gets an apostrophe; numbers stay as they are.
  const inert = (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text);
  const body = (table) => {
    if (!table.dataset.source) return [...table.tBodies[0].rows].map((row) => cells(row).map((cell) => cell.dataset.value));
    const { columns, order } = heldBy(table);
    return order.map((row) => columns.map((column) => raw(column[row])));
  };
  const rows = (table) => [headings(table).map((heading) => heading.dataset.key), ...body(table).map((row) => row.map(inert))];
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
    more: (button) => more(byId(button.dataset.table)),
    copy: (button) => copy(button, tabs(byId(button.dataset.table))),
    "copy-text": (button) => copy(button, byId(button.dataset.text).textContent),
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    if (button) actions[button.dataset.do](button);
  });
  document.addEventListener("input", (event) => {
    if (event.target.dataset.filter) filter(byId(event.target.dataset.filter), event.target.value);
  });
})();
