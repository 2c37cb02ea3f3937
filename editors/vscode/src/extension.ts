/** The extension: the language server as a client has it, and the preview. */

import * as vscode from "vscode";
import { LanguageClient, type LanguageClientOptions } from "vscode-languageclient/node";
import { page } from "./page";
import { Preview } from "./preview";
import type { DrawParams, Drawn } from "./protocol";
import { INSTALL, command, problem } from "./server";

let client: LanguageClient | undefined;
let preview: Preview | undefined;
let watcher: vscode.FileSystemWatcher | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  context.subscriptions.push(
    vscode.commands.registerCommand("danet.showPreview", () => showPreview(context)),
    vscode.commands.registerCommand("danet.restartServer", restart),
    vscode.workspace.onDidChangeConfiguration(async (event) => {
      if (event.affectsConfiguration("danet.server")) await restart();
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(restart),
  );
  await start();
}

export async function deactivate(): Promise<void> {
  preview?.dispose();
  watcher?.dispose();
  await stop();
}

async function start(): Promise<void> {
  const setting = vscode.workspace.getConfiguration("danet").get<string>("server.path", "");
  const trusted = vscode.workspace.isTrusted;
  const folders = trusted ? (vscode.workspace.workspaceFolders ?? []).map((folder) => folder.uri.fsPath) : [];
  const path = command(setting, folders);
  const wrong = await problem(path, "--version");
  if (wrong !== undefined) return complain(wrong);
  watcher ??= vscode.workspace.createFileSystemWatcher("**/*.danet");
  const options: LanguageClientOptions = {
    documentSelector: [{ language: "danet" }],
    synchronize: { fileEvents: watcher }, // specs use files that are not open
  };
  const made = new LanguageClient("danet", "danet", { command: path, args: ["lsp"] }, options);
  try {
    await made.start();
    client = made;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    await complain((await problem(path, "lsp")) ?? `The language server did not start: ${reason}`);
  }
}

async function stop(): Promise<void> {
  const running = client;
  client = undefined;
  await running?.stop();
}

async function restart(): Promise<void> {
  await stop();
  await start();
  await preview?.draw();
}

async function complain(message: string): Promise<void> {
  const choice = await vscode.window.showErrorMessage(message, "Copy Install Command", "Open Settings");
  if (choice === "Copy Install Command") await vscode.env.clipboard.writeText(INSTALL);
  if (choice === "Open Settings") {
    await vscode.commands.executeCommand("workbench.action.openSettings", "danet.server.path");
  }
}

function showPreview(context: vscode.ExtensionContext): void {
  if (preview?.open) return preview.reveal(vscode.window.activeTextEditor);
  const beside = { viewColumn: vscode.ViewColumn.Beside, preserveFocus: true };
  const folder = vscode.Uri.joinPath(context.extensionUri, "dist");
  const panel = vscode.window.createWebviewPanel("danet.preview", "Topology", beside, {
    enableScripts: true,
    localResourceRoots: [folder],
  });
  const place = (name: string) => panel.webview.asWebviewUri(vscode.Uri.joinPath(folder, name)).toString();
  panel.webview.html = page({
    source: panel.webview.cspSource,
    script: place("preview.js"),
    style: place("preview.css"),
  });
  const level = vscode.workspace.getConfiguration("danet").get<string>("preview.level", "stage");
  preview = new Preview(panel, ask, vscode.window.activeTextEditor, level);
}

async function ask(method: string, params: DrawParams): Promise<Drawn> {
  if (client === undefined) throw new Error(`The language server is not running: ${INSTALL}`);
  return client.sendRequest<Drawn>(method, params);
}
