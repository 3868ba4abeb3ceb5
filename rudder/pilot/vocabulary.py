"""The pilot's tokens: the same list in torch training and in the GGUF file.

A tokenizer of llama.cpp's type `llama` (SPM): keys of the text form are whole tokens, and so is every whole
number from -999 to 999, so that an evidence line is two tokens for each signal and a plan two for each knob.
Anything else falls to single characters or bytes, so every text can be written.

`encode` is what llama.cpp does with this list, of which two rules matter: user-defined tokens are cut out of
the text first, longest first; in what is left neighbours merge pairwise, best score first, leftmost first.
"""

from __future__ import annotations

from functools import lru_cache
from heapq import heappop, heappush

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS
from rudder.plan import KEYS, PRIORS

#: Around an evidence line and its answer, in the chat template.
EVIDENCE, PLAN = "<|evidence|>", "<|plan|>"
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
#: Numbers below this are one token. Signals stop at 999.
NUMBERS = 1000
# The mark that SPM files have for a space.
_SPACE = "\u2581"

# Types of tokens in a GGUF file.
NORMAL, UNKNOWN_TYPE, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def _keys() -> list[str]:
    knobs = [f" {key}=" for key in KEYS]
    signals = [f" {key}:" for key in (*SIGNALS, *COUNTERFACTUALS)]
    return ["v1", " |", *knobs, *signals, *PRIORS]


def _build() -> tuple[list[str], list[int], list[float]]:
    listed: list[tuple[str, int, float]] = [
        (UNKNOWN, UNKNOWN_TYPE, 0.0),
        (BEGIN, CONTROL, 0.0),
        (END, CONTROL, 0.0),
        *((f"<0x{value:02X}>", BYTE, 0.0) for value in range(256)),
        (EVIDENCE, CONTROL, 0.0),
        (PLAN, CONTROL, 0.0),
        *((key, USER_DEFINED, 0.0) for key in _keys()),
        # Single characters, the digits among them; a space has its mark.
        (_SPACE, NORMAL, -1.0),
        *((chr(code), NORMAL, -1.0) for code in range(33, 127)),
        # Scores only order merges. Every merge of two numbers that is a number is allowed, so a number of up
        # to three digits always becomes one token.
        *((str(value), NORMAL, -2.0) for value in range(10, NUMBERS)),
        *((str(-value), NORMAL, -2.0) for value in range(1, NUMBERS)),
    ]
    pieces, types, scores = zip(*listed)
    return list(pieces), list(types), list(scores)


PIECES, TYPES, SCORES = _build()
IDS = {piece: number for number, piece in enumerate(PIECES)}
SIZE = len(PIECES)
_CUT = sorted((p for p, kind in zip(PIECES, TYPES) if kind == USER_DEFINED), key=len, reverse=True)
_FIRST_BYTE = IDS["<0x00>"]


def numbers() -> dict[int, int]:
    """Token of each whole number that is one token."""
    return {value: IDS[str(value)] for value in range(-NUMBERS + 1, NUMBERS)}


def encode(text: str) -> list[int]:
    """Tokens of plain text, as llama.cpp gives them with add_bos=False, special=False."""
    parts: list[str | int] = [text] if text else []
    for key in _CUT:
        if key in text:
            parts = [piece for part in parts for piece in _split(part, key)]
    found: list[int] = []
    for part in parts:
        found.extend((part,) if isinstance(part, int) else _merged(part))
    return found


def prompt(line: str) -> list[int]:
    """Tokens of the chat template around one evidence line, up to where the answer begins."""
    return [IDS[EVIDENCE], *encode(line), IDS[PLAN]]


def decode(tokens: list[int]) -> str:
    """The text of tokens; control tokens are left out."""
    raw = bytearray()
    for token in tokens:
        if TYPES[token] == BYTE:
            raw.append(token - _FIRST_BYTE)
        elif TYPES[token] in (NORMAL, USER_DEFINED):
            raw += PIECES[token].replace(_SPACE, " ").encode()
    return raw.decode(errors="replace")


def _split(part: str | int, key: str) -> list[str | int]:
    if isinstance(part, int):
        return [part]
    found: list[str | int] = []
    for place, between in enumerate(part.split(key)):
        if place:
            found.append(IDS[key])
        if between:
            found.append(between)
    return found


@lru_cache(maxsize=1 << 16)
def _merged(text: str) -> tuple[int, ...]:
    """Merges neighbours while their text is a token."""
    symbols: list[str | None] = list(text.replace(" ", _SPACE))
    after = [*range(1, len(symbols)), -1]
    before = [*range(-1, len(symbols) - 1)]
    queue: list[tuple[float, int, str]] = []

    def offer(left: int) -> None:
        right = after[left] if left >= 0 else -1
        if left >= 0 and right >= 0:
            both = f"{symbols[left]}{symbols[right]}"
            if TYPES[IDS.get(both, 0)] == NORMAL:
                heappush(queue, (-SCORES[IDS[both]], left, both))

    for place in range(len(symbols)):
        offer(place)
    while queue:
        _, left, both = heappop(queue)
        right = after[left]
        if right < 0 or symbols[left] is None or f"{symbols[left]}{symbols[right]}" != both:
            continue
        symbols[left], symbols[right] = both, None
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
        offer(before[left])
        offer(left)
    return tuple(token for symbol in symbols if symbol is not None for token in _token(symbol))


def _token(symbol: str) -> list[int]:
    number = IDS.get(symbol)
    if number is not None and TYPES[number] == NORMAL:
        return [number]
    return [_FIRST_BYTE + value for value in symbol.encode(errors="replace")]
