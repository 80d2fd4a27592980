"""Text that others wrote, on its way to a terminal: nothing in it may move the cursor, hide or turn text.

Attackers choose user names, passwords and commands; services choose names. A terminal obeys what is among
them (ECMA-48 control sequences, bidirectional formatting: https://trojansource.codes), so there each such
character is shown as its escape. What goes into files and pipes stays as it is.
"""

from __future__ import annotations

import io
import unicodedata
from typing import IO, Any

_OBEYED = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def visible(text: str, *, keep: str = "") -> str:
    """`text` with every character that a terminal may obey written out, such as `\\x1b`; `keep` stays."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _OBEYED and character not in keep
        else character
        for character in text
    )


class VisibleStream(io.RawIOBase):
    """A binary stream of UTF-8 lines in front of a terminal's, which `close` leaves open."""

    def __init__(self, terminal: IO[bytes]) -> None:
        self._terminal = terminal
        self._rest = b""

    def writable(self) -> bool:
        """It only is."""
        return True

    def write(self, data: Any) -> int:
        """Show the lines that are whole; the rest waits for its end, as a character may be cut in two."""
        whole, newline, self._rest = (self._rest + bytes(data)).rpartition(b"\n")
        self._show(whole + newline)
        return len(data)

    def close(self) -> None:
        """See the class."""
        if not self.closed:
            self._show(self._rest)
            self._rest = b""
        super().close()

    def _show(self, data: bytes) -> None:
        text = visible(data.decode("utf-8", "replace"), keep="\n\r\t")
        self._terminal.write(text.encode("utf-8", "replace"))
        self._terminal.flush()
