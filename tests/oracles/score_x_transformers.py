"""Layers of the family "score" beside those of x-transformers, with one set of weights.

    pip install x-transformers && python -m tests.oracles.score_x_transformers

prints how far each is away, of the largest output: the forget gate, talking heads, and distances between query and key.
Theirs takes its softmax in float32, of peaked scores.
"""

import torch

import attnkit as ak

D_MODEL, HEADS, LENGTH = 24, 4, 40


def beside(mechanism, rename, options, **settings):
    """How far a layer of ours is away from one of theirs, of its largest output.

    `rename` gives our parameters from theirs."""
    from x_transformers.x_transformers import Attention

    theirs = (
        Attention(D_MODEL, heads=HEADS, dim_head=D_MODEL // HEADS, causal=True, **settings).double().eval()
    )
    ours = ak.Attention(D_MODEL, HEADS, mechanism=mechanism, **options).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
        names = {"query": theirs.to_q, "key": theirs.to_k, "value": theirs.to_v, "output": theirs.to_out}
        for name, linear in names.items():
            getattr(ours, name).weight.copy_(linear.weight)
        for name, tensor in rename(theirs).items():
            ours.get_parameter(name).copy_(tensor)
        x = 3 * torch.randn(2, LENGTH, D_MODEL, dtype=torch.float64)
        found = theirs(x)
        found = found[0] if isinstance(found, tuple) else found
        return ((ours(x) - found).abs().max() / found.abs().max()).item()


def gates(theirs):
    linear = theirs.data_dependent_alibi.to_forget_gates[0]
    return {"log_gate.weight": linear.weight, "log_gate.bias": linear.bias}


def talking(theirs):
    # a convolution has (to, from); the paper, and attnkit, (from, to). The mixed scores are added to the scores there
    before, after = theirs.attend.pre_softmax_talking_heads, theirs.attend.post_softmax_talking_heads
    identity = torch.eye(HEADS, dtype=torch.float64)
    return {"before": identity + before.weight[:, :, 0, 0].mT, "after": after.weight[:, :, 0, 0].mT}


def main():
    torch.manual_seed(0)
    # their squared distance is scaled by head_dim ** -0.5, which is 1 / (2 bandwidth ** 2)
    bandwidth = ((D_MODEL // HEADS) ** 0.5 / 2) ** 0.5
    found = {
        "forgetting": beside("forgetting", gates, {}, data_dependent_alibi=True),
        "talking heads": beside(
            "talking_heads", talking, {}, pre_talking_heads=True, post_talking_heads=True
        ),
        "gaussian": beside("gaussian", lambda theirs: {}, {"bandwidth": bandwidth}, l2_distance=True),
    }
    for name, distance in found.items():
        print(f"{name:14} {distance:.1e}")


if __name__ == "__main__":
    main()
