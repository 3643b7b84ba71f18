#!/usr/bin/env python3
"""Checks that need no tool but Python: what dashboards, rules and guides name must exist.

  metrics    every query of the dashboard and the rules names metrics and labels of docs/metrics.md
  alerts     every alert has a test that fires it and one that does not, and leads to a place in docs/
  codes      every error code that rules name is in docs/errors.md
  links      every link from docs/operating.md and docs/troubleshooting.md leads somewhere
  commands   every `plimsoll …` in the guides exists in the given binary

Usage: check.py metrics alerts codes links | check.py commands BINARY. Exit code 1 if something is missing.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMETHEUS = ROOT / "deploy/prometheus"
GUIDES = [ROOT / "docs/operating.md", ROOT / "docs/troubleshooting.md", ROOT / "docs/api.md"]
# Labels that Prometheus or the scrape configuration adds, and those of the rules themselves.
ADDED = {"job", "instance", "cluster", "le", "alertname", "alertstate", "severity", "resource"}
complaints = []


def complain(text):
    complaints.append(text)
    print(f"check.py: {text}", file=sys.stderr)


def documented():
    """Metrics of docs/metrics.md: name -> (type, labels)."""
    known = {}
    for line in (ROOT / "docs/metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("| `plimsoll_") or len(cells) < 4:
            continue
        kind = cells[1].split(",")[0].split(" ")[0]
        for name in re.findall(r"`(plimsoll_\w+)`", cells[0]):
            known[name] = (kind, set(re.findall(r"`(\w+)`", cells[2])))
    return known


def rules(file):
    """(kind, name, text of the rule) of each rule in a file; enough YAML for files of ours."""
    text = (PROMETHEUS / file).read_text()
    for block in re.split(r"^ {6}- ", text, flags=re.M)[1:]:
        found = re.match(r"(record|alert): (\S+)", block)
        if not found:
            complain(f"{file}: a rule begins with neither record nor alert: {block.splitlines()[0]}")
            continue
        yield found[1], found[2], re.sub(r"^\s*#.*$", "", block, flags=re.M)


def expression(block):
    found = re.search(r"^ {8}expr:(.*?)(?=^ {8}\w+:|^ {2}- name:|\Z)", block, flags=re.M | re.S)
    return found[1] if found else ""


def queries():
    """(where, query) of everything that asks for metrics."""
    for file in ("recording.yml", "alerts.yml"):
        for _, name, block in rules(file):
            if not expression(block).strip():
                complain(f"{file}: {name} has no expression that could be read")
            yield f"{file}: {name}", expression(block)
    board = json.loads((ROOT / "deploy/grafana/plimsoll.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        complain("plimsoll.json: two panels have one id")
    for panel in board["panels"]:
        if panel["type"] != "row" and not panel.get("targets"):
            complain(f"plimsoll.json: panel {panel['title']} asks nothing")
        for target in panel.get("targets", []):
            yield f"plimsoll.json: {panel['title']}", target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"plimsoll.json: variable {variable['name']}", variable["query"]["query"]
    for annotation in board["annotations"]["list"]:
        yield f"plimsoll.json: annotation {annotation['name']}", annotation["expr"]


def metrics():
    known = documented()
    recorded = {name for kind, name, _ in rules("recording.yml") if kind == "record"}
    if len(known) < 40 or len(recorded) < 10:
        complain(f"only {len(known)} metrics and {len(recorded)} recording rules were read: has a format changed?")
    count, used = 0, set()
    for where, query in queries():
        count += 1
        names = re.findall(r"\bplimsoll[_:][\w:]+", query)
        if not names and "up{" not in query:
            complain(f"{where}: names no metric of ours: {query}")
        for name in names:
            if ":" in name:
                if name not in recorded:
                    complain(f"{where}: there is no recording rule {name}")
                continue
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            if name in known and known[name][0] != "histogram":
                base = name
            elif base not in known:
                complain(f"{where}: docs/metrics.md has no {name}")
                continue
            elif base == name or known[base][0] != "histogram":
                complain(f"{where}: {name} is a {known[base][0]}: histograms are asked for by _bucket, _sum or _count, others are not")
                continue
            used.add(base)
        for name, matchers in re.findall(r"\b(plimsoll_\w+)\{([^}]*)\}", query):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            labels = known.get(name, known.get(base, ("", set())))[1]
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)):
                if label not in labels | ADDED:
                    complain(f"{where}: {name} has no label {label}")
        asked = {base for name in names for base in [re.sub(r"_(bucket|sum|count)$", "", name)]}
        possible = ADDED.union(*(known[base][1] for base in asked if base in known))
        if not any(":" in name for name in names):
            for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
                for label in filter(None, (part.strip() for part in group.split(","))):
                    if label not in possible:
                        complain(f"{where}: nothing it asks for has a label {label}")
    shown = {base for where, query in queries() if where.startswith("plimsoll.json") for base in known if re.search(rf"\b{base}(_bucket|_sum|_count)?\b", query)}
    for name in sorted(set(known) - shown):
        complain(f"plimsoll.json: no panel shows {name}")
    print(f"metrics: {count} queries name {len(used)} of {len(known)} documented metrics and {len(recorded)} recorded ones")


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    return {slug(found) for found in re.findall(r"^#+ (.*)$", text, flags=re.M)}


def alerts():
    tests = "\n".join(path.read_text() for path in sorted((PROMETHEUS / "tests").glob("*.yml")))
    names = []
    for kind, name, block in rules("alerts.yml"):
        if kind != "alert":
            continue
        names.append(name)
        asked = re.findall(rf"alertname=\"{name}\",alertstate=\"firing\"}}'\n\s+eval_time: \S+\n\s+exp_samples:(.*)", tests)
        if not any(found.strip() == "[]" for found in asked) or not any(found.strip() == "" for found in asked):
            complain(f"alerts.yml: {name} lacks a test that fires it, or one that does not")
        for part in ("severity:", "summary:", "description:"):
            if part not in block:
                complain(f"alerts.yml: {name} has no {part}")
        for file, anchor in re.findall(r"(docs/[\w.]+)(?:#([\w-]+))?", block):
            path = ROOT / file.rstrip(".")
            if not path.exists():
                complain(f"alerts.yml: {name} leads to {file}, which does not exist")
            elif anchor and anchor not in anchors(path):
                complain(f"alerts.yml: {name} leads to {file}#{anchor}, which has no such heading")
    print(f"alerts: {len(names)}, each with a test that fires it and one that does not, each leading somewhere")


def codes():
    known = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/errors.md").read_text(), flags=re.M))
    words = {"ok", "error", "done", "ended", "given_up", "created", "session_live", "replayed", "applied", "no_quorum", "overloaded", "refused", "failed"}
    count = 0
    for where, query in queries():
        for _, values in re.findall(r"\b(result|outcome|code)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"", query):
            for value in values.split("|"):
                count += 1
                pattern = re.compile(value)
                if value not in words and not any(pattern.fullmatch(code) for code in known):
                    complain(f"{where}: docs/errors.md has no code {value}")
    for guide in GUIDES:
        for code in re.findall(r"^#+ `?([a-z]+_[a-z_]+)`?", guide.read_text(), flags=re.M):
            count += 1
            if code not in known:
                complain(f"{guide.name}: docs/errors.md has no code {code}")
    print(f"codes: {count} uses, all in docs/errors.md")


def links():
    count = 0
    for guide in GUIDES:
        for target in re.findall(r"\]\(([^)\s]+)\)", guide.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            file, _, anchor = target.partition("#")
            path = (guide.parent / file).resolve() if file else guide
            if not path.exists():
                complain(f"{guide.name}: {target} does not exist")
            elif anchor and anchor not in anchors(path):
                complain(f"{guide.name}: {target} has no such heading")
        for path in re.findall(r"`(deploy/[\w./-]+|docs/[\w./-]+)`", guide.read_text()):
            count += 1
            if not (ROOT / path).exists():
                complain(f"{guide.name}: {path} does not exist")
    print(f"links: {count}, all lead somewhere")


def commands(binary):
    helps = {}

    def help_of(words):
        key = tuple(words)
        if key not in helps:
            ran = subprocess.run([binary, *words, "--help"], capture_output=True, text=True, check=False)
            helps[key] = ran.stdout if ran.returncode == 0 else None
        return helps[key]

    seen = set()
    for guide in GUIDES:
        text = guide.read_text()
        blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S) + re.findall(r"`([^`\n]+)`", text)
        for line in "\n".join(blocks).splitlines():
            for call in re.findall(r"(?:^|(?<!-u)[\s(;&|])plimsoll ((?:--url \S+ )?[a-z][^#;&|)]*)", line):
                words, rest = [], re.sub(r"^--url \S+ ", "", call).split()
                # Subcommands are the leading plain words for which the help knows one more level.
                while rest and re.fullmatch(r"[a-z-]+", rest[0]) and not rest[0].startswith("-"):
                    text_of = help_of(words)
                    if text_of is None or "Commands:" not in text_of:
                        break
                    words.append(rest.pop(0))
                text_of = help_of(words)
                seen.add(" ".join(words))
                if text_of is None or not words:
                    complain(f"{guide.name}: there is no command `plimsoll {' '.join(words)}` ({call.strip()})")
                    continue
                before = rest[: rest.index("--")] if "--" in rest else rest
                for flag in before:
                    flag = flag.split("=")[0].rstrip("`,.")
                    if re.fullmatch(r"--[a-z][a-z-]*", flag) and not re.search(rf"{flag}\b(?!-)", text_of):
                        complain(f"{guide.name}: `plimsoll {' '.join(words)}` has no {flag}")
    print(f"commands: {len(seen)} different ones in the guides, all in {binary}")


def main(arguments):
    checks = {"metrics": metrics, "alerts": alerts, "codes": codes, "links": links}
    if arguments[:1] == ["commands"] and len(arguments) == 2:
        commands(arguments[1])
    elif arguments and all(name in checks for name in arguments):
        for name in arguments:
            checks[name]()
    else:
        sys.exit(__doc__)
    sys.exit(1 if complaints else 0)


main(sys.argv[1:])
