/* cmd_import.c - import: a link or a foreign file becomes adit's configuration; export: the other way. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <qrencode.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/cmd.h"
#include "app/gateway.h"
#include "app/source.h"
#include "base/secret.h"

#define PATH_TEXT 4096
#define QUIET 2 /* modules around the code */

/* --- writing a file that holds secrets --- */

/* The directories on the way to a file. */
static void make_directories(const char *path) {
    char dir[PATH_TEXT];
    if ((size_t)snprintf(dir, sizeof dir, "%s", path) >= sizeof dir) return;
    for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(dir, 0700); /* what fails here fails again when the file is made */
        *slash = '/';
    }
}

static bool write_all(const struct conf *c, int fd) {
    FILE *to = fdopen(fd, "w");
    if (!to) {
        close(fd);
        return false;
    }
    conf_write(c, to);
    bool good = fflush(to) == 0 && fsync(fd) == 0;
    return (fclose(to) == 0) & good;
}

/* Appears whole or not at all, and over an existing file only if `force`. 0 or an errno. */
static int write_file(const struct conf *c, const char *path, bool force) {
    char temporary[PATH_TEXT + 16];
    make_directories(path);
    snprintf(temporary, sizeof temporary, "%s.%d.new", path, (int)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return errno;
    int errnum = write_all(c, fd) ? 0 : errno ? errno : EIO;
    if (!errnum && (force ? rename(temporary, path) : link(temporary, path)) != 0) errnum = errno;
    if (errnum || !force) unlink(temporary);
    return errnum;
}

/* Where adit will look for it. */
static const char *default_path(char *buf, size_t cap) {
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/') snprintf(buf, cap, "%s/adit/adit.toml", xdg);
    else if (home && *home == '/') snprintf(buf, cap, "%s/.config/adit/adit.toml", home);
    else return "adit.toml";
    return buf;
}

/* --- import --- */

struct import {
    const char *from, *to;
    bool force, insecure;
};

static bool import_options(struct cmd_globals *g, struct import *im, int argc, char **argv) {
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {"force", no_argument, NULL, 'f'},
                                            {"insecure", no_argument, NULL, 'i'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    int opt;
    while ((opt = getopt_long(argc, argv, "o:fl:", options, NULL)) != -1) {
        switch (opt) {
        case 'o': im->to = optarg; break;
        case 'f': im->force = true; break;
        case 'i': im->insecure = true; break;
        case 'l':
            if (!cmd_log_level(g, optarg)) return false;
            break;
        default: cmd_usage_error("unknown option or missing argument", NULL); return false;
        }
    }
    if (optind + 1 != argc) {
        cmd_usage_error("import takes one argument: a link, a file, or - for standard input", NULL);
        return false;
    }
    im->from = argv[optind];
    return true;
}

int cmd_import(struct cmd_globals *g, int argc, char **argv) {
    struct import im = {0};
    struct conf *conf;
    char path[PATH_TEXT], why[GATEWAY_WHY_MAX];
    if (!import_options(g, &im, argc, argv)) return EXIT_USAGE;
    int code = cmd_load_source(im.from, im.insecure, &conf);
    if (code) return code;
    if (!im.to) im.to = default_path(path, sizeof path);
    if (gateway_check(conf, why, sizeof why)) {
        fprintf(stderr, "adit: %s\n", why);
        code = EXIT_CONFIG;
    } else if (strcmp(im.to, "-") == 0) {
        conf_write(conf, stdout);
        code = fflush(stdout) == 0 ? EXIT_OK : EXIT_RUNTIME;
    } else {
        int errnum = write_file(conf, im.to, im.force);
        if (errnum == EEXIST) fprintf(stderr, "adit: %s: there is such a file; --force replaces it\n", im.to);
        else if (errnum) fprintf(stderr, "adit: %s: cannot be written: %s\n", im.to, strerror(errnum));
        else printf("%s: written\n", im.to);
        code = errnum ? EXIT_RUNTIME : EXIT_OK;
    }
    conf_unref(conf);
    return code;
}

/* --- export --- */

static bool is_light(const QRcode *q, int x, int y) {
    if (x < 0 || y < 0 || x >= q->width || y >= q->width) return true;
    return !(q->data[y * q->width + x] & 1);
}

/* Two rows of modules in one of text; light modules are drawn, for terminals are dark more often than not. */
static void print_qr(const QRcode *q) {
    static const char *const blocks[] = {" ", "▄", "▀", "█"};
    for (int y = -QUIET; y < q->width + QUIET; y += 2) {
        for (int x = -QUIET; x < q->width + QUIET; x++)
            fputs(blocks[is_light(q, x, y) << 1 | (y + 1 < q->width + QUIET && is_light(q, x, y + 1))], stdout);
        putchar('\n');
    }
}

static int export_qr(const char *link) {
    QRcode *q = QRcode_encodeString8bit(link, 0, QR_ECLEVEL_L);
    if (!q) {
        fprintf(stderr, "adit: the link is too long for a QR code (its certificate takes most of it)\n");
        return EXIT_RUNTIME;
    }
    print_qr(q);
    secret_wipe(q->data, (size_t)q->width * (size_t)q->width);
    QRcode_free(q);
    return EXIT_OK;
}

static int export_link(const struct conf *conf, bool qr) {
    size_t n;
    char *link = source_link(conf, &n);
    int code = EXIT_OK;
    if (!link) {
        fprintf(stderr, "adit: this configuration does not fit into a link\n");
        return EXIT_RUNTIME;
    }
    if (qr) code = export_qr(link);
    else puts(link);
    secret_free(link);
    return code;
}

int cmd_export(struct cmd_globals *g, int argc, char **argv) {
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {"link", no_argument, NULL, 'L'},
                                            {"toml", no_argument, NULL, 'T'},
                                            {"qr", no_argument, NULL, 'Q'},
                                            {NULL, 0, NULL, 0}};
    struct conf *conf;
    int opt, form = 'L';
    while ((opt = getopt_long(argc, argv, "c:l:", options, NULL)) != -1) {
        if (opt == 'c') g->config = optarg;
        else if (opt == 'l' && !cmd_log_level(g, optarg)) return EXIT_USAGE;
        else if (opt == 'L' || opt == 'T' || opt == 'Q') form = opt;
        else if (opt == '?') return cmd_usage_error("unknown option or missing argument", NULL);
    }
    if (optind < argc) return cmd_usage_error("unexpected argument", argv[optind]);
    int code = cmd_load(g, &conf);
    if (code) return code;
    if (form == 'T') conf_write(conf, stdout);
    else code = export_link(conf, form == 'Q');
    if (fflush(stdout) != 0) code = EXIT_RUNTIME;
    conf_unref(conf);
    return code;
}
