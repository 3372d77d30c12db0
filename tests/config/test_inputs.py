"""The input contract: names decide, units are converted, and what cannot be done is refused."""

from itertools import permutations
from typing import Any

import pytest
from pydantic import ValidationError

from ssl4eo_bench.config.bands import SENTINEL_2, Band, Unit
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import Channel, DisplayStretch, map_inputs
from ssl4eo_bench.errors import SpecError

DISPLAY = DisplayStretch(dn_range=(0.0, 2750.0), byte_range=(1.0, 255.0))


def bands(names: tuple[str, ...], unit: Unit = "dn") -> tuple[Band, ...]:
    return tuple(Band(name=name, unit=unit, resolution=10) for name in names)


def checkpoint(wanted: Any, scaling: dict[str, Any]) -> Checkpoint:
    return Checkpoint.model_validate(
        {
            "name": "net.tag",
            "arch": "net",
            "weights": {"random": True},
            "bands": wanted,
            "image_size": 224,
            "scaling": scaling,
        }
    )


def value(channel: Channel, x: float) -> float:
    """The formula of `Channel` in plain arithmetic."""

    def clip(v: float, low: float | None, high: float | None) -> float:
        return min(max(v, -1e30 if low is None else low), 1e30 if high is None else high)

    if channel.source is None:
        return 0.0
    v = clip(channel.gain * clip(x, *channel.valid) + channel.offset, *channel.clip)
    if channel.levels:
        v = int(v * channel.levels) / channel.levels
    return channel.post_gain * v + channel.post_offset


def test_channels_follow_the_checkpoint_whatever_the_order_of_the_task() -> None:
    wanted = checkpoint(["B8a", "B2", "S2_B04"], {"divide": 10000})
    for order in permutations(("B02", "B04", "B8A", "B11")):
        mapping = map_inputs(bands(order), wanted)
        assert [channel.source for channel in mapping.channels] == ["B8A", "B02", "B04"]
        assert mapping.filled == ()


def test_a_missing_band_of_the_sensor_is_zero_after_scaling_and_recorded() -> None:
    without = tuple(band for band in SENTINEL_2 if band != "B10")
    statistics = dict.fromkeys(SENTINEL_2, 20.0)
    mapping = map_inputs(bands(without), checkpoint(list(SENTINEL_2), {"mean": statistics, "std": statistics}))
    assert mapping.filled == ("B10",)
    assert mapping.channels[10] == Channel(band="B10", source=None)
    assert value(mapping.channels[10], 123.0) == 0.0  # and not (0 - mean) / std
    assert value(mapping.channels[0], 40.0) == pytest.approx(1.0)


def test_another_sensor_is_refused() -> None:
    radar = checkpoint(["VV", "VH"], {"mean": {"VV": -12.5, "VH": -20.2}, "std": {"VV": 5.2, "VH": 5.9}})
    with pytest.raises(SpecError, match="wants VV, VH, which the task does not have: it gives B04"):
        map_inputs(bands(("B04", "B03", "B02")), radar)


def test_a_checkpoint_without_any_band_of_the_task_is_refused() -> None:
    with pytest.raises(SpecError, match="wants B11, B12, which the task does not have"):
        map_inputs(bands(("B04", "B03", "B02")), checkpoint(["B11", "B12"], {"divide": 10000}))


@pytest.mark.parametrize(("unit", "stored"), [("dn", 2500.0), ("reflectance", 0.25), ("byte", 1 + 2500 * 254 / 2750)])
def test_units_meet_in_digital_numbers(unit: Unit, stored: float) -> None:
    given = bands(("B04",), unit)
    divided = map_inputs(given, checkpoint(["B04"], {"divide": 10000}), DISPLAY).channels[0]
    assert value(divided, stored) == pytest.approx(0.25)
    scored = map_inputs(given, checkpoint(["B04"], {"mean": {"B4": 1500}, "std": {"B4": 500}}), DISPLAY).channels[0]
    assert value(scored, stored) == pytest.approx(2.0)


def test_a_stretch_shows_photographs_weights_a_display_image() -> None:
    wanted = checkpoint(["B04"], {"stretch": [0, 2750], "mean": {"B04": 0.485}, "std": {"B04": 0.229}})
    dn, byte = (map_inputs(bands(("B04",), unit), wanted, DISPLAY).channels[0] for unit in ("dn", "byte"))
    assert value(dn, 1375.0) == pytest.approx((0.5 - 0.485) / 0.229)
    assert value(dn, 9000.0) == pytest.approx((1 - 0.485) / 0.229)
    assert value(byte, 51.0) == pytest.approx((0.2 - 0.485) / 0.229)


def test_bytes_need_to_say_how_they_were_made() -> None:
    with pytest.raises(SpecError, match="unit 'byte', which has no conversion to the 'dn'"):
        map_inputs(bands(("B04",), "byte"), checkpoint(["B04"], {"divide": 10000}))


def test_quantisation_clips_bright_pixels_instead_of_wrapping_them() -> None:
    channel = map_inputs(bands(("B04",)), checkpoint(["B04"], {"uint8": 10000})).channels[0]
    assert value(channel, 12000.0) == value(channel, 10000.0) == 1.0
    assert value(channel, 5000.0) == pytest.approx(127 / 255)


def test_division_does_not_clip_bright_pixels() -> None:
    channel = map_inputs(bands(("B04",)), checkpoint(["B04"], {"divide": 10000})).channels[0]
    assert value(channel, 12000.0) == pytest.approx(1.2)
    assert value(channel, -300.0) == 0.0  # bicubic overshoot is no reflectance


def test_bands_task_takes_what_the_task_has() -> None:
    stats = Checkpoint.model_validate(
        {"name": "bandstats", "arch": "bandstats", "bands": "task", "image_size": "native", "scaling": {"raw": True}}
    )
    mapping = map_inputs(bands(("B04", "B10")), stats)
    assert mapping.sources == ("B04", "B10")
    assert mapping.image_size == "native"


def test_a_quarter_of_the_channels_may_be_filled_and_no_more() -> None:
    wanted = checkpoint(list(SENTINEL_2), {"divide": 10000})  # of 13 bands, 3 are less than a quarter
    at_most = tuple(name for name in SENTINEL_2 if name not in ("B01", "B09", "B10"))
    assert map_inputs(bands(at_most), wanted).is_mostly_there
    with pytest.raises(SpecError, match=r"wants 13 bands, and the task lacks 4 of them \(B01, B09, B10, B12\)"):
        map_inputs(bands(at_most[:-1]), wanted)
    mapping = map_inputs(bands(at_most[:-1]), wanted, fill_bands=True)
    assert mapping.filled == ("B01", "B09", "B10", "B12")
    assert not mapping.is_mostly_there


@pytest.mark.parametrize(
    ("scaling", "unit"),
    [
        ({"divide": 10000}, "dn"),
        ({"uint8": 10000}, "reflectance"),
        ({"mean": {"B04": 1500.0}, "std": {"B04": 300.0}}, "dn"),
        ({"mean": {"B04": 1500.0}, "std": {"B04": 300.0}}, "reflectance"),
        ({"clip_std": 2, "mean": {"B04": 1500.0}, "std": {"B04": 300.0}}, "dn"),
        ({"stretch": [0, 2750], "mean": {"B04": 0.4}, "std": {"B04": 0.2}}, "dn"),
        ({"stretch": [0, 2750], "mean": {"B04": 0.4}, "std": {"B04": 0.2}}, "byte"),
    ],
)
def test_the_neutral_value_of_a_channel_becomes_zero(scaling: dict[str, Any], unit: Unit) -> None:
    channel = map_inputs(bands(("B04",), unit), checkpoint(["B04"], scaling), DISPLAY).channels[0]
    assert value(channel, channel.neutral) == pytest.approx(0.0, abs=1e-9)


def test_the_neutral_value_of_decibel_is_their_mean() -> None:
    radar = checkpoint(["VV", "VH"], {"mean": {"VV": -12.0, "VH": -20.0}, "std": {"VV": 5.0, "VH": 5.0}})
    found = [channel.neutral for channel in map_inputs(bands(("VV", "VH"), "db"), radar).channels]
    assert found == pytest.approx([-12.0, -20.0])


def test_random_weights_take_the_bands_of_the_task_and_trained_ones_do_not() -> None:
    random = checkpoint("task", {"divide": 10000})
    assert map_inputs(bands(("B04", "B10")), random).sources == ("B04", "B10")
    with pytest.raises(SpecError, match="choose a checkpoint for that sensor"):
        map_inputs(bands(("VV", "VH"), "db"), random)  # its scaling is of reflectance
    with pytest.raises(ValidationError, match="list them instead of `bands: task`"):
        Checkpoint.model_validate(random.model_dump() | {"weights": {"timm": "net.tag"}})


BOTH = {
    "by_sensor": {
        "Sentinel-2": {"divide": 10000},
        "Sentinel-1": {"clip_std": 2, "mean": {"VV": -12.0, "VH": -20.0}, "std": {"VV": 5.0, "VH": 4.0}},
    }
}
OPTICAL, RADAR = bands(("B02", "B04"), "reflectance"), bands(("VV", "VH"), "db")


def test_bands_of_both_sensors_are_scaled_as_their_sensor_says_in_the_order_of_the_entry() -> None:
    mapping = map_inputs(OPTICAL + RADAR, checkpoint(["VH", "B04", "VV"], BOTH))
    assert mapping.sources == ("VH", "B04", "VV")
    radar, optical, other = mapping.channels
    assert value(radar, -20.0) == pytest.approx(127 / 255)
    assert value(radar, 10.0) == 1.0
    assert value(other, -22.0) == 0.0
    assert value(optical, 1.3) == pytest.approx(1.3)  # reflectance becomes digital numbers, unclipped


def test_one_scaling_by_band_may_serve_both_sensors() -> None:
    statistics = {"B04": 1000.0, "VV": -12.0}
    wanted = checkpoint(["B04", "VV"], {"mean": statistics, "std": {"B04": 500.0, "VV": 5.0}})
    optical, radar = map_inputs(OPTICAL + RADAR, wanted).channels
    assert value(optical, 0.2) == pytest.approx(2.0)
    assert value(radar, -2.0) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "scaling",
    [
        {"divide": 10000},
        {"uint8": 10000},
        {"stretch": [0, 2750], "mean": {"B04": 0.5, "VV": 0.5}, "std": {"B04": 0.5, "VV": 0.5}},
    ],
)
def test_one_number_for_digital_numbers_and_decibel_is_refused(scaling: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give each sensor its own by"):
        checkpoint(["B04", "VV"], scaling)


@pytest.mark.parametrize(("given", "lacking"), [(OPTICAL, "VV, VH"), (RADAR, "B02, B04")])
def test_a_task_without_one_of_two_sensors_is_refused(given: tuple[Band, ...], lacking: str) -> None:
    with pytest.raises(SpecError, match=f"wants {lacking}, which the task does not have"):
        map_inputs(given, checkpoint(["B02", "B04", "VV", "VH"], BOTH))


def test_a_quarter_of_the_channels_of_both_sensors_may_be_filled() -> None:
    wanted = checkpoint(["B02", "B04", "VV", "VH"], BOTH)
    assert map_inputs(bands(("B02", "B04", "VV"), "dn")[:2] + RADAR[:1], wanted).filled == ("VH",)
    with pytest.raises(SpecError, match=r"the task lacks 2 of them \(B04, VH\)"):
        map_inputs(OPTICAL[:1] + RADAR[:1], wanted)


def test_random_weights_take_the_sensors_that_their_scaling_is_for() -> None:
    both, one = checkpoint("task", BOTH), checkpoint("task", {"divide": 10000})
    assert map_inputs(OPTICAL + RADAR, both).sources == ("B02", "B04", "VV", "VH")
    assert map_inputs(RADAR, both).sources == ("VV", "VH")
    assert map_inputs(OPTICAL, both).sources == ("B02", "B04")
    assert map_inputs(OPTICAL + RADAR, one).sources == ("B02", "B04")


def test_statistics_of_bands_take_all_bands_of_both_sensors() -> None:
    stats = Checkpoint.model_validate(
        {"name": "bandstats", "arch": "bandstats", "bands": "task", "image_size": "native", "scaling": {"raw": True}}
    )
    assert map_inputs(OPTICAL + RADAR, stats).sources == ("B02", "B04", "VV", "VH")


def test_a_scaling_by_sensor_has_one_digest_however_it_is_written() -> None:
    first = checkpoint(["VV", "VH", "B04"], BOTH)
    turned = {"by_sensor": dict(reversed(BOTH["by_sensor"].items())) | {"Sentinel-2": {"divide": 10000.0}}}
    again = checkpoint(["VV", "VH", "B04"], turned)
    assert digest(first.identity()) == digest(again.identity())
    assert Checkpoint.model_validate(first.model_dump()) == first
