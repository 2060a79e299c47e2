/* cmd_control.c - the commands that talk to a running adit over its control socket. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "app/cmd.h"
#include "app/control.h"
#include "app/status.h"

struct request {
    const char *path; /* --control */
    bool json;
};

static bool read_options(struct cmd_globals *g, struct request *rq, int argc, char **argv) {
    enum { OPT_CONTROL = 256, OPT_JSON };
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {"control", required_argument, NULL, OPT_CONTROL},
                                            {"json", no_argument, NULL, OPT_JSON},
                                            {NULL, 0, NULL, 0}};
    int opt;
    while ((opt = getopt_long(argc, argv, "c:l:", options, NULL)) != -1) {
        switch (opt) {
        case 'c': g->config = optarg; break;
        case 'l':
            if (!cmd_log_level(g, optarg)) return false;
            break;
        case OPT_CONTROL: rq->path = optarg; break;
        case OPT_JSON: rq->json = true; break;
        default: cmd_usage_error("unknown option or missing argument", NULL); return false;
        }
    }
    if (optind == argc) return true;
    cmd_usage_error("unexpected argument", argv[optind]);
    return false;
}

/* --control, else the configuration that -c names, else the default place. */
static int find_socket(struct cmd_globals *g, const struct request *rq, char *buf, size_t cap) {
    struct conf *conf = NULL;
    bool found;
    if (!rq->path && g->config) {
        int code = cmd_load(g, &conf);
        if (code) return code;
    }
    const char *path = rq->path ? rq->path : conf ? conf->control : NULL;
    if (path) found = (size_t)snprintf(buf, cap, "%s", path) < cap;
    else found = control_default_path(buf, cap);
    conf_unref(conf);
    if (found) return EXIT_OK;
    fprintf(stderr, "adit: no place for a control socket: XDG_RUNTIME_DIR is not set; name it with --control\n");
    return EXIT_RUNTIME;
}

/* 0 and *reply, or an exit code after saying why. */
static int ask(struct cmd_globals *g, int argc, char **argv, struct request *rq, json_t **reply) {
    char path[4096], why[4400];
    if (!read_options(g, rq, argc, argv)) return EXIT_USAGE;
    int code = find_socket(g, rq, path, sizeof path);
    if (code) return code;
    *reply = control_ask(path, argv[0], why, sizeof why);
    if (!*reply) {
        fprintf(stderr, "adit: %s\n", why);
        return EXIT_RUNTIME;
    }
    if (json_is_true(json_object_get(*reply, "ok"))) return EXIT_OK;
    const char *error = json_string_value(json_object_get(*reply, "error"));
    fprintf(stderr, "adit: %s\n", error ? error : "refused");
    code = json_is_true(json_object_get(*reply, "config")) ? EXIT_CONFIG : EXIT_RUNTIME;
    json_decref(*reply);
    *reply = NULL;
    return code;
}

int cmd_status(struct cmd_globals *g, int argc, char **argv) {
    struct request rq = {0};
    json_t *reply;
    int code = ask(g, argc, argv, &rq, &reply);
    if (code) return code;
    if (rq.json) {
        json_dumpf(reply, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        status_print(reply, stdout);
    }
    json_decref(reply);
    return EXIT_OK;
}

int cmd_order(struct cmd_globals *g, int argc, char **argv) {
    struct request rq = {0};
    json_t *reply;
    int code = ask(g, argc, argv, &rq, &reply);
    if (code == EXIT_OK) json_decref(reply);
    return code;
}
