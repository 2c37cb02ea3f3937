/** Which command is the server, and what to say where there is none. */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

export const INSTALL = 'pip install "danetc[lsp]"';

/**
 * The command to run: what the setting says, else that of an environment in one of the folders, else
 * the one on the PATH.
 */
export function command(
  setting: string,
  folders: readonly string[],
  platform: string = process.platform,
  exists: (path: string) => boolean = existsSync,
): string {
  if (setting.trim()) return setting.trim();
  const inside = platform === "win32" ? ["Scripts", "danetc.exe"] : ["bin", "danetc"];
  const places = folders.flatMap((folder) =>
    [".venv", "venv"].map((environment) => join(folder, environment, ...inside)),
  );
  return places.find((place) => exists(place)) ?? "danetc";
}

/**
 * Why a command cannot be run with some arguments (nothing stands on its standard input); undefined where
 * it can.
 */
export function problem(path: string, ...given: string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = execFile(path, given, { timeout: 30_000 }, (error, _out, stderr) => {
      if (error === null) return resolve(undefined);
      const code = (error as NodeJS.ErrnoException).code;
      if (code === "ENOENT" || code === "EACCES") {
        return resolve(
          `danetc is not installed, or is not where it is looked for (\`${path}\`). ` +
            `Without it specs have colours alone. Install it with \`${INSTALL}\`, or say where it is.`,
        );
      }
      const said = stderr.trim().split("\n").pop() ?? "";
      resolve(`\`${[path, ...given].join(" ")}\` does not run: ${said || error.message}`);
    });
    child.stdin?.on("error", () => undefined); // it has ended, and says so above
    child.stdin?.end();
  });
}
