"""Writing: each next token is chosen by its logits, and read again with all before it held in caches.

greedy       the most likely                    temperature=0
sampling     by softmax(logits / temperature), of the top_k most likely, or of the fewest that sum to top_p
beams        the `beams` likeliest texts, kept side by side
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.models.parts import check_count
from attnkit.models.session import Session, Writer, check_prompt, check_stop


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a token is chosen by its logits.

    Attributes:
        temperature: above 0, divides the logits; 0 takes the most likely.
        top_k: only so many most likely tokens can be chosen.
        top_p: only the fewest most likely whose probabilities sum to this can be chosen.
        generator: what is drawn from, for texts that can be repeated.

    Raises:
        OptionError: a value means nothing.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.temperature, int | float) or not 0 <= self.temperature < float("inf"):
            _refuse("temperature is a number from 0 on", self.temperature, "temperature=0.8; 0 is greedy")
        if self.top_k is not None:
            check_count("Choice", "top_k", self.top_k, fix="top_k=50")
        if self.top_p is not None and not (isinstance(self.top_p, int | float) and 0 < self.top_p <= 1):
            _refuse("top_p is above 0, at most 1", self.top_p, "top_p=0.9")
        if self.temperature == 0 and (self.top_k, self.top_p) != (None, None):
            told = {"top_k": self.top_k, "top_p": self.top_p}
            _refuse(
                "temperature=0 takes the most likely token, whatever else is set", told, "temperature=1.0"
            )

    def __call__(self, logits: Tensor) -> Tensor:
        """The tokens (batch,) chosen by `logits` (batch, vocabulary_size)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        return torch.multinomial(self.likely(logits), 1, generator=self.generator).squeeze(-1)

    def likely(self, logits: Tensor) -> Tensor:
        """The probability (batch, vocabulary_size) with which each token is chosen, where temperature is above 0."""
        # their differences are divided, so that a low temperature leads to no inf - inf
        logits = precise(logits - logits.amax(-1, keepdim=True)) / self.temperature
        if self.top_k is self.top_p is None:
            return logits.softmax(-1)
        ordered, places = logits.topk(min(self.top_k or logits.shape[-1], logits.shape[-1]), -1)
        if self.top_p is not None and self.top_p < 1:  # rounded sums reach 1 too early
            share = ordered.softmax(-1)
            beyond = share.cumsum(-1) - share >= self.top_p  # the first that reaches top_p still counts
            ordered = ordered.masked_fill(beyond, -torch.inf)
        return torch.zeros_like(logits).scatter(-1, places, ordered.softmax(-1))


GREEDY = Choice()


def stream(
    writer: Writer,
    tokens: Tensor,
    *,
    max_new_tokens: int,
    choice: Choice = GREEDY,
    mask: Tensor | None = None,
    stop: int | None = None,
) -> Iterator[Tensor]:
    """The new tokens, one at a time, (batch,) each; arguments and errors as in `generate`."""
    if not isinstance(choice, Choice):
        raise OptionError(
            where="generate",
            what=f"choice is a Choice; got {choice!r}",
            fix="choice=Choice(temperature=0.8, top_k=50)",
        )
    session = Session(writer)
    check_prompt(session, tokens, mask, max_new_tokens)
    check_stop(session, stop)
    return _written(session, tokens, max_new_tokens, choice, mask, stop)


@torch.no_grad()
def _written(
    session: Session, tokens: Tensor, most: int, choice: Choice, mask: Tensor | None, stop: int | None
) -> Iterator[Tensor]:
    logits = session.read(tokens, mask)
    ended = torch.zeros_like(tokens[:, 0], dtype=torch.bool)
    for step in range(most):
        new = choice(logits)
        if stop is not None:
            new = new.masked_fill(ended, stop)
            ended = ended | (new == stop)
        yield new
        if step + 1 == most or (stop is not None and ended.all()):
            return
        logits = session.read(new[:, None])


def generate(
    writer: Writer,
    tokens: Tensor,
    *,
    max_new_tokens: int,
    choice: Choice = GREEDY,
    mask: Tensor | None = None,
    stop: int | None = None,
) -> Tensor:
    """What a model writes after `tokens`.

    Args:
        writer: a decoder, or what an encoder-decoder is reading, `model.reading(source)`; in evaluation mode.
        tokens: (batch, len), what is there already, at least one each.
        max_new_tokens: how many to write, in tokens.
        choice: how each is chosen.
        mask: (batch, len), True where there is a token; shorter texts are padded on the left.
        stop: the token that ends a text; what follows it is filled with it.

    Returns:
        (batch, len + new), `tokens` first; fewer new ones where all texts have ended.

    Raises:
        ShapeError: the prompt is empty, or there would be more tokens than the model can read.
        OptionError: a value means nothing, padding is on the right or would be read, or dropout acts.

    Example:
        >>> from attnkit.models import Config, Decoder
        >>> config = Config(d_model=32, num_layers=2, num_heads=4)
        >>> model = Decoder(config, vocabulary_size=50, context_length=16)
        >>> generate(model, torch.tensor([[3, 1, 4]]), max_new_tokens=5).shape
        torch.Size([1, 8])
    """
    new = stream(writer, tokens, max_new_tokens=max_new_tokens, choice=choice, mask=mask, stop=stop)
    return torch.cat([tokens, *(token[:, None] for token in new)], -1)


@torch.no_grad()
def beam_search(
    writer: Writer,
    tokens: Tensor,
    *,
    max_new_tokens: int,
    beams: int,
    mask: Tensor | None = None,
    stop: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The likeliest texts that follow, `beams` of each kept at every step; arguments as in `generate`.

    Returns:
        The texts (batch, beams, len + new), likeliest first, filled with `stop` after their end, with fewer new tokens
        where all texts have ended; and the sums of the logarithms of their tokens' probabilities, (batch, beams).
        Where there are fewer texts than beams, the rest have a sum of -inf, or are left out.
    """
    check_count("beam_search", "beams", beams, fix="beams=4")
    session = Session(writer)
    check_prompt(session, tokens, mask, max_new_tokens)
    check_stop(session, stop)
    logits = session.read(tokens, mask)
    kept = Beams.of(tokens)
    for step in range(max_new_tokens):
        kept, samples = kept.further(logits, beams, stop)
        if step + 1 == max_new_tokens or kept.ended.all():
            break
        session.reorder(samples)
        logits = session.read(kept.texts[..., -1].flatten()[:, None])
    return kept.texts, kept.sums


@dataclass(frozen=True)
class Beams:
    """The likeliest texts so far.

    Attributes:
        texts: (batch, beams, len).
        sums: (batch, beams), the logarithms of their probabilities.
        ended: (batch, beams), whether a text has ended.
    """

    texts: Tensor
    sums: Tensor
    ended: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> "Beams":
        """One beam a sample: the texts (batch, len) that are there."""
        zeros = torch.zeros(tokens.shape[0], 1, device=tokens.device)
        return cls(tokens[:, None], zeros, zeros.bool())

    def further(self, logits: Tensor, beams: int, stop: int | None) -> tuple["Beams", Tensor]:
        """One token more, by `logits` (batch * beams, vocabulary_size); and which old sample each goes on from."""
        batch, width = self.sums.shape
        steps = precise(logits).log_softmax(-1).unflatten(0, (batch, width))
        if stop is not None:  # an ended text goes on with `stop` alone, at no cost
            only = torch.full_like(steps, -torch.inf)
            only[..., stop] = 0.0
            steps = torch.where(self.ended[..., None], only, steps)
        total = (self.sums[..., None] + steps).flatten(1)
        sums, places = total.topk(min(beams, total.shape[-1]), -1)
        parents, new = places // steps.shape[-1], places % steps.shape[-1]
        ended = self.ended.take_along_dim(parents, 1)
        if stop is not None:
            new = new.masked_fill(ended, stop)  # where texts are fewer than beams, others were taken too
            ended = ended | (new == stop)
        texts = torch.cat([self.texts.take_along_dim(parents[..., None], 1), new[..., None]], -1)
        first = torch.arange(batch, device=places.device)[:, None] * width
        return Beams(texts, sums, ended), (first + parents).flatten()


def precise(logits: Tensor) -> Tensor:
    """In float32 at least, since probabilities are compared and summed."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _refuse(holds: str, given: object, fix: str) -> None:
    raise OptionError(where="Choice", what=f"{holds}; got {given!r}", fix=fix)
