"""A bar chart of a benchmark run: patches in % of the new file, beside the best peer."""

from typing import Any
from xml.sax.saxutils import escape

_ROW, _LEFT, _WIDTH = 34, 190, 520
_OURS, _PEER, _TEXT, _LINE = "#0b7a75", "#c9c9c9", "#222", "#e6e6e6"
_NAMESPACE = "http://www.w3.org/2000/svg"
_TITLE = "patch in % of the new file: {} and the best general tool"


def draw(rows: dict[str, dict[str, Any]]) -> str:
    """Return an SVG; rows without a peer are left out."""
    known = {name: row for name, row in rows.items() if "ratio" in row}
    height = 60 + _ROW * len(known)
    ours = f'<tspan fill="{_OURS}" font-weight="bold">modelfleet</tspan>'
    font = f'font-family="sans-serif" font-size="12" fill="{_TEXT}"'
    width = _LEFT + _WIDTH + 90
    parts = [
        f'<svg xmlns="{_NAMESPACE}" width="{width}" height="{height}" {font}>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20">{_TITLE.format(ours)}</text>',
    ]
    for percent in range(0, 101, 25):
        x = _LEFT + _WIDTH * percent / 100
        parts.append(f'<path d="M{x} 30V{height - 20}" stroke="{_LINE}"/>')
        parts.append(
            f'<text x="{x}" y="{height - 6}" text-anchor="middle">{percent}</text>'
        )
    for number, (name, row) in enumerate(known.items()):
        parts += _draw_row(36 + _ROW * number, name, row)
    return "\n".join([*parts, "</svg>", ""])


def _draw_row(y: int, name: str, row: dict[str, Any]) -> list[str]:
    ours = row["codecs"]["modelfleet"]["bytes"] / row["new_bytes"]
    peer = row["best_bytes"] / row["new_bytes"]
    return [
        f'<text x="{_LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
        *_draw_bar(y, ours, _OURS, ""),
        *_draw_bar(y + 12, peer, _PEER, escape(row["best_peer"])),
    ]


def _draw_bar(y: int, share: float, colour: str, word: str) -> list[str]:
    width = round(_WIDTH * share, 1)
    label = f"{100 * share:.2f} {word}"
    return [
        f'<rect x="{_LEFT}" y="{y}" width="{width}" height="11" fill="{colour}"/>',
        f'<text x="{_LEFT + width + 4}" y="{y + 10}" font-size="11">{label}</text>',
    ]
