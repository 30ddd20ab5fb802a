"""`ivdjax phantom`: makes synthetic cases."""

from __future__ import annotations

from ivdjax.commands.command import Command
from ivdjax.data.phantom.__main__ import DESCRIPTION, add_options, make

COMMAND = Command(DESCRIPTION, add_options, make)
