"""The colours of the report in light and in dark, and SVG that follows them."""

import math
import re
from typing import Any
from xml.etree import ElementTree

LIGHT = {
    "surface": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#59616b",
    "line": "#e2e5e9",
    "pale": "#98a1ab",
    "first": "#0072b2",
    "second": "#d55e00",
    "third": "#009e73",
    "fourth": "#cc79a7",
    "fifth": "#e69f00",
}
"""The plots are drawn in these. The last five are from Okabe and Ito's palette, which colour-blind people can tell
apart (https://jfly.uni-koeln.de/color/); the first of them is the accent of the page."""

DARK = {
    "surface": "#14171b",
    "ink": "#e7eaed",
    "muted": "#9ca5af",
    "line": "#2d333a",
    "pale": "#7b858f",
    "first": "#56b4e9",
    "second": "#f0803c",
    "third": "#2bbf95",
    "fourth": "#dd9cc1",
    "fifth": "#f0bd4a",
}
"""The same roles on a dark page; the accent is the palette's lighter blue."""

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,
    "figure.facecolor": "none",
    "axes.axisbelow": True,
    "axes.edgecolor": LIGHT["line"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": LIGHT["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sweeptrail",
    "xtick.color": LIGHT["muted"],
    "xtick.major.size": 0,
    "ytick.color": LIGHT["muted"],
    "ytick.major.size": 0,
}
"""How matplotlib draws the plots."""

PALE = LIGHT["pale"]
COLOURS = [LIGHT[name] for name in ("first", "second", "third", "fourth", "fifth")]
DASHES: list[Any] = ["-", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)), (0, (1, 1))]
"""Of the highlighted combinations, the best first: nothing is told by colour alone."""

WIDTHS = [2.4, 1.5, 1.5, 1.5, 1.5]
"""Of the same, in points."""

_VARIABLES = {colour: f"var(--{name})" for name, colour in LIGHT.items()}
_SCALE = 100 / 72
"""Pixels on the page for each point of a figure, so that its text is as large as the page's."""


def pale_width(count: int) -> float:
    """Return how thick, in points, that many lines can be before they become an area."""
    return max(0.2, min(0.8, 6 / math.sqrt(count + 1) - 0.1))


def inline_svg(svg: str, *, name: str, alternative: str) -> str:
    """Return matplotlib's SVG as an element for an HTML page.

    Its colours become CSS variables and its fonts the page's; its ids get a prefix, since those of two
    figures may be equal; whatever names a place outside the page goes.
    """
    root = ElementTree.fromstring(svg)
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    for parent in list(root.iter()):
        for child in [child for child in parent if _local(child.tag) in ("metadata", "style")]:
            parent.remove(child)
    used = set(re.findall(r"#([\w.]+)", " ".join(value for element in root.iter() for value in _links(element))))
    for element in root.iter():
        _adapt(element, name, used)
    root.attrib.clear()
    root.attrib |= {
        "viewBox": f"0 0 {width:g} {height:g}",
        "width": f"{width * _SCALE:.0f}",
        "height": f"{height * _SCALE:.0f}",
        "role": "img",
        "aria-label": alternative,
    }
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode"))


def _links(element: ElementTree.Element) -> list[str]:
    return [value for value in element.attrib.values() if value.startswith(("#", "url(#"))]


def _local(name: str) -> str:
    """Return the name without its namespace."""
    return name.rpartition("}")[2]


def _adapt(element: ElementTree.Element, name: str, used: set[str]) -> None:
    element.tag = _local(element.tag)
    attributes = {_local(key): value for key, value in element.attrib.items()}
    element.attrib.clear()
    for key, value in attributes.items():
        if key == "id":
            if value in used:
                element.set(key, f"{name}-{value}")
        elif key == "style":
            without_font = re.sub(r"font-family: [^;]+; ?", "", value)
            element.set(key, re.sub(r"#\w{6}", lambda match: _VARIABLES.get(match[0], match[0]), without_font))
        elif value.startswith(("#", "url(#")):
            element.set(key, value.replace("#", f"#{name}-"))
        elif not value.startswith("rotate(-0 "):
            # A hundredth of a point is enough, and the files are half as large.
            element.set(key, re.sub(r"(\.\d\d)\d+", r"\1", value).replace("\n", " ").strip())
