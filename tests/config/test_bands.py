import pytest

from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2, canonical_band, sensor_of
from ssl4eo_bench.errors import SpecError


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("B8A", "B8A"),
        ("B08A", "B8A"),
        ("B8a", "B8A"),
        ("b8a", "B8A"),
        ("S2_B8A", "B8A"),
        ("B2", "B02"),
        ("B02", "B02"),
        ("S2_B02", "B02"),
        ("S2-B2", "B02"),
        ("B12", "B12"),
        ("B08", "B08"),
        (" B1 ", "B01"),
        ("vv", "VV"),
        ("S1_VH", "VH"),
    ],
)
def test_every_spelling_of_the_field_folds_to_one_name(written: str, canonical: str) -> None:
    assert canonical_band(written) == canonical


@pytest.mark.parametrize("written", ["B13", "B00", "B0", "B2A", "B99", "NDVI", "", "HH", "8", "B8AA", "B012"])
def test_what_is_no_band_is_refused(written: str) -> None:
    with pytest.raises(SpecError, match="is not known; known are B01"):
        canonical_band(written)


def test_canonical_names_are_fixed_points_and_belong_to_one_sensor() -> None:
    assert [canonical_band(band) for band in SENTINEL_2 + SENTINEL_1] == [*SENTINEL_2, *SENTINEL_1]
    assert {sensor_of(band) for band in SENTINEL_2} == {"Sentinel-2"}
    assert {sensor_of(band) for band in SENTINEL_1} == {"Sentinel-1"}


def test_a_wavelength_needs_its_unit() -> None:
    with pytest.raises(SpecError, match="'red=665' has a wavelength without a unit; write red=665nm"):
        canonical_band("red=665")
