"""`fairlead theory`: what a KL budget or N draws can do, for a finite problem or from rewards of real answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    import numpy as np

    from fairlead.theory.tilting import Tilt

__all__ = ["best_of_n", "numbers", "print_table", "rate", "samples", "show", "tilt", "write_figure"]

Json = Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")]
Figure = Annotated[str | None, Parameter(help="SVG file for the figure.")]
Chances = Annotated[str, Parameter(name="--p", help="Probabilities of the answers: 0.5,0.25,0.25.")]
Worth = Annotated[str | None, Parameter(name="--r", help="Rewards of the answers: 0,1,2; --r=-1,0 if one begins so.")]
Other = Annotated[str | None, Parameter(name="--q", help="Another law of the answers, for the reward log q.")]
Alpha = Annotated[float | None, Parameter(help="Strength of the tilt, 1 / beta.")]
Beta = Annotated[float | None, Parameter(help="KL coefficient, 1 / alpha.")]
Nats = Annotated[float | None, Parameter(name="--kl", help="KL from the reference in nats.")]


def tilt(
    *, p: Chances, r: Worth = None, q: Other = None, alpha: Alpha = None, beta: Beta = None, kl: Nats = None,
    figure: Figure = None, json_: Json = False,
) -> int:  # fmt: skip
    """Work out the policy of the highest reward at a strength, or within a KL.

    For example:

    ```
    fairlead theory tilt --p 0.5,0.25,0.15,0.1 --r 0,1,2,3 --kl 0.5
    fairlead theory tilt --p 0.5,0.25,0.15,0.1 --r 0,1,2,3 --beta 1 --figure frontier.svg
    fairlead theory tilt --p 0.7,0.3 --q 0.4,0.6 --kl 0.1 --json
    ```
    """
    from fairlead.theory.drawings import draw_frontier
    from fairlead.theory.tilting import largest_kl

    chances, rewards = _problem(p, r, q)
    found, most = _tilt(chances, rewards, alpha, beta, kl), largest_kl(chances, rewards)
    told = {
        "alpha": found.alpha,
        "beta": 1 / found.alpha if found.alpha else math.inf,
        "reward": found.reward,
        "kl": found.kl,
        "largest_kl": most,
        "log_partition": found.log_partition,
        "variance": found.variance,
        "phi": found.phi.tolist(),
    }
    if figure is not None:
        write_figure(figure, draw_frontier(chances, rewards, kl=most, marks={"chosen": (found.kl, found.reward)}))
    if json_:
        return show(told)
    print_table([{name: value for name, value in told.items() if name != "phi"}])
    print_table([{"p": a, "r": b, "tilt": c} for a, b, c in zip(chances, rewards, found.phi)])
    return 0


def best_of_n(
    *, p: Chances, r: Worth = None, q: Other = None,
    n: Annotated[str | None, Parameter(name="--n", help="Draws: 2,4,16; they need not be whole.")] = None,
    kl: Nats = None, figure: Figure = None, json_: Json = False,
) -> int:  # fmt: skip
    """Work out the best of N draws exactly, ties included, beside the best that its KL could buy.

    For example:

    ```
    fairlead theory best-of-n --p 0.5,0.25,0.15,0.1 --r 0,1,2,3 --n 2,4,64
    fairlead theory best-of-n --p 0.5,0.25,0.15,0.1 --r 0,1,2,3 --kl 0.5
    fairlead theory best-of-n --p 0.3,0.3,0.2,0.2 --r 0,1,1,2 --n 3 --figure frontier.svg --json
    ```
    """
    from fairlead.errors import UsageError
    from fairlead.theory.best_of_n import draws_at_kl, efficiency
    from fairlead.theory.drawings import draw_frontier

    chances, rewards = _problem(p, r, q)
    if (n is None) == (kl is None):
        raise UsageError("give --n or --kl, one of them", fix="--n 2,4,16, or --kl 0.5 for the N that has it")
    draws = numbers(n, "--n") if n is not None else [draws_at_kl(chances, rewards, _given(kl))]
    if not all(math.isfinite(one) for one in draws):
        raise UsageError(f"no N has a KL of {kl:g}", fix="use fewer nats: `fairlead theory tilt` tells the largest KL")
    found = [efficiency(chances, rewards, one) for one in draws]
    told = [
        {
            "n": one.best.n,
            "reward": one.best.reward,
            "kl": one.best.kl,
            "bound": one.best.kl_bound,
            "win": one.best.win_rate,
            "tilt_reward": one.tilt.reward,
            "efficiency": one.ratio,
        }
        for one in found
    ]
    if figure is not None:
        reach = max(one.best.kl for one in found)
        if reach == 0:
            raise UsageError("there is nothing to draw at a KL of 0", fix="give an N above 1")
        marks = {f"N = {one.best.n:g}": (one.best.kl, one.best.reward) for one in found}
        write_figure(figure, draw_frontier(chances, rewards, kl=reach, marks=marks))
    if json_:
        return show([row | {"phi": one.best.phi.tolist()} for row, one in zip(told, found)])
    print_table(told)
    return 0


def rate(
    *, p: Chances, r: Worth = None, q: Other = None, alpha: Alpha = None, beta: Beta = None, kl: Nats = None,
    at: Annotated[str | None, Parameter(help="Mean rewards per symbol whose rate is told: -0.8,-0.7.")] = None,
    symbols: Annotated[str | None, Parameter(help="Lengths of answers for the best of exp(n kl): 10,100.")] = None,
    figure: Figure = None, json_: Json = False,
) -> int:  # fmt: skip
    """Say how unlikely a mean reward is over long answers, and what the best of exp(n kl) answers of n symbols reaches.

    --p and --r are of one symbol.

    For example:

    ```
    fairlead theory rate --p 0.7,0.3 --q 0.4,0.6 --kl 0.1 --at=-0.8,-0.7,-0.6 --symbols 10,100,1000
    fairlead theory rate --p 0.5,0.25,0.15,0.1 --r 0,1,2,3 --alpha 0.5 --at 1,2,3 --figure rate.svg
    ```
    """
    from fairlead.errors import UsageError
    from fairlead.theory.blocks import best_of_block
    from fairlead.theory.drawings import draw_rate
    from fairlead.theory.rates import rate as rate_of

    chances, rewards = _problem(p, r, q)
    here = _tilt(chances, rewards, alpha, beta, kl)
    if not math.isfinite(here.alpha):
        raise UsageError("at this KL only the best answers are left", fix="use fewer nats")
    rates = [{"reward": x, "rate": rate_of(chances, rewards, here.alpha, x)} for x in numbers(at, "--at")]
    lengths = numbers(symbols, "--symbols")
    if any(n != int(n) or n < 1 for n in lengths):
        raise UsageError(f"--symbols is {symbols}", fix="give whole numbers from 1")
    blocks = [best_of_block(chances, rewards, int(n), here.kl) for n in lengths]
    told = [
        {"symbols": one.n, "reward": one.reward, "tilt": one.tilt_reward, "kl": one.kl, "kl_to_tilt": one.kl_to_tilt}
        for one in blocks
    ]
    start = {"alpha": here.alpha, "reward": here.reward, "kl": here.kl}
    if figure is not None:
        write_figure(figure, draw_rate(chances, rewards, here.alpha))
    if json_:
        return show(start | {"rates": rates, "blocks": told})
    for rows in ([start], rates, told):
        print_table(rows)
    return 0


def samples(
    path: Annotated[str, Parameter(help="Records with the rewards of several answers to each prompt.")],
    /,
    *,
    scores: Annotated[str, Parameter(help="Column with a list of rewards per prompt.")] = "scores",
    at: Annotated[str | None, Parameter(help="Draws that are foretold: 2,4,16; by default 1, 2, 4 and so on.")] = None,
    confidence: Annotated[float, Parameter(help="Coverage of the intervals.")] = 0.95,
    seed: Annotated[int, Parameter(help="Randomness of the intervals.")] = 0,
    figure: Figure = None,
    json_: Json = False,
) -> int:
    """Foretell reward, KL and win rate of the best of N from rewards of real answers, 50 or more to each prompt.

    Reads ranking records, such as `fairlead generate --keep ranking` writes them, and any rows with a list of rewards.

    For example:

    ```
    fairlead theory samples rankings.jsonl
    fairlead theory samples runs/mine/steps/draws/answers.jsonl --scores rewards --at 4,16 --figure frontier.svg
    ```
    """
    from fairlead.errors import UsageError
    from fairlead.theory.drawings import draw_estimates
    from fairlead.theory.samples import best_frontier, tilt_curve

    rewards, notes = _read(path, scores)
    m = rewards.shape[1]
    doubled = [2.0**k for k in range(int(math.log2(m // 4)) + 1)]
    ns = numbers(at, "--at") or doubled
    for n in ns:
        if n != int(n) or not 1 <= n <= m // 4:
            fix = f"use whole numbers up to {m // 4}, a quarter of the {m} rewards, or draw more answers"
            raise UsageError(f"--at has {n:g}", fix=fix)
    told = _foretold(rewards, [int(n) for n in ns], confidence, seed)
    curve = tilt_curve(rewards)
    if figure is not None:
        best = best_frontier(rewards)
        write_figure(figure, draw_estimates({"best of N": (best.kl, best.reward)}, curve))
    if json_:
        ideal = {name: getattr(curve, name).tolist() for name in ("alpha", "kl", "reward", "effective")}
        return show({"prompts": len(rewards), "draws": m, "best_of": told, "tilt": ideal, "notes": notes})
    print(f"{len(rewards)} prompts, {m} rewards each")
    print_table([{name: value for name, value in row.items() if name != "error"} for row in told])
    last = f"KL {curve.kl[-1]:.3g}, reward {curve.reward[-1]:.4g} at alpha {curve.alpha[-1]:.3g}"
    print(f"the tilt, as far as {curve.effective[-1]:.0f} draws per prompt still count: {last}")
    for note in notes:
        print(f"note: {note}")
    return 0


def numbers(text: str | None, option: str) -> list[float]:
    """Read numbers separated by commas; none of None.

    Raises:
        UsageError: what is no number, by the option's name.
    """
    from fairlead.errors import UsageError

    found = []
    for part in (text or "").split(",") if text else []:
        try:
            found.append(float(part))
        except ValueError:
            what = f"{option} is {text!r}, and {part.strip()!r} is no number"
            raise UsageError(what, fix=f"write {option} 0.5,0.25,0.25") from None
    return found


def show(found: Any) -> int:
    """Print plain values as JSON, with null for what is not finite."""
    print(json.dumps(_finite(found), indent=1, ensure_ascii=False))
    return 0


def write_figure(path: str, svg: str) -> None:
    """Write a figure; its folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(svg, encoding="utf-8")


def _problem(p: str, r: str | None, q: str | None) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    from fairlead.errors import UsageError
    from fairlead.theory.problems import as_distribution, as_problem

    if (r is None) == (q is None):
        raise UsageError("give --r or --q, one of them", fix="--r 0,1,2 for rewards, --q 0.2,0.8 for the reward log q")
    worth = numbers(r, "--r") if r is not None else np.log(as_distribution(numbers(q, "--q"), "q"))
    return as_problem(numbers(p, "--p"), worth)


def _tilt(p: np.ndarray, r: np.ndarray, alpha: float | None, beta: float | None, kl: float | None) -> Tilt:
    from fairlead.errors import UsageError
    from fairlead.theory.tilting import tilt as tilt_of
    from fairlead.theory.tilting import tilt_at_kl

    if sum(given is not None for given in (alpha, beta, kl)) != 1:
        raise UsageError("give --alpha, --beta or --kl, one of them", fix="--kl 0.5, for example")
    if kl is not None:
        return tilt_at_kl(p, r, kl)
    if beta is not None and not beta > 0:
        raise UsageError(f"--beta is {beta:g}", fix="use a KL coefficient above 0")
    return tilt_of(p, r, 1 / beta if beta is not None else _given(alpha))


def _given(value: float | None) -> float:
    return math.nan if value is None else value


def _read(path: str, column: str) -> tuple[np.ndarray, list[str]]:
    """Return rewards [P, M]; rows in which a reward is missing are left out, and told."""
    import numpy as np

    from fairlead.errors import DataError, UsageError
    from fairlead.records.check import Problem
    from fairlead.records.sources import open_rows
    from fairlead.theory.samples import LEAST_DRAWS

    rows: list[list[float]] = []
    missing = 0
    for place, row in open_rows(path):
        if isinstance(row, Problem):
            raise DataError(str(row), place=path, fix="mend or remove this row")
        found = row.get(column)
        if not isinstance(found, list):
            what = f"no list of rewards in column {column!r}; the columns are {', '.join(map(str, row))}"
            raise DataError(what, place=f"{path}, {place}", fix="name the column with --scores")
        if any(value is None for value in found):
            missing += 1
            continue
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in found):
            raise DataError("a reward is no finite number", place=f"{path}, {place}", fix="mend this row")
        if len(found) < LEAST_DRAWS:
            what = f"{len(found)} rewards for one prompt say too little"
            raise UsageError(what, place=f"{path}, {place}", fix=f"draw at least {LEAST_DRAWS} answers per prompt")
        rows.append([float(value) for value in found])
    if not rows:
        raise DataError(f"no row has all its rewards ({missing} lack some)", place=path, fix="use another reward")
    notes = [f"rows left out, for the reward abstained on an answer: {missing}"] if missing else []
    least, most = min(map(len, rows)), max(map(len, rows))
    if least < most:
        notes.append(f"rows have {least} to {most} rewards: the first {least} of each are used")
    return np.array([row[:least] for row in rows]), notes


def _foretold(rewards: np.ndarray, ns: Sequence[int], confidence: float, seed: int) -> list[dict[str, Any]]:
    from fairlead.estimates import estimate_mean
    from fairlead.theory.best_of_n import kl_bound
    from fairlead.theory.samples import kl_of_best, reward_of_best, reward_of_best_error, win_rate_of_best

    told = []
    for n in ns:
        row: dict[str, Any] = {"n": n}
        for name, estimator in (("reward", reward_of_best), ("kl", kl_of_best), ("win", win_rate_of_best)):
            found = estimate_mean(estimator(rewards, n), confidence=confidence, seed=seed)
            row[name] = {"value": found.value, "low": found.low, "high": found.high}
        row["error"] = float((reward_of_best_error(rewards, n) ** 2).sum() ** 0.5 / len(rewards))
        told.append(row | {"bound": float(kl_bound(n))})
    return told


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of equal names as a table; nothing of none."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(_told, row.values()))
    Console(highlight=False).print(table)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        known = math.isfinite(value["low"]) and math.isfinite(value["high"])
        return f"{value['value']:.3f}" + (f" {value['low']:.2f}..{value['high']:.2f}" if known else "")
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _finite(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {name: _finite(value) for name, value in found.items()}
    if isinstance(found, str) or not isinstance(found, Iterable):
        return None if isinstance(found, float) and not math.isfinite(found) else found
    return [_finite(value) for value in found]
