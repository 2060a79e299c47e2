/* main.c - the test endpoint as a program; see usage. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/log.h"
#include "endpoint/endpoint.h"
#include "lib/testca.h"

static const char usage_text[] =
    "Usage: adit-endpoint [--listen IP:PORT] [OPTION]...\n"
    "\n"
    "A TrustTunnel endpoint for tests and demonstrations: HTTP/2 over TLS and HTTP/3 over QUIC on one port, tunnels\n"
    "to loopback only.\n"
    "\n"
    "  --listen IP:PORT      default 127.0.0.1:0; prints `ready PORT` when it listens on TCP and UDP\n"
    "  --cert FILE --key FILE  PEM chain and key\n"
    "  --client-ca FILE      clients must show a certificate that one of these PEM certificates has issued\n"
    "  --make-cert DIR       make a throwaway CA and a certificate for localhost, endpoint.test, 127.0.0.1 and ::1;\n"
    "                        write ca.pem, cert.pem and key.pem (0600) there and use them\n"
    "  --user NAME:PASSWORD  default test:test\n"
    "  --host NAME=IP        a name that the endpoint knows (repeatable)\n"
    "  --no-h2, --no-h3      listen on one transport only\n"
    "  --retry               answer every first QUIC packet with Retry\n"
    "  --max-streams N       concurrent streams allowed\n"
    "  --stream-window N     bytes\n"
    "  --fault NAME[=VALUE]  misbehave (repeatable): udp-drop, udp-drop-after=MS, stall, stall-after=MS,\n"
    "                        goaway-after=N, status=CODE, check-status=CODE, x-warning=CODE, slow-accept=MS, no-alpn,\n"
    "                        refuse-stream=N, instant-200, session-life=MS, dead-man=MS\n"
    "  -v                    more in the log (repeatable)\n"
    "\n"
    "SIGUSR1 sends GOAWAY on all sessions, SIGUSR2 drops UDP from then on (and no longer, the next time).\n";

struct app {
    struct loop *loop;
    struct endpoint *ep;
    struct endpoint_config cfg;
    struct endpoint_faults faults;
    struct addr listen;
    const char *cert, *key, *make, *client_ca;
    char user[256];
    bool no_h2, no_h3;
    unsigned drop_after, stall_after; /* ms */
    struct loop_timer drop, stall;
};

static void die(const char *what, const char *arg) {
    fprintf(stderr, "adit-endpoint: %s%s%s\n", what, arg ? ": " : "", arg ? arg : "");
    exit(2);
}

static char *read_text(const char *path) {
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 1 << 20);
    if (!f || !text || fread(text, 1, (1 << 20) - 1, f) == 0) die("cannot read", path);
    fclose(f);
    return text;
}

static void write_text(const char *dir, const char *name, const char *text) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fchmod(fileno(f), 0600) || fputs(text, f) < 0 || fclose(f)) die("cannot write", path);
}

static struct creds *make_creds(struct app *a) {
    char *cert, *key, why[CREDS_WHY_MAX];
    struct creds *creds;
    if (a->make) {
        struct testca *ca = testca_new("adit throwaway CA");
        struct testca_spec spec = {.names = {"localhost", "endpoint.test"}, .ips = {"127.0.0.1", "::1"}};
        testca_issue(ca, &spec, &cert, &key);
        char *trust = testca_pem(ca);
        write_text(a->make, "ca.pem", trust);
        write_text(a->make, "cert.pem", cert);
        write_text(a->make, "key.pem", key);
        free(trust);
        testca_free(ca);
    } else {
        if (!a->cert || !a->key) die("--cert and --key, or --make-cert, are needed", NULL);
        cert = read_text(a->cert);
        key = read_text(a->key);
    }
    char *client_ca = a->client_ca ? read_text(a->client_ca) : NULL;
    struct creds_config c = {.server = true, .certificate_pem = cert, .key_pem = key, .trust_pem = client_ca,
                             .tickets = true};
    if (creds_new(&creds, &c, why, sizeof why)) die(why, NULL);
    free(client_ca);
    free(cert);
    free(key);
    return creds;
}

static void parse_fault(struct app *a, const char *text) {
    struct endpoint_faults *f = &a->faults;
    const char *eq = strchr(text, '=');
    size_t n = eq ? (size_t)(eq - text) : strlen(text);
    unsigned value = eq ? (unsigned)strtoul(eq + 1, NULL, 10) : 1;
    const struct {
        const char *name;
        unsigned *number;
        int *integer;
        bool *flag;
    } table[] = {
        {"udp-drop", NULL, NULL, &f->udp_drop},        {"udp-drop-after", &a->drop_after, NULL, NULL},
        {"stall", NULL, NULL, &f->stall},              {"stall-after", &a->stall_after, NULL, NULL},
        {"goaway-after", &f->goaway_after, NULL, NULL}, {"status", NULL, &f->status, NULL},
        {"check-status", NULL, &f->check_status, NULL}, {"x-warning", NULL, &f->x_warning, NULL},
        {"slow-accept", &f->slow_accept, NULL, NULL},  {"no-alpn", NULL, NULL, &f->no_alpn},
        {"refuse-stream", &f->refuse_streams, NULL, NULL}, {"instant-200", NULL, NULL, &f->instant_200},
        {"max-sessions", &f->max_sessions, NULL, NULL},
        {"session-life", &f->session_life, NULL, NULL}, {"dead-man", &f->dead_man, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strlen(table[i].name) != n || memcmp(table[i].name, text, n)) continue;
        if (table[i].number) *table[i].number = value;
        if (table[i].integer) *table[i].integer = (int)value;
        if (table[i].flag) *table[i].flag = true;
        return;
    }
    die("unknown fault", text);
}

static void parse_host(struct app *a, char *text) {
    char *eq = strchr(text, '=');
    struct addr ip;
    size_t i = 0;
    if (!eq) die("--host wants NAME=IP", text);
    *eq = 0;
    if (addr_parse_ip(&ip, eq + 1, 1)) die("not an IP address", eq + 1);
    while (i < ENDPOINT_HOSTS - 1 && a->cfg.hosts[i].name) i++;
    a->cfg.hosts[i].name = text;
    a->cfg.hosts[i].ip = eq + 1;
}

static void on_drop(void *arg) { endpoint_faults(((struct app *)arg)->ep)->udp_drop = true; }
static void on_stall(void *arg) { endpoint_faults(((struct app *)arg)->ep)->stall = true; }

static void on_signal(int signum, void *arg) {
    struct app *a = arg;
    struct endpoint_faults *f = endpoint_faults(a->ep);
    if (signum == SIGUSR1) {
        endpoint_goaway(a->ep);
    } else if (signum == SIGUSR2) {
        f->udp_drop = !f->udp_drop;
    } else {
        const struct endpoint_counts *c = endpoint_counts(a->ep);
        printf("counts sessions_h2=%u sessions_h3=%u requests_h2=%u requests_h3=%u checks=%u refused_auth=%u "
               "tunnels=%u tunnels_open=%u\n",
               c->sessions_h2, c->sessions_h3, c->requests_h2, c->requests_h3, c->checks, c->refused_auth, c->tunnels,
               c->tunnels_open);
        loop_stop(a->loop);
    }
}

static int run(struct app *a) {
    struct addr bound = a->listen;
    int e = 0;
    a->ep = endpoint_new(&a->cfg);
    if (!a->ep) die("out of memory", NULL);
    *endpoint_faults(a->ep) = a->faults;
    if (!a->no_h2) e = endpoint_listen_tcp(a->ep, &a->listen, &bound);
    if (!e && !a->no_h3) {
        struct addr udp_bound;
        e = endpoint_listen_udp(a->ep, &bound, &udp_bound);
        bound = udp_bound;
    }
    if (e) die("cannot listen", strerror(e));
    struct loop_signal signals[4];
    const int numbers[4] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    for (int i = 0; i < 4; i++) {
        loop_signal_init(&signals[i], a->loop, on_signal, a);
        loop_signal_start(&signals[i], numbers[i]);
    }
    loop_timer_init(&a->drop, a->loop, on_drop, a);
    loop_timer_init(&a->stall, a->loop, on_stall, a);
    if (a->drop_after) loop_timer_set(&a->drop, loop_now(a->loop) + a->drop_after * LOOP_MS);
    if (a->stall_after) loop_timer_set(&a->stall, loop_now(a->loop) + a->stall_after * LOOP_MS);
    printf("ready %u\n", addr_port(&bound));
    fflush(stdout);
    loop_run(a->loop);
    for (int i = 0; i < 4; i++) loop_signal_stop(&signals[i]);
    loop_timer_stop(&a->drop);
    loop_timer_stop(&a->stall);
    endpoint_free(a->ep);
    return 0;
}

static void parse(struct app *a, int argc, char **argv) {
    enum { LISTEN = 256, CERT, KEY, CLIENT_CA, MAKE, USER, HOST, NO_H2, NO_H3, RETRY, STREAMS, WINDOW, FAULT };
    static const struct option options[] = {
        {"listen", 1, NULL, LISTEN}, {"cert", 1, NULL, CERT},   {"key", 1, NULL, KEY},
        {"client-ca", 1, NULL, CLIENT_CA},
        {"make-cert", 1, NULL, MAKE}, {"user", 1, NULL, USER},  {"host", 1, NULL, HOST},
        {"no-h2", 0, NULL, NO_H2},   {"no-h3", 0, NULL, NO_H3}, {"retry", 0, NULL, RETRY},
        {"max-streams", 1, NULL, STREAMS}, {"stream-window", 1, NULL, WINDOW}, {"fault", 1, NULL, FAULT},
        {"help", 0, NULL, 'h'},      {NULL, 0, NULL, 0}};
    int opt, level = LOG_INFO;
    while ((opt = getopt_long(argc, argv, "hv", options, NULL)) != -1) {
        switch (opt) {
        case LISTEN:
            if (addr_parse(&a->listen, optarg)) die("not an address", optarg);
            break;
        case CERT: a->cert = optarg; break;
        case KEY: a->key = optarg; break;
        case CLIENT_CA: a->client_ca = optarg; break;
        case MAKE: a->make = optarg; break;
        case USER: snprintf(a->user, sizeof a->user, "%s", optarg); break;
        case HOST: parse_host(a, optarg); break;
        case NO_H2: a->no_h2 = true; break;
        case NO_H3: a->no_h3 = true; break;
        case RETRY: a->cfg.retry = true; break;
        case STREAMS: a->cfg.max_streams = (unsigned)strtoul(optarg, NULL, 10); break;
        case WINDOW: a->cfg.stream_window = (uint32_t)strtoul(optarg, NULL, 10); break;
        case FAULT: parse_fault(a, optarg); break;
        case 'v': level++; break;
        case 'h': fputs(usage_text, stdout); exit(0);
        default: exit(2);
        }
    }
    log_set_level(level > LOG_TRACE ? LOG_TRACE : (enum log_level)level);
}

int main(int argc, char **argv) {
    static struct app a = {.user = "test:test"};
    struct rlimit r;
    addr_parse(&a.listen, "127.0.0.1:0");
    parse(&a, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
    char *colon = strchr(a.user, ':');
    if (!colon) die("--user wants NAME:PASSWORD", NULL);
    *colon = 0;
    a.cfg.user = a.user;
    a.cfg.password = colon + 1;
    a.loop = loop_new();
    if (!a.loop) die("cannot make an event loop", strerror(errno));
    a.cfg.loop = a.loop;
    a.cfg.creds = make_creds(&a);
    run(&a);
    creds_unref(a.cfg.creds);
    loop_free(a.loop);
    return 0;
}
