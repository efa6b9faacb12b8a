/*
 * config.c - the list of settings made from config.def, and the order in which values are read.
 *
 * config_load is called by every program's main and at SIGHUP: defaults, the file, conf.d beside
 * it, the environment, the command line, then the rules between settings. It collects errors and
 * goes on; it never prints, never exits, and touches nothing but the config_set it is given.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config_priv.h"
#include "common/xalloc.h"
#include "common/banned.h"

#define RELOAD CONFIG_RELOAD
#define RESTART CONFIG_RESTART
#define SECRET CONFIG_SECRET

const char *const config_old_env[CONFIG__MAX] = {
#define SECTION(name, help)
#define CONF_STR(field, key, def, max, flags, help)
#define CONF_BOOL(field, key, def, flags, help)
#define CONF_INT(field, key, def, min, max, flags, help)
#define CONF_DUR(field, key, def, min, max, flags, help)
#define CONF_SIZE(field, key, def, min, max, flags, help)
#define CONF_DBL(field, key, def, min, max, flags, help)
#define CONF_ENUM(field, key, def, words, flags, help)
#define CONF_LIST(field, key, def, flags, help)
#define CONF_MAP(field, key, flags, help)
#define OLDENV(field, name) [CONFIG_##field] = (name),
#include "common/config.def"
};

#define SET(field, type, min, max, def, words)                                                    \
	[CONFIG_##field] = { type, offsetof(struct config, field), (min), (max), (def), (words),  \
		CONFIG_CHECK_NONE },
const struct config_setting config_settings[CONFIG__MAX] = {
#define SECTION(name, help)
#define CONF_STR(field, key, def, max, flags, help) SET(field, CONFIG_T_STR, 0, max, def, NULL)
#define CONF_BOOL(field, key, def, flags, help) SET(field, CONFIG_T_BOOL, 0, 1, def, NULL)
#define CONF_INT(field, key, def, min, max, flags, help) \
	SET(field, CONFIG_T_INT, min, max, def, NULL)
#define CONF_DUR(field, key, def, min, max, flags, help) \
	SET(field, CONFIG_T_DUR, min, max, def, NULL)
#define CONF_SIZE(field, key, def, min, max, flags, help) \
	SET(field, CONFIG_T_SIZE, min, max, def, NULL)
#define CONF_DBL(field, key, def, min, max, flags, help) \
	SET(field, CONFIG_T_DBL, (min) * 1000, (max) * 1000, def, NULL)
#define CONF_ENUM(field, key, def, words, flags, help) SET(field, CONFIG_T_ENUM, 0, 0, def, words)
#define CONF_LIST(field, key, def, flags, help) SET(field, CONFIG_T_LIST, 0, 0, def, NULL)
#define CONF_MAP(field, key, flags, help) SET(field, CONFIG_T_MAP, 0, 0, "", NULL)
#define OLDENV(field, name)
#include "common/config.def"
};

/* What config_rows needs and no constant expression can say; filled before main by rows_fill. */
static struct {
	char range[CONFIG_RANGE_TEXT];
	char section[24];
	char section_help[96];
} texts[CONFIG__MAX];

#define ROW(field, key, type, def, words, flags, help)                                             \
	[CONFIG_##field] = { (key), (type), (def), texts[CONFIG_##field].range, (words), (flags),  \
		(help), texts[CONFIG_##field].section, texts[CONFIG_##field].section_help },
const struct config_row config_rows[CONFIG__MAX] = {
#define SECTION(name, help)
#define CONF_STR(field, key, def, max, flags, help) ROW(field, key, "text", def, NULL, flags, help)
#define CONF_BOOL(field, key, def, flags, help) ROW(field, key, "boolean", def, NULL, flags, help)
#define CONF_INT(field, key, def, min, max, flags, help) \
	ROW(field, key, "integer", def, NULL, flags, help)
#define CONF_DUR(field, key, def, min, max, flags, help) \
	ROW(field, key, "duration", def, NULL, flags, help)
#define CONF_SIZE(field, key, def, min, max, flags, help) \
	ROW(field, key, "size", def, NULL, flags, help)
#define CONF_DBL(field, key, def, min, max, flags, help) \
	ROW(field, key, "number", def, NULL, flags, help)
#define CONF_ENUM(field, key, def, words, flags, help) \
	ROW(field, key, "word", def, words, flags, help)
#define CONF_LIST(field, key, def, flags, help) ROW(field, key, "list", def, NULL, flags, help)
#define CONF_MAP(field, key, flags, help) ROW(field, key, "map", "", NULL, flags, help)
#define OLDENV(field, name)
#include "common/config.def"
};

static const struct {
	const char *name, *help;
} sections[] = {
#define SECTION(name, help) { (name), (help) },
#define CONF_STR(field, key, def, max, flags, help)
#define CONF_BOOL(field, key, def, flags, help)
#define CONF_INT(field, key, def, min, max, flags, help)
#define CONF_DUR(field, key, def, min, max, flags, help)
#define CONF_SIZE(field, key, def, min, max, flags, help)
#define CONF_DBL(field, key, def, min, max, flags, help)
#define CONF_ENUM(field, key, def, words, flags, help)
#define CONF_LIST(field, key, def, flags, help)
#define CONF_MAP(field, key, flags, help)
#define OLDENV(field, name)
#include "common/config.def"
};

static void __attribute__((constructor))
rows_fill(void)
{
	for (int id = 0; id < CONFIG__MAX; id++) {
		size_t i, n = strcspn(config_rows[id].key, ".");

		config_range_text(&config_settings[id], texts[id].range, sizeof(texts[id].range));
		for (i = 0; i < ARRAY_LEN(sections); i++)
			if (strlen(sections[i].name) == n &&
			    !memcmp(sections[i].name, config_rows[id].key, n))
				break;
		if (i == ARRAY_LEN(sections) || n >= sizeof(texts[id].section) ||
		    strlen(sections[i].help) >= sizeof(texts[id].section_help))
			BUG("config.def: a setting without its section, or a text too long");
		memcpy(texts[id].section, sections[i].name, n + 1);
		memcpy(texts[id].section_help, sections[i].help, strlen(sections[i].help) + 1);
	}
}

int
config_find(const char *key)
{
	for (int id = 0; id < CONFIG__MAX; id++)
		if (!strcmp(config_rows[id].key, key))
			return id;
	return -1;
}

bool
config_section_known(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(sections); i++)
		if (!strcmp(sections[i].name, name))
			return true;
	return false;
}

const char *
config_key_name(enum config_id id)
{
	return strchr(config_rows[id].key, '.') + 1;
}

void
config_env_name(const char *key, char *out, size_t n)
{
	static const char prefix[] = "IIS_POLLER_";
	size_t i = sizeof(prefix) - 1;

	if (n <= i + strlen(key))
		BUG("no room for an environment name");
	memcpy(out, prefix, i);
	for (; *key; key++, i++) {
		char ch = *key;

		out[i] = ch == '.' ? '_' : ch >= 'a' && ch <= 'z' ? (char)(ch - 'a' + 'A') : ch;
	}
	out[i] = '\0';
}

void
config_defaults(struct config *c)
{
	struct buf why = BUF_INIT;

	memset(c, 0, sizeof(*c));
	for (int id = 0; id < CONFIG__MAX; id++)
		if (config_put(c, id, config_rows[id].def, &why) < 0)
			BUG(buf_str(&why));
	buf_release(&why);
}

void
config_origin_set(struct config_set *set, enum config_id id, const char *file, int line, int column)
{
	free(set->origin[id].file);
	set->origin[id] = (struct config_origin){ xstrdup(file), line, column };
}

void
config_release(struct config *c)
{
	for (int id = 0; id < CONFIG__MAX; id++)
		config_field_release((char *)c + config_settings[id].offset, &config_settings[id]);
	config_tables_release(c);
	memset(c, 0, sizeof(*c));
}

void
config_set_release(struct config_set *set)
{
	config_release(&set->c);
	for (int id = 0; id < CONFIG__MAX; id++)
		free(set->origin[id].file);
	for (size_t i = 0; i < set->n_errors; i++) {
		free(set->errors[i].file);
		free(set->errors[i].text);
		free(set->errors[i].source);
	}
	memset(set, 0, sizeof(*set));
}

/* --- files --- */

static const struct config_text *
text_keep(struct config_reader *r, const char *name, char *text, size_t len, mode_t mode)
{
	r->files = xreallocarray(r->files, r->n_files + 1, sizeof(*r->files));
	r->files[r->n_files] = (struct config_text){ xstrdup(name), text, len, mode };
	return &r->files[r->n_files++];
}

/* Reads at most one byte more than is allowed, so that "too large" is seen. */
static ssize_t
read_some(int fd, char *text)
{
	size_t len = 0;

	while (len <= CONFIG_FILE_MAX) {
		ssize_t n = read(fd, text + len, CONFIG_FILE_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static void
read_open_file(struct config_reader *r, const char *path, int fd)
{
	struct stat st;
	ssize_t len;
	char *text;

	if (fstat(fd, &st) < 0) {
		config_error(r, path, 0, 0, "cannot be read: %s", strerror(errno));
		return;
	}
	if (S_ISDIR(st.st_mode)) {
		config_error(r, path, 0, 0, "is a directory; the name of a file is wanted");
		return;
	}
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) {
		config_error(r, path, 0, 0, "is not a regular file");
		return;
	}
	text = xmalloc(CONFIG_FILE_MAX + 2);
	len = read_some(fd, text);
	if (len < 0 || len > CONFIG_FILE_MAX) {
		if (len < 0)
			config_error(r, path, 0, 0, "cannot be read: %s", strerror(errno));
		else
			config_error(r, path, 0, 0, "is too large: at most %d bytes are read",
			    CONFIG_FILE_MAX);
		explicit_bzero(text, CONFIG_FILE_MAX + 2);
		free(text);
		return;
	}
	text[len] = '\0';
	config_yaml(r, text_keep(r, path, text, (size_t)len, st.st_mode));
}

static void
read_file(struct config_reader *r, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0) {
		if (errno == ENOENT && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
			config_error(r, path, 0, 0, "cannot be read: the link leads nowhere");
		else
			config_error(r, path, 0, 0, "cannot be read: %s", strerror(errno));
		return;
	}
	read_open_file(r, path, fd);
	close(fd);
}

static int
is_yaml(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 && !strcmp(d->d_name + n - 5, ".yaml");
}

/* Byte order, so that the order does not hang on the locale. */
static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void
read_conf_d(struct config_reader *r, const char *main_file)
{
	const char *slash = strrchr(main_file, '/');
	int dir_len = slash ? (int)(slash - main_file) + 1 : 0;
	char *dir = xasprintf("%.*sconf.d", dir_len, main_file);
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_yaml, by_name);

	if (n < 0 && errno != ENOENT)
		config_error(r, dir, 0, 0, "cannot be read: %s", strerror(errno));
	if (n > CONFIG_FILES_MAX)
		config_error(r, dir, 0, 0, "holds %d files; at most %d are read", n,
		    CONFIG_FILES_MAX);
	for (int i = 0; i < n; i++) {
		if (n <= CONFIG_FILES_MAX) {
			char *path = xasprintf("%s/%s", dir, names[i]->d_name);

			read_file(r, path);
			free(path);
		}
		free(names[i]);
	}
	free(names);
	free(dir);
}

static void
read_files(struct config_reader *r)
{
	const char *file = r->args->file;
	struct stat st;

	if (!file) {
		if (lstat(CONFIG_FILE, &st) < 0 && errno == ENOENT)
			return;
		file = CONFIG_FILE;
	}
	read_file(r, file);
	read_conf_d(r, file);
}

/* --- environment and command line --- */

/* Sets a list or map from "a,b" or "k=v,k=v". A map is added to, name by name, as everywhere. */
static void
put_entries(struct config_reader *r, enum config_id id, const char *value, const char *where,
    const char *name)
{
	struct config *c = &r->set->c;
	struct strlist parts = { NULL, 0 };
	struct buf why = BUF_INIT;
	bool map = config_settings[id].type == CONFIG_T_MAP;

	config_split(value, &parts);
	if (!map)
		config_list_clear(c, id);
	for (size_t i = 0; i < parts.n; i++) {
		char *eq = strchr(parts.v[i], '=');

		buf_clear(&why);
		if (map && !eq) {
			config_error(r, where, 0, 0, "%s: entry %zu has no \"=\" (name=value,...)",
			    name, i + 1);
			continue;
		}
		if (map)
			*eq = '\0';
		if (map && !strcmp(where, "command line") && config_property_secret(parts.v[i]))
			config_error(r, where, 0, 0, "%s: %s on a command line can be read by "
			    "every user; put it into the file or use kafka.password_file", name,
			    parts.v[i]);
		else if ((map ? config_map_put(c, id, parts.v[i], eq + 1, &why) :
			config_list_put(c, id, parts.v[i], &why)) < 0)
			config_error(r, where, 0, 0, "%s: %s", name, buf_str(&why));
		else if (map && r->args->property_check) {
			char text[512] = "";
			const char *bad =
			    r->args->property_check(parts.v[i], eq + 1, text, sizeof(text));

			if (bad)
				config_error(r, where, 0, 0, "%s: %s: %s", name, parts.v[i], bad);
		}
		if (eq)
			explicit_bzero(eq + 1, strlen(eq + 1));
	}
	strlist_release(&parts);
	buf_wipe(&why);
}

static void
put(struct config_reader *r, enum config_id id, const char *value, const char *where,
    const char *name, const char *origin)
{
	struct buf why = BUF_INIT;

	if (config_settings[id].type == CONFIG_T_LIST || config_settings[id].type == CONFIG_T_MAP)
		put_entries(r, id, value, where, name);
	else if (config_put(&r->set->c, id, value, &why) < 0)
		config_error(r, where, 0, 0, "%s: %s", name, buf_str(&why));
	config_origin_set(r->set, id, origin, 0, 0);
	buf_release(&why);
}

/* The earlier service took Python's level names and did not mind the case. */
static const char *
old_value(enum config_id id, const char *value, char *out, size_t n)
{
	static const char *const levels[][2] = {
		{ "critical", "error" }, { "error", "error" }, { "warning", "warn" },
		{ "warn", "warn" }, { "info", "info" }, { "debug", "debug" },
	};
	size_t i;

	if (id == CONFIG_log_level)
		for (i = 0; i < ARRAY_LEN(levels); i++)
			if (!strcasecmp(value, levels[i][0]))
				return levels[i][1];
	if (config_settings[id].type != CONFIG_T_ENUM || strlen(value) >= n)
		return value;
	for (i = 0; value[i]; i++)
		out[i] = value[i] >= 'A' && value[i] <= 'Z' ? (char)(value[i] + 32) : value[i];
	out[i] = '\0';
	return out;
}

static const char *
env_get(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; env && *env; env++)
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

static void
env_setting(struct config_reader *r, enum config_id id)
{
	const char *value, *old = NULL, *name;
	char new_name[128], lower[32], origin[160];

	config_env_name(config_rows[id].key, new_name, sizeof(new_name));
	value = env_get(r->args->environ_, new_name);
	name = new_name;
	if (config_old_env[id])
		old = env_get(r->args->environ_, config_old_env[id]);
	if (old)
		old = old_value(id, old, lower, sizeof(lower));
	if (old && value && strcmp(old, value)) {
		config_error(r, "environment", 0, 0,
		    "%s and %s are both set, to different values; keep one of them", new_name,
		    config_old_env[id]);
		return;
	}
	if (old && !value) {
		value = old;
		name = config_old_env[id];
	}
	if (!value)
		return;
	snprintf(origin, sizeof(origin), "environment %s", name);
	put(r, id, value, "environment", name, origin);
}

static void
env_unknown(struct config_reader *r, const char *entry, const char *const *names)
{
	size_t n = strcspn(entry, "=");
	char *name = xmemdup0(entry, n);
	const char *near;
	size_t i;

	for (i = 0; i < CONFIG__MAX; i++)
		if (!strcmp(names[i], name))
			break;
	for (int t = 0; t < CONFIG_TABLE__MAX && i == CONFIG__MAX; t++)
		if (!strncasecmp(name + 11, config_tables[t].name, strlen(config_tables[t].name))) {
			config_error(r, "environment", 0, 0, "unknown variable %s; %s are set in the "
			    "file alone", name, config_tables[t].name);
			i = 0;
		}
	if (i == CONFIG__MAX) {
		near = config_nearest(name, names, CONFIG__MAX);
		if (near)
			config_error(r, "environment", 0, 0,
			    "unknown variable %s (did you mean %s?)", name, near);
		else
			config_error(r, "environment", 0, 0,
			    "unknown variable %s; the names are IIS_POLLER_<SECTION>_<KEY>", name);
	}
	free(name);
}

static void
read_environment(struct config_reader *r)
{
	char all[CONFIG__MAX][128];
	const char *names[CONFIG__MAX];

	if (!r->args->environ_)
		return;
	for (int id = 0; id < CONFIG__MAX; id++) {
		env_setting(r, id);
		config_env_name(config_rows[id].key, all[id], sizeof(all[id]));
		names[id] = all[id];
	}
	for (char *const *env = r->args->environ_; *env; env++)
		if (!strncmp(*env, "IIS_POLLER_", 11))
			env_unknown(r, *env, names);
}

/* "kafka.properties.NAME=value" sets one property, so that a value may hold commas. */
static bool
one_property(struct config_reader *r, const char *key, const char *value)
{
	static const char prefix[] = "kafka.properties.";
	struct buf text = BUF_INIT;

	if (strncmp(key, prefix, sizeof(prefix) - 1))
		return false;
	buf_printf(&text, "%s=", key + sizeof(prefix) - 1);
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			buf_putc(&text, '\\');
		buf_putc(&text, *value);
	}
	put(r, CONFIG_kafka_properties, buf_str(&text), "command line", "kafka.properties",
	    "command line");
	buf_wipe(&text);
	return true;
}

static void
read_argument(struct config_reader *r, const char *arg)
{
	const char *eq = strchr(arg, '=');
	struct buf why = BUF_INIT;
	char *key, *dot;
	int id;

	if (!eq) {
		config_quote(&why, arg);
		config_error(r, "command line", 0, 0, "%s is not a setting: section.key=value",
		    buf_str(&why));
		buf_release(&why);
		return;
	}
	key = xmemdup0(arg, (size_t)(eq - arg));
	id = config_find(key);
	if (id >= 0) {
		put(r, id, eq + 1, "command line", key, "command line");
	} else if (!one_property(r, key, eq + 1)) {
		dot = strchr(key, '.');
		if (dot)
			*dot = '\0';
		if (config_table_find(key) >= 0)
			buf_printf(&why, "%s are set in the file alone", key);
		else if (dot && config_section_known(key))
			config_unknown_key(&why, key, dot + 1);
		else
			config_unknown_key(&why, NULL, key);
		config_error(r, "command line", 0, 0, "%s", buf_str(&why));
	}
	free(key);
	buf_release(&why);
}

static void
reader_begin(struct config_reader *r, struct config_set *set, const struct config_args *args)
{
	*r = (struct config_reader){ .set = set, .args = args };
	memset(set, 0, sizeof(*set));
	config_defaults(&set->c);
	for (int id = 0; id < CONFIG__MAX; id++)
		config_origin_set(set, id, "default", 0, 0);
}

static int
reader_end(struct config_reader *r)
{
	const char *const *s = r->args->settings;

	read_environment(r);
	for (; s && *s; s++)
		read_argument(r, *s);
	config_tables_finish(r);
	config_check(r);
	for (size_t i = 0; i < r->n_files; i++) {
		free(r->files[i].name);
		explicit_bzero(r->files[i].text, r->files[i].len);
		free(r->files[i].text);
	}
	free(r->files);
	return r->set->n_errors ? -1 : 0;
}

int
config_load(struct config_set *set, const struct config_args *args)
{
	struct config_reader r;

	reader_begin(&r, set, args);
	read_files(&r);
	return reader_end(&r);
}

int
config_load_text(struct config_set *set, const char *name, const char *text, size_t n,
    const struct config_args *args)
{
	struct config_reader r;

	reader_begin(&r, set, args);
	if (n > CONFIG_FILE_MAX)
		config_error(&r, name, 0, 0, "is too large: at most %d bytes are read",
		    CONFIG_FILE_MAX);
	else
		config_yaml(&r, text_keep(&r, name, xmemdup0(text, n), n, 0));
	return reader_end(&r);
}

/* --- reload --- */

int
config_restart_needed(const struct config *old, const struct config *new_, struct buf *names)
{
	int n = 0;

	for (int id = 0; id < CONFIG__MAX; id++) {
		if (!(config_rows[id].flags & CONFIG_RESTART) || config_value_same(old, new_, id))
			continue;
		buf_printf(names, "%s%s", n++ ? ", " : "", config_rows[id].key);
	}
	for (int t = 0; t < CONFIG_TABLE__MAX; t++)
		if (config_tables[t].flags & CONFIG_RESTART && !config_table_same(old, new_, t))
			buf_printf(names, "%s%s", n++ ? ", " : "", config_tables[t].name);
	return n;
}

void
config_take_reloadable(struct config_set *dst, struct config_set *src)
{
	for (int id = 0; id < CONFIG__MAX; id++) {
		struct config_origin o = dst->origin[id];

		if (!(config_rows[id].flags & CONFIG_RELOAD))
			continue;
		config_value_swap(&dst->c, &src->c, id);
		dst->origin[id] = src->origin[id];
		src->origin[id] = o;
	}
	for (int t = 0; t < CONFIG_TABLE__MAX; t++)
		if (config_tables[t].flags & CONFIG_RELOAD)
			config_table_swap(&dst->c, &src->c, t);
}
