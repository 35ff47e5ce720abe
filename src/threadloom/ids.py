"""Ids in OpenAI's shapes: a prefix and 24 unguessable letters and digits."""

import secrets
import string
from typing import Literal, Protocol

Prefix = Literal[
    "asst_",
    "thread_",
    "msg_",
    "run_",
    "step_",
    "call_",
    "file-",
    "upload_",
    "part_",
    "vs_",
    "vsfb_",
    "proc_",
    "proj_",
    "key_",
    "req_",
    "evt_",
    "whe_",
    "whd_",
]
ALPHABET = string.ascii_letters + string.digits
LENGTH = 24


class Ids(Protocol):
    """Makes new ids."""

    def new(self, prefix: Prefix) -> str: ...


class RandomIds:
    """Ids nobody can guess: 24 characters hold 142 bits."""

    def new(self, prefix: Prefix) -> str:
        number = secrets.randbelow(len(ALPHABET) ** LENGTH)
        characters: list[str] = []
        for _ in range(LENGTH):
            number, place = divmod(number, len(ALPHABET))
            characters.append(ALPHABET[place])
        return prefix + "".join(characters)
