// The page's folder, from what `npm ci` has installed and make.py has put there: scripts are bundled,
// Pyodide is copied, the first picture is drawn, and what Python compiles on import is compiled here.
//
// node build.mjs FOLDER

import { instance } from "@viz-js/viz";
import { build } from "esbuild";
import { cp, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { loadPyodide } from "pyodide";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const folder = path.resolve(process.argv[2]);
const site = "/lib/python3.14/site-packages";

await build({
  entryPoints: [path.join(here, "src/main.js"), path.join(here, "src/worker.js")],
  outdir: folder,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "linked",
  logLevel: "warning",
});
for (const name of ["index.html", "style.css", "icon.svg"]) await cp(path.join(here, name), path.join(folder, name));
await mkdir(path.join(folder, "pyodide"), { recursive: true });
for (const name of ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"])
  await cp(path.join(here, "node_modules/pyodide", name), path.join(folder, "pyodide", name));

// The wheels are unpacked as they are; beside them goes the bytecode of the modules that are imported.
const wheels = (await readdir(path.join(folder, "python"))).filter((name) => name.endsWith(".whl")).sort();
const python = await loadPyodide();
for (const wheel of wheels) {
  const bytes = new Uint8Array(await readFile(path.join(folder, "python", wheel)));
  python.unpackArchive(bytes, "zip", { extractDir: site });
}
const graphviz = await instance();
python.registerJsModule("graphviz_of_the_page", {
  render: (text, engine, format) => graphviz.renderString(text, { engine, format }),
});
python.globals.set("first_spec", await readFile(path.join(here, "first.danet"), "utf-8"));
python.runPython(await readFile(path.join(here, "bytecode.py"), "utf-8"));
await writeFile(path.join(folder, "first.json"), python.globals.get("first_picture"));
const first = [], later = [];
for (const [top, bytes] of Object.entries(python.globals.get("archives").toJs({ dict_converter: Object.fromEntries }))) {
  const name = `python/${top}.pyc.zip`;
  await writeFile(path.join(folder, name), bytes);
  const wheel = wheels.find((each) => each.startsWith(`${top}-`));
  (top === "danetc" ? first : later).push(`python/${wheel}`, name);
}
await writeFile(path.join(folder, "packages.json"), JSON.stringify({ first, later }));
