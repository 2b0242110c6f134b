/** One model or method with its settings. */

/** Numbers that are asked for only where they are given: not every method honours them. */
const MORE = ["top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "min_tokens"];
const OWN = ["temperature", "max_tokens", "seed", "system", ...MORE, "stop", "choices"];
let panes = 0;

export class Pane {
  #models;
  #mute = new Set();

  constructor(models, like = null) {
    this.#models = new Map(models.map((model) => [model.id, model]));
    this.element = document.getElementById("pane-template").content.firstElementChild.cloneNode(true);
    this.element.setAttribute("aria-label", `Settings ${++panes}`);
    this.element.querySelector("select").append(...models.map(({ id }) => new Option(id, id)));
    this.element.addEventListener("input", () => this.#count());
    this.#field("model").addEventListener("change", () => this.#show());
    if (like) this.#copy(like, models);
    this.element.addEventListener("focusin", ({ target }) => this.#explain(target.dataset.param));
    this.#show();
  }

  get model() {
    return this.#field("model").value;
  }

  /** What the server says of the model; nothing from servers that do not. */
  get told() {
    return this.#models.get(this.model)?.fairlead ?? {};
  }

  /** The body that asks for the next answer. */
  request(messages) {
    const system = this.#field("system").value.trim();
    const body = {
      model: this.model,
      messages: system ? [{ role: "system", content: system }, ...messages] : messages,
      temperature: this.#number("temperature") ?? 1,
      seed: this.#number("seed") ?? 0,
      stream: true,
      stream_options: { include_usage: true },
    };
    const most = this.#number("max_tokens");
    if (most !== null) body.max_tokens = most;
    for (const name of MORE) if (this.#number(name) !== null) body[name] = this.#number(name);
    if (this.#lines("stop").length) body.stop = this.#lines("stop");
    if (this.#lines("choices").length) body.structured_outputs = { choice: this.#lines("choices") };
    if (this.told.logprobs !== false && !this.#mute.has(this.model)) Object.assign(body, { logprobs: true, top_logprobs: 5 });
    const params = this.#params();
    if (Object.keys(params).length) body.steering = { params };
    return body;
  }

  /** The settings that are not as they were at first, in words. */
  changes() {
    const own = OWN.filter((name) => this.#field(name).value.trim() !== this.#field(name).defaultValue);
    const said = [...own.map((name) => [name, this.#lines(name).join(" / ")]), ...Object.entries(this.#params())];
    return said.map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(" · ");
  }

  /** Do not ask the model for log-probs again: it has none. */
  mute() {
    this.#mute.add(this.model);
  }

  /** The first field that holds what cannot be asked, its settings opened. */
  invalid() {
    const field = this.element.querySelector(":invalid:not(fieldset)");
    for (let box = field?.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    return field;
  }

  /** Tell screen readers. */
  say(text) {
    this.element.querySelector("[aria-live]").textContent = text;
  }

  #field(name) {
    return this.element.querySelector(`[name="${name}"]`);
  }

  #number(name) {
    const { value } = this.#field(name);
    return value.trim() === "" ? null : Number(value);
  }

  #lines(name) {
    return this.#field(name).value.split("\n").filter((line) => line.trim());
  }

  #copy(like, models) {
    for (const name of OWN) this.#field(name).value = like.#field(name).value;
    const place = models.findIndex(({ id }) => id === like.model);
    this.#field("model").value = models[(place + 1) % models.length].id;
  }

  #params() {
    const changed = {};
    for (const field of this.element.querySelectorAll(".method [data-param]")) {
      const value = valueOf(field);
      if (value !== null && value !== this.told.params[field.dataset.param].value) changed[field.dataset.param] = value;
    }
    return changed;
  }

  #show() {
    const { method, params = {} } = this.told;
    const pill = this.element.querySelector(".head .pill");
    pill.hidden = !method;
    pill.textContent = method ?? "";
    const box = this.element.querySelector(".method");
    const models = [...this.#models.keys()];
    const labels = Object.entries(params).flatMap(([name, told]) => setting(name, told, models));
    box.hidden = !labels.length;
    box.querySelector("legend").textContent = `Settings of ${method ?? this.model}`;
    box.querySelector(".fields").replaceChildren(...labels);
    this.#count();
  }

  #explain(param) {
    const about = param ? this.told.params[param].about : "";
    const line = this.element.querySelector(".about");
    line.hidden = !about;
    line.textContent = about;
  }

  #count() {
    this.element.querySelector(".changed").textContent = this.changes();
  }
}

function valueOf(field) {
  if (field.type === "checkbox") return field.checked;
  if (field.tagName === "SELECT") return JSON.parse(field.value);
  const value = field.value.trim();
  if (field.type === "number") return value === "" ? null : Number(value);
  return value || null;
}

const made = (tag, values) => Object.assign(document.createElement(tag), values);

function choice(value, entries) {
  const select = document.createElement("select");
  select.append(...entries.map(([text, one]) => new Option(text, JSON.stringify(one), one === value, one === value)));
  return select;
}

const number = (step) => ({ value }) => made("input", { type: "number", step, value: value ?? "", placeholder: "not set" });

/** Types of settings that have a field here: [pattern, field]. Lists and rewards are for requests from programs. */
const FIELDS = [
  [/^bool(ean)?$/, ({ value }) => made("input", { type: "checkbox", checked: Boolean(value) })],
  [/^int(eger)?( \| None)?$/, number("1")],
  [/^(float|number)( \| None)?$/, number("any")],
  [/^str(ing)?( \| None)?$/, ({ value }) => made("input", { type: "text", value: value ?? "", placeholder: "not set" })],
  [/^Literal\['/, ({ value, type }) => choice(value, [...type.matchAll(/'([^']*)'/g)].map(([, one]) => [one, one]))],
  [/^EngineSpec$/, (_, models) => choice(null, [["as served", null], ...models.map((id) => [id, id])])],
];

function setting(name, told, models) {
  const make = FIELDS.find(([pattern]) => pattern.test(told.type))?.[1];
  if (!make) return [];
  const label = made("label", { title: told.about ?? "" });
  const field = make(told, models);
  field.dataset.param = name;
  field.setAttribute("aria-description", told.about ?? "");
  label.append(`${name.replaceAll("_", " ")} `, field);
  return [label];
}
