import assert from "node:assert/strict";
import { test } from "node:test";
import { activate, deactivate } from "../src/extension";
import { INSTALL } from "../src/server";
import { clients } from "./client";
import * as vscode from "./vscode";

const context = () => ({ subscriptions: [] as unknown[], extensionUri: { path: "/extension" } });
const settle = () => new Promise((resolve) => setTimeout(resolve, 5));
const WORKS = "/bin/true"; // a command that takes any arguments
const posix = { skip: process.platform === "win32" };

test("without danetc a message says how to get it", posix, async () => {
  vscode.setup.settings["server.path"] = "/nowhere/danetc";
  vscode.setup.choice = "Copy Install Command";
  await activate(context() as never);
  assert.equal(clients.made.length, 0);
  assert.match(vscode.seen.errors.at(-1)!, /\/nowhere\/danetc/);
  assert.equal(vscode.seen.copied, INSTALL);
  vscode.setup.choice = "Open Settings";
  await vscode.seen.commands.get("danet.restartServer")!();
  assert.deepEqual(vscode.seen.executed.at(-1), ["workbench.action.openSettings", "danet.server.path"]);
  vscode.setup.choice = undefined;
});

test("a setting that is mended starts the server", posix, async () => {
  vscode.setup.settings["server.path"] = WORKS;
  vscode.events.configuration.fire({ affectsConfiguration: (section: string) => section === "danet.server" });
  while (clients.made.at(-1)?.running !== true) await settle(); // node ends a test that never does
  assert.deepEqual(clients.made.at(-1)?.server, { command: WORKS, args: ["lsp"] });
  const options = clients.made.at(-1)?.options as { documentSelector: unknown; synchronize: { fileEvents: { pattern: string } } };
  assert.deepEqual(options.documentSelector, [{ language: "danet" }]);
  assert.equal(options.synchronize.fileEvents.pattern, "**/*.danet");
  assert.equal(clients.made.at(-1)?.running, true);
});

test("the preview asks the server; there is one panel", posix, async () => {
  clients.answer = { networks: [], network: "", levels: [], level: "op", svg: "", boxes: {}, problem: "This file declares no network." };
  vscode.setup.settings["preview.level"] = "op";
  const document = { languageId: "danet", fileName: "a.danet", uri: { toString: () => "file:///a.danet" } };
  vscode.window.activeTextEditor = { document, selection: { active: new vscode.Position(0, 0) } };
  const show = vscode.seen.commands.get("danet.showPreview")!;
  show();
  await settle();
  const [method, params] = clients.made.at(-1)!.asked[0] as [string, { level: string }];
  assert.deepEqual([method, params.level], ["danetc/draw", "op"]);
  const panel = vscode.seen.panels[0]!;
  assert.match(panel.webview.html, /<script src="vscode-resource:\/extension\/dist\/preview.js">/);
  assert.match(panel.webview.html, /default-src 'none'; script-src vscode-resource:; style-src vscode-resource:;/);
  assert.equal(panel.posted.at(-1)?.text, "This file declares no network.");
  show();
  assert.deepEqual([vscode.seen.panels.length, panel.revealed], [1, 1]);
  panel.closed.fire();
  show();
  assert.equal(vscode.seen.panels.length, 2);
});

test("a server that does not start is said, and the preview says so too", posix, async () => {
  clients.fails = new Error("it ended");
  await vscode.seen.commands.get("danet.restartServer")!();
  assert.match(vscode.seen.errors.at(-1)!, /did not start: it ended/);
  await settle();
  assert.match(String(vscode.seen.panels[1]!.posted.at(-1)?.text), /not running.*pip install/);
  clients.fails = undefined;
});

test("the server ends with the extension", posix, async () => {
  await vscode.seen.commands.get("danet.restartServer")!();
  const last = clients.made.at(-1)!;
  assert.equal(last.running, true);
  await deactivate();
  assert.equal(last.running, false);
});
