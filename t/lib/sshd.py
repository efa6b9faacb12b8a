"""sshd.py - real OpenSSH servers for the tests: their keys, their users' keys, their settings, their end.

Each server has a folder, a free port of loopback and host keys of its own. Who logs in is the user that runs the test.
Passwords need root: the server sees a copy of /etc/shadow, in a mount namespace of its own, that has PASSWORD for root.
"""
import getpass
import os
import subprocess

from poller import Lines, SLOW, _processes, clean_env, folder, free_port

SSHD = "/usr/sbin/sshd"
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
USER = getpass.getuser()
PASSWORD = "correct horse, battery: \u00fc"
PASSPHRASE = "pass phrase \"of\" keys"


def here():
    return os.access(SSHD, os.X_OK) and os.access(SFTP_SERVER, os.X_OK)


def passwords():
    """Whether servers here can take passwords."""
    if os.geteuid():
        return False
    return subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode == 0


def keygen(path, kind, passphrase="", *more):
    """Makes a key pair and gives (private as text, public as text)."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", path] + list(more), check=True, stdin=subprocess.DEVNULL)
    with open(path) as a, open(path + ".pub") as b:
        return a.read(), b.read().strip()


class Keys:
    """The user's keys, made once: by name, the private ones as text. The public ones are all in authorized."""

    def __init__(self):
        self.dir = folder()
        self.authorized = os.path.join(self.dir, "authorized_keys")
        self.private, self.public = {}, {}
        for name, kind, passphrase, more in (("ed25519", "ed25519", "", ()), ("ecdsa", "ecdsa", "", ()), ("ecdsa521", "ecdsa", "", ("-b", "521")), ("rsa", "rsa", "", ("-b", "2048")),
                                             ("ed25519_enc", "ed25519", PASSPHRASE, ()), ("ecdsa_pem_enc", "ecdsa", PASSPHRASE, ("-m", "PEM")), ("ecdsa_pkcs8", "ecdsa", "", ("-m", "PKCS8")),
                                             ("rsa_enc", "rsa", PASSPHRASE, ("-b", "2048")), ("stranger", "ed25519", "", ())):
            self.private[name], self.public[name] = keygen(os.path.join(self.dir, name), kind, passphrase, *more)
        with open(self.authorized, "w") as f:
            f.write("".join(self.public[k] + "\n" for k in self.public if k != "stranger"))


class Sshd:
    """options: more lines of sshd_config; they win over those below. password, pam: how it takes PASSWORD."""

    def __init__(self, keys, *options, internal=False, host_keys=("ed25519", "ecdsa", "rsa"), pam=False, password=False, wrap=(), sftp=SFTP_SERVER):
        self.dir = folder()
        self.keys = keys
        self.port = free_port()
        self.host_keys, self.fingerprints = {}, {}
        for k in host_keys:
            path = os.path.join(self.dir, "host_" + k)
            _, public = keygen(path, k)
            self.host_keys[k] = " ".join(public.split()[:2])
            out = subprocess.run(["ssh-keygen", "-l", "-f", path + ".pub"], stdout=subprocess.PIPE, check=True, text=True).stdout
            self.fingerprints[k] = out.split()[1]
        lines = list(options) + ["Port %d" % self.port, "ListenAddress 127.0.0.1", "PidFile none", "AuthorizedKeysFile " + keys.authorized,
                                 "StrictModes no", "PermitRootLogin yes", "UsePAM %s" % ("yes" if pam else "no"), "PasswordAuthentication %s" % ("yes" if password else "no"),
                                 "KbdInteractiveAuthentication %s" % ("yes" if pam else "no"), "MaxStartups 200", "LogLevel VERBOSE",
                                 "Subsystem sftp %s" % ("internal-sftp" if internal else sftp)]
        lines += ["HostKey " + os.path.join(self.dir, "host_" + k) for k in host_keys]
        self.conf = os.path.join(self.dir, "sshd_config")
        with open(self.conf, "w") as f:
            f.write("\n".join(lines) + "\n")
        os.makedirs("/run/sshd", exist_ok=True) if not os.geteuid() else None
        self.argv = list(wrap) + [SSHD, "-D", "-e", "-f", self.conf]
        if pam or password:
            self.argv = self._with_password(self.argv)
        self.process = None
        self.start()

    def _with_password(self, argv):
        copy = os.path.join(self.dir, "shadow")
        crypted = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=PASSWORD + "\n", stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
        with open("/etc/shadow") as f, open(copy, "w") as out:
            for line in f:
                parts = line.rstrip("\n").split(":")
                if parts[0] == "root":
                    # no expiry of any kind
                    parts = ["root", crypted, "19000", "0", "99999", "7", "", "", ""]
                out.write(":".join(parts) + "\n")
        os.chmod(copy, 0o600)
        return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/shadow && exec "$@"', copy] + argv

    def start(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
                                        env=clean_env(), text=True, errors="replace")
        _processes.append(self.process)
        self.log = Lines(self.process.stderr)
        self.log.wait(lambda lines: any("Server listening on" in x for x in lines) or (self.log.ended and "\n".join(lines)), 20 * SLOW, "sshd to listen")
        if self.process.poll() is not None:
            raise RuntimeError("sshd ended: %s" % "\n".join(self.log.lines))

    def stop(self):
        """The listener and every session of it."""
        self.process.kill()
        self.process.wait()
        self.hang_up()

    def sessions(self):
        """Pids of the processes that serve connections now."""
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as f:
            return [int(x) for x in f.read().split()]

    def hang_up(self):
        """Ends the sessions alone."""
        try:
            pids = self.sessions()
        except OSError:
            return
        for pid in pids:
            os.kill(pid, 9)

    def count(self, words):
        with self.log.cond:
            return sum(words in x for x in self.log.lines)

    def known_hosts(self, *kinds, port=None):
        """Lines of known_hosts for it; of these kinds of keys, else of all."""
        port = port or self.port
        return "".join("[127.0.0.1]:%d %s\n" % (port, self.host_keys[k]) for k in kinds or self.host_keys)

    def source(self, path, **fields):
        """source_config for it, with the ed25519 key, strict."""
        s = {"source_type": "sftp", "host": "127.0.0.1", "port": self.port, "username": USER, "path": path,
             "private_key": self.keys.private["ed25519"], "known_hosts": self.known_hosts()}
        s.update(fields)
        return {k: v for k, v in s.items() if v is not None}
