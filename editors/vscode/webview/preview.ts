/** The page of the preview: the picture, its controls, and which boxes are at the cursor. */

import type { FromPage, ToPage } from "../src/protocol";

interface Editor {
  postMessage(message: FromPage): void;
  getState(): { zoom?: number | null } | undefined;
  setState(state: { zoom: number | null }): void;
}
declare function acquireVsCodeApi(): Editor;

const editor = acquireVsCodeApi();
const levels = element("levels", HTMLElement);
const networks = element("networks", HTMLElement);
const choice = networks.querySelector("select") as HTMLSelectElement;
const problem = element("problem", HTMLElement);
const picture = element("picture", HTMLElement);
const fit = element("fit", HTMLButtonElement);
const STEP = 1.25;

/** How large a picture is, 1 being its own size; null: as wide as there is room, at most its own size. */
let zoom: number | null = editor.getState()?.zoom ?? null;

function element<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${id}`);
  return found;
}

window.addEventListener("message", ({ data }: MessageEvent<ToPage>) => {
  switch (data.type) {
    case "picture":
      problem.textContent = "";
      picture.classList.remove("stale");
      showLevels(data.levels, data.level);
      showNetworks(data.networks, data.network);
      showPicture(data.svg, data.boxes);
      mark(data.marked);
      break;
    case "problem":
      problem.textContent = data.text;
      picture.classList.add("stale");
      showLevels(data.levels, data.level);
      mark([]);
      break;
    case "mark":
      mark(data.boxes);
  }
});

function showLevels(names: string[], level: string): void {
  const before = [...levels.children].map((button) => button.textContent).join();
  if (names.length > 0 && before !== names.join()) {
    levels.replaceChildren(
      ...names.map((name) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = name;
        button.addEventListener("click", () => editor.postMessage({ type: "level", level: name }));
        return button;
      }),
    );
  }
  for (const button of levels.children) {
    button.setAttribute("aria-pressed", String(button.textContent === level));
  }
}

function showNetworks(names: string[], network: string): void {
  networks.hidden = names.length < 2;
  choice.replaceChildren(...names.map((name) => new Option(name, name, false, name === network)));
}
choice.addEventListener("change", () => editor.postMessage({ type: "network", network: choice.value }));

// -- the picture ----------------------------------------------------------------------------------

function svg(): SVGSVGElement | null {
  return picture.querySelector("svg");
}

function showPicture(text: string, boxes: string[]): void {
  const root = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  const focused = document.activeElement instanceof SVGElement ? document.activeElement.id : "";
  picture.replaceChildren(document.importNode(root, true));
  for (const key of boxes) {
    const box = node(key);
    if (box === null) continue;
    box.setAttribute("tabindex", "0");
    box.setAttribute("role", "button");
    box.setAttribute("aria-label", label(box));
    box.classList.add("leads");
    if (key === focused) box.focus();
  }
  svg()?.setAttribute("role", "group"); // what is in it can be reached
  size();
}

function node(key: string): SVGGElement | null {
  const found = picture.querySelector(`[id="${CSS.escape(key)}"]`);
  return found instanceof SVGGElement ? found : null;
}

/** The texts of a box, or else the first line of what is known of it. */
function label(box: SVGGElement): string {
  const texts = [...box.querySelectorAll("text")].map((text) => text.textContent?.trim() ?? "");
  const title = box.querySelector("title")?.textContent?.split("\n")[0] ?? "";
  return texts.join(" ").trim() || title;
}

function opened(event: Event, written: boolean): void {
  const box = event.target instanceof Element ? event.target.closest("g.leads") : null;
  if (box === null) return;
  event.preventDefault();
  editor.postMessage({ type: "open", box: box.id, written });
}
picture.addEventListener("click", (event) => opened(event, event.ctrlKey || event.metaKey));
picture.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") opened(event, event.ctrlKey || event.metaKey);
});

/** Mark boxes; the first is moved into view where none of them can be seen. */
function mark(keys: string[]): void {
  for (const box of picture.querySelectorAll(".at-cursor")) {
    box.classList.remove("at-cursor");
    box.removeAttribute("aria-current");
  }
  const boxes = keys.map(node).filter((box) => box !== null);
  for (const box of boxes) {
    box.classList.add("at-cursor");
    box.setAttribute("aria-current", "true");
  }
  const view = picture.getBoundingClientRect();
  const seen = boxes.some((box) => {
    const { top, bottom, left, right } = box.getBoundingClientRect();
    return bottom > view.top && top < view.bottom && right > view.left && left < view.right;
  });
  if (!seen) boxes[0]?.scrollIntoView({ block: "center", inline: "center" });
}

// -- its size -------------------------------------------------------------------------------------

function size(): void {
  const root = svg();
  fit.setAttribute("aria-pressed", String(zoom === null));
  if (root === null) return;
  const { width, height } = root.viewBox.baseVal;
  const points = 4 / 3; // pixels of a point, in which Graphviz measures
  root.setAttribute("width", String(width * points * (zoom ?? 1)));
  root.setAttribute("height", String(height * points * (zoom ?? 1)));
  root.classList.toggle("fitted", zoom === null);
}

function sizeTo(value: number | null): void {
  zoom = value === null ? null : Math.min(8, Math.max(0.1, value));
  editor.setState({ zoom });
  size();
}

/** The size that the picture has on the page now. */
function current(): number {
  const root = svg();
  if (zoom !== null || root === null) return zoom ?? 1;
  return root.getBoundingClientRect().width / (root.viewBox.baseVal.width * (4 / 3));
}
fit.addEventListener("click", () => sizeTo(null));
element("smaller", HTMLButtonElement).addEventListener("click", () => sizeTo(current() / STEP));
element("larger", HTMLButtonElement).addEventListener("click", () => sizeTo(current() * STEP));
picture.addEventListener(
  "wheel",
  (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    sizeTo(current() * Math.exp(-event.deltaY / 300));
  },
  { passive: false },
);

editor.postMessage({ type: "ready" });
