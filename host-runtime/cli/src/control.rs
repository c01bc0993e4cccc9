//! `nacre kill`, `update`, `pause`, `resume` and `events`: one call to each pod that is named.

use std::io::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use host_machine::logging::timestamp;
use host_machine::printing::tell;
use pod::client::{ClientError, PodClient};
use pod::state::StateRoot;
use pod::wire::Event;
use pod::wire::event::Kind;

use super::RunError;
use super::args::{KillArgs, PodArgs, UpdateArgs};

pub(super) fn kill(root: &StateRoot, args: &KillArgs) -> Result<u8, RunError> {
    each(root, &args.which, |pod| pod.kill("", args.signal.0))
}

pub(super) fn update(root: &StateRoot, args: &UpdateArgs) -> Result<u8, RunError> {
    each(root, &args.which, |pod| pod.limit_memory(args.memory.0))
}

pub(super) fn pause(root: &StateRoot, args: &PodArgs) -> Result<u8, RunError> {
    each(root, args, PodClient::pause)
}

pub(super) fn resume(root: &StateRoot, args: &PodArgs) -> Result<u8, RunError> {
    each(root, args, PodClient::resume)
}

/// Several pods one after the other would be no stream; one is what is asked for.
pub(super) fn events(root: &StateRoot, args: &PodArgs) -> Result<u8, RunError> {
    each(root, args, |pod| {
        pod.events(|event| writeln!(io::stdout(), "{}", line(&event)))
    })
}

/// Does the same with each; prints the names of those where it was done, and the others' reasons.
fn each(
    root: &StateRoot,
    args: &PodArgs,
    act: impl Fn(&PodClient) -> Result<(), ClientError>,
) -> Result<u8, RunError> {
    let mut failures = 0;
    for name in &args.pods {
        let done = find(root, args.namespace.as_deref(), name);
        if let Err(error) = done.and_then(|pod| Ok(act(&pod)?)) {
            tell(format_args!("nacre: {error}"));
            failures = 1;
        }
    }
    Ok(failures)
}

/// Connects to the pod of a name.
pub(super) fn find(
    root: &StateRoot,
    namespace: Option<&str>,
    name: &str,
) -> Result<PodClient, RunError> {
    let found = root.find(namespace, name)?;
    Ok(PodClient::connect(&found)?)
}

fn line(event: &Event) -> String {
    let at = UNIX_EPOCH + Duration::from_nanos(event.at_ns);
    let what = match event.kind.enum_value_or_default() {
        Kind::KIND_STARTED => "started".to_owned(),
        Kind::KIND_EXITED => format!("exited {}", event.exit_status),
        Kind::KIND_PAUSED => "paused".to_owned(),
        Kind::KIND_RESUMED => "resumed".to_owned(),
        Kind::KIND_OOM => "out of memory".to_owned(),
        Kind::KIND_UNSPECIFIED => "something of another version".to_owned(),
    };
    let who = match &*event.exec_id {
        "" => "",
        exec => &format!(" {exec}"),
    };
    format!("{}{who} {what}", timestamp(at))
}
