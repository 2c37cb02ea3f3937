// What follows from a spec, as tables. Text from danetc is only ever set as text.

/** An element with attributes and children; a string among them is text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

const size = (shape) => shape.join(" × ");
const count = (number) => number.toLocaleString("en");

function short(number) {
  for (const [least, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]])
    if (number >= least) return `${(number / (unit === "k" ? 1e3 : least)).toPrecision(3)} ${unit}`;
  return count(number);
}

function table(label, heads, rows, numbers = []) {
  const kind = (index) => (numbers.includes(index) ? { class: "number" } : {});
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    element("table", {},
      element("thead", {}, element("tr", {}, ...heads.map((head, i) => element("th", { scope: "col", ...kind(i) }, head)))),
      element("tbody", {}, ...rows.map((row) =>
        element("tr", {}, ...row.map((cell, i) => element("td", kind(i), String(cell))))))));
}

const figure = (name, value, more) =>
  element("div", {}, element("dt", {}, name), element("dd", {}, value, more ? element("small", {}, more) : null));

export function showSummary(panel, facts) {
  const named = (values) => Object.entries(values).map(([name, shape]) => `${name} ${size(shape)}`).join(", ");
  const spikes = facts.macs + facts.additions ? facts.additions / (facts.macs + facts.additions) : 0;
  panel.replaceChildren(
    element("dl", { class: "figures" },
      figure("takes", named(facts.inputs), `T = ${facts.steps}`),
      figure("gives", named(facts.outputs)),
      figure("parameters", short(facts.parameters), count(facts.parameters)),
      figure("layers of neurons", count(facts.neuron_layers), `${count(facts.neurons_on_main_path)} on the main path`),
      figure("multiply-accumulates", short(facts.macs), facts.count_macs ? `${short(facts.count_macs)} of them by whole numbers` : "per image"),
      figure("additions by spikes", short(facts.additions), `${(100 * spikes).toFixed(0)} % of the operations of an image`),
    ),
    ...(facts.stages.length
      ? [
          element("h3", {}, "Stages"),
          table(
            "Stages",
            ["stage", "connection", "rule", "blocks", "C × H × W", "blocks read", "blocks give", "stage gives", "fewest neurons", "parameters"],
            facts.stages.map((stage) => [
              stage.name.replace(/^stages\./, ""), stage.connection, stage.rule, stage.blocks, size(stage.shape),
              stage.block_reads, stage.block_gives, stage.gives, stage.fewest_neurons, count(stage.parameters)]),
            [3, 8, 9]),
          element("p", { class: "quiet" }, "Kinds are those of all blocks of a stage. Fewest neurons: on any path from the stem's output to the stage's end."),
        ]
      : []),
    ...(facts.neuron_kinds.length
      ? [element("h3", {}, "Neurons"), element("ul", {}, ...facts.neuron_kinds.map((kind) => element("li", {}, element("code", {}, kind.text))))]
      : []),
    ...(Object.keys(facts.products).length
      ? [element("h3", {}, "Attention"), element("ul", {}, ...Object.entries(facts.products).map(([what, times]) => element("li", {}, `${times} × ${what}`)))]
      : []),
  );
}

/** Findings that say the same of parts in a row, as one. */
function alike(items) {
  const rows = [];
  for (const { part, verdict, says } of items) {
    const text = verdict ? `${verdict}${verdict === "does not apply" ? "," : ":"} ${says}` : says;
    if (rows.at(-1)?.[1] === text) rows.at(-1)[0] += `, ${part}`;
    else rows.push([part, text]);
  }
  return rows;
}

export function showProof(panel, proof) {
  const byNumber = Map.groupBy(proof.findings, (item) => item.proposition);
  panel.replaceChildren(
    element("p", { class: "quiet" },
      "Premises that the topology breaks, at T = 1. ", element("code", {}, `danetc prove`),
      " checks the rest by numbers, against the gradients that autograd takes."),
    ...[...byNumber].flatMap(([number, items]) => [
      element("h3", {}, `Proposition ${number}: ${items[0].title}`),
      table(items[0].title, ["part", "verdict"], alike(items)),
    ]),
    element("h3", {}, "Proposition 2: neurons on paths"),
    table("Neurons on paths", ["part", "neurons"], alike(proof.paths)),
  );
}

/** What two networks have to do with each other, in words. */
export function verdictWords(found) {
  const lines = [`${found.left} and ${found.right} are ${found.verdict}.`];
  if (found.verdict === "equal") {
    const renamed = found.weights.filter(([a, b]) => a !== b).length;
    lines.push(`${found.weights.length} layers with weights correspond, ${renamed ? `${renamed} under other names` : "all under the same names"}.`);
    lines.push(found.to_the_bit ? "Forward results are the same bit for bit." : "Additions stand in another order: results are the same to rounding.");
  } else {
    lines.push(`First difference: ${found.reason}.`);
    for (const side of ["left", "right"]) {
      const first = found.first[side];
      if (first) lines.push(`${found[side]}: ${first.node}, ${first.path}:${first.line}`);
    }
    if (found.only_starts) lines.push("With the same weights they are equal; they start from others.");
  }
  return lines.join("\n");
}
