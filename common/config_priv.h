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

struct config_setting {
	enum config_type type;
	size_t offset;         /* of the field in struct config */
	int64_t min, max;      /* in the unit the field is kept in; text: max bytes */
};
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
void config_range_text(enum config_id, char *out, size_t n);
bool config_value_same(const struct config *, const struct config *, enum config_id);
void config_value_swap(struct config *, struct config *, enum config_id);
const struct strlist *config_list(const struct config *, enum config_id);
const struct strmap *config_map(const struct config *, enum config_id);
void config_quote(struct buf *, const char *text); /* in double quotes, cut when long */

/* config_error.c */
void config_error(struct config_reader *, const char *file, int line, int column, const char *fmt,
    ...) __attribute__((format(printf, 5, 6)));
void config_error_drop(struct config_set *);
void config_error_sort(struct config_set *, size_t first);
/* The nearest of the candidates, or NULL where none is near enough. */
const char *config_nearest(const char *word, const char *const *candidates, size_t n);
/* Appends why `key` is wrong in `section` (NULL: at the top) and what may have been meant. */
void config_unknown_key(struct buf *, const char *section, const char *key);

/* config_yaml.c */
void config_yaml(struct config_reader *, const struct config_text *);

/* config_check.c: the rules that hold between settings, and the files they name */
void config_check(struct config_reader *);

#endif
