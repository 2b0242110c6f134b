/** The card that says all that is known of the token pointed at. */

import { percent, tone, visible } from "./tokens.js";

const card = document.getElementById("peek");
let shownFor = null;

/** Show the tokens of a piece of text beside it. */
export function peek(span, tokens) {
  hide();
  shownFor = span;
  card.replaceChildren(...tokens.flatMap((token) => part(token)));
  if (tokens.length > 1) card.prepend(made("p", "soft", `${tokens.length} tokens write “${span.textContent}”`));
  card.hidden = false;
  span.classList.add("looked");
  span.setAttribute("aria-describedby", card.id);
  place(span);
}

/** Show nothing. */
export function hide() {
  if (!shownFor) return;
  shownFor.classList.remove("looked");
  shownFor.removeAttribute("aria-describedby");
  shownFor = null;
  card.hidden = true;
}

function made(tag, name, text = "") {
  return Object.assign(document.createElement(tag), { className: name, textContent: text });
}

const nats = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");

function part(token) {
  const top = token.top_logprobs ?? [];
  const head = made("div", "head");
  head.append(made("code", "", visible(token)));
  if (token.source) {
    head.append(made("span", `writer ${tone(token.source)}`, token.source));
  }
  const value = made("b", "value", percent(Math.exp(token.logprob)));
  value.dataset.logprob = token.logprob;
  const rest = [`${nats(token.logprob)} nats`];
  if (typeof token.entropy === "number") rest.push(`entropy ${nats(token.entropy)}`);
  const line = made("div", "line");
  line.append(value, made("span", "soft", rest.join(" · ")));
  return top.length ? [head, line, list(token, top)] : [head, line];
}

function list(token, top) {
  const same = (other) => String(other.bytes ?? other.token) === String(token.bytes ?? token.token);
  const rows = top.some(same) ? top : [...top, token];
  const table = made("div", "top");
  for (const other of rows) {
    const row = made("div", same(other) ? "row chosen" : "row");
    const bar = made("i", "");
    bar.style.setProperty("--share", Math.exp(other.logprob));
    row.append(made("code", "", visible(other)), bar, made("span", "", percent(Math.exp(other.logprob))));
    table.append(row);
  }
  return table;
}

function place(span) {
  const [around] = span.getClientRects();
  const { offsetWidth: width, offsetHeight: height } = card;
  const above = around.top - height - 8;
  const fits = around.bottom + 8 + height <= innerHeight || above < 8;
  card.style.top = `${fits ? around.bottom + 8 : above}px`;
  card.style.left = `${Math.max(8, Math.min(around.left - 12, document.documentElement.clientWidth - width - 8))}px`;
}

addEventListener("keydown", (event) => event.key === "Escape" && hide());
addEventListener("pointerdown", (event) => shownFor?.contains(event.target) || hide());
addEventListener("scroll", () => shownFor && place(shownFor), { passive: true, capture: true });
addEventListener("resize", () => shownFor && place(shownFor));
