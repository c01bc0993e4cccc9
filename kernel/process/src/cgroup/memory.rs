//! The files of the controller `memory`.
//!
//! Sizes are in bytes here and in frames further down. There is no swap, which its files say. `memory.stat` has what is
//! counted: pages of files that can be read again by their queues, what processes have of their own by looking at them,
//! and the rest as the kernel's.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use machine::PAGE_SIZE;
use memory::{Event, MemoryGroup};

use super::items::{Item, of};
use super::numbers;
use crate::procfs::text::Text;
use crate::task::cgroup::{Cgroup, Controllers};
use crate::task::relations;

const fn file(name: &'static str) -> Item {
    of(Controllers::MEMORY, name)
}

pub(super) static ITEMS: &[Item] = &[
    file("memory.current").shows(|group, to| bytes(group_of(group)?.usage(), to)),
    file("memory.peak").shows(|group, to| bytes(group_of(group)?.peak().unwrap_or(0), to)),
    file("memory.max")
        .shows(|group, to| bytes_or_max(group_of(group)?.limit(), to))
        .sets(|group, _, text| {
            group_of(group)?.set_limit(frames_or_max(text)?);
            Ok(())
        }),
    file("memory.high")
        .shows(|group, to| bytes_or_max(group_of(group)?.high(), to))
        .sets(|group, _, text| {
            group_of(group)?.set_high(frames_or_max(text)?);
            Ok(())
        }),
    file("memory.low")
        .shows(|group, to| bytes_or_max(group_of(group)?.protection().0, to))
        .sets(|group, _, text| {
            let frames = frames_or_max(text)?;
            group_of(group)?.set_protection(Some(frames), None);
            Ok(())
        }),
    file("memory.min")
        .shows(|group, to| bytes_or_max(group_of(group)?.protection().1, to))
        .sets(|group, _, text| {
            let frames = frames_or_max(text)?;
            group_of(group)?.set_protection(None, Some(frames));
            Ok(())
        }),
    file("memory.events")
        .shows(|group, to| events(group, false, to))
        .tells(|group| notifier(group, false)),
    file("memory.events.local")
        .shows(|group, to| events(group, true, to))
        .tells(|group| notifier(group, true)),
    file("memory.oom.group")
        .shows(|group, to| Ok(writeln!(to, "{}", u8::from(group_of(group)?.dies_whole()))?))
        .sets(|group, _, text| {
            let is_whole = numbers::switch(text).map_err(|_| Errno::EINVAL)?;
            group_of(group)?.set_dies_whole(is_whole);
            Ok(())
        }),
    file("memory.stat").shows(stat),
    file("memory.reclaim").sets(|group, _, text| reclaim(group, text)),
    file("memory.swap.current").shows(|_, to| to.push(b"0\n")),
    file("memory.swap.peak").shows(|_, to| to.push(b"0\n")),
    file("memory.swap.max")
        .shows(|group, to| bytes_or_max(group_of(group)?.swap_limits()[0], to))
        .sets(|group, _, text| {
            group_of(group)?.set_swap_limit(0, frames_or_max(text)?);
            Ok(())
        }),
    file("memory.swap.high")
        .shows(|group, to| bytes_or_max(group_of(group)?.swap_limits()[1], to))
        .sets(|group, _, text| {
            group_of(group)?.set_swap_limit(1, frames_or_max(text)?);
            Ok(())
        }),
    file("memory.swap.events").shows(|_, to| to.push(b"high 0\nmax 0\nfail 0\n")),
];

/// The group's own; it has the file, unless the controller is just being taken from it.
fn group_of(group: &Cgroup) -> Result<MemoryGroup> {
    group.memory().ok_or(Errno::ENODEV)
}

fn notifier(group: &Cgroup, is_local: bool) -> &'static memory::Notifier {
    let group = group.memory().unwrap_or(MemoryGroup::ROOT);
    group.event_notifier(is_local)
}

fn bytes(frames: usize, to: &mut Text) -> Result<()> {
    Ok(writeln!(to, "{}", frames.saturating_mul(PAGE_SIZE))?)
}

fn bytes_or_max(frames: usize, to: &mut Text) -> Result<()> {
    if frames == usize::MAX {
        to.push(b"max\n")
    } else {
        bytes(frames, to)
    }
}

/// A size in frames, rounded down; `usize::MAX` for `max`.
fn frames_or_max(text: &str) -> Result<usize> {
    if text == "max" {
        return Ok(usize::MAX);
    }
    let bytes = numbers::size(text)?;
    // As much as there can be is no limit.
    Ok(usize::try_from(bytes / PAGE_SIZE as u64).unwrap_or(usize::MAX))
}

fn events(group: &Arc<Cgroup>, is_local: bool, to: &mut Text) -> Result<()> {
    let group = group_of(group)?;
    for (event, name) in Event::ALL {
        writeln!(to, "{name} {}", group.events(event, is_local))?;
    }
    Ok(())
}

/// `memory.reclaim`: so many bytes, perhaps with words that are about swap.
fn reclaim(group: &Arc<Cgroup>, text: &str) -> Result<()> {
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let size = numbers::size(words.next().ok_or(Errno::EINVAL)?)?;
    if words.any(|word| !word.starts_with("swappiness=")) {
        return Err(Errno::EINVAL);
    }
    let frames = usize::try_from(size / PAGE_SIZE as u64).unwrap_or(usize::MAX);
    let group = group_of(group)?;
    let usage = group.usage();
    // All there is may be less than what was asked for.
    let is_less = usage < frames;
    if group.reclaim_to(usage.saturating_sub(frames)) && !is_less {
        Ok(())
    } else {
        Err(Errno::EAGAIN)
    }
}

/// `memory.stat`.
fn stat(group: &Arc<Cgroup>, to: &mut Text) -> Result<()> {
    let group = group_of(group)?;
    let (active, inactive) = group.cached();
    let file = active + inactive;
    let rest = group.usage().saturating_sub(file);
    // A page that several have is counted for each; there are no more than are charged.
    let mut anonymous = 0;
    for process in relations::processes() {
        if process.memory_group().is_within(group)
            && let Some(memory) = process.memory()
        {
            let pages = memory.statistics();
            let own = pages.resident.saturating_sub(pages.resident_file);
            anonymous += usize::try_from(own).unwrap_or(0);
        }
    }
    let anonymous = anonymous.min(rest);
    let all = [
        ("anon", anonymous),
        ("file", file),
        ("kernel", rest - anonymous),
        ("inactive_anon", 0),
        ("active_anon", anonymous),
        ("inactive_file", inactive),
        ("active_file", active),
        ("unevictable", 0),
    ];
    for (name, frames) in all {
        writeln!(to, "{name} {}", frames * PAGE_SIZE)?;
    }
    Ok(())
}
