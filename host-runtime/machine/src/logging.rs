//! What the host's programs say of their work, with the pod's name: one line an event, as text or as JSON.
//!
//! Everything below the programs uses the macros of `tracing`; this takes what they record and writes it to stderr. A
//! process has one pod, so its name is a setting and no span: threads would have to be told of spans. The line is written
//! at once, and a stderr that is gone, as a terminal may be, is no reason to panic, which is why this is no subscriber
//! from elsewhere.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::printing::printable;

/// The variable that sets the [`Format`] of a program without an option for it.
pub const FORMAT_VARIABLE: &str = "NACRE_LOG_FORMAT";

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: time, level, pod, message, fields.
    #[default]
    Text,
    /// For programs: an object a line.
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{word:?} is no format; text and json are")),
        }
    }
}

/// The pod of this process, once it has a name.
static POD: OnceLock<String> = OnceLock::new();

/// Names the pod that this process's events are about; the first name stands.
pub fn set_pod(name: &str) {
    let _ = POD.set(printable(name));
}

/// From now on events are written: those of work that goes as it should only with `debug`.
pub fn start(debug: bool, format: Format) {
    let level = if debug { Level::DEBUG } else { Level::WARN };
    let log = Log {
        level,
        write: move |event: &Event<'_>| {
            let pod = POD.get().map(String::as_str);
            let line = line(format, SystemTime::now(), pod, event);
            // Nobody can be told when that fails.
            let _ = io::stderr().write_all(line.as_bytes());
        },
    };
    // A second start, as of a test in the same process, changes nothing.
    let _ = tracing::subscriber::set_global_default(log);
}

/// As [`start`], with the format that the environment names; one that is none is told of and is text.
pub fn start_by_environment(debug: bool) {
    let named = std::env::var(FORMAT_VARIABLE).ok();
    let format = named.as_deref().map(str::parse::<Format>);
    start(
        debug,
        format.clone().and_then(Result::ok).unwrap_or_default(),
    );
    if let Some(Err(error)) = format {
        tracing::warn!("{FORMAT_VARIABLE}: {error}");
    }
}

/// Writes events of this level and above somewhere.
struct Log<W> {
    level: Level,
    write: W,
}

impl<W: Fn(&Event<'_>) + 'static> Subscriber for Log<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries' own events would drown ours.
        *metadata.level() <= self.level && is_ours(metadata.target())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        (self.write)(event);
    }
}

fn is_ours(target: &str) -> bool {
    target.starts_with("nacre") || target.starts_with("containerd_shim_nacre")
}

fn line(format: Format, now: SystemTime, pod: Option<&str>, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let time = timestamp(now);
    match format {
        Format::Json => {
            let mut object = Map::new();
            object.insert("time".to_owned(), time.into());
            object.insert(
                "level".to_owned(),
                metadata.level().as_str().to_lowercase().into(),
            );
            object.extend(pod.map(|pod| ("pod".to_owned(), pod.into())));
            object.insert("message".to_owned(), fields.message.into());
            object.extend(fields.others);
            format!("{}\n", Value::Object(object))
        }
        Format::Text => {
            let pod = pod.map_or_else(String::new, |pod| format!(" {pod}"));
            let mut line = format!(
                "{time} {}{pod}: {}",
                metadata.level(),
                printable(&fields.message)
            );
            for (name, value) in &fields.others {
                // Writing to a string does not fail.
                let _ = write!(line, " {name}={}", printable(&value.to_string()));
            }
            line.push('\n');
            line
        }
    }
}

/// What an event has.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => drop(self.others.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// A moment in UTC, by RFC 3339 to the microsecond.
#[must_use]
pub fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
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
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    /// The lines that the log would write.
    fn lines(format: Format) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let log = Log {
            level: Level::DEBUG,
            write: move |event: &Event<'_>| {
                let at = UNIX_EPOCH + Duration::from_micros(1_709_210_096_000_007);
                let line = line(format, at, Some("calm-otter"), event);
                kept.lock().expect("no panic").push(line);
            },
        };
        tracing::subscriber::with_default(log, || {
            tracing::warn!(call = "Hello", took_ms = 7_u64, "it says\nhello");
            tracing::debug!(target: "nacre_pod::agent", "plain");
            tracing::error!(target: "elsewhere", "not ours");
        });
        let lines = lines.lock().expect("no panic");
        lines.clone()
    }

    #[test]
    fn events_are_lines_with_the_pods_name() {
        let text = lines(Format::Text);
        assert_eq!(
            text,
            [
                "2024-02-29T12:34:56.000007Z WARN calm-otter: it says\\nhello call=\"Hello\" took_ms=7\n",
                "2024-02-29T12:34:56.000007Z DEBUG calm-otter: plain\n",
            ]
        );
        let json = lines(Format::Json);
        let first: Value = serde_json::from_str(&json[0]).expect("an object");
        assert_eq!(
            first,
            serde_json::json!({
                "time": "2024-02-29T12:34:56.000007Z", "level": "warn", "pod": "calm-otter",
                "message": "it says\nhello", "call": "Hello", "took_ms": 7
            })
        );
        assert!(
            json.iter().all(|line| line.lines().count() == 1),
            "{json:?}"
        );
        assert!("xml".parse::<Format>().is_err());
    }

    #[test]
    fn days_have_their_dates() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (31 + 27, (1970, 2, 28)),
            (31 + 28, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
            (20_819, (2027, 1, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }
}
