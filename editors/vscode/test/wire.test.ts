/** The preview with the server itself, where DANETC_LSP says how to start it (tests/vscode does). */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import {
  DidChangeTextDocumentNotification,
  DidOpenTextDocumentNotification,
  InitializeRequest,
  InitializedNotification,
  ShutdownRequest,
  StreamMessageReader,
  StreamMessageWriter,
  createProtocolConnection,
} from "vscode-languageserver-protocol/node";
import { Preview } from "../src/preview";
import type { Drawn } from "../src/protocol";
import * as vscode from "./vscode";

const start: string[] | undefined = process.env.DANETC_LSP && JSON.parse(process.env.DANETC_LSP);
const uri = "file:///specs/net.danet";
const lines = [
  "# \u{1f600}",
  "use std",
  "network a { input = image(1, 8, 8); steps = 2; neuron = IF; surrogate = atan",
  "  stem = conv(4) -> norm -> spike",
  "  stages = stage(basic(4), 2) via origin",
  "  head = avgpool -> mean_over_time -> linear(2) }",
  "network b = a { steps = 1 }",
];

test("the preview and the server", { skip: start === undefined && "DANETC_LSP says no server" }, async () => {
  const server = spawn(start![0]!, start!.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
  const connection = createProtocolConnection(new StreamMessageReader(server.stdout), new StreamMessageWriter(server.stdin));
  connection.listen();
  await connection.sendRequest(InitializeRequest.type, { processId: null, rootUri: null, capabilities: {} });
  await connection.sendNotification(InitializedNotification.type, {});
  await connection.sendNotification(DidOpenTextDocumentNotification.type, {
    textDocument: { uri, languageId: "danet", version: 1, text: lines.join("\n") },
  });

  const document = { languageId: "danet", fileName: "/specs/net.danet", uri: { toString: () => uri } };
  const editor = { document, viewColumn: 1, selection: { active: new vscode.Position(4, 14) } };
  const panel = new vscode.Panel();
  new Preview(panel as never, (method, params) => connection.sendRequest<Drawn>(method, params), editor as never, "stage", 1);
  const next = async () => {
    while (panel.posted.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    return panel.posted.shift()!;
  };

  const picture = await next();
  assert.equal(picture.type, "picture");
  assert.match(String(picture.svg), /<svg/);
  assert.deepEqual([picture.network, picture.networks, picture.level], ["a", ["a", "b"], "stage"]);
  assert.deepEqual(picture.levels, ["network", "stage", "block", "op", "neuron"]);
  assert.deepEqual(picture.marked, ["s0b0", "s0b1"]);

  panel.messages.fire({ type: "open", box: "s0b1", written: false });
  await new Promise((resolve) => setTimeout(resolve));
  const { line, character } = (vscode.seen.shown.at(-1)!.options.selection as vscode.Range).start;
  assert.equal(lines[line]!.slice(character, character + 15), "stage(basic(4),");

  panel.messages.fire({ type: "level", level: "op" });
  const operations = await next();
  const box = (operations.boxes as string[]).find((key) => key.startsWith("s0b0"))!;
  panel.messages.fire({ type: "open", box, written: true }); // the block is one of the library
  await new Promise((resolve) => setTimeout(resolve));
  assert.match(String(vscode.seen.shown.at(-1)!.document), /^file:.*blocks\.danet$/);

  const change = (line: number, from: number, to: number, text: string, version: number) =>
    connection.sendNotification(DidChangeTextDocumentNotification.type, {
      textDocument: { uri, version },
      contentChanges: [{ range: { start: { line, character: from }, end: { line, character: to } }, text }],
    });
  await change(4, 27, 28, "", 2); // `stage(basic(4, 2)`
  vscode.events.text.fire({ document });
  const problem = await next();
  assert.equal(problem.type, "problem");
  assert.match(String(problem.text), /^Line 5: /);

  await change(4, 0, 100, "  stages = stage(basic(4), 3) via sew", 3);
  editor.selection = { active: new vscode.Position(6, 3) };
  vscode.events.text.fire({ document });
  const mended = await next();
  assert.deepEqual([mended.type, mended.network], ["picture", "b"]);

  await connection.sendRequest(ShutdownRequest.type);
  connection.end();
  connection.dispose();
  server.kill();
});
