"""How a target is called: known libraries by type, other modules by the names of arguments, and functions."""

from attnkit.conformance.adapters.making import subject_of, told_of

__all__ = ["subject_of", "told_of"]
