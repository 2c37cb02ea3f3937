// Bundles the extension and the page of the preview; with --tests the tests too, against a stub of
// the editor's module in place of the editor, and the page as a file that a browser can open; with
// --watch again after each change.
import { copyFile, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import * as esbuild from "esbuild";

const common = { bundle: true, sourcemap: false, logLevel: "warning", charset: "utf8" };
const node = { ...common, platform: "node", target: "node20", format: "cjs" };
const bundles = [
  { ...node, entryPoints: ["src/extension.ts"], outfile: "dist/extension.js", external: ["vscode"], minify: true },
  { ...common, entryPoints: ["webview/preview.ts"], outfile: "dist/preview.js", platform: "browser", target: "es2022", format: "iife", minify: true },
  { ...common, entryPoints: ["webview/preview.css"], outfile: "dist/preview.css", minify: true },
];
await mkdir("build", { recursive: true }); // also where the package goes
if (process.argv.includes("--tests")) {
  await rm("build/test", { recursive: true, force: true });
  const tests = (await readdir("test")).filter((name) => name.endsWith(".test.ts"));
  bundles.push({
    ...node,
    entryPoints: tests.map((name) => `test/${name}`),
    outdir: "build/test",
    alias: { vscode: "./test/vscode.ts", "vscode-languageclient/node": "./test/client.ts" },
    external: ["vscode-oniguruma"], // finds its .wasm beside itself
  });
  bundles.push({ ...node, entryPoints: ["src/page.ts"], outfile: "build/page/page.js" });
}
for (const options of bundles) {
  if (process.argv.includes("--watch")) await (await esbuild.context(options)).watch();
  else await esbuild.build(options);
}
await copyFile("../../LICENSE", "LICENSE"); // what is packaged stands in this folder
if (process.argv.includes("--tests")) {
  const { page } = createRequire(import.meta.url)("./build/page/page.js");
  const places = { source: "http://preview.test", script: "preview.js", style: "preview.css" };
  await writeFile("build/page/index.html", page(places));
}
