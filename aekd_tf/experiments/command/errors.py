"""The error for a mistake of the user."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user; its message is one line and names the remedy."""
