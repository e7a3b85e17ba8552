# SPDX-License-Identifier: LGPL-2.1-or-later
"""What comes out: medians, the table, and which figures are reached."""
import statistics

OURS = "libvirtcore"
SERVED_TARGET = 1  # the same daemon does the work
TARGET = 2  # times QEMU's figure; round trips: half of it


def summary(row, samples):
    """One row's entry of the JSON. samples: {party: [value, ...]}."""
    parties = {}
    for party, values in samples.items():
        middle = statistics.median(values)
        parties[party] = {"median": middle, "spread": (max(values) - min(values)) / 2 / middle if middle else 0, "values": values}
    ratios = {}
    for party in parties:
        if party != OURS and OURS in parties:
            # round by round: what else the machine did meanwhile hit both
            pairs = [(a / b if row.higher else b / a) for a, b in zip(samples[OURS], samples[party]) if a and b]
            ratios[party] = statistics.median(pairs) if pairs else None
    return {"name": row.name, "title": row.title, "unit": row.unit, "higher_is_better": row.higher, "parties": parties, "better_than": ratios}


def table(entries):
    lines = [["row", "unit", "peer", "peer's", OURS, "times better"]]
    for e in entries:
        def cell(party):
            one = e["parties"].get(party)
            return f"{one['median']:.0f} ±{one['spread'] * 100:.0f}%" if one else "-"
        for peer in [p for p in e["parties"] if p != OURS] or ["-"]:
            ratio = e["better_than"].get(peer)
            lines.append([e["name"], e["unit"], peer, cell(peer), cell(OURS), f"{ratio:.2f}" if ratio else "-"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join([c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]).rstrip() for line in lines)


def verdicts(entries):
    out = []
    for e in entries:
        target = SERVED_TARGET if e["name"].startswith("vhost-") else TARGET
        bound = f"at least {target}x" if e["higher_is_better"] else "at most half"
        for peer, ratio in e["better_than"].items():
            word = "not measured" if ratio is None else "reached" if ratio >= target else "NOT reached"
            out.append(f"{word:12}  {e['title']}: {bound} {peer}'s" + (f", {ratio:.2f} times better" if ratio else ""))
    return "\n".join(out)
