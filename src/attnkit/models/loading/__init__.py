"""Real weights in our models: `load` reads what others saved, and refuses what it does not know.

model = load("path/to/folder")          config.json says which kind it is
model = load("path/to/model.gguf")      so does the file itself
"""

from attnkit.models.loading.checkpoint import FAMILIES, load
from attnkit.models.loading.tokens import load_tokenizer

__all__ = ["FAMILIES", "load", "load_tokenizer"]
