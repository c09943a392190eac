"""The map of the review page: who is on it, and in which colour."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.reading import STANDINGS
from dispatcher.web.review.worldmap import NO_LETTER, URGENT, world_map
from tests.command import REPOSITORY, read_list

TEXT = files("dispatcher.web.review").joinpath("world.json").read_text(encoding="utf-8")
WORLD = json.loads(TEXT)
MISSIONS = {row["key"]: row for row in read_list(REPOSITORY, "un_missions.csv")[1]}
PATH = re.compile(r"(M-?[\d.]+ -?[\d.]+l[-\d. ]+z)*")


def test_every_member_is_on_the_map_by_its_codes_and_names() -> None:
    members = {key for key, row in MISSIONS.items() if row["status"] == "member"}
    shown = {country["iso3"]: country for country in WORLD["countries"]}
    assert len(members) == 193
    assert members <= shown.keys()
    for key, country in shown.items():
        row = MISSIONS[key]
        assert country["m49"] == row["m49"]
        assert country["names"] == {tag: row[f"name_{tag}"] for tag in ("en", "fr", "es")}


def test_it_is_small_and_says_where_it_is_from() -> None:
    assert len(TEXT.encode()) < 150_000
    assert "public domain" in WORLD["source"]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in WORLD["made_from"].values())


def test_whoever_is_too_small_to_be_seen_has_a_circle_inside_the_drawing() -> None:
    circles = {country["iso3"]: country["circle"] for country in WORLD["countries"] if "circle" in country}
    assert {"TUV", "NRU", "MDV", "SGP", "MCO", "SMR", "LIE", "AND", "MLT", "KNA", "PLW", "BHR"} <= circles.keys()
    assert not {"FRA", "RUS", "FJI", "ISL"} & circles.keys()
    for x, y in circles.values():
        assert 0 < x < WORLD["width"]
        assert 0 < y < WORLD["height"]
    found = list(circles.values())
    for number, (x, y) in enumerate(found):
        for other_x, other_y in found[number + 1 :]:
            assert (x - other_x) ** 2 + (y - other_y) ** 2 > (2 * WORLD["radius"]) ** 2 * 0.95, "two lie on one another"


def test_an_outline_is_numbers_inside_the_drawing() -> None:
    for country in WORLD["countries"]:
        assert country["path"] or "circle" in country
        for path in (country["path"], WORLD["land"]):
            assert PATH.fullmatch(path), country["iso3"]
        for ring in country["path"].split("z")[:-1]:
            x = y = 0.0
            numbers = [float(n) for n in re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+)", ring)]
            for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
                x, y = x + dx, y + dy
                assert -1 <= x <= WORLD["width"] + 1, country["iso3"]
                assert -1 <= y <= WORLD["height"] + 1, country["iso3"]


def test_no_outline_crosses_the_drawing_where_it_is_cut() -> None:
    """180° runs through Russia, Fiji and the United States: an outline that jumps there is a stroke across the map."""
    for country in WORLD["countries"]:
        for ring in country["path"].split("z")[:-1]:
            numbers = [float(n) for n in re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+)", ring)][2:]
            assert all(abs(step) < 150 for step in numbers), country["iso3"]


def test_codes_are_found_as_lists_and_spreadsheets_write_them() -> None:
    found = world_map({"004": {"accepted": 1}, "8": {"failed": 1}, " fra ": {"unknown": 2}, "": {"waiting": 9}}, "fr")
    assert found
    there = {country.code: (country.name, country.outcome, country.letters) for country in found.countries}
    assert there["AFG"] == ("Afghanistan", "accepted", 1)
    assert there["ALB"] == ("Albanie", "failed", 1)
    assert there["FRA"] == ("France", "unknown", 2)
    assert there["CHE"] == ("Suisse", NO_LETTER, 0)
    assert [country.code for country in found.written_to] == ["FRA", "ALB", "AFG"]


@pytest.mark.parametrize("counts", [{}, {"": {"accepted": 5}}, {"XXX": {"accepted": 1}, "999": {"accepted": 1}}])
def test_a_list_without_codes_has_no_map(counts: dict[str, dict[str, int]]) -> None:
    assert world_map(counts, "en") is None


@given(st.dictionaries(st.sampled_from(STANDINGS), st.integers(1, 9), min_size=1))
def test_of_several_letters_the_most_urgent_one_gives_the_colour(counts: dict[str, int]) -> None:
    found = world_map({"250": counts}, "en")
    assert found
    france = next(country for country in found.countries if country.code == "FRA")
    assert france.outcome == min(counts, key=URGENT.index)
    assert france.letters == sum(counts.values())


def test_every_outcome_has_its_place_among_the_urgent_ones() -> None:
    assert set(URGENT) == set(STANDINGS)


def test_the_map_can_be_made_anew(tmp_path: Path) -> None:
    """By `make map`, if the atlas is there; its digest is checked."""
    atlas = REPOSITORY / "tests" / "npm" / "node_modules" / "world-atlas"
    if not atlas.exists():
        pytest.skip("needs the atlas: make npm")
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    script = str(REPOSITORY / "docs" / "world.py")
    assert subprocess.run([sys.executable, script, str(atlas), "--check"], check=False).returncode == 0
    for file in ("countries-50m.json", "countries-10m.json"):
        (tmp_path / file).write_bytes(b"{}")
    done = subprocess.run([sys.executable, script, str(tmp_path), "--check"], check=False, capture_output=True)
    assert b"is not the file that the map is made from" in done.stderr
