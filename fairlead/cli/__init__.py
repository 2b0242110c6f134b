"""The command line: one thin function per command, imported when it is called.

Exit codes: 0 done, 1 an expectation does not hold (or a check found problems), 2 an error that names its fix, 3 a fault
of Fairlead itself, 130 stopped by Ctrl-C. `--debug` (or FAIRLEAD_DEBUG=1) shows where an error came from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_RUNS, _STEPS, _LOOK = "Whole runs", "Single steps", "Look and check"

_COMMANDS: tuple[tuple[str, str, str, str], ...] = (
    ("quickstart", "runs:quickstart", _RUNS, "Align a small model on this machine in two minutes and report on it"),
    ("run", "runs:run_recipe", _RUNS, "Run a recipe; go on where an earlier run stopped"),
    ("explain", "runs:explain_recipe", _RUNS, "Say what a recipe would do, without doing it"),
    ("reproduce", "runs:reproduce", _RUNS, "Run a system's own recipe and check its claim"),
    ("compare", "runs:compare", _RUNS, "Put several runs on one page"),
    ("evidence", "evidence:evidence", _RUNS, "Run every recipe that makes a claim and rewrite the evidence tables"),
    ("new-model", "steps:new_model", _STEPS, "Make a tokenizer and a small untrained model from your own text"),
    ("train", "steps:train", _STEPS, "Train a model with any objective"),
    ("generate", "steps:generate", _STEPS, "Answer prompts and keep all answers, the best, or pairs"),
    ("synthesize", "steps:synthesize", _STEPS, "Make new records with a synthesizer"),
    ("select", "steps:select", _STEPS, "Keep the records that a selector chooses"),
    ("write-requests", "steps:write_requests", _STEPS, "Have a model write requests of every kind of risk"),
    ("write-guidelines", "steps:write_guidelines", _STEPS, "Write a library of guidelines for requests"),
    ("train-retriever", "steps:train_retriever", _STEPS, "Train what finds guidelines for requests, and measure it"),
    ("evaluate", "steps:evaluate", _STEPS, "Compare models on held-out data"),
    ("harness", "steps:harness", _STEPS, "Run tasks of lm-evaluation-harness on models and methods"),
    ("export", "steps:export", _STEPS, "Merge adapters, change the number format, check the copy"),
    ("serve", "serve:serve", _LOOK, "Serve models and decoding methods to any OpenAI client"),
    ("chat", "chat:chat", _LOOK, "Talk to a model"),
    ("data", "groups:data", _LOOK, "Check and show training data; say how much is enough"),
    ("rl", "groups:rl", _LOOK, "Check that sampler and trainer agree; show the named algorithms"),
    ("harbor", "groups:harbor", _LOOK, "Look at Harbor, the small world with known facts"),
    ("theory", "groups:theory", _LOOK, "Work out what a KL, N draws or a set of labels can do"),
    ("verdicts", "verdicts:verdicts", _LOOK, "Make a leaderboard of files of judged pairs"),
    ("methods", "methods:methods", _LOOK, "List the methods, their fields and papers"),
    ("doctor", "doctor:doctor", _LOOK, "Check this installation"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Threads that spin while they wait make everything 10 to 40 times slower as soon as another program wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or os.environ.get("FAIRLEAD_DEBUG", "") not in ("", "0")
    sys.exit(_guarded([a for a in given if a != "--debug"], debug))


def _guarded(arguments: list[str], debug: bool) -> int:
    from cyclopts import CycloptsError

    from fairlead.errors import ExpectationError, FairleadError

    try:
        code = _app(arguments[:1])(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ExpectationError as error:
        return _failed(error, 1, debug)
    except FairleadError as error:
        return _failed(error, 2, debug)
    except CycloptsError as error:
        return _failed(f"{error}\n  fix: see `{_help_for(arguments)}`", 2, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _failed("stopped; the same command goes on from there", 130, False)
    except Exception as error:
        hint = "this is a fault of Fairlead; --debug shows where"
        around = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        return _failed(f"unexpected {type(error).__name__}: {error}\n  fix: {hint}{around}", 3, debug)


def _failed(error: object, code: int, debug: bool) -> int:
    """Print one message, with what stood around the error, and return the exit code."""
    if debug:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    print("\n  ".join([f"fairlead: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
    return code


def _help_for(arguments: list[str]) -> str:
    known = {name for name, *_ in _COMMANDS}
    return f"fairlead {arguments[0]} --help" if arguments and arguments[0] in known else "fairlead --help"


def _app(chosen: Sequence[str]):
    """Build the command line; a command that is called describes itself, the others are one line each."""
    from cyclopts import App, Group

    from fairlead import __version__

    app = App(
        name="fairlead",
        help="Takes a language model from raw to aligned: makes the data, trains, decodes and measures.",
        help_epilogue="Start here: `fairlead quickstart`. Every command has examples: `fairlead COMMAND --help`.",
        version=__version__,
        suppress_keyboard_interrupt=False,
        help_format="markdown",
    )
    order = {name: Group.create_ordered(name) for name in (_RUNS, _STEPS, _LOOK)}
    for name, target, group, line in _COMMANDS:
        app.command(f"fairlead.cli.{target}", name=name, group=order[group], help=None if name in chosen else line)
    return app
