/** The TextMate grammar on every shipped spec, by the engine that the editor has. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { type IGrammar, INITIAL, Registry, parseRawGrammar } from "vscode-textmate";
import { OnigScanner, OnigString, loadWASM } from "vscode-oniguruma";

const ROOT = join(process.cwd(), "..", "..");
const GRAMMAR = "syntaxes/danet.tmLanguage.json";

async function grammar(): Promise<IGrammar> {
  const wasm = createRequire(__filename).resolve("vscode-oniguruma/release/onig.wasm");
  await loadWASM(readFileSync(wasm).buffer as ArrayBuffer);
  const registry = new Registry({
    onigLib: Promise.resolve({
      createOnigScanner: (patterns) => new OnigScanner(patterns),
      createOnigString: (text) => new OnigString(text),
    }),
    loadGrammar: async () => parseRawGrammar(readFileSync(GRAMMAR, "utf8"), GRAMMAR),
  });
  const found = await registry.loadGrammar("source.danet");
  assert.ok(found);
  return found;
}
const made = grammar();

/** Each piece of a text that is no white space, with its innermost scope. */
async function scopes(text: string): Promise<[string, string][]> {
  const found: [string, string][] = [];
  let state = INITIAL;
  for (const line of text.split("\n")) {
    const result = (await made).tokenizeLine(line, state);
    state = result.ruleStack;
    for (const token of result.tokens) {
      const piece = line.slice(token.startIndex, token.endIndex).trim();
      if (piece) found.push([piece, token.scopes.at(-1)!]);
    }
  }
  return found;
}

test("every piece of every spec has a scope", async () => {
  let files = 0;
  for (const folder of ["specs", "dsl/std"]) {
    for (const name of readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })) {
      if (!name.endsWith(".danet")) continue;
      files += 1;
      const bare = (await scopes(readFileSync(join(ROOT, folder, name), "utf8"))).filter(([, scope]) => scope === "source.danet");
      assert.deepEqual(bare, [], name);
    }
  }
  assert.ok(files > 100);
});

const CASES: [string, Record<string, string>][] = [
  ["network a(b = 1) { x = network -> conv }", { a: "entity.name.type", conv: "support.function", b: "variable.other.property" }],
  ["rule r { in[i] = sum(out[j] for j in 0 .. i-1) }", { sum: "support.function", "..": "keyword.operator.range", for: "keyword.control", j: "variable.other" }],
  ['use std; use "a.danet" (b) # all', { std: "entity.name.namespace", '"a.danet"': "string.quoted", "# all": "comment.line" }],
  ["phase full { epochs = 5 }", { phase: "keyword.declaration", full: "entity.name.section", epochs: "variable.other.property", "5": "constant.numeric" }],
  ["a = max(over = time) + 0.5e-3", { time: "constant.other", over: "variable.parameter", "0.5e-3": "constant.numeric" }],
  ["s = resnet50 via sew by densely_additive with (neuron = PLIF)", { resnet50: "support.class", via: "keyword.control", with: "keyword.control", PLIF: "support.class" }],
  ["x = a and not b == c", { and: "keyword.operator.word", "==": "keyword.operator.comparison", b: "variable.other" }],
];
test("words have the scopes of their places", async () => {
  for (const [text, expected] of CASES) {
    const found = await scopes(text);
    for (const [piece, scope] of Object.entries(expected)) {
      const own = found.filter(([text]) => text === piece).map(([, scope]) => scope);
      assert.ok(own.length > 0 && own.some((each) => each.startsWith(scope)), `${piece} in ${text}: ${own.join()}`);
    }
  }
});
