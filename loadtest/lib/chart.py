"""A chart of CPU per request relative to nginx: one group of bars a cell, one bar a proxy."""

from html import escape

COLOURS = ["#2563eb", "#9ca3af", "#f59e0b", "#ef4444", "#8b5cf6", "#10b981", "#db2777", "#0ea5e9"]
BAR, GAP, HEIGHT, LEFT, TOP = 16, 22, 260, 50, 60


def svg(title, cells, proxies, ratio):
    """`ratio(cell, proxy)` is a number or None; bars end at 4."""
    group = BAR * len(proxies) + GAP
    width, height = LEFT + group * len(cells) + 20, TOP + HEIGHT + 60
    most = max([r for c in cells for p in proxies if (r := ratio(c, p)) is not None] + [1.0])
    top = min(4.0, most * 1.1)
    y = lambda value: TOP + HEIGHT * (1 - min(value, top) / top)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>']
    for at, proxy in enumerate(proxies):
        x = LEFT + at * 110
        out.append(f'<rect x="{x}" y="30" width="10" height="10" fill="{COLOURS[at % 8]}"/>'
                   f'<text x="{x + 14}" y="39">{escape(proxy)}</text>')
    step = 0.25 if top <= 2 else 0.5
    for n in range(int(top / step) + 1):
        value = n * step
        colour = "#111827" if value == 1.0 else "#e5e7eb"
        out.append(f'<line x1="{LEFT}" x2="{width - 20}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
                   f'stroke="{colour}"/><text x="{LEFT - 6}" y="{y(value) + 4:.1f}" '
                   f'text-anchor="end">{value:g}</text>')
    for place, cell in enumerate(cells):
        left = LEFT + place * group + GAP / 2
        for at, proxy in enumerate(proxies):
            value = ratio(cell, proxy)
            if value is None:
                continue
            x = left + at * BAR
            out.append(f'<rect x="{x:.1f}" y="{y(value):.1f}" width="{BAR - 2}" '
                       f'height="{TOP + HEIGHT - y(value):.1f}" fill="{COLOURS[at % 8]}">'
                       f'<title>{escape(f"{cell} {proxy} {value:.2f}")}</title></rect>')
            out.append(f'<text x="{x + 7:.1f}" y="{y(value) - 3:.1f}" font-size="8" '
                       f'text-anchor="middle">{value:.2f}</text>')
        out.append(f'<text x="{left + group / 2 - GAP / 2:.1f}" y="{TOP + HEIGHT + 16}" '
                   f'text-anchor="middle">{escape(cell)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
