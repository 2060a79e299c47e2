#include <stdio.h>

#include "app/cmd.h"
#include "app/gateway.h"

int cmd_check(struct cmd_globals *g, int argc, char **argv) {
    char why[GATEWAY_WHY_MAX];
    struct conf *conf;
    if (!cmd_globals_only(g, argc, argv)) return EXIT_USAGE;
    int code = cmd_load(g, &conf);
    if (code) return code;
    if (gateway_check(conf, why, sizeof why)) {
        fprintf(stderr, "adit: %s\n", why);
        code = EXIT_CONFIG;
    } else {
        printf("%s: ok\n", conf->name);
    }
    conf_unref(conf);
    return code;
}
