"""apparmor.py - what a profile allows of files, told without a kernel that has AppArmor: its rules as apparmor_parser -p unfolds
them (apparmor.d(5)), matched here."""
import re
import subprocess


def _braces(glob):
    """{a,b} at the end of which this text begins: (alternatives, rest)"""
    depth, parts, at = 0, [""], 0
    for at, c in enumerate(glob):
        if c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                break
        if c == "," and depth == 1:
            parts.append("")
        elif not (c == "{" and depth == 1):
            parts[-1] += c
    return parts, glob[at + 1:]


def pattern(glob):
    """A path of a rule, its variables filled in, as a regular expression"""
    out = ""
    while glob:
        if glob.startswith("**"):
            # after a slash, one byte at least
            out += ".+" if out.endswith("/") and len(glob) == 2 else ".*"
            glob = glob[2:]
        elif glob[0] == "*":
            out += "[^/]+" if out.endswith("/") and len(glob) == 1 else "[^/]*"
            glob = glob[1:]
        elif glob[0] == "?":
            out, glob = out + "[^/]", glob[1:]
        elif glob[0] == "[":
            end = glob.index("]")
            out, glob = out + glob[:end + 1], glob[end + 1:]
        elif glob[0] == "{":
            parts, glob = _braces(glob)
            out += "(?:%s)" % "|".join(pattern(p) for p in parts)
        else:
            out, glob = out + re.escape(glob[0]), glob[1:]
    return out


class Profile:
    """rules: [(expression, permissions, denies)] of files"""

    def __init__(self, path):
        text = subprocess.run(["apparmor_parser", "-p", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
        self.variables, self.rules = {}, []
        for line in text.splitlines():
            line = line.split(" #")[0].strip()
            m = re.match(r"(@\{\w+\})\s*\+?=\s*(.*)", line)
            if m:
                self.variables.setdefault(m.group(1), []).extend(x.strip('"') for x in m.group(2).split())
                continue
            m = re.match(r"(deny )?(?:owner )?\"?([/@]\S*?)\"?\s+([mrwaklix]+|ix|mrix),$", line)
            if m:
                self.rules.append((re.compile(pattern(self.filled(m.group(2)).replace("//", "/"))), m.group(3), bool(m.group(1))))

    def filled(self, text):
        while "@{" in text:
            text = re.sub(r"@\{\w+\}", lambda m: "{%s}" % ",".join(x for x in self.variables[m.group(0)]), text)
        # a variable that ends in a slash, before one
        return re.sub(r"/(\}?)/", r"/\1", re.sub(r"/([,}])(?=[^/]*\}/)", r"\1", text)) if "}/" in text else text

    def allows(self, path, wanted):
        """Whether each of these permissions (letters of r, w, x, m, k, l) is given, and none denied."""
        given, denied = set(), set()
        for rule, letters, deny in self.rules:
            if rule.fullmatch(path):
                (denied if deny else given).update(letters.replace("a", "w"))
        return set(wanted) <= given - denied
