/** The page of the preview. It may load what lies beside it, and nothing else. */

export interface Places {
  /** What the editor calls the extension's own files. */
  source: string;
  script: string;
  style: string;
}

export function page({ source, script, style }: Places): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src ${source}; style-src ${source};">
<title>Topology</title>
<link rel="stylesheet" href="${style}">
</head>
<body>
<header>
  <div id="levels" role="group" aria-label="What is shown"></div>
  <label id="networks" hidden>Network <select></select></label>
  <div id="zoom" role="group" aria-label="Size">
    <button type="button" id="smaller" aria-label="Smaller" title="Smaller">&minus;</button>
    <button type="button" id="fit" aria-pressed="true" title="As wide as there is room">Fit</button>
    <button type="button" id="larger" aria-label="Larger" title="Larger">+</button>
  </div>
</header>
<p id="problem" role="status"></p>
<main id="picture" tabindex="-1"></main>
<script src="${script}"></script>
</body>
</html>
`;
}
