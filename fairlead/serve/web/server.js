/** What the page asks of its server. */

const KEY = "fairlead-key";
const address = (path) => new URL(path, document.baseURI);

/** An error in the server's words. */
export class ServerError extends Error {
  constructor(message, { status = null, param = null } = {}) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

/** Keep the API key as long as the tab is open. */
export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Forget it. */
export function forgetKey() {
  sessionStorage.removeItem(KEY);
}

/** Whether there is one. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  let answer;
  try {
    const headers = new Headers({ "Content-Type": "application/json" });
    if (key) headers.set("Authorization", `Bearer ${key}`);
    answer = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const unsendable = key && /[^\x20-\x7e]/.test(key);
    throw new ServerError(unsendable ? "the API key has characters that cannot be sent" : "the server cannot be reached", {
      status: unsendable ? 401 : null,
    });
  }
  if (answer.ok) return answer;
  const said = (await answer.json().catch(() => null))?.error;
  throw new ServerError(said?.message ?? `${answer.status} ${answer.statusText}`, { status: answer.status, param: said?.param });
}

/** Return what is served. */
export async function models() {
  return (await (await ask("v1/models")).json()).data;
}

/** Yield the data of server-sent events. */
export async function* sse(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (waiting + value).split("\n");
      waiting = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Yield the events of an answer. */
export async function* chat(body, signal) {
  const answer = await ask("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
  let ended = false;
  try {
    for await (const data of sse(answer.body)) {
      ended = data === "[DONE]";
      if (ended) return;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(event.error.message, { param: event.error.param });
      yield event;
    }
  } catch (error) {
    if (error instanceof ServerError || error.name === "AbortError") throw error;
    throw new ServerError("the connection broke");
  }
  if (!ended) throw new ServerError("the answer broke off");
}
