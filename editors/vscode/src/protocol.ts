/** What the server says of a picture (the request `danetc/draw`), and what the page is told and tells. */

export interface Position {
  line: number;
  character: number;
}
export interface Range {
  start: Position;
  end: Position;
}
export interface Location {
  uri: string;
  range: Range;
}

export const DRAW = "danetc/draw";
export type Theme = "light" | "dark";

export interface DrawParams {
  textDocument: { uri: string };
  position: Position;
  level: string;
  theme: Theme;
  /** The network to draw where the position stands in none. */
  network: string | null;
}

/** Where a box of the picture stands; `spans` are what the cursor may stand in to mean it. */
export interface Box {
  place: Range | null;
  written: Location | null;
  spans: Range[];
}

export interface Drawn {
  /** Each network of the file with its declaration. */
  networks: { name: string; range: Range }[];
  network: string;
  levels: string[];
  level: string;
  /** Empty where there is no picture; `problem` says why. */
  svg: string;
  boxes: Record<string, Box>;
  problem: string;
}

export type ToPage =
  | {
      type: "picture";
      svg: string;
      /** The boxes that lead somewhere. */
      boxes: string[];
      network: string;
      networks: string[];
      level: string;
      levels: string[];
      marked: string[];
    }
  | { type: "problem"; text: string; level: string; levels: string[] }
  | { type: "mark"; boxes: string[] };

export type FromPage =
  | { type: "ready" }
  | { type: "level"; level: string }
  | { type: "network"; network: string }
  | { type: "open"; box: string; written: boolean };
