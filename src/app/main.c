/* main.c - the global options, then one of the commands of cmd.c. */
#include <getopt.h>
#include <stdio.h>

#include "app/cmd.h"
#include "app/source.h"
#include "app/version.h"

int main(int argc, char **argv) {
    enum { OPT_OPTIONS = 256, OPT_LINK, OPT_INSECURE };
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {"link", required_argument, NULL, OPT_LINK},
                                            {"insecure", no_argument, NULL, OPT_INSECURE},
                                            {"options", no_argument, NULL, OPT_OPTIONS},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    struct cmd_globals g = {.log_level = -1};
    int opt;
    source_hide(argc, argv);
    while ((opt = getopt_long(argc, argv, "+c:l:hV", options, NULL)) != -1) {
        switch (opt) {
        case 'c': g.config = optarg; break;
        case 'l':
            if (!cmd_log_level(&g, optarg)) return EXIT_USAGE;
            break;
        case OPT_LINK: g.link = optarg; break;
        case OPT_INSECURE: g.insecure = true; break;
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
    optind = 0; /* begins anew: options may stand behind arguments now */
    return n ? c->run(&g, n, rest) : c->run(&g, 1, none);
}
