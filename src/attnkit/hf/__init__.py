"""Rules inside of the models of transformers.

near = hf.register("near", Rule(mask=masks.window(256) | masks.first(4)))
model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=near)
"""

from attnkit.hf.registering import register

__all__ = ["register"]
