"""What joins nobody: the rules, and every number in them, in one place.

Sessions that share an artefact are one campaign, and so are those that are joined over others. What everybody
shares would make one campaign of all, so it is no artefact:

- a file whose content is nothing, or a word (`TRIVIAL_FILES`): what `touch x` or `echo ok > x` leaves;
- a host that everybody downloads from (`WELL_KNOWN_HOSTS` and what is below them), an address that is
  nobody's on the Internet, or a name without a dot;
- a line that only looks around or opens a shell (`LOOKING`); it is left out of the session's script;
- a script of fewer than `SCRIPT_WORDS` different words of two letters or more, without what is masked;
- a client's `hassh`, its version, a password: tools and lists of words, which thousands use;
- whatever more than `SHARE_OF_SOURCES` of all sources have, once there are `ENOUGH_SOURCES` of them.

A session brings at most `MOST_OF_A_KIND` artefacts of a kind, its first: nobody can tie all campaigns
together by naming everyone's files. A campaign has at least `CAMPAIGN_SESSIONS` sessions.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address, ip_network

CAMPAIGN_SESSIONS = 2
SCRIPT_WORDS = 5
SHARE_OF_SOURCES = 0.5
ENOUGH_SOURCES = 20
MOST_OF_A_KIND = 20

_TRIVIAL_WORDS = (
    *("", " ", "x", "a", "ok", "OK", "test", "TEST", "hello", "hi", "true", "false", "yes", "no", "1234"),
    *map(str, range(10)),
)
TRIVIAL_FILES = frozenset(
    sha256((word + end).encode()).hexdigest() for word in _TRIVIAL_WORDS for end in ("", "\n", "\r\n", "\n\n")
)

WELL_KNOWN_HOSTS = frozenset(
    """
    amazonaws.com apache.org archive.org bing.com bit.ly bitbucket.org catbox.moe cdn77.org checkip.org
    cloudflare.com cloudfront.net debian.org discord.com discordapp.com docker.com docker.io dropbox.com
    dropboxusercontent.com facebook.com fedoraproject.org get.rvm.io gist.github.com github.com github.io
    githubusercontent.com gitlab.com gitlab.io gnu.org golang.org google.com googleapis.com
    googleusercontent.com hastebin.com icanhazip.com ident.me ifconfig.co ifconfig.io ifconfig.me
    ip-api.com ip.sb ip.tool.lu ip4.me ipconfig.io ipify.org ipinfo.io jsdelivr.net kernel.org live.com
    microsoft.com mozilla.org msftconnecttest.com myexternalip.com nodejs.org npmjs.org nvidia.com
    onedrive.com paste.ee pastebin.com pypi.org python.org pythonhosted.org raspberrypi.org redhat.com
    rubygems.org sh.rustup.rs sourceforge.net speedtest.net telegram.org tinyurl.com torproject.org
    transfer.sh twitter.com ubuntu.com wikipedia.org windows.net windowsupdate.com wtfismyip.com yahoo.com
    yandex.ru youtube.com
    """.split()  # noqa: SIM905 (to be read)
)
"""Hosts of files that anyone may put there, of packages and of one's own address. No attacker runs them."""

_NOBODYS = [
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("224.0.0.0/3", "::/127", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
]

LOOKING = frozenset(
    """
    arch ash awk bash busybox cat cd clear cut dash date dd df dmesg dmidecode done du echo egrep enable
    env exit export false fdisk fgrep fi file find free getconf grep groups head help history hostname id
    ifconfig ip iptables-save ksh last lastlog less linuxshell logout ls lsb_release lscpu lsmod lsof
    lspci more mount netstat nproc nvidia-smi printenv printf ps pwd quit read route sed set sh shell
    sleep sort ss stat su sudo sysctl system tail test top tr true type ulimit unalias uname uniq unset
    uptime vmstat w wc whereis which who whoami xargs zsh
    """.split()  # noqa: SIM905 (to be read)
)
"""Commands that only look around, open a shell or clear it. With output into a file they do more."""


def joins(kind: str, value: str) -> bool:
    """Whether an artefact of this kind (`key`, `file` or `host`) may join sessions at all."""
    if kind == "file":
        return value not in TRIVIAL_FILES
    return kind != "host" or _is_own_host(value)


def _is_own_host(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        labels = host.split(".")
        ends = (".".join(labels[start:]) for start in range(len(labels)))
        return len(labels) > 1 and labels[-1].isalpha() and not any(end in WELL_KNOWN_HOSTS for end in ends)
    return not any(address in network for network in _NOBODYS)


def is_shared_by_all(sources: int, all_sources: int) -> bool:
    """Whether so many of all sources have an artefact that it says nothing about any of them."""
    return all_sources >= ENOUGH_SOURCES and sources > SHARE_OF_SOURCES * all_sources
