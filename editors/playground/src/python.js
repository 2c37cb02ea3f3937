// danetc in a web worker. One request runs at a time; of those that wait, a newer one of the same
// key takes the place of an older one, whose promise resolves to null.

export class Python {
  constructor(onState) {
    this.worker = new Worker("worker.js", { type: "module" });
    this.waiting = new Map();
    this.running = null;
    this.ready = false;
    this.worker.onmessage = ({ data }) => this.receive(data, onState);
    this.worker.onerror = (event) => onState({ failed: event.message || "the worker could not be loaded" });
  }

  receive(data, onState) {
    if ("state" in data) {
      this.ready = data.state === "ready";
      onState(data);
    } else {
      const { resolve, sent } = this.running;
      this.running = null;
      resolve({ ...data.reply, ms: performance.now() - sent });
    }
    this.next();
  }

  /** The reply `{result}` or `{error}` of a method of danetc/editor/bridge.py, with the time it took. */
  ask(method, request = {}, key = method) {
    this.waiting.get(key)?.resolve(null);
    return new Promise((resolve) => {
      this.waiting.set(key, { request: JSON.stringify({ ...request, method }), resolve });
      this.next();
    });
  }

  next() {
    if (!this.ready || this.running || this.waiting.size === 0) return;
    const [key, item] = this.waiting.entries().next().value;
    this.waiting.delete(key);
    this.running = { ...item, sent: performance.now() };
    this.worker.postMessage(item.request);
  }
}
