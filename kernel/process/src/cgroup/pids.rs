//! The files of the controller `pids`.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};

use super::items::{Item, of};
use super::numbers;
use crate::procfs::text::Text;
use crate::task::cgroup::members::Pids;
use crate::task::cgroup::{Cgroup, Controllers};

pub(super) static ITEMS: &[Item] = &[
    of(Controllers::PIDS, "pids.max")
        .shows(|group, to| pids_max(group.pids().max, to))
        .sets(|group, _, text| set_pids_max(group, text)),
    of(Controllers::PIDS, "pids.current")
        .shows(|group, to| Ok(writeln!(to, "{}", group.pids().current)?)),
    of(Controllers::PIDS, "pids.peak")
        .shows(|group, to| Ok(writeln!(to, "{}", group.pids().peak)?)),
    of(Controllers::PIDS, "pids.events")
        .shows(|group, to| Ok(writeln!(to, "max {}", group.pids().refused[0])?))
        .tells(|group| &group.pids_events[0]),
    of(Controllers::PIDS, "pids.events.local")
        .shows(|group, to| Ok(writeln!(to, "max {}", group.pids().refused[1])?))
        .tells(|group| &group.pids_events[1]),
];

/// What pids.max takes at most (Linux's PIDS_MAX: more processes than there can be).
const PIDS_LIMIT: i64 = 1 << 22;

fn pids_max(most: u64, to: &mut Text) -> Result<()> {
    if most == Pids::MAX {
        to.push(b"max\n")
    } else {
        Ok(writeln!(to, "{most}")?)
    }
}

fn set_pids_max(group: &Arc<Cgroup>, text: &str) -> Result<()> {
    if text == "max" {
        group.set_pids_max(Pids::MAX);
        return Ok(());
    }
    let most = numbers::signed(text)?;
    if most > PIDS_LIMIT {
        return Err(Errno::EINVAL);
    }
    group.set_pids_max(u64::try_from(most).map_err(|_| Errno::EINVAL)?);
    Ok(())
}
