"""Names of units that may follow a number or a formula: "cm", "km/h", "years", "平方米"."""

from __future__ import annotations

import re

_WORDS = """
    nm um μm µm mm cm dm m km in inch inches ft foot feet yd yard yards mi mile miles
    meter meters metre metres centimeter centimeters centimetre centimetres kilometer kilometers kilometre kilometres
    millimeter millimeters millimetre millimetres decimeter decimeters
    sq sqm sqft sqcm sqkm acre acres ha hectare hectares square cubic sq.m
    ml mL cl dl l L kl cc liter liters litre litres milliliter milliliters gal gallon gallons
    mg g gm kg t ton tons tonne tonnes oz lb lbs gram grams kilogram kilograms milligram milligrams pound pounds
    ms s sec secs second seconds min mins minute minutes h hr hrs hour hours day days week weeks month months yr yrs
    year years
    mph kmh kph kmph rpm fps bpm dpi ppi ppm dB
    deg degree degrees rad radian radians
    Hz kHz MHz GHz V kV mV W kW MW kWh mAh Ah mA N kN J kJ Pa kPa MPa hPa bar psi cal kcal mol lm lx ohm ohms Ω
    bit bits byte bytes kB KB MB GB TB Kb Mb Gb px pixel pixels mp MP pt
    usd USD eur EUR gbp GBP cny CNY rmb RMB jpy JPY inr INR rs Rs yuan dollar dollars cent cents euro euros yen rupee
    rupees
    pc pcs piece pieces item items unit units person persons people percent pct times
    мм см дм м км м² г кг л мл с сек мин ч шт руб
"""
UNIT_NAMES = frozenset(_WORDS.split())
"""The names in their usual spelling, e.g. "cm", "kWh", "hours"."""

_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # kana, ideographs, Hangul, which follow a number directly
_NOT_A_UNIT = r"万萬亿億兆千百十番目第号號만억천번"  # these multiply the number, or make it an ordinal

UNSPACED_UNIT = rf"(?![{_NOT_A_UNIT}])[{_UNSPACED}]"
"""A character that may follow a number directly, and neither multiplies it nor makes it an ordinal."""

_POWER = r"(?:\^?\{?[23]\}?|[²³])?"
_ANY = "|".join(sorted(map(re.escape, UNIT_NAMES), key=len, reverse=True))  # the longest name first
ATTACHED_UNIT = re.compile(
    rf"(?:{_ANY}){_POWER}"
    rf"(?:[/·](?:{_ANY}){_POWER})?(?!\w)"
    rf"|{UNSPACED_UNIT}"
)
"""A unit directly after a number: "cm" in "12cm", "km/h" in "60km/h", "m²"; or a character such as 个."""


def is_unit(word: str) -> bool:
    """Return whether a word is the name of a unit, or begins with one in a script without spaces.

    >>> is_unit("cm"), is_unit("个"), is_unit("year"), is_unit("rd"), is_unit("万")
    (True, True, True, False, False)
    """
    return word in UNIT_NAMES or word.lower() in UNIT_NAMES or bool(re.match(UNSPACED_UNIT, word))
