#include "app/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/source.h"
#include "base/log.h"
#include "base/suggest.h"

#define PATH_TEXT 4096

const struct cmd cmd_table[] = {
    {"run", "", "listen and carry connections; what adit does without a command", cmd_run},
    {"check", "", "read the configuration, say what is wrong with it, and leave", cmd_check},
    {"print-config", "", "print every option in effect, and where it came from; secrets are masked", cmd_print_config},
    {"import", "LINK|FILE|-", "make a configuration of a link or of another client's file", cmd_import},
    {"export", "[--link|--toml|--qr]", "print the configuration, secrets included, for another device", cmd_export},
    {"probe", "[--json]", "try each address of the endpoint over each transport, and say how far it came", cmd_probe},
    {"status", "[--json]", "say how the running adit fares", cmd_status},
    {"reload", "", "have the running adit read its configuration again", cmd_order},
    {"drain", "", "have it take no more connections, and leave when the running ones have ended", cmd_order},
    {"stop", "", "have it leave at once", cmd_order},
    {NULL, NULL, NULL, NULL},
};

const struct cmd *cmd_find(const char *name) {
    for (const struct cmd *c = cmd_table; c->name; c++)
        if (strcmp(c->name, name) == 0) return c;
    return NULL;
}

void cmd_print_help(FILE *to) {
    fputs("Usage: adit [-c FILE] [-l LEVEL] [COMMAND [ARGUMENTS]]\n"
          "\n"
          "Listens on loopback for SOCKS5 and HTTP and carries every connection through an HTTP/3\n"
          "or HTTP/2 session to a TrustTunnel endpoint.\n"
          "\n"
          "  -c, --config FILE      the configuration: adit's own, an endpoint's export, or the official\n"
          "                         client's file (default: $ADIT_CONFIG, ./adit.toml,\n"
          "                         ~/.config/adit/adit.toml, /etc/adit/adit.toml: the first there is)\n"
          "      --link LINK|FILE|-     use a link (tt://...) instead; better from a file or standard input (-)\n"
          "      --insecure         let that link turn off the verification of the certificate\n"
          "  -l, --log-level LEVEL  error, warn, info, debug or trace, whatever the file says\n"
          "      --options          list the options of the configuration file and leave\n"
          "  -h, --help             show this and leave\n"
          "  -V, --version          show the versions of adit and its libraries and leave\n"
          "\n"
          "Commands:\n",
          to);
    for (const struct cmd *c = cmd_table; c->name; c++) {
        char head[64];
        snprintf(head, sizeof head, "%s%s%s", c->name, *c->args ? " " : "", c->args);
        if (strlen(head) > 22) fprintf(to, "  %s\n  %-22s %s\n", head, "", c->summary);
        else fprintf(to, "  %-22s %s\n", head, c->summary);
    }
    fputs("\n"
          "status, reload, drain and stop find the running adit by its control socket: --control PATH, or the\n"
          "configuration that -c names, or $XDG_RUNTIME_DIR/adit.control (root: /run/adit.control).\n"
          "\n"
          "Signals: SIGHUP reads the configuration again. SIGTERM and SIGINT let running connections end;\n"
          "a second one ends them.\n"
          "Exit codes: 0 in order, 1 a failure at run time, 2 wrong usage, 78 a wrong configuration.\n"
          "See adit(1) and adit.toml(5).\n",
          to);
}

int cmd_unknown(const char *name) {
    const struct cmd *best = NULL;
    size_t n = strlen(name);
    unsigned limit = suggest_limit(n), d;
    for (const struct cmd *c = cmd_table; c->name && n <= SUGGEST_MAX; c++) {
        d = suggest_distance(name, n, c->name, strlen(c->name));
        if (d > limit || (best && d == limit)) continue;
        best = c;
        limit = d;
    }
    fprintf(stderr, "adit: unknown command %s%s%s%s\nTry 'adit --help'.\n", name, best ? "; did you mean '" : "",
            best ? best->name : "", best ? "'?" : "");
    return EXIT_USAGE;
}

int cmd_usage_error(const char *what, const char *arg) {
    fprintf(stderr, "adit: %s%s%s\nTry 'adit --help'.\n", what, arg ? " " : "", arg ? arg : "");
    return EXIT_USAGE;
}

bool cmd_log_level(struct cmd_globals *g, const char *word) {
    g->log_level = log_level_parse(word);
    if (g->log_level >= 0) return true;
    cmd_usage_error("unknown log level", word);
    return false;
}

bool cmd_globals_only(struct cmd_globals *g, int argc, char **argv) {
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    int opt;
    while ((opt = getopt_long(argc, argv, "c:l:", options, NULL)) != -1) {
        if (opt == 'c') g->config = optarg;
        else if (opt != 'l') cmd_usage_error("unknown option or missing argument", NULL);
        if (opt == 'l' ? !cmd_log_level(g, optarg) : opt != 'c') return false;
    }
    if (optind == argc) return true;
    cmd_usage_error("unexpected argument", argv[optind]);
    return false;
}

/* --- the configuration --- */

/* The first file of the search path that is there, in buf; the last place if none is. */
static const char *search(char *buf, size_t cap) {
    const char *env = getenv("ADIT_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (env && *env) return env;
    if (access("adit.toml", F_OK) == 0) return "adit.toml";
    if (xdg && *xdg == '/') snprintf(buf, cap, "%s/adit/adit.toml", xdg);
    else if (home && *home == '/') snprintf(buf, cap, "%s/.config/adit/adit.toml", home);
    else *buf = 0;
    if (*buf && access(buf, F_OK) == 0) return buf;
    return "/etc/adit/adit.toml";
}

const char *cmd_config_path(const struct cmd_globals *g, char *buf, size_t cap) {
    return g->config ? g->config : search(buf, cap);
}

/* The first error of the report as one line. */
static void first_error(const struct conf_report *r, char *why, size_t cap) {
    snprintf(why, cap, "%s: the configuration is wrong", r->name);
    for (size_t i = 0; i < r->n; i++) {
        const struct conf_message *m = &r->messages[i];
        if (m->severity != CONF_ERROR) continue;
        if (m->line) snprintf(why, cap, "%s:%u:%u: %s", r->name, m->line, m->col, m->text);
        else snprintf(why, cap, "%s: %s", r->name, m->text);
        return;
    }
}

int cmd_load_why(const struct cmd_globals *g, struct conf **out, char *why, size_t cap) {
    char buf[PATH_TEXT];
    const char *path = cmd_config_path(g, buf, sizeof buf);
    struct conf_report *report = malloc(sizeof *report);
    *out = NULL;
    snprintf(why, cap, "%s", err_text(ERR_NO_MEMORY));
    if (!report) return EXIT_RUNTIME;
    int r = g->link ? source_load(g->link, g->insecure, out, report) : conf_load_file(path, out, report);
    conf_report_print(report, stderr);
    if (r) first_error(report, why, cap);
    free(report);
    if (r == ERR_IO && !g->config && !g->link && access(path, F_OK) != 0)
        fprintf(stderr, "adit: no configuration in $ADIT_CONFIG, ./adit.toml, ~/.config/adit/adit.toml or "
                        "/etc/adit/adit.toml; name one with -c\n");
    if (r) return r == ERR_NO_MEMORY ? EXIT_RUNTIME : EXIT_CONFIG;
    log_set_level(g->log_level >= 0 ? (enum log_level)g->log_level : (*out)->log_level);
    return EXIT_OK;
}

int cmd_load_source(const char *where, bool insecure, struct conf **out) {
    struct conf_report *report = malloc(sizeof *report);
    *out = NULL;
    if (!report) return EXIT_RUNTIME;
    int r = source_load(where, insecure, out, report);
    if (r != ERR_NO_MEMORY) conf_report_print(report, stderr);
    free(report);
    if (r == ERR_NO_MEMORY) fprintf(stderr, "adit: %s\n", err_text(r));
    return r == 0 ? EXIT_OK : r == ERR_NO_MEMORY ? EXIT_RUNTIME : EXIT_CONFIG;
}

int cmd_load(const struct cmd_globals *g, struct conf **out) {
    char why[CONF_NAME_MAX + CONF_TEXT_MAX + 32];
    return cmd_load_why(g, out, why, sizeof why);
}
