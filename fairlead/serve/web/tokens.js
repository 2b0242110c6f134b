/** Tokens as people read them: halves of characters put together, text paired with the tokens that wrote it, numbers. */

/** How many bytes at the end begin a character that they do not end. */
export function unfinished(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte < 0x80) return 0;
    if (byte >= 0xc2) {
      const length = byte > 0xf4 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return length > back ? back : 0;
    }
  }
  return 0;
}

const decoded = (bytes, fatal = false) => new TextDecoder("utf-8", { fatal, ignoreBOM: true }).decode(new Uint8Array(bytes));
const bytesOf = (token) => token.bytes ?? [...new TextEncoder().encode(token.token)];

/** Pairs the text of an answer, as it comes, with the fewest tokens that write whole characters. */
export class Written {
  text = "";
  #rest = "";
  #open = [];
  #units = [];
  #paired = true;

  /** Take text and tokens; return what can be shown: [{text, tokens}], without tokens where they do not spell the text. */
  feed(text, tokens) {
    this.text += text;
    this.#rest += text;
    for (const token of this.#paired ? tokens : []) {
      this.#open.push(token);
      if (!unfinished(this.#open.flatMap(bytesOf))) this.#close();
    }
    return this.#shown(false);
  }

  /** Return what was held back. Tokens of a text that ended the answer are not shown, as that text is not. */
  end() {
    if (this.#open.length) this.#close();
    return this.#shown(true);
  }

  #close() {
    this.#units.push({ text: decoded(this.#open.flatMap(bytesOf)), tokens: this.#open });
    this.#open = [];
  }

  #shown(last) {
    const shown = [];
    while (this.#units.length && this.#rest.startsWith(this.#units[0].text)) {
      const unit = this.#units.shift();
      this.#rest = this.#rest.slice(unit.text.length);
      if (unit.text) shown.push(unit);
    }
    const next = this.#units[0];
    if (!this.#rest || (next && !last && next.text.startsWith(this.#rest))) return shown;
    if (next?.text.startsWith(this.#rest)) shown.push({ text: this.#rest, tokens: next.tokens });
    else {
      this.#paired = !next;
      this.#units = [];
      shown.push({ text: this.#rest, tokens: [] });
    }
    this.#rest = "";
    return shown;
  }
}

/** A token for display: spaces and ends of lines visible, halves of characters as their bytes. */
export function visible(token) {
  const bytes = bytesOf(token);
  try {
    return decoded(bytes, true).replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "(no text)";
  } catch {
    return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
}

/** A share as a percentage of three digits. */
export function percent(share) {
  if (share >= 0.9995) return "100 %";
  if (share >= 0.1) return `${(100 * share).toFixed(1)} %`;
  return share < 1e-4 ? "< 0.01 %" : `${Number((100 * share).toPrecision(2))} %`;
}

/** A number that a method tells. */
export function figure(value) {
  if (typeof value !== "number") return value === null ? "–" : String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

/** Classes of probability: [least, words]. */
export const SURE = [[0.9, "90 % and more"], [0.5, "50 to 90 %"], [0.2, "20 to 50 %"], [0.05, "5 to 20 %"], [0, "less"]];

/** The class of a unit: that of its tokens' joint probability. */
export function sureness(tokens) {
  const share = Math.exp(tokens.reduce((sum, token) => sum + token.logprob, 0));
  return SURE.findIndex(([least]) => share >= least);
}

const tones = new Map([["base", 2], ["nudge", 3]]);

/** The class that gives a writer its colour, always the same one. */
export function tone(source) {
  if (!tones.has(source)) tones.set(source, 4 + ((tones.size - 2) % 5));
  return `tone-${tones.get(source)}`;
}
