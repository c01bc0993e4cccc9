//! `process`: what one process runs as, with which rights and limits.

use std::collections::HashSet;
use std::ops::BitOr as _;

use oci_spec::runtime::{Box as ConsoleSize, Capability, LinuxCapabilities, Process as OciProcess};
use rustix::thread::CapabilitySet;

use super::{invalid, unsupported};
use crate::OciError;
use agent_protocol::{Capabilities, Rlimit, StartProcessRequest, User, WindowSize};

/// What the agent is asked to start.
pub(super) fn request(
    id: &str,
    exec_id: &str,
    process: &OciProcess,
) -> Result<StartProcessRequest, OciError> {
    let user = process.user();
    let rlimits = process.rlimits().iter().flatten().map(|limit| Rlimit {
        type_: limit.typ().to_string(),
        soft: limit.soft(),
        hard: limit.hard(),
        ..Default::default()
    });
    let capabilities = process.capabilities().as_ref().map(capabilities);
    Ok(StartProcessRequest {
        container_id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().display().to_string(),
        user: Some(User {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0),
            has_umask: user.umask().is_some(),
            ..Default::default()
        })
        .into(),
        terminal: process.terminal().unwrap_or(false),
        window_size: process.console_size().map(window_size).transpose()?.into(),
        rlimits: rlimits.collect(),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        capabilities: capabilities.transpose()?.into(),
        oom_score_adj: oom_score_adj(process.oom_score_adj().unwrap_or(0))?,
        ..Default::default()
    })
}

fn window_size(size: ConsoleSize) -> Result<WindowSize, OciError> {
    let side = |value: u64| {
        u32::try_from(value)
            .map_err(|_| invalid(&format!("process.consoleSize has a side of {value}")))
    };
    Ok(WindowSize {
        rows: side(size.height())?,
        columns: side(size.width())?,
        ..Default::default()
    })
}

fn oom_score_adj(score: i32) -> Result<i32, OciError> {
    if (-1000..=1000).contains(&score) {
        return Ok(score);
    }
    Err(invalid(&format!(
        "process.oomScoreAdj is {score}, which is not between -1000 and 1000"
    )))
}

/// The sets as masks; a set that is not named is empty.
fn capabilities(sets: &LinuxCapabilities) -> Result<Capabilities, OciError> {
    Ok(Capabilities {
        bounding: mask(sets.bounding())?,
        effective: mask(sets.effective())?,
        inheritable: mask(sets.inheritable())?,
        permitted: mask(sets.permitted())?,
        ambient: mask(sets.ambient())?,
        ..Default::default()
    })
}

fn mask(set: &Option<HashSet<Capability>>) -> Result<u64, OciError> {
    let bit = |capability: &Capability| {
        let name = capability.to_string();
        CapabilitySet::from_name(name.trim_start_matches("CAP_"))
            .map(|capability| capability.bits())
            .ok_or_else(|| unsupported(&format!("the capability {name}")))
    };
    set.iter()
        .flatten()
        .map(bit)
        .try_fold(0, |all, bit| Ok(u64::bitor(all, bit?)))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;
    use rustix::thread::CapabilitySet;
    use serde_json::{Value, json};

    use super::{mask, request};

    fn read(process: Value) -> Result<super::StartProcessRequest, String> {
        let process = serde_json::from_value(process).map_err(|error| error.to_string())?;
        request("c1", "e1", &process).map_err(|error| error.to_string())
    }

    #[test]
    fn every_capability_has_its_bit() {
        let all: Vec<Capability> = CapabilitySet::all()
            .iter_names()
            .map(|(name, _)| serde_json::from_value(json!(format!("CAP_{name}"))).expect(name))
            .collect();
        let set = Some(all.into_iter().collect());
        // From CAP_CHOWN, 0, to CAP_CHECKPOINT_RESTORE, 40.
        assert_eq!(mask(&set).unwrap(), (1 << 41) - 1);
    }

    #[test]
    fn a_umask_is_only_set_where_it_is_asked_for() {
        let umask = |user: Value| {
            let user = read(json!({"user": user, "cwd": "/"})).unwrap().user;
            user.as_ref().map(|user| (user.has_umask, user.umask))
        };
        assert_eq!(umask(json!({"uid": 0, "gid": 0})), Some((false, 0)));
        let asked = json!({"uid": 0, "gid": 0, "umask": 0o27});
        assert_eq!(umask(asked), Some((true, 0o27)));
        let none = json!({"uid": 0, "gid": 0, "umask": 0});
        assert_eq!(umask(none), Some((true, 0)));
    }

    #[test]
    fn each_set_of_capabilities_is_its_own() {
        let sets = json!({
            "bounding": ["CAP_CHOWN"], "effective": ["CAP_KILL"], "inheritable": ["CAP_SETGID"],
            "permitted": ["CAP_SETUID"], "ambient": ["CAP_SETPCAP"]
        });
        let process = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "capabilities": sets});
        let got = read(process).unwrap().capabilities;
        let got = [
            got.bounding,
            got.effective,
            got.inheritable,
            got.permitted,
            got.ambient,
        ];
        assert_eq!(got, [1, 1 << 5, 1 << 6, 1 << 7, 1 << 8]);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let process = |name: &str, value: Value| {
            let mut process = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/"});
            process[name] = value;
            process
        };
        for (name, value, word) in [
            ("oomScoreAdj", json!(1001), "oomScoreAdj"),
            (
                "consoleSize",
                json!({"height": 1_u64 << 32, "width": 1}),
                "consoleSize",
            ),
            ("capabilities", json!({"bounding": ["CAP_FROB"]}), "FROB"),
            (
                "rlimits",
                json!([{"type": "RLIMIT_FROB", "hard": 1, "soft": 1}]),
                "RLIMIT_FROB",
            ),
        ] {
            let said = read(process(name, value)).expect_err(word);
            assert!(said.contains(word), "{said}");
        }
        assert_eq!(
            read(process("oomScoreAdj", json!(-999)))
                .unwrap()
                .oom_score_adj,
            -999
        );
    }
}
