//! Times of rows, in seconds.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

/// A number, or a date with or without a time and an offset (ISO 8601).
pub(super) fn parse(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(seconds(time.naive_utc()));
    }
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let time = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN));
    time.or_else(day).map(seconds)
}

fn seconds(time: NaiveDateTime) -> f64 {
    let utc = time.and_utc();
    utc.timestamp() as f64 + f64::from(utc.timestamp_subsec_nanos()) / 1e9
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
        assert_eq!((parse("noon"), parse("nan")), (None, None));
        let mut milliseconds = [1.7e12, 1.7e12 + 500.0];
        to_seconds(&mut milliseconds);
        assert_eq!(milliseconds[1] - milliseconds[0], 0.5);
    }
}
