// What can be done on the page: choose runs, a level, a measure and a theme; move and zoom pictures;
// go from part to part of them; read charts. Text from data is only ever set as text.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const svgNames = "http://www.w3.org/2000/svg";
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const upwards = { stage: "network", block: "stage", op: "stage", neuron: "op" };

  // -- theme ------------------------------------------------------------------------------------
  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const showTheme = () => {
    const wanted = theme.value || (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = wanted;
  };
  theme.addEventListener("change", showTheme);
  dark.addEventListener("change", showTheme);
  showTheme();

  // -- runs -------------------------------------------------------------------------------------
  const shownRuns = () => new Set(all("input[name=run]:checked").map((box) => box.value));
  const choices = all("input[name=run]");
  const isShown = (run) => choices.length === 0 || shownRuns().has(String(run));
  for (const box of choices) {
    box.addEventListener("change", () => {
      for (const part of all("[data-run]")) {
        const hide = !isShown(part.dataset.run);
        if (part instanceof SVGElement) part.setAttribute("display", hide ? "none" : "inline");
        else part.hidden = hide;
      }
      placeValues();
    });
  }

  // -- pictures: a view is what of a picture is seen ----------------------------------------------
  class View {
    constructor(viewport) {
      this.viewport = viewport;
      this.svg = viewport.querySelector("svg");
      const whole = this.svg.viewBox.baseVal;
      this.whole = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
      this.box = { ...this.whole };
      viewport.style.aspectRatio = `${whole.width} / ${whole.height}`;
      this.drag();
    }

    show(box) {
      this.box = box;
      this.svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
    }

    fit() {
      this.show({ ...this.whole });
    }

    // By shares of what is seen.
    move(right, down) {
      const { x, y, width, height } = this.box;
      this.show({ x: x + right * width, y: y + down * height, width, height });
    }

    // Around a point of the picture, or its middle.
    zoom(factor, at) {
      const { x, y, width, height } = this.box;
      const least = this.whole.width / 60, most = this.whole.width * 2;
      const wide = Math.min(most, Math.max(least, width / factor));
      const scale = wide / width;
      const [cx, cy] = at ?? [x + width / 2, y + height / 2];
      this.show({ x: cx - (cx - x) * scale, y: cy - (cy - y) * scale, width: wide, height: height * scale });
    }

    point(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
      return [at.x, at.y];
    }

    // Where a part lies, in the picture's own units.
    placeOf(part) {
      const { x, y, width, height } = part.getBBox();
      const matrix = this.svg.getScreenCTM().inverse().multiply(part.getScreenCTM());
      const from = new DOMPoint(x, y).matrixTransform(matrix);
      const to = new DOMPoint(x + width, y + height).matrixTransform(matrix);
      return { x: from.x, y: from.y, width: to.x - from.x, height: to.y - from.y };
    }

    frame(part) {
      const place = this.placeOf(part), margin = 14;
      const width = Math.max(place.width + 2 * margin, 120), height = Math.max(place.height + 2 * margin, 60);
      this.glide({ x: place.x - margin, y: place.y - margin, width, height });
    }

    glide(to) {
      if (calm.matches) return this.show(to);
      const from = this.box, start = performance.now();
      const step = (now) => {
        const t = Math.min(1, (now - start) / 200);
        const between = (name) => from[name] + (to[name] - from[name]) * t;
        this.show({ x: between("x"), y: between("y"), width: between("width"), height: between("height") });
        if (t < 1) requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }

    // Moves the picture as little as it takes to see a part.
    reveal(part) {
      const place = this.placeOf(part), box = this.box;
      const near = (at, size, seen, room) =>
        at < seen ? at - 10 : at + size > seen + room ? at + size + 10 - room : seen;
      if (place.width > box.width || place.height > box.height) return this.frame(part);
      this.show({ ...box, x: near(place.x, place.width, box.x, box.width), y: near(place.y, place.height, box.y, box.height) });
    }

    drag() {
      let held = null;
      const fingers = new Map(); // by pointer: where they touch
      const apart = () => {
        const [a, b] = [...fingers.values()];
        return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      };
      this.viewport.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "touch") fingers.set(event.pointerId, event);
        if (event.button === 0) held = { at: this.point(event), moved: false, id: event.pointerId };
      });
      this.viewport.addEventListener("pointermove", (event) => {
        if (fingers.size === 2 && fingers.has(event.pointerId)) { // two fingers zoom
          const before = apart();
          fingers.set(event.pointerId, event);
          const [a, b] = [...fingers.values()];
          const middle = { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
          if (before > 0) this.zoom(apart() / before, this.point(middle));
          return;
        }
        if (held === null) return;
        const [x, y] = this.point(event);
        const right = held.at[0] - x, down = held.at[1] - y;
        if (!held.moved) {
          if (Math.hypot(right, down) < this.box.width / 150) return;
          held.moved = true;
          this.viewport.setPointerCapture(held.id);
          this.viewport.classList.add("held");
        }
        this.show({ ...this.box, x: this.box.x + right, y: this.box.y + down });
      });
      const release = (event) => {
        fingers.delete(event.pointerId);
        held = null;
        this.viewport.classList.remove("held");
      };
      for (const kind of ["pointerup", "pointercancel"]) this.viewport.addEventListener(kind, release);
      this.viewport.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the page
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 300), this.point(event));
      }, { passive: false });
    }
  }

  const views = new Map(); // by the element of a picture
  for (const viewport of all(".viewport")) views.set(viewport.closest(".picture"), new View(viewport));

  const pictureOf = (article) => article.querySelector(".picture:not([hidden])");
  const partsOf = (picture) => data.parts[Number(picture.dataset.of)][picture.dataset.picture];
  const statusOf = (picture) => picture.closest("article").querySelector(".status");

  const words = (picture, part) => {
    const known = partsOf(picture)[part.dataset.key];
    return [known.name, ...known.lines].join(" · ");
  };

  const tell = (picture, text) => {
    const status = statusOf(picture);
    if (status.textContent !== text) status.textContent = text;
  };

  // One part of a picture is selected; it is the one that Tab leads to.
  const select = (picture, part) => {
    for (const other of all(".part", picture)) {
      const chosen = other === part;
      other.setAttribute("aria-selected", String(chosen));
      other.setAttribute("tabindex", chosen ? "0" : "-1");
    }
    pointed = null;
    tell(picture, words(picture, part));
    refreshButtons();
  };

  const selected = (picture) => picture && picture.querySelector('.part[aria-selected="true"]');

  const showLevel = (level) => {
    for (const picture of all(".picture")) picture.hidden = picture.dataset.picture !== level;
    for (const radio of all("input[name=level]")) radio.checked = radio.value === level;
    placeValues();
    refreshButtons();
  };
  for (const radio of all("input[name=level]")) {
    radio.addEventListener("change", () => showLevel(radio.value));
  }

  // A stage opens to its blocks, a block to its operations.
  const open = (picture) => {
    const part = selected(picture);
    const target = part && partsOf(picture)[part.dataset.key].opens;
    if (!target) return;
    const [level, key] = target;
    const article = picture.closest("article");
    showLevel(level);
    const next = pictureOf(article);
    const inside = all("[data-key]", next).find((each) => each.dataset.key === `${key}frame`)
      ?? all("[data-key]", next).find((each) => each.dataset.key === key);
    const first = all(".part", next).find((each) => each.dataset.key.startsWith(key) &&
      !/^\d/.test(each.dataset.key.slice(key.length)));
    if (first) {
      select(next, first);
      first.focus({ preventScroll: true });
    }
    if (inside) views.get(next).frame(inside);
  };

  const up = (picture) => {
    const level = upwards[picture.dataset.picture];
    if (!level) return;
    const article = picture.closest("article");
    const before = selected(picture);
    const within = picture.contains(document.activeElement);
    showLevel(level);
    const next = pictureOf(article);
    const key = before ? before.dataset.key : "";
    const holders = all(".part", next).filter((each) => key.startsWith(each.dataset.key));
    const holder = holders.sort((a, b) => b.dataset.key.length - a.dataset.key.length)[0] ?? next.querySelector(".part");
    if (!holder) return;
    select(next, holder);
    if (within) holder.focus({ preventScroll: true });
  };

  const act = (picture, what) => {
    const view = views.get(picture);
    if (what === "open") return open(picture);
    if (what === "up") return up(picture);
    if (!view) return;
    if (what === "in") view.zoom(1.25);
    if (what === "out") view.zoom(1 / 1.25);
    if (what === "fit") view.fit();
  };

  const refreshButtons = () => {
    for (const article of all("#topology article")) {
      const picture = pictureOf(article);
      const part = selected(picture);
      const opens = part && partsOf(picture)[part.dataset.key].opens;
      article.querySelector('[data-do="open"]').disabled = !opens;
      article.querySelector('[data-do="up"]').disabled = !upwards[picture.dataset.picture];
    }
  };

  let pointed = null; // the part that the pointer is on
  const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
  const does = { "+": "in", "=": "in", "-": "out", "−": "out", 0: "fit", Enter: "open", " ": "open", Escape: "up" };

  for (const [picture, view] of views) {
    const parts = all(".part", picture);
    if (parts.length) parts[0].setAttribute("tabindex", "0");
    view.viewport.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const part = event.target.closest(".part");
      const here = parts.indexOf(part);
      let next = null;
      if (part && event.key in steps) next = parts[here + steps[event.key]];
      else if (part && event.key === "Home") next = parts[0];
      else if (part && event.key === "End") next = parts.at(-1);
      else if (!part && event.key in moves) view.move(...moves[event.key]);
      else if (event.key in does) {
        if (part && does[event.key] === "open") select(picture, part);
        act(picture, does[event.key]);
      } else if (!(part && event.key in steps)) return;
      event.preventDefault();
      if (next) next.focus({ preventScroll: true });
    });
    for (const part of parts) {
      part.addEventListener("focus", () => {
        select(picture, part);
        view.reveal(part);
      });
      part.addEventListener("click", () => select(picture, part));
      part.addEventListener("dblclick", () => {
        select(picture, part);
        open(picture);
      });
      // A pointer that moves, not one that a picture is moved under by keys.
      part.addEventListener("pointermove", () => {
        pointed = part;
        tell(picture, words(picture, part));
      });
      part.addEventListener("pointerleave", () => {
        if (pointed !== part) return;
        pointed = null;
        const chosen = selected(picture);
        tell(picture, chosen ? words(picture, chosen) : "\u00a0");
      });
    }
  }
  for (const button of all("[data-do]")) {
    button.addEventListener("click", () => act(pictureOf(button.closest("article")), button.dataset.do));
  }

  // -- measures -----------------------------------------------------------------------------------
  const measure = document.getElementById("measure");

  // In the first line of a box if there is room, else outside of it.
  const placeLabel = (part, label) => {
    const box = part.getBBox();
    const texts = all("text", part).map((each) => each.getBBox());
    part.append(label);
    label.setAttribute("class", "value");
    label.setAttribute("text-anchor", "end");
    const first = texts[0];
    const left = box.x + box.width - 5 - label.getBBox().width;
    const inside = texts.length > 1 && first.x + first.width + 4 < left &&
      !texts.slice(1).some((each) => each.y < first.y + first.height - 4 && each.x + each.width > left);
    const beside = part.closest(".picture").dataset.picture === "block"; // wires go downwards there
    const right = box.x + box.width;
    if (inside) label.setAttribute("class", "value inside");
    if (!inside && beside) label.setAttribute("text-anchor", "start");
    label.setAttribute("x", inside ? right - 5 : beside ? right + 3 : right);
    label.setAttribute("y", inside ? first.y + first.height - 2.5 : beside ? box.y + box.height / 2 + 3 : box.y - 2.5);
  };

  // Numbers stand at the boxes, so that nothing is said by colour alone. A picture that is not
  // seen has no sizes, so numbers are placed when it is shown.
  const placeValues = () => {
    const key = measure ? measure.value : "";
    for (const picture of views.keys()) {
      if (picture.hidden || picture.closest("[hidden]")) continue;
      if (picture.dataset.shows === key) continue;
      picture.dataset.shows = key;
      const known = partsOf(picture);
      for (const part of all(".part", picture)) {
        const { heat, text } = known[part.dataset.key];
        for (const old of all(".value", part)) old.remove();
        if (!(key in heat)) {
          delete part.dataset.heat;
          continue;
        }
        part.dataset.heat = heat[key];
        const label = document.createElementNS(svgNames, "text");
        label.textContent = text[key];
        placeLabel(part, label);
      }
    }
  };
  if (measure) {
    measure.addEventListener("change", () => {
      for (const scale of all(".scale")) scale.hidden = scale.dataset.measure !== measure.value;
      placeValues();
    });
  }

  // -- charts -------------------------------------------------------------------------------------
  for (const chart of all(".chart")) {
    const stops = data.charts[chart.dataset.chart];
    const cursor = chart.querySelector(".cursor");
    const readout = chart.parentElement.querySelector(".readout");
    const svg = chart.querySelector("svg");
    let at = -1;
    const read = (index) => {
      at = Math.max(0, Math.min(stops.length - 1, index));
      const stop = stops[at];
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, stop.x);
      cursor.setAttribute("visibility", "visible");
      const lines = stop.lines.filter(([run]) => isShown(run)).map(([, text]) => text);
      readout.textContent = [stop.at, ...lines].join(" · ");
    };
    chart.addEventListener("keydown", (event) => {
      const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: stops.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      read(next);
    });
    chart.addEventListener("pointermove", (event) => {
      const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      let best = 0;
      stops.forEach((stop, index) => {
        if (Math.abs(stop.x - x) < Math.abs(stops[best].x - x)) best = index;
      });
      if (best !== at) read(best);
    });
  }

  showLevel(document.querySelector("input[name=level]:checked").value);
})();
