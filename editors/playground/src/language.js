// Colours of a spec while Python is still on its way, from the words that the build takes from danetc.

import { HighlightStyle, StreamLanguage, syntaxHighlighting } from "@codemirror/language";
import { tags } from "@lezer/highlight";

/** The language, from the groups of words of editors/highlighting.py. */
export function danet(words) {
  const sets = Object.fromEntries(Object.entries(words).map(([name, list]) => [name, new Set(list)]));
  return StreamLanguage.define({
    name: "danet",
    startState: () => ({ declared: false }),
    token(stream, state) {
      if (stream.eatSpace()) return null;
      if (stream.match(/#.*/)) return "lineComment";
      if (stream.match(/"[^"]*"?/)) return "string";
      if (stream.match(/\d+(\.\d+)?([eE][+-]?\d+)?/)) return "number";
      if (stream.match("->")) return "controlOperator";
      const word = stream.match(/[A-Za-z_]\w*/);
      if (!word) return stream.next() && null;
      const [text] = word;
      if (state.declared) {
        state.declared = false;
        return "declaredName";
      }
      if (sets.declarations.has(text) && stream.match(/\s+[A-Za-z_]/, false)) {
        state.declared = true;
        return "keyword";
      }
      if (sets.keywords.has(text) || sets.operators.has(text)) return "keyword";
      if (text === "state" && stream.match(/\s+[A-Za-z_]/, false)) return "keyword";
      if (stream.match(/(\[[^\]]*\])?\s*=(?!=)/, false)) return "propertyName";
      if (sets.constants.has(text)) return "bool";
      if (sets.operations.has(text)) return "operationName";
      if (sets.library.has(text)) return "libraryName";
      return "variableName";
    },
    tokenTable: {
      declaredName: tags.definition(tags.variableName),
      operationName: tags.function(tags.variableName),
      libraryName: tags.standard(tags.variableName),
    },
    languageData: { commentTokens: { line: "#" }, closeBrackets: { brackets: ["(", "[", "{", '"'] } },
  });
}

const colour = (name, more = {}) => ({ color: `var(--${name})`, ...more });

export const colours = syntaxHighlighting(
  HighlightStyle.define([
    { tag: tags.comment, ...colour("comment") },
    { tag: [tags.keyword, tags.controlOperator], ...colour("keyword") },
    { tag: [tags.number, tags.bool, tags.null], ...colour("number") },
    { tag: tags.string, ...colour("string") },
    { tag: [tags.definition(tags.variableName), tags.className], ...colour("declared", { fontWeight: "600" }) },
    { tag: tags.function(tags.variableName), ...colour("operation") },
    { tag: tags.standard(tags.variableName), ...colour("library") },
  ]),
);
