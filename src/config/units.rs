//! Durations and sizes as people write them: `30`, `30s`, `500ms`, `2m`, `PT0.5S`, `100MB`.

use std::time::Duration;

/// The unit a plain number has in a field, as its documentation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `30` means thirty seconds.
    Seconds,
    /// `30` means thirty milliseconds.
    Milliseconds,
}

impl Unit {
    fn seconds(self) -> f64 {
        match self {
            Unit::Seconds => 1.0,
            Unit::Milliseconds => 1e-3,
        }
    }

    /// The plural used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Milliseconds => "milliseconds",
        }
    }
}

/// A hundred years: far more than anybody waits, far less than `Duration` holds.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// The duration `number` stands for in a field of that unit; none if negative or absurd.
pub fn duration(number: f64, unit: Unit) -> Option<Duration> {
    let seconds = number * unit.seconds();
    // Through whole nanoseconds, because 0.1 s must be 100 ms and not 100.000001 ms.
    (number.is_finite() && (0.0..=LONGEST).contains(&seconds))
        .then(|| Duration::from_nanos((seconds * 1e9).round() as u64))
}

/// Parses `30`, `1.5`, `500ms`, `30s`, `2m`, `1h`, `1d`, `10us` or ISO 8601 `PT30S`.
///
/// A number without a unit takes `unit`. Returns none for anything else.
pub fn parse_duration(text: &str, unit: Unit) -> Option<Duration> {
    let text = text.trim();
    if let Some(iso) = text.strip_prefix(['P', 'p']) {
        return iso_duration(iso);
    }
    let (number, suffix) = split_number(text)?;
    let seconds = match suffix {
        "" => return duration(number, unit),
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    duration(number * seconds, Unit::Seconds)
}

fn iso_duration(text: &str) -> Option<Duration> {
    let (days, time) = match text.split_once(['T', 't']) {
        Some((days, time)) => (days, time),
        None => (text, ""),
    };
    let mut seconds = 0.0;
    let mut found = false;
    for (mut rest, units) in
        [(days, &[('D', 86_400.0)][..]), (time, &[('H', 3_600.0), ('M', 60.0), ('S', 1.0)][..])]
    {
        let mut allowed = units.iter();
        while !rest.is_empty() {
            let (number, suffix) = split_number(rest)?;
            let letter = suffix.chars().next()?.to_ascii_uppercase();
            // Each unit once and in order, or it is not ISO 8601 but a guess.
            let (_, factor) = allowed.find(|(name, _)| *name == letter)?;
            seconds += number * factor;
            rest = &suffix[1..];
            found = true;
        }
    }
    if found { duration(seconds, Unit::Seconds) } else { None }
}

/// Parses a size into bytes: `100` (mebibytes), `100MB`, `512KB`, `1GB`; none for anything else.
///
/// Units are powers of 1024, as log rotation has always counted.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, suffix) = split_number(text.trim())?;
    let factor = match suffix.to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "" | "m" | "mb" | "mib" => MEBIBYTE,
        "g" | "gb" | "gib" => 1024.0 * MEBIBYTE,
        _ => return None,
    };
    size(number * factor)
}

/// The bytes of `megabytes`; none if negative or beyond a tebibyte.
pub fn megabytes(megabytes: f64) -> Option<u64> {
    size(megabytes * MEBIBYTE)
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;

fn size(bytes: f64) -> Option<u64> {
    (bytes.is_finite() && (0.0..=MEBIBYTE * MEBIBYTE).contains(&bytes))
        .then(|| bytes.round() as u64)
}

/// `"1.5 ms"` into 1.5 and `"ms"`; no signs and no exponents.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_unit_of_their_field_unless_they_name_one() {
        let cases = [
            ("30", Unit::Seconds, 30.0),
            ("PT30S", Unit::Seconds, 30.0),
            ("30s", Unit::Milliseconds, 30.0),
            ("500", Unit::Milliseconds, 0.5),
            ("PT0.5S", Unit::Milliseconds, 0.5),
            ("P1DT2H3M", Unit::Seconds, 93_780.0),
            ("500ms", Unit::Seconds, 0.5),
            ("2m", Unit::Milliseconds, 120.0),
            ("1h", Unit::Milliseconds, 3_600.0),
            ("1d", Unit::Milliseconds, 86_400.0),
            ("0.1", Unit::Seconds, 0.1),
        ];
        for (text, unit, seconds) in cases {
            assert_eq!(
                parse_duration(text, unit).map(|d| d.as_secs_f64()),
                Some(seconds),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_none() {
        for text in ["", "s", "-1", "1 fortnight", "1e3", "PT", "P", "PT1S1M", "1.2.3", "9e99", "∞"]
        {
            assert_eq!(parse_duration(text, Unit::Seconds), None, "{text}");
        }
        assert_eq!(parse_duration("99999999999999999999", Unit::Seconds), None);
    }

    #[test]
    fn sizes_count_in_mebibytes() {
        assert_eq!(parse_size("100"), Some(100 << 20));
        assert_eq!(parse_size("1 GB"), Some(1 << 30));
        assert_eq!(parse_size("512kb"), Some(512 << 10));
        assert_eq!(parse_size("10 potatoes"), None);
        assert_eq!(megabytes(-1.0), None);
    }
}
