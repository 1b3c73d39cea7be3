// Draws the charts with Vega: those in sight at once, the others when nothing else is to be done.
// What is told of a point under the pointer stands in the tables, too, which are made when opened.
(() => {
  "use strict";
  const root = document.documentElement;
  const utc = root.dataset.utc === "true";

  // -- light and dark ----------------------------------------------------------------------
  const keep = (theme) => {
    try {
      if (theme === undefined) return localStorage.getItem("calibration-ledger-theme");
      localStorage.setItem("calibration-ledger-theme", theme);
    } catch { /* a file may have no storage: then the choice lasts as long as the page */ }
    return null;
  };
  const choose = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };
  for (const input of document.querySelectorAll("fieldset input")) {
    if (input.value === keep()) { input.checked = true; choose(input.value); }
    input.addEventListener("change", () => { choose(input.value); keep(input.value); });
  }

  // -- what the page carries ---------------------------------------------------------------
  const unpack = async (id) => {
    const packed = atob(document.getElementById(id).textContent);
    const bytes = new Uint8Array(packed.length);
    // Not Uint8Array.from(packed, ...): it took longer than to unpack the program, and to run it.
    for (let at = 0; at < packed.length; at += 1) bytes[at] = packed.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const once = (make) => {
    const made = new Map();
    return (id) => {
      if (!made.has(id)) made.set(id, make(id));
      return made.get(id);
    };
  };
  const charts = once(async (id) => JSON.parse(await unpack(id)));
  const program = once(async (id) => {
    const script = document.createElement("script");
    script.textContent = await unpack(id);
    document.head.append(script);
    return window.vegaEmbed;
  });
  const panelOf = async (plot) => (await charts(plot.dataset.charts))[plot.dataset.panel];
  const rowsOf = (columns) => {
    const names = Object.keys(columns);
    return columns[names[0]].map((_, at) => Object.fromEntries(names.map((name) => [name, columns[name][at]])));
  };

  // -- charts ------------------------------------------------------------------------------
  const waiting = new Set(document.querySelectorAll(".plot"));
  const draw = async (plot) => {
    waiting.delete(plot);
    try {
      const [embed, panel] = await Promise.all([program("program"), panelOf(plot)]);
      const spec = structuredClone(panel.spec);
      spec.datasets = Object.fromEntries(
        Object.entries(panel.datasets).map(([name, columns]) => [name, rowsOf(columns)]));
      const width = plot.clientWidth - 60;
      spec.config.legend.columns = Math.max(1, Math.floor(width / spec.usermeta.legend_px));
      spec.config.legend.labelLimit = width - 40;
      await embed(plot, spec, {
        renderer: "svg", actions: false, defaultStyle: false, mode: "vega-lite",
        tooltip: { disableDefaultStyle: true },
      });
      plot.dataset.drawn = "true";
    } catch (error) {
      plot.textContent = "This chart could not be drawn. Its numbers are in the table below.";
      console.error(error);
    }
    if (!document.querySelector(".plot:not([data-drawn])")) root.dataset.drawn = "true";
  };
  const isShown = (plot) => plot.offsetParent !== null;
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      if (waiting.has(target)) draw(target);
    }
  }, { rootMargin: "200px" });
  waiting.forEach((plot) => seen.observe(plot));

  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 30));
  const drawNext = async () => {
    const next = [...waiting].find(isShown);
    if (next === undefined) return;
    await draw(next);
    idle(drawNext);
  };
  addEventListener("load", () => idle(drawNext));
  for (const model of document.querySelectorAll("details.model")) {
    model.addEventListener("toggle", () => idle(drawNext));
  }

  // -- sections ----------------------------------------------------------------------------
  const openAll = (open) => document.querySelectorAll("details.model").forEach((one) => { one.open = open; });
  const openNamed = () => {
    const named = document.getElementById(location.hash.slice(1));
    const model = named?.querySelector("details.model");
    if (model) model.open = true;
  };
  addEventListener("hashchange", openNamed);
  openNamed();
  document.getElementById("open-all")?.addEventListener("click", () => openAll(true));
  document.getElementById("close-all")?.addEventListener("click", () => openAll(false));
  addEventListener("beforeprint", () => {
    openAll(true);
    waiting.forEach(draw);
  });

  // -- tables of numbers -------------------------------------------------------------------
  const two = (number) => String(number).padStart(2, "0");
  const timeOf = (ms) => {
    const at = new Date(ms);
    if (utc) return at.toISOString().slice(0, 16).replace("T", " ");
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
  };
  const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const told = (value, scale) => {
    if (value === undefined || value === null) return "-";
    return scale === "time" ? timeOf(value) : scale === "names" ? String(value) : plain.format(value);
  };
  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const tableOf = ({ name, data, columns }, datasets) => {
    const table = element("table", "");
    table.append(element("caption", name));
    const head = table.createTHead().insertRow();
    for (const [, title, scale] of columns) {
      head.append(element("th", title, { scope: "col", class: scale === "names" ? "words" : "" }));
    }
    const body = table.createTBody();
    for (const row of rowsOf(datasets[data])) {
      const line = body.insertRow();
      columns.forEach(([key, , scale], at) => {
        const words = scale === "names" ? { class: "words long" } : {};
        line.append(element(at ? "td" : "th", told(row[key], scale), at ? words : { scope: "row" }));
      });
    }
    return table;
  };
  for (const details of document.querySelectorAll("figure details.numbers")) {
    details.addEventListener("toggle", async () => {
      const place = details.querySelector(".scroll");
      if (!details.open || place.childElementCount) return;
      for (const plot of details.closest("figure").querySelectorAll(".plot")) {
        const panel = await panelOf(plot);
        place.append(...panel.tables.map((one) => tableOf(one, panel.datasets)));
      }
    });
  }
})();
