"""How numbers are written: percent, points, bytes and seconds, with their spread."""

from __future__ import annotations

from moiety.report.frames import Spread

NONE = "none"
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def format_percent(value: float) -> str:
    """Write a share as a percentage.

    >>> format_percent(0.8125)
    '81.2 %'
    """
    return f"{100 * value:.1f} %"


def format_points(value: float) -> str:
    """Write a difference of shares in percentage points.

    >>> format_points(0.021)
    '2.1 points'
    """
    return f"{100 * value:.1f} points"


def format_percent_spread(value: Spread | None) -> str:
    """Write a share with its sample standard deviation over seeds."""
    if value is None:
        return NONE
    if value.std is None:
        return format_percent(value.mean)
    return f"{100 * value.mean:.1f} ± {100 * value.std:.1f} %"


def format_number(value: float) -> str:
    """Write a number of any size: three decimals, or four digits where it is large.

    >>> format_number(2.25), format_number(48123.4)
    ('2.250', '4.812e+04')
    """
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"


def format_bytes(value: float) -> str:
    """Write a number of bytes in decimal units.

    >>> format_bytes(999), format_bytes(1500), format_bytes(25_600_000)
    ('999 B', '1.50 kB', '25.6 MB')
    """
    scale, unit = _unit(value)
    return f"{_short(value / scale)} {unit}" if scale > 1 else f"{value:.0f} B"


def format_bytes_spread(value: Spread | None) -> str:
    """Write bytes with their sample standard deviation, where they vary."""
    if value is None:
        return NONE
    if not value.std:
        return format_bytes(value.mean)
    scale, unit = _unit(value.mean)
    return f"{_short(value.mean / scale)} ± {_short(value.std / scale)} {unit}"


def format_seconds(value: float) -> str:
    """Write seconds, or milliseconds where they are few.

    >>> format_seconds(0.0421), format_seconds(2.5)
    ('42.1 ms', '2.50 s')
    """
    return f"{_short(value)} s" if value >= 0.9995 else f"{_short(1000 * value)} ms"


def format_seconds_spread(value: Spread | None) -> str:
    """Write seconds with their sample standard deviation over seeds."""
    if value is None:
        return NONE
    return f"{value.mean:.1f} s" if value.std is None else f"{value.mean:.1f} ± {value.std:.1f} s"


def _unit(value: float) -> tuple[float, str]:
    power = 0
    while power < len(UNITS) - 1 and value >= 999.5 * 1000.0**power:
        power += 1
    return 1000.0**power, UNITS[power]


def _short(value: float) -> str:
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"
