//! `nacre ps`: the pods of this host that live, whoever started them.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use host_machine::printing::{printable, tell};
use pod::state::{Found, StateRoot};

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
    let pods: Vec<_> = listing.pods.iter().filter(wanted).collect();
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

fn names(pods: &[&Found]) -> String {
    let name = |pod: &&Found| format!("{}/{}\n", pod.record.namespace, pod.record.name);
    pods.iter().map(name).collect()
}

fn table(pods: &[&Found]) -> String {
    let mut table = Table::new(["NAMESPACE", "NAME", "CREATED", "PID", "COMMAND"]);
    for Found { record, .. } in pods {
        table.row([
            record.namespace.clone(),
            record.name.clone(),
            ago(record.created),
            record.pid.to_string(),
            shown(&record.command),
        ]);
    }
    table.to_string()
}

fn json(pods: &[&Found]) -> String {
    let records: Vec<_> = pods.iter().map(|pod| &pod.record).collect();
    // Numbers, strings and lists of them.
    let text = serde_json::to_string_pretty(&records).unwrap_or_default();
    format!("{text}\n")
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
