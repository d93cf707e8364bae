"""Attention in plain Python numbers, a row at a time, straight from the equations: slow, and written once more."""

import math

import torch


def attended(query, key, value, weigh, *, keep=lambda q, k: k <= q, scale=None):
    """The context, `batch heads q_len d_value` in float64; `weigh(scores, head)` gives the weights of one row.

    Query i stands at position i + kv_len - q_len; query head h reads kv head h // (heads // kv_heads).
    """
    batch, heads, q_len, head_dim = query.shape
    kv_len, group = key.shape[-2], heads // key.shape[1]
    scale = head_dim**-0.5 if scale is None else scale
    context = torch.zeros(batch, heads, q_len, value.shape[-1], dtype=torch.float64)
    for sample in range(batch):
        for head in range(heads):
            for row in range(q_len):
                read = [k for k in range(kv_len) if keep(row + kv_len - q_len, k)]
                keys = key[sample, head // group].tolist()
                asked = query[sample, head, row].tolist()
                scores = [scale * sum(a * b for a, b in zip(asked, keys[k], strict=True)) for k in read]
                for k, weight in zip(read, weigh(scores, head), strict=True):
                    context[sample, head, row] += weight * value[sample, head // group, k].double()
    return context


def softmax(scores, head=0, beside=()):
    """exp(score) over the sum of all exps, those of scores `beside` them too."""
    if not scores:
        return []
    top = max((*scores, *beside))
    total = sum(math.exp(score - top) for score in (*scores, *beside))
    return [math.exp(score - top) / total for score in scores]


def sigmoid(scores, head=0):
    """Each score on its own."""
    return [1 / (1 + math.exp(-score)) for score in scores]


def stick_breaking(scores, head=0):
    """The stick itself, broken from the last key on."""
    rest, weights = 1.0, []
    for share in reversed(sigmoid(scores)):
        weights.append(rest * share)
        rest -= rest * share
    return weights[::-1]


def entmax(alpha):
    """alpha-entmax by its definition: 100 halvings find the threshold for which the row sums to one."""

    def weigh(scores, head=0):
        if not scores:
            return []
        numbers = [(alpha - 1) * score for score in scores]
        low, high = max(numbers) - 1, max(numbers)
        for _ in range(100):
            middle = (low + high) / 2
            total = sum(max(number - middle, 0) ** (1 / (alpha - 1)) for number in numbers)
            low, high = (middle, high) if total >= 1 else (low, middle)
        return [max(number - low, 0) ** (1 / (alpha - 1)) for number in numbers]

    return weigh


def top(k):
    """Softmax of the k largest."""

    def weigh(scores, head=0):
        best = sorted(range(len(scores)), key=lambda place: -scores[place])[:k]
        found = dict(zip(best, softmax([scores[place] for place in best]), strict=True))
        return [found.get(place, 0.0) for place in range(len(scores))]

    return weigh
