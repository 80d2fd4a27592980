"""A script without what changes from one victim to the next: addresses, numbers, data and random names.

A name counts as random if it has digits among its letters, capitals in its midst or nothing but capitals, or
letters that do not follow each other in words (`_PAIRS`); what a shell knows stays (`_KNOWN`). It becomes
`<x>`, and so does a number, for a random name may be one. Three letters are too few to tell. Of random names
of eight lower-case letters about one in 170 passes for a word, of such with five one in 14.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from .rules import LOOKING, SCRIPT_WORDS

_KNOWN = (
    frozenset(
        """
    HISTFILE HISTFILESIZE HISTSIZE HOME HTTP LANG LC_ALL LD_PRELOAD LOGNAME NULL PATH POST SHELL TERM USER
    acls alias anonymous apache apk apt apt-get armv4l armv5l armv6l armv7l arm4 arm5 arm6 arm7 aarch64 amd64
    authorized_keys base64 bash bash_history bashrc bin boot busybox bz2 chattr chmod chown chpasswd chroot
    cp cpuinfo cron crontab crond curl daemon dash data debug dev disown dns dota download dpkg elf etc exec
    false fetch ftp ftpget ftpput get gzip home hosts hosts.deny http https i386 i486 i586 i686 id_rsa
    init.d install ipv4 ipv6 iptables kill killall killall5 lib lib64 limits m68k md5sum media mips mips64
    mipsel mkdir mktemp mnt mount mpsl network nice nohup null openssl opt passwd payload perl php pkill pool
    powerpc ppc proc profile profiled pty pub py python python2 python3 rc.local read reboot root rpm rsa
    run script selinux service setenforce setsid sh4 sha1sum sha256sum sha512sum shadow shell shm sparc
    spc ssh ssh-rsa sshd sshd_config sshpass stop stratum sys system systemctl systemd tar telnet telnetd tftp
    tmp touch true ulimit umask umount uname unlink unzip update useradd usermod usr var vim wget while worker
    x86 x86_64 xargs xmrig yum zcat zsh
    """.split()  # noqa: SIM905 (to be read)
    )
    | LOOKING
)
_PAIRS = frozenset(
    """
    ab ac ad ag ai al am an ap ar as at ba be bi bl ca ce ch ci ck cl co cr ct cu de di ds ea ec ed ee
    ef el em en ep er es et ev ex fa fi fo ge gi ha he hi ho ia ib ic id ie if ig il im in io ip ir is
    it iv iz ke la le li ll lo ls lt ly ma me mi mo mp mu na nc nd ne ng ni no ns nt oc od ol om on oo
    op or os ot ou ov ow pa pe pi pl po pp pr pt qu ra rd re ri rm ro rr rs rt ru sa sc se sh si so sp
    ss st su ta te th ti to tr ts tt tu ty ua ub uc ui ul um un up ur us ut va ve vi ze
    """.split()  # noqa: SIM905 (to be read)
)
"""The pairs of letters that follow each other in words most often."""
_WORDLIKE = 0.75
"""A word has so large a share of them."""

_PIECES = re.compile(
    r"""
    (?P<url> (?:https?|ftps?|tftp)://[^\s'"`;|&<>()]+ )
    | (?P<ip> (?<![\w.]) \d{1,3}(?:\.\d{1,3}){3} (?::\d{1,5})? (?![\w.])
        | (?<![\w:]) (?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4} (?![\w:]) )
    | (?P<key> AAAA[BCE][A-Za-z0-9+/]{20,}={0,2} )
    | (?P<data> (?:\\+x[0-9A-Fa-f]{2}|\\+[0-7]{3})+ | [A-Za-z0-9+/]{32,}={0,2} )
    | (?P<word> [A-Za-z0-9_]+ )
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"[A-Za-z0-9_]+")
_SPACE = re.compile(r"\s+")
_KEPT = re.compile(r"<[a-z]+>|[-+]\w+|[A-Za-z]\w+")
_COMMANDS = re.compile(r"[;|&\n]+")
_EMPTY_FILE = re.compile(r"(?:^|[;|&])\s*>+\s*[^\s;|&]+")  # asks whether a folder can be written to
_PROBE = re.compile(
    r"(?:\S*busybox\s+)?(?:curl|ftpget|nc|tftp|wget)$|(?:\S*busybox\s+)?cp\s+/bin/\w+\s+\S+$|crontab\s+-l$"
)
"""Commands that ask what there is: a tool without arguments, a program of the system's copied (Mirai)."""
_TO_NOWHERE = re.compile(r"\d?>+\s*(?:&\s*\d|/dev/null)|\d?>&\d")
_BEFORE_COMMAND = frozenset("if then else elif do while until ! ( { sudo nohup exec time".split())  # noqa: SIM905
_PARSED_LINES = 4_096
_KNOWN_WORDS = 16_384


class Line(NamedTuple):
    """A typed line, masked, and whether it only looks around."""

    text: str
    looks: bool


def script_of(lines: Sequence[str]) -> str | None:
    """What a session did, line by line; None if too little is left to know it by."""
    masked = (line.text for line in map(mask, lines) if not line.looks)
    script = "\n".join(text for text, _ in groupby(masked))  # data comes in as many lines as it is long
    words = {word for word in _KEPT.findall(script) if word[0] != "<"}
    return script if len(words) >= SCRIPT_WORDS else None


@lru_cache(_PARSED_LINES)
def mask(line: str) -> Line:
    """The line with `<url>`, `<ip>`, `<data>` and `<x>` in the place of what they stand for."""
    return Line(_SPACE.sub(" ", _PIECES.sub(_masked, line)).strip(), _looks(line))


def _masked(found: re.Match[str]) -> str:
    piece, kind = found[0], found.lastgroup
    if kind == "key":  # that of another attacker makes it another script
        return piece
    if kind == "word":
        return _masked_word(piece)
    if kind == "data" and piece[0] != "\\" and not _is_dense(piece):
        return _WORD.sub(lambda word: _masked_word(word[0]), piece)  # a long path
    return f"<{kind}>"


def _is_dense(text: str) -> bool:
    return any(map(str.isdigit, text)) and any(map(str.isupper, text))


@lru_cache(_KNOWN_WORDS)
def _masked_word(word: str) -> str:
    return "<x>" if word.isdigit() or any(_is_random(part) for part in _parts(word)) else word


def _parts(word: str) -> list[str]:
    return [] if word in _KNOWN or word.lower() in _KNOWN else word.split("_")


def _is_random(word: str) -> bool:
    lower = word.lower()
    if word in _KNOWN or lower in _KNOWN or (len(word) <= 3 and word.isalpha()):
        return False
    if not word.isalpha() or word[1:] != lower[1:]:
        return bool(word)
    pairs = [lower[start : start + 2] for start in range(len(lower) - 1)]
    return sum(pair in _PAIRS for pair in pairs) < _WORDLIKE * len(pairs)


def _looks(line: str) -> bool:
    line = _EMPTY_FILE.sub(";", _TO_NOWHERE.sub(" ", line))
    return ">" not in line and all(map(_command_looks, _COMMANDS.split(line)))


def _command_looks(command: str) -> bool:
    if _PROBE.match(command.strip()):
        return True
    words = [word.rsplit("/", 1)[-1].strip("\"'`$(){}[]") for word in command.split()]
    while words and (not words[0] or words[0] in _BEFORE_COMMAND or "=" in words[0]):
        del words[0]
    if words and words[0] == "busybox":  # an applet of random letters asks whether this is one
        return len(words) == 1 or words[1] in LOOKING or words[1] not in _KNOWN
    return not words or words[0].lower() in LOOKING
