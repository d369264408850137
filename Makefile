# One non-recursive Makefile; objects per variant under build/<variant>/. `make help` lists the targets.

CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
PREFIX ?= /usr/local
SECS ?= 60
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
Q := $(if $(V),,@)
comma := ,
SUB = +$(Q)$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))

PKGS = libevent libevent_openssl libevent_pthreads msgpack openssl libsodium sqlite3 jansson libcyaml \
       smartcols libxxhash libzstd
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)

# One variant of the objects for each way to build: plain, san-address-undefined, san-thread, fuzz, cover.
VARIANT := $(if $(COVER),cover,$(if $(FUZZ),fuzz,$(if $(SAN),san-$(subst $(comma),-,$(SAN)),plain)))
VARIANT := $(VARIANT)$(if $(findstring clang,$(CC)),$(if $(FUZZ),,-clang),)
B := build/$(VARIANT)

CPPFLAGS += -D_GNU_SOURCE -Iprotocol/include -Iagents/include -Iclients/include -I. $(PKG_CFLAGS)
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           -Wwrite-strings -Wundef -Wno-missing-field-initializers -Wformat=2 -Wno-format-nonliteral
CFLAGS += -std=gnu11 -fvisibility=hidden -fno-strict-aliasing -fPIC -pthread $(WARNINGS) \
          $(if $(DEV),-Werror) $(if $(ANALYZE),-fanalyzer)
ifdef SAN
CFLAGS += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer -O1
LDFLAGS += -fsanitize=$(SAN)
endif
ifdef FUZZ
CFLAGS += -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -O1
LDFLAGS += -fsanitize=address,undefined
endif
ifdef COVER
CFLAGS += --coverage -O0
LDFLAGS += --coverage
endif
LDFLAGS += -Wl,--as-needed -Wl,--export-dynamic -pthread
LDLIBS += $(PKG_LIBS) -ldl

PROTOCOL_SRC := $(wildcard protocol/*.c protocol/base/*.c)
PERSIST_SRC := $(wildcard persistence/*.c)
AGENTS_SRC := $(wildcard agents/sdk/*.c agents/runner/*.c agents/builtin/*.c)
HOST_SRC := $(filter-out host/main.c,$(wildcard host/*.c host/core/*.c host/files/*.c host/net/*.c host/trust/*.c))
CLIENT_SRC := $(wildcard clients/lib/*.c clients/cli/*.c)
LIB_SRC := $(PROTOCOL_SRC) $(PERSIST_SRC) $(AGENTS_SRC) $(HOST_SRC) $(CLIENT_SRC)
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
PLUGIN_SRC := $(wildcard demos/*.c)
PUBLIC_H := $(wildcard protocol/include/godwit/* agents/include/godwit/* clients/include/godwit/*)

GODWIT := $(if $(filter plain,$(VARIANT)),build/godwit,$(B)/godwit)
PLUGIN_DIR := $(dir $(GODWIT))agents
PLUGINS := $(PLUGIN_SRC:demos/%.c=$(PLUGIN_DIR)/%.so)

.PHONY: all
all: $(GODWIT) $(PLUGINS)

# A library of everything but main(): the program and the tests link what they use of it.
$(B)/libgodwit.a: $(LIB_OBJ)
	@echo "  AR    $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(GODWIT): $(B)/host/main.o $(LIB_OBJ)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@.new $^ $(LDLIBS) && mv -f $@.new $@

# Written beside and renamed: a runner that has the old plugin open keeps it.
$(PLUGIN_DIR)/%.so: demos/%.c $(PUBLIC_H)
	@mkdir -p $(@D)
	@echo "  SO    $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -shared -o $@.new $< && mv -f $@.new $@

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(LIB_OBJ:.o=.d) $(B)/host/main.d
include tests/tests.mk

# demo and test may have to install packages first. What pkg-config says is read when make starts, so
# the work itself is done by a make of its own.
.PHONY: deps demo demo-run bench format install clean help
deps:
	$(Q)tools/deps.sh install build test check

demo:
	$(Q)tools/deps.sh ensure build demo
	$(SUB) demo-run

demo-run: all
	$(Q)demos/main_job.sh

bench:
	$(Q)tools/deps.sh ensure build test bench
	$(SUB) bench-run

format:
	$(Q)clang-format-14 -i $(FORMAT_SRC)

# The program stands beside its agents, PREFIX/bin gets a link: it looks for agents where it really is.
LIBDIR = $(DESTDIR)$(PREFIX)/lib/godwit
install: all $(B)/libgodwit.a
	install -d $(LIBDIR)/agents $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include/godwit
	install -m 755 $(GODWIT) $(LIBDIR)/godwit
	$(if $(PLUGINS),install -m 755 $(PLUGINS) $(LIBDIR)/agents)
	ln -sf ../lib/godwit/godwit $(DESTDIR)$(PREFIX)/bin/godwit
	install -m 644 $(PUBLIC_H) $(DESTDIR)$(PREFIX)/include/godwit
	install -m 644 $(B)/libgodwit.a $(DESTDIR)$(PREFIX)/lib/libgodwit.a

clean:
	rm -rf build

help:
	@echo 'make            build/godwit and the demo plugins in build/agents'
	@echo 'make deps       install the Debian packages (as root), or print the one command'
	@echo 'make demo       the main job, end to end: three hosts, a survey, a kill -9'
	@echo 'make test       everything; parts: test-model test-unit test-mesh test-system test-fuzz'
	@echo 'make test-system-san  the system tests against a build with address and undefined sanitizers'
	@echo 'make test-alloc the unit tests again and again, each time with another allocation that fails'
	@echo 'make sim        SEEDS=1000 seeds of the simulated mesh; SEED=n that one alone'
	@echo 'make network    MINUTES=10 five real hosts on a bad network; SEED=n that one alone'
	@echo 'make failpoints real hosts that fail at each transaction and frame; ONLY=TEXT some of them'
	@echo 'make files-torture  KILLS=10 kills of a copy of MIB=2048, and hosts that stand still'
	@echo 'make powerloss  crash states of store and host, TIMES=20 times as many as in make test'
	@echo 'make rot        damage at PLACES=64 places of each file of a host'
	@echo 'make bench      figures, also in build/bench.json; CASE=name one case, LONG=1 with 10 GiB in one file'
	@echo 'make check      format, headers alone, layers, tables against docs, clang-tidy, -fanalyzer'
	@echo 'make format     apply .clang-format'
	@echo 'make fuzz       each fuzz target for SECS=60 seconds (clang, libFuzzer); TARGET=name that one alone'
	@echo 'make cover      lines that the unit and mesh tests reach, per file'
	@echo 'make install    below DESTDIR= PREFIX=/usr/local'
	@echo 'make clean      remove build/'
	@echo 'variables       SAN=address,undefined  SAN=thread  CC=clang  DEV=1 (warnings are errors)  V=1  JOBS=N'
