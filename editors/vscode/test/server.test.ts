import assert from "node:assert/strict";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { command, problem } from "../src/server";

test("the command: the setting, an environment in the folder, the PATH", () => {
  const there = (...places: string[]) => (path: string) => places.includes(path);
  assert.equal(command(" /opt/danetc ", ["/work"], "linux", there()), "/opt/danetc");
  assert.equal(command("", ["/a", "/b"], "linux", there(join("/b", "venv", "bin", "danetc"))), join("/b", "venv", "bin", "danetc"));
  assert.equal(command("", ["/a"], "win32", there(join("/a", ".venv", "Scripts", "danetc.exe"))), join("/a", ".venv", "Scripts", "danetc.exe"));
  assert.equal(command("", ["/a"], "linux", there()), "danetc");
});

async function program(text: string): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), "danetc-")), "danetc");
  await writeFile(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return path;
}

test("what is wrong is said", { skip: process.platform === "win32" }, async () => {
  assert.equal(await problem(await program("exit 0"), "--version"), undefined);
  assert.match((await problem("/nowhere/danetc"))!, /not installed, or is not where.*\/nowhere\/danetc.*pip install "danetc\[lsp\]"/s);
  const without = await program("read line && exit 0; echo warning >&2; echo needs pygls >&2; exit 1");
  assert.match((await problem(without, "lsp"))!, /lsp` does not run: needs pygls$/);
  assert.match((await problem(await program("exit 3"), "lsp"))!, /lsp` does not run: .+/);
});
