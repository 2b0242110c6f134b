/** An answer on the page: its text token by token, its figures, what its method did, its error. */

import { hide, peek } from "./peek.js";
import { figure, percent, sureness, tone, Written } from "./tokens.js";

export class Answer {
  /** "writing", "done", "stopped" or "failed". */
  state = "writing";
  #written = new Written();
  #tokensOf = new WeakMap();
  #counts = new Map();
  #tokens = 0;
  #usage = null;
  #finish = null;
  #told = null;
  #began = performance.now();
  #first = null;
  #last = null;

  /** `again` is called when the answer failed and is wanted anew, `heard` with every writer that is named. */
  constructor({ name, method, settings, again, heard }) {
    this.heard = heard;
    this.element = document.getElementById("answer-template").content.firstElementChild.cloneNode(true);
    this.element.setAttribute("aria-label", `Answer of ${name}`);
    this.#part("h3").textContent = name;
    this.#part(".head .pill").textContent = method ?? "";
    this.#part(".head .pill").hidden = !method;
    this.#part(".asked").textContent = settings;
    this.#part(".notes button").addEventListener("click", again);
    this.#listen(this.#part(".said"));
  }

  get text() {
    return this.#written.text;
  }

  /** Whether the next question builds on it. */
  get usable() {
    return this.state === "done" || (this.state === "stopped" && this.text !== "");
  }

  /** Take an event of the stream. */
  hear(event) {
    this.#usage = event.usage ?? this.#usage;
    for (const choice of event.choices) {
      const tokens = choice.logprobs?.content ?? [];
      const text = choice.delta?.content ?? "";
      if (text || tokens.length) this.#last = performance.now();
      this.#first ??= this.#last;
      this.#tokens += tokens.length;
      this.#show(this.#written.feed(text, tokens));
      this.#finish = choice.finish_reason ?? this.#finish;
      this.#told = choice.steering ?? event.steering ?? event.fairlead ?? this.#told;
    }
    this.#tally();
  }

  /** The stream has ended. */
  end() {
    this.#close("done");
    if (this.#told) this.#explain(this.#told);
  }

  /** The user has ended it. */
  stop() {
    this.#finish = "stopped";
    this.#close("stopped");
  }

  /** The server or the way to it has failed. */
  fail(error) {
    this.#close("failed");
    this.#part(".notes").hidden = false;
    this.#part(".notes span").textContent = error.message;
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }

  #close(state) {
    this.state = state;
    this.#show(this.#written.end());
    this.element.setAttribute("aria-busy", "false");
    this.#tally();
  }

  #show(units) {
    const said = this.#part(".said");
    for (const { text, tokens } of units) {
      const span = document.createElement("span");
      span.textContent = text;
      if (tokens.length) this.#colour(span, tokens);
      said.append(span);
    }
  }

  #colour(span, tokens) {
    const sources = tokens.map((token) => token.source).filter(Boolean);
    span.className = `token sure-${sureness(tokens)}`;
    if (span.textContent.includes("\n")) span.classList.add("newline");
    if (sources.length) span.classList.add(tone(sources[0]));
    for (const source of sources) {
      this.#counts.set(source, (this.#counts.get(source) ?? 0) + 1);
      this.heard(source);
    }
    span.tabIndex = this.#part(".token") ? -1 : 0;
    this.#tokensOf.set(span, tokens);
  }

  #listen(said) {
    const show = (span) => this.#tokensOf.has(span) && peek(span, this.#tokensOf.get(span));
    said.addEventListener("pointerover", (event) => event.pointerType !== "touch" && show(event.target));
    said.addEventListener("pointerout", () => {
      hide();
      show(document.activeElement);
    });
    said.addEventListener("click", (event) => this.#tokensOf.has(event.target) && event.target.focus());
    said.addEventListener("focusin", (event) => show(event.target));
    said.addEventListener("focusout", hide);
    said.addEventListener("keydown", (event) => this.#walk(event));
  }

  /** One token can be reached with Tab; the arrows go on from it. */
  #walk(event) {
    const all = [...this.element.querySelectorAll(".token")];
    const at = all.indexOf(event.target);
    const places = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 };
    const next = all[places[event.key]];
    if (event.key in places) event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  #tally() {
    const count = this.#usage?.completion_tokens ?? (this.#tokens || null);
    const seconds = ((this.#last ?? performance.now()) - this.#began) / 1000;
    const chips = [];
    if (count !== null) chips.push(["tokens", count], ["per second", (count / seconds).toFixed(seconds < 1 ? 0 : 1)]);
    if (this.#first !== null) chips.push(["first after", `${((this.#first - this.#began) / 1000).toFixed(2)} s`]);
    if (this.#finish) chips.push(["finish", this.#finish]);
    if (this.state === "done" && this.text && !this.#tokens) chips.push(["token probabilities", "none"]);
    this.#part(".counts").replaceChildren(...chips.map(chip));
    this.#share();
  }

  #share() {
    const sum = [...this.#counts.values()].reduce((a, b) => a + b, 0);
    this.#part(".shares").hidden = !sum;
    const entries = [...this.#counts].sort(([a], [b]) => a.localeCompare(b));
    this.#part(".shares .track").replaceChildren(
      ...entries.map(([source, count]) => {
        const bar = made("i", tone(source));
        bar.style.flexGrow = count;
        return bar;
      }),
    );
    this.#part(".shares .chips").replaceChildren(
      ...entries.map(([source, count]) => {
        const label = chip([source, percent(count / sum)]);
        label.prepend(made("i", `swatch ${tone(source)}`));
        return label;
      }),
    );
  }

  #explain(told) {
    const box = this.#part(".told");
    const several = [told].flat();
    for (const { method, candidates, rewards = [], chosen, ...rest } of several) {
      if (several.length > 1) box.append(made("h4", "", method));
      if (Array.isArray(candidates)) box.append(contest(candidates, rewards, chosen));
      const list = made("dl", "pairs");
      for (const [name, value] of flat(rest)) {
        const pair = document.createElement("div");
        pair.append(made("dt", "", name), made("dd", "", value));
        list.append(pair);
      }
      if (list.children.length) box.append(list);
    }
    box.hidden = box.children.length < 2;
  }
}

function made(tag, name, text = "") {
  return Object.assign(document.createElement(tag), { className: name, textContent: text });
}

function chip([name, value]) {
  const element = document.createElement("span");
  element.append(`${name} `, made("b", "", String(value)));
  return element;
}

function contest(candidates, rewards, chosen) {
  const list = made("ol", "candidates");
  list.append(
    ...candidates.map((text, place) => {
      const item = made("li", place === chosen ? "chosen" : "");
      const reward = typeof rewards[place] === "number" ? figure(rewards[place]) : "–";
      item.append(made("b", "", reward), made("span", "", text));
      if (place === chosen) item.append(made("em", "pill", "chosen"));
      return item;
    }),
  );
  return list;
}

/** What a method tells as [name, text] pairs; the names of nested values are joined. */
function flat(told, before = "") {
  return Object.entries(told).flatMap(([name, value]) => {
    const path = before + name.replaceAll("_", " ");
    if (Array.isArray(value)) {
      const plain = value.every((one) => typeof one !== "object");
      return [[path, plain && value.length <= 16 ? value.map(figure).join(", ") : `${value.length} entries`]];
    }
    if (value !== null && typeof value === "object") return flat(value, name === "stats" ? before : `${path} · `);
    return [[path, figure(value)]];
  });
}
