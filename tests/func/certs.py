"""Throw-away certificates for tests, made with GnuTLS's certtool."""
import base64
import os
import subprocess

HOSTNAME = "tt.test"
# Of an ECPrivateKey (RFC 5915): version 1 and an octet string of 32 bytes.
FULL_LENGTH = b"\x02\x01\x01\x04\x20"


class Certs:
    """A CA and leaves in a directory. Leaves are (certificate chain file, key file) pairs."""

    def __init__(self, directory, ca_name="Test CA"):
        self.dir = directory
        self.ca_key = self.path("ca.key")
        self.ca = self.path("ca.pem")
        self.key(self.ca_key)
        self.run("--generate-self-signed", "--load-privkey", self.ca_key, "--outfile", self.ca, template=(
            f'cn = "{ca_name}"', "ca", "cert_signing_key", "expiration_days = 3650"))

    def path(self, name):
        return os.path.join(self.dir, name)

    def run(self, *args, template=None):
        args = list(args)
        if template is not None:
            path = self.path("template")
            with open(path, "w") as out:
                out.write("\n".join(template) + "\n")
            args += ["--template", path]
        done = subprocess.run(["certtool", "--no-text", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"certtool {' '.join(args)}: {done.stderr}")

    def key(self, path):
        """One key in 256 begins with a zero byte, which certtool leaves out and OpenSSL insists on: not such a one."""
        while True:
            self.run("--generate-privkey", "--key-type=ecdsa", "--curve=secp256r1", "--outfile", path)
            if FULL_LENGTH in base64.b64decode("".join(read(path).splitlines()[1:-1])):
                return

    def leaf(self, name="leaf", dns=(HOSTNAME,), ips=(), lines=("expiration_days = 365",)):
        """(certificate, key); the certificate file also holds the CA, as deployed endpoints send it."""
        cert, key = self.path(name + ".pem"), self.path(name + ".key")
        self.key(key)
        template = [f'cn = "{dns[0] if dns else name}"', "signing_key", "tls_www_server", *lines]
        template += [f'dns_name = "{d}"' for d in dns] + [f'ip_address = "{i}"' for i in ips]
        self.run("--generate-certificate", "--load-privkey", key, "--load-ca-certificate", self.ca,
                 "--load-ca-privkey", self.ca_key, "--outfile", cert, template=template)
        with open(cert, "a") as out, open(self.ca) as ca:
            out.write(ca.read())
        return cert, key

    def expired(self, name="expired"):
        return self.leaf(name, lines=('activation_date = "2020-01-01 00:00:00"',
                                      'expiration_date = "2020-06-01 00:00:00"'))


def read(path):
    with open(path) as file:
        return file.read()
