#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Installs what is missing (as root; else tells the line), builds, runs every test. Stops at nothing: all failures are shown, the last line counts.
#   --quick       only the unit, guest and differential tests of one build
#   --ci          as CI runs it: the same tests, logs of failures in full
#   -h, --help    this
cd "$(dirname "$0")/.." || exit 1
quick= ci=
for argument in "$@"; do
	case $argument in
	--quick) quick=1 ;;
	--ci) ci=1 ;;
	-h | --help) sed -n '3,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
	*) echo "tests/run.sh: unknown option $argument (see --help)" >&2; exit 2 ;;
	esac
done
. tests/tools/need.sh
need gcc libc6-dev meson ninja-build pkg-config libjson-c-dev liburing-dev zlib1g-dev libzstd-dev check python3 binutils busybox-static cpio gzip kmod '[clang]' '[libclang-rt-14-dev]' \
	'[valgrind]' '[abigail-tools]' '[acpica-tools]' '[qemu-system-x86]' '[qemu-system-common]' '[seabios]' '[clang-format]' '[cppcheck]' '[gdb]' '[bzip2]' '[mawk]' '[libunicorn-dev]' '[qemu-utils]' '[e2fsprogs]' \
	'[libslirp-dev]' '[libmicrohttpd-dev]' '[curl]' '[python3-yaml]' '[libglib2.0-dev]' '[iproute2]' '[passt]' '[mmdebstrap]' '[fio]' '[iperf3]' \
	'[python3-cffi]' '[python3-dev]' '[python3-pytest]' '[python3-numpy]' '[python3-setuptools]' '[python3-wheel]' '[python3-venv]' '[mypy]' '[doxygen]' '[mandoc]' '[python3-unicorn]' '[dpdk-dev]'

passed=0 failed=0 skipped=0
failures=$(mktemp) # said once more at the end: of a long log often only the end is kept
trap 'rm -f "$failures"' EXIT
say() { printf '\n== %s\n' "$*"; }
result() { # result STATUS NAME: 0 passed, 77 skipped, else failed
	case $1 in
	0) passed=$((passed + 1)); echo "ok    $2" ;;
	77) skipped=$((skipped + 1)); echo "SKIP  $2" ;;
	*) failed=$((failed + 1)); echo "FAIL  $2" | tee -a "$failures" ;;
	esac
}
check() { # check NAME COMMAND...: one test; its output is shown when it fails
	name=$1
	shift
	log=$(mktemp)
	"$@" >"$log" 2>&1
	status=$?
	case $status in
	0 | 77) ;;
	*) tail -n 60 "$log" | tee -a "$failures" ;;
	esac
	rm -f "$log"
	result $status "$name"
	return $status
}
build() { # build DIR MESON-OPTIONS...
	dir=$1
	shift
	if [ ! -f "$dir/build.ninja" ]; then
		check "configure $dir" meson setup "$dir" "$@" || return 1
	fi
	check "build $dir" ninja -C "$dir"
}
suite() { # suite DIR MESON-TEST-OPTIONS...: every test of meson's counts
	dir=$1
	shift
	rm -f "$dir/meson-logs/testlog.json"
	meson test -C "$dir" --no-rebuild --print-errorlogs "$@" 2>&1 | grep -vE '^(Full log|ninja:|Ok:|Expected Fail:|Fail:|Unexpected Pass:|Skipped:|Timeout:|$)'
	[ -f "$dir/meson-logs/testlog.json" ] || { result 1 "meson test in $dir"; return; }
	counts=$(python3 - "$dir/meson-logs/testlog.json" "$failures" <<'PY'
import json, sys
results = [json.loads(line) for line in open(sys.argv[1])]
good = sum(r["result"] in ("OK", "EXPECTEDFAIL") for r in results)
skip = [r for r in results if r["result"] == "SKIP"]
bad = [r for r in results if r["result"] not in ("OK", "EXPECTEDFAIL", "SKIP")]
print(good, len(bad), len(skip))
lines = lambda r: (r.get("stdout", "") + r.get("stderr", "")).strip().splitlines()
for r in skip:
    print("SKIP ", r["name"] + ":", (lines(r) or ["no reason given"])[-1], file=sys.stderr)
with open(sys.argv[2], "a") as failures:
    for r in bad:
        print("FAIL ", sys.argv[1].split("/")[0], r["name"], r["result"], "%.1f s" % r["duration"], file=failures)
        print(*lines(r)[-60:], sep="\n", file=failures)
PY
	)
	set -- $counts
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

say "Build, warnings as errors"
build build-test -Dwerror=true && suite build-test --suite unit --suite diff --suite guest --suite api
if [ -z "$quick" ]; then
	say "Linux, examples, installation, benchmarks in small"
	suite build-test --suite linux --suite examples --suite install --suite bench --suite interop --suite python
	say "Address and undefined-behaviour sanitizers"
	build build-asan -Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false -Dexamples=false && suite build-asan --suite unit --suite guest --suite api
	say "Thread sanitizer"
	build build-tsan -Dwerror=true -Db_sanitize=thread -Db_lundef=false -Dexamples=false && suite build-tsan --suite threads
	say "Without options"
	build build-small -Dwerror=true -Djson=disabled -Dkvm=disabled -Dio_uring=disabled -Dzlib=disabled -Dzstd=disabled -Dslirp=disabled -Dmicrohttpd=disabled -Dpython=disabled -Dtests=disabled
	build build-kvm-only -Dwerror=true -Demu=disabled -Dtests=disabled
	say "Fuzzing, briefly"
	if command -v clang >/dev/null; then
		CC=clang build build-fuzz -Dfuzz=true -Dtests=disabled -Dexamples=false -Db_lundef=false && suite build-fuzz --suite fuzz
	else
		echo "clang is not installed"
		result 77 "fuzzing"
	fi
fi
[ ! -s "$failures" ] || { say "What failed, once more"; cat "$failures"; }
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
