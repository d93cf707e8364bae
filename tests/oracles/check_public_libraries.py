"""`check` over public libraries, and each of its findings again by hand, in the smallest example.

    pip install transformers x-transformers local-attention nystrom-attention linear-attention-transformer
    python tests/oracles/check_public_libraries.py

Each line: the library and its module, what `check` says, and what the example by hand shows. The versions that were
checked are in docs/decisions/check-findings.md. All of them are of the MIT licence, transformers of Apache-2.0.
"""

import math

import torch

from attnkit.conformance import check


def told(target, **said):
    """The report's root, and the checks that found something."""
    report = check(target, level="full", **said)
    return f"check: {report.fault or 'silent'} ({', '.join(sorted({one.check for one in report.findings})) or 'none'})"


def line(module, by_check, by_hand):
    """One finding."""
    print(f"{module}\n  {by_check}\n  by hand: {by_hand}")


def padding_of_blocks():
    """Three equal tokens in a window of 4: values are 1, so that outputs must be 1."""
    from local_attention import LocalAttention
    from local_attention.transformer import LocalMHA

    zeros, ones = torch.zeros(1, 1, 3, 4), torch.ones(1, 1, 3, 4)
    attend = LocalAttention(dim=4, window_size=4, autopad=True)
    open_, masked = (
        attend(zeros, zeros, ones),
        attend(zeros, zeros, ones, mask=torch.ones(1, 3, dtype=torch.bool)),
    )
    shown = f"the mean of ones is {open_[0, 0, 0, 0]:g} without a mask, {masked[0, 0, 0, 0]:g} with one that keeps all"
    line("local-attention, not causal", told(LocalMHA(dim=24, heads=4, dim_head=6, window_size=4)), shown)


def cached_keys(**options):
    """Full pass against one token at a time, for each token how far they are apart."""
    from local_attention.transformer import LocalMHA

    torch.manual_seed(0)
    module = LocalMHA(dim=24, heads=4, dim_head=6, window_size=4, causal=True, **options).double().eval()
    x = 3 * torch.randn(1, 6, 24, dtype=torch.float64)
    with torch.no_grad():
        full, cache, outputs = module(x), None, []
        for t in range(6):
            output, cache = module(x[:, t : t + 1], cache=cache, return_cache=True)
            outputs.append(output)
    apart = (torch.cat(outputs, 1) - full).abs().amax(-1)[0] / full.abs().max()
    shown = "a token at a time, off by " + ", ".join(f"{one:.1g}" for one in apart)
    line(f"local-attention, LocalMHA with a cache, {options}", told(module), shown)


def other_samples():
    """Samples alone and together: the start of the pseudo-inverse is divided by a maximum over all of them."""
    from nystrom_attention import NystromAttention

    torch.manual_seed(0)
    module = NystromAttention(24, dim_head=6, heads=4, num_landmarks=4, residual=False).double().eval()
    x = 3 * torch.randn(2, 7, 24, dtype=torch.float64)
    with torch.no_grad():
        alone, beside = torch.cat([module(x[:1]), module(x[1:])]), module(x)
    apart = (alone - beside).abs().amax((1, 2)) / alone.abs().max()
    shown = f"two samples together are {apart[0]:.2g} and {apart[1]:.2g} of their size off each alone"
    line("nystrom-attention", told(module, d_in=24), shown)
    far = []
    for length in (7, 8):
        x = 3 * torch.randn(1, length, 24, dtype=torch.float64)
        with torch.no_grad():
            plain, masked = module(x), module(x, mask=torch.ones(1, length, dtype=torch.bool))
        far.append(((plain - masked).abs().max() / plain.abs().max()).item())
    shown = f"a mask that keeps all moves 7 tokens by {far[0]:.2g} of their size, 8 tokens by {far[1]:.2g}"
    line("nystrom-attention, 4 landmarks", "check: as above (neutral_mask)", shown)


def falcon_dropout():
    """The share of outputs that differ between two calls in training: none, where dropout never acts."""
    from transformers import FalconConfig, FalconModel

    for alibi in (False, True):
        torch.manual_seed(0)
        sizes = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 32}
        config = FalconConfig(**sizes, alibi=alibi, attention_dropout=0.5, multi_query=False)
        module = FalconModel(config).h[0].self_attention
        outputs = []
        module.train().register_forward_hook(
            lambda _, given, output, seen=outputs: seen.append(output[0].detach())
        )
        x = torch.randn(1, 6, 24)
        for _ in range(2):
            _call_falcon(module, x)
        same = torch.equal(*outputs)
        module._forward_hooks.clear()
        shown = f"two calls in training with attention_dropout=0.5 are {'the same' if same else 'different'}"
        line(f"transformers, FalconAttention, alibi={alibi}", told(module, dropout=0.5), shown)


def _call_falcon(module, x):
    from transformers.models.falcon import modeling_falcon as theirs

    mask = torch.zeros(1, 1, x.shape[1], x.shape[1])
    places = torch.arange(x.shape[1])[None]
    if module.config.alibi:
        bias = theirs.build_alibi_tensor(torch.ones(1, x.shape[1], dtype=torch.long), 4, x.dtype)
        return module(x, alibi=bias, attention_mask=mask)
    tables = theirs.FalconRotaryEmbedding(module.config)(x, places)
    return module(x, alibi=None, attention_mask=mask, position_embeddings=tables)


def falcon_paths():
    """One model on two attention paths; and ALiBi's share, told by a path where nothing is added twice."""
    from transformers import FalconConfig, FalconModel

    sizes = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 32}
    outputs, ids = {}, torch.tensor([[3, 9, 4, 11, 7]])
    for path in ("eager", "sdpa"):
        torch.manual_seed(0)
        config = FalconConfig(**sizes, alibi=True, multi_query=False)
        model = FalconModel._from_config(config, attn_implementation=path).double().eval()
        with torch.no_grad():
            outputs[path] = model(ids).last_hidden_state
    torch.manual_seed(0)
    model = FalconModel._from_config(config, attn_implementation="eager").double().eval()
    module = model.h[0].self_attention
    forward = module.forward
    module.forward = lambda x, alibi, **more: forward(x, alibi=torch.zeros_like(alibi), **more)
    with torch.no_grad():
        once = model(ids).last_hidden_state
    far = ((outputs["eager"] - outputs["sdpa"]).abs().max() / outputs["sdpa"].abs().max()).item()
    rest = ((once - outputs["sdpa"]).abs().max() / outputs["sdpa"].abs().max()).item()
    shown = f"eager and sdpa are {far:.2g} of their size apart; {rest:.1g} where eager adds ALiBi by the mask alone"
    line("transformers, FalconModel, alibi=True", "check: a module alone does not show it", shown)


def exponentials():
    """exp of large keys, from which no maximum was subtracted."""
    from linear_attention_transformer.linear_attention_transformer import SelfAttention

    torch.manual_seed(0)
    module = SelfAttention(24, 4, causal=True)
    largest = math.log(torch.finfo(torch.float32).max)
    with torch.no_grad():
        finite = {size: bool(module(torch.full((1, 2, 24), size)).isfinite().all()) for size in (1.0, 3000.0)}
    shown = f"tokens of 1 give numbers: {finite[1.0]}; tokens of 3000: {finite[3000.0]} (exp ends at {largest:.3g})"
    line("linear-attention-transformer, causal", told(module, causal=True, d_in=24), shown)


if __name__ == "__main__":
    padding_of_blocks()
    cached_keys()
    cached_keys(use_rotary_pos_emb=False)
    cached_keys(use_rotary_pos_emb=False, qk_rmsnorm=True)
    other_samples()
    falcon_dropout()
    falcon_paths()
    exponentials()
