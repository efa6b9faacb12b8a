# Makefile - builds, tests and installs iis-poller. One plain makefile, products in build/.
#
#   make                     the four programs
#   make demo                installs what the build needs, builds, shows one job from Kafka to Kafka
#   make check               installs what the tests need, builds, runs every test
#   make install DESTDIR= PREFIX=/usr/local
#   make SANITIZE=address,undefined | SANITIZE=thread      the same under build-address,undefined/ ...

VERSION := 0.1.0
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
CC ?= gcc
PKG_CONFIG ?= pkg-config
SANITIZE ?=
# make V=1 shows every command.
Q := $(if $(V),,@)
B := build$(if $(SANITIZE),-$(SANITIZE))

comma := ,
# Texts for people are cut on purpose (snprintf into a fixed array), so that one is no warning here.
WARN := -Wall -Wextra -Werror -Wformat=2 -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wpointer-arith -Wwrite-strings -Wundef -Wvla -Wcast-qual -Wnull-dereference -Wimplicit-fallthrough -Wno-format-truncation
HARDEN := -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -fPIE
LDHARDEN := -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,shstk -Wl,--as-needed
ifeq ($(SANITIZE),)
OPT := -O2 -g -D_FORTIFY_SOURCE=2
else
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -DSANITIZED=1
LDHARDEN += -fsanitize=$(SANITIZE)
# gcc 12 sees null dereferences in code that the sanitizer itself added
WARN += -Wno-null-dereference
endif
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE -I. -I$(B) $(WARN) $(HARDEN) $(OPT) -MMD -MP -DVERSION='"$(VERSION)"' \
	-DLIBEXECDIR='"$(PREFIX)/libexec/iis-poller"' $(CFLAGS)

# What each program links; pkg-config names. The layering test holds these lists against ldd.
LIBS_COMMON := json-c yaml-0.1 libcrypto libseccomp
LIBS_MASTER := rdkafka
LIBS_HTTP := libmicrohttpd
LIBS_WORKER := libcurl libssh2 libxml-2.0
# master/probe.c starts librdkafka's threads in the way that ThreadSanitizer knows: taken along by programs that need no
# other word of it, too.
KNOWN_THREADS := $(if $(filter thread,$(SANITIZE)),-Wl$(comma)-u$(comma)thrd_create)
pc = $(shell $(PKG_CONFIG) --libs $(1) 2>/dev/null)
cflags = $(shell $(PKG_CONFIG) --cflags $(1) 2>/dev/null)
# libxml2 keeps its headers in a folder of its own.
$(B)/worker/%.o $(B)/t/unit/worker_%.o $(B)/t/lib/taken_over.o $(B)/t/lib/fuzz_%.o: CFLAGS += $(call cflags,$(LIBS_WORKER))

# heap.c replaces malloc() and free(): of the programs that hold secrets, not of tests.
COMMON := $(patsubst %.c,$(B)/%.o,$(filter-out common/heap.c,$(wildcard common/*.c)))
MASTER := $(patsubst %.c,$(B)/%.o,$(filter-out master/main.c,$(wildcard master/*.c)))
CTL := $(patsubst %.c,$(B)/%.o,$(filter-out master/ctl/main.c,$(wildcard master/ctl/*.c)))
HTTP := $(patsubst %.c,$(B)/%.o,$(filter-out master/http/main.c,$(wildcard master/http/*.c)))
WORKER := $(patsubst %.c,$(B)/%.o,$(filter-out worker/main.c,$(wildcard worker/*.c worker/source/*.c)))
PROGRAMS := $(B)/iis-pollerd $(B)/iis-poller-worker $(B)/iis-poller-http $(B)/iis-pollerctl
UNITS := $(patsubst t/unit/%.c,$(B)/t/unit/%.t,$(wildcard t/unit/*.c))
TOOLS := $(patsubst t/lib/%.c,$(B)/t/lib/%,$(filter-out t/lib/failing.c,$(wildcard t/lib/*.c))) $(B)/t/lib/escape $(B)/t/lib/failing.so

MAN := $(patsubst man/%.in,$(B)/man/%,$(wildcard man/*.in)) $(patsubst man/%,$(B)/man/%,$(wildcard man/*.[0-9]))

all: $(PROGRAMS) $(MAN)

$(B)/iis-pollerd: $(B)/master/main.o $(B)/common/heap.o $(B)/libmaster.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,$(LIBS_MASTER) $(LIBS_COMMON)) -lpthread -lm
$(B)/iis-poller-worker: $(B)/worker/main.o $(B)/common/heap.o $(B)/libworker.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,$(LIBS_WORKER) $(LIBS_COMMON)) -lpthread -lm
$(B)/iis-poller-http: $(B)/master/http/main.o $(B)/libhttp.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,$(LIBS_HTTP) $(LIBS_COMMON)) -lm
$(B)/iis-pollerctl: $(B)/master/ctl/main.o $(B)/libctl.a $(B)/libmaster.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) $(KNOWN_THREADS) -o $@ $^ $(call pc,$(LIBS_MASTER) $(LIBS_COMMON)) -lpthread -lm

$(B)/libcommon.a: $(COMMON)
$(B)/libmaster.a: $(MASTER)
$(B)/libctl.a: $(CTL)
$(B)/libhttp.a: $(HTTP)
$(B)/libworker.a: $(WORKER)
$(B)/%.a:
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "CC $<";)$(CC) $(CFLAGS_ALL) -c -o $@ $<

# Both binaries of one build carry the same id; a worker of another build is refused.
SOURCES := $(sort $(wildcard common/*.[ch] common/*.def master/*.[ch] master/*.def master/*/*.[ch] worker/*.[ch] worker/source/*.[ch]))
$(B)/common/build_id.o: $(SOURCES)
$(B)/common/build_id.o: CFLAGS += -DBUILD_ID='"$(shell cat $(SOURCES) | sha256sum | cut -c1-16)$(SANITIZE)"'

# A unit's name says what it links: common_*, master_*, ctl_*, http_*, worker_*.
$(B)/t/unit/common_%.t: $(B)/t/unit/common_%.o $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,check $(LIBS_COMMON)) -lm
$(B)/t/unit/master_%.t: $(B)/t/unit/master_%.o $(B)/libmaster.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,check $(LIBS_MASTER) $(LIBS_COMMON)) -lpthread -lm
$(B)/t/unit/ctl_%.t: $(B)/t/unit/ctl_%.o $(B)/libctl.a $(B)/libmaster.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,check $(LIBS_MASTER) $(LIBS_COMMON)) -lpthread -lm
$(B)/t/unit/http_%.t: $(B)/t/unit/http_%.o $(B)/libhttp.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,check $(LIBS_HTTP) $(LIBS_COMMON)) -lm
$(B)/t/unit/worker_%.t: $(B)/t/unit/worker_%.o $(B)/libworker.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,check $(LIBS_WORKER) $(LIBS_COMMON)) -lm
# Helper programs of the tests (mock broker, evil worker, ...).
$(B)/t/lib/%: $(B)/t/lib/%.o $(B)/libmaster.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) $(KNOWN_THREADS) -o $@ $^ $(call pc,$(LIBS_MASTER) $(LIBS_COMMON)) -lpthread -lm
# All attempts to get out of the sandbox are one program.
$(B)/t/lib/escape: $(patsubst %.c,$(B)/%.o,$(wildcard t/escape/*.c)) $(B)/libcommon.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,$(LIBS_COMMON)) -lpthread -lm
# The worker program itself, with one function taken over.
$(B)/t/lib/taken_over: $(B)/t/lib/taken_over.o $(B)/worker/main.o $(B)/common/heap.o $(B)/libworker.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -Wl,--wrap=channel_send_data -o $@ $^ $(call pc,$(LIBS_WORKER) $(LIBS_COMMON)) -lm

# The targets of t/fuzz as one program, with an allocation failing below the heap of the programs.
NTH := $(notdir $(basename $(wildcard t/fuzz/*.c)))
$(B)/t/lib/fuzz_%.o: t/fuzz/%.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "CC $<";)$(CC) $(CFLAGS_ALL) -DLLVMFuzzerTestOneInput=fuzz_$* -c -o $@ $<
$(B)/t/lib/nth_malloc.o: $(wildcard t/fuzz/*.c)
$(B)/t/lib/nth_malloc.o: CFLAGS += -D'TARGETS=$(foreach t,$(NTH),TARGET($(t)))'
$(B)/t/lib/nth_malloc: $(B)/t/lib/nth_malloc.o $(NTH:%=$(B)/t/lib/fuzz_%.o) $(B)/common/heap.o $(B)/libworker.a $(B)/libmaster.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,$(LIBS_MASTER) $(LIBS_WORKER) $(LIBS_COMMON)) -lpthread -lm
$(B)/t/lib/failing.so: t/lib/failing.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "LINK $@";)$(CC) $(filter-out -fPIE -fsanitize=%,$(CFLAGS_ALL)) -fPIC -shared -o $@ $<

# Manuals: a page with @MARKERS@ gets the lists of the program itself.
$(B)/man/gen: $(B)/man/gen.o $(B)/man/lists.o $(B)/libctl.a $(B)/libmaster.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,$(LIBS_MASTER) $(LIBS_COMMON)) -lpthread -lm
$(B)/man/%: man/%.in $(B)/man/gen $(wildcard man/example.*)
	$(Q)$(B)/man/gen $< >$@.new && mv $@.new $@
$(B)/man/%: man/%
	@mkdir -p $(@D)
	$(Q)cp $< $@

# Benchmarks (t/bench) print ratios; they are not tests.
BENCHES := $(patsubst t/bench/%.c,$(B)/t/bench/%,$(wildcard t/bench/*.c))
$(B)/t/bench/%: $(B)/t/bench/%.o $(B)/libworker.a $(B)/libmaster.a $(B)/libcommon.a
	$(if $(V),,@echo "LINK $@";)$(CC) $(LDHARDEN) -o $@ $^ $(call pc,$(LIBS_MASTER) $(LIBS_WORKER) $(LIBS_COMMON)) -lpthread -lm
BENCH_SCRIPTS := $(filter-out %.c,$(wildcard t/bench/*))
bench: all tools $(BENCHES)
	@for b in $(BENCHES) $(BENCH_SCRIPTS); do echo "== $$b"; BUILD=$(B) $$b || exit 1; done

units: $(UNITS)
tools: $(TOOLS)

need-build:
	@conf/need conf/packages.build
need-test:
	@conf/need conf/packages.build conf/packages.test --optional conf/packages.test.optional

# The sub-make looks for libraries that need-* may just have installed.
demo: need-build
	@$(MAKE) --no-print-directory -s all
	@conf/demo $(B)

check: need-test
	@$(MAKE) --no-print-directory -s all units tools
	$(SANITIZER_OPTIONS) BUILD=$(B) prove --failures --comments -e '' $(PROVE) $(TESTS)
TESTS ?= t/*.t $(UNITS)
PROVE ?= -j2
SANITIZER_OPTIONS := TSAN_OPTIONS="suppressions=$(CURDIR)/t/lib/tsan.supp exitcode=66" UBSAN_OPTIONS=print_stacktrace=1
# What the sanitizers are worth running on: everything where our own processes do the work.
SANITIZE_FLOWS := t/20-local.t t/21-dummy.t t/23-s3.t t/24-sftp.t t/25-ftp.t t/26-http.t t/27-broker.t t/27-faults.t t/29-connections.t t/30-flow.t t/36-pools.t t/37-tenants.t t/38-deferred.t t/40-crash.t t/42-evil-worker.t t/50-kafka.t t/53-drain.t t/60-ctl.t t/61-ctl-kafka.t t/70-status.t
THREAD_FLOWS := t/30-flow.t t/50-kafka.t t/53-drain.t t/54-topics.t t/61-ctl-kafka.t t/70-status.t

# libFuzzer targets: every parser of foreign bytes, FUZZ_SECONDS each, two at a time. Seeds of target a_b: t/data/a_b, else
# t/data/a. What is fuzzed is compiled once.
FUZZ_SECONDS ?= 60
FUZZERS := $(patsubst t/fuzz/%.c,$(B)/fuzz/%,$(wildcard t/fuzz/*.c))
FUZZ_FLAGS := -std=c11 -D_GNU_SOURCE -I. -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -DSANITIZED=1 \
	-DVERSION='"fuzz"' -DBUILD_ID='"fuzz"' -DLIBEXECDIR='""' -MMD -MP
FUZZED := $(patsubst %.c,$(B)/fuzz/%.o,$(filter-out common/heap.c,$(wildcard common/*.c)) $(filter-out worker/main.c,$(wildcard worker/*.c worker/source/*.c)))
$(B)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "FUZZ $<";)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link $(call cflags,$(LIBS_WORKER)) -c -o $@ $<
$(B)/fuzz/%: t/fuzz/%.c $(FUZZED)
	@mkdir -p $(@D)
	$(if $(V),,@echo "FUZZ $@";)clang $(FUZZ_FLAGS) -fsanitize=fuzzer $(call cflags,$(LIBS_WORKER)) -o $@ $< $(FUZZED) \
		$(call pc,$(LIBS_WORKER) $(LIBS_COMMON)) -lm
fuzz: need-test
	@$(MAKE) --no-print-directory -s $(FUZZERS)
	@printf '%s\n' $(notdir $(FUZZERS)) | xargs -P 2 -n 1 t/fuzz/run $(B) $(FUZZ_SECONDS)

# The same tests of the parts that are ours, under valgrind; but for two: valgrind 3.19 knows neither seccomp(2) nor
# Landlock and keeps descriptors of its own above every limit (the sandbox), and it has no openat2(2) (secrets).
VALGRIND_UNITS = $(filter-out %/common_sandbox.t %/master_secret.t,$(UNITS))
check-valgrind: need-test
	@$(MAKE) --no-print-directory -s all units tools
	CK_DEFAULT_TIMEOUT=300 prove -j2 -e 'valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite' $(VALGRIND_UNITS)

# What the service manager and AppArmor read names the installed paths.
FILL = sed -e 's,@SBINDIR@,$(PREFIX)/sbin,g' -e 's,@LIBEXECDIR@,$(PREFIX)/libexec/iis-poller,g' -e 's,@SYSCONFDIR@,$(SYSCONFDIR),g'
install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/iis-poller
	install -m 755 $(B)/iis-pollerd $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(B)/iis-pollerctl $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(B)/iis-poller-worker $(B)/iis-poller-http $(DESTDIR)$(PREFIX)/libexec/iis-poller/
	for page in $(MAN); do s=$${page##*.}; install -d $(DESTDIR)$(PREFIX)/share/man/man$$s; \
		install -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$$s/; done
	install -d $(DESTDIR)$(PREFIX)/share/iis-poller/schemas $(DESTDIR)$(SYSCONFDIR)/iis-poller/conf.d
	install -m 644 conf/schemas/*.json $(DESTDIR)$(PREFIX)/share/iis-poller/schemas/
	install -m 644 conf/iis-poller.yaml $(DESTDIR)$(PREFIX)/share/iis-poller/
	test -e $(DESTDIR)$(SYSCONFDIR)/iis-poller/iis-poller.yaml || \
		install -m 640 conf/iis-poller.yaml $(DESTDIR)$(SYSCONFDIR)/iis-poller/
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(SYSCONFDIR)/apparmor.d
	$(FILL) conf/systemd/iis-poller.service.in >$(DESTDIR)$(PREFIX)/lib/systemd/system/iis-poller.service
	install -m 644 conf/systemd/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/iis-poller.conf
	$(FILL) conf/apparmor/iis-pollerd.in >$(DESTDIR)$(SYSCONFDIR)/apparmor.d/iis-pollerd
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/iis-poller.service $(DESTDIR)$(SYSCONFDIR)/apparmor.d/iis-pollerd
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 644 conf/completion/iis-pollerctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/iis-pollerctl

clean:
	rm -rf build build-*

.PHONY: all units tools bench fuzz need-build need-test demo check check-valgrind install clean
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
