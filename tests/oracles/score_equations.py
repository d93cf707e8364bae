"""The mechanisms of the family "score" straight from their papers, by loops over pairs of a query and a key.

`SCORES[name](pair, tensors, options)` is the score of one pair, in float64.
"""

import math
from dataclasses import dataclass

import torch


@dataclass
class Pair:
    """One query and one key of one sample, and where they stand."""

    query: torch.Tensor
    key: torch.Tensor
    head: int
    heads: int
    sample: int
    q: int
    k: int


def attend(score, tensors, options, *, keep=lambda q, k: k <= q, value_of=lambda value, q, k: value):
    """The context of queries that end where the keys end, `batch heads q_len d_value`."""
    query, key, value = tensors["query"], tensors["key"], tensors["value"]
    batch, heads, q_len, _ = query.shape
    kv_heads, kv_len = key.shape[1:3]
    context = torch.zeros(batch, heads, q_len, value.shape[-1], dtype=torch.float64)
    for sample in range(batch):
        for head in range(heads):
            shared = head // (heads // kv_heads)
            for row in range(q_len):
                q = row + kv_len - q_len
                read = [k for k in range(kv_len) if keep(q, k)]
                pairs = [
                    Pair(query[sample, head, row], key[sample, shared, k], head, heads, sample, q, k)
                    for k in read
                ]
                powers = [math.exp(score(pair, tensors, options)) for pair in pairs]
                for k, power in zip(read, powers, strict=True):
                    mixed = value_of(value[sample, shared, k], q, k)
                    context[sample, head, row] += power / sum(powers) * mixed
    return context


def dot(a, b):
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def length(a):
    return math.sqrt(dot(a, a))


def unscaled(pair, tensors, options):
    return dot(pair.query, pair.key)


def multiplicative(pair, tensors, options):
    matrix = tensors["matrix"][pair.head].tolist()
    return sum(
        a * matrix[i][j] * b
        for i, a in enumerate(pair.query.tolist())
        for j, b in enumerate(pair.key.tolist())
    )


def additive(pair, tensors, options):
    hidden = [math.tanh(a + b) for a, b in zip(pair.query.tolist(), pair.key.tolist(), strict=True)]
    return sum(v * h for v, h in zip(tensors["vector"][pair.head].tolist(), hidden, strict=True))


def cosine(pair, tensors, options):
    scale = min(math.exp(tensors["log_scale"][pair.head].item()), options["max_scale"])
    return scale * dot(pair.query, pair.key) / length(pair.query) / length(pair.key)


def gaussian(pair, tensors, options):
    return -(length(pair.query - pair.key) ** 2) / (2 * options["bandwidth"] ** 2)


def qk_norm(pair, tensors, options):
    total = 0.0
    for number, (a, b) in enumerate(zip(pair.query.tolist(), pair.key.tolist(), strict=True)):
        gains = tensors["query_gain"][number].item() * tensors["key_gain"][number].item()
        total += gains * a * b
    sizes = [length(x) ** 2 / len(x) + options.get("eps", 1e-6) for x in (pair.query, pair.key)]
    return total / math.sqrt(sizes[0] * sizes[1]) / math.sqrt(len(pair.key))


def softcap(pair, tensors, options):
    return options["cap"] * math.tanh(dot(pair.query, pair.key) / math.sqrt(len(pair.key)) / options["cap"])


def alibi(pair, tensors, options):
    # the paper's list for 6 heads: those of 4, then the first, third, ... of 8
    slopes = {6: [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]}[pair.heads]
    return dot(pair.query, pair.key) / math.sqrt(len(pair.key)) - slopes[pair.head] * abs(pair.q - pair.k)


def t5_relative(pair, tensors, options):
    count, distance = options["num_buckets"], pair.k - pair.q
    bucket = 0
    if options.get("bidirectional"):
        count //= 2
        bucket += count if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = count // 2
    if distance < exact:
        bucket += distance
    else:
        further = math.log(distance / exact) / math.log(options["max_distance"] / exact) * (count - exact)
        bucket += min(exact + int(further + 1e-9), count - 1)
    return dot(pair.query, pair.key) + tensors["table"][bucket, pair.head].item()


def shaw_relative(pair, tensors, options):
    # equation 4
    farthest = options["max_distance"]
    clipped = max(-farthest, min(farthest, pair.k - pair.q))
    return dot(pair.query, pair.key + tensors["key_table"][clipped + farthest]) / math.sqrt(len(pair.key))


def shaw_value(tensors, options):
    # equation 3
    farthest = options["max_distance"]

    def moved(value, q, k):
        return value + tensors["value_table"][max(-farthest, min(farthest, k - q)) + farthest]

    return moved


def transformer_xl_relative(pair, tensors, options):
    # the four terms (a) to (d) of section 3.3, one by one
    u, v = tensors["content_bias"][pair.head], tensors["distance_bias"][pair.head]
    projection = tensors["projection"][pair.head]
    width = projection.shape[-1]
    waves = [10000.0 ** (-2 * i / width) for i in range(width // 2)]
    sinusoid = [math.sin((pair.q - pair.k) * w) for w in waves] + [
        math.cos((pair.q - pair.k) * w) for w in waves
    ]
    rows = [sum(a * b for a, b in zip(row, sinusoid, strict=True)) for row in projection.tolist()]
    place = torch.tensor(rows, dtype=torch.float64)
    terms = dot(pair.query, pair.key), dot(pair.query, place), dot(u, pair.key), dot(v, place)
    return sum(terms) / math.sqrt(len(pair.key))


def rotary(pair, tensors, options):
    # complex numbers: the real part of query times the conjugate of key, turned by the distance
    size = options.get("rotary_dim") or len(pair.key)
    half = size // 2
    query, key = pair.query.tolist(), pair.key.tolist()
    total = sum(a * b for a, b in zip(query[size:], key[size:], strict=True))
    factor = options["scaling"].factor if options.get("scaling") else 1.0
    for i in range(half):
        first, second = (2 * i, 2 * i + 1) if options.get("layout") == "pairs" else (i, i + half)
        angle = (pair.q - pair.k) * options["theta"] ** (-2 * i / size) / factor
        turned = complex(query[first], query[second]) * complex(math.cos(angle), math.sin(angle))
        total += (turned * complex(key[first], -key[second])).real
    return total / math.sqrt(len(pair.key))


def forgetting(pair, tensors, options):
    gates = tensors["log_gate"][pair.sample, pair.head, :, 0].tolist()
    kept = sum(gates[between] for between in range(pair.k + 1, pair.q + 1))
    return dot(pair.query, pair.key) / math.sqrt(len(pair.key)) + kept


SCORES = {
    f.__name__: f
    for f in (
        unscaled,
        multiplicative,
        additive,
        cosine,
        gaussian,
        qk_norm,
        softcap,
        alibi,
        t5_relative,
        shaw_relative,
        transformer_xl_relative,
        rotary,
        forgetting,
    )
}
