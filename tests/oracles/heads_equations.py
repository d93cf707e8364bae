"""Latent and differential attention token by token, straight from the papers' equations, in float64."""

import cmath
import math

import torch

from tests.oracles import heads_loops as loops


def turned(numbers, position, base=10000.0):
    """Neighbours (2i, 2i + 1) as complex numbers, turned by position * base ** (-2i / size)."""
    size, found = len(numbers), []
    for place in range(0, size, 2):
        angle = position * base ** (-place / size)
        number = complex(numbers[place], numbers[place + 1]) * cmath.exp(1j * angle)
        found += [number.real, number.imag]
    return found


def latent(query, key, value, key_up, value_up):
    """DeepSeek-V2, equations 9 to 19 with the norm of its section 2.1.2: each head's keys and values written out."""
    batch, heads, q_len, _ = query.shape
    kv_len, rope_dim, head_dim = key.shape[-2], key.shape[-1], key_up.shape[-1]
    context = torch.zeros(batch, heads, q_len, head_dim, dtype=torch.float64)
    for sample in range(batch):
        normed = [token / ((token @ token) / len(token) + 1e-6).sqrt() for token in value[sample, 0]]
        keys_turned = [turned(key[sample, 0, k].tolist(), k) for k in range(kv_len)]
        for head in range(heads):
            for row in range(q_len):
                position = row + kv_len - q_len
                asked = query[sample, head, row]
                asked_turned = turned(asked[head_dim:].tolist(), position)
                scores = []
                for k in range(position + 1):
                    content = (asked[:head_dim] @ (key_up[head].T @ normed[k])).item()
                    place = sum(a * b for a, b in zip(asked_turned, keys_turned[k], strict=True))
                    scores.append((content + place) / math.sqrt(head_dim + rope_dim))
                for k, weight in enumerate(loops.softmax(scores)):
                    context[sample, head, row] += weight * (value_up[head].T @ normed[k])
    return context


def differential(query, key, value, lambdas, lambda_init):
    """Differential Transformer, equations 1 to 3, without rotary positions."""
    half = query.shape[-1] // 2
    maps = [
        loops.attended(query[..., part], key[..., part], value, loops.softmax)
        for part in (slice(0, half), slice(half, None))
    ]
    dots = [sum((lambdas[row] * lambdas[row + 1]).tolist()) for row in (0, 2)]
    mixed = maps[0] - (math.exp(dots[0]) - math.exp(dots[1]) + lambda_init) * maps[1]
    length = mixed.square().mean(-1, keepdim=True)
    return (1 - lambda_init) * mixed / (length + 1e-5).sqrt()
