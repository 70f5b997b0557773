"use strict";
// Filters the rows of a page and draws those that are looked at. All texts become text nodes, never markup.
(() => {
  const FIRST = window.innerWidth < 600 ? 4 : 8, MORE = 24, EXACT_SIDE_PX = 128;
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("rows").textContent);
  const at = (id) => document.getElementById(id);
  const found = { group: at("by-group"), label: at("by-label"), size: at("by-size"), text: at("by-text") };

  function make(name, attributes, ...children) {
    const svg = ["svg", "g", "image", "rect", "path", "text", "title"].includes(name);
    const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  function mark([x, y, width, height, label], kind, name, [imageWidth, imageHeight]) {
    const shape = width || height ? { x, y, width, height } : { d: `M${x} ${y}h0` };
    const tag = shape.d ? "path" : "rect", dot = shape.d ? " dot" : "";
    const group = make("g", { class: `box ${kind}` }, make("title", {}, label ? `${name}: ${label}` : name));
    for (const part of ["halo", "edge"]) group.append(make(tag, { class: part + dot, ...shape }));
    if (label) {
      const size = Math.max(imageWidth, imageHeight) / 20, bottom = y + height;
      const above = y > size ? y - size * 0.4 : y + size;
      const below = bottom + size < imageHeight ? bottom + size : bottom - size * 0.4;
      const place = { class: "tag", x, y: kind === "truth" ? above : below, "font-size": size };
      group.append(make("text", place, label.slice(0, 40)));
    }
    return group;
  }

  function view(row, answer) {
    const [width, height] = row.w, side = Math.max(width, height);
    const described = `record ${row.i}: ${row.b.length} boxes of the truth, ${answer.b.length} of the answer`;
    const svg = make("svg", { class: "view", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": described });
    if (row.u) {
      const exact = side <= EXACT_SIDE_PX ? { class: "pixelated" } : {};
      svg.append(make("image", { href: row.u, width, height, preserveAspectRatio: "none", ...exact }));
    }
    for (const box of row.b) svg.append(mark(box, "truth", "truth", row.w));
    for (const box of answer.b) svg.append(mark(box, "given", "answer", row.w));
    return svg;
  }

  function item(row) {
    const answers = row.a.map((answer) => {
      const head = make("p", { class: "head" }, make("strong", {}, answer.n));
      if ("s" in answer) head.prepend(make("b", { class: "side" }, data.sides[answer.s]));
      if (answer.v) head.append(make("span", { class: answer.o ? "chip good" : "chip" }, answer.v));
      const text = make("p", { class: "text mono" }, answer.x || "(empty)");
      return make("div", { class: "answer" }, ...(row.w ? [view(row, answer)] : []), head, text);
    });
    const meta = make("p", { class: "meta" }, make("span", {}, `truth ${row.t}`), make("span", {}, `record\u00a0${row.i}`));
    if (row.m) meta.append(make("span", {}, `image ${row.m[0]} of ${row.m[1]}`));
    if (row.z) meta.append(make("span", {}, row.z));
    const shown = make("div", { class: answers.length > 1 ? "sides many" : "sides" });
    answers.forEach((answer, index) => {
      if (index) shown.append(make("span", { class: "arrow", "aria-hidden": "true" }, "→"));
      shown.append(answer);
    });
    const before = row.c ? [make("p", { class: "note" }, row.c)] : [];
    const question = make("h4", {}, row.q || "(no text)");
    return make("li", { class: "card", tabindex: "-1" }, ...before, question, shown, meta);
  }

  function heap(name, rows, total, open) {
    const list = make("ol", data.sides.length ? { class: "pairs" } : {});
    const more = make("button", { type: "button" });
    const count = rows.length === total ? total.toLocaleString("en") : `${rows.length.toLocaleString("en")} of ${total.toLocaleString("en")}`;
    const details = make("details", { class: "heap" }, make("summary", {}, name, make("span", {}, count)), list, more);
    function draw(n) {
      const first = list.children.length;
      list.append(...rows.slice(first, first + n).map(item));
      const left = rows.length - list.children.length;
      more.hidden = !left;
      more.textContent = `Show ${Math.min(MORE, left)} more of ${left.toLocaleString("en")}`;
      return list.children[first];
    }
    more.addEventListener("click", () => {
      const next = draw(MORE);
      if (more.hidden) next.focus();
    });
    details.addEventListener("toggle", () => details.open && !list.children.length && draw(FIRST));
    details.open = open;
    return details;
  }

  const texts = new Map();
  function textOf(row) {
    if (!texts.has(row)) texts.set(row, [row.c || "", row.q, row.i, row.t, ...row.a.map((one) => one.x)].join("\n").toLowerCase());
    return texts.get(row);
  }

  function refresh() {
    const words = found.text.value.trim().toLowerCase();
    const group = found.group.value, label = found.label.value, size = found.size.value;
    const rows = data.rows.filter((row) =>
      (group === "" || row.k === Number(group)) && (label === "" || row.l.includes(Number(label))) &&
      (size === "" || row.z === size) && (words === "" || textOf(row).includes(words)));
    const heaps = data.groups.map(() => []);
    for (const row of rows) heaps[row.k].push(row);
    const filtered = group !== "" || label !== "" || size !== "" || words !== "";
    const shown = data.groups.flatMap(([name, total], index) => {
      const kept = heaps[index];
      return kept.length ? [heap(name, kept, filtered ? kept.length : total, group !== "" || !data.closed.includes(name))] : [];
    });
    at("answers").replaceChildren(...shown);
    at("count").textContent = `${rows.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} rows`;
  }

  function choices(select, options) {
    select.append(...options.map(([value, text]) => make("option", { value }, text)));
    select.parentElement.hidden = options.length < 2;
  }

  choices(found.group, data.groups.map(([name, total], index) => [index, `${name} (${total.toLocaleString("en")})`]));
  const labels = data.labels.map((name, index) => [index, name]);
  choices(found.label, labels.sort((a, b) => a[1].localeCompare(b[1], "en", { numeric: true })));
  const sizes = new Set(data.rows.map((row) => row.z));
  choices(found.size, ["small", "medium", "large", "mixed"].filter((size) => sizes.has(size)).map((size) => [size, size]));
  let waiting = 0;
  found.text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 120);
  });
  for (const select of [found.group, found.label, found.size]) select.addEventListener("change", refresh);
  at("clear").addEventListener("click", () => {
    for (const field of Object.values(found)) field.value = "";
    refresh();
  });
  at("controls").hidden = !data.rows.length;
  refresh();
})();
