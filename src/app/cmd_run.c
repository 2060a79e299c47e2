#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "app/cmd.h"
#include "app/gateway.h"
#include "base/log.h"
#include "base/loop.h"

/* A second SIGTERM or this long ends what still drains. */
#define DRAIN_MAX (30 * LOOP_S)

struct app {
    struct loop *loop;
    struct gateway *gateway;
    struct loop_signal term, interrupt, hangup;
    const struct cmd_globals *globals;
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

/* A configuration that is wrong changes nothing. */
static void on_hangup(int signum, void *arg) {
    struct app *a = arg;
    char why[GATEWAY_WHY_MAX];
    struct conf *conf;
    (void)signum;
    enum log_level level = log_get_level();
    if (a->draining) return;
    log_info("main", "reloading");
    if (cmd_load(a->globals, &conf)) {
        log_error("main", "the configuration is wrong; nothing was changed");
        return;
    }
    if (gateway_reload(a->gateway, conf, why, sizeof why)) {
        log_set_level(level);
        log_error("main", "nothing was changed: %s", why);
    }
    conf_unref(conf);
}

/* Thousands of connections need thousands of descriptors; the hard limit is what the system grants. */
static void raise_nofile(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r)) log_warn("main", "cannot raise the descriptor limit: %s", strerror(errno));
    }
}

int cmd_run_conf(struct conf *conf, const struct cmd_globals *g) {
    struct app a = {.globals = g};
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
    loop_signal_init(&a.hangup, a.loop, on_hangup, &a);
    loop_timer_init(&a.limit, a.loop, on_limit, &a);
    loop_signal_start(&a.term, SIGTERM);
    loop_signal_start(&a.interrupt, SIGINT);
    loop_signal_start(&a.hangup, SIGHUP);
    gateway_start(a.gateway);
    loop_run(a.loop);
    loop_signal_stop(&a.term);
    loop_signal_stop(&a.interrupt);
    loop_signal_stop(&a.hangup);
    loop_timer_stop(&a.limit);
    gateway_free(a.gateway);
    log_info("main", "ended");
    loop_free(a.loop);
    return EXIT_OK;
}

int cmd_run(struct cmd_globals *g, int argc, char **argv) {
    struct conf *conf;
    if (!cmd_globals_only(g, argc, argv)) return EXIT_USAGE;
    int code = cmd_load(g, &conf);
    if (code) return code;
    code = cmd_run_conf(conf, g);
    conf_unref(conf);
    return code;
}
