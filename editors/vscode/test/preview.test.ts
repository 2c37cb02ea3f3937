import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Preview, type Ask } from "../src/preview";
import type { DrawParams, Drawn, Range } from "../src/protocol";
import * as vscode from "./vscode";

const range = (line: number, from: number, to: number): Range => ({
  start: { line, character: from },
  end: { line, character: to },
});
const drawn: Drawn = {
  networks: [
    { name: "a", range: { start: { line: 0, character: 0 }, end: { line: 9, character: 1 } } },
    { name: "b", range: range(12, 0, 40) },
  ],
  network: "a",
  levels: ["network", "stage"],
  level: "stage",
  svg: "<svg/>",
  boxes: {
    s0b0: { place: range(3, 4, 20), written: null, spans: [range(3, 4, 20)] },
    s1b0: { place: range(4, 4, 20), written: { uri: "file:///std/blocks.danet", range: range(5, 2, 9) }, spans: [range(4, 4, 20)] },
    far: { place: null, written: { uri: "file:///std/neurons.danet", range: range(7, 0, 3) }, spans: [] },
  },
  problem: "",
};

function editorOf(name: string, line = 3, character = 6, languageId = "danet") {
  const document = { languageId, fileName: `/specs/${name}`, uri: { toString: () => `file:///specs/${name}` } };
  return { document, viewColumn: 1, selection: { active: new vscode.Position(line, character) } };
}

/** Let what was promised happen. */
const settle = (milliseconds = 0) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function opened(answer: Ask, editor = editorOf("a.danet")) {
  const panel = new vscode.Panel();
  const preview = new Preview(panel as never, answer, editor as never, "stage", 5);
  return { panel, preview, editor };
}

beforeEach(() => {
  vscode.seen.shown.length = 0;
  vscode.window.activeColorTheme.kind = vscode.ColorThemeKind.Dark;
});

test("a picture is asked for, shown and marked", async () => {
  const asked: [string, DrawParams][] = [];
  const { panel } = opened(async (...given) => {
    asked.push(given);
    return drawn;
  });
  await settle();
  assert.deepEqual(asked, [
    [
      "danetc/draw",
      { textDocument: { uri: "file:///specs/a.danet" }, position: { line: 3, character: 6 }, level: "stage", theme: "dark", network: null },
    ],
  ]);
  assert.equal(panel.title, "Topology of a.danet");
  assert.deepEqual(panel.posted, [
    { type: "picture", svg: "<svg/>", boxes: ["s0b0", "s1b0", "far"], network: "a", networks: ["a", "b"], level: "stage", levels: ["network", "stage"], marked: ["s0b0"] },
  ]);
  panel.messages.fire({ type: "ready" });
  assert.equal(panel.posted.length, 2);
  assert.deepEqual(panel.posted[1], panel.posted[0]);
});

test("the picture follows the cursor, and is drawn again in another network alone", async () => {
  const asked: DrawParams[] = [];
  const { panel, editor } = opened(async (_method, params) => {
    asked.push(params);
    return params.position.line === 12 ? { ...drawn, network: "b" } : drawn;
  });
  await settle();
  editor.selection = { active: new vscode.Position(4, 5) };
  vscode.events.selection.fire({ textEditor: editor });
  assert.deepEqual(panel.posted.at(-1), { type: "mark", boxes: ["s1b0"] });
  editor.selection = { active: new vscode.Position(11, 0) }; // in no network
  vscode.events.selection.fire({ textEditor: editor });
  assert.deepEqual(panel.posted.at(-1), { type: "mark", boxes: [] });
  assert.equal(asked.length, 1);
  editor.selection = { active: new vscode.Position(12, 3) };
  vscode.events.selection.fire({ textEditor: editor });
  await settle(20);
  assert.equal(asked.length, 2);
  assert.equal(panel.posted.at(-1)?.network, "b");
  vscode.events.selection.fire({ textEditor: editorOf("other.danet") });
  await settle(20);
  assert.equal(asked.length, 2);
});

test("many edits ask once, one question at a time, and the last state is drawn", async () => {
  const waiting: ((answer: Drawn) => void)[] = [];
  const { editor, panel } = opened(() => new Promise((resolve) => waiting.push(resolve)));
  for (let i = 0; i < 20; i++) vscode.events.text.fire({ document: editor.document });
  await settle(20);
  vscode.events.text.fire({ document: editor.document });
  vscode.events.text.fire({ document: { languageId: "python" } });
  await settle(20);
  assert.equal(waiting.length, 1); // the first is not answered yet
  waiting[0]!({ ...drawn, svg: "<svg id='1'/>" });
  await settle();
  assert.equal(waiting.length, 2);
  waiting[1]!({ ...drawn, svg: "<svg id='2'/>" });
  await settle(20);
  assert.equal(waiting.length, 2);
  assert.deepEqual(panel.posted.map(({ svg }) => svg), ["<svg id='1'/>", "<svg id='2'/>"]);
});

test("a text with errors keeps the picture and says why; its boxes lead nowhere", async () => {
  let answer: Drawn = drawn;
  const { panel, editor } = opened(async () => answer);
  await settle();
  answer = { ...drawn, networks: [], network: "", svg: "", boxes: {}, problem: "Line 3: no such name" };
  vscode.events.text.fire({ document: editor.document });
  await settle(20);
  assert.deepEqual(panel.posted.at(-1), { type: "problem", text: "Line 3: no such name", level: "stage", levels: ["network", "stage"] });
  panel.messages.fire({ type: "open", box: "s0b0", written: false });
  await settle();
  assert.deepEqual(vscode.seen.shown, []);
  answer = drawn;
  vscode.events.text.fire({ document: editor.document });
  await settle(20);
  assert.equal(panel.posted.at(-1)?.type, "picture");
});

test("a network that was chosen is kept over an error", async () => {
  const asked: DrawParams[] = [];
  let answer: Drawn = { ...drawn, network: "b" };
  const { editor } = opened(async (_method, params) => {
    asked.push(params);
    return answer;
  });
  await settle();
  answer = { ...drawn, networks: [], network: "", boxes: {}, problem: "Line 1: broken" };
  vscode.events.text.fire({ document: editor.document });
  await settle(20);
  vscode.events.text.fire({ document: editor.document });
  await settle(20);
  assert.deepEqual(asked.map((params) => params.network), [null, "b", "b"]);
});

test("a click leads to the line, with the control key to where it was written", async () => {
  const { panel, editor } = opened(async () => drawn);
  await settle();
  panel.messages.fire({ type: "open", box: "s1b0", written: false });
  await settle();
  assert.equal(vscode.seen.shown[0]?.document, editor.document);
  assert.deepEqual((vscode.seen.shown[0]?.options.selection as vscode.Range).start, new vscode.Position(4, 4));
  panel.messages.fire({ type: "open", box: "s1b0", written: true });
  panel.messages.fire({ type: "open", box: "s0b0", written: true }); // written where it stands
  panel.messages.fire({ type: "open", box: "far", written: false }); // stands nowhere here
  panel.messages.fire({ type: "open", box: "none", written: false });
  await settle();
  const shown = vscode.seen.shown.slice(1).map(({ document, options }) => [String(document), (options.selection as vscode.Range).start.line]);
  assert.deepEqual(shown, [["file:///std/blocks.danet", 5], [String(editor.document), 3], ["file:///std/neurons.danet", 7]]);
});

test("a network that is chosen on the page is gone to", async () => {
  const { panel } = opened(async () => drawn);
  await settle();
  panel.messages.fire({ type: "network", network: "b" });
  await settle();
  assert.equal((vscode.seen.shown[0]?.options.selection as vscode.Range).start.line, 12);
});

test("levels and themes are asked for", async () => {
  const asked: DrawParams[] = [];
  const { panel } = opened(async (_method, params) => {
    asked.push(params);
    return drawn;
  });
  await settle();
  panel.messages.fire({ type: "level", level: "op" });
  await settle();
  for (const kind of [vscode.ColorThemeKind.HighContrastLight, vscode.ColorThemeKind.HighContrast, vscode.ColorThemeKind.Light]) {
    vscode.window.activeColorTheme.kind = kind;
    vscode.events.theme.fire(undefined);
    await settle();
  }
  assert.deepEqual(asked.map(({ level, theme }) => [level, theme]), [
    ["stage", "dark"], ["op", "dark"], ["op", "light"], ["op", "dark"], ["op", "light"],
  ]);
});

test("another spec is followed, another language is not", async () => {
  const asked: string[] = [];
  const { panel } = opened(async (_method, params) => {
    asked.push(params.textDocument.uri);
    return drawn;
  });
  await settle();
  vscode.events.editor.fire(undefined); // the page itself
  vscode.events.editor.fire(editorOf("model.py", 0, 0, "python"));
  vscode.events.editor.fire(editorOf("b.danet"));
  await settle();
  assert.deepEqual(asked, ["file:///specs/a.danet", "file:///specs/b.danet"]);
  assert.equal(panel.title, "Topology of b.danet");
});

test("a change of another spec, which this one may use, is seen", async () => {
  let asked = 0;
  opened(async () => {
    asked += 1;
    return drawn;
  });
  await settle();
  vscode.events.text.fire({ document: editorOf("library.danet").document });
  await settle(20);
  assert.equal(asked, 2);
});

test("an answer for a file that was left is not shown", async () => {
  const waiting: ((answer: Drawn) => void)[] = [];
  const { panel } = opened(() => new Promise((resolve) => waiting.push(resolve)));
  vscode.events.editor.fire(editorOf("b.danet"));
  waiting[0]!({ ...drawn, svg: "a" });
  await settle();
  waiting[1]!({ ...drawn, svg: "b" });
  await settle();
  assert.deepEqual(panel.posted.map(({ svg }) => svg), ["b"]);
});

test("what fails is said", async () => {
  const { panel } = opened(async () => {
    throw new Error("The language server is not running");
  });
  await settle();
  assert.deepEqual(panel.posted, [{ type: "problem", text: "The language server is not running", level: "stage", levels: [] }]);
});

test("a closed page asks for nothing more", async () => {
  let asked = 0;
  const { panel, editor, preview } = opened(async () => {
    asked += 1;
    return drawn;
  });
  await settle();
  const listening = Object.values(vscode.events).map((event) => event.size);
  panel.closed.fire();
  assert.equal(preview.open, false);
  assert.deepEqual(Object.values(vscode.events).map((event) => event.size).slice(0, 4), listening.slice(0, 4).map((size) => size - 1));
  vscode.events.text.fire({ document: editor.document });
  await settle(20);
  assert.equal(asked, 1);
});
