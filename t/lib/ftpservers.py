"""ftpservers.py - real FTP servers for the tests: vsftpd, pure-ftpd, proftpd. Each serves one tree of the disk as "/".

Their Debian packages exclude one another, so they are fetched with apt-get and unpacked under BUILD/ftpd, once, without
being installed. All three need root: they change to the user sys and shut themselves into the tree. Fake is a server of ours.
"""
import fcntl
import glob
import os
import shutil
import signal
import socket
import subprocess
import threading

from poller import BUILD, KEEP, SLOW, Lines, _processes, clean_env, folder, free_port, wait_for
from servers import free_range

USER, PASSWORD = "poller", "p w'\"%:\u00fc"
PACKAGES = ("vsftpd", "pure-ftpd", "pure-ftpd-common", "proftpd-core", "proftpd-mod-crypto", "libhiredis0.14", "libhashkit2", "libmemcached11", "libmemcachedutil2", "libpcre2-posix3")
TOP = os.path.join(BUILD, "ftpd")


def here():
    """Whether the servers can run: root, and the packages are to be had."""
    if os.geteuid():
        return False
    os.makedirs(TOP, exist_ok=True)
    with open(os.path.join(TOP, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(os.path.join(TOP, "pkg")):
            return True
        debs = os.path.join(TOP, "debs")
        shutil.rmtree(debs, ignore_errors=True)
        os.mkdir(debs)
        if subprocess.run(("apt-get", "download") + PACKAGES, cwd=debs, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return False
        fresh = os.path.join(TOP, "pkg.new")
        shutil.rmtree(fresh, ignore_errors=True)
        for deb in glob.glob(debs + "/*.deb"):
            subprocess.run(["dpkg", "-x", deb, fresh], check=True)
        missing = sorted(x for name in ("vsftpd", "pure-ftpd", "proftpd") for x in missing_libraries(os.path.join(fresh, "usr/sbin", name), fresh))
        if missing:
            raise RuntimeError("PACKAGES lacks what has %s" % ", ".join(missing))
        # make takes every *.d below BUILD for its own
        for path in glob.glob(fresh + "/**/*.d", recursive=True):
            shutil.rmtree(path)
        os.rename(fresh, os.path.join(TOP, "pkg"))
    return True


def missing_libraries(path, root):
    """Those that neither this system nor the unpacked packages have."""
    r = subprocess.run(["ldd", path], env=clean_env({"LD_LIBRARY_PATH": os.path.join(root, "usr/lib/x86_64-linux-gnu")}), check=True, capture_output=True, text=True)
    return {x.split()[0] for x in r.stdout.splitlines() if "not found" in x}


def program(name):
    return os.path.join(TOP, "pkg", name)


def certificate():
    """(file with key and certificate, certificate as text) for localhost, 127.0.0.1 and 127.0.0.4"""
    where = folder()
    key, crt, pem = (os.path.join(where, x) for x in ("tls.key", "tls.crt", "tls.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.4",
                    "-keyout", key, "-out", crt], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(key) as a, open(crt) as b:
        text = b.read()
        a = a.read()
    with open(pem, "w") as f:
        f.write(a + text)
    return pem, text


class FtpServer:
    """tls: what certificate() gave; implicit: TLS from the first byte on. both: further addresses whose passive ports are kept free, for a proxy."""
    name, mlsd, user, password = "", False, USER, PASSWORD

    def __init__(self, root, tls=None, implicit=False, port=None, address="127.0.0.1", both=(), env=None, **options):
        self.root, self.tls, self.implicit, self.address, self.options = os.path.realpath(root), tls, implicit, address, options
        self.dir = folder()
        os.chmod(self.dir, 0o755)
        self.port = port or free_port()
        self.passive = free_range(200, address, *both)
        self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
                                        env=clean_env(dict(env or {}, LD_LIBRARY_PATH=program("usr/lib/x86_64-linux-gnu"))), start_new_session=True)
        _processes.append(self.process)
        self.log = Lines(self.process.stderr)
        wait_for("%s to listen" % self.name, self.listens, 20 * SLOW)

    def listens(self):
        if self.process.poll() is not None:
            raise RuntimeError("%s ended: %s" % (self.name, "\n".join(self.log.lines)))
        try:
            with socket.create_connection((self.address, self.port), 5) as s:
                return self.implicit or s.recv(3) == b"220"
        except OSError:
            return False

    def file(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def sessions(self):
        """Pids of the processes that serve connections."""
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as f:
            return [int(x) for x in f.read().split()]

    def hang_up(self):
        """Ends the sessions alone."""
        for pid in self.sessions():
            os.kill(pid, signal.SIGKILL)

    def stop(self):
        self.hang_up()
        self.process.kill()
        self.process.wait()

    def source(self, path="/", **fields):
        """source_config for it."""
        s = {"source_type": "ftp", "host": self.address, "port": self.port, "username": self.user, "password": self.password, "path": path}
        if self.tls:
            s.update(tls_mode="implicit" if self.implicit else "explicit", tls={"ca_pem": self.tls[1]})
        s.update(fields)
        return {k: v for k, v in s.items() if v is not None}


class Vsftpd(FtpServer):
    """LIST alone; anonymous. Names that begin with a dot need LIST -a."""
    name, mlsd, user, password = "vsftpd", False, "anonymous", None

    def argv(self):
        conf = {"listen": "YES", "listen_address": self.address, "listen_port": self.port, "background": "NO", "anonymous_enable": "YES", "local_enable": "NO", "anon_root": self.root,
                "no_anon_password": "YES", "ftp_username": "sys", "secure_chroot_dir": os.path.join(self.dir, "empty"), "pasv_min_port": self.passive,
                "pasv_max_port": self.passive + 199, "seccomp_sandbox": "NO", "max_per_ip": 50, "use_localtime": "NO"}
        if self.tls:
            conf.update(ssl_enable="YES", allow_anon_ssl="YES", force_anon_data_ssl="NO", force_anon_logins_ssl="NO", require_ssl_reuse="YES", ssl_ciphers="HIGH", rsa_cert_file=self.tls[0],
                        rsa_private_key_file=self.tls[0], implicit_ssl="YES" if self.implicit else "NO")
        conf.update(self.options)
        os.mkdir(os.path.join(self.dir, "empty"), 0o755)
        return [program("usr/sbin/vsftpd"), self.file("vsftpd.conf", "".join("%s=%s\n" % x for x in conf.items()))]


class PureFtpd(FtpServer):
    """MLSD; names with control characters are left out by the server itself. limit: of entries of a listing. args: more of its own."""
    name, mlsd = "pure-ftpd", True

    def argv(self):
        hashed = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=self.password + "\n", stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
        users = self.file("passwd", "%s:%s:3:3::%s/./::::::::::::\n" % (self.user, hashed, self.root), 0o600)
        db = os.path.join(self.dir, "users.pdb")
        subprocess.run([program("usr/bin/pure-pw"), "mkdb", db, "-f", users], check=True, stdin=subprocess.DEVNULL)
        argv = [program("usr/sbin/pure-ftpd"), "-S", "%s,%d" % (self.address, self.port), "-l", "puredb:" + db, "-E", "-A", "-H", "-u", "1", "-p", "%d:%d" % (self.passive, self.passive + 199),
                "-g", os.path.join(self.dir, "pid"), "-c", "50", "-C", "50", "-D", "-w"]
        if self.options.get("limit", "1000000:50"):
            argv += ["-L", self.options.get("limit", "1000000:50")]
        if self.tls:
            argv += ["-Y", "3" if self.implicit else "1", "-2", self.tls[0]]
        return argv + list(self.options.get("args", ()))


class ProFtpd(FtpServer):
    """MLSD and LIST. directives: more lines of its configuration."""
    name, mlsd = "proftpd", True

    def argv(self):
        hashed = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=self.password + "\n", stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
        users = self.file("passwd", "%s:%s:3:3::%s:/bin/sh\n" % (self.user, hashed, self.root), 0o600)
        os.chown(users, 0, 0)
        lines = ["ServerName test", "ServerType standalone", "Port %d" % self.port, "DefaultAddress " + self.address, "SocketBindTight on", "UseIPv6 off", "User sys", "Group sys",
                 "AuthUserFile " + users, "AuthOrder mod_auth_file.c", "RequireValidShell off", "DefaultRoot ~", "PassivePorts %d %d" % (self.passive, self.passive + 199), "UseReverseDNS off",
                 "WtmpLog off", "TransferLog none", "SystemLog none", "ScoreboardFile %s/scoreboard" % self.dir, "PidFile %s/pid" % self.dir, "DelayEngine off", "MaxInstances 60",
                 "TimesGMT on", "ModulePath " + program("usr/lib/proftpd")]
        if self.tls:
            lines += ["LoadModule mod_tls.c", "TLSEngine on", "TLSProtocol TLSv1.2 TLSv1.3", "TLSRequired off", "TLSRSACertificateFile " + self.tls[0],
                      "TLSRSACertificateKeyFile " + self.tls[0], "TLSLog none"]
            if self.implicit:
                lines.append("TLSOptions UseImplicitSSL")
        lines += list(self.options.get("directives", ()))
        return [program("usr/sbin/proftpd"), "-n", "-q", "-c", self.file("proftpd.conf", "\n".join(lines) + "\n")]


ALL = (Vsftpd, PureFtpd, ProFtpd)


# ---- a server that is ours: what no real one says on demand ------------------------------------------------------------------

class Fake:
    """Answers by a table {verb: reply, [reply, data, reply] or None for none}; data (or what a function
    of the current directory gives) goes over the data connection. Each login is
    counted. only: further connections at once are closed without a word. hasty: of commands that come at once it reads the
    first alone."""

    def __init__(self, replies, only=None, hasty=False):
        self.hasty = hasty
        self.replies = dict({"USER": "331 pw", "PASS": "230 in", "PWD": '257 "/"', "SYST": "215 UNIX Type: L8", "FEAT": "502 no", "TYPE": "200 ok", "CWD": "250 ok", "OPTS": "200 ok",
                             "QUIT": "221 bye", "MLSD": "500 what"}, **replies)
        self.commands, self.logins, self.only, self.open, self.turned_away = [], 0, only, 0, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            if self.open == self.only:
                self.turned_away += 1
                c.close()
                continue
            self.open += 1
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def lines(self, c, f):
        while self.hasty:
            got = c.recv(65536)
            if not got:
                return
            yield got.splitlines(True)[0]
        yield from f

    def serve(self, c):
        f = c.makefile("rwb", buffering=0)
        data, at = None, "/"
        f.write(b"220 fake\r\n")
        try:
            for line in self.lines(c, f):
                verb = line.split()[0].decode().upper()
                self.commands.append(line.decode("latin-1").rstrip("\r\n"))
                self.logins += verb == "USER"
                at = self.commands[-1][4:] if verb == "CWD" else at
                reply = self.replies.get(verb, "502 no")
                if verb == "EPSV" and verb not in self.replies:
                    data = socket.create_server(("127.0.0.1", 0))
                    reply = "229 ok (|||%d|)" % data.getsockname()[1]
                elif verb == "PASV" and reply == "listen":
                    data = socket.create_server(("127.0.0.1", 0))
                    p = data.getsockname()[1]
                    # an address that is not ours: nobody may go there
                    reply = "227 ok (192,0,2,1,%d,%d)" % (p >> 8, p & 255)
                if reply is None:
                    continue
                if isinstance(reply, (str, bytes)):
                    f.write((reply if isinstance(reply, bytes) else reply.encode()) + b"\r\n")
                else:
                    f.write(reply[0].encode() + b"\r\n")
                    d, _ = data.accept()
                    d.sendall(reply[1](at) if callable(reply[1]) else reply[1])
                    d.close()
                    data.close()
                    if reply[2] is None:
                        break
                    f.write(reply[2].encode() + b"\r\n")
                if verb == "QUIT":
                    break
        except OSError:
            pass
        f.close()
        c.close()
        self.open -= 1

    def stop(self):
        self.socket.close()

    def source(self, path="/", **fields):
        return dict({"source_type": "ftp", "host": "127.0.0.1", "port": self.port, "path": path, "retries": 0, "probe_mdtm_offset": False}, **fields)
