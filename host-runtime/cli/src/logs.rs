//! `nacre logs`: what the program of a pod has written, to the streams it was written to.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use host_machine::logging::timestamp;
use pod::client::ClientError;
use pod::state::StateRoot;
use pod::wire::{LogRecord, LogsRequest};

use super::RunError;
use super::args::LogsArgs;
use super::control::find;

/// Prints the log and gives the code to exit with.
pub(super) fn run(root: &StateRoot, args: &LogsArgs) -> Result<u8, RunError> {
    let pod = find(root, args.which.namespace.as_deref(), &args.which.pod)?;
    let request = LogsRequest {
        follow: args.follow,
        tail: args.tail,
        since_ns: args.since.map_or(0, |since| since.0),
        ..Default::default()
    };
    let printed = pod.logs(&request, |records| {
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
    let at = timestamp(at);
    for line in record.data.split_inclusive(|byte| *byte == b'\n') {
        write!(to, "{at} ")?;
        to.write_all(line)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

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
