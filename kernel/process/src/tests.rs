//! Processes without programs: relations, waiting, signals, stops. Each test makes a family of
//! its own in the one tree there is.

use alloc::sync::Arc;

use abi::Errno;
use fs::Credentials;
use machine::sync::SpinLock;
use machine::user_mode::UserContext;

use crate::exit;
use crate::restart::Interrupted;
use crate::rlimit::Limits;
use crate::signal::deliver::{Flow, deliver};
use crate::signal::{Action, Actions, Disposition, Flags, SigInfo, Signal, SignalSet, send, state};
use crate::task::pid::Pid;
use crate::task::pid_namespace::PidNamespace;
use crate::task::process::Process;
use crate::task::relations::{self, Relations};
use crate::task::thread::{Resources, Start, Thread};
use crate::task::tree;
use crate::waiting::{self, Options, Which};

/// A process with one thread, a child of `parent`, in a session of its own when that is none.
pub(crate) fn process(parent: Option<&Arc<Process>>) -> Arc<Thread> {
    let pid = loop {
        // PID 1 is special: nobody here is it.
        let pid = new_pid();
        if pid.number() != 1 {
            break pid;
        }
    };
    let actions = Arc::new(SpinLock::new(Actions::default()));
    let process = Process::new(pid.clone(), None, actions, Limits::default()).unwrap();
    let thread = thread_of(&process, &pid);
    let mut tree = tree::lock();
    let relations = match parent {
        Some(parent) => Relations::like(&tree, parent, Some(parent.clone())),
        None => Relations {
            parent: None,
            group: pid.clone(),
            session: pid,
        },
    };
    relations::add_process(&mut tree, &process, relations, Some(Signal::CHLD));
    drop(tree);
    thread
}

fn new_pid() -> Arc<Pid> {
    Pid::new(&mut tree::lock(), &PidNamespace::INITIAL).unwrap()
}

fn is_orphaned(group: &Pid) -> bool {
    relations::is_orphaned(&tree::lock(), group)
}

fn thread_of(process: &Arc<Process>, pid: &Arc<Pid>) -> Arc<Thread> {
    let start = Start {
        resources: Resources::default(),
        credentials: Arc::new(Credentials::root()),
        blocked: SignalSet::EMPTY,
        alternate_stack: Default::default(),
        no_new_privs: false,
        name: [0; 16],
        namespaces: crate::task::ns_proxy::NsProxy {
            uts: crate::uts::initial(),
            ipc: crate::ipc::initial(),
            net: Default::default(),
            cgroup: None,
            pid_for_children: Default::default(),
        },
        undo_list: None,
    };
    let thread = Thread::new(pid.clone(), process, start).unwrap();
    relations::add_thread(&mut tree::lock(), pid, &thread).unwrap();
    process.signals.lock().threads.push(&thread).unwrap();
    thread
}

fn child_of(parent: &Arc<Thread>) -> Arc<Thread> {
    process(Some(parent.process()))
}

fn die(thread: &Arc<Thread>, code: i32) {
    exit::exit_thread(thread, code);
    exit::finish(thread, None);
}

fn set_handler(thread: &Thread, signal: Signal, disposition: Disposition, flags: Flags) {
    let action = Action {
        disposition,
        flags,
        ..Action::default()
    };
    state::set_action(thread.process(), signal, Some(action));
}

fn send_to(thread: &Arc<Thread>, signal: Signal) {
    send::to_process(thread.process(), &SigInfo::user(signal, 0, 0)).unwrap();
}

fn flow(thread: &Arc<Thread>) -> Flow {
    deliver(thread, &mut UserContext::new().unwrap(), None)
}

const ANY_DEATH: Options = Options::NOHANG.union(Options::EXITED);

#[test]
fn a_dead_child_is_waited_for_once() {
    let parent = process(None);
    let child = child_of(&parent);
    let pid = child.process().pid().clone();
    assert_eq!(waiting::wait(&parent, &Which::Any, ANY_DEATH), Ok(None));
    die(&child, 3);
    let look = waiting::wait(
        &parent,
        &Which::Pid(pid.clone()),
        ANY_DEATH | Options::NOWAIT,
    );
    assert_eq!(look.unwrap().unwrap().si_status(), 3);
    let report = waiting::wait(&parent, &Which::Any, ANY_DEATH)
        .unwrap()
        .unwrap();
    assert_eq!((report.pid, report.status), (pid.number(), 0x300));
    assert_eq!(
        waiting::wait(&parent, &Which::Any, ANY_DEATH),
        Err(Errno::ECHILD)
    );
    assert!(pid.process_of(&tree::lock()).is_none());
}

#[test]
fn waiting_chooses_by_id_and_group() {
    let parent = process(None);
    let (one, two) = (child_of(&parent), child_of(&parent));
    let group = two.process().pid().clone();
    relations::set_group(&mut tree::lock(), two.process(), two.process(), None).unwrap();
    die(&one, 1);
    die(&two, 2);
    let report = waiting::wait(&parent, &Which::Group(group.clone()), ANY_DEATH)
        .unwrap()
        .unwrap();
    assert_eq!(report.pid, group.number());
    let other = Which::Group(group);
    assert_eq!(
        waiting::wait(&parent, &other, ANY_DEATH),
        Err(Errno::ECHILD)
    );
    assert!(
        waiting::wait(&parent, &Which::Pid(one.read_pid()), ANY_DEATH)
            .unwrap()
            .is_some()
    );
}

#[test]
fn who_ignores_sigchld_gets_no_zombies() {
    let parent = process(None);
    set_handler(&parent, Signal::CHLD, Disposition::Ignore, Flags::empty());
    let child = child_of(&parent);
    let pid = child.read_pid();
    die(&child, 0);
    assert!(pid.process_of(&tree::lock()).is_none());
    assert_eq!(
        waiting::wait(&parent, &Which::Any, ANY_DEATH),
        Err(Errno::ECHILD)
    );
}

#[test]
fn orphans_go_to_the_nearest_subreaper() {
    let reaper = process(None);
    reaper.process().set_subreaper(true);
    let middle = child_of(&reaper);
    let orphan = child_of(&middle);
    die(&middle, 0);
    let parent = orphan.process().read_parent().unwrap();
    assert!(Arc::ptr_eq(&parent, reaper.process()));
    assert_eq!(orphan.process().parent_number(), reaper.tid());
    die(&orphan, 9);
    let which = Which::Pid(orphan.read_pid());
    let report = waiting::wait(&reaper, &which, ANY_DEATH).unwrap().unwrap();
    assert_eq!(report.status, 0x900);
}

#[test]
fn a_process_dies_with_its_last_thread_and_its_first_status_counts() {
    let parent = process(None);
    let first = child_of(&parent);
    let pid = first.read_pid();
    let second = thread_of(first.process(), &new_pid());
    die(&first, 1);
    assert_eq!(waiting::wait(&parent, &Which::Any, ANY_DEATH), Ok(None));
    exit::exit_group(second.process(), 7);
    assert_eq!(flow(&second), Flow::Exit);
    exit::finish(&second, None);
    let report = waiting::wait(&parent, &Which::Pid(pid), ANY_DEATH)
        .unwrap()
        .unwrap();
    assert_eq!(report.status, 0x700);
}

#[test]
fn groups_are_left_and_joined_within_a_session_only() {
    let shell = process(None);
    let (job, other) = (child_of(&shell), child_of(&shell));
    let elsewhere = process(None);
    let caller = shell.process();
    let (job, other) = (job.process(), other.process());
    let mut tree = tree::lock();
    let mut set = |process: &Arc<Process>, group: Option<&Arc<Process>>| {
        let group = group.map(|group| group.pid());
        relations::set_group(&mut tree, caller, process, group)
    };
    assert_eq!(set(job, None), Ok(()));
    assert_eq!(set(other, Some(job)), Ok(()));
    // A session's leader stays where it is, and only children can be put anywhere.
    assert_eq!(set(caller, Some(job)), Err(Errno::EPERM));
    assert_eq!(set(other, Some(elsewhere.process())), Err(Errno::EPERM));
    assert_eq!(set(elsewhere.process(), None), Err(Errno::ESRCH));
    job.node.get_mut(&mut tree).has_execed = true;
    let late = relations::set_group(&mut tree, caller, job, Some(other.pid()));
    assert_eq!(late, Err(Errno::EACCES));
    assert!(Arc::ptr_eq(other.known(&tree).unwrap().group(), job.pid()));
    // A group's leader cannot begin a session, a member can.
    let leader = relations::set_session(&mut tree, job);
    assert_eq!(leader.err(), Some(Errno::EPERM));
    assert!(relations::set_session(&mut tree, other).is_ok());
    assert!(other.leads_session(&tree));
    let led = relations::set_group(&mut tree, caller, other, None);
    assert_eq!(led, Err(Errno::EPERM));
}

#[test]
fn a_group_is_orphaned_without_a_parent_in_its_session() {
    let init = process(None);
    init.process().set_subreaper(true);
    let shell = child_of(&init);
    assert!(relations::set_session(&mut tree::lock(), shell.process()).is_ok());
    let job = child_of(&shell);
    let group = job.read_pid();
    let set = |process: &Arc<Process>| {
        relations::set_group(&mut tree::lock(), shell.process(), process, None).unwrap();
    };
    set(job.process());
    assert!(!is_orphaned(&group));
    assert!(is_orphaned(&shell.read_pid()));
    // The parent joins it: nobody outside is left.
    let other = child_of(&shell);
    let (job_child, other_pid) = (child_of(&job), other.read_pid());
    assert!(!is_orphaned(&group));
    die(&job, 0);
    assert!(is_orphaned(&group), "its child was adopted by init");
    die(&job_child, 0);
    set(other.process());
    assert!(!is_orphaned(&other_pid));
    die(&shell, 0);
    assert!(is_orphaned(&other_pid));
}

#[test]
fn signals_without_effect_are_dropped_when_sent() {
    let thread = process(None);
    send_to(&thread, Signal::CHLD);
    set_handler(&thread, Signal::USR1, Disposition::Ignore, Flags::empty());
    send_to(&thread, Signal::USR1);
    assert_eq!(state::pending(&thread).1, SignalSet::EMPTY);
    state::set_mask(&thread, SignalSet::of(Signal::USR1));
    send_to(&thread, Signal::USR1);
    assert!(state::pending(&thread).1.contains(Signal::USR1));
    // Once more ignored, it is not pending any more.
    set_handler(&thread, Signal::USR1, Disposition::Ignore, Flags::empty());
    assert!(state::pending(&thread).1.is_empty());
}

#[test]
fn the_dead_keep_nothing_of_what_they_were_sent() {
    let parent = process(None);
    let thread = child_of(&parent);
    state::set_mask(&thread, SignalSet::of(Signal::USR1));
    let info = SigInfo::user(Signal::USR1, 1, 0);
    send::to_process(thread.process(), &info).unwrap();
    send::to_thread(&thread, &info).unwrap();
    die(&thread, 0);
    send::to_process(thread.process(), &info).unwrap();
    assert!(thread.process().signals.lock().shared.is_empty());
    assert!(thread.private.lock().is_empty());
}

#[test]
fn a_fatal_signal_ends_every_thread_with_its_status() {
    let parent = process(None);
    let thread = child_of(&parent);
    let second = thread_of(thread.process(), &new_pid());
    send_to(&thread, Signal::TERM);
    assert!(thread.needs_attention());
    assert_eq!(flow(&thread), Flow::Exit);
    assert_eq!(flow(&second), Flow::Exit);
    exit::finish(&thread, None);
    exit::finish(&second, None);
    let report = waiting::wait(&parent, &Which::Any, ANY_DEATH)
        .unwrap()
        .unwrap();
    assert_eq!(report.status, 15);
}

#[test]
fn a_signal_goes_to_a_thread_that_does_not_block_it() {
    let first = process(None);
    let second = thread_of(first.process(), &new_pid());
    state::set_mask(&first, SignalSet::of(Signal::TERM));
    send_to(&first, Signal::TERM);
    assert!(!first.needs_attention() && second.needs_attention());
}

#[test]
fn init_cannot_be_killed_by_what_it_does_not_catch() {
    let init = process(None);
    init.process()
        .is_init
        .store(true, core::sync::atomic::Ordering::Relaxed);
    send_to(&init, Signal::KILL);
    send_to(&init, Signal::TERM);
    assert_eq!(flow(&init), Flow::Run);
    assert!(state::pending(&init).1.is_empty());
}

#[test]
fn stop_and_continue_cancel_each_other_before_delivery() {
    let thread = process(None);
    state::set_mask(&thread, SignalSet::of(Signal::TSTP).with(Signal::CONT));
    send_to(&thread, Signal::TSTP);
    assert!(state::pending(&thread).1.contains(Signal::TSTP));
    set_handler(
        &thread,
        Signal::CONT,
        Disposition::Handler(1),
        Flags::empty(),
    );
    send_to(&thread, Signal::CONT);
    assert_eq!(state::pending(&thread).1, SignalSet::of(Signal::CONT));
    send_to(&thread, Signal::TTIN);
    assert_eq!(state::pending(&thread).1, SignalSet::of(Signal::TTIN));
}

#[test]
fn a_stop_and_its_end_are_reported_to_the_parent() {
    let parent = process(None);
    let child = child_of(&parent);
    send_to(&child, Signal::STOP);
    let stopping = child.clone();
    let thread = std::thread::spawn(move || flow(&stopping));
    let options = Options::STOPPED | Options::CONTINUED | Options::EXITED;
    let report = waiting::wait(&parent, &Which::Any, options)
        .unwrap()
        .unwrap();
    assert_eq!(report.status, 0x137f);
    send_to(&child, Signal::CONT);
    assert_eq!(thread.join().unwrap(), Flow::Run);
    let report = waiting::wait(&parent, &Which::Any, options)
        .unwrap()
        .unwrap();
    assert_eq!(report.status, 0xffff);
    assert!(
        waiting::wait(&parent, &Which::Any, options | Options::NOHANG)
            .unwrap()
            .is_none()
    );
}

#[test]
fn interrupted_calls_are_made_again_unless_a_handler_runs() {
    let thread = process(None);
    for (errno, number) in [
        (Errno::ERESTARTSYS, 7),
        (Errno::ERESTARTNOHAND, 7),
        (Errno::ERESTARTNOINTR, 7),
        (Errno::ERESTART_RESTARTBLOCK, 219),
    ] {
        let mut user = UserContext::new().unwrap();
        user.regs.rip = 0x1002;
        let call = Interrupted::from_errno(errno, 7);
        assert_eq!(deliver(&thread, &mut user, call), Flow::Run);
        assert_eq!((user.regs.rip, user.regs.rax), (0x1000, number));
    }
    assert_eq!(Interrupted::from_errno(Errno::EINTR, 7), None);
}

#[test]
fn a_temporary_mask_is_undone_when_nothing_is_delivered() {
    let thread = process(None);
    let usual = SignalSet::of(Signal::HUP);
    state::set_mask(&thread, usual);
    state::set_temporary_mask(&thread, SignalSet::ALL);
    assert!(!thread.blocked().contains(Signal::KILL) && thread.blocked().contains(Signal::USR1));
    assert_eq!(flow(&thread), Flow::Run);
    assert_eq!(thread.blocked(), usual);
}

#[test]
fn sigtimedwait_takes_what_is_blocked_and_times_out() {
    let thread = process(None);
    let wanted = SignalSet::of(Signal::USR2);
    state::set_mask(&thread, wanted);
    send_to(&thread, Signal::USR2);
    let info = crate::signal::wait::timed_wait(&thread, wanted, None).unwrap();
    assert_eq!(info.signal, Signal::USR2);
    let soon = sched::clock::monotonic_ns() + 1_000_000;
    let late = crate::signal::wait::timed_wait(&thread, wanted, Some(soon));
    assert_eq!(late, Err(Errno::EAGAIN));
}
