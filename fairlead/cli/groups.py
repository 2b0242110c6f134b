"""The commands with commands of their own: `data` and `harbor`."""

from __future__ import annotations

from cyclopts import App

from fairlead.cli.data import card, check, show
from fairlead.cli.enough import enough
from fairlead.cli.harbor import score, ship, world
from fairlead.cli.harbor import show as show_rows

__all__ = ["data", "harbor"]

data = App(name="data", help="Check and show training data; say how much is enough.")
for _command in (check, show, card, enough):
    data.command(_command)

harbor = App(name="harbor", help="Look at Harbor, the small world with known facts.")
harbor.command(show_rows, name="show")
for _command in (world, ship, score):
    harbor.command(_command)
