// A picture that can be moved, zoomed, and walked through from part to part.

export class Picture {
  /** `on.part(place, words)` for the part that is pointed at or focused, `on.open(place)` for Enter
   * and click. */
  constructor(viewport, on = {}) {
    this.viewport = viewport;
    this.on = on;
    this.svg = null;
    this.places = {};
    this.listen();
  }

  /** Shows an SVG text. `places` say where in the spec boxes come from, by their keys. What is seen stays where
   * a picture of the same size and title comes in place of another. */
  show(text, { label, places = {} }) {
    const parsed = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    const svg = document.importNode(parsed, true);
    this.places = places;
    const whole = svg.viewBox.baseVal;
    const before = this.svg && { whole: this.whole, box: this.box };
    this.whole = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
    svg.removeAttribute("width");
    svg.removeAttribute("height");
    svg.setAttribute("preserveAspectRatio", this.viewport.clientWidth < 600 ? "xMidYMin meet" : "xMidYMid meet");
    this.prepare(svg, label);
    this.note("");
    this.viewport.querySelector("svg")?.remove();
    this.viewport.prepend(svg);
    this.svg = svg;
    const same = before && this.label === label && before.whole.width === whole.width && before.whole.height === whole.height;
    this.label = label;
    this.see(same ? before.box : { ...this.whole });
  }

  prepare(svg, label) {
    const groups = [...svg.querySelectorAll("g[id]")];
    let first = true;
    for (const group of groups) {
      const key = group.id;
      group.removeAttribute("id"); // a page may hold several pictures
      if (group.classList.contains("graph")) {
        group.querySelector(":scope > title")?.remove(); // it would be the tooltip of everything
        continue;
      }
      if (!(key in this.places)) {
        group.setAttribute("aria-hidden", "true");
        continue;
      }
      group.dataset.key = key;
      group.classList.add("placed");
      group.querySelector(":scope > :is(path, polygon, ellipse)")?.classList.add("outline");
      group.setAttribute("role", "button");
      group.setAttribute("tabindex", first ? "0" : "-1");
      group.setAttribute("aria-label", this.words(group));
      first = false;
    }
    if (first) {
      svg.setAttribute("role", "img");
      const words = [...svg.querySelectorAll("text")].map((each) => each.textContent).join(" ");
      svg.setAttribute("aria-label", `${label}: ${words.slice(0, 2000)}`);
    } else {
      svg.setAttribute("role", "group");
      svg.setAttribute("aria-label", label);
      for (const shape of svg.querySelectorAll("g.graph > :is(polygon, text)")) shape.setAttribute("aria-hidden", "true");
    }
  }

  words(group) {
    const shown = [...group.querySelectorAll("text")].map((each) => each.textContent).join(" ");
    return group.querySelector("title")?.textContent || shown;
  }

  /** A text in place of the picture, or above one that is out of date, whose places are too; "" takes
   * it away. */
  note(text) {
    this.viewport.querySelector(".note")?.remove();
    this.stale = text !== "";
    this.viewport.toggleAttribute("data-stale", this.stale);
    if (!this.stale) return;
    for (const each of this.parts()) each.classList.remove("here");
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = text;
    this.viewport.append(note);
  }

  /** Marks the parts that the cursor stands in: those with the shortest text around it. */
  follow(at) {
    if (this.stale) return;
    const around = Object.entries(this.places).map(([key, { spans }]) => {
      const sizes = spans.filter(([from, to]) => from <= at && at <= to).map(([from, to]) => to - from);
      return [key, Math.min(...sizes)];
    });
    const least = Math.min(...around.map(([, size]) => size));
    const here = new Set(around.filter(([, size]) => size === least && size < Infinity).map(([key]) => key));
    for (const each of this.parts()) each.classList.toggle("here", here.has(each.dataset.key));
  }

  parts() {
    return this.svg ? [...this.svg.querySelectorAll(".placed")] : [];
  }

  // -- what is seen -------------------------------------------------------------------------------

  see(box) {
    this.box = box;
    this.svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
  }

  fit() {
    if (this.svg) this.see({ ...this.whole });
  }

  move(right, down) {
    if (!this.svg) return;
    const { x, y, width, height } = this.box;
    this.see({ x: x + right * width, y: y + down * height, width, height });
  }

  zoom(factor, at) {
    if (!this.svg) return;
    const { x, y, width, height } = this.box;
    const wide = Math.min(this.whole.width * 3, Math.max(40, width / factor));
    const scale = wide / width;
    const [cx, cy] = at ?? [x + width / 2, y + height / 2];
    this.see({ x: cx - (cx - x) * scale, y: cy - (cy - y) * scale, width: wide, height: height * scale });
  }

  point(x, y) {
    const at = new DOMPoint(x, y).matrixTransform(this.svg.getScreenCTM().inverse());
    return [at.x, at.y];
  }

  reveal(part) {
    const place = part.getBoundingClientRect(), seen = this.viewport.getBoundingClientRect();
    const inside = place.left >= seen.left && place.right <= seen.right && place.top >= seen.top && place.bottom <= seen.bottom;
    if (inside) return;
    const [x, y] = this.point(place.left + place.width / 2, place.top + place.height / 2);
    this.see({ ...this.box, x: x - this.box.width / 2, y: y - this.box.height / 2 });
  }

  // -- pointers and keys --------------------------------------------------------------------------

  listen() {
    const view = this.viewport;
    const held = new Map();
    let moved = false;
    const apart = () => {
      const [a, b] = [...held.values()];
      return Math.hypot(a.x - b.x, a.y - b.y);
    };
    view.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.svg) return;
      if (held.size === 0) moved = false;
      held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    view.addEventListener("pointermove", (event) => {
      const from = held.get(event.pointerId);
      if (!from) return;
      const before = held.size === 2 ? apart() : 0;
      const to = { x: event.clientX, y: event.clientY };
      if (!moved && Math.hypot(to.x - from.x, to.y - from.y) < 4) return;
      if (!moved) view.setPointerCapture(event.pointerId);
      moved = true;
      const [ax, ay] = this.point(from.x, from.y), [bx, by] = this.point(to.x, to.y);
      const share = held.size === 2 ? 0.5 : 1;
      this.see({ ...this.box, x: this.box.x - (bx - ax) * share, y: this.box.y - (by - ay) * share });
      held.set(event.pointerId, to);
      if (held.size === 2) {
        const [a, b] = [...held.values()];
        this.zoom(apart() / before, this.point((a.x + b.x) / 2, (a.y + b.y) / 2));
      }
    });
    for (const name of ["pointerup", "pointercancel"])
      view.addEventListener(name, (event) => held.delete(event.pointerId));
    view.addEventListener("wheel", (event) => {
      if (!this.svg) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), this.point(event.clientX, event.clientY));
    }, { passive: false });
    view.addEventListener("dblclick", (event) => {
      if (this.svg && !event.target.closest(".placed")) this.zoom(1.6, this.point(event.clientX, event.clientY));
    });
    const partAt = (event) => event.target.closest?.(".placed");
    view.addEventListener("click", (event) => {
      const part = partAt(event);
      if (part && !moved) this.open(part);
    });
    const tell = (part) => {
      const known = part && !this.stale;
      this.on.part?.(known ? this.places[part.dataset.key] : null, known ? this.words(part) : "");
    };
    view.addEventListener("pointerover", (event) => tell(partAt(event)));
    view.addEventListener("pointerleave", () => tell(null));
    view.addEventListener("focusin", (event) => {
      const part = partAt(event);
      tell(part);
      if (!part) return;
      for (const each of this.parts()) each.setAttribute("tabindex", each === part ? "0" : "-1");
      this.reveal(part);
    });
    view.addEventListener("focusout", () => view.matches(":hover") || tell(null));
    view.addEventListener("keydown", (event) => this.key(event));
  }

  open(part) {
    if (!this.stale) this.on.open?.(this.places[part.dataset.key]);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const parts = this.parts();
    const at = parts.indexOf(document.activeElement);
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const moves = { ArrowRight: [0.1, 0], ArrowDown: [0, 0.1], ArrowLeft: [-0.1, 0], ArrowUp: [0, -0.1] };
    if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fit();
    else if (event.shiftKey && event.key in moves) this.move(...moves[event.key]);
    else if (at < 0 && event.key in moves) this.move(...moves[event.key]);
    else if (at >= 0 && event.key in steps) parts[Math.min(parts.length - 1, Math.max(0, at + steps[event.key]))].focus();
    else if (at >= 0 && event.key === "Home") parts[0].focus();
    else if (at >= 0 && event.key === "End") parts.at(-1).focus();
    else if (at >= 0 && (event.key === "Enter" || event.key === " ")) this.open(parts[at]);
    else return;
    event.preventDefault();
  }
}
