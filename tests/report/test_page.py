"""The page of a run: everything of the folder is in it, nothing of the outside, and nothing in it can act."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fairlead.errors import DataError
from fairlead.evaluation.base import Report
from fairlead.report import build
from fairlead.report.numbers import interval, number

VOID = {"meta", "link", "input", "br", "wbr"}


class Page(HTMLParser):
    """Collects what a page holds and checks that its elements nest."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(finished_run) -> Page:
    return Page(build(finished_run).read_text(encoding="utf-8"))


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def built(folder: Path) -> Page:
    return Page(build(folder).read_text(encoding="utf-8"))


def test_the_page_tells_the_run(page, finished_run):
    for words in ("Base, SFT and DPO on Harbor", "All 2 expectations hold", "seed 0", "4 of 4 steps finished"):
        assert words in page.text
    for words in ("rendered rows", "trained tokens", "189 ties of 800", "harbor:demonstrations?n=1000", "2.13.0+cpu"):
        assert words in page.text
    state = json.loads((finished_run / "steps" / "sft" / "step.json").read_text())
    assert state["fingerprint"][:12] in page.text
    assert {"step-sft", "step-pairs", "step-dpo", "step-evaluation"} <= {a.get("id") for _, a in page.elements}


def test_every_number_of_every_report_is_there_with_its_interval(page, finished_run):
    for label in ("rewards", "win_rate", "drift", "length"):
        report = Report.load(finished_run / "steps" / "evaluation", label)
        for found in report.summary.values():
            for axis, e in found.items():
                assert f"{number(e.value)} {interval(e)}".strip() in page.text, (label, axis)


def test_every_curve_and_figure_is_drawn(page):
    captions = re.findall(r"(loss|learning rate|grad norm|accuracy|margin|tokens per second)", page.text)
    assert set(captions) == {"loss", "learning rate", "grad norm", "accuracy", "margin", "tokens per second"}
    drawings = [a for tag, a in page.elements if tag == "svg" and a.get("role") == "img"]
    assert len(drawings) == 6 + 5 + 9  # evaluators' figures, curves of SFT, curves of DPO


def test_samples_carry_their_scores(page, finished_run):
    lines = (finished_run / "steps" / "evaluation" / "samples.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert sum(a.get("class") == "sample" for _, a in page.elements) == len(lines) == 60
    assert first["answers"]["dpo"] in page.text
    chips = {(a["data-engine"], a["data-axis"], a["data-value"]) for _, a in page.elements if "data-axis" in a}
    assert ("dpo", "total", str(first["scores"]["dpo"]["total"])) in chips


def test_the_trained_part_is_marked(page, finished_run):
    marked = sum(tag == "mark" for tag, _ in page.elements)
    rows = sum(len(json.loads((finished_run / "steps" / s / "rendered.json").read_text())) for s in ("sft", "dpo"))
    assert marked == rows + 2  # one trained part per row, and the two legends


def test_the_page_asks_nothing_of_the_network(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert "url(http" not in str(attributes.get("style"))
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_only_our_two_scripts_may_run(page):
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert len(page.scripts) == 2
    for script in page.scripts:
        assert f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}" in policy
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]


def test_ids_are_unique_and_references_resolve(page):
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for value in filter(None, attributes.values()):
            assert set(re.findall(r"url\(#([^)]+)\)", value)) <= set(ids)
        target = attributes.get("href") or attributes.get("xlink:href") or ""
        assert not target.startswith("#") or target[1:] in ids


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7 * 7 }}"


def test_text_of_a_model_stays_text(run_folder):
    steps = run_folder / "steps"
    rewrite(run_folder / "run.json", title=EVIL, about=EVIL, command=EVIL, versions={EVIL: EVIL})
    rewrite(steps / "pairs" / "step.json", notes=[EVIL], config={EVIL: EVIL}, inputs=[{"name": EVIL}])
    (steps / "sft" / "rendered.json").write_text(json.dumps([{"id": EVIL, "parts": [[EVIL, True], [EVIL, False]]}]))
    drawn = {"step": 1, "id": EVIL, "prompt": EVIL, "completion": EVIL, "rewards": {EVIL: 1.0}, "advantage": EVIL}
    (steps / "sft" / "rollouts.jsonl").write_text(json.dumps(drawn) + "\n")
    sample = {"id": EVIL, "prompt": [{"role": EVIL, "content": EVIL}], "answers": {"base": EVIL, EVIL: EVIL}}
    (steps / "evaluation" / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    (run_folder / "recipe.yaml").write_text(EVIL)
    page = built(run_folder)
    assert len(page.scripts) == 2
    assert "img" not in [tag for tag, _ in page.elements]
    assert page.text.count("alert(1)") >= 12
    assert "{{ 7 * 7 }}" in page.text


def test_the_completions_of_the_first_and_last_rollout(run_folder):
    rows = [
        {"step": step, "id": f"prompt-{step}", "prompt": [{"role": "user", "content": "who?"}],
         "completion": f"it is {step}.", "rewards": {"polite": 0.25 * step}, "advantage": -0.5}
        for step in (1, 2, 3)
    ]  # fmt: skip
    (run_folder / "steps" / "dpo" / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = built(run_folder).text
    assert "it is 1." in text
    assert "it is 3." in text
    assert "it is 2." not in text
    assert "polite 0.750" in text


@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>",
        '<a href="javascript:alert(1)"><path/></a>',
        '<path onclick="alert(1)"/>',
        '<use href="http://elsewhere/x.svg#a"/>',
        '<path style="fill: url(http://elsewhere/x)"/>',
        "<foreignObject><p>hi</p></foreignObject>",
        "<!-- --><path/>",
        "<path>",
    ],
)
def test_a_figure_that_could_act_is_left_out(run_folder, payload):
    figure = next((run_folder / "steps" / "evaluation").glob("length-*.svg"))
    figure.write_text(f'<svg xmlns="http://www.w3.org/2000/svg">{payload}</svg>')
    page = built(run_folder)
    assert "so it is left out" in page.text
    assert len(page.scripts) == 2


def test_a_broken_promise_is_on_top(run_folder):
    line = {"line": "evaluation.rewards.dpo.total >= 9", "value": 1.2, "holds": False}
    state = json.loads((run_folder / "run.json").read_text())
    rewrite(run_folder / "run.json", expectations=[*state["expectations"], line])
    page = built(run_folder)
    assert "1 of 3 expectations do not hold" in page.text
    assert "✗ fails" in page.text


def test_a_failed_run_says_where_and_why(run_folder):
    shutil.rmtree(run_folder / "steps" / "evaluation")
    rewrite(run_folder / "run.json", status="failed", expectations=[], error="dpo: out of memory\n  fix: less")
    rewrite(run_folder / "steps" / "dpo" / "step.json", status="failed", error="dpo: out of memory\n  fix: less")
    (run_folder / "steps" / "dpo" / "rendered.json").unlink()
    page = built(run_folder)
    assert "This run failed" in page.text
    assert "dpo: out of memory fix: less" in page.text
    assert "step-evaluation" not in {a.get("id") for _, a in page.elements}
    assert "not started" in page.text
    assert "rendered.json is missing" not in page.text  # a step that failed owes nothing


def test_a_killed_run_shows_what_there_is(run_folder):
    shutil.rmtree(run_folder / "steps" / "evaluation")
    rewrite(run_folder / "run.json", status="running", finished=None, expectations=[])
    rewrite(run_folder / "steps" / "dpo" / "step.json", status="running")
    with (run_folder / "steps" / "dpo" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 39, "lo')
    page = built(run_folder)
    assert "This run has not finished" in page.text
    assert "2 of 4 steps finished" in page.text
    assert re.search(r"metrics\.jsonl, line \d+ cannot be read", page.text)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("run.json", "run.json is missing"),
        ("recipe.yaml", "recipe.yaml is missing"),
        ("steps/sft/step.json", "sft: step.json is missing"),
        ("steps/sft/metrics.jsonl", "sft: metrics.jsonl is missing"),
        ("steps/sft/lengths.json", "sft: lengths.json is missing"),
        ("steps/evaluation/samples.jsonl", "evaluation: samples.jsonl is missing"),
        ("steps/evaluation/rewards.json", "evaluation: rewards: no whole report here"),
        ("steps/evaluation/length-words-per-answer.svg", "evaluation: length: no whole report here"),
    ],
)
def test_what_is_missing_is_said(run_folder, lost, said):
    (run_folder / lost).unlink()
    assert said in built(run_folder).text


@pytest.mark.parametrize("text", ["{", "[]", '"text"', "{}", '{"metrics": 3, "config": [], "inputs": [1], "notes": 1}'])
@pytest.mark.parametrize(
    "file", ["run.json", "steps/sft/step.json", "steps/sft/lengths.json", "steps/sft/rendered.json"]
)
def test_broken_files_do_not_stop_the_page(run_folder, file, text):
    (run_folder / file).write_text(text)
    assert built(run_folder).text


def test_a_step_without_its_state_is_shown_as_far_as_it_goes(run_folder):
    (run_folder / "steps" / "sft" / "step.json").unlink()
    page = built(run_folder)
    assert "sft ? unknown" in page.text
    assert "2 rendered rows" in page.text


def test_an_empty_folder_has_a_page_and_a_file_has_none(tmp_path):
    assert "How this run ended is not known" in built(tmp_path).text
    with pytest.raises(DataError, match="no run folder"):
        build(tmp_path / "nowhere")


def test_equal_folders_give_equal_pages(run_folder):
    assert build(run_folder).read_bytes() == build(run_folder).read_bytes()
