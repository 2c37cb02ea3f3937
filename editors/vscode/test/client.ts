/** A stub of the language client: whether it starts, and what it was asked. */

export const clients = {
  made: [] as LanguageClient[],
  fails: undefined as Error | undefined,
  answer: {} as unknown,
};

export class LanguageClient {
  running = false;
  readonly asked: unknown[][] = [];
  constructor(
    readonly id: string,
    readonly name: string,
    readonly server: { command: string; args: string[] },
    readonly options: unknown,
  ) {
    clients.made.push(this);
  }
  async start(): Promise<void> {
    if (clients.fails !== undefined) throw clients.fails;
    this.running = true;
  }
  async stop(): Promise<void> {
    this.running = false;
  }
  async sendRequest(...given: unknown[]): Promise<unknown> {
    this.asked.push(given);
    return clients.answer;
  }
}
