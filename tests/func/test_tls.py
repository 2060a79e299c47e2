#!/usr/bin/env python3
"""Who the endpoint is, and who adit is: certificates, pins, keys and passwords from files, session tickets."""
import base64
import hashlib
import os
import signal
import subprocess

import certs
import clients
import targets
from clients import http_connect, socks5, socks5_rep
from harness import BOTH, C, H2_H3, PASSWORD, PY, case, check, main, program, wait_until

PROMPT = dict(recovery_wait="2s", health_timeout="2s", handshake_timeout="2s", connect_timeout="5s")


def works(t, adit, echo):
    with socks5(adit.port, "127.0.0.1", echo.port, timeout=20) as sock:
        check(clients.ping(sock), "no echo")


def refused(t, endpoint, words, **options):
    """Nothing goes through, and every word is in the log."""
    echo = targets.echo(t)
    before = len(endpoint.events("request"))
    adit = t.adit(endpoint, **PROMPT, **options)
    rep = socks5_rep(adit.port, "127.0.0.1", echo.port)
    check(rep == 1, f"REP {rep}")
    answer = http_connect(adit.port, f"127.0.0.1:{echo.port}")
    check(answer.status == 502 and "tls_certificate_error" in answer.headers.get("proxy-status", ""), answer)
    check(echo.connections == 0, "the target was reached")
    if endpoint.kind == PY:
        check(len(endpoint.events("request")) == before, "credentials went to an unverified endpoint")
    for word in words:
        check(word in adit.stderr(), f"{word!r} is not in the log")


def der(path):
    """The first certificate of a PEM file."""
    body = certs.read(path).split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
    return base64.b64decode(body)


def key_pin(t, path):
    """As curl wants it, made by certtool."""
    public = t.path("public.pem")
    subprocess.run(["certtool", "--pubkey-info", "--infile", path, "--outfile", public], check=True, capture_output=True,
                   stdin=subprocess.DEVNULL)
    body = certs.read(public).split("-----BEGIN PUBLIC KEY-----")[1].split("-----END")[0]
    return "sha256//" + base64.b64encode(hashlib.sha256(base64.b64decode(body)).digest()).decode()


def only_the_first(t, path):
    """The same file without the issuers."""
    short = t.path("short.pem")
    with open(short, "w") as out:
        out.write(certs.read(path).split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    return short


def write(t, name, text, mode=0o600):
    path = t.path(name)
    with open(path, "w") as out:
        out.write(text)
    os.chmod(path, mode)
    return path


# ---- what is refused, and in which words ---------------------------------------------------------------------------
@case(endpoints=(C,), transports=H2_H3)
def an_expired_certificate_is_named(t):
    refused(t, t.endpoint(leaf=t.shared.certs.expired("old")), ("the certificate expired on 2020-06-01", "is the clock right?"))


@case(endpoints=(C,), transports=H2_H3)
def a_certificate_of_the_future_is_named(t):
    leaf = t.shared.certs.leaf("early", lines=('activation_date = "2090-01-01 00:00:00"',
                                               'expiration_date = "2091-01-01 00:00:00"'))
    refused(t, t.endpoint(leaf=leaf), ("the certificate is not valid before 2090-01-01", "is the clock right?"))


@case(endpoints=(C,), transports=H2_H3)
def another_name_is_named(t):
    refused(t, t.endpoint(leaf=t.shared.certs.leaf("named", dns=("other.test",))),
            ("name mismatch: certificate is for other.test, not for tt.test",))


@case(endpoints=BOTH, transports=H2_H3)
def a_captive_portal_is_suspected(t):
    leaf = certs.Certs(t.dir, "Hotel").leaf(dns=("login.hotel.test",))
    refused(t, t.endpoint(leaf=leaf), ("certificate mismatch: captive portal? name mismatch: certificate is for "
                                       "login.hotel.test, not for tt.test; nor is its issuer CN=Hotel trusted",))


@case(endpoints=(C,), transports=H2_H3)
def an_unknown_authority_is_named(t):
    leaf = certs.Certs(t.dir, "Somebody else").leaf()
    refused(t, t.endpoint(leaf=leaf), ("unknown issuer: the chain of 2 certificates ends at CN=Somebody else",))


@case(endpoints=(C,), transports=H2_H3)
def a_chain_without_its_issuers_is_named(t):
    cert, key = certs.Certs(t.dir, "Somebody else").leaf()
    refused(t, t.endpoint(leaf=(only_the_first(t, cert), key)),
            ("chain incomplete: the endpoint sent 1 certificate, the issuer CN=Somebody else is neither",))


@case(endpoints=(C,), transports=H2_H3)
def a_self_signed_certificate_is_named(t):
    cert, key = t.path("self.pem"), t.path("self.key")
    own = certs.Certs(t.dir, "unused")
    own.key(key)
    own.run("--generate-self-signed", "--load-privkey", key, "--outfile", cert, template=(
        'cn = "tt.test"', 'dns_name = "tt.test"', "signing_key", "tls_www_server", "expiration_days = 30"))
    refused(t, t.endpoint(leaf=(cert, key)), ("self-signed: the certificate of CN=tt.test was issued by itself",))


# ---- pins --------------------------------------------------------------------------------------------------------
@case(endpoints=BOTH, transports=H2_H3)
def a_pin_that_fits(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    pins = (key_pin(t, endpoint.cert), "cert-sha256:" + hashlib.sha256(der(endpoint.cert)).hexdigest())
    for pin in pins:
        adit = t.adit(endpoint, pins=["sha256//" + "A" * 43 + "=", pin])
        works(t, adit, echo)
        adit.stop()


@case(endpoints=BOTH, transports=H2_H3)
def a_pin_that_does_not_fit(t):
    endpoint = t.endpoint()
    refused(t, endpoint, ("pin mismatch: the certificate has the public key " + key_pin(t, endpoint.cert),),
            pins=["sha256//" + "A" * 43 + "="])


@case(endpoints=BOTH, transports=H2_H3)
def a_pin_alone(t):
    """Without verification: another issuer, another name; neither accepted without the pin, nor with noise."""
    endpoint, echo = t.endpoint(leaf=certs.Certs(t.dir, "Somebody else").leaf(dns=("other.test",))), targets.echo(t)
    adit = t.adit(endpoint, skip_verification=True, pins=[key_pin(t, endpoint.cert)])
    works(t, adit, echo)
    check("NOT VERIFIED" not in adit.stderr() and "any certificate" not in adit.stderr(), "a warning")
    adit.stop()
    refused(t, endpoint, ("pin mismatch",), skip_verification=True, pins=["sha256//" + "A" * 43 + "="])


# ---- client certificates -------------------------------------------------------------------------------------------
@case(endpoints=(C,), transports=H2_H3)
def a_client_certificate_from_files(t):
    """Beside the configuration, and by the names that stand in it."""
    authority = certs.Certs(t.dir, "Of clients")
    cert, key = t.path("client.pem"), t.path("client.key")
    authority.key(key)
    authority.run("--generate-certificate", "--load-privkey", key, "--load-ca-certificate", authority.ca,
                  "--load-ca-privkey", authority.ca_key, "--outfile", cert,
                  template=('cn = "a client"', "signing_key", "tls_www_client", "expiration_days = 30"))
    endpoint, echo = t.endpoint("--client-ca", authority.ca), targets.echo(t)
    with_it = t.adit(endpoint, client_certificate_file="client.pem", client_key_file="client.key")
    works(t, with_it, echo)
    with_it.stop()
    without = t.adit(endpoint, **PROMPT)
    check(socks5_rep(without.port, "127.0.0.1", echo.port) != 0, "went through without a certificate")
    without.wait_log("116")


def run_check(path, env=None):
    return subprocess.run([program("ADIT", "adit"), "check", "-c", path], capture_output=True, text=True, timeout=30,
                          env=dict(os.environ, **(env or {})), cwd="/")


@case()
def files_that_cannot_be_used_are_78(t):
    one, two = t.shared.certs.leaf("one"), t.shared.certs.leaf("two")
    for options, words in (
            (dict(client_certificate_file=one[0], client_key_file=two[1]), ("client_certificate: ", "do not match")),
            (dict(client_certificate_file=one[0], client_key_file="nowhere.key"), ("client_key", "No such file")),
            (dict(client_certificate_file=one[0]), ("needs a 'client_key'",)),
            (dict(client_key_file=one[1]), ("needs a 'client_certificate'",)),
            (dict(certificate=None, certificate_file=one[1]), ("certificates in PEM format",)),
            (dict(password_file="nowhere"), ("are both set",)),
            (dict(password=None, password_file="nowhere"), ("password", "No such file")),
            (dict(password=None, password_file="credential:x"), ("$CREDENTIALS_DIRECTORY",))):
        path, _ = t.config(**options)
        done = run_check(path)
        check(done.returncode == 78, f"exit {done.returncode}: {done.stderr}")
        for word in words:
            check(word in done.stderr, f"{word!r} is not in {done.stderr!r}")
        check(f"{path}:" in done.stderr and PASSWORD not in done.stderr, done.stderr)


# ---- secrets in files ----------------------------------------------------------------------------------------------
@case(endpoints=(C,), transports=("http2",))
def passwords_from_files_and_credentials(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    os.mkdir(t.path("credentials"))
    write(t, "password", PASSWORD + "\n")
    write(t, "credentials/mine", PASSWORD)
    write(t, "credentials/endpoint.password", PASSWORD)
    os.environ["CREDENTIALS_DIRECTORY"] = t.path("credentials")
    for options in (dict(password_file="password"), dict(password_file="credential:mine"), dict()):
        adit = t.adit(endpoint, password=None, certificate=None, certificate_file=t.ca, **options)
        works(t, adit, echo)
        check(PASSWORD not in adit.stderr() and "warning" not in adit.stderr(), adit.stderr())
        adit.stop()


@case()
def a_secret_that_others_can_read_is_worth_one_line(t):
    write(t, "password", PASSWORD, 0o644)
    path, _ = t.config(password=None, password_file="password")
    done = run_check(path)
    check(done.returncode == 0 and done.stderr.count("warning") == 1 and "password' (mode 0644)" in done.stderr, done.stderr)
    os.chmod(path, 0o644)
    done = run_check(path)
    check(done.stderr.count("warning") == 1, "the configuration itself holds no secret:", done.stderr)
    path, _ = t.config()
    os.chmod(path, 0o644)
    done = run_check(path)
    check(done.returncode == 0 and done.stderr.count("warning") == 1 and "secrets in it" in done.stderr, done.stderr)


# ---- tickets -------------------------------------------------------------------------------------------------------
@case(endpoints=(PY,), transports=("http2",))
def another_library_resumes_too(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    for resumed in (False, True):
        adit = t.adit(endpoint, ticket_file="tickets")
        works(t, adit, echo)
        adit.stop()
        check(("resumed=yes" in adit.stderr()) == resumed, f"resumed is not {resumed}")


@case(endpoints=(C,), transports=H2_H3)
def the_next_session_is_resumed(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint, **PROMPT)
    works(t, adit, echo)
    check("resumed=yes" not in adit.stderr(), "the first session was resumed")
    endpoint.signal(signal.SIGUSR1)     # GOAWAY
    adit.wait_log("resumed=yes")
    works(t, adit, echo)
    check("NOT VERIFIED" not in adit.stderr(), "not verified")


@case(endpoints=(C,), transports=H2_H3)
def tickets_outlive_adit_but_not_what_is_verified(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    for options, resumed in ((dict(), False), (dict(), True), (dict(pins=[key_pin(t, endpoint.cert)]), False)):
        adit = t.adit(endpoint, ticket_file="tickets", **options)
        check(not os.path.exists(t.path("tickets")), "still there")
        works(t, adit, echo)
        adit.stop()
        check(("resumed=yes" in adit.stderr()) == resumed, f"resumed is not {resumed}")
        check(os.stat(t.path("tickets")).st_mode & 0o7777 == 0o600, "wrong mode")
    check("the ticket file is not used: it is of another endpoint" in adit.stderr(), "not said")
    write(t, "tickets", "garbage")
    adit = t.adit(endpoint, ticket_file="tickets")
    works(t, adit, echo)
    check(adit.stderr().count("the ticket file is not used") == 1, adit.stderr())


# ---- reloads -------------------------------------------------------------------------------------------------------
def reload(t, adit, endpoint, **options):
    path, _ = t.config(endpoint, port=adit.port, **options)
    os.replace(path, adit.config)
    adit.signal(signal.SIGHUP)


@case(endpoints=(C,), transports=H2_H3)
def a_reload_keeps_tickets_unless_verification_changed(t):
    endpoint, echo = t.endpoint(), targets.echo(t)
    adit = t.adit(endpoint)
    works(t, adit, echo)
    for n, (options, resumed) in enumerate(((dict(recovery_wait="5s"), 1), (dict(pins=[key_pin(t, endpoint.cert)]), 1))):
        reload(t, adit, endpoint, **options)
        wait_until(lambda: adit.stderr().count("session up") == n + 2, 10, "another session")
        works(t, adit, echo)
        check(adit.stderr().count("resumed=yes") == resumed, f"not {resumed} resumed sessions after {options}")


@case(endpoints=(C,), transports=H2_H3)
def a_reload_reads_files_anew_and_takes_no_bad_ones(t):
    """Another password in the file; then keys that do not fit and files that are not there change nothing."""
    endpoint, echo = t.endpoint(), targets.echo(t)
    one, two = t.shared.certs.leaf("one"), t.shared.certs.leaf("two")
    write(t, "password", "wrong")
    adit = t.adit(endpoint, **PROMPT, password=None, password_file="password")
    adit.wait_log("credentials rejected")
    write(t, "password", PASSWORD)
    adit.signal(signal.SIGHUP)
    adit.wait_log("reloaded")
    works(t, adit, echo)
    for n, (options, word) in enumerate(((dict(client_certificate_file=one[0], client_key_file=two[1]), "do not match"),
                                         (dict(client_certificate_file=one[0], client_key_file="no.key"), "No such file"))):
        reload(t, adit, endpoint, **options)
        wait_until(lambda: adit.stderr().count("nothing was changed") == n + 1, 5, "the refusal")
        check(word in adit.stderr(), f"{word!r} is not in the log")
        works(t, adit, echo)


if __name__ == "__main__":
    main()
