"""What collectors of logs write in front of a line: each a grammar that ends right before the JSON."""

from __future__ import annotations

import re

_CLOCK = rb"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_MOMENT = rb"\d{4}-\d\d-\d\d[T ]" + _CLOCK + rb"(?:Z|[+-]\d\d:?\d\d)"
_COLOUR = rb"(?:\x1b\[[\d;]*m)*"
_NAME = rb"[\w./-]+"
_HOST = rb"[\w.:-]+"

# Cowrie's own text log (`moment [part] CMD: what was typed`) fits none of them: a host or a tag has no
# brackets and no blanks, and nothing may stand between the prefix and the brace.
PREFIXES: dict[str, re.Pattern[bytes]] = {
    name: re.compile(grammar + rb"(?=\{)")
    for name, grammar in {
        # containerd and CRI-O: https://github.com/kubernetes/cri-api, "logging"
        "cri": _MOMENT + rb" (?:stdout|stderr) [FP](?::\w+)? ",
        # `docker logs --timestamps`, `kubectl logs --timestamps`
        "moment": _MOMENT + rb" ",
        # `docker compose logs`
        "compose": _COLOUR + rb"[\w.-]+ +\| ?" + _COLOUR + rb"(?:" + _MOMENT + rb" )?",
        # `kubectl logs --prefix`
        "kubectl": rb"\[pod/" + _NAME + rb"\] (?:" + _MOMENT + rb" )?",
        # RFC 3164, as syslogd, rsyslog, BusyBox and journalctl write it
        "syslog": rb"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d "
        + _CLOCK
        + rb"|"
        + _MOMENT
        + rb") "
        + _HOST
        + rb" (?:[a-z]+\d?\.[a-z]+ )?"
        + _NAME
        + rb"(?:\[\d+\])?: ?(?:@cee: ?)?",
        # RFC 5424
        "syslog5424": rb"<\d{1,3}>1 "
        + _MOMENT
        + (rb" " + _HOST) * 2
        + rb" [\w.-]+ [\w.-]+ "
        + rb"(?:-|(?:\[[^\[\]{}]*\])+) (?:\xef\xbb\xbf)?(?:@cee: ?)?",
    }.items()
}
"""Name -> grammar of what stands before the `{` of a record, from the line's beginning."""
