/* main.c - the global options, then one of the commands of cmd.c. */
#include <getopt.h>
#include <stdio.h>

#include "app/cmd.h"
#include "app/version.h"

int main(int argc, char **argv) {
    enum { OPT_OPTIONS = 256 };
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {"options", no_argument, NULL, OPT_OPTIONS},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    struct cmd_globals g = {.log_level = -1};
    int opt;
    while ((opt = getopt_long(argc, argv, "+c:l:hV", options, NULL)) != -1) {
        switch (opt) {
        case 'c': g.config = optarg; break;
        case 'l':
            if (!cmd_log_level(&g, optarg)) return EXIT_USAGE;
            break;
        case OPT_OPTIONS: conf_print_options(stdout); return EXIT_OK;
        case 'h': cmd_print_help(stdout); return EXIT_OK;
        case 'V': version_print(stdout); return EXIT_OK;
        default: return cmd_usage_error("unknown option or missing argument", NULL);
        }
    }
    const struct cmd *c = cmd_find(optind < argc ? argv[optind] : "run");
    if (!c) return cmd_unknown(argv[optind]);
    char run[] = "run", *none[] = {run, NULL};
    int n = argc - optind;
    char **rest = argv + optind;
    optind = 1;
    return n ? c->run(&g, n, rest) : c->run(&g, 1, none);
}
