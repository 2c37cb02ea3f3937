// The page: a spec, and what follows from it beside it.

import { applyFix, specEditor, goTo, markPart, pythonViewer, setText, showDiagnostics, textOf } from "./editor.js";
import { danet } from "./language.js";
import { element, showProof, showSummary, verdictWords } from "./panels.js";
import { Picture } from "./picture.js";
import { Python } from "./python.js";
import { services, showHints } from "./services.js";
import { decode, encode } from "./share.js";
import { followTheme } from "./theme.js";

const byId = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const later = (wait, work) => {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, wait);
  };
};

const data = await (await fetch("data.json")).json();
const examples = new Map(data.examples.map((example) => [example.id, example]));
const FIRST = data.first;

// -- what the address holds -------------------------------------------------------------------------

/** `file` is the name from which `use "..."` starts; `other` is what is compared. */
const state = { text: "", file: "", network: "", level: "stage", tab: "topology", other: null };

function take(example) {
  Object.assign(state, { text: example.text, file: example.file, network: "" });
}

let unread = "";
try {
  const held = await decode(location.hash);
  if (held?.example && !examples.has(held.example)) throw new Error(`there is no example ${held.example}`);
  take(examples.get(held?.example ?? FIRST));
  if (held && !held.example) Object.assign(state, held);
} catch (error) {
  unread = `The address could not be read: ${error.message}`;
  take(examples.get(FIRST));
}

const isExample = () => data.examples.find((each) => each.text === state.text && each.file === state.file);

async function address() {
  const example = isExample();
  const plain = example && !state.network && state.level === "stage" && state.tab === "topology" && !state.other;
  if (!plain) return encode(state);
  return example.id === FIRST ? "" : `#example=${encodeURIComponent(example.id)}`;
}

const keepAddress = later(300, async () => {
  history.replaceState(null, "", `${location.pathname}${location.search}${await address()}`);
});

// -- Python -----------------------------------------------------------------------------------------

const status = byId("status");
function say(text, kind = "") {
  status.textContent = text;
  status.dataset.state = kind;
}

const python = new Python((news) => {
  if (news.failed) {
    say("danetc could not be loaded", "error");
    picture.note(`danetc could not be loaded: ${news.failed}`);
  } else if (news.state === "python") say("Starting danetc", "busy");
});
say("Loading Python", "busy");

// -- the spec ---------------------------------------------------------------------------------------

const theme = followTheme(byId("theme"), () => followView());
const language = danet(data.words);
const asked = () => ({ text: state.text, name: state.file, network: state.network });
let cursor = 0;

byId("editor").replaceChildren();
const editor = specEditor(byId("editor"), "Spec, in the danet language", language, {
  services: services(python, asked, (place) => tell(`Defined in ${place}`)),
  onChange() {
    state.text = textOf(editor);
    example.value = isExample()?.id ?? "";
    keepAddress();
    soon();
  },
  onCursor(at) {
    cursor = at;
    picture.follow(at);
  },
});
const soon = later(120, () => check());

const problems = byId("problems");
let checkedOnce = false;

async function check() {
  const text = state.text;
  const reply = await python.ask("check", asked());
  if (!reply || text !== state.text) return;
  if (reply.error) {
    say(reply.error, "error");
    return;
  }
  const { diagnostics, networks, hints } = reply.result;
  showDiagnostics(editor, diagnostics);
  showHints(editor, hints);
  showProblems(diagnostics);
  const errors = diagnostics.filter((item) => item.severity === "error").length;
  const warnings = diagnostics.length - errors;
  const many = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  if (!checkedOnce) performance.measure("first check");
  const seconds = checkedOnce ? ` · ${(reply.ms / 1000).toFixed(2)} s` : "";
  if (errors) say(many(errors, "error"), "error");
  else if (warnings) say(`${many(warnings, "warning")}${seconds}`, "warning");
  else say(`no errors${seconds}`, "good");
  checkedOnce = true;
  if (!errors) {
    offer(byId("network"), networks, state.network);
    if (!networks.includes(state.network)) state.network = "";
  }
  await followView(errors ? many(errors, "error") : "");
  document.documentElement.dataset.shown = `${Number(document.documentElement.dataset.shown ?? 0) + 1}`;
}

function showProblems(diagnostics) {
  problems.hidden = diagnostics.length === 0;
  problems.replaceChildren(...diagnostics.map((item) => {
    const go = element("button", {},
      element("b", {}, `${item.severity} ${item.code}`), ` line ${item.line}: ${item.message}`,
      item.label ? element("small", {}, item.label) : null,
      item.hint ? element("small", {}, `Hint: ${item.hint}`) : null,
      ...item.labels.map((label) => element("small", {}, `${label.place}: ${label.text}`)));
    go.addEventListener("click", () => goTo(editor, item.range));
    const fixes = item.fixes.filter((fix) => fix.edits.length > 0).map((fix) => {
      const button = element("button", { class: "fix" }, fix.title);
      button.addEventListener("click", () => applyFix(editor, fix));
      return button;
    });
    return element("div", { class: "problem", "data-severity": item.severity }, go, ...fixes);
  }));
}

function offer(select, names, chosen) {
  select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  select.value = names.includes(chosen) ? chosen : names[0] ?? "";
  select.disabled = names.length < 2;
}

byId("network").addEventListener("change", (event) => {
  state.network = event.target.value;
  keepAddress();
  followView();
});

// -- views ------------------------------------------------------------------------------------------

const part = byId("part");
const picture = new Picture(byId("picture"), {
  part(place, words) {
    part.textContent = words.replaceAll("\n", " · ");
    markPart(editor, place?.range);
  },
  open: (place) => place.range && goTo(editor, place.range),
});
const both = new Picture(byId("both"));
const model = pythonViewer(byId("model-text"), "model.py");
let drawn = false;

/** Brings the view that is seen up to date. With errors it stays as it is, and says so. */
async function followView(errors = "") {
  if (errors) {
    if (state.tab === "topology") picture.note(drawn ? `${errors}. The picture is that of the spec before.` : errors);
    if (state.tab === "compare") verdict(errors);
    return;
  }
  await views[state.tab]();
}

function showPicture({ svg, network, places }) {
  drawn = true;
  picture.show(svg, { label: `Topology of ${network}, level ${state.level}`, places });
  picture.follow(cursor);
}

const views = {
  async topology() {
    const request = { ...asked(), level: state.level, theme: theme() };
    const reply = await python.ask("draw", request, "draw");
    if (!reply || request.text !== state.text || request.level !== state.level) return;
    if (reply.error) {
      picture.note(reply.error);
      return;
    }
    showPicture(reply.result);
  },

  async summary() {
    await table("summary", showSummary);
  },

  async propositions() {
    await table("propositions", showProof, "prove");
  },

  async compare() {
    if (!other) openOther();
    state.other.text = textOf(other);
    const sides = { left: asked(), right: { text: state.other.text, name: state.other.file, network: state.other.network } };
    const found = await python.ask("check", sides.right, "check other");
    if (!found || found.error) return;
    showDiagnostics(other, found.result.diagnostics);
    if (found.result.networks.length) offer(byId("other-network"), found.result.networks, state.other.network);
    const reply = await python.ask("equiv", sides);
    if (!reply) return;
    verdict(reply.error ?? verdictWords(reply.result), reply.result?.verdict);
    const drawn = await python.ask("compare", { ...sides, theme: theme() });
    if (!drawn) return;
    if (drawn.error) both.note(drawn.error);
    else both.show(drawn.result.svg, { label: "How both wire their blocks" });
  },

  async model() {
    const reply = await python.ask("model", asked());
    if (reply) setText(model, reply.result ?? `# ${reply.error.replaceAll("\n", "\n# ")}\n`);
  },
};

async function table(id, show, method = id) {
  const reply = await python.ask(method, asked());
  if (!reply) return;
  if (reply.error) byId(id).replaceChildren(element("p", {}, reply.error));
  else show(byId(id), reply.result);
}

function verdict(text, kind = "") {
  byId("verdict").textContent = text;
  byId("verdict").dataset.verdict = kind;
}

// What is compared: another network of the same file, else another example.
let other = null;
function openOther() {
  if (!state.other) state.other = { text: state.text, file: state.file, network: [...byId("network").options].at(-1)?.value ?? "" };
  byId("other-example").value = data.examples.find((each) => each.text === state.other.text)?.id ?? "";
  other = specEditor(byId("other-editor"), "The spec to compare with", language, {
    onChange: later(150, () => {
      state.other.text = textOf(other);
      keepAddress();
      views.compare();
    }),
  });
  setText(other, state.other.text);
}
function closeOther() {
  other?.destroy();
  other = state.other = null;
}
byId("other-example").addEventListener("change", (event) => {
  const chosen = examples.get(event.target.value);
  if (!chosen) return;
  Object.assign(state.other, { text: chosen.text, file: chosen.file, network: "" });
  setText(other, chosen.text);
});
byId("other-network").addEventListener("change", (event) => {
  state.other.network = event.target.value;
  keepAddress();
  views.compare();
});

const tabs = all("[role=tab]");
function showTab(id) {
  state.tab = tabs.some((tab) => tab.getAttribute("aria-controls") === id) ? id : "topology";
  for (const tab of tabs) {
    const chosen = tab.getAttribute("aria-controls") === state.tab;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
  keepAddress();
  if (checkedOnce) check();
}
for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => showTab(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
}

for (const level of all("[name=level]")) {
  level.addEventListener("change", () => {
    state.level = level.value;
    keepAddress();
    followView();
  });
}
byId("zoom-in").addEventListener("click", () => picture.zoom(1.25));
byId("zoom-out").addEventListener("click", () => picture.zoom(0.8));
byId("fit").addEventListener("click", () => picture.fit());

// -- what can be taken along ------------------------------------------------------------------------

const said = byId("said");
const quiet = later(4000, () => (said.textContent = ""));
function tell(text) {
  said.textContent = text;
  quiet();
}

async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    tell(done);
  } catch {
    tell("The browser does not allow copying; the address bar has the address");
  }
}

function save(text, name, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

byId("share").addEventListener("click", async () => {
  const found = await encode(state);
  history.replaceState(null, "", `${location.pathname}${location.search}${found}`);
  await copy(location.href, "Address copied: it holds the spec");
});
// A picture on its own turns dark where its viewer prefers that, as that of `danetc draw` does.
byId("save").addEventListener("click", async () => {
  const reply = await python.ask("draw", { ...asked(), level: state.level, theme: "auto" }, "save");
  if (!reply || reply.error) return tell(reply?.error ?? "");
  save(reply.result.svg, `${reply.result.network}_${state.level}.svg`, "image/svg+xml");
});
byId("copy-model").addEventListener("click", () => copy(textOf(model), "model.py copied"));
byId("save-model").addEventListener("click", () => save(textOf(model), "model.py", "text/x-python"));

async function format() {
  const reply = await python.ask("format", asked());
  if (!reply) return;
  if (reply.error) tell(`Not formatted: ${reply.error}`);
  else if (reply.result !== state.text) {
    const at = Math.min(cursor, reply.result.length);
    editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: reply.result }, selection: { anchor: at } });
  }
}
byId("format").addEventListener("click", format);
document.addEventListener("keydown", (event) => {
  if (event.altKey && event.shiftKey && event.code === "KeyF") {
    event.preventDefault();
    format();
  }
});

// -- examples ---------------------------------------------------------------------------------------

const example = byId("example");
for (const select of [example, byId("other-example")]) {
  select.append(element("option", { value: "" }, "Your own"));
  for (const [group, items] of Map.groupBy(data.examples, (each) => each.group)) {
    select.append(element("optgroup", { label: group },
      ...items.map((each) => element("option", { value: each.id }, each.title))));
  }
}
example.addEventListener("change", () => {
  const chosen = examples.get(example.value);
  if (!chosen) return;
  if (state.tab !== "compare") closeOther();
  take(chosen);
  setText(editor, chosen.text);
});

// -- the line between -------------------------------------------------------------------------------

const divider = byId("divider"), main = document.querySelector("main");
function split(percent) {
  const share = Math.min(75, Math.max(20, percent));
  byId("spec").style.setProperty("--split", `${share}%`);
  divider.setAttribute("aria-valuenow", Math.round(share));
}
divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
divider.addEventListener("pointermove", (event) => {
  if (divider.hasPointerCapture(event.pointerId)) split((100 * event.clientX) / main.clientWidth);
});
divider.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -3, ArrowRight: 3 }[event.key];
  if (step) split(Number(divider.getAttribute("aria-valuenow")) + step);
});

// -- the beginning ----------------------------------------------------------------------------------

addEventListener("hashchange", () => location.reload());
const radio = all("[name=level]").find((each) => each.value === state.level);
if (radio) radio.checked = true;
else state.level = "stage";
setText(editor, state.text);
showTab(state.tab);
if (unread) tell(unread);
// The first picture was drawn when the page was made: it is there before Python is.
if (isExample()?.id === FIRST && !state.network && state.level === "stage" && theme() === "light") {
  const { result } = await (await fetch("first.json")).json();
  if (!drawn) showPicture(result);
}
