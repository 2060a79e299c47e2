#include "app/toml.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include <malloc.h>

/* The parser works by recursion: as many arrays and inline tables as the tree has levels, and a value in them. */
#define TOML_MAX_NESTED_VALUES 17
/* Some wrong texts, such as "[" and a line feed, break assertions of toml++ 3.3 before it reports them. With
 * NDEBUG it would tell the compiler to rely on them, so that must not be either. */
#undef NDEBUG
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>

extern "C" {
#include "app/arena.h"
#include "base/err.h"
#include "base/secret.h"
}

static_assert(TOML_MAX_NESTED_VALUES == TOML_DEPTH_MAX + 1, "the parser must go as deep as the tree");

/* Without exceptions toml++ cannot report that memory ran out. So that much per byte of text is set aside
 * before it starts; its hungriest texts (long keys of one-letter parts) take less. Untouched, it costs address
 * space only. */
#define RESERVE_PER_BYTE 128
#define RESERVE_BASE 65536
/* The document's own tree: about a node for every two bytes, at most TOML_NODES_MAX of them, and the strings. */
#define TREE_MAX (size_t(32) * 1024 * 1024)
/* What the parser's frames leave on the stack: its buffers hold the last characters and strings read. */
#define STACK_USED 65536

/* Set only while the parser runs: where memory comes from when there is no other. */
static struct {
    char *start, *at, *end;
} reserve;

static bool reserve_open(std::size_t n) {
    reserve.start = reserve.at = static_cast<char *>(std::malloc(n));
    reserve.end = reserve.start ? reserve.start + n : nullptr;
    return reserve.start;
}

static void reserve_close() {
    secret_wipe(reserve.start, std::size_t(reserve.at - reserve.start));
    std::free(reserve.start);
    reserve = {};
}

/* The only C++ objects of this program are toml++'s. They hold copies of passwords, so what they give back is
 * zeroed, whichever container it came from. Not inlined: memory checkers that bring operators of their own must
 * replace all of them or none. */
[[gnu::noinline]] void *operator new(std::size_t n) {
    if (void *p = std::malloc(n ? n : 1)) return p;
    const std::size_t step = alignof(std::max_align_t);
    n = (n + step - 1) / step * step;
    if (n > std::size_t(reserve.end - reserve.at)) std::abort();
    reserve.at += n;
    return reserve.at - n;
}

[[gnu::noinline]] void *operator new(std::size_t n, const std::nothrow_t &) noexcept {
    return std::malloc(n ? n : 1);
}

[[gnu::noinline]] void operator delete(void *p) noexcept {
    if (!p || (p >= reserve.start && p < reserve.end)) return;
    secret_wipe(p, malloc_usable_size(p));
    std::free(p);
}

[[gnu::noinline]] void operator delete(void *p, std::size_t) noexcept { operator delete(p); }

struct toml_doc {
    struct arena arena;
    struct toml_node root;
};

namespace {

using std::string_view;

toml_place place_of(const toml::source_position &p) { return {p.line, p.column}; }

/* ---- errors ---- */

bool starts_with(string_view text, string_view with) { return text.substr(0, with.size()) == with; }

/* Appends printable ASCII; the rest as \xNN. */
void put(toml_error *e, string_view text) {
    size_t at = std::strlen(e->why);
    for (unsigned char c : text) {
        const bool plain = c >= 0x20 && c < 0x7f;
        if (at + (plain ? 1 : 4) >= sizeof e->why) return;
        at += size_t(std::snprintf(e->why + at, sizeof e->why - at, plain ? "%c" : "\\x%02x", c));
    }
}

/* The first character, or escape, of a text that the parser quotes. */
string_view first_character(string_view text) {
    size_t n = text.empty() ? 0 : 1;
    if (n && text[0] == '\\') return text.substr(0, 10);
    while (n < text.size() && n < 4 && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) n++;
    return text.substr(0, n);
}

/* toml++ says "Error while parsing SCOPE: REASON". REASON may quote a whole value, which may be a password that
 * someone forgot to quote: a number in front, or after "saw". */
void explain(toml_error *e, string_view text) {
    const string_view head = "Error while parsing ", saw = "saw '";
    if (starts_with(text, head)) text.remove_prefix(head.size());
    const size_t colon = text.find(": ");
    if (colon == string_view::npos) return put(e, text);
    const string_view scope = text.substr(0, colon), reason = text.substr(colon + 2);
    put(e, scope);
    put(e, ": ");
    if (starts_with(reason, "'")) {
        const size_t end = reason.rfind('\'');
        put(e, "the number");
        return put(e, reason.substr(end + 1));
    }
    const size_t at = reason.find(saw), end = reason.rfind('\'');
    if (at == string_view::npos || end <= at + saw.size()) return put(e, reason);
    put(e, reason.substr(0, at + saw.size()));
    put(e, first_character(reason.substr(at + saw.size(), end - at - saw.size())));
    put(e, reason.substr(end));
}

int refuse(toml_error *e, toml_place place, const char *why) {
    e->place = place;
    std::snprintf(e->why, sizeof e->why, "%s", why);
    return ERR_CONFIG;
}

/* ---- before the parser ---- */

#define TOO_DEEP "values are nested deeper than 16 levels"

/* Finds what toml++ must not see.
 *   - Keys with too many parts: it makes a table of each part, whatever their number, and frees them by recursion.
 *   - Characters that are not ASCII where it looks for white space: up to 3.4 it then runs into what it declares
 *     unreachable. It does so outside strings and comments, where they are wrong anyway, also in what would be a
 *     string if it did not go on with an unquoted value, and after a line-ending backslash.
 * Follows strings, comments and nesting as the parser does; where the text is wrong the parser stops, so it does
 * not matter how this goes on. */
class Scan {
  public:
    explicit Scan(string_view text) : text_(text) {
        if (starts_with(text_, "\xef\xbb\xbf")) at_ = 3;
    }

    /* What is wrong at place(), or null. */
    const char *fault() {
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (const char *why = fault_at(c)) return why;
            switch (state_) {
            case BARE: bare(c); break;
            case COMMENT: skip(1); break;
            case STRING: string(c); break;
            case LONG_STRING: long_string(c); break;
            }
            if (c == '\n' && state_ != LONG_STRING) end_line();
        }
        return nullptr;
    }

    toml_place place() const { return place_; }

  private:
    enum { BARE, COMMENT, STRING, LONG_STRING } state_ = BARE;
    string_view text_;
    size_t at_ = 0;
    toml_place place_ = {1, 1};
    char quote_ = 0;          /* of the string */
    int dots_ = 0;            /* in this key */
    bool value_ = false;      /* a value stands here, not a key */
    bool token_ = false;      /* it is not quoted and has begun */
    int depth_ = 0;           /* of arrays and inline tables around it: */
    char nest_[TOML_DEPTH_MAX] = {};

    const char *fault_at(char c) const {
        switch (state_) {
        case BARE:
            if (foreign(at_)) return "only strings and comments may hold characters that are not ASCII";
            if (c == '.' && dots_ + 1 >= TOML_DEPTH_MAX) return "a key has more than 16 parts";
            if ((c == '[' || c == '{') && value_ && depth_ >= TOML_DEPTH_MAX) return TOO_DEEP;
            if (token_ && one_of("\"'=[{", c)) return "an unquoted value may not hold quotes, brackets or '='";
            return nullptr;
        case LONG_STRING:
            if (c == '\\' && quote_ == '"' && foreign(text_.find_first_not_of(" \t\r\n", at_ + 1)))
                return "a character that is not ASCII may not follow a line-ending backslash";
            return nullptr;
        default: return nullptr;
        }
    }

    void skip(size_t n) {
        for (; n && at_ < text_.size(); n--, at_++) {
            const unsigned char c = static_cast<unsigned char>(text_[at_]);
            if (c == '\n') {
                place_.line++;
                place_.col = 1;
            } else if ((c & 0xc0) != 0x80) {
                place_.col++;
            }
        }
    }

    static bool one_of(string_view set, char c) { return set.find(c) != string_view::npos; }

    bool foreign(size_t at) const { return at < text_.size() && static_cast<unsigned char>(text_[at]) >= 0x80; }

    bool tripled(char c) const {
        return at_ + 2 < text_.size() && text_[at_ + 1] == c && text_[at_ + 2] == c;
    }

    void end_line() {
        state_ = BARE;
        dots_ = 0;
        if (depth_ == 0) value_ = false;
    }

    void open(char c) {
        if (!value_) return; /* a header */
        nest_[depth_++] = c;
        value_ = c == '[';
    }

    void close(char opening) {
        if (depth_ == 0 || nest_[depth_ - 1] != opening) return;
        depth_--;
        value_ = true;
    }

    void bare(char c) {
        if (one_of("=,[]{}", c)) dots_ = 0;
        token_ = value_ && !one_of(" \t\r\n,[]{}=#\"'", c);
        switch (c) {
        case '.': dots_++; break;
        case '#': state_ = COMMENT; break;
        case '=': value_ = true; break;
        case '[':
        case '{': open(c); break;
        case ']': close('['); break;
        case '}': close('{'); break;
        case ',': value_ = depth_ > 0 && nest_[depth_ - 1] == '['; break;
        case '"':
        case '\'':
            quote_ = c;
            state_ = tripled(c) ? LONG_STRING : STRING;
            return skip(state_ == LONG_STRING ? 3 : 1);
        default: break;
        }
        skip(1);
    }

    void string(char c) {
        if (c == quote_) state_ = BARE;
        skip(c == '\\' && quote_ == '"' ? 2 : 1);
    }

    /* Up to two quotes before the three that end it belong to the string. */
    void long_string(char c) {
        if (c == quote_ && tripled(c)) {
            state_ = BARE;
            skip(3);
            for (int i = 0; i < 2 && at_ < text_.size() && text_[at_] == c; i++) skip(1);
            return;
        }
        skip(c == '\\' && quote_ == '"' ? 2 : 1);
    }
};

/* ---- after the parser ---- */

/* Copies toml++'s tree into ours, level by level. */
class Builder {
  public:
    Builder(arena *a, toml_error *error) : arena_(a), error_(error) {}

    int build(toml_node *root, const toml::table &from) {
        root->kind = TOML_TABLE;
        root->place = {1, 1};
        if (int r = later(root, &from, 0)) return r;
        while (first_) {
            const pending *p = first_;
            first_ = p->next;
            if (!first_) last_ = &first_;
            const toml::table *table = p->from->as_table();
            const int r = table ? fill(p->to, *table, p->depth) : fill(p->to, *p->from->as_array(), p->depth);
            if (r) return r;
        }
        return 0;
    }

  private:
    struct pending {
        toml_node *to;
        const toml::node *from;
        int depth;
        pending *next;
    };
    arena *arena_;
    toml_error *error_;
    pending *first_ = nullptr, **last_ = &first_;
    size_t nodes_ = 0;

    int later(toml_node *to, const toml::node *from, int depth) {
        if (depth > TOML_DEPTH_MAX) return refuse(error_, to->place, TOO_DEEP);
        void *room = arena_alloc(arena_, sizeof(pending));
        if (!room) return ERR_NO_MEMORY;
        *last_ = new (room) pending{to, from, depth, nullptr};
        last_ = &(*last_)->next;
        return 0;
    }

    int fill(toml_node *to, const toml::table &table, int depth) {
        toml_node **nodes = list(table.size());
        if (!nodes) return ERR_NO_MEMORY;
        size_t n = 0;
        for (auto &&[key, value] : table) {
            if (int r = add(&nodes[n], value, depth)) return r;
            toml_node *node = nodes[n++];
            node->key = arena_dup(arena_, key.data(), key.length());
            if (!node->key) return ERR_NO_MEMORY;
            node->key_len = key.length();
            node->key_place = place_of(key.source().begin);
        }
        /* toml++ keeps them by name. */
        std::sort(nodes, nodes + n, [](const toml_node *a, const toml_node *b) {
            return std::make_pair(a->key_place.line, a->key_place.col) <
                   std::make_pair(b->key_place.line, b->key_place.col);
        });
        return join(to, nodes, n);
    }

    int fill(toml_node *to, const toml::array &array, int depth) {
        toml_node **nodes = list(array.size());
        if (!nodes) return ERR_NO_MEMORY;
        size_t n = 0;
        for (auto &&value : array)
            if (int r = add(&nodes[n++], value, depth)) return r;
        return join(to, nodes, n);
    }

    toml_node **list(size_t n) { return static_cast<toml_node **>(arena_alloc(arena_, n * sizeof(toml_node *))); }

    static int join(toml_node *to, toml_node **nodes, size_t n) {
        for (size_t i = 0; i + 1 < n; i++) nodes[i]->next = nodes[i + 1];
        to->u.children.first = n ? nodes[0] : nullptr;
        to->u.children.n = n;
        return 0;
    }

    int add(toml_node **out, const toml::node &from, int depth) {
        const toml_place place = place_of(from.source().begin);
        if (++nodes_ > TOML_NODES_MAX) return refuse(error_, place, "there are more than 65536 values");
        toml_node *to = static_cast<toml_node *>(arena_alloc(arena_, sizeof(toml_node)));
        if (!to) return ERR_NO_MEMORY;
        *out = to;
        to->place = place;
        switch (from.type()) {
        case toml::node_type::table: to->kind = TOML_TABLE; return later(to, &from, depth + 1);
        case toml::node_type::array: to->kind = TOML_ARRAY; return later(to, &from, depth + 1);
        case toml::node_type::string: {
            const std::string &s = from.as_string()->get();
            to->kind = TOML_STRING;
            to->u.string.p = arena_dup(arena_, s.data(), s.size());
            to->u.string.n = s.size();
            return to->u.string.p ? 0 : ERR_NO_MEMORY;
        }
        case toml::node_type::integer:
            to->kind = TOML_INTEGER;
            to->u.integer = from.as_integer()->get();
            return 0;
        case toml::node_type::floating_point:
            to->kind = TOML_FLOAT;
            to->u.number = from.as_floating_point()->get();
            return 0;
        case toml::node_type::boolean:
            to->kind = TOML_BOOLEAN;
            to->u.boolean = from.as_boolean()->get();
            return 0;
        default: to->kind = TOML_TIME; return 0;
        }
    }
};

/* The parser's objects live and die in here. */
[[gnu::noinline]] int parse(toml_doc *doc, string_view text, toml_error *error) {
    const toml::parse_result result = toml::parse(text);
    if (!result) {
        error->place = place_of(result.error().source().begin);
        explain(error, result.error().description());
        return ERR_CONFIG;
    }
    return Builder(&doc->arena, error).build(&doc->root, result.table());
}

[[gnu::noinline]] void wipe_stack() {
    char below[STACK_USED];
    secret_wipe(below, sizeof below);
}

/* Parses a copy with a line feed after it: toml++ 3.3 takes some texts that end too early, such as a lone "[", for
 * complete ones. A carriage return at the end stays an error. */
int parse_copy(toml_doc *doc, const void *text, size_t n, toml_error *error) {
    char *copy = static_cast<char *>(std::malloc(n + 1));
    if (!copy) return ERR_NO_MEMORY;
    if (n) std::memcpy(copy, text, n);
    copy[n] = '\n';
    if (!reserve_open(RESERVE_BASE + n * RESERVE_PER_BYTE)) {
        secret_wipe(copy, n + 1);
        std::free(copy);
        return ERR_NO_MEMORY;
    }
    const int r = parse(doc, string_view(copy, n && copy[n - 1] == '\r' ? n : n + 1), error);
    reserve_close();
    wipe_stack();
    secret_wipe(copy, n + 1);
    std::free(copy);
    return r;
}

} // namespace

int toml_parse(struct toml_doc **out, const void *text, size_t n, struct toml_error *error) {
    *out = nullptr;
    *error = {};
    error->place = {1, 1};
    if (n > TOML_TEXT_MAX) return refuse(error, error->place, "the text is larger than 1 MiB");
    Scan scan(string_view(static_cast<const char *>(text), n));
    if (const char *why = scan.fault()) return refuse(error, scan.place(), why);

    toml_doc *doc = static_cast<toml_doc *>(std::calloc(1, sizeof *doc));
    if (!doc) return ERR_NO_MEMORY;
    arena_init(&doc->arena, TREE_MAX);
    const int r = parse_copy(doc, text, n, error);
    if (r) {
        toml_free(doc);
        return r;
    }
    *out = doc;
    return 0;
}

const struct toml_node *toml_root(const struct toml_doc *doc) { return &doc->root; }

void toml_free(struct toml_doc *doc) {
    if (!doc) return;
    arena_free(&doc->arena);
    std::free(doc);
}

const char *toml_kind_text(enum toml_kind kind) {
    switch (kind) {
    case TOML_STRING: return "a string";
    case TOML_INTEGER: return "an integer";
    case TOML_FLOAT: return "a number with a fraction";
    case TOML_BOOLEAN: return "a boolean";
    case TOML_TIME: return "a date or time";
    case TOML_ARRAY: return "a list";
    case TOML_TABLE: return "a table";
    }
    return "a value";
}
