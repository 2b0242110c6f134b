"""`python -m fairlead.cli` is the `fairlead` command."""

from __future__ import annotations

from fairlead.cli import main

main()
