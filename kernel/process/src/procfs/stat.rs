//! /proc/PID/stat and /proc/PID/statm: numbers in a row (proc(5)).

use core::fmt::Write;

use abi::Result;
use machine::PAGE_SIZE;

use super::scope::Scope;
use super::text::{Text, trimmed};
use crate::rlimit::Resource;
use crate::signal::state;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::tree;
use crate::usage::{Usage, ticks};

pub(super) fn text(scope: &Scope, to: &mut Text) -> Result<()> {
    write!(to, "{} (", scope.shown(scope.id()?))?;
    to.push(trimmed(&scope.name()?))?;
    write!(to, ") {}", char::from(state_letter(scope)))?;
    for field in fields(scope)? {
        write!(to, " {field}")?;
    }
    to.push(b"\n")
}

/// `state`: of the dead it is Z.
pub(super) fn state_letter(scope: &Scope) -> u8 {
    let Ok(thread) = scope.thread() else {
        return b'Z';
    };
    u8::try_from(thread.state_letter()).unwrap_or(b'R')
}

/// The fields from the fourth, `ppid`, on.
fn fields(scope: &Scope) -> Result<[i128; 49]> {
    let process = scope.process()?;
    let thread = scope.thread().ok();
    let own = match (&thread, scope.is_thread()) {
        (Some(thread), true) => thread.usage(),
        (None, _) => zombie_usage(scope),
        _ => process.usage(),
    };
    let children = process.children_usage();
    let (device, foreground) = terminal(scope, &process.read_session());
    let kernel = thread.as_ref().and_then(|thread| thread.kernel());
    let attributes = thread
        .as_ref()
        .map(|thread| thread.attributes())
        .unwrap_or_default();
    let nice = i128::from(attributes.nice);
    let realtime = i128::from(attributes.priority);
    let (ignored, caught) = state::ignored_and_caught(&process);
    let pending = thread.as_ref().map(|thread| state::pending(thread).0.0);
    let blocked = thread.as_ref().map(|thread| thread.blocked().0);
    // Only the first 31 signals fit.
    let set = |bits: u64| i128::from(bits & 0x7fff_ffff);
    let start = thread
        .as_ref()
        .map_or(process.start_ns(), |thread| thread.start_ns());
    let exit_signal = {
        let tree = tree::lock();
        process.known(&tree).and_then(|node| node.exit_signal)
    };
    let parent = process.read_parent();
    let mut fields = [0; 49];
    // Indexed by the number in proc(5), less four.
    let mut put = |number: usize, value: i128| fields[number - 4] = value;
    put(
        4,
        parent.map_or(0, |parent| scope.shown(parent.pid()).into()),
    );
    put(5, scope.shown(&process.read_group()).into());
    put(6, scope.shown(&process.read_session()).into());
    put(7, device);
    put(8, foreground);
    put(10, own.minor_faults.into());
    put(11, children.minor_faults.into());
    put(12, own.major_faults.into());
    put(13, children.major_faults.into());
    put(14, ticks(own.user_ns).into());
    put(15, ticks(own.system_ns).into());
    put(16, ticks(children.user_ns).into());
    put(17, ticks(children.system_ns).into());
    put(
        18,
        if realtime > 0 {
            -1 - realtime
        } else {
            20 + nice
        },
    );
    put(19, nice);
    put(20, process.thread_count().max(1) as i128);
    put(22, ticks(start).into());
    put(25, process.limits().soft(Resource::ResidentSet).into());
    put(31, set(pending.unwrap_or(0)));
    put(32, set(blocked.unwrap_or(0)));
    put(33, set(ignored.0));
    put(34, set(caught.0));
    put(
        38,
        exit_signal.map_or(0, |signal| i128::from(signal.number())),
    );
    put(39, kernel.as_ref().map_or(0, |kernel| kernel.cpu() as i128));
    put(40, realtime);
    put(41, attributes.policy.to_raw().into());
    put_memory(scope, &process, &mut put);
    Ok(fields)
}

/// The fields about memory; where things are in it only for who may look into the process.
fn put_memory(scope: &Scope, process: &Process, put: &mut dyn FnMut(usize, i128)) {
    let Some(memory) = process.memory() else {
        return;
    };
    let (statistics, layout) = (memory.statistics(), memory.layout());
    put(23, i128::from(statistics.total) * PAGE_SIZE as i128);
    put(24, statistics.resident.into());
    if scope.check_access().is_err() {
        // As Linux says "somewhere".
        put(26, 1);
        put(27, 1);
        return;
    }
    let places = [
        (26, layout.start_code),
        (27, layout.end_code),
        (28, layout.start_stack),
        (45, layout.start_data),
        (46, layout.end_data),
        (47, layout.start_brk),
        (48, layout.arg_start),
        (49, layout.arg_end),
        (50, layout.env_start),
        (51, layout.env_end),
    ];
    for (number, place) in places {
        put(number, place.into());
    }
}

fn zombie_usage(scope: &Scope) -> Usage {
    let Ok(process) = scope.process() else {
        return Usage::default();
    };
    let tree = tree::lock();
    process
        .known(&tree)
        .and_then(|node| node.zombie)
        .map(|z| z.usage)
        .unwrap_or_default()
}

/// `tty_nr` and `tpgid` of a session.
fn terminal(scope: &Scope, session: &Pid) -> (i128, i128) {
    let terminal = {
        let tree = tree::lock();
        let session = session.users(&tree).session.as_ref();
        session.and_then(|session| session.terminal.clone())
    };
    match terminal {
        Some(terminal) => {
            let (major, minor) = terminal.device();
            let number = (minor & 0xff) | major << 8 | (minor & !0xff) << 12;
            let group = terminal.foreground_group();
            let group = group.as_ref().and_then(|group| group.downcast::<Pid>());
            let shown = group.map_or(0, |group| scope.shown(group));
            (number.into(), shown.into())
        }
        None => (0, -1),
    }
}

pub(super) fn statm(scope: &Scope, to: &mut Text) -> Result<()> {
    let memory = scope.process()?.memory();
    let s = memory.map(|memory| memory.statistics()).unwrap_or_default();
    let data = s.data + s.stack;
    Ok(writeln!(
        to,
        "{} {} {} {} 0 {data} 0",
        s.total, s.resident, s.resident_file, s.exec
    )?)
}
