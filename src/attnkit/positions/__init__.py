"""Positions: how query and key learn where they stand, before they meet.

    score = rotate(query, q_pos) @ rotate(key, kv_pos).T

The value is never turned. What is added to a score afterwards, by distance, is a score step.
"""

from attnkit.positions.position import Positions
from attnkit.positions.rotary import Rotary
from attnkit.positions.scaling import NTK, Linear, Llama3, Scaling, Yarn

__all__ = ["NTK", "Linear", "Llama3", "Positions", "Rotary", "Scaling", "Yarn"]
