# SPDX-License-Identifier: LGPL-2.1-or-later
"""What comes out: medians, the table, which figures are reached, and the chart."""
import math
import statistics

from . import rows

OURS, NATIVE = "libvirtcore", "native"
COLOURS = {"qemu": "#d98032", "unicorn": "#8d6cab", OURS: "#2b6cb0"}


def seconds(value):
    return f"{value:.3f} s" if value >= 1 else f"{value * 1e3:.2f} ms"


def summary(row, samples):
    """One row's entry of the JSON. samples: {party: [dict with s, ...]}, the same rounds for all."""
    entry = {"name": row.name, "title": row.title, "kind": row.kind, "parties": {}}
    for party, list_of in samples.items():
        times = [one["s"] for one in list_of]
        if not times:
            continue
        middle = statistics.median(times)
        entry["parties"][party] = {"median_s": middle, "spread": (max(times) - min(times)) / 2 / middle, "times_s": times,
                                   "details": [{k: v for k, v in one.items() if k != "s"} for one in list_of]}
    entry["peer"] = next((p for p in ("qemu", "unicorn") if p in entry["parties"]), None)
    entry["of_native"] = pairs(samples, OURS, NATIVE)
    entry["faster_than_peer"] = pairs(samples, entry["peer"], OURS)
    sums = {(one.get("bytes"), one["sum"]) for list_of in samples.values() for one in list_of if "sum" in one}
    entry["native_faster_than_peer"] = pairs(samples, entry["peer"], NATIVE)
    entry["same_output"] = len(sums) <= 1
    return entry


def pairs(samples, above, below):
    """Median of the ratios of each round; rounds that one of them did not finish do not count."""
    above, below = ({one["round"]: one["s"] for one in samples.get(p) or []} for p in (above, below))
    ratios = [above[r] / below[r] for r in above if r in below]
    return statistics.median(ratios) if ratios else None


def mean(values):
    """Geometric mean, or None where a value is missing or there is none."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values and None not in values else None


def table(entries):
    heads = ["row", "native", "peer", OURS, "x native", "x faster than peer"]
    lines = []
    for e in entries:
        def cell(party):
            one = e["parties"].get(party)
            return f"{seconds(one['median_s'])} ±{one['spread'] * 100:.0f}%" if one else "-"
        peer = f"{e['peer']} {cell(e['peer'])}" if e["peer"] else "-"
        lines.append([e["name"], cell(NATIVE), peer, cell(OURS), *(f"{e[k]:.2f}" if e[k] else "-" for k in ("of_native", "faster_than_peer"))])
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]).rstrip() for line in [heads, *lines])


def scaling(entries, party):
    """Of two processes on two vcpus against one: 2 is perfect."""
    by_name = {e["name"]: e["parties"].get(party) for e in entries}
    one, two = by_name.get("smp-1"), by_name.get("smp-2")
    return 2 * one["median_s"] / two["median_s"] if one and two else None


def figures(entries):
    """The figures to reach: (what, bound as text, measured or None, reached or None). A figure over several rows is only reached when all of them
    were measured, but one row can miss it."""
    by_name = {e["name"]: e for e in entries}

    def of(key, *names):
        """That ratio of the rows of those kinds or names; None for one that was not measured."""
        return [by_name[r.name][key] if r.name in by_name else None for r in rows.ROWS if {r.kind, r.name} & set(names)]

    def at_least(what, bound, values):
        known = [v for v in values if v is not None]
        reached = False if known and min(known) < bound else True if len(known) == len(values) else None
        return what, f"at least {bound}", min(known, default=None), reached

    def at_most(what, bound, value):
        return what, f"at most {bound}", value, None if value is None else value <= bound

    return [
        at_most("compute rows, geometric mean as a multiple of native", 2.5, mean(of("of_native", "compute"))),
        at_least("compute rows, geometric mean against QEMU", 3, [mean(of("faster_than_peer", "compute"))]),
        at_least("slowest row of the guest against QEMU", 1, of("faster_than_peer", "compute", "system")),
        at_least("fork + exec against QEMU", 2, of("faster_than_peer", "fork-exec")),
        at_least("syscall-heavy rows (syscall, pipe) against QEMU, the slower", 2, of("faster_than_peer", "syscall", "pipe")),
        at_least("boot to init against QEMU", 2, of("faster_than_peer", "boot")),
        at_least("1 to 2 vcpus, scaling of independent compute", 1.8, [scaling(entries, OURS)]),
        at_least("raw code against Unicorn, slowest row", 5, of("faster_than_peer", "raw")),
        at_least("raw code against Unicorn, geometric mean", 5, [mean(of("faster_than_peer", "raw"))]),
    ]


def verdicts(entries):
    lines = [f"{e['name']}: native itself is {e['native_faster_than_peer']:.2f}x as fast as {e['peer']}" for e in entries
             if e["kind"] == "raw" and (e["native_faster_than_peer"] or 5) < 5]
    scales = [f"{party} {scaling(entries, party):.2f}" for party in (NATIVE, "qemu", OURS) if scaling(entries, party)]
    if scales:  # where native's own is far from 2 the host's CPUs were not free
        lines.append("scaling from 1 to 2 CPUs: " + ", ".join(scales))
    for what, bound, value, reached in figures(entries):
        word = "not measured" if reached is None else "reached" if reached else "NOT reached"
        lines.append(f"{word:12}  {what}: {bound}" + (f", measured {value:.2f}" if value is not None else ""))
    return "\n".join(lines)


def text(x, y, words, anchor="start", size=12, colour="#222", weight="normal"):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">{words}</text>'


def chart(entries, caption):
    """An SVG: for each row how many times as long as native the peer and libvirtcore take, on a logarithmic scale. Boot has no native time, so
    its bars stand against libvirtcore's own."""
    left, bar, gap, top, plot = 300, 13, 12, 74, 560
    bars = []  # title, [(party, ratio)]
    for e in entries:
        parties = {p: v["median_s"] for p, v in e["parties"].items()}
        floor = parties.get(NATIVE) or parties.get(OURS)
        row = [(p, parties[p] / floor) for p in (e["peer"], OURS) if p in parties]
        if row:
            bars.append((e["title"] + ("" if NATIVE in parties else " (libvirtcore = 1)"), row))
    values = [v for _, row in bars for _, v in row] or [1]
    low, high = min(0.5, *values), max(10, *values) * 1.6
    scale = plot / math.log(high / low)
    height = top + sum(len(row) * bar + gap for _, row in bars) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + plot + 90}" height="{height}" font-family="sans-serif">',
           f'<rect width="{left + plot + 90}" height="{height}" fill="#fff"/>', text(12, 22, "Time of each row as a multiple of native", size=16, weight="bold"),
           text(12, 40, caption, size=11, colour="#555")]
    x = 12
    for party in (OURS, "qemu", "unicorn"):
        if any(p == party for _, row in bars for p, _ in row):
            out += [f'<rect x="{x}" y="49" width="12" height="12" fill="{COLOURS[party]}"/>', text(x + 17, 59, party)]
            x += 110
    tick = 10.0 ** math.floor(math.log10(low))
    while tick < high:
        for step in (1, 2, 5):
            if low <= tick * step <= high:
                at = left + scale * math.log(tick * step / low)
                out += [f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 4}" y2="{height - 24}" stroke="{"#444" if tick * step == 1 else "#ddd"}"/>',
                        text(at, height - 8, f"{tick * step:g}x", "middle", 11, "#555")]
        tick *= 10
    y = top
    for title, row in bars:
        out.append(text(left - 8, y + len(row) * bar / 2 + 4, title, "end"))
        for party, value in row:
            start, end = sorted((left + scale * math.log(1 / low), left + scale * math.log(value / low)))
            out += [f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1.5):.1f}" height="{bar - 2}" fill="{COLOURS[party]}"/>',
                    text(end + 5, y + 10, f"{value:.2f}x", size=10)]
            y += bar
        y += gap
    return "\n".join([*out, "</svg>", ""])
