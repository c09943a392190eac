"""Makes dispatcher/web/review/world.json, the map of the review page, from Natural Earth's outlines: `make map`.

    python docs/world.py ATLAS            write world.json from the unpacked npm package `world-atlas` 2.0.2
    python docs/world.py ATLAS --check    write nothing; exit with 1 if world.json is not what it gives

Natural Earth (version 4.1.0) is in the public domain; the package holds it as TopoJSON. Outlines come from the scale of
1:50 million, and Tuvalu, which is not there, from 1:10 million. Who is on the map, and by which name, is
recipients/un_missions.csv. The digests below say which files it was made from; the same files give the same octets.
"""  # noqa: INP001 (a script, not a module of a package)

import csv
import hashlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
MISSIONS: Final = ROOT / "recipients" / "un_missions.csv"
WORLD: Final = ROOT / "dispatcher" / "web" / "review" / "world.json"
SOURCE: Final = "Natural Earth 4.1.0, public domain, by the npm package world-atlas 2.0.2"
DIGESTS: Final = {
    "countries-50m.json": "04342cdc1e3016bcd7db1630de95684d67b79fe3c8c460321e87aef469502394",
    "countries-10m.json": "3bc6f1d367a9bcec479841bae0e76092f512838411d0cef124e92eec4db45f79",
}

WIDTH: Final = 1000.0  # of the drawing, from 180° west to 180° east
NORTH, SOUTH = 83.7, -56.0  # Greenland's tip to Cape Horn; Antarctica has no mission
DETAIL: Final = 0.35  # the smallest triangle that a corner of an outline may make, in square units
SPECK: Final = 0.5  # islands smaller than that are left out, in square units
SMALL: Final = 6.0  # a country whose largest island is smaller than that (8,000 km²) gets a circle, too
RADIUS: Final = 3.0
APART: Final = 6.4  # between the centres of two circles
PARTS: Final = {"Somaliland": "706", "N. Cyprus": "196"}  # drawn apart there; the United Nations does not

Point = tuple[float, float]
Ring = list[Point]

_A: Final = (1.340264, -0.081106, 0.000893, 0.003796)


def equal_earth(longitude: float, latitude: float) -> Point:
    """A place on the map, y downwards, in units of the sphere's radius (Šavrič, Patterson, Jenny 2018: equal areas)."""
    theta = math.asin(math.sqrt(3) / 2 * math.sin(math.radians(latitude)))
    a1, a2, a3, a4 = _A
    below = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * math.sqrt(3) * math.radians(longitude) * math.cos(theta) / (3 * below)
    return x, -(a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta)


_SCALE: Final = WIDTH / 2 / equal_earth(180, 0)[0]
_TOP: Final = equal_earth(0, NORTH)[1] * _SCALE
HEIGHT: Final = round(equal_earth(0, SOUTH)[1] * _SCALE - _TOP)


def place(longitude: float, latitude: float) -> Point:
    """The same in units of the drawing."""
    x, y = equal_earth(longitude, latitude)
    return x * _SCALE + WIDTH / 2, y * _SCALE - _TOP


def triangle(a: Point, b: Point, c: Point) -> float:
    """The area between three points."""
    return abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])) / 2


def area(ring: Sequence[Point]) -> float:
    """The area of a closed line."""
    pairs = zip(ring, [*ring[1:], ring[0]], strict=True)
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2


def centre(ring: Sequence[Point]) -> Point:
    """The middle of what a closed line holds; of its corners, if it holds nothing."""
    x = y = twice = 0.0
    for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
        cross = a[0] * b[1] - b[0] * a[1]
        twice += cross
        x, y = x + (a[0] + b[0]) * cross, y + (a[1] + b[1]) * cross
    if abs(twice) < 1e-9:
        return sum(p[0] for p in ring) / len(ring), sum(p[1] for p in ring) / len(ring)
    return x / (3 * twice), y / (3 * twice)


def simpler(line: Sequence[Point]) -> Ring:
    """A line without the corners that nobody would miss (Visvalingam, Whyatt 1993); its ends stay where they are."""
    kept = [(point, place(*point)) for point in line]
    while len(kept) > 4:
        areas = [triangle(kept[i - 1][1], kept[i][1], kept[i + 1][1]) for i in range(1, len(kept) - 1)]
        least = min(areas)
        if least >= DETAIL:
            break
        del kept[areas.index(least) + 1]
    return [point for point, _ in kept]


def cut(ring: Ring) -> Iterator[Ring]:
    """A ring in degrees, in two where it crosses 180° (in `world-atlas` it goes on on the other side)."""
    unwound = [ring[0]]
    for longitude, latitude in ring[1:]:
        turns = round((unwound[-1][0] - longitude) / 360)
        unwound.append((longitude + 360 * turns, latitude))
    for edge in (-540, -180, 180):
        part = _side(_side(unwound, edge, 1), edge + 360, -1)
        if part:
            yield [(longitude - edge - 180, latitude) for longitude, latitude in part]


def _side(ring: Ring, edge: float, sign: int) -> Ring:
    """What of a ring lies beyond a meridian (Sutherland, Hodgman 1974)."""
    kept: Ring = []
    for a, b in zip(ring, [*ring[1:], *ring[:1]], strict=True):
        inside = sign * (a[0] - edge) >= 0, sign * (b[0] - edge) >= 0
        if inside[0]:
            kept.append(a)
        if inside[0] != inside[1]:
            kept.append((edge, a[1] + (b[1] - a[1]) * (edge - a[0]) / (b[0] - a[0])))
    return kept if any(sign * (x - edge) > 0 for x, _ in kept) else []


class Atlas:
    """A file of `world-atlas`: outlines made of arcs, which neighbours share (TopoJSON 1.0)."""

    def __init__(self, path: Path) -> None:
        octets = path.read_bytes()
        if hashlib.sha256(octets).hexdigest() != DIGESTS[path.name]:
            raise ValueError(f"{path} is not the file that the map is made from")
        topology = json.loads(octets)
        scale, translate = topology["transform"]["scale"], topology["transform"]["translate"]
        self._arcs = [list(self._points(arc, scale, translate)) for arc in topology["arcs"]]
        self._simple: dict[int, Ring] = {}
        self.countries: list[dict[str, Any]] = topology["objects"]["countries"]["geometries"]

    @staticmethod
    def _points(arc: Sequence[Sequence[int]], scale: Sequence[float], translate: Sequence[float]) -> Iterator[Point]:
        x = y = 0
        for dx, dy in arc:
            x, y = x + dx, y + dy
            yield x * scale[0] + translate[0], y * scale[1] + translate[1]

    def rings(self, geometry: dict[str, Any], *, simple: bool = True) -> list[Ring]:
        """The outer lines of a country, and the holes in it; corners that nobody would miss are left out."""
        arcs = geometry["arcs"]
        polygons = arcs if geometry["type"] == "MultiPolygon" else [arcs]
        rings = (self._ring(ring, simple=simple) for polygon in polygons for ring in polygon)
        return [[place(*point) for point in part] for ring in rings for part in cut(ring)]

    def _ring(self, arcs: Sequence[int], *, simple: bool) -> Ring:
        ring: Ring = []
        for index in arcs:
            number = index if index >= 0 else ~index
            if simple and number not in self._simple:
                self._simple[number] = simpler(self._arcs[number])
            arc = self._simple[number] if simple else self._arcs[number]
            ring += (arc if index >= 0 else arc[::-1])[1 if ring else 0 :]
        return ring[:-1]


def drawn(rings: Sequence[Ring]) -> str:
    """The rings as the `d` of an SVG path, in tenths, each corner from the one before it."""
    parts = []
    for ring in rings:
        corners: list[tuple[int, int]] = []
        for x, y in ring:
            corner = round(x * 10), round(y * 10)
            if not corners or corner != corners[-1]:
                corners.append(corner)
        if len(corners) < 3:
            continue
        (x, y), *rest = corners
        text = f"M{tenth(x)} {tenth(y)}l"
        for number, (to_x, to_y) in enumerate(rest):
            dx, dy = tenth(to_x - x), tenth(to_y - y)
            text += ("" if dx.startswith("-") or not number else " ") + dx + ("" if dy.startswith("-") else " ") + dy
            x, y = to_x, to_y
        parts.append(text + "z")
    return "".join(parts)


def tenth(number: int) -> str:
    """A tenth as SVG writes it in short."""
    sign, whole, part = "-" if number < 0 else "", abs(number) // 10, abs(number) % 10
    return f"{sign}{whole or ('' if part else '0')}{f'.{part}' if part else ''}"


def apart(circles: dict[str, Point]) -> dict[str, Point]:
    """Circles that lie on one another, moved apart step by step: the Caribbean would be one blot."""
    at = {key: list(point) for key, point in sorted(circles.items())}
    keys = list(at)
    for _ in range(200):
        for number, one in enumerate(keys):
            for other in keys[number + 1 :]:
                dx, dy = at[other][0] - at[one][0], at[other][1] - at[one][1]
                distance = math.hypot(dx, dy) or 1e-6
                if distance < APART:
                    push = (APART - distance) / 2 / distance * 0.5
                    at[one][0] -= dx * push
                    at[one][1] -= dy * push
                    at[other][0] += dx * push
                    at[other][1] += dy * push
    return {key: (x, y) for key, (x, y) in at.items()}


def world(atlas: Path) -> str:
    """The map as JSON. Raises ValueError if the atlas is another, or a country of the list is not in it."""
    middle, fine = Atlas(atlas / "countries-50m.json"), Atlas(atlas / "countries-10m.json")
    shapes = {country["id"]: (middle, country) for country in middle.countries if "id" in country}
    for country in fine.countries:
        shapes.setdefault(country.get("id", ""), (fine, country))
    parts = {PARTS[country["properties"]["name"]]: country for country in middle.countries if _apart(country)}
    with MISSIONS.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] in ("member", "observer")]
    countries, circles = [], {}
    for row in rows:
        source, geometry = shapes[row["m49"]]
        exact = source.rings(geometry, simple=False)
        largest = max(exact, key=area)
        if area(largest) < SMALL:
            circles[row["key"]] = centre(largest)
        rings = source.rings(geometry) + (middle.rings(parts[row["m49"]]) if row["m49"] in parts else [])
        path = drawn([ring for ring in rings if area(ring) >= SPECK])
        names = {language: row[f"name_{language}"] for language in ("en", "fr", "es")}
        countries.append({"iso3": row["key"], "m49": row["m49"], "names": names, "path": path})
    moved = apart(circles)
    for country in countries:
        if country["iso3"] in moved:
            country["circle"] = [round(value, 1) for value in moved[country["iso3"]]]
        elif not country["path"]:
            raise ValueError(f"{country['iso3']} would be nowhere on the map")
    known = {country["m49"] for country in countries}
    others = [
        country
        for country in middle.countries
        if country.get("id") not in known and country["properties"]["name"] != "Antarctica" and not _apart(country)
    ]
    land = drawn([ring for other in others for ring in middle.rings(other) if area(ring) >= SPECK])
    head = {"source": SOURCE, "made_from": DIGESTS, "width": round(WIDTH), "height": HEIGHT, "radius": RADIUS}
    lines = [json.dumps(country, ensure_ascii=False, separators=(",", ":")) for country in countries]
    text = json.dumps(head, ensure_ascii=False)[:-1] + f', "land": {json.dumps(land)}, "countries": [\n'
    return text + ",\n".join(lines) + "\n]}\n"


def _apart(country: dict[str, Any]) -> bool:
    return country["properties"]["name"] in PARTS


def main(arguments: list[str]) -> int:
    """Write or check; the exit code."""
    if len(arguments) not in (1, 2) or arguments[1:] not in ([], ["--check"]):
        sys.stderr.write("usage: python docs/world.py ATLAS [--check]\n")
        return 2
    text = world(Path(arguments[0]))
    if arguments[1:]:
        return 0 if WORLD.read_text(encoding="utf-8") == text else 1
    WORLD.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{WORLD.relative_to(ROOT)}: {len(text.encode()):,} octets\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
