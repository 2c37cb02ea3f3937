/** A stub of the editor's module: what the extension calls of it, and what tests see and say. */

type Listener<T> = (value: T) => unknown;

export class EventEmitter<T> {
  private readonly listeners = new Set<Listener<T>>();
  readonly event = (listener: Listener<T>) => {
    this.listeners.add(listener);
    return { dispose: () => this.listeners.delete(listener) };
  };
  fire(value: T): void {
    for (const listener of [...this.listeners]) listener(value);
  }
  get size(): number {
    return this.listeners.size;
  }
}

export class Position {
  constructor(
    readonly line: number,
    readonly character: number,
  ) {}
}
export class Range {
  readonly start: Position;
  readonly end: Position;
  constructor(...at: [Position, Position] | [number, number, number, number]) {
    [this.start, this.end] =
      at.length === 2 ? at : [new Position(at[0], at[1]), new Position(at[2], at[3])];
  }
}
export const Uri = {
  parse: (text: string) => ({ toString: () => text }),
  joinPath: (base: { path: string }, ...parts: string[]) => ({ path: [base.path, ...parts].join("/") }),
};
export const ColorThemeKind = { Light: 1, Dark: 2, HighContrast: 3, HighContrastLight: 4 };
export const ViewColumn = { One: 1, Beside: -2 };
export const TextEditorRevealType = { InCenterIfOutsideViewport: 2 };

export const events = {
  editor: new EventEmitter<unknown>(),
  selection: new EventEmitter<unknown>(),
  theme: new EventEmitter<unknown>(),
  text: new EventEmitter<unknown>(),
  configuration: new EventEmitter<unknown>(),
  trust: new EventEmitter<unknown>(),
};
export const seen = {
  errors: [] as string[],
  shown: [] as { document: unknown; options: Record<string, unknown> }[],
  revealed: [] as unknown[],
  panels: [] as Panel[],
  commands: new Map<string, (...given: unknown[]) => unknown>(),
  executed: [] as unknown[][],
  copied: "",
};
/** What the user does next, and how the editor is set up. */
export const setup = { choice: undefined as string | undefined, settings: {} as Record<string, unknown> };

export class Panel {
  title = "";
  readonly posted: Record<string, unknown>[] = [];
  readonly messages = new EventEmitter<unknown>();
  readonly closed = new EventEmitter<void>();
  revealed = 0;
  readonly webview = {
    html: "",
    cspSource: "vscode-resource:",
    asWebviewUri: (uri: { path: string }) => `vscode-resource:${uri.path}`,
    onDidReceiveMessage: this.messages.event,
    postMessage: async (message: Record<string, unknown>) => this.posted.push(message),
  };
  readonly onDidDispose = this.closed.event;
  reveal(): void {
    this.revealed += 1;
  }
}

export const window = {
  activeTextEditor: undefined as unknown,
  activeColorTheme: { kind: ColorThemeKind.Dark },
  onDidChangeActiveTextEditor: events.editor.event,
  onDidChangeTextEditorSelection: events.selection.event,
  onDidChangeActiveColorTheme: events.theme.event,
  createWebviewPanel: (..._given: unknown[]) => {
    const panel = new Panel();
    seen.panels.push(panel);
    return panel;
  },
  showErrorMessage: async (message: string, ..._choices: string[]) => {
    seen.errors.push(message);
    return setup.choice;
  },
  showTextDocument: async (document: unknown, options: Record<string, unknown>) => {
    seen.shown.push({ document, options });
    return { revealRange: (range: unknown) => seen.revealed.push(range) };
  },
};
export const workspace = {
  isTrusted: true,
  workspaceFolders: undefined as { uri: { fsPath: string } }[] | undefined,
  onDidChangeTextDocument: events.text.event,
  onDidChangeConfiguration: events.configuration.event,
  onDidGrantWorkspaceTrust: events.trust.event,
  createFileSystemWatcher: (pattern: string) => ({ pattern, dispose: () => undefined }),
  getConfiguration: (_section: string) => ({
    get: (key: string, otherwise: unknown) => setup.settings[key] ?? otherwise,
  }),
};
export const commands = {
  registerCommand: (name: string, run: (...given: unknown[]) => unknown) => {
    seen.commands.set(name, run);
    return { dispose: () => seen.commands.delete(name) };
  },
  executeCommand: async (...given: unknown[]) => seen.executed.push(given),
};
export const env = {
  clipboard: {
    writeText: async (text: string) => {
      seen.copied = text;
    },
  },
};
