/** Places of boxes: which are at the cursor. */

import type { Box, Drawn, Position, Range } from "./protocol";

/** Whether `a` is before `b` (< 0), behind it (> 0), or the same. */
function compare(a: Position, b: Position): number {
  return a.line - b.line || a.character - b.character;
}

export function holds(range: Range, position: Position): boolean {
  return compare(range.start, position) <= 0 && compare(position, range.end) <= 0;
}

/** Whether `a` lies in `b` and is not all of it. */
function within(a: Range, b: Range): boolean {
  const starts = compare(b.start, a.start);
  const ends = compare(a.end, b.end);
  return starts <= 0 && ends <= 0 && (starts < 0 || ends < 0);
}

/** The boxes with an innermost span around the cursor, in the order of the picture. */
export function boxesAt(boxes: Record<string, Box>, cursor: Position): string[] {
  const around = Object.entries(boxes).flatMap(([key, box]) =>
    box.spans.filter((span) => holds(span, cursor)).map((span) => ({ key, span })),
  );
  const innermost = around.filter(({ span }) => !around.some((other) => within(other.span, span)));
  return [...new Set(innermost.map(({ key }) => key))];
}

/** The network whose declaration is around the cursor. */
export function networkAt(networks: Drawn["networks"], cursor: Position): string | undefined {
  return networks.find(({ range }) => holds(range, cursor))?.name;
}
