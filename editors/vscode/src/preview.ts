/** The picture beside the text: what is asked of the server, and what the page shows and says. */

import * as vscode from "vscode";
import { boxesAt, networkAt } from "./places";
import { DRAW, type DrawParams, type Drawn, type FromPage, type Location, type Range, type Theme, type ToPage } from "./protocol";

export type Ask = (method: string, params: DrawParams) => Promise<Drawn>;
const PAUSE = 150; // milliseconds without typing until a picture is asked for

export class Preview {
  /** Whether its panel is still there. */
  open = true;
  private editor: vscode.TextEditor | undefined;
  private level: string;
  private drawn: Drawn | undefined;
  private shown: ToPage | undefined; // the last picture or problem, for a page that opens anew
  private timer: NodeJS.Timeout | undefined;
  private asking = false;
  private again = false;
  private readonly disposables: vscode.Disposable[] = [];

  constructor(
    private readonly panel: vscode.WebviewPanel,
    private readonly ask: Ask,
    editor: vscode.TextEditor | undefined,
    level: string,
    private readonly pause: number = PAUSE,
  ) {
    this.level = level;
    this.disposables.push(
      panel.webview.onDidReceiveMessage((message: FromPage) => this.told(message)),
      panel.onDidDispose(() => this.dispose()),
      vscode.window.onDidChangeActiveTextEditor((active) => this.follow(active)),
      vscode.window.onDidChangeTextEditorSelection((event) => this.moved(event.textEditor)),
      vscode.window.onDidChangeActiveColorTheme(() => this.draw()),
      vscode.workspace.onDidChangeTextDocument((event) => {
        if (event.document.languageId === "danet") this.soon(); // it may be one that the spec uses
      }),
    );
    this.follow(editor);
  }

  /** Show another file's picture; an editor of something else changes nothing. */
  follow(editor: vscode.TextEditor | undefined): void {
    if (editor?.document.languageId !== "danet") return;
    if (editor.document !== this.editor?.document) this.drawn = undefined;
    this.editor = editor;
    this.panel.title = `Topology of ${editor.document.fileName.split(/[\\/]/).pop()}`;
    void this.draw();
  }

  /** Ask for the picture again, one question at a time; what changes meanwhile is asked for next. */
  async draw(): Promise<void> {
    clearTimeout(this.timer);
    const editor = this.editor;
    if (editor === undefined) return;
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    const document = editor.document;
    try {
      const drawn = await this.ask(DRAW, {
        textDocument: { uri: document.uri.toString() },
        position: plain(editor.selection.active),
        level: this.level,
        theme: theme(),
        network: this.drawn?.network || null,
      });
      if (document === this.editor?.document) this.show(drawn);
    } catch (error) {
      this.say(error instanceof Error ? error.message : String(error));
    } finally {
      this.asking = false;
      if (this.again) {
        this.again = false;
        void this.draw();
      }
    }
  }

  /** Bring the picture of an editor to the front. */
  reveal(editor: vscode.TextEditor | undefined): void {
    this.panel.reveal(undefined, true);
    this.follow(editor);
  }

  dispose(): void {
    this.open = false;
    clearTimeout(this.timer);
    this.editor = undefined;
    for (const item of this.disposables) item.dispose();
  }

  private soon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.draw(), this.pause);
  }

  private show(drawn: Drawn): void {
    if (drawn.problem) {
      // What was drawn before stays: its places are those of an older text, so it marks nothing.
      this.drawn = { ...drawn, network: drawn.network || this.drawn?.network || "" };
      return this.say(drawn.problem, drawn.levels);
    }
    this.drawn = drawn;
    this.post({
      type: "picture",
      svg: drawn.svg,
      boxes: Object.keys(drawn.boxes),
      network: drawn.network,
      networks: drawn.networks.map(({ name }) => name),
      level: drawn.level,
      levels: drawn.levels,
      marked: this.marked(),
    });
  }

  private say(text: string, levels: string[] = this.drawn?.levels ?? []): void {
    this.post({ type: "problem", text, level: this.level, levels });
  }

  private post(message: ToPage): void {
    this.shown = message;
    void this.panel.webview.postMessage(message);
  }

  private marked(): string[] {
    if (this.drawn === undefined || this.editor === undefined) return [];
    return boxesAt(this.drawn.boxes, plain(this.editor.selection.active));
  }

  /** The cursor has moved: mark what it is at, or draw the network that it has come to. */
  private moved(editor: vscode.TextEditor): void {
    if (editor.document !== this.editor?.document || this.drawn === undefined) return;
    this.editor = editor;
    const network = networkAt(this.drawn.networks, plain(editor.selection.active));
    if (network !== undefined && network !== this.drawn.network) return this.soon();
    void this.panel.webview.postMessage({ type: "mark", boxes: this.marked() } satisfies ToPage);
  }

  private told(message: FromPage): void {
    switch (message.type) {
      case "ready":
        if (this.shown !== undefined) void this.panel.webview.postMessage(this.shown);
        return;
      case "level":
        this.level = message.level;
        void this.draw();
        return;
      case "network": {
        const found = this.drawn?.networks.find(({ name }) => name === message.network);
        if (found !== undefined) void this.go(found.range.start);
        return;
      }
      case "open": {
        const box = this.drawn?.boxes[message.box];
        if (box === undefined) return;
        if (box.written !== null && (message.written || box.place === null)) void open(box.written);
        else if (box.place !== null) void this.go(box.place.start);
      }
    }
  }

  /** Put the cursor to a place of the text, and show it. */
  private async go(position: Range["start"]): Promise<void> {
    if (this.editor === undefined) return;
    const at = new vscode.Position(position.line, position.character);
    const editor = await vscode.window.showTextDocument(this.editor.document, {
      viewColumn: this.editor.viewColumn,
      selection: new vscode.Range(at, at),
    });
    editor.revealRange(new vscode.Range(at, at), vscode.TextEditorRevealType.InCenterIfOutsideViewport);
  }
}

async function open({ uri, range }: Location): Promise<void> {
  const selection = new vscode.Range(range.start.line, range.start.character, range.end.line, range.end.character);
  await vscode.window.showTextDocument(vscode.Uri.parse(uri), { viewColumn: vscode.ViewColumn.One, selection });
}

function plain(position: vscode.Position): Range["start"] {
  return { line: position.line, character: position.character };
}

function theme(): Theme {
  const { kind } = vscode.window.activeColorTheme;
  return kind === vscode.ColorThemeKind.Light || kind === vscode.ColorThemeKind.HighContrastLight ? "light" : "dark";
}
