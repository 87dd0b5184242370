//! Times of rows, in seconds.

use chrono::DateTime;

/// A number, or a date with or without a time and an offset (ISO 8601), as seconds since 1970.
///
/// What is left out is filled in, so that one parser, of RFC 3339, is enough.
pub(super) fn parse(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let (day, time) = text.split_at_checked("YYYY-MM-DD".len())?;
    let (clock, offset) = time.split_at(time.find(['Z', 'z', '+', '-']).unwrap_or(time.len()));
    let left_out = match clock.len() {
        0 => "T00:00:00",
        6 => ":00",
        _ => "",
    };
    let offset = if offset.is_empty() { "Z" } else { offset };
    let time = DateTime::parse_from_rfc3339(&format!("{day}{clock}{left_out}{offset}")).ok()?;
    Some(time.timestamp() as f64 + f64::from(time.timestamp_subsec_nanos()) / 1e9)
}

/// Numbers as seconds: those of the size of today's Unix time in milli-, micro- or nanoseconds are taken for these.
pub(super) fn to_seconds(times: &mut [f64]) {
    let largest = times.iter().fold(0_f64, |m, t| m.max(t.abs()));
    let unit = match largest {
        t if t > 1e17 => 1e-9,
        t if t > 1e14 => 1e-6,
        t if t > 1e11 => 1e-3,
        _ => return,
    };
    times.iter_mut().for_each(|t| *t *= unit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_numbers_are_seconds() {
        assert_eq!(parse("12.5"), Some(12.5));
        assert_eq!(parse("1970-01-02"), Some(86_400.0));
        assert_eq!(parse("1970-01-01 00:01:00.5"), Some(60.5));
        assert_eq!(parse("1970-01-01T02:00:00+01:00"), Some(3600.0));
        for (text, seconds) in [
            ("2000-02-29T12:00:00Z", 951_825_600.0),
            ("2024-03-01 00:00:00.250-05:00", 1_709_269_200.25),
            ("2026-12-31 23:59", 1_798_761_540.0),
            ("1969-12-31T23:59:59", -1.0),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
        for text in [
            "noon",
            "nan",
            "2023-02-29",
            "2023-13-01",
            "2023-1-01",
            "2023-01-01T24:00",
            "2023-01-01T10:00+5",
            "2023-01-01é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let mut milliseconds = [1.7e12, 1.7e12 + 500.0];
        to_seconds(&mut milliseconds);
        assert_eq!(milliseconds[1] - milliseconds[0], 0.5);
    }
}
