"""Modules with parameters. `classic` holds the tutorial's."""

from attnkit.layers import classic

__all__ = ["classic"]
