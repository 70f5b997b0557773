"use strict";
// Makes the charts of a run's page answer to keys and taps, and filters, orders and draws the answers of the run.
// All texts become text nodes, never markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg", EXACT_SIDE_PX = 128, FIRST = 6, MORE = 18;
  const at = (id) => document.getElementById(id);
  document.documentElement.classList.add("js");

  function make(name, attributes, ...children) {
    const svg = ["svg", "g", "image", "rect", "path", "text", "title"].includes(name);
    const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  // ---- charts: what pointing at them shows, arrow keys and taps show too -------------------------------------------

  for (const chart of document.querySelectorAll("svg.chart")) {
    const places = [...chart.querySelectorAll(".band, .spot")];
    if (!places.length) continue;
    places.sort((a, b) => Number(a.dataset.x) - Number(b.dataset.x));
    const readout = make("p", { class: "readout", "aria-live": "polite" });
    chart.after(readout);
    let shown = -1;
    function show(index) {
      if (places[shown]) places[shown].classList.remove("on");
      shown = index;
      readout.textContent = places[index] ? places[index].dataset.text : "";
      if (places[index]) places[index].classList.add("on");
    }
    places.forEach((place, index) => {
      place.addEventListener("pointerenter", () => show(index));
      place.addEventListener("click", () => show(index));
    });
    chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(-1));
    chart.setAttribute("tabindex", "0");
    chart.addEventListener("blur", () => show(-1));
    chart.addEventListener("keydown", (event) => {
      const last = places.length - 1;
      const to = { ArrowRight: Math.min(shown + 1, last), ArrowLeft: Math.max(shown - 1, 0), Home: 0, End: last, Escape: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(to);
    });
  }

  // A tap on a box does what pointing at it does: its completion is chosen.
  document.addEventListener("click", (event) => {
    const box = event.target.closest(".group .box");
    const number = box && [...box.classList].find((name) => /^b\d+$/.test(name));
    const row = number && box.closest(".group").querySelector(`.row.r${number.slice(1)}`);
    if (row) row.focus({ preventScroll: true });
  });

  // ---- answers -------------------------------------------------------------------------------------------------------

  if (!at("explorer")) return;
  const index = JSON.parse(at("explorer").textContent);
  const found = Object.fromEntries(["source", "order", "step", "task", "low", "high", "reason", "text"].map((name) => [name, at(`by-${name}`)]));
  let record = null, kept = [], drawn = 0, asked = 0;

  function mark([x, y, width, height, label], kind, name, colour, [imageWidth, imageHeight]) {
    const shape = width || height ? { x, y, width, height } : { d: `M${x} ${y}h0` };
    const tag = shape.d ? "path" : "rect", dot = shape.d ? " dot" : "";
    const group = make("g", { class: `box ${kind}`, ...(colour ? { style: `--c: ${colour}` } : {}) });
    group.append(make("title", {}, label ? `${name}: ${label}` : name));
    for (const part of ["halo", "edge"]) group.append(make(tag, { class: part + dot, ...shape }));
    if (label) {
      const size = Math.max(imageWidth, imageHeight) / 20, bottom = y + height;
      const above = y > size ? y - size * 0.4 : y + size;
      const below = bottom + size < imageHeight ? bottom + size : bottom - size * 0.4;
      group.append(make("text", { class: "tag", x, y: kind === "truth" ? above : below, "font-size": size }, label.slice(0, 40)));
    }
    return group;
  }

  function view(item, answers, colours) {
    const [width, height] = item.w;
    const described = `picture of record ${item.i} with ${item.b.length} boxes of the truth`;
    const svg = make("svg", { class: "view", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": described });
    if (item.u) {
      const exact = Math.max(width, height) <= EXACT_SIDE_PX ? { class: "pixelated" } : {};
      svg.append(make("image", { href: item.u, width, height, preserveAspectRatio: "none", ...exact }));
    }
    answers.forEach((answer, place) => {
      for (const box of answer.b) svg.append(mark(box, answers.length > 1 ? `b${place}` : "given", sideOf(answer), colours[place], item.w));
    });
    for (const box of item.b) svg.append(mark(box, "truth", "truth", "", item.w));
    return svg;
  }

  const source = () => index.sources[Number(found.source.value)];
  const sideOf = (answer) => source().sides[answer.s] || `#${answer.s + 1}`;
  const reasonOf = (answer) => index.reasons[answer.f];

  function told(answer) {
    const head = make("div", { class: "head" }, make("b", { class: "side" }, sideOf(answer)), make("strong", {}, answer.n));
    if (answer.r !== null) head.append(make("span", { class: "soft" }, `reward ${answer.r.toFixed(2)}`));
    if (reasonOf(answer) !== answer.n) head.append(make("span", { class: answer.o ? "chip good" : "chip" }, reasonOf(answer)));
    return [head, make("p", { class: "text mono" }, answer.x || "(empty)")];
  }

  // Colours of moments, early to late; of completions the page gives them by reward.
  function coloursOf(item) {
    const last = Math.max(1, source().sides.length - 1);
    return item.a.map((answer) => answer.e || `hsl(${Math.round(285 - 245 * (answer.s / last))} 85% 55%)`);
  }

  function pair(item) {
    const sides = make("div", { class: item.a.length > 1 ? "sides many" : "sides" });
    item.a.forEach((answer, place) => {
      if (place) sides.append(make("span", { class: "arrow", "aria-hidden": "true" }, "→"));
      sides.append(make("div", { class: "answer" }, ...(item.w ? [view(item, [answer], [""])] : []), ...told(answer)));
    });
    return sides;
  }

  function stack(item) {
    const colours = coloursOf(item);
    const answers = item.a.map((answer, place) => ({ ...answer, place }));
    if (source().kind === "train") answers.sort((a, b) => (b.r ?? -Infinity) - (a.r ?? -Infinity));
    const rows = make("ol", { class: "rows" }, ...answers.map((answer) =>
      make("li", { class: `row r${answer.place}`, tabindex: "0", style: `--c: ${colours[answer.place]}` }, ...told(answer))));
    const pictures = item.w ? [make("div", { class: "views" }, view(item, item.a, colours))] : [];
    return make("div", { class: pictures.length ? "group" : "group textual" }, ...pictures, rows);
  }

  function card(item) {
    const meta = make("p", { class: "meta" }, make("span", {}, `truth ${item.t}`), make("span", {}, `record\u00a0${item.i}`));
    if ("s" in item) meta.prepend(make("span", {}, `step ${item.s}`));
    if (item.m) meta.append(make("span", {}, `image ${item.m[0]} of ${item.m[1]}`));
    if (item.w && !item.u) meta.append(make("span", {}, "picture left out"));
    const same = kept.all.filter((other) => other.i === item.i && other.q === item.q).length;
    const element = make("li", { class: "card item", tabindex: "-1" }, ...(item.c ? [make("p", { class: "note" }, item.c)] : []),
      make("h4", {}, item.q || "(no text)"), source().kind === "held" && item.a.length < 3 ? pair(item) : stack(item), meta);
    if (same > 1 && record === null) {
      const button = make("button", { type: "button" }, `This record at all ${same} places`);
      button.addEventListener("click", () => {
        record = item;
        refresh();
        at("look").scrollIntoView();
      });
      element.append(button);
    }
    return element;
  }

  // ---- parts: in the page, or a script beside it that adds a text of JSON ------------------------------------------

  const parts = new Map();
  function part({ id, file }) {
    if (!parts.has(id)) parts.set(id, file ? fetched(id, file) : Promise.resolve(JSON.parse(at(id).textContent)));
    return parts.get(id);
  }

  function fetched(id, file) {
    return new Promise((resolve, reject) => {
      const script = make("script", { src: file });
      script.onload = () => {
        try {
          resolve(JSON.parse(self.vlmR1Parts[id]));
        } catch (error) {
          reject(error);
        }
        script.remove();
      };
      script.onerror = () => reject(new Error(file));
      document.head.append(script);
    }).catch((error) => {
      parts.delete(id);
      throw error;
    });
  }

  // ---- filters and orders ------------------------------------------------------------------------------------------

  const mean = (values) => values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN;
  const rewards = (item) => item.a.map((answer) => answer.r).filter((value) => value !== null);
  const spread = (item) => rewards(item).length ? Math.max(...rewards(item)) - Math.min(...rewards(item)) : 0;
  const ORDERS = {
    held: [["most improved first", null], ["most spoiled first", "reverse"], ["worst first", (a, b) => a - b], ["best first", (a, b) => b - a]],
    train: [["by step", null], ["last step first", "reverse"], ["worst first", (a, b) => a - b], ["best first", (a, b) => b - a], ["rewards differ most first", "spread"]],
  };

  // The answers that the filters look at: of a held-out record the one of the chosen moment, of a group all.
  const judged = (item) => source().kind === "train" ? item.a : item.a.filter((answer) => answer.s === Number(found.step.value));

  function passes(item) {
    const low = found.low.value === "" ? -Infinity : Number(found.low.value);
    const high = found.high.value === "" ? Infinity : Number(found.high.value);
    const free = low === -Infinity && high === Infinity;
    const fits = (answer) => (found.reason.value === "" || answer.f === Number(found.reason.value)) &&
      (free || (answer.r !== null && low <= answer.r && answer.r <= high));
    if (record !== null && (item.i !== record.i || item.q !== record.q)) return false;
    if (found.task.value !== "" && item.j !== Number(found.task.value)) return false;
    if (source().kind === "train" && found.step.value !== "" && item.s !== Number(found.step.value)) return false;
    const words = found.text.value.trim().toLowerCase();
    if (words && ![item.q, item.i, item.t, item.c || "", ...item.a.map((answer) => answer.x)].join("\n").toLowerCase().includes(words)) return false;
    return judged(item).some(fits);
  }

  function ordered(items) {
    const order = ORDERS[source().kind][Number(found.order.value)][1];
    if (record !== null || order === null) return items;
    if (order === "reverse") return items.toReversed();
    if (order === "spread") return items.toSorted((a, b) => spread(b) - spread(a));
    const quality = new Map(items.map((item) => [item, mean(judged(item).map((answer) => answer.r).filter((value) => value !== null))]));
    return items.toSorted((a, b) => Number(isNaN(quality.get(a))) - Number(isNaN(quality.get(b))) || order(quality.get(a), quality.get(b)) || 0);
  }

  function draw(n) {
    at("items").append(...kept.slice(drawn, drawn + n).map(card));
    drawn = Math.min(kept.length, drawn + n);
    at("more").hidden = drawn === kept.length;
    at("more").textContent = `Show ${Math.min(MORE, kept.length - drawn)} more of ${(kept.length - drawn).toLocaleString("en")}`;
  }

  async function refresh() {
    const turn = ++asked, chosen = source(), missing = [];
    const waiting = chosen.parts.some((one) => one.file && !parts.has(one.id));
    if (waiting) at("count").textContent = "loading …";
    const loaded = await Promise.all(chosen.parts.map((one) => part(one).catch(() => (missing.push(one), []))));
    if (turn !== asked) return;
    const all = loaded.flat();
    kept = ordered(all.filter(passes));
    kept.all = all;
    drawn = 0;
    at("items").replaceChildren();
    const what = chosen.kind === "held" ? "records" : "groups";
    at("count").textContent = `${kept.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} ${what}`;
    const lost = missing.reduce((sum, one) => sum + one.n, 0);
    const told = [chosen.note, lost ? `${lost.toLocaleString("en")} ${what} are not shown: ${missing[0].file} is not beside this page. Keep report_files and the page together.` : "",
      record !== null ? `Only record ${record.i}; "Clear" shows all again.` : ""];
    at("left").textContent = told.filter(Boolean).join(" ");
    draw(FIRST);
  }

  function choices(select, options, least = 2) {
    select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
    select.parentElement.hidden = options.length < least;
  }

  async function prepare() {
    const chosen = source();
    record = null;
    choices(found.order, ORDERS[chosen.kind].map(([name], place) => [place, name]));
    const turn = ++asked;
    at("count").textContent = "loading …";
    const items = (await Promise.all(chosen.parts.map((one) => part(one).catch(() => [])))).flat();
    if (turn !== asked) return;
    const steps = [...new Set(items.map((item) => item.s))];
    const held = chosen.kind === "held";
    at("step-name").textContent = held ? "judged at" : "step";
    choices(found.step, held ? chosen.sides.map((name, place) => [place, name]) : [["", "any"], ...steps.map((step) => [step, step])]);
    if (held) found.step.value = String(chosen.sides.length - 1);
    const some = (words, used) => [["", "any"], ...words.map((word, place) => [place, word]).filter(([place]) => used.has(place))];
    choices(found.task, some(index.tasks, new Set(items.map((item) => item.j))), 3);
    choices(found.reason, some(index.reasons, new Set(items.flatMap((item) => item.a.map((answer) => answer.f)))), 3);
    await refresh();
  }

  function clear() {
    for (const name of ["task", "low", "high", "reason", "text"]) found[name].value = "";
    prepare();
  }

  let pause = 0;
  for (const name of ["low", "high", "text"]) {
    found[name].addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(refresh, 120);
    });
  }
  for (const name of ["order", "step", "task", "reason"]) found[name].addEventListener("change", refresh);
  found.source.addEventListener("change", clear);
  at("clear").addEventListener("click", clear);
  at("more").addEventListener("click", () => {
    const first = drawn;
    draw(MORE);
    at("items").children[first].focus();
  });
  if (index.sources.length) {
    choices(found.source, index.sources.map((one, place) => [place, `${one.name} (${one.parts.reduce((sum, part) => sum + part.n, 0).toLocaleString("en")})`]), 1);
    at("controls").hidden = false;
    addEventListener("load", () => setTimeout(prepare));
  }
})();
