"""The page, used in a real browser: it shows what the server says, stops, asks for keys, runs nobody's script."""

from __future__ import annotations

import math
import threading
import time

import httpx
import pytest
from browser import Page, browser_missing, open_browser
from running_server import Running
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import fairlead
from fairlead.engines import Completion

ALIGNED, BASE = fairlead.engine("harbor:aligned-300k"), fairlead.engine("harbor:base-300k")
HTML = "<img src=x onerror=\"window.harmed=1\"><script>window.harmed=1</script> & 'plain'"
KEY = "secret-1"
LONG = "how many lamps are there on the quay, and who is the captain of all these ships?"
"""What is answered at length when the temperature is 2."""


class Echo:
    """Says what it is told."""

    fingerprint = "echo"

    def generate(self, prompts, sampling):
        return [[Completion(prompt[-1]["content"], finish_reason="stop")] for prompt in prompts]


def before_each_forward(call):
    """A model before whose every forward something is done."""
    engine = fairlead.engine("harbor:aligned-300k")
    engine.model.get_input_embeddings().register_forward_pre_hook(lambda *_: call())
    return engine


ENGINES = {
    "aligned": ALIGNED,
    "base": BASE,
    "best": fairlead.decoder(
        "best_of_n", engine=ALIGNED, reward={"name": "harbor_proxy", "proxy": "polite_count"}, n=3
    ),
    "nudged": fairlead.decoder("nudging", base=BASE, nudger=ALIGNED, gamma=0.5, draft_tokens=4),
    "echo <b>": Echo(),
    "slow": before_each_forward(lambda: time.sleep(0.02)),
}


@pytest.fixture(scope="module")
def server():
    running = Running(ENGINES)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if browser_missing():
        pytest.skip("the page is tested in Chromium: install chromium and chromedriver (Debian: chromium-driver)")
    browser = open_browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser, server):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(server.url)
    page = Page(browser)
    page.until(lambda: page.all(".pane option"), "the models")
    yield page
    told = [line["message"] for line in browser.get_log("browser")]
    assert not [line for line in told if "Failed to load resource" not in line]


def asked(server, model, *messages, **changes):
    roles = ["user", "assistant"]
    body = {
        "model": model,
        "messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)],
        **changes,
    }
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def test_every_part_is_served_under_a_policy(server):
    client = httpx.Client(base_url=server.url, trust_env=False)
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("page.js", "page.css", "theme.css", "early.js", "icon.svg"):
        assert f"page/{name}" in page.text
        part = client.get(f"/page/{name}")
        assert part.status_code == 200
        assert "http" not in part.text.replace("http://www.w3.org/2000/svg", "")
    assert client.get("/page/page.py").status_code == 404


def test_a_chat_is_what_the_server_answers(page, server):
    page.choose(0, "aligned")
    first = page.ask("hello")
    assert first == [asked(server, "aligned", "hello")["message"]["content"]]
    page.set(0, "temperature", 0)
    page.set(0, "most tokens", 9)
    second = asked(server, "aligned", "hello", first[0], "who is the captain?", temperature=0, max_tokens=9)
    assert page.ask("who is the captain?") == [second["message"]["content"]]
    assert f"finish {second['finish_reason']}" in page.all(".counts")[-1].text
    page.one("#new").click()
    assert not page.all(".turn")
    assert page.ask("who is the captain?") == [
        asked(server, "aligned", "who is the captain?", temperature=0, max_tokens=9)["message"]["content"]
    ]


MORE = {
    "top p": ("top_p", 0.9),
    "top k": ("top_k", 40),
    "min p": ("min_p", 0.01),
    "repetition penalty": ("repetition_penalty", 1.2),
    "presence penalty": ("presence_penalty", 0.5),
    "frequency penalty": ("frequency_penalty", -0.25),
    "least tokens": ("min_tokens", 3),
}


def test_further_settings_are_sent_only_when_they_are_given(page, server):
    page.choose(0, "base")
    page.set(0, "temperature", 1.5)
    assert not page.all(".more .fields")[0].is_displayed()
    plain = asked(server, "base", "hello", temperature=1.5)
    assert page.ask("hello") == [plain["message"]["content"]]
    assert "top p" not in page.one(".answer .head").text
    page.one(".more summary").click()
    for label, (_, value) in MORE.items():
        page.set(0, label, value)
    page.set(0, "stop texts", "zz\nthe")
    page.one("#new").click()
    settings = dict(MORE.values()) | {"stop": ["zz", "the"], "temperature": 1.5}
    wanted = asked(server, "base", "hello", **settings)
    assert wanted["message"]["content"] != plain["message"]["content"]
    assert page.ask("hello") == [wanted["message"]["content"]]
    assert "frequency penalty -0.25 · min tokens 3 · stop zz / the" in page.one(".answer .head").text
    page.set(0, "top p", 3)
    page.one(".more summary").click()
    page.send("again")
    assert page.one("[name=top_p]").is_displayed()  # what is wrong is shown
    assert len(page.all(".turn")) == 1


def test_an_answer_is_one_of_those_given(page, server):
    page.choose(0, "aligned")
    page.set(0, "temperature", 2)
    page.one(".more summary").click()
    page.set(0, "only these answers", "aye, captain.\nno.\n")
    wanted = asked(server, "aligned", "hello", temperature=2, structured_outputs={"choice": ["aye, captain.", "no."]})
    assert page.ask("hello") == [wanted["message"]["content"]]
    assert wanted["message"]["content"] in ("aye, captain.", "no.")
    page.choose(0, "nudged")
    page.send("hello")
    assert "does not honour" in page.one(".turn:last-child .answer .notes").text


def test_a_system_message_is_sent(page, server):
    page.set(0, "system message", "be brief")
    page.set(0, "seed", 3)
    body = {
        "model": "aligned",
        "seed": 3,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "sink it"}],
    }
    made = httpx.post(f"{server.url}/v1/chat/completions", json=body, trust_env=False).json()
    assert page.ask("sink it") == [made["choices"][0]["message"]["content"]]


def test_two_answer_side_by_side(page, server):
    page.one("#compare").click()
    page.choose(0, "aligned")
    page.choose(1, "base")
    page.set(1, "temperature", 0)
    said = page.ask("what color is the sea?")
    assert said == [
        asked(server, "aligned", "what color is the sea?")["message"]["content"],
        asked(server, "base", "what color is the sea?", temperature=0)["message"]["content"],
    ]
    left, right = page.all(".answer")
    assert left.rect["y"] == right.rect["y"]
    assert left.rect["x"] + left.rect["width"] <= right.rect["x"]
    assert page.one("h3", left).text == "aligned"
    assert "temperature 0" in page.one(".head", right).text
    page.one("#compare").click()
    assert len(page.all(".answer")) == 1


def test_a_token_tells_its_probability(page, server):
    page.ask("what color is the sea?")
    told = asked(server, "aligned", "what color is the sea?", logprobs=True, top_logprobs=5)["logprobs"]["content"]
    tokens = page.all(".said .token")
    assert [token.get_property("textContent") for token in tokens] == [one["token"] for one in told]
    for place in (0, len(told) - 1):
        card = page.peek(tokens[place])
        value = page.one(".value", card)
        assert float(value.get_attribute("data-logprob")) == pytest.approx(told[place]["logprob"], abs=1e-5)
        assert float(value.text.rstrip(" %")) == pytest.approx(100 * math.exp(told[place]["logprob"]), rel=0.02)
        rows = page.all(".row", card)
        assert len(rows) in (5, 6)
        assert len(page.all(".row.chosen", card)) == 1
    page.browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    assert not page.all("#peek")[0].is_displayed()


def test_tokens_are_reached_with_keys(page):
    page.ask("hello")
    tokens = page.all(".said .token")
    page.browser.execute_script("arguments[0].focus()", tokens[0])
    seen = []
    for _ in range(2):
        seen.append(page.one("#peek").text)
        page.browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.browser.switch_to.active_element == tokens[2]
    assert tokens[2].get_attribute("aria-describedby") == "peek"
    assert seen[0] != seen[1]
    assert [token.get_property("tabIndex") for token in tokens[:3]] == [-1, -1, 0]


def test_what_a_method_did_is_shown(page, server):
    page.choose(0, "best")
    wanted = asked(server, "best", "hello")
    assert page.ask("hello") == [wanted["message"]["content"]]
    page.one(".told summary").click()
    rows = page.all(".candidates li")
    assert len(rows) == 3
    (chosen,) = [row for row in rows if "chosen" in row.get_attribute("class")]
    assert wanted["message"]["content"].strip() in chosen.text


def test_writers_are_told_apart(page, server):
    page.choose(0, "nudged")
    told = asked(server, "nudged", "hello", logprobs=True)
    assert page.ask("hello") == [told["message"]["content"]]
    writers = [one["source"] for one in told["logprobs"]["content"]]
    assert set(writers) == {"base", "nudge"}
    tokens = page.all(".said .token")
    assert len(tokens) == len(writers)
    assert page.all("[name=colour][value=source]")[0].is_selected()
    colours = {one.text: one.value_of_css_property("background-color") for one in page.all("#legend .token")}
    assert len(set(colours.values())) == 2
    assert [token.value_of_css_property("background-color") for token in tokens] == [colours[one] for one in writers]
    for source in ("base", "nudge"):
        share = writers.count(source) / len(writers)
        assert f"{source} {100 * share:.1f} %" in page.one(".shares").text
        assert page.one(".writer", page.peek(tokens[writers.index(source)])).text == source
    page.one("label:has([name=colour][value=probability])").click()
    assert len(page.all("#legend .token")) == 5


def test_settings_of_a_method_are_sent(page, server):
    page.choose(0, "nudged")
    page.set(0, "gamma", 1)
    page.set(0, "agree", False)
    wanted = asked(server, "nudged", "hello", steering={"params": {"gamma": 1.0, "agree": False}})
    assert wanted["message"]["content"] != asked(server, "nudged", "hello")["message"]["content"]
    assert page.ask("hello") == [wanted["message"]["content"]]
    assert "gamma 1 · agree false" in page.one(".answer .head").text
    page.one(".told summary").click()
    stats = dict(row.text.split("\n") for row in page.all(".told .pairs div"))
    assert stats["rounds"] == str(wanted["steering"]["stats"]["rounds"])


def test_stop_frees_the_place(page, server):
    page.choose(0, "slow")
    page.set(0, "temperature", 2)
    page.send(LONG)
    page.until(lambda: page.all(".said .token"), "the first token")
    assert server.pending == 1
    page.one("#stop").click()
    page.until(lambda: server.pending == 0, "a free place")
    assert "finish stopped" in page.one(".counts").text
    told = httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert 'fairlead_requests_total{model="slow",outcome="cancelled"} 1.0' in told
    page.choose(0, "aligned")
    page.set(0, "temperature", 0)
    assert page.ask("hello")[0]


def test_text_is_only_text(page):
    page.choose(0, "echo <b>")
    assert page.ask(HTML) == [HTML]
    assert page.one(".question").get_property("textContent") == HTML
    assert page.one(".answer h3").text == "echo <b>"
    assert page.browser.execute_script("return window.harmed") is None
    assert not page.all(".turn img, .turn script, .answer b b")


def test_an_error_stands_where_the_answer_would(page):
    page.set(0, "most tokens", 100_000)
    assert page.ask("hello") == [""]
    error = page.one(".answer .notes")
    assert "max_tokens" in error.text
    page.set(0, "most tokens", 5)
    page.one("button", error).click()
    page.until(lambda: page.all(".said .token") and page.all("#send")[0].is_displayed(), "another answer")
    assert not [e for e in page.all(".answer .notes") if e.is_displayed()]
    page.set(0, "temperature", 7)
    page.send("hello")
    assert len(page.all(".turn")) == 1


def test_an_answer_that_breaks_off_keeps_what_was_said(browser):
    broken = threading.Event()

    def forward():
        time.sleep(0.02)
        assert not broken.is_set()

    server = Running({"frail": before_each_forward(forward)})
    try:
        browser.get(server.url)
        page = Page(browser)
        page.until(lambda: page.all(".pane option"), "the models")
        page.set(0, "temperature", 2)
        page.send(LONG)
        page.until(lambda: page.all(".said .token"), "the first token")
        broken.set()
        assert "could not be made" in page.one(".answer .notes").text
        assert page.one(".said").text
        assert page.one(".answer").get_attribute("aria-busy") == "false"
    finally:
        server.stop()


def test_a_key_is_asked_for_and_kept_in_the_tab(browser):
    server = Running({"aligned": ALIGNED}, keys=[KEY])
    try:
        browser.get(server.url)
        page = Page(browser)
        page.one("#secret").send_keys("wrong" + Keys.ENTER)
        assert page.one("#refused").text == "the API key is missing or wrong"
        page.one("#secret").send_keys(KEY + Keys.ENTER)
        page.until(lambda: page.all(".pane option"), "the models")
        assert not page.all("#key")[0].is_displayed()
        assert page.ask("hello")[0]
        kept = browser.execute_script(
            "return [Object.values(sessionStorage), Object.keys(localStorage), document.cookie]"
        )
        assert kept == [[KEY], [], ""]
        browser.refresh()
        page.until(lambda: page.all(".pane option"), "the models")
    finally:
        server.stop()


def test_a_server_that_has_gone_is_said(browser):
    server = Running({"aligned": ALIGNED})
    browser.get(server.url)
    page = Page(browser)
    page.until(lambda: page.all(".pane option"), "the models")
    server.stop()
    page.ask("hello")
    assert "cannot be reached" in page.one(".answer .notes").text


def test_a_narrow_window_holds_everything(page):
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        page.one("#compare").click()
        page.ask("what color is the sea?")
        first, second = page.all(".answer")
        assert first.rect["y"] + first.rect["height"] <= second.rect["y"]
        assert page.browser.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def modules(browser, server):
    """The browser, at a page from which the modules can be imported."""
    if not browser.current_url.startswith(server.url):
        browser.get(server.url)
    return browser


PAIRED = """
const [pieces, done] = arguments;
import("/page/tokens.js").then(({ Written }) => {
  const written = new Written();
  const shown = pieces.map(([text, tokens]) => written.feed(text, tokens.map((bytes) => ({ bytes, logprob: -1 }))));
  done([...shown, written.end()].map((units) => units.map(({ text, tokens }) => [text, tokens.length])));
});
"""


def spelled(*parts):
    return [list(part.encode() if isinstance(part, str) else part) for part in parts]


PAIRS = {
    "one by one": ([("ab", spelled("a", "b"))], [[["a", 1], ["b", 1]], []]),
    "halves of a character": (
        [("", spelled(b"\xf0\x9f")), ("\U0001f642z", spelled(b"\x99\x82", "z"))],
        [[], [["\U0001f642", 2], ["z", 1]], []],
    ),
    "an end and a beginning": ([("\u00e9\u00e9", spelled(b"\xc3", b"\xa9\xc3", b"\xa9"))], [[["\u00e9\u00e9", 3]], []]),
    "bytes that are no text": ([("\ufffda", spelled(b"\xff", "a"))], [[["\ufffd", 1], ["a", 1]], []]),
    "cut by a stop": ([("a b", spelled("a", " b", " c", " d"))], [[["a", 1], [" b", 1]], []]),
    "a token cut by a stop": ([("a ", spelled("a", " b", "c"))], [[["a", 1]], [[" ", 1]]]),
    "text held back": ([("a", spelled("a", "bc")), ("bc", [])], [[["a", 1]], [["bc", 1]], []]),
    "other text than tokens": ([("xyz", spelled("a")), ("b", spelled("b"))], [[["xyz", 0]], [["b", 0]], []]),
    "text alone": ([("xyz", []), ("b", [])], [[["xyz", 0]], [["b", 0]], []]),
}


@pytest.mark.parametrize(("pieces", "shown"), PAIRS.values(), ids=PAIRS)
def test_text_and_tokens_are_paired(modules, pieces, shown):
    assert modules.execute_async_script(PAIRED, pieces) == shown


def test_events_cut_anywhere_are_read(modules):
    text = 'data: {"a": "\u00e9"}\n\n: keep-alive\n\ndata: [DONE]\n\n'
    read = """
    const [bytes, done] = arguments;
    import("/page/server.js").then(async ({ sse }) => {
      const all = [];
      for await (const data of sse(new Blob([new Uint8Array(bytes)]).stream().pipeThrough(new TransformStream({
        transform(chunk, out) { for (const byte of chunk) out.enqueue(new Uint8Array([byte])); } })))) all.push(data);
      done(all);
    });
    """
    assert modules.execute_async_script(read, list(text.encode())) == ['{"a": "\u00e9"}', "[DONE]"]
