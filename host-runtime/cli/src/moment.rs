//! A moment as users write it: `2026-11-27T20:00:00Z`, seconds since 1970, or how long ago.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) u64);

/// Why words are no moment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither a time as 2026-11-27T20:00:00Z, nor seconds since 1970, nor how long ago as 90s, 5m or 1h30m"
)]
pub(super) struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(words: &str) -> Result<Self, NoMoment> {
        if let Some(ns) = seconds(words) {
            return Ok(Self(ns));
        }
        if let Some(ago) = ago(words) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
            return Ok(Self(now.saturating_sub(ago)));
        }
        calendar(words).map(Self).ok_or(NoMoment)
    }
}

/// A number of seconds with a fraction, as nanoseconds.
fn seconds(words: &str) -> Option<u64> {
    let (whole, fraction) = words.split_once('.').unwrap_or((words, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction = format!("{fraction:0<9}").parse::<u64>().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(fraction)
}

/// Numbers with units, as nanoseconds.
fn ago(words: &str) -> Option<u64> {
    let mut rest = words;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let unit_at =
            rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let (unit, length) = match tail {
            _ if tail.starts_with("ms") => (1, 2),
            _ if tail.starts_with('s') => (1_000, 1),
            _ if tail.starts_with('m') => (60_000, 1),
            _ if tail.starts_with('h') => (3_600_000, 1),
            _ if tail.starts_with('d') => (86_400_000, 1),
            _ => return None,
        };
        // Nanoseconds of as many seconds, so a thousandth of them for each millisecond.
        let part = (seconds(number)? / 1000).checked_mul(unit)?;
        total = total.checked_add(part)?;
        rest = &tail[length..];
    }
    (!words.is_empty()).then_some(total)
}

/// A date, and perhaps a time, in UTC (RFC 3339).
fn calendar(words: &str) -> Option<u64> {
    let (date, time) = words.split_once(['T', ' ']).unwrap_or((words, "00:00:00"));
    let time = time.strip_suffix('Z').unwrap_or(time);
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let hour = time.next()?.parse::<u64>().ok()?;
    let minute = time.next()?.parse::<u64>().ok()?;
    let second = seconds(time.next().unwrap_or("0"))?;
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let lengths = [
        31,
        28 + u64::from(is_leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    let length = *lengths.get(month)?;
    let is_date =
        date.next().is_none() && (1..=length).contains(&day) && (1970..3000).contains(&year);
    if !is_date || hour > 23 || minute > 59 || second >= 60_000_000_000 {
        return None;
    }
    // Leap years before this one, since 1970.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let days = days + lengths[..month].iter().sum::<u64>() + day - 1;
    let seconds = days * 86_400 + hour * 3600 + minute * 60;
    seconds.checked_mul(1_000_000_000)?.checked_add(second)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use host_machine::logging::timestamp;

    use super::{Moment, ago, calendar, seconds};

    #[test]
    fn moments_are_read_as_they_are_written() {
        for ns in [
            0,
            951_782_399_000_001_000,
            1_709_210_096_000_007_000,
            4_107_542_400_000_000_000,
        ] {
            let written = timestamp(UNIX_EPOCH + Duration::from_nanos(ns));
            assert_eq!(written.parse(), Ok(Moment(ns)), "{written}");
        }
        assert_eq!(calendar("1970-01-02"), Some(86_400_000_000_000));
        assert_eq!(calendar("1970-01-01 01:30"), Some(5_400_000_000_000));
        assert_eq!(seconds("12.5"), Some(12_500_000_000));
        assert_eq!(ago("1h30m"), Some(5_400_000_000_000));
        assert_eq!(ago("1.5s20ms"), Some(1_520_000_000));
    }

    #[test]
    fn other_words_are_none() {
        for words in [
            "",
            "s",
            "yesterday",
            "5",
            "1970-13-01",
            "1970-02-29",
            "1969-01-01",
            "1970-01-01T24:00:00Z",
            "5x",
            "-5s",
            "1970-01-01-01",
            "99999999999999999999d",
            "1.",
            "5m3",
        ] {
            let is_number = words == "5";
            assert_eq!(words.parse::<Moment>().is_ok(), is_number, "{words}");
        }
    }
}
