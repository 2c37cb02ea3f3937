/** What is packaged: the bundle loads where the editor's module alone is given, and says what it offers. */
import assert from "node:assert/strict";
import Module, { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";

test("the bundle needs nothing but the editor", () => {
  const anything = new Proxy(class {}, { get: (target, name) => (name === "prototype" ? target.prototype : anything) }) as object;
  const asked = new Set<string>();
  const loader = Module as unknown as { _load: (name: string, ...more: unknown[]) => unknown };
  const load = loader._load;
  loader._load = (name, ...more) => {
    asked.add(name);
    return name === "vscode" ? anything : load(name, ...more);
  };
  try {
    const bundle = createRequire(__filename)(join(process.cwd(), "dist", "extension.js")) as Record<string, unknown>;
    assert.deepEqual([typeof bundle.activate, typeof bundle.deactivate], ["function", "function"]);
  } finally {
    loader._load = load;
  }
  const others = [...asked].filter((name) => !name.endsWith("extension.js") && name !== "vscode");
  assert.deepEqual(others.filter((name) => !Module.builtinModules.includes(name.replace(/^node:/, ""))), []);
});
