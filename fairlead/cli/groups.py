"""The commands with commands of their own: `data` and `harbor`."""

from __future__ import annotations

from cyclopts import App

from fairlead.cli.harbor import score, ship, show, world

__all__ = ["data", "harbor"]

data = App(name="data", help="Check and show training data.")
data.command("fairlead.cli.data:check", name="check")
data.command("fairlead.cli.data:show", name="show")

harbor = App(name="harbor", help="Look at Harbor, the small world with known facts.")
for _command in (world, ship, show, score):
    harbor.command(_command)
