// Python and Graphviz, both as WebAssembly. Everything comes from the page's own folder.

import { instance } from "@viz-js/viz";

const site = "/lib/python3.14/site-packages";
const url = (path) => new URL(path, self.location).href;

async function bytes(path) {
  const response = await fetch(url(path));
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.arrayBuffer();
}

let python, answer, later;

async function start() {
  const packages = await (await fetch(url("packages.json"))).json();
  const first = packages.first.map(bytes);
  const viz = instance();
  const { loadPyodide } = await import(url("pyodide/pyodide.mjs"));
  python = await loadPyodide({ indexURL: url("pyodide/") });
  self.postMessage({ state: "python" });
  for (const archive of await Promise.all(first)) unpack(archive);
  later = () => Promise.all(packages.later.map(bytes));
  const graphviz = await viz;
  python.registerJsModule("graphviz_of_the_page", {
    render: (text, engine, format) => graphviz.renderString(text, { engine, format }),
  });
  python.runPython(`
import os
import danetc.specs
from danetc.editor import bridge
from graphviz_of_the_page import render

os.chdir(next(iter(danetc.specs.__path__)))  # so that a spec can use the shipped ones by path
bridge.draw_with(render)
`);
  answer = python.pyimport("danetc.editor.bridge").answer;
  self.postMessage({ state: "ready" });
}

const unpack = (archive) => python.unpackArchive(archive, "zip", { extractDir: site });

// Few specs need what is unpacked later: it comes when it is asked for, or when there is time.
async function unpackLater() {
  if (!later) return;
  const wanted = later;
  later = null;
  for (const archive of await wanted()) unpack(archive);
}

async function reply(request) {
  try {
    return answer(request);
  } catch (error) {
    if (error.type !== "ModuleNotFoundError" || !later) throw error;
    await unpackLater();
    return answer(request);
  }
}

let idle;
self.onmessage = async ({ data }) => {
  clearTimeout(idle);
  try {
    self.postMessage({ reply: JSON.parse(await reply(data)) });
  } catch (error) {
    self.postMessage({ reply: { error: `danetc failed: ${error.message}`, failed: true } });
  }
  idle = setTimeout(unpackLater, 2500);
};

start().catch((error) => self.postMessage({ state: "failed", failed: String(error.message ?? error) }));
