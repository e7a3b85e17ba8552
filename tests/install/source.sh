#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# source.sh STATIC-LIBRARY: promises of DESIGN.md that can be seen in the text: the library never prints, exits, aborts, sleeps or takes signals; rooms import only rooms above.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
report() { [ -z "$2" ] || { printf '%s:\n%s\n' "$1" "$2"; bad=1; }; }

report "lib/ must not print, exit, abort, assert or sleep" \
	"$(grep -rnE '(^|[^a-z_.>])(printf|vprintf|puts|putchar|perror|exit|_exit|abort|assert|sleep|usleep|nanosleep|clock_nanosleep|system|popen) *\(' lib --include='*.[ch]' | grep -v static_assert)"
report "lib/ must not write to the standard streams" "$(grep -rnE '\b(fprintf|fputs|fwrite|dprintf) *\([^)]*\bstd(out|err)\b|\b(fgets|fread|getc|fscanf) *\([^)]*\bstdin\b' lib --include='*.[ch]')"
report "lib/ must not install signal handlers" "$(grep -rnE '\b(signal|sigaction|bsd_signal) *\(' lib --include='*.[ch]')"
report "<linux/kvm.h> belongs to lib/backend/kvm, <linux/vfio.h> to lib/passthrough" \
	"$(grep -rlE '<linux/(kvm|vfio)\.h>' lib | grep -vE '^lib/(backend/kvm|passthrough)/')"
rooms="core memory bus cpu chipset backend device loader vm"
below=$rooms
for room in $rooms; do
	below=${below#"$room"}
	below=${below# }
	for other in $below; do
		report "lib/$room must not import lib/$other" "$(grep -rnE "#include \"$other/" "lib/$room" --include='*.[ch]')"
	done
done
# constants with addresses in them lie in .data.rel.ro; the thread-local error message (.tbss) is the one variable
report "lib/ must have no variables of its own" "$(objdump -t "$1" 2>/dev/null | awk '$1 ~ /^[0-9a-f]+$/ {
	for (i = 2; i <= NF; i++) if ($i ~ /^\.(data|bss|tdata)$/ && $NF !~ /^\./) print $i, $NF }' | grep -vE '__(asan|ubsan|odr|sancov)')"
exit $bad
