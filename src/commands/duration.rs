//! Durations on the command line.

use std::time::Duration;

/// Longest that is taken, in seconds: ten years. Nothing here has a use for more, and no clock overflows.
const LONGEST: u64 = 10 * 365 * 86_400;

/// A whole number with its unit, at least one second.
pub fn positive(text: &str) -> Result<Duration, String> {
    match any(text)? {
        Duration::ZERO => Err("it has to be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}

/// A whole number with its unit; `0s`, too.
pub fn any(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let duration = digits.parse::<u64>().ok().zip(seconds).and_then(|(number, unit)| number.checked_mul(unit));
    match duration.filter(|duration| *duration <= LONGEST) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err("a duration is a whole number and `s`, `m`, `h` or `d`, such as `90s`, `5m`, `7d`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(any("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(any("5"), Ok(Duration::from_secs(5)));
        assert_eq!(any("2h"), Ok(Duration::from_hours(2)));
        assert_eq!(any("7d"), Ok(Duration::from_hours(168)));
        assert_eq!(any("0s"), Ok(Duration::ZERO));
        for wrong in ["", "m", "1.5h", "-1s", "5 m", "5w", "99999999999999999999d", "4000d", "ü"] {
            assert!(any(wrong).is_err(), "{wrong}");
        }
        assert!(positive("0m").is_err());
    }
}
