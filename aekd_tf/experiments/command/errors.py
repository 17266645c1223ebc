"""The user's mistakes."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user asked for; its message is one line and says the mend."""
