"""What a provider of language models answered, read into tokens and times.

This package alone knows how the answers of OpenAI, Anthropic, Ollama, Groq, Gemini and their kin
look, whole and streamed. It is pure, keeps numbers and names only, and never raises over an answer:
what cannot be learnt from is a value with the reason.

- `values`: what is handed out, and the call that is made of it;
- `parts`: one field of a mapping or of a client's own object, and what counts as a number;
- `usage`: the names that token counts and times have;
- `shapes`: the answers and events of each API;
- `reader`: the reader, for whole answers, events and raw bytes;
- `request`: which requests ask for a completion, and of which model.
"""

from __future__ import annotations

from calibration_ledger.core.answers.reader import AnswerReader, from_answer, read_answer
from calibration_ledger.core.answers.request import Request, read_request
from calibration_ledger.core.answers.values import (
    Answer,
    Reason,
    Unlearnable,
    call_of,
    unlearnable,
)

__all__ = [
    "Answer",
    "AnswerReader",
    "Reason",
    "Request",
    "Unlearnable",
    "call_of",
    "from_answer",
    "read_answer",
    "read_request",
    "unlearnable",
]
