"""FlowTrack's own template filters, and Liquid's where it would read the clock or run without bound."""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.numbers import format_currency, format_decimal, format_percent
from liquid import Markup, Undefined
from liquid.exceptions import FilterArgumentError
from liquid.filter import flatten, with_context

from workflows import amounts, moments

DECIMALS_CAP = 10
DAYS_CAP = 10_000
_DIRECTIVE = re.compile(r"%([-_0^#]?)([A-Za-z%])")
_UNITS = frozenset({"months", "days", "weeks", "years", "hours", "minutes", "seconds"})


def _fail(message: str) -> FilterArgumentError:
    return FilterArgumentError(message, token=None)


# Numbers


def currency(value: Any, code: Any = "USD", locale: Any = "en_US") -> str:
    """Write an amount of money: {{ 5000 | currency: 'EUR', 'de_DE' }}."""
    if not re.fullmatch(r"[A-Z]{3}", str(code), re.ASCII):
        raise _fail("currency takes a code such as 'EUR'")
    return format_currency(_number(value, "currency"), str(code), locale=_locale(locale))


def number(value: Any, decimals: Any = None, locale: Any = "en_US") -> str:
    """Write a number with thousands separators: {{ 1234.5 | number: 2 }}."""
    amount = _number(value, "number")
    if decimals is None:
        return format_decimal(amount, locale=_locale(locale))
    places = _places(decimals)
    return format_decimal(_rounded(amount, places), format=_pattern(places), locale=_locale(locale))


def percent(value: Any, decimals: Any = 0, locale: Any = "en_US") -> str:
    """Write a share as percent: {{ 0.256 | percent: 1 }} is 25.6%; a text that ends in % is one already."""
    amount = _number(value, "percent")
    if isinstance(value, str) and value.strip().endswith("%"):
        amount /= 100
    places = _places(decimals)
    share = _rounded(amount, places + 2)
    return format_percent(share, format=_pattern(places) + "%", locale=_locale(locale))


def total(values: Any, key: Any = None) -> float | int:
    """Add up the numbers of a list; what holds no number counts as nothing."""
    items: list[Any] = flatten(values) if isinstance(values, list | tuple | range) else [values]
    if key is not None:
        items = [item.get(str(key)) if isinstance(item, dict) else None for item in items]
    result = sum((amounts.number_in(item) or Decimal(0) for item in items), Decimal(0))
    return int(result) if result == result.to_integral_value() else float(result)


def _number(value: Any, filter_name: str) -> Decimal:
    found = amounts.number_in(value)
    if found is None:
        raise _fail(f"{filter_name} found no number in {str(value)[:40]!r}")
    if found.adjusted() > 20:
        raise _fail(f"{filter_name} takes numbers of up to 20 digits")
    return found


def _places(decimals: Any) -> int:
    if isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= DECIMALS_CAP:
        raise _fail(f"decimals are a whole number from 0 to {DECIMALS_CAP}")
    return decimals


def _rounded(amount: Decimal, places: int) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


def _pattern(places: int) -> str:
    return "#,##0." + "0" * places if places else "#,##0"


def _locale(name: Any) -> Locale:
    try:
        return Locale.parse(str(name)[:20].replace("-", "_"))
    except (ValueError, UnknownLocaleError) as error:
        raise _fail(f"unknown locale {str(name)[:20]!r}; use one such as 'en_US'") from error


# Days and moments


@with_context
def formatted(value: Any, pattern: Any = "%Y-%m-%d", *, context: Any) -> str:
    """Write a day or moment by strftime's directives, in the rendering's zone; other text stays as it is."""
    found = _moment(value, context)
    if found is None:
        if isinstance(value, str | int | float):
            return str(value)
        raise _fail("date takes a day or a moment")
    if len(str(pattern)) > 200:
        raise _fail("the date format is longer than 200 characters")
    return _DIRECTIVE.sub(lambda directive: _directive(found.at, directive), str(pattern))


def _directive(at: datetime, directive: re.Match[str]) -> str:
    flag, code = directive[1], directive[2]
    if code == "s":
        return str(int(at.timestamp()))
    if code not in "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyYzZ%":
        return directive[0]
    text = at.strftime(f"%{code}")
    if flag == "-":
        return text.lstrip("0 ") or "0"
    if flag == "_":
        return text.lstrip("0").rjust(len(text))
    return text.upper() if flag in ("^", "#") and flag else text


@with_context
def date_add(value: Any, amount: Any, unit: Any = "days", *, context: Any) -> str:
    """Move a day or moment: {{ now | date_add: 3 }}, {{ now | date_add: 2, 'hours' }} or 'P1M'."""
    start = _required(value, "date_add", context)
    whole = _whole_number(amount)
    span = moments.span_in(amount) if whole is None else moments.span_in({_unit(unit): whole})
    if span is None:
        raise _fail("date_add takes a number and a unit, or a duration such as 'P3D'")
    try:
        return _iso(moments.Moment(span.after(start.at), whole_day=start.whole_day and not span.seconds))
    except (OverflowError, ValueError) as error:
        raise _fail("date_add leaves the calendar") from error


@with_context
def business_days_add(value: Any, days: Any, *, context: Any) -> str:
    """Move a day or moment by Mondays to Fridays."""
    start = _required(value, "business_days_add", context)
    count = _whole_number(days)
    if count is None or abs(count) > DAYS_CAP:
        raise _fail(f"business_days_add takes a whole number up to {DAYS_CAP}")
    context.work.spend(abs(count))
    try:
        return _iso(moments.Moment(start.at + _working(start.day, count), whole_day=start.whole_day))
    except OverflowError as error:
        raise _fail("business_days_add leaves the calendar") from error


def _working(start: date, count: int) -> timedelta:
    """Return the way from start to the count-th working day after it, or before it."""
    step, days = (1 if count > 0 else -1), 0
    for _ in range(abs(count)):
        days += step
        while (start.weekday() + days) % 7 > 4:
            days += step
    return timedelta(days=days)


def _moment(value: Any, context: Any) -> moments.Moment | None:
    plain = str(value) if isinstance(value, str) else value
    return moments.moment_in(plain, now=context.now, zone=context.zone)


def _required(value: Any, filter_name: str, context: Any) -> moments.Moment:
    found = _moment(value, context)
    if found is None:
        raise _fail(f"{filter_name} found no date in {str(value)[:40]!r}")
    return found


def _iso(moment: moments.Moment) -> str:
    return moment.day.isoformat() if moment.whole_day else moment.at.isoformat(timespec="seconds")


def _whole_number(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _unit(unit: Any) -> str:
    plural = str(unit).strip().lower().rstrip("s") + "s"
    if plural not in _UNITS:
        raise _fail(f"unknown unit {str(unit)[:20]!r}; use one of {', '.join(sorted(_UNITS))}")
    return plural


# Text


def phone(value: Any) -> str:
    """Write a telephone number readably; what is none stays as it is."""
    text = str(value).strip()
    digits = re.sub(r"\D", "", text, flags=re.ASCII)
    if not 7 <= len(digits) <= 15 or re.search(r"[A-Za-z@]", text):
        return text
    national = digits[1:] if len(digits) == 11 and digits[0] == "1" else digits
    if len(national) == 10 and (len(digits) == 11 or not text.startswith("+")):
        prefix = "+1 " if len(digits) == 11 else ""
        return f"{prefix}({national[:3]}) {national[3:6]}-{national[6:]}"
    return re.sub(r"[^\d+]+", " ", text, flags=re.ASCII).strip()


def first_name(value: Any) -> str:
    """Take the first name from "Ada Lovelace", "Lovelace, Ada" or an e-mail address."""
    text = str(value).strip()
    if "@" in text:
        return re.split(r"[._+\-@]", text, maxsplit=1)[0].capitalize()
    given = text.partition(",")[2].strip() or text
    return given.split()[0] if given.split() else ""


def email_domain(value: Any) -> str:
    """Take the domain of an e-mail address."""
    return str(value).strip().rpartition("@")[2].lower() if "@" in str(value) else ""


def slugify(value: Any) -> str:
    """Turn text into lower-case words joined by hyphens, fit for a URL."""
    plain = unicodedata.normalize("NFKD", str(value)).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def as_json(value: Any) -> str:
    """Write a value as JSON; a known but empty one as null."""
    if isinstance(value, Undefined):
        if not getattr(value, "is_null", False):
            str(value)  # raises, and names the value
        return "null"
    plain = list(value) if isinstance(value, range) else value
    try:
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise _fail("json cannot write NaN or Infinity") from error


def strip_html(value: Any) -> str:
    """Remove tags, comments, scripts and styles, in one pass over the text."""
    text = "" if value is None else str(value)
    kept, at = [], 0
    while (start := text.find("<", at)) >= 0:
        end = _end_of_tag(text, start)
        if end < 0:
            break
        kept.append(text[at:start])
        at = end
    stripped = "".join(kept) + text[at:]
    return Markup(stripped) if isinstance(value, Markup) else stripped


def _end_of_tag(text: str, start: int) -> int:
    """Return where the tag, comment, script or style that starts here ends; -1 if it never does."""
    if text.startswith("<!--", start):
        end = text.find("-->", start + 4)
        return end + 3 if end >= 0 else len(text)
    close = text.find(">", start)
    name = re.match(r"<(script|style)\b", text[start : start + 8], re.IGNORECASE)
    if close < 0 or not name:
        return close + 1 if close >= 0 else -1
    found = re.compile(rf"</{name[1]}\s{{0,20}}>", re.IGNORECASE).search(text, close)
    return found.end() if found else len(text)


# Lists


def uniq(values: Any, key: Any = None) -> list[Any]:
    """Keep the first of equal items."""
    seen, kept = set(), []
    items: list[Any] = flatten(values) if isinstance(values, list | tuple) else [values]
    for item in items:
        same = item.get(str(key)) if key is not None and isinstance(item, dict) else item
        mark = json.dumps(same, sort_keys=True, default=str)
        if mark not in seen:
            seen.add(mark)
            kept.append(item)
    return kept


def pluck(values: Any, key: Any) -> list[Any]:
    """Take one value of every object in a list."""
    items: list[Any] = flatten(values) if isinstance(values, list | tuple) else [values]
    if not all(isinstance(item, dict) for item in items):
        raise _fail("map takes a list of objects")
    return [item.get(str(key)) for item in items]


OWN: Mapping[str, Callable[..., Any]] = {
    "business_days_add": business_days_add,
    "currency": currency,
    "date": formatted,
    "date_add": date_add,
    "email_domain": email_domain,
    "first_name": first_name,
    "json": as_json,
    "map": pluck,
    "number": number,
    "percent": percent,
    "phone": phone,
    "slugify": slugify,
    "strip_html": strip_html,
    "sum": total,
    "uniq": uniq,
}
TAKE_MISSING = frozenset({"default", "json"})
LEFT_OUT = frozenset({"safe", "escapejs"})
"""`safe` would undo the escaping of HTML bodies; `escapejs` promises a safety it cannot give in mail."""
