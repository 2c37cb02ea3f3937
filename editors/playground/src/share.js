// An address that holds a spec: JSON, compressed, as text that needs no escapes in a fragment.

const toText = (bytes) =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

const toBytes = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));

const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

/** The fragment of an address that holds `state`, an object that JSON can write. */
export async function encode(state) {
  const bytes = new TextEncoder().encode(JSON.stringify(state));
  return `#spec=${toText(await through(bytes, new CompressionStream("deflate-raw")))}`;
}

/** What a fragment holds: a state, `{example: name}`, or null for an empty one. Throws for others. */
export async function decode(fragment) {
  const text = fragment.replace(/^#/, "");
  if (text === "") return null;
  const [kind, value] = [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)];
  if (kind === "example") return { example: decodeURIComponent(value) };
  if (kind !== "spec") throw new Error(`the address has ${kind || text}, not a spec`);
  const bytes = await through(toBytes(value), new DecompressionStream("deflate-raw"));
  const state = JSON.parse(new TextDecoder().decode(bytes));
  if (typeof state.text !== "string") throw new Error("the address holds no spec");
  return state;
}
