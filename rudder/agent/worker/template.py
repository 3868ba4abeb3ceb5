"""From a system text and a line of evidence to a prompt's tokens, by the template of the model's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rudder.agent.worker.llama import LlamaModel

# Stands in for the line while a template is rendered: no template changes it, no text contains it.
_LINE = "RUDDER-LINE"
#: Answers of `Prompts.source`.
FROM_FILE, FROM_FILE_ONE_MESSAGE, PLAIN = "from the file", "from the file, as one message", "none: plain text"


class Prompts:
    """Renders prompts for one model; what stands around the line is tokenised once for each system text.

    A template that knows no system role gets one message with both texts; a file without a usable template
    gets plain text. `source` says which.
    """

    def __init__(self, model: LlamaModel) -> None:
        """Look which way works."""
        self._model = model
        self._around: dict[str, tuple[list[int], list[int]]] = {}
        self.source = PLAIN
        for source in (FROM_FILE, FROM_FILE_ONE_MESSAGE):
            if model.template is not None and self._rendered(source, "system") is not None:
                self.source = source
                break

    def tokens(self, system: str, line: str) -> list[int]:
        """Tokens of the whole prompt, up to where the answer begins."""
        around = self._around.get(system)
        if around is None:
            text = self._rendered(self.source, system) or f"{system}\n\n{_LINE}\n\n"
            before, _, after = text.partition(_LINE)
            first = self._model.tokenize(before, special=True)
            if self._model.bos is not None and first[:1] != [self._model.bos]:
                first = [self._model.bos, *first]
            around = self._around[system] = (first, self._model.tokenize(after, special=True))
        before_line, after_line = around
        return [*before_line, *self._model.tokenize(line, special=False), *after_line]

    def _rendered(self, source: str, system: str) -> str | None:
        """The template's text with `_LINE` in it, once; None where the template cannot be used so."""
        if source == PLAIN:
            return None
        messages = [{"role": "system", "content": system}, {"role": "user", "content": _LINE}]
        if source == FROM_FILE_ONE_MESSAGE:
            messages = [{"role": "user", "content": f"{system}\n\n{_LINE}"}]
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
        return text if text.count(_LINE) == 1 else None
