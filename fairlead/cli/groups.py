"""The commands with commands of their own: `data`, `rl`, `harbor` and others."""

from __future__ import annotations

from cyclopts import App

from fairlead.cli.data import card, check, show
from fairlead.cli.enough import enough
from fairlead.cli.harbor import score, ship, world
from fairlead.cli.harbor import show as show_rows
from fairlead.cli.one_reward import one_reward
from fairlead.cli.rl import presets, self_test
from fairlead.cli.theory import best_of_n, rate, samples, tilt
from fairlead.cli.trilemma import audit, trilemma
from fairlead.cli.win_rate import win_rate

__all__ = ["data", "harbor", "rl", "theory"]

data = App(name="data", help="Check and show training data; say how much is enough.")
for _command in (check, show, card, enough):
    data.command(_command)

rl = App(name="rl", help="Check that sampler and trainer agree; show the named algorithms.")
for _command in (self_test, presets):
    rl.command(_command)

harbor = App(name="harbor", help="Look at Harbor, the small world with known facts.")
harbor.command(show_rows, name="show")
for _command in (world, ship, score):
    harbor.command(_command)

theory = App(name="theory", help="Work out what a KL, N draws or a set of labels can do.")
for _command in (tilt, best_of_n, rate, samples, win_rate, trilemma, audit, one_reward):
    theory.command(_command)
