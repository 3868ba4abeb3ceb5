"""Decoding by a walk through the finite tree of plans: valid by construction, whatever the weights say.

At each branch of `Space.walk` every alternative is tokenised in its context, together with the text that must
follow it, and the alternatives become a tree of tokens. Tokens that all of them share are fed without asking;
where they part, the model's scores are read and the best token among those that lead to an alternative is
taken. So a tokenizer may cut numbers as it likes ("128" as one token or three), merge across the pieces, or
lack a character: what is answered is an alternative's value, never what tokens spell.

The walk goes forward only. Scoring each whole alternative would be fairer where one's first token is shared
(1, 128 against 64), but takes a model whose memory can go back, and as many evaluations again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from rudder.agent.space import Space
from rudder.errors import AgentError
from rudder.plan import KEYS, Plan


class Scores(Protocol):
    """A model's score of each token."""

    def __getitem__(self, token: int) -> float:
        """The score of this token; higher is likelier."""
        ...


class Model(Protocol):
    """What the walk needs of a language model that has read the prompt."""

    #: The token that ends an answer.
    end: int

    def tokens(self, text: str) -> list[int]:
        """Tokens of an answer's beginning; text that looks like a special token is none."""
        ...

    def spelled(self, tokens: Sequence[int]) -> str:
        """What tokens spell, spaces at the beginning left out."""
        ...

    def feed(self, tokens: Sequence[int]) -> Scores:
        """Append tokens (at least one) and return the scores of what may come next.

        Raises AgentError: the deadline has passed, or the model failed.
        """
        ...


def decide(model: Model, space: Space, plan: Plan, prompt: Sequence[int]) -> Plan:
    """The plan that the model writes after the prompt's last tokens (at least one), inside of ``space``.

    Raises AgentError: the model failed, or a score that matters is not a finite number.
    """
    walk = _Walk(model, prompt)
    chosen: dict[str, Any] = {}
    step = space.walk(plan, chosen)
    while step is not None:
        before, alternatives = step
        name = next(name for name in KEYS.values() if name not in chosen)
        followers = [space.walk(plan, {**chosen, name: value}) for _, value in alternatives]
        texts = [
            (before + text, "" if after is None else after[0])
            for (text, _), after in zip(alternatives, followers)
        ]
        place = walk.choose(texts)
        chosen[name] = alternatives[place][1]
        step = followers[place]
    return Plan(**chosen)


class _Walk:
    """The tokens of one answer: some fed already, some known but not fed yet."""

    def __init__(self, model: Model, prompt: Sequence[int]) -> None:
        self._model = model
        self._pending = list(prompt)
        self._text = ""  # of the answer, as far as it is settled
        # Its tokens, as far as they are: behind the text, as the last ones are taken when they matter, or a
        # token ahead, since what ends a number is the beginning of what follows.
        self._written: list[int] = []

    def choose(self, texts: Sequence[tuple[str, str]]) -> int:
        """The place of the best (text, text that must follow it)."""
        tails = [self._tail(text, after) for text, after in texts] if len(texts) > 1 else [[]]
        left = list(range(len(texts)))
        at = 0
        # Each that is left has a token here: where one is the beginning of another, or spelt like it (a
        # tokenizer that lacks the characters), nothing can tell them apart, and the first is taken.
        while len(left) > 1 and all(len(tails[place]) > at for place in left):
            tokens = sorted({tails[place][at] for place in left})
            token = tokens[0] if len(tokens) == 1 else self._best(tokens)
            left = [place for place in left if tails[place][at] == token]
            self._pending.append(token)
            self._written.append(token)
            at += 1
        self._text += texts[left[0]][0]
        return left[0]

    def _tail(self, text: str, after: str) -> list[int]:
        """Tokens to append so that the answer goes on with both texts."""
        whole = self._text + text + after
        end = [] if after else [self._model.end]
        tokens, written = self._model.tokens(whole), len(self._written)
        if tokens[:written] == self._written:
            return [*tokens[written:], *end]
        # With more in sight the tokenizer would have cut what is written otherwise: go on from there.
        spelled = self._model.spelled(self._written)
        return [*self._model.tokens(whole[len(spelled) :]), *end]

    def _best(self, tokens: Sequence[int]) -> int:
        """The likeliest of these to come next."""
        scores = self._model.feed(self._pending)
        self._pending = []
        found = [scores[token] for token in tokens]
        if not all(map(math.isfinite, found)):
            raise AgentError("the model's scores are not finite numbers: its file may be damaged")
        return tokens[found.index(max(found))]
