"""What ships per model and profile, as a picture: how small, and how fast."""

from typing import Any

SPACE = "http://www.w3.org/2000/svg"
LEFT, RIGHT, LINE, BAR = 250, 380, 26, 10
INK, SMALL, FAST, GRID = "#1c2733", "#2f7fd1", "#e0912f", "#c8d0d9"


def draw(rows: list[dict[str, Any]]) -> str:
    """Return an SVG with two bars for each model and profile, as shares of fp32."""
    built = [row for row in rows if row["variant"]]
    height = 60 + LINE * len(built)
    font = f'font-family="sans-serif" font-size="12" fill="{INK}"'
    width = LEFT + RIGHT + 150
    parts = [
        f'<svg xmlns="{SPACE}" viewBox="0 0 {width} {height}" {font}>',
        "<title>Variants that ship: size and latency as shares of the master</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _legend(LEFT, SMALL, "bytes of the file"),
        _legend(
            LEFT + 140, FAST, "time of one answer (only where this machine computes so)"
        ),
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = LEFT + RIGHT * share
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="32" y2="{height - 18}" stroke="{GRID}"/>'
        )
        parts.append(
            f'<text x="{x}" y="{height - 4}" text-anchor="middle">{share:.0%}</text>'
        )
    for index, row in enumerate(built):
        parts += _row(row, 38 + LINE * index)
    return "\n".join([*parts, "</svg>", ""])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the same in Markdown, as docs/variants.md holds it."""
    lines = [
        "| model | profile | ships | score | drop | emulated | time | size | build |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["model"], row["profile"], row["variant"] or row["why"]]
        if row["variant"]:
            emulated = [f"{cpu} {score:.3f}" for cpu, score in row["emulated"].items()]
            measured = row["profile"].startswith("x86")
            cells += [
                f"{row['accuracy']:.3f}",
                f"{row['accuracy_drop']:.3f}",
                ", ".join(emulated or row["unproven"]) or "-",
                f"{row['latency_ratio']:.2f}" if measured else "-",
                f"{row['size_ratio']:.2f}",
                f"{row['build_s']:.0f} s",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _legend(x: int, colour: str, text: str) -> str:
    return (
        f'<rect x="{x}" y="10" width="12" height="10" fill="{colour}"/>'
        f'<text x="{x + 17}" y="19">{text}</text>'
    )


def _row(row: dict[str, Any], y: int) -> list[str]:
    size = min(1.0, row["size_ratio"]) * RIGHT
    fast = min(1.0, row["latency_ratio"]) * RIGHT
    name = f"{row['model']}, {row['profile']}"
    ships = f"{row['variant']}, {-row['accuracy_drop']:+.3f}"
    bars = [
        f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{name}</text>',
        f'<text x="{LEFT + RIGHT + 8}" y="{y + 14}">{ships}</text>',
        _bar(y + 1, size, SMALL),
    ]
    return [*bars, _bar(y + 1 + BAR, fast, FAST)] if row["profile"][:3] == "x86" else bars


def _bar(y: int, width: float, colour: str) -> str:
    return f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
