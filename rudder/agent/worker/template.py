"""From a system text and a question's lines to a prompt's tokens, by the template of the model's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rudder.agent.prompt import evidence_line

if TYPE_CHECKING:
    from rudder.agent.worker.llama import LlamaModel

# Stand in for the question while a template is rendered: no template changes them, no text contains them. A
# template may leave out all but the last line, as the pilot's does.
_LINE = "RUDDER-LINE"
_LINES = f"RUDDER-FIRST\n{_LINE}"
#: Answers of `Prompts.source`.
FROM_FILE, FROM_FILE_ONE_MESSAGE, PLAIN = "from the file", "from the file, as one message", "none: plain text"


class Prompts:
    """Renders prompts for one model; what stands around the question is tokenised once for each system text.

    A template that knows no system role gets one message with both texts; a file without a usable template
    gets plain text. `source` says which.
    """

    def __init__(self, model: LlamaModel) -> None:
        """Look which way works."""
        self._model = model
        self._around: dict[str, tuple[list[int], list[int]]] = {}
        self._last_alone = False
        self.source = PLAIN
        for source in (FROM_FILE, FROM_FILE_ONE_MESSAGE):
            text = self._rendered(source, "system") if model.template is not None else None
            if text is not None:
                self.source, self._last_alone = source, _LINES not in text
                break

    def tokens(self, system: str, question: str) -> list[int]:
        """Tokens of the whole prompt, up to where the answer begins."""
        around = self._around.get(system)
        if around is None:
            text = self._rendered(self.source, system) or f"{system}\n\n{_LINES}\n\n"
            before, _, after = text.partition(_LINE if self._last_alone else _LINES)
            first = self._model.tokenize(before, special=True)
            if self._model.bos is not None and first[:1] != [self._model.bos]:
                first = [self._model.bos, *first]
            around = self._around[system] = (first, self._model.tokenize(after, special=True))
        asked = evidence_line(question) if self._last_alone else question
        return [*around[0], *self._model.tokenize(asked, special=False), *around[1]]

    def beginning(self, system: str) -> list[int]:
        """Tokens before the question, which stay for a system text. REQUIRES: `tokens` was called with it."""
        return self._around[system][0]

    def _rendered(self, source: str, system: str) -> str | None:
        """The template's text with `_LINE` in it, once; None where the template cannot be used so."""
        if source == PLAIN:
            return None
        messages = [{"role": "system", "content": system}, {"role": "user", "content": _LINES}]
        if source == FROM_FILE_ONE_MESSAGE:
            messages = [{"role": "user", "content": f"{system}\n\n{_LINES}"}]
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        try:
            formatter = Jinja2ChatFormatter(
                template=self._model.template or "",
                bos_token=self._model.special_text("bos"),
                eos_token=self._model.special_text("eos"),
            )
            text = str(formatter(messages=messages).prompt)
        except Exception:  # a file's template may raise anything, and often does so for the system role
            return None
        kept = text.replace(_LINES, _LINE)
        return text if kept.count(_LINE) == 1 and "RUDDER-FIRST" not in kept else None
