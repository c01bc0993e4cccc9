//! `nacre logs`: what the program of a pod has written, to the streams it was written to.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pod::client::ClientError;
use pod::state::StateRoot;
use pod::wire::LogRecord;

use super::RunError;
use super::args::LogsArgs;
use super::control::find;

/// Prints the log and gives the code to exit with.
pub(super) fn run(root: &StateRoot, args: &LogsArgs) -> Result<u8, RunError> {
    let pod = find(root, args.which.namespace.as_deref(), &args.which.pod)?;
    let printed = pod.logs(args.follow, |records| {
        for record in &records.records {
            match record.stderr {
                true => print(io::stderr().lock(), record, args.timestamps)?,
                false => print(io::stdout().lock(), record, args.timestamps)?,
            }
        }
        Ok(())
    });
    match printed {
        // A reader that has seen enough, as `head` does.
        Err(ClientError::Write { source }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        printed => Ok(printed.map(|()| 0)?),
    }
}

fn print(mut to: impl Write, record: &LogRecord, has_time: bool) -> io::Result<()> {
    if !has_time {
        to.write_all(&record.data)?;
        return to.flush();
    }
    let at = UNIX_EPOCH + Duration::from_nanos(record.at_ns);
    let at = time(at);
    for line in record.data.split_inclusive(|byte| *byte == b'\n') {
        write!(to, "{at} ")?;
        to.write_all(line)?;
    }
    to.flush()
}

/// A moment in UTC, by RFC 3339 to the microsecond.
pub(super) fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since 1970, in the Gregorian calendar.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds: u64| time(UNIX_EPOCH + Duration::from_micros(seconds * 1_000_000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.000007Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.000007Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59.000007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000007Z");
    }

    #[test]
    fn each_line_has_its_time() {
        let record = LogRecord {
            data: b"a\nb".to_vec(),
            ..Default::default()
        };
        let mut text = Vec::new();
        print(&mut text, &record, true).expect("room");
        let epoch = "1970-01-01T00:00:00.000000Z";
        assert_eq!(text, format!("{epoch} a\n{epoch} b").into_bytes());
    }
}
