#include "app/cmd.h"

int cmd_print_config(struct cmd_globals *g, int argc, char **argv) {
    struct conf *conf;
    if (!cmd_globals_only(g, argc, argv)) return EXIT_USAGE;
    int code = cmd_load(g, &conf);
    if (code) return code;
    conf_print(conf, stdout);
    conf_unref(conf);
    return EXIT_OK;
}
