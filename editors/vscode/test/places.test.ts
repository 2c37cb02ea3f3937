import assert from "node:assert/strict";
import { test } from "node:test";
import { boxesAt, networkAt } from "../src/places";
import type { Box, Range } from "../src/protocol";

const range = (a: number, b: number, c: number, d: number): Range => ({
  start: { line: a, character: b },
  end: { line: c, character: d },
});
const box = (...spans: Range[]): Box => ({ place: spans[0] ?? null, written: null, spans });
const at = (line: number, character: number) => ({ line, character });

const boxes = {
  whole: box(range(0, 0, 9, 0)),
  first: box(range(1, 4, 1, 20), range(5, 0, 6, 0)),
  twin: box(range(1, 4, 1, 20)),
  inner: box(range(1, 6, 1, 10)),
};

test("the innermost span around the cursor says which boxes", () => {
  assert.deepEqual(boxesAt(boxes, at(1, 7)), ["inner"]);
  assert.deepEqual(boxesAt(boxes, at(1, 15)), ["first", "twin"]);
  assert.deepEqual(boxesAt(boxes, at(5, 3)), ["first"]);
  assert.deepEqual(boxesAt(boxes, at(8, 0)), ["whole"]);
  assert.deepEqual(boxesAt(boxes, at(12, 0)), []);
});

test("both ends of a span belong to it", () => {
  assert.deepEqual(boxesAt(boxes, at(1, 6)), ["inner"]);
  assert.deepEqual(boxesAt(boxes, at(1, 10)), ["inner"]);
  assert.deepEqual(boxesAt(boxes, at(1, 11)), ["first", "twin"]);
});

test("the network around the cursor", () => {
  const networks = [
    { name: "a", range: range(0, 0, 3, 1) },
    { name: "b", range: range(5, 0, 5, 30) },
  ];
  assert.equal(networkAt(networks, at(2, 0)), "a");
  assert.equal(networkAt(networks, at(5, 9)), "b");
  assert.equal(networkAt(networks, at(4, 0)), undefined);
});
