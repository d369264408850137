# Test programs: every tests/unit/<folder>/test_*.c and tests/mesh/test_*.c is one program (cmocka),
# every tests/system/*.bats drives the real binary, every tests/fuzz/fuzz_*.c replays its corpus.
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
UNIT_BIN := $(UNIT_SRC:%.c=$(B)/%)
UNIT_LIB := $(patsubst %.c,$(B)/%.o,$(wildcard tests/unit/*.c))
MESH_SRC := $(wildcard tests/mesh/test_*.c)
MESH_BIN := $(MESH_SRC:%.c=$(B)/%)
MESH_LIB := $(patsubst %.c,$(B)/%.o,$(filter-out $(MESH_SRC),$(wildcard tests/mesh/*.c)))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
REPLAY_BIN := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=$(B)/tests/fuzz/replay_%)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=build/fuzz/tests/fuzz/fuzz_%)
# Inputs of these are trees (tests/fuzz/fuzz.h). A library of what targets share: each links what it uses.
FUZZ_TREES := arrive calls engine node plugin
FUZZ_LIB_OBJ := $(patsubst %.c,$(B)/%.o,$(filter-out $(FUZZ_SRC) %/replay.c %/mutate.c,$(wildcard tests/fuzz/*.c))) \
                $(MESH_LIB)
# Plugins that only tests load: right ones, wrong ones.
TEST_PLUGIN_SRC := $(wildcard tests/plugins/*.c)
TEST_PLUGINS := $(TEST_PLUGIN_SRC:%.c=$(B)/%.so)
# Programs that system tests drive hosts with.
TOOL_BIN := $(patsubst %.c,$(B)/%,$(wildcard tests/tools/*.c))
# The table of failpoints: real hosts that are made to fail.
FAIL_SRC := $(wildcard tests/failpoints/*.c)
FAIL_BIN := $(B)/tests/failpoints/driver
# Libraries that are put under a host (LD_PRELOAD).
PRELOAD := $(patsubst %.c,$(B)/%.so,$(wildcard tests/tools/preload/*.c))
BENCH_SRC := $(wildcard tests/bench/*.c)
BENCH_BIN := $(if $(BENCH_SRC),build/bench)
ALLOC_LIB := $(patsubst %.c,$(B)/%.o,$(wildcard tests/alloc/*.c))
# All unit tests but those whose subject is another process, or time.
ALLOC_SRC := $(filter-out %/test_runner.c %/test_runner_save.c %/test_transfer_slow.c,$(UNIT_SRC))
ALLOC_BIN := $(ALLOC_SRC:tests/unit/%.c=$(B)/tests/alloc/%)
# A few hundred of its runs are in make test.
ALLOC_FEW := $(filter tests/unit/protocol/% tests/unit/agents/% %/test_client.c %/test_storage.c,$(ALLOC_SRC))
# Tests of code with threads, run once more under the thread sanitizer.
THREAD_BIN := $(filter %/test_storage %/test_chunk_store %/test_sha_run %/test_agent_dirs %/test_runner %/test_runner_save %/test_client %/clients/test_tls %/test_transfer_slow %/test_bulk %/test_direct %/test_fetch %/test_fetch_wire,$(UNIT_BIN))

# Programs that load plugins link the whole library: a plugin calls what only it needs.
$(B)/tests/unit/agents/test_% $(B)/tests/alloc/agents/test_%: WHOLE = -Wl,--whole-archive
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(UNIT_LIB) $(B)/libgodwit.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(UNIT_LIB) $(WHOLE) $(B)/libgodwit.a -Wl,--no-whole-archive \
	  $(LDLIBS) -lcmocka

# The same tests with an allocator of ours behind the library alone: tests/alloc/rerun.c.
ALLOC_CALLS := malloc calloc realloc strdup strndup vasprintf realpath scandir pthread_create fork
$(B)/tests/alloc/libgodwit.a: $(B)/libgodwit.a
	@mkdir -p $(@D)
	@echo "  COPY  $@"
	$(Q)objcopy $(foreach each,$(ALLOC_CALLS),--redefine-sym $(each)=failing_$(each)) $< $@

$(B)/tests/alloc/%: $(B)/tests/unit/%.o $(ALLOC_LIB) $(B)/tests/alloc/libgodwit.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(ALLOC_LIB) $(WHOLE) $(B)/tests/alloc/libgodwit.a \
	  -Wl,--no-whole-archive $(LDLIBS) -lcmocka

$(B)/tests/mesh/test_%: $(B)/tests/mesh/test_%.o $(MESH_LIB) $(B)/libgodwit.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(MESH_LIB) $(B)/libgodwit.a $(LDLIBS) -lcmocka

# What stands around the product is no news to a fuzzer, and would only slow it down.
build/fuzz/tests/%.o: CFLAGS += -fno-sanitize=fuzzer-no-link

$(B)/tests/fuzz/lib.a: $(FUZZ_LIB_OBJ)
	@echo "  AR    $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/tests/fuzz/replay_%: $(B)/tests/fuzz/fuzz_%.o $(B)/tests/fuzz/replay.o $(B)/tests/fuzz/lib.a $(B)/libgodwit.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

$(FUZZ_TREES:%=build/fuzz/tests/fuzz/fuzz_%): build/fuzz/tests/fuzz/mutate.o
build/fuzz/tests/fuzz/fuzz_%: build/fuzz/tests/fuzz/fuzz_%.o build/fuzz/tests/fuzz/lib.a build/fuzz/libgodwit.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS) -lcmocka

# One may include another: the newer build of the same types.
$(B)/tests/plugins/%.so: tests/plugins/%.c $(PUBLIC_H)
	@mkdir -p $(@D)
	@echo "  SO    $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -MF $(@:.so=.d) -shared -o $@ $<

$(B)/tests/unit/agents/test_runner $(B)/tests/unit/agents/test_runner_save: | $(TEST_PLUGINS)

$(B)/tests/tools/%: $(B)/tests/tools/%.o $(B)/libgodwit.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Each rule of the handoff broken once (host/core/broken.h): the files that know of it are compiled
# again and linked with everything as it is. tests/broken expects these programs to fail.
BROKEN_SRC := $(shell grep -l '"host/core/broken.h"' host/core/*.c)
BROKEN_TESTS := test_forged test_handoff test_world
define BROKEN_RULE
build/broken/h$(1)/%.o: %.c
	@mkdir -p $$(@D)
	@echo "  CC    $$< without H$(1)"
	$$(Q)$$(CC) $$(CPPFLAGS) -DGW_BROKEN=$(1) $$(CFLAGS) -MMD -MP -c -o $$@ $$<
build/broken/h$(1)/test_%: $(BROKEN_SRC:%.c=build/broken/h$(1)/%.o) $(B)/tests/mesh/test_%.o $(MESH_LIB) $(B)/libgodwit.a
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(LDLIBS) -lcmocka
BROKEN_BIN += $(BROKEN_TESTS:%=build/broken/h$(1)/%)
-include $(BROKEN_SRC:%.c=build/broken/h$(1)/%.d)
endef
$(foreach rule,1 2 3 6,$(eval $(call BROKEN_RULE,$(rule))))

$(FAIL_BIN): $(FAIL_SRC:%.c=$(B)/%.o) $(B)/libgodwit.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/tests/tools/preload/%.so: tests/tools/preload/%.c tests/tools/powerloss.h
	@mkdir -p $(@D)
	@echo "  SO    $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -shared -o $@ $<

build/bench: $(BENCH_SRC:%.c=$(B)/%.o) $(B)/libgodwit.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) \
	  -Wl,--whole-archive $(filter %.a,$^) -Wl,--no-whole-archive $(LDLIBS)

.PRECIOUS: $(B)/%.o
-include $(UNIT_BIN:=.d) $(MESH_BIN:=.d) $(UNIT_LIB:.o=.d) $(MESH_LIB:.o=.d) $(patsubst %.c,$(B)/%.d,$(wildcard tests/fuzz/*.c))
-include $(BENCH_SRC:%.c=$(B)/%.d) $(FAIL_SRC:%.c=$(B)/%.d) $(TOOL_BIN:=.d) $(ALLOC_LIB:.o=.d) $(TEST_PLUGINS:.so=.d)

# Programs that tell one story under many seeds; without sanitizers, for their number.
SIM_BIN := $(B)/tests/mesh/test_conversation $(B)/tests/mesh/test_world

# What to build in a variant, by the sub-makes below.
.PHONY: build-alloc build-alloc-few build-unit build-mesh build-sim build-replay build-thread build-system build-fuzz build-broken bench-run
build-unit: $(UNIT_BIN) $(TEST_PLUGINS)
build-mesh: $(MESH_BIN)
build-alloc: $(ALLOC_BIN)
build-alloc-few: $(ALLOC_FEW:tests/unit/%.c=$(B)/tests/alloc/%)
build-replay: $(REPLAY_BIN)
build-thread: $(THREAD_BIN) $(TEST_PLUGINS)
build-sim: $(SIM_BIN)
build-system: all $(TEST_PLUGINS) $(TOOL_BIN) $(FAIL_BIN) $(PRELOAD)
build-fuzz: $(FUZZ_BIN)
build-broken: $(BROKEN_BIN)
bench-run: all $(BENCH_BIN) $(TEST_PLUGINS)
	$(Q)tests/bench/bench.sh

# tests/run.sh takes kind:program pairs; see there.
ASAN := address,undefined
BA := build/san-address-undefined
RUN_UNIT = $(UNIT_SRC:%.c=unit:$(BA)/%)
RUN_MESH = $(MESH_SRC:%.c=mesh:$(BA)/%)
RUN_SIM = sim:build/plain/tests/mesh/test_world
RUN_ALLOC = $(ALLOC_SRC:tests/unit/%.c=alloc:$(BA)/tests/alloc/%)
RUN_ALLOC_FEW = $(ALLOC_FEW:tests/unit/%.c=few:$(BA)/tests/alloc/%)
RUN_FUZZ = $(FUZZ_SRC:tests/fuzz/fuzz_%.c=fuzz:$(BA)/tests/fuzz/replay_%)
RUN_THREAD = $(THREAD_BIN:$(B)/%=thread:build/san-thread/%)
RUN_SYSTEM = $(patsubst %,system:%,$(sort $(filter-out $(if $(SAN),,%/sanitizers.bats),$(wildcard tests/system/*.bats))))
# System tests that reach most of the code and measure neither time nor memory; make test drives the
# sanitized build with them, too.
SAN_SYSTEM := sanitizers quickstart messages durability later tls topics builtin
RUN_SAN = $(SAN_SYSTEM:%=san:tests/system/%.bats)
RUN_MODEL = $(patsubst %,model:%,$(wildcard tests/model/*.bats))
RUN_BROKEN = model:tests/broken/broken.bats
# A fifth of the table, evenly spread; `make failpoints` runs all of it.
RUN_TABLE = table:tests/failpoints/run.sh
RUN_LINT = $(addprefix lint:tests/lint/,layers.sh tables.sh headers.sh forbidden.sh words.sh docs.sh \
           failpoints.sh)

.PHONY: test test-run test-model test-unit test-mesh test-fuzz test-system test-system-san test-alloc check check-run fuzz cover
test:
	$(Q)tools/deps.sh ensure build test
	$(SUB) test-run

test-run:
	$(SUB) build-system build-sim
	$(SUB) SAN=$(ASAN) build-unit build-mesh build-replay build-system build-alloc-few
	$(SUB) SAN=thread build-thread
	$(SUB) build-broken
	$(Q)tests/run.sh $(RUN_LINT) $(RUN_MODEL) $(RUN_SIM) $(RUN_BROKEN) $(RUN_UNIT) $(RUN_MESH) $(RUN_FUZZ) $(RUN_THREAD) \
	  $(RUN_ALLOC_FEW) $(RUN_TABLE) $(RUN_SAN) $(RUN_SYSTEM)

test-model:
	$(Q)tests/run.sh $(RUN_MODEL)

test-unit:
	$(SUB) SAN=$(ASAN) build-unit
	$(SUB) SAN=thread build-thread
	$(Q)tests/run.sh $(RUN_UNIT) $(RUN_THREAD)

# Each unit test once more for each place that allocates, which fails: tests/alloc/rerun.c.
test-alloc:
	$(SUB) SAN=$(ASAN) build-alloc
	$(Q)tests/run.sh $(RUN_ALLOC)

test-mesh:
	$(SUB) build-sim
	$(SUB) SAN=$(ASAN) build-mesh
	$(SUB) build-broken
	$(Q)tests/run.sh $(RUN_SIM) $(RUN_MESH) $(RUN_BROKEN)

.PHONY: sim sim-run
sim:
	$(Q)tools/deps.sh ensure build test
	$(SUB) sim-run

sim-run: $(SIM_BIN)
	$(Q)tests/sim.sh $(or $(SEEDS),1000) $^

# Real hosts on a bad network, in namespaces of their own.
.PHONY: network network-run
network:
	$(Q)tools/deps.sh ensure build test
	$(SUB) network-run

network-run:
	$(SUB) build-system
	$(Q)tests/network.sh $(or $(MINUTES),10)

# Every failpoint with every action at every host that the table names (tests/failpoints/table.def).
.PHONY: failpoints
failpoints:
	$(Q)tools/deps.sh ensure build test
	$(SUB) build-system
	$(Q)SAN=$(SAN) tests/failpoints/run.sh --lanes 6 $(if $(ONLY),--only "$(ONLY)")

# Copies of files with hosts that are killed meanwhile, longer than in `make test`.
.PHONY: files-torture
files-torture:
	$(Q)tools/deps.sh ensure build test
	$(SUB) build-system
	$(Q)LONG=1 MIB=$(or $(MIB),2048) KILLS=$(or $(KILLS),10) bats tests/system/files_torture.bats

# Power cuts, so many times as closely as in `make test`; rotten bytes at so many places of each file.
.PHONY: powerloss rot
powerloss:
	$(Q)tools/deps.sh ensure build test
	$(SUB) build-system
	$(Q)GODWIT_POWERLOSS=$(or $(TIMES),20) bats tests/system/powerloss.bats

rot:
	$(Q)tools/deps.sh ensure build test
	$(SUB) build-system
	$(Q)GODWIT_ROT=$(or $(PLACES),64) bats tests/system/rot.bats

test-fuzz:
	$(SUB) SAN=$(ASAN) build-replay
	$(Q)tests/run.sh $(RUN_FUZZ)

# SAN=... drives that build, and looks for reports of its sanitizers in every process.
test-system:
	$(SUB) build-system
	$(Q)SAN=$(SAN) tests/run.sh $(RUN_SYSTEM)

test-system-san:
	$(SUB) SAN=$(ASAN) test-system

# Named together with -j they still run one after the other: they share objects and logs.
test-mesh: | $(filter test-unit,$(MAKECMDGOALS))
test-fuzz: | $(filter test-unit test-mesh,$(MAKECMDGOALS))
test-system: | $(filter test-unit test-mesh test-fuzz,$(MAKECMDGOALS))

FORMAT_SRC = $(sort $(LIB_SRC) $(PLUGIN_SRC) host/main.c $(filter %.h,$(PUBLIC_H)) \
             $(wildcard protocol/*.h protocol/base/*.h persistence/*.h agents/*/*.h host/*.h host/*/*.h \
             clients/*/*.h tests/*/*.[ch] tests/unit/*/*.[ch] tests/tools/*/*.[ch]))
check:
	$(Q)tools/deps.sh ensure build test check
	$(SUB) check-run

check-run:
	$(Q)tests/run.sh $(RUN_LINT) lint:tests/lint/format.sh lint:tests/lint/tidy.sh lint:tests/lint/analyze.sh

fuzz:
	$(Q)tools/deps.sh ensure build check
	$(SUB) CC=clang FUZZ=1 build-fuzz
	$(Q)JOBS=$(JOBS) TARGET=$(TARGET) tests/fuzz/fuzz.sh $(SECS) $(FUZZ_BIN)

cover:
	$(SUB) COVER=1 build-unit build-mesh
	$(Q)tools/cover.sh build/cover $(UNIT_SRC:%.c=build/cover/%) $(MESH_SRC:%.c=build/cover/%)
