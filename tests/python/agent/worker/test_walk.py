"""The walk writes an allowed plan whatever model and tokenizer do, and the wanted one where they can."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.agent.space import Space
from rudder.agent.worker.walk import Scores, decide
from rudder.errors import AgentError
from rudder.plan import PRIORS, Plan

END = 0


class Tokens:
    """A greedy tokenizer of a few longer pieces, which may merge across anything."""

    def __init__(self, pieces: Sequence[str], lacks: str = "") -> None:
        self.pieces = sorted(pieces, key=len, reverse=True)
        self.lacks = lacks
        self.texts = ["", "\ufffd"]
        self.end = END

    def tokens(self, text: str) -> list[int]:
        found = []
        while text:
            piece = next((piece for piece in self.pieces if text.startswith(piece)), text[0])
            text = text[len(piece) :]
            if piece in self.lacks:
                piece = "\ufffd"
            if piece not in self.texts:
                self.texts.append(piece)
            found.append(self.texts.index(piece))
        return found

    def spelled(self, tokens: Sequence[int]) -> str:
        return "".join(self.texts[token] for token in tokens)


class Wanting(Tokens):
    """Likes the tokens that spell one text."""

    def __init__(self, pieces: Sequence[str], wanted: str) -> None:
        super().__init__(pieces)
        self.wanted, self.written, self.fed = wanted, "", 0

    def feed(self, tokens: Sequence[int]) -> Scores:
        assert tokens
        self.fed += 1
        self.written += self.spelled(tokens)
        return _Liking(self)


class _Liking:
    def __init__(self, model: Wanting) -> None:
        self.model = model

    def __getitem__(self, token: int) -> float:
        # As models do, it prefers the way in which its tokenizer would have cut the text.
        piece = self.model.texts[token]
        return len(piece) * self.model.wanted.startswith(self.model.written + piece) + (token == END) * 0.5


class Random(Tokens):
    """Likes anything."""

    def __init__(self, pieces: Sequence[str], lacks: str, seed: int) -> None:
        super().__init__(pieces, lacks)
        self.random = random.Random(seed)

    def feed(self, tokens: Sequence[int]) -> Scores:
        return [self.random.random() for _ in range(2000)]


spaces = st.builds(
    Space,
    priors=st.lists(st.sampled_from(PRIORS), min_size=1, unique=True).map(tuple),
    scores=st.booleans(),
    shares=st.booleans(),
)
plans = st.builds(
    Plan,
    window=st.sampled_from([0, 0.25, 1, 4, 7.75, 16]),
    depth=st.integers(1, 64),
    buffer_share=st.sampled_from([10, 55, 100]),
    prior=st.sampled_from(PRIORS),
    half_life=st.sampled_from([0, 32, 128]),
    interval=st.sampled_from([4, 8, 16, 32, 100, 256, 4096]),
)
# Of characters that plans are written with: pieces merge numbers, keys and spaces in every way.
pieces = st.lists(st.text("v1 w=dmsphbirf024568.egquncy", min_size=1, max_size=4), max_size=30)


@settings(deadline=None)
@given(spaces, plans, pieces, st.text("w=d1248. p", max_size=4), st.integers(0, 2**32))
def test_any_model_with_any_tokenizer_writes_an_allowed_plan(
    space: Space, plan: Plan, pieces: list[str], lacks: str, seed: int
) -> None:
    answer = decide(Random(pieces, lacks, seed), space, plan, [1])
    assert space.allows(plan, answer)


WORDS = [" w=", " d=", "=4", "4 d", "10", "100", "128", "=v", "ip", "32 ", "25", "6 r=", " p", "=1 f"]


@settings(deadline=None)
@given(spaces, plans, st.integers(0, 2**32), st.lists(st.sampled_from(WORDS), unique=True))
def test_a_model_that_wants_a_plan_gets_it(space: Space, plan: Plan, seed: int, pieces: list[str]) -> None:
    wanted = decide(Random([], "", seed), space, plan, [1])
    model = Wanting(pieces, str(wanted))
    assert decide(model, space, plan, [END]) == wanted


def test_a_token_that_went_ahead_is_not_written_again() -> None:
    # What tells w=0 from w=0.25 is the token " d=", but " d=3" is one token too.
    plan, wanted = Plan(window=0.25), Plan(window=0, depth=3)
    assert decide(Wanting([" d=", " d=3"], str(wanted)), Space(), plan, [END]) == wanted


def test_what_must_come_is_fed_without_asking() -> None:
    space, plan = Space(priors=("vip",)), Plan()
    model = Wanting([" w=", "=", "100", "16", "32", "64"], str(plan))
    decide(model, space, plan, [END])
    # A choice for window, depth, buffer, rebuild and interval; the rest can be but one thing.
    assert model.fed == 5
    assert model.written == str(plan)[: len(model.written)]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_no_numbers_are_an_error(score: float) -> None:
    class Broken(Tokens):
        def feed(self, tokens: Sequence[int]) -> Scores:
            return [score] * 2000

    with pytest.raises(AgentError, match="finite"):
        decide(Broken([]), Space(), Plan(), [1])
