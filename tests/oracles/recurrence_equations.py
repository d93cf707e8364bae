"""The recurrent mechanisms straight from their papers, on one head, by loops over pairs of tokens: no state anywhere.

Each takes query, key (len, head_dim), value (len, d_value) and the raw tensors of its parts, and gives (len, d_value).
"""

import math

import torch


def summed(weight, value):
    """The context of each token, where `weight(t, j)` is what token t reads of token j."""
    rows = [sum(weight(t, j) * value[j] for j in range(t + 1)) for t in range(len(value))]
    return torch.stack(rows)


def linear(query, key, value):
    # Katharopoulos et al. 2020, equation 7: both sums written out
    def feature(x):
        return torch.where(x > 0, x, x.exp() - 1) + 1

    def share(t, j):
        every = [feature(query[t]) @ feature(key[i]) for i in range(t + 1)]
        return every[j] / sum(every)

    return summed(share, value)


def retention(query, key, value, *, head, first_exponent=5.0):
    # Sun et al. 2023, equation 5 with D of equation 5 and gamma of equation 8
    gamma = 1 - 2 ** (-first_exponent - head)
    return summed(lambda t, j: query[t] @ key[j] * gamma ** (t - j) / math.sqrt(len(key[j])), value)


def gated_linear(query, key, value, *, gate, temperature=16.0):
    # Yang et al. 2023, equation 3 unrolled: b_t is the product of the decays up to t, here written out for each pair
    alpha = torch.sigmoid(gate) ** (1 / temperature)

    def weight(t, j):
        kept = alpha[j + 1 : t + 1].prod(0)
        return (query[t] * kept * key[j]).sum() / math.sqrt(len(key[j]))

    return summed(weight, value)


def delta(query, key, value, *, beta, decay=None):
    # Yang et al. 2024, section 2.2: S_t is a sum of beta_j k_j v_j^T, each times all later (I - beta k k^T)
    query, key = (x / x.norm(dim=-1, keepdim=True) for x in (query, key))
    beta, one = beta[:, 0], torch.eye(key.shape[-1]).to(key)
    decay = torch.ones_like(beta) if decay is None else decay

    def weight(t, j):
        written = beta[j] * key[j]
        for i in range(j + 1, t + 1):
            written = decay[i] * (one - beta[i] * torch.outer(key[i], key[i])) @ written
        return query[t] @ written / math.sqrt(len(key[j]))

    return summed(weight, value)


def faded(step, step_bias, log_rate):
    # Dao and Gu 2024: Delta = softplus(dt + dt_bias), the decay is exp(Delta A), A = -exp(A_log)
    size = torch.log(1 + torch.exp(step[:, 0] + step_bias))
    return size, torch.exp(-torch.exp(log_rate) * size)


def state_space(query, key, value, *, step, step_bias, log_rate):
    # Dao and Gu 2024, the dual form: M = L * (C B^T), on values times Delta
    size, decay = faded(step, step_bias, log_rate)
    return summed(lambda t, j: query[t] @ key[j] * decay[j + 1 : t + 1].prod(), value * size.unsqueeze(-1))


def gated_delta(query, key, value, *, beta, step, step_bias, log_rate):
    # Yang et al. 2024 (Gated DeltaNet), equation 10; the decay is Mamba-2's
    return delta(query, key, value, beta=beta, decay=faded(step, step_bias, log_rate)[1])


EQUATIONS = {
    "linear": linear,
    "retention": retention,
    "gated_linear": gated_linear,
    "delta": delta,
    "state_space": state_space,
    "gated_delta": gated_delta,
}
