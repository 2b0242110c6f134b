/** The page: panes that are asked, turns that hold their answers, colours, key. */

import { Answer } from "./answer.js";
import { hide } from "./peek.js";
import { Pane } from "./pane.js";
import { chat, hasKey, models, setKey } from "./server.js";
import { SURE, tone } from "./tokens.js";

const part = (id) => document.getElementById(id);
const root = document.documentElement;

let served = [];
let panes = [];
let turns = [];
let colourChosen = false;
let following = true;
const sources = new Set();
const running = new Map();

// --- what is served, and the key ---

async function load() {
  part("trouble").hidden = true;
  try {
    served = await models();
    if (!served.length) throw new Error("the server serves no model");
  } catch (error) {
    return error.status === 401 ? askForKey(error) : trouble(error);
  }
  part("key").hidden = true;
  if (!panes.length) addPane();
  part("compare").disabled = part("send").disabled = false;
}

function trouble(error) {
  part("trouble").hidden = false;
  part("trouble").firstElementChild.textContent = error.message;
}

function askForKey(error) {
  part("key").hidden = false;
  part("refused").hidden = !hasKey();
  part("refused").textContent = error.message;
  part("secret").value = "";
  part("secret").focus();
}

part("key").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(part("secret").value.trim());
  load();
});
part("trouble").querySelector("button").addEventListener("click", load);

// --- panes ---

function addPane() {
  const pane = new Pane(served, panes[0]);
  panes.push(pane);
  part("panes").append(pane.element);
  layOut();
}

function dropPane() {
  const pane = panes.pop();
  running.forEach(({ pane: own, abort }) => own === pane && abort.abort());
  for (const turn of turns) {
    turn.answers.get(pane)?.element.remove();
    turn.answers.delete(pane);
  }
  pane.element.remove();
  layOut();
}

function layOut() {
  root.dataset.panes = panes.length;
  part("compare").setAttribute("aria-pressed", String(panes.length > 1));
  for (const turn of turns) {
    turn.columns.querySelectorAll(".none").forEach((none) => none.remove());
    const missing = panes.filter((pane) => !turn.answers.has(pane));
    turn.columns.append(...missing.map(() => Object.assign(document.createElement("div"), { className: "none soft", textContent: "not asked" })));
  }
}

part("compare").addEventListener("click", () => (panes.length > 1 ? dropPane() : addPane()));

// --- questions and answers ---

function ask(question) {
  const element = part("turn-template").content.firstElementChild.cloneNode(true);
  element.querySelector(".question").textContent = question;
  const turn = { question, element, columns: element.querySelector(".columns"), answers: new Map() };
  turns.push(turn);
  part("turns").append(element);
  part("empty").hidden = true;
  part("colours").hidden = false;
  for (const pane of panes) answer(turn, pane);
  element.scrollIntoView({ block: "start" });
}

function answer(turn, pane) {
  const again = () => answer(turn, pane);
  const shown = new Answer({ name: pane.model, method: pane.told.method, settings: pane.changes(), again, heard: addSource });
  const before = turn.answers.get(pane)?.element;
  if (before) before.replaceWith(shown.element);
  else turn.columns.append(shown.element);
  turn.answers.set(pane, shown);
  write(pane, shown, history(turn, pane));
}

function history(turn, pane) {
  const messages = [];
  for (const past of turns.slice(0, turns.indexOf(turn))) {
    const said = past.answers.get(pane);
    if (said?.usable) messages.push({ role: "user", content: past.question }, { role: "assistant", content: said.text });
  }
  return [...messages, { role: "user", content: turn.question }];
}

async function write(pane, shown, messages) {
  const abort = new AbortController();
  running.set(shown, { pane, abort });
  showButtons();
  try {
    for await (const event of events(pane, messages, abort.signal)) {
      shown.hear(event);
      if (following) requestAnimationFrame(() => scrollTo({ top: root.scrollHeight }));
    }
    shown.end();
    pane.say(`${shown.element.getAttribute("aria-label")}: ${shown.text}`);
  } catch (error) {
    if (abort.signal.aborted) shown.stop();
    else shown.fail(error);
    if (error.status === 401) askForKey(error);
  } finally {
    running.delete(shown);
    showButtons();
  }
}

/** Ask with log-probs; where the server says that the model has none, without. */
async function* events(pane, messages, signal) {
  const body = pane.request(messages);
  try {
    yield* chat(body, signal);
  } catch (error) {
    if (!body.logprobs || error.status !== 400 || !error.param?.includes("logprobs")) throw error;
    pane.mute();
    yield* chat(pane.request(messages), signal);
  }
}

addEventListener("scroll", () => { following = root.scrollHeight - innerHeight - scrollY < 60; }, { passive: true });

function showButtons() {
  const held = [part("send"), part("stop")].includes(document.activeElement);
  part("send").hidden = running.size > 0;
  part("stop").hidden = !running.size;
  if (held) part("question").focus();
}

const stop = () => running.forEach(({ abort }) => abort.abort());

part("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = part("question").value;
  const invalid = panes.map((pane) => pane.invalid()).find(Boolean);
  if (invalid) return invalid.reportValidity();
  if (running.size || !panes.length || !question.trim()) return;
  part("question").value = "";
  ask(question);
});
part("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  part("ask").requestSubmit();
});
part("stop").addEventListener("click", stop);
part("new").addEventListener("click", () => {
  stop();
  hide();
  turns = [];
  part("turns").replaceChildren();
  part("empty").hidden = false;
  part("colours").hidden = true;
  part("question").focus();
});

// --- colours ---

function addSource(source) {
  if (sources.has(source)) return;
  sources.add(source);
  if (!colourChosen) document.querySelector("[name=colour][value=source]").checked = true;
  colour();
}

const legends = {
  probability: () => SURE.map(([, words], place) => [`sure-${place}`, words]),
  source: () => [...sources].sort().map((source) => [tone(source), source]),
  none: () => [],
};

function colour() {
  const mode = document.querySelector("[name=colour]:checked").value;
  root.dataset.colour = mode;
  const marks = legends[mode]().map(([name, words]) =>
    Object.assign(document.createElement("span"), { className: `token ${name}`, textContent: words }),
  );
  const alone = mode === "source" && !marks.length ? ["every answer here has one writer"] : [];
  part("legend").replaceChildren(...marks, ...alone);
}

for (const choice of document.querySelectorAll("[name=colour]")) {
  choice.addEventListener("change", () => {
    colourChosen = true;
    colour();
  });
}
part("theme").addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
});

colour();
showButtons();
load();
