//! The files of a group: their names, who has them, and what reading and writing them does.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use memory::Notifier;

use super::{Opener, attach, kill, numbers, pids};
use crate::procfs::text::Text;
use crate::task::cgroup::{Cgroup, Controllers};
use crate::task::thread::{self, Thread};
use crate::task::{relations, tree};

type Show = fn(&Arc<Cgroup>, &mut Text) -> Result<()>;
type Set = fn(&Arc<Cgroup>, &Opener, &str) -> Result<()>;

/// A file that groups have.
pub(super) struct Item {
    pub(super) name: &'static str,
    /// Those have it that have all of these controllers.
    needs: Controllers,
    is_on_root: bool,
    /// Who is in a namespace may write the one of its root (`nsdelegate`).
    pub(super) is_delegatable: bool,
    pub(super) show: Option<Show>,
    pub(super) set: Option<Set>,
    /// What tells that it has changed.
    pub(super) notifier: Option<fn(&Cgroup) -> &Notifier>,
}

const fn core(name: &'static str) -> Item {
    Item {
        name,
        needs: Controllers::empty(),
        is_on_root: true,
        is_delegatable: false,
        show: None,
        set: None,
        notifier: None,
    }
}

pub(super) const fn of(needs: Controllers, name: &'static str) -> Item {
    Item {
        needs,
        is_on_root: false,
        ..core(name)
    }
}

impl Item {
    pub(super) const fn shows(self, show: Show) -> Self {
        Self {
            show: Some(show),
            ..self
        }
    }

    pub(super) const fn sets(self, set: Set) -> Self {
        Self {
            set: Some(set),
            ..self
        }
    }

    const fn not_on_root(self) -> Self {
        Self {
            is_on_root: false,
            ..self
        }
    }

    const fn delegatable(self) -> Self {
        Self {
            is_delegatable: true,
            ..self
        }
    }

    pub(super) const fn tells(self, notifier: fn(&Cgroup) -> &Notifier) -> Self {
        Self {
            notifier: Some(notifier),
            ..self
        }
    }

    /// Its permission bits, unless they were changed.
    pub(super) fn mode(&self) -> u32 {
        let read = if self.show.is_some() { 0o444 } else { 0 };
        read | if self.set.is_some() { 0o200 } else { 0 }
    }

    /// Whether a group has it.
    pub(super) fn is_of(&self, group: &Cgroup) -> bool {
        if group.parent().is_none() {
            return self.is_on_root;
        }
        // A controller comes to a group by what its parent hands on.
        group.controllers().contains(self.needs)
    }
}

/// All files, by who has them. A file's place is the number of its list and, behind that, its own.
static LISTS: [&[Item]; 3] = [CORE, pids::ITEMS, super::memory::ITEMS];

/// Places between two lists.
const PLACES: usize = 32;
/// Places of all lists.
pub(super) const PLACES_OF_ALL: usize = PLACES * LISTS.len();

/// The place of `cgroup.procs`.
pub(super) const PROCS: usize = 0;

/// The file at a place.
pub(super) fn at(place: usize) -> Option<&'static Item> {
    LISTS.get(place / PLACES)?.get(place % PLACES)
}

/// The place of the file of this name.
pub(super) fn find(name: &[u8]) -> Option<usize> {
    let is_it = |place: &usize| at(*place).is_some_and(|item| item.name.as_bytes() == name);
    (0..PLACES_OF_ALL).find(is_it)
}

static CORE: &[Item] = &[
    core("cgroup.procs")
        .shows(procs)
        .sets(|group, opener, text| attach::write(group, opener, text, true))
        .delegatable(),
    core("cgroup.threads")
        .shows(threads)
        .sets(|group, opener, text| attach::write(group, opener, text, false))
        .delegatable(),
    core("cgroup.type")
        .shows(|group, to| Ok(writeln!(to, "{}", group.kind())?))
        .sets(|group, _, text| match text {
            "threaded" => group.make_threaded(),
            _ => Err(Errno::EINVAL),
        })
        .not_on_root(),
    core("cgroup.controllers").shows(|group, to| names(group.controllers(), to)),
    core("cgroup.subtree_control")
        .shows(|group, to| names(group.settings().subtree_control, to))
        .sets(|group, _, text| subtree_control(group, text))
        .delegatable(),
    core("cgroup.events")
        .shows(|group, to| {
            let (is_populated, is_frozen) = group.state();
            let (populated, frozen) = (u8::from(is_populated), u8::from(is_frozen));
            Ok(writeln!(to, "populated {populated}\nfrozen {frozen}")?)
        })
        .tells(|group| &group.events)
        .not_on_root(),
    core("cgroup.max.descendants")
        .shows(|group, to| max(group.settings().max_descendants, to))
        .sets(|group, _, text| {
            let most = numbers::count_or_max(text)?.unwrap_or(usize::MAX);
            group.set_limits(None, Some(most))
        }),
    core("cgroup.max.depth")
        .shows(|group, to| max(group.settings().max_depth, to))
        .sets(|group, _, text| {
            let most = numbers::count_or_max(text)?.unwrap_or(usize::MAX);
            group.set_limits(Some(most), None)
        }),
    core("cgroup.stat").shows(|group, to| {
        let (living, dying) = (group.settings().descendants, group.dying());
        Ok(writeln!(
            to,
            "nr_descendants {living}\nnr_dying_descendants {dying}"
        )?)
    }),
    core("cgroup.freeze")
        .shows(|group, to| Ok(writeln!(to, "{}", u8::from(group.settings().freezes))?))
        .sets(|group, _, text| group.set_freeze(numbers::switch(text)?))
        .not_on_root(),
    core("cgroup.kill")
        .sets(|group, _, text| set_kill(group, text))
        .not_on_root(),
];

fn max(count: usize, to: &mut Text) -> Result<()> {
    if count == usize::MAX {
        to.push(b"max\n")
    } else {
        Ok(writeln!(to, "{count}")?)
    }
}

fn names(controllers: Controllers, to: &mut Text) -> Result<()> {
    let listed = Controllers::NAMES.iter();
    let mut between = "";
    for (_, name) in listed.filter(|(controller, _)| controllers.contains(*controller)) {
        write!(to, "{between}{name}")?;
        between = " ";
    }
    to.push(b"\n")
}

/// The processes of a domain, as the reader's PID namespace has them; 0 for those that it does not see.
fn procs(group: &Arc<Cgroup>, to: &mut Text) -> Result<()> {
    if group.is_threaded() {
        return Err(Errno::EOPNOTSUPP);
    }
    let reader = thread::current().ok_or(Errno::ESRCH)?;
    for process in relations::processes() {
        let Some(first) = process.main_thread() else {
            continue;
        };
        if is_in(&first, group, Cgroup::domain) {
            let number = reader.process().shown(process.pid());
            writeln!(to, "{number}")?;
        }
    }
    Ok(())
}

/// The threads of a group.
fn threads(group: &Arc<Cgroup>, to: &mut Text) -> Result<()> {
    let reader = thread::current().ok_or(Errno::ESRCH)?;
    for process in relations::processes() {
        for thread in process.threads() {
            if is_in(&thread, group, |own| own) {
                let number = reader.process().shown(&thread.read_pid());
                writeln!(to, "{number}")?;
            }
            sched::cond_resched();
        }
    }
    Ok(())
}

/// Whether what `by` makes of the thread's group is this one.
fn is_in(thread: &Thread, group: &Cgroup, by: fn(&Cgroup) -> &Cgroup) -> bool {
    let tree = tree::lock();
    let own = thread.cgroup_in(&tree).as_deref();
    own.map_or(group.parent().is_none(), |own| {
        core::ptr::eq(by(own), group)
    })
}

fn subtree_control(group: &Arc<Cgroup>, text: &str) -> Result<()> {
    let (mut enable, mut disable) = (Controllers::empty(), Controllers::empty());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (sign, name) = word.split_at_checked(1).ok_or(Errno::EINVAL)?;
        let mut known = Controllers::NAMES.iter();
        let (controller, _) = known
            .find(|(_, other)| *other == name)
            .ok_or(Errno::EINVAL)?;
        let is_enabled = match sign {
            "+" => true,
            "-" => false,
            _ => return Err(Errno::EINVAL),
        };
        enable.set(*controller, is_enabled);
        disable.set(*controller, !is_enabled);
    }
    group.change_subtree_control(enable, disable)
}

fn set_kill(group: &Arc<Cgroup>, text: &str) -> Result<()> {
    if numbers::int(text)? != 1 {
        return Err(Errno::ERANGE);
    }
    if group.is_removed() {
        return Err(Errno::ENOENT);
    }
    // That goes by processes.
    if group.is_threaded() {
        return Err(Errno::EOPNOTSUPP);
    }
    kill(group);
    Ok(())
}
