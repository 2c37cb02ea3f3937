// The editors: a spec that is written, and texts that are read.

import { acceptCompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import { bracketMatching, indentOnInput, indentUnit } from "@codemirror/language";
import { setDiagnostics } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, StateEffect, StateField } from "@codemirror/state";
import {
  Decoration, EditorView, drawSelection, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers,
} from "@codemirror/view";
import { colours } from "./language.js";

const setPart = StateEffect.define();

/** The text that a part of the picture comes from, marked while that part is pointed at. */
const part = StateField.define({
  create: () => Decoration.none,
  update(marks, transaction) {
    marks = marks.map(transaction.changes);
    for (const effect of transaction.effects) {
      if (!effect.is(setPart)) continue;
      const range = effect.value;
      marks = range && range[0] < range[1] && range[1] <= transaction.newDoc.length
        ? Decoration.set([Decoration.mark({ class: "cm-part" }).range(...range)])
        : Decoration.none;
    }
    return marks;
  },
  provide: (field) => EditorView.decorations.from(field),
});

const basic = (label) => [
  lineNumbers(),
  drawSelection(),
  bracketMatching(),
  highlightSelectionMatches(),
  colours,
  EditorView.contentAttributes.of({ "aria-label": label, tabindex: "0" }),
];

/** A spec to write. `services` are extensions; `onChange` and `onCursor` are told what happens. */
export function specEditor(parent, label, language, { services = [], onChange, onCursor }) {
  return new EditorView({
    parent,
    state: EditorState.create({
      extensions: [
        basic(label),
        highlightActiveLine(),
        highlightActiveLineGutter(),
        history(),
        closeBrackets(),
        indentOnInput(),
        indentUnit.of("  "),
        language,
        part,
        services,
        keymap.of([
          { key: "Tab", run: acceptCompletion },
          ...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...searchKeymap, ...defaultKeymap,
        ]),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) onChange?.(update);
          if (update.selectionSet || update.docChanged) onCursor?.(update.state.selection.main.head);
        }),
      ],
    }),
  });
}

/** A Python module to read. */
export const pythonViewer = (parent, label) =>
  new EditorView({
    parent,
    state: EditorState.create({
      extensions: [basic(label), python(), EditorState.readOnly.of(true), EditorView.editable.of(false)],
    }),
  });

export const textOf = (view) => view.state.doc.toString();

export function setText(view, text) {
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text }, selection: { anchor: 0 } });
}

/** Shows what danetc found, each at its place; what stands in another file is shown at the start. */
export function showDiagnostics(view, found) {
  const last = view.state.doc.length;
  view.dispatch(setDiagnostics(view.state, found.map((item) => {
    let [from, to] = item.range ?? [0, 0];
    to = Math.min(Math.max(to, from + 1), last);
    from = Math.min(from, to);
    const message = [item.label || item.message, item.hint && `hint: ${item.hint}`].filter(Boolean).join("\n");
    return {
      from, to, severity: item.severity, source: item.code,
      message: item.label ? `${item.message}\n${message}` : message,
      actions: item.fixes.map((fix) => ({ name: fix.title, apply: (target) => applyFix(target, fix) })),
    };
  })));
}

/** Makes the edits that mend a problem. */
export function applyFix(view, { edits }) {
  view.dispatch({ changes: edits.map(({ range: [from, to], text }) => ({ from, to, insert: text })) });
  view.focus();
}

export const markPart = (view, range) => view.dispatch({ effects: setPart.of(range) });

/** Puts the cursor at a place and shows it. */
export function goTo(view, [from, to], { focus = true } = {}) {
  const last = view.state.doc.length;
  view.dispatch({
    selection: { anchor: Math.min(from, last), head: Math.min(to, last) },
    effects: EditorView.scrollIntoView(Math.min(from, last), { y: "center" }),
  });
  if (focus) view.focus();
}
