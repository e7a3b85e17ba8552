# SPDX-License-Identifier: LGPL-2.1-or-later
"""What comes out: distributions, the table, and which figures are reached."""
OURS, POSTCOPY, PEER = "libvirtcore", "libvirtcore-postcopy", "qemu"
WHATS = {"downtime_ms": "downtime", "total_ms": "total"}
POINTS = (("min", 0), ("median", 50), ("p90", 90), ("p99", 99), ("max", 100))
DOWNTIME_MS = {"idle": 20, "busy": 100}


def distribution(values):
    """By the nearest rank at or above."""
    ordered = sorted(values)
    return {name: ordered[max(0, -(-len(ordered) * percent // 100) - 1)] for name, percent in POINTS}


def entries(samples):
    """samples: {guest: {party: [dict, ...]}}."""
    return [{"guest": guest, "party": party, "what": title, "unit": "ms", "count": len(moves), **distribution([m[key] for m in moves]), "values": [m[key] for m in moves]}
            for guest, parties in samples.items() for key, title in WHATS.items() for party, moves in parties.items() if moves]


def table(rows):
    lines = [["guest", "what", "party", *(name for name, _ in POINTS), "moves"]]
    lines += [[r["guest"], r["what"], r["party"], *(f"{r[name]:.2f}" for name, _ in POINTS), str(r["count"])] for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip() for line in lines)


def verdicts(rows):
    by = {(r["guest"], r["what"], r["party"]): r for r in rows}
    out = []
    for guest, bound in DOWNTIME_MS.items():
        ours, total, peer = by.get((guest, "downtime", OURS)), by.get((guest, "total", OURS)), by.get((guest, "total", PEER))
        if ours:
            out.append(f"{'reached' if ours['median'] < bound else 'NOT reached':12} {guest}: downtime under {bound} ms: median {ours['median']:.2f}, p99 {ours['p99']:.2f}")
        if total and peer:
            out.append(f"{'reached' if total['median'] <= peer['median'] else 'NOT reached':12} {guest}: total time no worse than QEMU's: {total['median']:.0f} against {peer['median']:.0f} ms (medians)")
    return "\n".join(out)
