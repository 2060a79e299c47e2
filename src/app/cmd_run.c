#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "app/cmd.h"
#include "app/control.h"
#include "app/gateway.h"
#include "app/notify.h"
#include "app/status.h"
#include "base/log.h"
#include "base/loop.h"
#include "net/activation.h"
#include "net/unix_sock.h"

/* A second SIGTERM or this long ends what still drains. */
#define DRAIN_MAX (30 * LOOP_S)
#define PATH_TEXT 4096

struct app {
    const struct cmd_globals *globals;
    struct loop *loop;
    struct gateway *gateway;
    struct control *control;
    struct loop_signal term, interrupt, hangup;
    struct loop_timer limit;
    struct defer stop, rebind;
    struct conf *conf; /* of the last start_control() to come */
    uint64_t started;
    bool draining;
};

/* --- the end --- */

static void on_drained(void *arg) {
    struct app *a = arg;
    loop_stop(a->loop);
}

static void on_limit(void *arg) {
    struct app *a = arg;
    log_warn("main", "connections are still open; ending them flows=%u", gateway_flows(a->gateway));
    loop_stop(a->loop);
}

static void on_stop(void *arg) {
    struct app *a = arg;
    loop_stop(a->loop);
}

static void drain(struct app *a, const char *why) {
    if (a->draining) return;
    a->draining = true;
    log_info("main", "draining %s flows=%u", why, gateway_flows(a->gateway));
    notify_stopping();
    loop_timer_set(&a->limit, loop_now(a->loop) + DRAIN_MAX);
    gateway_drain(a->gateway, on_drained, a);
}

static void on_signal(int signum, void *arg) {
    struct app *a = arg;
    const char *name = signum == SIGINT ? "signal=INT" : "signal=TERM";
    if (a->draining) {
        log_info("main", "second signal: ending now %s flows=%u", name, gateway_flows(a->gateway));
        loop_stop(a->loop);
        return;
    }
    drain(a, name);
}

/* --- reload --- */

/* A configuration that is wrong changes nothing. 0, or an exit code with the reason in why. */
static int reload(struct app *a, char *why, size_t cap) {
    enum log_level level = log_get_level();
    struct conf *conf;
    log_info("main", "reloading");
    notify_reloading();
    int code = cmd_load_why(a->globals, &conf, why, cap);
    if (code == 0) {
        int r = gateway_reload(a->gateway, conf, why, cap);
        if (r) {
            log_set_level(level);
            code = r == ERR_CONFIG ? EXIT_CONFIG : EXIT_RUNTIME;
        } else {
            conf_unref(a->conf);
            a->conf = conf_ref(conf);
            defer_post(loop_defer(a->loop), &a->rebind); /* this may be one of its commands */
        }
        conf_unref(conf);
    }
    if (code) log_error("main", "nothing was changed: %s", why);
    notify_ready();
    return code;
}

static void on_hangup(int signum, void *arg) {
    struct app *a = arg;
    char why[GATEWAY_WHY_MAX];
    (void)signum;
    if (!a->draining) reload(a, why, sizeof why);
}

/* --- the control socket --- */

static json_t *on_command(const char *command, void *arg) {
    struct app *a = arg;
    char why[GATEWAY_WHY_MAX] = "adit is draining";
    if (strcmp(command, "status") == 0) return status_json(a->gateway, loop_now(a->loop), a->started, a->draining);
    if (strcmp(command, "reload") == 0) {
        int code = a->draining ? EXIT_RUNTIME : reload(a, why, sizeof why);
        if (code) return json_pack("{s:b,s:s,s:b}", "ok", 0, "error", why, "config", code == EXIT_CONFIG);
    } else if (strcmp(command, "drain") == 0) {
        drain(a, "control=drain");
    } else if (strcmp(command, "stop") == 0) {
        log_info("main", "stopping control=stop flows=%u", gateway_flows(a->gateway));
        notify_stopping();
        defer_post(loop_defer(a->loop), &a->stop); /* after the answer */
    } else {
        return json_pack("{s:b,s:s}", "ok", 0, "error", "unknown command");
    }
    return json_pack("{s:b}", "ok", 1);
}

/* Without it adit works as well, and says so. */
static void start_control(struct app *a, const struct conf *conf) {
    char place[PATH_TEXT];
    int errnum;
    const char *path = conf->control;
    if (!path) path = control_default_path(place, sizeof place) ? place : "none";
    bool wanted = strcmp(path, "none") != 0;
    if (a->control && wanted && strcmp(control_path(a->control), path) == 0) return;
    struct control *fresh = wanted ? control_new(a->loop, path, on_command, a, &errnum) : NULL;
    if (wanted && !fresh) {
        log_warn("main", "no control socket: status and reload work by signals and the log only path=%s error=\"%s\"",
                 path, errnum == EADDRINUSE ? "another adit has it" : unix_sock_text(errnum));
        return; /* an earlier one goes on */
    }
    control_free(a->control);
    a->control = fresh;
}

static void on_rebind(void *arg) {
    struct app *a = arg;
    start_control(a, a->conf);
}

/* --- life --- */

static void on_change(void *arg) {
    struct app *a = arg;
    char line[256];
    if (!notify_wanted()) return;
    status_line(a->gateway, line, sizeof line);
    notify_status(line);
}

/* Thousands of connections need thousands of descriptors; the hard limit is what the system grants. */
static void raise_nofile(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r)) log_warn("main", "cannot raise the descriptor limit: %s", strerror(errno));
    }
}

static void watch_signals(struct app *a) {
    loop_signal_init(&a->term, a->loop, on_signal, a);
    loop_signal_init(&a->interrupt, a->loop, on_signal, a);
    loop_signal_init(&a->hangup, a->loop, on_hangup, a);
    loop_signal_start(&a->term, SIGTERM);
    loop_signal_start(&a->interrupt, SIGINT);
    loop_signal_start(&a->hangup, SIGHUP);
}

/* One more signal must not turn an end in order into a death. */
static void ignore_signals(struct app *a) {
    loop_signal_stop(&a->term);
    loop_signal_stop(&a->interrupt);
    loop_signal_stop(&a->hangup);
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

static void run(struct app *a, const struct conf *conf) {
    loop_timer_init(&a->limit, a->loop, on_limit, a);
    defer_init(&a->stop, on_stop, a);
    defer_init(&a->rebind, on_rebind, a);
    a->started = loop_now(a->loop);
    watch_signals(a);
    notify_start(a->loop);
    gateway_on_change(a->gateway, on_change, a);
    gateway_start(a->gateway);
    start_control(a, conf);
    notify_ready();
    loop_run(a->loop);
    gateway_on_change(a->gateway, NULL, NULL);
    notify_stop();
    loop_timer_stop(&a->limit);
    defer_cancel(&a->stop);
    defer_cancel(&a->rebind);
    conf_unref(a->conf);
    control_free(a->control);
}

int cmd_run_conf(struct conf *conf, const struct cmd_globals *g) {
    struct app a = {.globals = g};
    char why[GATEWAY_WHY_MAX];
    if (activation_take(why, sizeof why)) {
        fprintf(stderr, "adit: %s\n", why);
        return EXIT_CONFIG;
    }
    a.loop = loop_new();
    if (!a.loop) {
        fprintf(stderr, "adit: cannot make an event loop: %s\n", strerror(errno));
        return EXIT_RUNTIME;
    }
    signal(SIGPIPE, SIG_IGN);
    log_set_journal(log_stderr_is_journal());
    raise_nofile();
    int r = gateway_new(&a.gateway, a.loop, conf, why, sizeof why);
    if (r) {
        fprintf(stderr, "adit: %s\n", why);
        loop_free(a.loop);
        return r == ERR_CONFIG ? EXIT_CONFIG : EXIT_RUNTIME;
    }
    run(&a, conf);
    gateway_free(a.gateway);
    ignore_signals(&a);
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
