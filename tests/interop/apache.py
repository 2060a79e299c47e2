"""Runs Apache httpd (Debian's apache2-bin) as a CONNECT proxy over HTTP/2 on loopback, for tests.

Observed with Apache 2.4.71, mod_http2 2.0.42 and pyclient.py:
- CONNECT over HTTP/2 works with `H2ProxyRequests on`; each tunnel holds one HTTP/2 worker thread while it lasts.
- Missing or wrong credentials: 407 with proxy-authenticate and an HTML body; per stream, the session stays up.
- It knows no `_check`: an authority without a port is 400, with and without credentials; `_check:443` is looked up in
  DNS and gives 502. A health check must take any answer as a sign of life.
- A refused target is 503, an unknown name 502, without x-warning or proxy-status.
- Client half-close works. After the target's half-close the END_STREAM is held back until the client ends its side too
  or the tunnel's Timeout has passed (then RST_STREAM NO_ERROR).
- A target's reset looks like a clean end of the stream.
"""
import os
import shutil
import subprocess

MODULES = "/usr/lib/apache2/modules"
LOADED = ("mpm_event", "authz_core", "authz_user", "authn_core", "authn_file", "auth_basic", "ssl", "http2", "proxy",
          "proxy_connect", "proxy_http")

CONFIG = """\
ServerRoot {dir}
PidFile {dir}/pid
Listen {host}:{port}
ServerName {host}
{modules}
ErrorLog {dir}/error.log
LogLevel warn
{user}
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
Timeout {timeout}
<VirtualHost {host}:{port}>
SSLEngine on
SSLCertificateFile {cert}
SSLCertificateKeyFile {key}
Protocols h2
H2ProxyRequests on
H2MinWorkers 16
H2MaxWorkers 600
H2MaxSessionStreams 1000
ProxyRequests on
AllowCONNECT 1-65535
<Proxy "*">
{access}
</Proxy>
</VirtualHost>
"""

ACCESS = """\
AuthType Basic
AuthName "apache"
AuthUserFile {dir}/users
Require valid-user"""


def find_apache():
    return shutil.which("apache2", path=os.environ.get("PATH", "") + ":/usr/sbin") if os.path.isdir(MODULES) else None


def hashed(password):
    return subprocess.run(["openssl", "passwd", "-apr1", "-stdin"], input=password, capture_output=True, text=True,
                          check=True).stdout.strip()


def command(directory, host, port, cert, key, user=None, timeout=60):
    """Writes the configuration below directory and returns the command line. user is (name, password) or None."""
    if user is not None:
        with open(os.path.join(directory, "users"), "w") as out:
            out.write(f"{user[0]}:{hashed(user[1])}\n")
    root = os.getuid() == 0
    if root:     # the workers give up root and must still reach the password file
        os.chmod(directory, 0o755)
    path = os.path.join(directory, "apache.conf")
    with open(path, "w") as out:
        out.write(CONFIG.format(
            dir=directory, host=host, port=port, cert=cert, key=key, timeout=timeout,
            modules="\n".join(f"LoadModule {m}_module {MODULES}/mod_{m}.so" for m in LOADED),
            user="User nobody\nGroup nogroup" if root else "",
            access=ACCESS.format(dir=directory) if user is not None else "Require all granted"))
    return [find_apache(), "-f", path, "-DFOREGROUND"]
