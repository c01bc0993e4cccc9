//! QEMU's monitor: QMP, one JSON object a line.
//!
//! A thread reads: events are kept as far as they matter, answers go to whoever has asked, one at a time.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use host_machine::bounds;
use serde_json::{Value, json};

use crate::error::{QemuError, io};

/// The longest message of QEMU's.
const MOST: u64 = 1 << 20;

/// The monitor of a running QEMU.
#[derive(Debug)]
pub struct Monitor {
    stream: UnixStream,
    answers: Receiver<Value>,
    shutdown: Arc<Mutex<Option<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Waits for QEMU's greeting and answers it; `None` when QEMU ends before.
    ///
    /// # Errors
    /// When QEMU does not answer in time or refuses.
    pub fn connect(stream: UnixStream) -> Result<Option<Self>, QemuError> {
        let (sender, answers) = channel();
        let shutdown = Arc::default();
        let reading = stream.try_clone().map_err(io("copy a descriptor"))?;
        let for_reader = Arc::clone(&shutdown);
        let reader = std::thread::Builder::new()
            .name("qemu-monitor".to_owned())
            .spawn(move || read(reading, &sender, &for_reader))
            .map_err(io("start a thread"))?;
        let monitor = Self {
            stream,
            answers,
            shutdown,
            reader: Some(reader),
        };
        let what = "get ready";
        match monitor.answers.recv_timeout(bounds::QEMU_ANSWER.get()) {
            Ok(greeting) if greeting.get("QMP").is_some() => {}
            Ok(other) => {
                let why = format!("it greeted with {other}");
                return Err(QemuError::Monitor { what, why });
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                return Err(QemuError::Monitor {
                    what,
                    why: too_long(),
                });
            }
        }
        match monitor.execute("qmp_capabilities", what) {
            Ok(()) => Ok(Some(monitor)),
            // It greets before it has looked at all that it was given.
            Err(QemuError::Ended { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has QEMU execute a command without arguments.
    ///
    /// # Errors
    /// What QEMU said, or that it said nothing in time; [`QemuError::Ended`] when it ended instead.
    pub fn execute(&self, command: &str, what: &'static str) -> Result<(), QemuError> {
        self.query(command, what).map(drop)
    }

    /// Has QEMU execute a command without arguments, and gives what it returned.
    ///
    /// # Errors
    /// Those of [`Monitor::execute`].
    pub fn query(&self, command: &str, what: &'static str) -> Result<Value, QemuError> {
        let failed = |why| QemuError::Monitor { what, why };
        let line = json!({ "execute": command }).to_string() + "\n";
        // One that is gone shows below, after what it said before.
        let _ = (&self.stream).write_all(line.as_bytes());
        match self.answers.recv_timeout(bounds::QEMU_ANSWER.get()) {
            Ok(mut answer) if answer.get("return").is_some() => Ok(answer["return"].take()),
            Ok(answer) => Err(failed(match answer["error"]["desc"].as_str() {
                Some(why) => why.to_owned(),
                None => format!("it answered {answer}"),
            })),
            Err(RecvTimeoutError::Disconnected) => Err(QemuError::Ended { what }),
            Err(RecvTimeoutError::Timeout) => Err(failed(too_long())),
        }
    }

    /// Why QEMU ended, as it said itself; to be called when it has.
    pub fn shutdown_reason(&mut self) -> Option<String> {
        if let Some(reader) = self.reader.take() {
            // Its last words are read to the end. A reader that panicked has ended the process.
            let _ = reader.join();
        }
        self.shutdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

fn too_long() -> String {
    format!(
        "nothing came within {} s",
        bounds::QEMU_ANSWER.get().as_secs()
    )
}

fn read(stream: UnixStream, answers: &Sender<Value>, shutdown: &Mutex<Option<String>>) {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = lines.by_ref().take(MOST).read_until(b'\n', &mut line);
        if length.unwrap_or(0) == 0 {
            return;
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else {
            return;
        };
        match message["event"].as_str() {
            Some("SHUTDOWN") => {
                let reason = message["data"]["reason"].as_str().map(str::to_owned);
                *shutdown.lock().unwrap_or_else(PoisonError::into_inner) = reason;
            }
            Some(_) => {}
            None => {
                if answers.send(message).is_err() {
                    // Nobody asks any more.
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says the lines one after the other, each when something was asked.
    fn monitor(lines: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        std::thread::spawn(move || {
            let mut requests = BufReader::new(theirs.try_clone().expect("a descriptor"));
            for (line, last) in lines.iter().zip((1..lines.len()).rev().chain([0])) {
                writeln!(&theirs, "{line}").expect("room");
                if !line.contains("event") && last > 0 {
                    let _ = requests.read_line(&mut String::new());
                }
            }
        });
        ours
    }

    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

    #[test]
    fn answers_and_events_are_told_apart() {
        let stream = monitor(&[
            GREETING,
            r#"{"return": {}}"#,
            r#"{"event": "STOP"}"#,
            r#"{"return": {}}"#,
            r#"{"return": {"mode": "none", "icount": 6351651}}"#,
            r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#,
            r#"{"error": {"class": "GenericError", "desc": "not now"}}"#,
        ]);
        let monitor = Monitor::connect(stream).expect("it answers");
        let mut monitor = monitor.expect("it has not ended");
        monitor.execute("stop", "stop").expect("it does");
        let replay = monitor.query("query-replay", "count").expect("it does");
        assert_eq!(replay["icount"], 6_351_651);
        let error = monitor.execute("cont", "go on").expect_err("it does not");
        assert_eq!(error.to_string(), "QEMU did not go on: not now");
        assert_eq!(monitor.shutdown_reason().as_deref(), Some("guest-reset"));
    }

    #[test]
    fn one_that_ends_instead_of_an_answer_has_ended() {
        let stream = monitor(&[GREETING, r#"{"return": {}}"#]);
        let monitor = Monitor::connect(stream).expect("it answers");
        let monitor = monitor.expect("it has not ended");
        let error = monitor.execute("cont", "go on").expect_err("it ended");
        assert!(matches!(error, QemuError::Ended { .. }), "{error}");
    }

    #[test]
    fn one_that_ends_at_once_or_after_its_greeting_is_no_monitor() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        drop(theirs);
        assert!(Monitor::connect(ours).expect("no error").is_none());
        let connected = Monitor::connect(monitor(&[GREETING]));
        assert!(connected.expect("no error").is_none());
    }
}
