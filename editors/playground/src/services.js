// Language services in an editor: what danetc's own functions give, the same as in `danetc lsp`.

import { autocompletion } from "@codemirror/autocomplete";
import { StateEffect, StateField } from "@codemirror/state";
import { Decoration, EditorView, WidgetType, hoverTooltip, keymap } from "@codemirror/view";
import { micromark } from "micromark";

// -- hints of shapes and kinds ----------------------------------------------------------------------

const setHints = StateEffect.define();

class Hint extends WidgetType {
  constructor(text, more) {
    super();
    this.text = text;
    this.more = more;
  }

  eq(other) {
    return other.text === this.text && other.more === this.more;
  }

  toDOM() {
    const shown = document.createElement("span");
    shown.className = "cm-hint";
    shown.textContent = this.text;
    shown.title = this.more;
    return shown;
  }
}

const hints = StateField.define({
  create: () => Decoration.none,
  update(shown, transaction) {
    shown = shown.map(transaction.changes);
    for (const effect of transaction.effects) if (effect.is(setHints)) shown = effect.value;
    return shown;
  },
  provide: (field) => EditorView.decorations.from(field),
});

/** Shows the hints of a check at the ends of lines: the last of a line, the others as its tooltip. */
export function showHints(view, found) {
  const { doc } = view.state;
  const lines = Map.groupBy(found.filter((hint) => hint.at <= doc.length), (hint) => doc.lineAt(hint.at).number);
  const marks = [...lines].sort(([a], [b]) => a - b).map(([number, group]) => {
    const widget = new Hint(group.at(-1).text.replaceAll(" x ", " × "), group.map((hint) => hint.more).join("\n"));
    return Decoration.widget({ widget, side: 1 }).range(doc.line(number).to);
  });
  view.dispatch({ effects: setHints.of(Decoration.set(marks)) });
}

// -- what is asked for ------------------------------------------------------------------------------

/** Markdown as elements; HTML in it is text. */
function rendered(markdown) {
  const shown = document.createElement("div");
  shown.className = "cm-docs";
  shown.innerHTML = micromark(markdown);
  return shown;
}

const icons = { argument: "property", keyword: "keyword", operation: "function", neuron: "class", network: "class" };

/** Completion, hover and definitions. `asked` gives the file of an editor; `onElsewhere` gets the
 * place of a definition in another file. */
export function services(python, asked, onElsewhere) {
  const ask = (method, state, at) => python.ask(method, { ...asked(), text: state.doc.toString(), at });

  async function complete(context) {
    if (!context.explicit && !context.matchBefore(/\w+/)) return null;
    const reply = await ask("complete", context.state, context.pos);
    if (!reply?.result?.length || context.aborted) return null;
    const [from, to] = reply.result[0].range;
    return {
      from, to,
      validFor: /^\w*$/,
      options: reply.result.map((item, index) => ({
        label: item.name, apply: item.text, type: icons[item.kind] ?? "variable", boost: -index / 10,
        detail: item.detail === item.name ? item.kind : item.detail || item.kind,
        info: item.markdown ? () => rendered(item.markdown) : undefined,
      })),
    };
  }

  async function hovered(view, at) {
    const { result } = (await ask("hover", view.state, at)) ?? {};
    if (!result) return null;
    const [pos, end] = result.range;
    return { pos, end, above: true, create: () => ({ dom: rendered(result.markdown) }) };
  }

  async function define(view, at = view.state.selection.main.head) {
    const { result } = (await ask("definition", view.state, at)) ?? {};
    if (!result) return;
    if (!result.range) return onElsewhere(result.place);
    const [anchor, head] = result.range;
    view.dispatch({ selection: { anchor, head }, effects: EditorView.scrollIntoView(anchor, { y: "nearest" }) });
  }

  return [
    hints,
    autocompletion({ override: [complete], icons: false }),
    hoverTooltip(hovered),
    keymap.of([{ key: "F12", run: (view) => define(view) && true }]),
  ];
}
