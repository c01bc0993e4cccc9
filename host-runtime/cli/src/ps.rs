//! `nacre ps`: the pods of this host that live, whoever started them.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use host_machine::printing::{printable, tell};
use pod::client::{ClientError, PodClient};
use pod::state::{Found, StateRoot};
use pod::wire::Status;
use serde_json::{Value, json};

use super::RunError;
use super::args::{Format, PsArgs};
use super::table::Table;

/// Prints the list and gives the code to exit with: 1 when something could not be looked at.
pub(super) fn run(root: &StateRoot, args: &PsArgs) -> Result<u8, RunError> {
    let listing = root.list()?;
    let wanted = |pod: &&Found| {
        let namespace = args.namespace.as_ref();
        namespace.is_none_or(|namespace| *namespace == pod.record.namespace)
    };
    let pods = listing.pods.iter().filter(wanted);
    let pods: Vec<Row<'_>> = match args.quiet {
        true => pods.map(|pod| (pod, String::new())).collect(),
        false => pods.map(|pod| (pod, status(pod))).collect(),
    };
    let text = match (args.quiet, args.format) {
        (true, _) => names(&pods),
        (false, Format::Table) => table(&pods),
        (false, Format::Json) => json(&pods),
    };
    let printed = io::stdout().write_all(text.as_bytes());
    printed.map_err(|source| RunError::Print { source })?;
    for complaint in &listing.complaints {
        tell(format_args!("nacre: {complaint}"));
    }
    Ok(u8::from(!listing.complaints.is_empty()))
}

/// A pod, and how it is.
type Row<'a> = (&'a Found, String);

/// How a pod is, by its own word.
fn status(pod: &Found) -> String {
    let state = PodClient::connect(pod).and_then(|pod| pod.state());
    let state = match state {
        Ok(state) => state,
        // Its socket comes when its container is there.
        Err(ClientError::Connect { .. }) => return "starting".to_owned(),
        Err(_) => return "not answering".to_owned(),
    };
    match state.status.enum_value_or_default() {
        Status::STATUS_CREATED => "created".to_owned(),
        Status::STATUS_RUNNING => "running".to_owned(),
        Status::STATUS_PAUSED => "paused".to_owned(),
        Status::STATUS_STOPPED => format!("exited ({})", state.exit_status),
        Status::STATUS_UNSPECIFIED => "unknown".to_owned(),
    }
}

fn names(pods: &[Row<'_>]) -> String {
    let name = |(pod, _): &Row<'_>| format!("{}/{}\n", pod.record.namespace, pod.record.name);
    pods.iter().map(name).collect()
}

fn table(pods: &[Row<'_>]) -> String {
    let mut table = Table::new(["NAMESPACE", "NAME", "STATUS", "CREATED", "PID", "COMMAND"]);
    for (Found { record, .. }, status) in pods {
        table.row([
            record.namespace.clone(),
            record.name.clone(),
            status.clone(),
            ago(record.created),
            record.pid.to_string(),
            shown(&record.command),
        ]);
    }
    table.to_string()
}

fn json(pods: &[Row<'_>]) -> String {
    let object = |(pod, status): &Row<'_>| {
        let record = &pod.record;
        json!({
            "namespace": record.namespace,
            "name": record.name,
            "status": status,
            "pid": record.pid,
            "owner": record.owner,
            "created": record.created,
            "command": record.command,
            "root": record.root,
            "state_dir": pod.dir,
        })
    };
    let objects: Vec<_> = pods.iter().map(object).collect();
    format!("{:#}\n", Value::from(objects))
}

/// A command on one line, not too long.
fn shown(command: &[String]) -> String {
    const MOST: usize = 40;
    let line = printable(&command.join(" "));
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// How long ago that was, in the largest unit that it has two of.
fn ago(created: u64) -> String {
    let created = UNIX_EPOCH + Duration::from_secs(created);
    let age = SystemTime::now().duration_since(created);
    let seconds = age.unwrap_or_default().as_secs();
    let (number, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7_200 => (seconds / 60, "minutes"),
        7_200..172_800 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stay_on_their_line() {
        let words = |text: &str| vec!["sh".to_owned(), text.to_owned()];
        assert_eq!(shown(&words("a\nb")), "sh a\\nb");
        assert_eq!(shown(&words(&"ä".repeat(99))).chars().count(), 41);
    }

    #[test]
    fn ages_have_units() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs();
        assert!(ago(now + 60).starts_with("0 seconds"));
        assert_eq!(ago(now - 3_601), "60 minutes ago");
        assert_eq!(ago(now - 400_000), "4 days ago");
    }
}
