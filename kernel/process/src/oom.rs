//! Who dies when memory is short and nothing more can be taken back: of the memory group that is at its limit and those
//! below it the process that holds the most memory, by what its oom_score_adj makes of that. Whoever needed the memory
//! waits for what it leaves.
//!
//! PID 1 dies only when it is the last one that could. While a chosen process is dying nobody looks for
//! another one, so that many threads that wait cost no more than one. A look at all processes finds the worst
//! [`CANDIDATES`], who die one after another before the next look: a fork bomb is many processes, each of them small.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;

use fs::Capabilities;
use machine::sync::SpinLock;
use memory::pressure::{self, Need, Policy as MemoryPolicy, Verdict};
use memory::{AddressSpace, Event, MemoryGroup};
use sched::{Attributes, Policy};

use crate::exit;
use crate::signal::Signal;
use crate::task::pid_namespace::PidNamespace;
use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::{relations, tree};

/// How long a chosen process may take to die before another one has to.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Frames below which no system call starts: they are for what those that run already allocate.
const LAST_FRAMES: usize = pressure::RESERVE_FRAMES / 2;

/// How many of the worst processes a look at all of them remembers.
const CANDIDATES: usize = 64;
/// How long they stand for the worst.
const LOOK_LASTS_NS: u64 = 200_000_000;

/// The worst processes of the last look, the very worst last.
static WORST: SpinLock<Worst> = SpinLock::new(Worst::new(MemoryGroup::ROOT));
/// How often nobody is found before the calling thread's process has to die itself.
const LOOKS_IN_VAIN: u32 = 200;

/// Frames below which none starts that may use the reserve.
const VERY_LAST_FRAMES: usize = LAST_FRAMES / 4;

/// What memory asks of processes.
pub const POLICY: MemoryPolicy = MemoryPolicy {
    kill: kill_for_memory,
    may_use_reserve,
};

/// Who may go beyond the limits of users (CAP_SYS_RESOURCE) also gets at memory that they do not get.
fn may_use_reserve() -> bool {
    crate::task::thread::current()
        .is_some_and(|thread| thread.credentials().capable(Capabilities::SYS_RESOURCE))
}

/// Waits until there is memory for the small things that any system call may need; `false` when `thread`
/// is to exit instead.
#[inline]
pub fn has_memory(thread: &Arc<Thread>) -> bool {
    machine::frame::at_hand() >= LAST_FRAMES || wait_for_memory(thread)
}

#[cold]
fn wait_for_memory(thread: &Arc<Thread>) -> bool {
    let least = if may_use_reserve() {
        VERY_LAST_FRAMES
    } else {
        LAST_FRAMES
    };
    while machine::frame::at_hand() < least {
        if must_exit(thread) || pressure::make_room().is_err() && must_exit(thread) {
            return false;
        }
    }
    true
}

fn must_exit(thread: &Thread) -> bool {
    thread.process().signals.lock().must_exit(thread)
}

/// What a thread does that can have no memory because a group has none.
fn kill_for_memory(group: MemoryGroup, need: Need) -> Verdict {
    let me = crate::task::thread::current();
    if me.as_ref().is_some_and(|thread| must_exit(thread)) {
        return Verdict::GiveUp;
    }
    let now_ns = sched::clock::monotonic_ns();
    let killing = group.killing();
    let is_impatient = now_ns > killing.patient_until_ns.load(Ordering::Relaxed);
    if !is_impatient && chosen(group).is_some_and(|process| process.memory().is_some()) {
        return Verdict::Wait;
    }
    let victim = match choose(group, is_impatient, now_ns) {
        Choice::Dying => return Verdict::Wait,
        Choice::Victim(victim) => victim,
        // Only PID 1 is left, and what has memory outside of processes: it may yet come back.
        Choice::Nobody
            if killing.without_victim.fetch_add(1, Ordering::Relaxed) < LOOKS_IN_VAIN =>
        {
            return Verdict::Wait;
        }
        // Who only sets the group's limit is not of the group.
        Choice::Nobody => match me {
            Some(thread)
                if need == Need::Page && thread.process().memory_group().is_within(group) =>
            {
                thread.process().clone()
            }
            _ => return Verdict::GiveUp,
        },
    };
    killing.without_victim.store(0, Ordering::Relaxed);
    let until_ns = now_ns.saturating_add(PATIENCE_NS);
    killing.patient_until_ns.store(until_ns, Ordering::Relaxed);
    let weak: Weak<Process> = Arc::downgrade(&victim);
    let old = killing.chosen.lock().replace(weak);
    drop(old);
    let whole = victim.memory_group().dying_whole(group);
    kill(&victim, group);
    if let Some(whole) = whole {
        kill_whole(whole, group);
    }
    Verdict::Wait
}

/// Who was chosen last in a group.
fn chosen(group: MemoryGroup) -> Option<Arc<Process>> {
    let chosen = group.killing().chosen.lock().as_ref()?.upgrade();
    chosen?.downcast().ok()
}

/// How bad a process is among those that share `total` frames.
fn badness(process: &Process, memory: &AddressSpace, total: usize) -> Option<i64> {
    let adjustment = process.oom_score_adj.load(Ordering::Relaxed);
    points(memory.resident(), adjustment, total)
}

/// The frames it holds, moved by its adjustment, a thousandth of what there is a point. `None` for one that
/// must not be chosen.
fn points(resident: u64, adjustment: i32, total: usize) -> Option<i64> {
    const NEVER: i32 = -1000;
    let resident = i64::try_from(resident).unwrap_or(i64::MAX);
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    let moved = i64::from(adjustment).saturating_mul(total) / 1000;
    (adjustment != NEVER).then_some(resident.saturating_add(moved))
}

/// /proc/PID/oom_score: from 0 to 2000, higher ones first.
pub(crate) fn score(process: &Process) -> i64 {
    let Some(badness) = process
        .memory()
        .and_then(|memory| badness(process, &memory, machine::frame::total()))
    else {
        return 0;
    };
    let total = i64::try_from(machine::frame::total())
        .unwrap_or(i64::MAX)
        .max(1);
    // Linux's scale.
    ((1000 + badness * 1000 / total) * 2 / 3).max(0)
}

enum Choice {
    /// One that is dying already.
    Dying,
    /// The worst one.
    Victim(Arc<Process>),
    /// There is none.
    Nobody,
}

/// What a look at all processes of a group found, in order.
struct Worst {
    group: MemoryGroup,
    processes: [Option<(i64, Weak<Process>)>; CANDIDATES],
    count: usize,
    until_ns: u64,
}

impl Worst {
    const fn new(group: MemoryGroup) -> Self {
        Self {
            group,
            processes: [const { None }; CANDIDATES],
            count: 0,
            until_ns: 0,
        }
    }

    /// Keeps a process if it is among the worst.
    fn offer(&mut self, badness: i64, process: &Arc<Process>) {
        let at = self.processes[..self.count]
            .partition_point(|it| it.as_ref().is_some_and(|(other, _)| *other <= badness));
        let new = Some((badness, Arc::downgrade(process)));
        if self.count < CANDIDATES {
            self.processes[at..=self.count].rotate_right(1);
            self.processes[at] = new;
            self.count += 1;
        } else if at > 0 {
            // The least bad one makes room.
            self.processes[..at].rotate_left(1);
            self.processes[at - 1] = new;
        }
    }

    /// Leaves those out that are not half as bad as the very worst: by the time that would be their turn another one may
    /// have grown beyond them.
    fn cut(&mut self) {
        let badness = |it: &Option<(i64, Weak<Process>)>| it.as_ref().map_or(0, |(it, _)| *it);
        let found = &mut self.processes[..self.count];
        let Some(most) = found.last().map(badness) else {
            return;
        };
        let from = found.partition_point(|it| badness(it) < most && badness(it) <= most / 2);
        for place in &mut found[..from] {
            *place = None;
        }
        found.rotate_left(from);
        self.count -= from;
    }

    fn take(&mut self) -> Option<Weak<Process>> {
        self.count = self.count.checked_sub(1)?;
        self.processes[self.count]
            .take()
            .map(|(_, process)| process)
    }
}

/// Looks for the process of a group that has to die. `is_impatient`: not one that is dying already.
fn choose(group: MemoryGroup, is_impatient: bool, now_ns: u64) -> Choice {
    let init = PidNamespace::INITIAL.init(&tree::lock()).cloned();
    let init_memory = init.and_then(|init| init.memory());
    if let Some(victim) = take_candidate(group, init_memory.as_ref(), now_ns) {
        return Choice::Victim(victim);
    }
    let total = machine::frame::total().min(group.limit());
    let mut worst = Worst::new(group);
    for process in relations::processes() {
        if !process.memory_group().is_within(group) {
            continue;
        }
        let Some(memory) = victim_memory(&process, init_memory.as_ref()) else {
            continue;
        };
        if process.is_exiting() {
            if is_impatient {
                continue;
            }
            return Choice::Dying;
        }
        if let Some(badness) = badness(&process, &memory, total) {
            worst.offer(badness, &process);
        }
    }
    worst.cut();
    worst.until_ns = now_ns.saturating_add(LOOK_LASTS_NS);
    let old = core::mem::replace(&mut *WORST.lock(), worst);
    drop(old);
    take_candidate(group, init_memory.as_ref(), now_ns).map_or(Choice::Nobody, Choice::Victim)
}

/// The worst process of the last look that can still die.
fn take_candidate(
    group: MemoryGroup,
    init: Option<&Arc<AddressSpace>>,
    now_ns: u64,
) -> Option<Arc<Process>> {
    loop {
        let next = {
            let mut worst = WORST.lock();
            if worst.group != group || now_ns > worst.until_ns {
                return None;
            }
            worst.take()?
        };
        if let Some(process) = next.upgrade()
            && process.memory_group().is_within(group)
            && victim_memory(&process, init).is_some()
            && !process.is_exiting()
        {
            return Some(process);
        }
    }
}

/// The memory of a process that may be chosen: PID 1's is not to be freed.
fn victim_memory(process: &Process, init: Option<&Arc<AddressSpace>>) -> Option<Arc<AddressSpace>> {
    let memory = process.memory()?;
    let is_init = init.is_some_and(|init| Arc::ptr_eq(init, &memory));
    (!is_init).then_some(memory)
}

fn kill(victim: &Process, group: MemoryGroup) {
    let name = victim
        .main_thread()
        .map(|thread| thread.name())
        .unwrap_or_default();
    let len = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(name.len());
    let at_limit = if group == MemoryGroup::ROOT {
        ""
    } else {
        "memory group "
    };
    machine::log!(
        "{at_limit}out of memory: killed process {} ({})",
        victim.pid().global(),
        name[..len].escape_ascii()
    );
    victim.memory_group().note(Event::OomKill);
    exit::kill_with_status(victim, i32::from(Signal::KILL.number()));
    hasten(victim);
}

/// Kills all other processes of a group and of those below it (`memory.oom.group`), but for those that must not be chosen.
fn kill_whole(whole: MemoryGroup, group: MemoryGroup) {
    whole.note(Event::OomGroupKill);
    let init = PidNamespace::INITIAL.init(&tree::lock()).cloned();
    let init_memory = init.and_then(|init| init.memory());
    for process in relations::processes() {
        let adjustment = process.oom_score_adj.load(Ordering::Relaxed);
        if process.memory_group().is_within(whole)
            && points(0, adjustment, 0).is_some()
            && victim_memory(&process, init_memory.as_ref()).is_some()
            && !process.is_exiting()
        {
            kill(&process, group);
        }
    }
}

/// Lets the threads of a process that is to die run before others: those that wait for its memory may be very many.
fn hasten(victim: &Process) {
    let first = Attributes {
        policy: Policy::Fifo,
        priority: 1,
        ..Attributes::default()
    };
    for thread in victim.threads() {
        if let Some(kernel) = thread.kernel() {
            // Valid: it is a constant.
            let _ = kernel.set_attributes(first);
            // It may wait for memory itself.
            kernel.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use core::sync::atomic::Ordering;

    use memory::pressure::{Need, Verdict};
    use memory::{AddressSpace, Event, MapRequest, MemoryGroup, OwnedGroup, Prot};

    use super::{CANDIDATES, Worst, kill_for_memory, points};
    use crate::task::process::Process;

    fn space_of(pages: usize) -> Arc<AddressSpace> {
        let space = AddressSpace::new(false).unwrap();
        let prot = Prot::READ | Prot::WRITE;
        let mut request = MapRequest::anonymous((pages * machine::PAGE_SIZE) as u64, prot);
        request.populate = true;
        space.map(request).unwrap();
        assert_eq!(space.resident(), pages as u64);
        space
    }

    /// A process of a group with so many pages.
    fn member(group: &Arc<OwnedGroup>, pages: usize) -> Arc<Process> {
        let process = crate::tests::process(None).process().clone();
        drop(process.replace_memory(Some(space_of(pages))));
        process.set_memory_group(Some(group.clone()));
        process
    }

    #[test]
    fn only_members_die_for_a_group() {
        let group = |above| OwnedGroup::new(above, 1000).unwrap();
        let short = group(None);
        let below = group(Some(short.clone()));
        let beside = group(None);
        let small = member(&short, 2);
        let large = member(&below, 20);
        let largest = member(&beside, 200);
        assert_eq!(kill_for_memory(short.group(), Need::Page), Verdict::Wait);
        assert!(large.is_exiting() && !small.is_exiting() && !largest.is_exiting());
        let killed = |group: &Arc<OwnedGroup>| group.group().events(Event::OomKill, false);
        assert_eq!([&short, &below, &beside].map(killed), [1, 1, 0]);
        // One that dies already is waited for.
        assert_eq!(kill_for_memory(short.group(), Need::Page), Verdict::Wait);
        assert!(!small.is_exiting());
        drop(large.replace_memory(None));
        assert_eq!(kill_for_memory(short.group(), Need::Page), Verdict::Wait);
        assert!(small.is_exiting() && !largest.is_exiting());
        drop(small.replace_memory(None));
        // Who is not of the group does not die for it.
        let looks =
            (0..1000).take_while(|_| kill_for_memory(short.group(), Need::Page) == Verdict::Wait);
        assert!(looks.count() < 1000 && !largest.is_exiting());
        // Nor for a system call, which can fail.
        let call = kill_for_memory(short.group(), Need::Call);
        assert_eq!(call, Verdict::GiveUp);
        // Those that another group's look found are not taken for this one's.
        let last = member(&short, 1);
        assert_eq!(kill_for_memory(beside.group(), Need::Page), Verdict::Wait);
        assert!(largest.is_exiting() && !last.is_exiting());
        assert_eq!([&short, &below, &beside].map(killed), [2, 1, 1]);
    }

    #[test]
    fn a_group_dies_as_a_whole() {
        let group = |above| OwnedGroup::new(above, 1000).unwrap();
        let above = group(None);
        let below = group(Some(above.clone()));
        let members = [member(&above, 2), member(&below, 20), member(&below, 1)];
        let spared = member(&below, 3);
        spared.oom_score_adj.store(-1000, Ordering::Relaxed);
        below.group().set_dies_whole(true);
        assert_eq!(kill_for_memory(above.group(), Need::Page), Verdict::Wait);
        assert_eq!(
            members.each_ref().map(|it| it.is_exiting()),
            [false, true, true]
        );
        assert!(!spared.is_exiting());
        let count = |event| above.group().events(event, false);
        assert_eq!((count(Event::OomKill), count(Event::OomGroupKill)), (2, 1));
    }

    #[test]
    fn children_are_in_the_group_of_their_parent() {
        let group = OwnedGroup::new(None, 1000).unwrap();
        let parent = member(&group, 1);
        let child = crate::tests::process(Some(&parent)).process().clone();
        assert_eq!(child.memory_group(), MemoryGroup::ROOT);
        child.inherit(&parent);
        assert_eq!(child.memory_group(), group.group());
        child.set_memory_group(None);
        assert_eq!(child.memory_group(), MemoryGroup::ROOT);
        assert_eq!(parent.memory_group(), group.group());
    }

    #[test]
    fn the_worst_die_one_after_another() {
        let thread = crate::tests::process(None);
        let offered = |badness: &[i64]| {
            let mut worst = Worst::new(MemoryGroup::ROOT);
            for badness in badness {
                worst.offer(*badness, thread.process());
            }
            worst.cut();
            let left = worst.processes[..worst.count].iter().flatten();
            left.map(|(badness, _)| *badness).collect::<Vec<_>>()
        };
        assert_eq!(offered(&[5, 9, 7, 9, 3, 4]), [5, 7, 9, 9]);
        assert_eq!(offered(&[1, 2, 1000]), [1000]);
        assert_eq!(offered(&[-5, -3, -9]), [-3]);
        assert_eq!(offered(&[]), [0; 0]);
        let many: Vec<i64> = (0..300).map(|n| 1000 + (n * 7) % 300).collect();
        let kept = i64::try_from(CANDIDATES).unwrap();
        let worst: Vec<i64> = (1300 - kept..1300).collect();
        assert_eq!(offered(&many), worst);
    }

    #[test]
    fn the_adjustment_orders_processes() {
        let of = |resident, score_adj| points(resident, score_adj, 64_000);
        assert!(of(500, 0) > of(400, 0));
        assert!(of(400, 10) > of(500, 0));
        assert!(of(500, -999) < of(1, 0));
        assert!(of(0, -999) > of(64_000, -1000), "nothing is less wanted");
    }
}
