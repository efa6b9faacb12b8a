/*
 * config_priv.h - what the config_*.c files share; nobody else includes it.
 */
#ifndef COMMON_CONFIG_PRIV_H
#define COMMON_CONFIG_PRIV_H

#include <sys/types.h>

#include "common/config.h"

#define CONFIG_FILE_MAX (1024 * 1024)  /* bytes of one file */
#define CONFIG_FILES_MAX 256           /* files in conf.d */
#define CONFIG_DEPTH_MAX 32            /* nesting of a file, far above what any setting needs */
#define CONFIG_ENTRIES_MAX 256         /* entries of a list or map */
#define CONFIG_TABLE_MAX 1024          /* entries of a table */
#define CONFIG_VALUE_MAX 65536         /* bytes of one entry of a map: a PEM chain fits */

enum config_type {
	CONFIG_T_STR,
	CONFIG_T_BOOL,
	CONFIG_T_INT,
	CONFIG_T_DUR,
	CONFIG_T_SIZE,
	CONFIG_T_DBL,
	CONFIG_T_ENUM,
	CONFIG_T_LIST,
	CONFIG_T_MAP
};

enum config_check {            /* what a text must look like, beyond its type */
	CONFIG_CHECK_NONE,
	CONFIG_CHECK_TOPIC,
	CONFIG_CHECK_LISTEN,
	CONFIG_CHECK_BROKERS,
	CONFIG_CHECK_GROUP,
	CONFIG_CHECK_ROOT,
	CONFIG_CHECK_NETWORK,  /* 10.0.0.0/8 */
	CONFIG_CHECK_PORT,     /* 443, 8000-8999 */
	CONFIG_CHECK_SCHEME,   /* one of egress.schemes */
	CONFIG_CHECK_HOST,     /* a pattern of host names, or a network */
	CONFIG_CHECK_PATTERN,
	CONFIG_CHECK_SOURCE,   /* a source type, or "*" */
	CONFIG_CHECK_NAME      /* of a group: letters, digits, . _ - */
};

struct config_setting {
	enum config_type type;
	size_t offset;         /* of the field in struct config, or in the struct of its table */
	int64_t min, max;      /* in the unit the field is kept in; text: max bytes */
	const char *def;
	const char *words;     /* of an enum, else NULL */
	enum config_check check;
};
#define CONFIG_RANGE_TEXT 64
extern const struct config_setting config_settings[CONFIG__MAX];
/* The earlier service's environment names; NULL where it had none. */
extern const char *const config_old_env[CONFIG__MAX];

/* One file, kept until reading ends, for the source lines of errors. */
struct config_text {
	char *name;
	char *text;
	size_t len;
	mode_t mode;           /* 0: not from a file */
};

struct config_reader {         /* one run of config_load */
	struct config_set *set;
	const struct config_args *args;
	struct config_text *files;
	size_t n_files;
};

/* config.c */
void config_defaults(struct config *);
void config_release(struct config *);
void config_origin_set(struct config_set *, enum config_id, const char *file, int line, int column);
int config_find(const char *key);              /* "section.key" → id or -1 */
bool config_section_known(const char *name);
const char *config_key_name(enum config_id);   /* the part after the section */

/*
 * config_value.c: text to field and back. why gets "5ms is out of range (100ms..1d)", without the
 * key.
 */
int config_put(struct config *, enum config_id, const char *text, struct buf *why);
int config_list_put(struct config *, enum config_id, const char *text, struct buf *why);
int config_map_put(struct config *, enum config_id, const char *name, const char *value,
    struct buf *why);
void config_list_clear(struct config *, enum config_id);
/* Splits "a,b\,c" at its bare commas. */
void config_split(const char *text, struct strlist *out);
/* Not for lists and maps. */
void config_value_text(const struct config *, enum config_id, struct buf *);
void config_range_text(const struct config_setting *, char *out, size_t n);
bool config_value_same(const struct config *, const struct config *, enum config_id);
void config_value_swap(struct config *, struct config *, enum config_id);
const struct strlist *config_list(const struct config *, enum config_id);
const struct strmap *config_map(const struct config *, enum config_id);
void config_quote(struct buf *, const char *text); /* in double quotes, cut when long */
/* config_settings[id] with its check. */
struct config_setting config_setting_of(enum config_id);
/* The same for any field that a setting describes. */
int config_field_put(void *f, const struct config_setting *, const char *text, struct buf *why);
int config_field_add(struct strlist *, const struct config_setting *, const char *text,
    struct buf *why);
void config_field_release(void *f, const struct config_setting *);
void config_field_text(const void *f, const struct config_setting *, struct buf *);
bool config_field_same(const void *, const void *, const struct config_setting *);
void config_field_copy(void *to, const void *from, const struct config_setting *);

/* config_fault.c: 0, or -1 with why not, the quoted text first */
int config_fault(enum config_check, const char *text, struct buf *why);
/* NULL, or what is wrong with it as a text of one line, or of several. */
const char *config_text_fault(const char *, bool lines);

/* config_table.c: the named tables, each from its .def */
struct config_column {
	const char *key, *type;
	struct config_setting s;
	const char *help;
};
struct config_table_row {
	const char *name, *one;  /* "tenants", "tenant" */
	size_t size;             /* of the struct of an entry */
	const struct config_column *columns;
	size_t n_columns;
	unsigned flags;          /* CONFIG_RELOAD or CONFIG_RESTART; CONFIG_INHERIT */
	/* NULL, or why it cannot be the name of an entry, to be put behind it. */
	const char *(*name_fault)(const char *);
	/* What must hold within an entry; after all was read. NULL: nothing. */
	void (*check)(struct config_reader *, const struct config_entry *);
	const char *help;
};
extern const struct config_table_row config_tables[CONFIG_TABLE__MAX];
int config_table_find(const char *name);       /* → enum config_table_id or -1 */
int config_column_find(const struct config_table_row *, const char *key);
/* The entry of that name, made if there is none; NULL: there are too many. */
struct config_entry *config_entry_make(struct config *, enum config_table_id, const char *name);
void *config_entry_field(const struct config_entry *, const struct config_column *);
/* After the last file: what an entry does not say, and then the rules. */
void config_tables_finish(struct config_reader *);
void config_tables_release(struct config *);
void config_table_swap(struct config *, struct config *, enum config_table_id);

/* config_error.c */
void config_error(struct config_reader *, const char *file, int line, int column, const char *fmt,
    ...) __attribute__((format(printf, 5, 6)));
void config_error_drop(struct config_set *);
void config_error_sort(struct config_set *, size_t first);
/* The nearest of the candidates, or NULL where none is near enough. */
const char *config_nearest(const char *word, const char *const *candidates, size_t n);
/* Appends why `key` is wrong in `section` (NULL: at the top) and what may have been meant. */
void config_unknown_key(struct buf *, const char *section, const char *key);
void config_unknown_column(struct buf *, const struct config_table_row *, const char *entry,
    const char *key);

/*
 * config_scan.c: what libyaml gets to read, in clean; *text is moved behind a byte order mark.
 * *tabs: some indent a line, each now CONFIG_TAB_WIDTH spaces. false: the file cannot be read.
 */
#define CONFIG_TAB_WIDTH 2
bool config_scan(struct config_reader *, const struct config_text *, const char **text,
    struct buf *clean, bool *tabs);

/* config_yaml.c */
void config_yaml(struct config_reader *, const struct config_text *);

/* config_print.c, for config_table_print.c */
void config_put_quoted(struct buf *, const char *);
void config_put_list(struct buf *, const struct strlist *);
void config_put_origin(const struct config_origin *, struct buf *);
void config_put_words(struct buf *, const char *words); /* ": a, b" */
void config_put_comment(struct buf *, const char *indent, const char *text);

/* config_table_print.c: the tables' part of what config_print.c writes */
struct jsonw;
void config_tables_print(const struct config_set *, bool changed_only, struct buf *);
void config_tables_json(const struct config_set *, bool changed_only, struct jsonw *);
void config_tables_template(struct buf *);
void config_tables_mdoc(struct buf *);

/* config_check.c: the rules that hold between settings, and the files they name */
void config_check(struct config_reader *);

#endif
