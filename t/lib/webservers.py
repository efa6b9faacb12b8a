"""webservers.py - real web servers for the tests: nginx, apache, lighttpd, Caddy, Python's own, each on free ports of loopback.

Each class takes the folder to serve, starts its server without systemd and with no file outside of a temporary folder, and
waits until each of its ports answers. `.url[kind]` is the address of one way to show an index. They end with the test.
Answers is a server of our own that says what a test wants: a status, a header, a page cut short.
"""
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import poller
from poller import Timeout, folder, free_port, run, wait_for

WANTED = {"nginx": "nginx", "apache": "apache2", "lighttpd": "lighttpd", "caddy": "caddy"}


def find(name):
    """Path of a server's program, or None."""
    return shutil.which(WANTED[name], path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")


def answers(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


class Server:
    """Base: a process in the foreground, its log, its ports."""

    def start(self, argv, ports, env=None):
        self.dir = getattr(self, "dir", None) or folder()
        self.log = open(os.path.join(self.dir, "out.log"), "wb")
        # sys.stdin may be the test's own; servers get none.
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env,
                                     start_new_session=True)
        poller._processes.append(self.proc)
        for p in ports:
            wait_for("port %d of %s" % (p, argv[0]), lambda: self.alive() and answers(p), 20)

    def alive(self):
        if self.proc.poll() is not None:
            with open(os.path.join(self.dir, "out.log"), "rb") as f:
                raise Timeout("%s ended with %d: %s" % (type(self).__name__, self.proc.returncode,
                                                        f.read()[-2000:].decode("utf-8", "replace")))
        return True

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            self.proc.wait(10)

    def work(self):
        self.dir = folder()
        os.chmod(self.dir, 0o755)
        return self.dir


def certificate(d, name="localhost", ip="127.0.0.1"):
    """A self-signed certificate: (certificate's file, key's file)."""
    crt, key = os.path.join(d, name + ".crt"), os.path.join(d, name + ".key")
    code, _, err = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=" + name, "-addext", "subjectAltName=DNS:%s,IP:%s" % (name, ip), "-keyout", key, "-out", crt)
    if code:
        raise Timeout("openssl: %s" % err)
    return crt, key


class Nginx(Server):
    """html, json, xml, gzip (JSON, compressed), tls (JSON, https), mtls (asks for the client's certificate)."""

    def __init__(self, root, extra=""):
        d = self.work()
        kinds = ("html", "json", "xml", "gzip", "tls", "mtls")
        self.port = {k: free_port() for k in kinds}
        self.url = {k: "http%s://127.0.0.1:%d/" % ("s" if "tls" in k else "", p) for k, p in self.port.items()}
        self.crt, self.key = certificate(d)
        self.client = certificate(d, "client")
        tls = "ssl_certificate %s; ssl_certificate_key %s;" % (self.crt, self.key)
        servers = [
            "listen 127.0.0.1:%(html)d; autoindex on; autoindex_format html;",
            "listen 127.0.0.1:%(json)d; autoindex on; autoindex_format json;",
            "listen 127.0.0.1:%(xml)d; autoindex on; autoindex_format xml;",
            "listen 127.0.0.1:%(gzip)d; autoindex on; autoindex_format json; gzip on; gzip_types application/json; gzip_min_length 20;",
            "listen 127.0.0.1:%(tls)d ssl http2; autoindex on; autoindex_format json;" + tls,
            "listen 127.0.0.1:%(mtls)d ssl; autoindex on; autoindex_format json; ssl_verify_client on; ssl_client_certificate "
            + self.client[0] + ";" + tls,
        ]
        conf = """
            daemon off; worker_processes 1; pid %(d)s/pid; error_log %(d)s/error.log; %(user)s
            events { worker_connections 512; }
            http { access_log %(d)s/access.log; keepalive_requests 1000000; root %(root)s; autoindex_exact_size on;
              autoindex_localtime off; default_type application/octet-stream;
              types { text/csv csv; text/plain txt; text/html html; application/json json; }
              client_body_temp_path %(d)s/cb; proxy_temp_path %(d)s/p; fastcgi_temp_path %(d)s/f;
              uwsgi_temp_path %(d)s/u; scgi_temp_path %(d)s/s; %(extra)s
        """ % {"d": d, "root": root, "extra": extra, "user": "user root;" if os.geteuid() == 0 else ""}
        conf += "".join("server { %s }\n" % (s % self.port) for s in servers) + "}\n"
        with open(os.path.join(d, "conf"), "w") as f:
            f.write(conf)
        self.start([find("nginx"), "-c", os.path.join(d, "conf"), "-e", os.path.join(d, "error.log")], self.port.values())


class Apache(Server):
    """fancy, table, plain, dav; basic and digest (user poller, password pw)."""

    def __init__(self, root):
        d = self.work()
        kinds = ("fancy", "table", "plain", "dav", "basic", "digest")
        self.port = {k: free_port() for k in kinds}
        self.url = {k: "http://127.0.0.1:%d/" % p for k, p in self.port.items()}
        modules = ("mpm_event", "authz_core", "authz_user", "authn_core", "authn_file", "auth_basic", "auth_digest", "dir",
                   "mime", "autoindex", "dav", "dav_fs")
        options = {"fancy": "FancyIndexing NameWidth=* Charset=UTF-8",
                   "table": "FancyIndexing HTMLTable NameWidth=* SuppressDescription TrackModified Charset=UTF-8",
                   "plain": "-FancyIndexing", "dav": "FancyIndexing"}
        os.mkdir(os.path.join(d, "dav"))
        shutil.chown(os.path.join(d, "dav"), "www-data") if os.geteuid() == 0 else None
        with open(os.path.join(d, "mime.types"), "w") as f:
            f.write("text/csv csv\ntext/plain txt\n")
        with open(os.path.join(d, "basic.pw"), "w") as f:
            f.write("poller:%s\n" % run("openssl", "passwd", "-6", "pw")[1].strip())
        import hashlib
        with open(os.path.join(d, "digest.pw"), "w") as f:
            f.write("poller:files:%s\n" % hashlib.md5(b"poller:files:pw").hexdigest())
        conf = ["ServerRoot %s" % d, "ServerName 127.0.0.1", "PidFile %s/pid" % d, "Mutex file:%s/ default" % d,
                "TypesConfig %s/mime.types" % d, "ErrorLog %s/error.log" % d, "User www-data", "Group www-data",
                "KeepAlive On", "MaxKeepAliveRequests 0", "DocumentRoot %s" % root, "DavLockDB %s/dav/db" % d]
        conf += ["LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so" % (m, m) for m in modules]
        conf += ["Listen 127.0.0.1:%d" % p for p in self.port.values()]
        conf += ["<Directory %s>\nOptions Indexes FollowSymLinks\nRequire all granted\n</Directory>" % root]
        for k, p in self.port.items():
            auth = ""
            if k in ("basic", "digest"):
                auth = "AuthType %s\nAuthName files\nAuth%sProvider file\nAuthUserFile %s/%s.pw\nRequire valid-user" % (
                    k, k.capitalize(), d, k)
            conf.append("<VirtualHost 127.0.0.1:%d>\nDocumentRoot %s\n%s\n<Location />\n%s\nIndexOptions %s\n%s\n</Location>\n</VirtualHost>" % (
                p, root, "", "Dav On" if k == "dav" else "", options.get(k, options["fancy"]), auth))
        with open(os.path.join(d, "conf"), "w") as f:
            f.write("\n".join(conf) + "\n")
        self.start([find("apache"), "-DFOREGROUND", "-d", d, "-f", os.path.join(d, "conf")], self.port.values())


class Lighttpd(Server):
    """html, dav"""

    def __init__(self, root):
        d = self.work()
        self.port = {k: free_port() for k in ("html", "dav")}
        self.url = {k: "http://127.0.0.1:%d/" % p for k, p in self.port.items()}
        has_dav = os.path.exists("/usr/lib/lighttpd/mod_webdav.so")
        conf = """
            server.modules = ( "mod_dirlisting"%s )
            server.document-root = "%s"
            server.bind = "127.0.0.1"
            server.port = %d
            server.errorlog = "%s/error.log"
            server.pid-file = "%s/pid"
            dir-listing.activate = "enable"
            dir-listing.encoding = "utf-8"
            mimetype.assign = ( ".csv" => "text/csv", ".txt" => "text/plain", "" => "application/octet-stream" )
            $SERVER["socket"] == "127.0.0.1:%d" { %s }
        """ % (', "mod_webdav"' if has_dav else "", root, self.port["html"], d, d, self.port["dav"],
               'webdav.activate = "enable"' if has_dav else "")
        if not has_dav:
            del self.url["dav"]
        with open(os.path.join(d, "conf"), "w") as f:
            f.write(conf)
        self.start([find("lighttpd"), "-D", "-f", os.path.join(d, "conf")], self.port.values())


class Caddy(Server):
    """browse: HTML, or JSON for those who ask for it"""

    def __init__(self, root):
        d = self.work()
        self.port = {"browse": free_port()}
        self.url = {k: "http://127.0.0.1:%d/" % p for k, p in self.port.items()}
        with open(os.path.join(d, "Caddyfile"), "w") as f:
            f.write("{\n admin off\n auto_https off\n}\nhttp://127.0.0.1:%d {\n root * %s\n file_server browse\n}\n" % (
                self.port["browse"], root))
        self.start([find("caddy"), "run", "--config", os.path.join(d, "Caddyfile"), "--adapter", "caddyfile"],
                   self.port.values(), {"HOME": d, "XDG_DATA_HOME": d, "XDG_CONFIG_HOME": d, "PATH": "/usr/bin:/bin"})


class PythonWeb(Server):
    """http.server: names alone"""

    def __init__(self, root):
        self.work()
        self.port = {"list": free_port()}
        self.url = {k: "http://127.0.0.1:%d/" % p for k, p in self.port.items()}
        self.start([sys.executable, "-m", "http.server", str(self.port["list"]), "--bind", "127.0.0.1", "--directory", root],
                   self.port.values())


class Quiet(http.server.ThreadingHTTPServer):
    """A client that goes in the midst is no news: what it made of that is in its records."""
    daemon_threads, request_queue_size = True, 64

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Answers:
    """Says what `script(request)` returns: a dict of status, headers, body (bytes), raw (bytes: the whole answer, then the
    connection is closed). The requests seen are in .seen: (method, path, headers)."""

    def __init__(self, script, tls=None, ctx=None):
        self.script, self.seen, self.lock = script, [], threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                n = int(self.headers.get("Content-Length") or 0)
                self.body = self.rfile.read(n) if n else b""
                with outer.lock:
                    outer.seen.append((self.command, self.path, dict(self.headers)))
                a = outer.script(self)
                if "raw" in a:
                    self.wfile.write(a["raw"])
                    self.close_connection = True
                    return
                body = a.get("body", b"")
                self.send_response_only(a.get("status", 200))
                for k, v in a.get("headers", {}).items():
                    self.send_header(k, v)
                if "Content-Length" not in a.get("headers", {}):
                    self.send_header("Content-Length", str(len(body)))
                try:
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(body)
                except OSError:
                    self.close_connection = True    # who asked is gone

            do_GET = do_HEAD = do_POST = do_PROPFIND = handle_any

            def log_message(self, *args):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        if tls:
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(*tls)
        if ctx:
            self.server.socket = ctx.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = "http%s://127.0.0.1:%d" % ("s" if ctx else "", self.port)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
