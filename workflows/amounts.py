"""Numbers as people write them: "$5,000", "5 000.00", "€5000", "$10000+", "5.000,50", "(100)", "10k".

The reading rules, in this order:

- Digits are ASCII; other scripts' digits are no number (forms refuse them too).
- A space, an apostrophe or an underscore between groups of three digits separates thousands.
- With a comma and a dot, the later one is the decimal mark: "5.000,50" and "5,000.50" are both 5000.5.
- Several commas, or several dots, separate thousands ("1.234.567"); dots that do not are no number ("1.2.3").
- One comma before exactly three digits separates thousands ("5,000"), otherwise it is a decimal mark ("5,5").
- One dot is always a decimal mark: "5.000" is 5, as every program writes it. A German "5.000 €" is therefore
  read as 5; "5.000,00 €" is not ambiguous.
- "k" right behind the digits means thousand and "M" million, where no letter follows.
- A whole text in brackets is negative, as bookkeepers write it.
"""

import math
import re
from decimal import Decimal
from functools import lru_cache

TEXT_CAP = 1_000
DIGIT_CAP = 100
_SIGNS = "-−+"
_MARKS = r"$€£¥₹¢₽₩₺฿₫₴₪"
_SPACES = " \u00a0\u2007\u2009\u202f"
_DIGITS = rf"(?:\d{{1,3}}(?:[{_SPACES}'’_]\d{{3}})+(?!\d)|\d+)"
_NUMBER = re.compile(
    rf"(?<![\w.,])(?P<sign>[{_SIGNS}]?)[{_SPACES}]?[{_MARKS}]?[{_SPACES}]?(?P<sign2>[{_SIGNS}]?)"
    rf"(?P<whole>{_DIGITS}(?:[.,]\d+)*|[.,]\d+)(?:[eE](?P<exp>[+-]?\d{{1,2}})(?!\w))?(?P<unit>[kKM](?![^\W\d_]))?",
    re.ASCII,
)
_PLAIN = re.compile(r"-?\d{1,100}(?:\.\d{1,100})?", re.ASCII)
_DECORATION = re.compile(rf"[{_MARKS}{_SPACES}\s+%]|\b[A-Z]{{3}}\b", re.ASCII)
_UNITS = {"k": 1_000, "K": 1_000, "M": 1_000_000, None: 1}


def number_in(value: object) -> Decimal | None:
    """Find the first number a value holds; None where it holds none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value) if value.bit_length() <= 332 else None
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    return _in_text(value[:TEXT_CAP].strip()) if isinstance(value, str) else None


def amount(value: object) -> Decimal | None:
    """Read a value that is a number as a whole, but for a currency, a percent sign or a trailing plus."""
    if not isinstance(value, str):
        return number_in(value)
    return _whole(value) if len(value) <= TEXT_CAP else None


@lru_cache(maxsize=4096)
def _whole(value: str) -> Decimal | None:
    text = _unbracketed(value.strip())
    found = _NUMBER.search(text)
    if found is None or _DECORATION.sub("", text[: found.start()] + text[found.end() :]):
        return None
    return number_in(value)


def _in_text(text: str) -> Decimal | None:
    if _PLAIN.fullmatch(text):
        return Decimal(text)
    inner = _unbracketed(text)
    found = _NUMBER.search(inner)
    number = _read(found) if found else None
    if number is None or inner is text:
        return number
    return -abs(number)


def _unbracketed(text: str) -> str:
    """Take the brackets off "(100)" but not off "budget (100)"."""
    bracketed = text.startswith("(") and text.endswith(")")
    inner = text[1:-1].strip()
    return inner if bracketed and _DECORATION.sub("", _NUMBER.sub("", inner)) == "" else text


def _read(found: re.Match[str]) -> Decimal | None:
    digits = _plain(re.sub(rf"[{_SPACES}'’_]", "", found["whole"]))
    if digits is None or len(digits) > DIGIT_CAP:
        return None
    signs = (found["sign"] or "") + (found["sign2"] or "")
    negative = sum(sign != "+" for sign in signs) % 2 == 1
    number = Decimal(digits).scaleb(int(found["exp"] or 0)) * _UNITS[found["unit"]]
    return -number if negative else number


def _plain(digits: str) -> str | None:
    """Turn thousands separators and decimal commas into a plain decimal."""
    commas, dots = digits.count(","), digits.count(".")
    if commas and dots:
        mark = "," if digits.rfind(",") > digits.rfind(".") else "."
        return _with_mark(digits, mark)
    if dots > 1:
        return digits.replace(".", "") if re.fullmatch(r"\d{1,3}(\.\d{3})+", digits) else None
    if commas > 1:
        return digits.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{2,3})*,\d{3}", digits) else None
    if commas == 1:
        thousands = re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits)
        return digits.replace(",", "" if thousands else ".")
    return digits


def _with_mark(digits: str, mark: str) -> str | None:
    other = "." if mark == "," else ","
    if digits.count(mark) > 1:
        return None
    return digits.replace(other, "").replace(mark, ".")
