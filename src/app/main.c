/* main.c - the command line: reads the configuration, runs the gateway, and turns outcomes into exit codes. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app/conf.h"
#include "app/gateway.h"
#include "app/version.h"
#include "base/log.h"
#include "base/loop.h"

enum exit_code { EXIT_OK = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2, EXIT_CONFIG = 78 };

/* A second SIGTERM or this long ends what still drains. */
#define DRAIN_MAX (30 * LOOP_S)

static const char usage_text[] =
    "Usage: adit [-c FILE] [-l LEVEL]\n"
    "       adit check [-c FILE]\n"
    "\n"
    "Listens on loopback for SOCKS5 and HTTP CONNECT and carries every connection through\n"
    "an HTTP/3 or HTTP/2 session to a TrustTunnel endpoint.\n"
    "\n"
    "  -c, --config FILE      the configuration (default: adit.toml in the current directory);\n"
    "                         an endpoint's export or the official client's file will do\n"
    "  -l, --log-level LEVEL  error, warn, info, debug or trace, whatever the file says\n"
    "      --options          list the options of the configuration file and leave\n"
    "  -h, --help             show this and leave\n"
    "  -V, --version          show the versions of adit and its libraries and leave\n"
    "\n"
    "  check                  read the configuration, say what is wrong with it, and leave\n"
    "\n"
    "Signals: SIGTERM and SIGINT let running connections end; a second one ends them.\n"
    "Exit codes: 0 in order, 1 a failure at run time, 2 wrong usage, 78 a wrong configuration.\n"
    "See adit(1) and adit.toml(5).\n";

struct app {
    struct loop *loop;
    struct gateway *gateway;
    struct loop_signal term, interrupt;
    struct loop_timer limit;
    bool draining;
};

static void on_drained(void *arg) {
    struct app *a = arg;
    loop_stop(a->loop);
}

static void on_limit(void *arg) {
    struct app *a = arg;
    log_warn("main", "connections are still open; ending them flows=%u", gateway_flows(a->gateway));
    loop_stop(a->loop);
}

static void on_signal(int signum, void *arg) {
    struct app *a = arg;
    const char *name = signum == SIGINT ? "INT" : "TERM";
    if (a->draining) {
        log_info("main", "second signal: ending now signal=%s flows=%u", name, gateway_flows(a->gateway));
        loop_stop(a->loop);
        return;
    }
    a->draining = true;
    log_info("main", "draining signal=%s flows=%u", name, gateway_flows(a->gateway));
    loop_timer_set(&a->limit, loop_now(a->loop) + DRAIN_MAX);
    gateway_drain(a->gateway, on_drained, a);
}

/* Thousands of connections need thousands of descriptors; the hard limit is what the system grants. */
static void raise_nofile(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r)) log_warn("main", "cannot raise the descriptor limit: %s", strerror(errno));
    }
}

static int run(struct conf *conf) {
    struct app a = {0};
    char why[GATEWAY_WHY_MAX];
    a.loop = loop_new();
    if (!a.loop) {
        fprintf(stderr, "adit: cannot make an event loop: %s\n", strerror(errno));
        return EXIT_RUNTIME;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_nofile();
    int r = gateway_new(&a.gateway, a.loop, conf, why, sizeof why);
    if (r) {
        fprintf(stderr, "adit: %s\n", why);
        loop_free(a.loop);
        return r == ERR_CONFIG ? EXIT_CONFIG : EXIT_RUNTIME;
    }
    loop_signal_init(&a.term, a.loop, on_signal, &a);
    loop_signal_init(&a.interrupt, a.loop, on_signal, &a);
    loop_timer_init(&a.limit, a.loop, on_limit, &a);
    loop_signal_start(&a.term, SIGTERM);
    loop_signal_start(&a.interrupt, SIGINT);
    gateway_start(a.gateway);
    loop_run(a.loop);
    loop_signal_stop(&a.term);
    loop_signal_stop(&a.interrupt);
    loop_timer_stop(&a.limit);
    gateway_free(a.gateway);
    log_info("main", "ended");
    loop_free(a.loop);
    return EXIT_OK;
}

static int check(struct conf *conf) {
    char why[GATEWAY_WHY_MAX];
    if (gateway_check(conf, why, sizeof why)) {
        fprintf(stderr, "adit: %s\n", why);
        return EXIT_CONFIG;
    }
    printf("%s: ok\n", conf->name);
    return EXIT_OK;
}

static int usage_error(const char *what, const char *arg) {
    fprintf(stderr, "adit: %s%s%s\nTry 'adit --help'.\n", what, arg ? " " : "", arg ? arg : "");
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    enum { OPT_OPTIONS = 256 };
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {"options", no_argument, NULL, OPT_OPTIONS},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    const char *path = "adit.toml";
    int level = -1, opt;
    bool only_check = false;
    while ((opt = getopt_long(argc, argv, "c:l:hV", options, NULL)) != -1) {
        switch (opt) {
        case 'c': path = optarg; break;
        case 'l':
            level = log_level_parse(optarg);
            if (level < 0) return usage_error("unknown log level", optarg);
            break;
        case OPT_OPTIONS: conf_print_options(stdout); return EXIT_OK;
        case 'h': fputs(usage_text, stdout); return EXIT_OK;
        case 'V': version_print(stdout); return EXIT_OK;
        default: return usage_error("unknown option or missing argument", NULL);
        }
    }
    if (optind < argc && strcmp(argv[optind], "check") == 0) {
        only_check = true;
        optind++;
    }
    if (optind < argc) return usage_error("unexpected argument", argv[optind]);

    struct conf *conf;
    struct conf_report *report = malloc(sizeof *report);
    if (!report) return EXIT_RUNTIME;
    int r = conf_load_file(path, &conf, report);
    conf_report_print(report, stderr);
    free(report);
    if (r) return r == ERR_NO_MEMORY ? EXIT_RUNTIME : EXIT_CONFIG;
    log_set_level(level >= 0 ? (enum log_level)level : conf->log_level);
    r = only_check ? check(conf) : run(conf);
    conf_unref(conf);
    return r;
}
