/* replay.c - the main() of a fuzz target without libFuzzer: every file given, and every file of every directory
 * given, goes through LLVMFuzzerTestOneInput() once. Without arguments it is a test: the corpus of the target that
 * the program is named after ("fuzz_socks" -> $srcdir/tests/fuzz/corpus/socks). Prints one TAP case; no input at all
 * is a failure. Each file is read into an allocation of exactly its size, so that a read past it is seen.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

#define INPUT_MAX (16 << 20)

static int replay_file(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    int rc = -1;

    if (f == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    if (size <= INPUT_MAX)
        data = malloc(size);
    if (data == NULL) {
        fprintf(stderr, "%s: too large\n", path);
    } else if (fread(data, 1, size, f) != size) {
        fprintf(stderr, "%s: short read\n", path);
    } else {
        printf("# %s (%zu bytes)\n", path, size);
        fflush(stdout);
        rc = LLVMFuzzerTestOneInput(data, size) == 0 ? 0 : -1;
        if (rc < 0)
            fprintf(stderr, "%s: the target did not return 0\n", path);
    }
    free(data);
    fclose(f);
    return rc;
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Sums up into *count; -1 if anything went wrong, after having tried everything. */
static int replay(const char *path, unsigned *count)
{
    struct dirent **entries = NULL;
    struct stat st;
    int n, rc = 0;

    if (stat(path, &st) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    if (!S_ISDIR(st.st_mode)) {
        ++*count;
        return replay_file(path, (size_t)st.st_size);
    }
    n = scandir(path, &entries, visible, alphasort);
    if (n < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    for (int i = 0; i < n; i++) {
        char *name = NULL;

        if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
            rc = -1;
        else if (stat(name, &st) < 0 || !S_ISREG(st.st_mode))
            fprintf(stderr, "%s: not a file, left out\n", name);
        else {
            ++*count;
            if (replay_file(name, (size_t)st.st_size) < 0)
                rc = -1;
        }
        free(name);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

static int replay_own_corpus(const char *program, unsigned *count)
{
    const char *name = strrchr(program, '/');
    const char *srcdir = getenv("srcdir");
    char *path = NULL;
    int rc;

    name = name ? name + 1 : program;
    if (strncmp(name, "fuzz_", 5) == 0)
        name += 5;
    if (asprintf(&path, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", name) < 0)
        return -1;
    rc = replay(path, count);
    free(path);
    return rc;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    int rc = 0;

    printf("1..1\n");
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (replay(argv[i], &count) < 0)
            rc = -1;
    }
    if (argc < 2)
        rc = replay_own_corpus(argv[0], &count);
    printf("%s 1 - %u inputs replayed\n", rc == 0 && count > 0 ? "ok" : "not ok", count);
    return rc == 0 && count > 0 ? 0 : 1;
}
