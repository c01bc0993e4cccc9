//! The file by which a process decides about the calls of others: what ioctl(2) and poll(2) do on it
//! (seccomp_unotify(2)).

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use fs::{AnonymousInode, Events, File, FileOps, OpenFlags, PollTable};
use machine::UserAddr;
use memory::user;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::call::CallData;
use super::notify::{Addition, Answer, Notifier};
use crate::own::Own;
use crate::task::thread::{self, Thread};

const RECEIVE: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;
const IS_VALID: u32 = 0x4008_2102;
/// The same with the direction that its first version had.
const IS_VALID_WRONG_DIRECTION: u32 = 0x8008_2102;
const ADD_FILE: u32 = 0x2103;
const SET_FLAGS: u32 = 0x4008_2104;
/// What is left of a command without its direction and its size.
const DIRECTION_AND_SIZE: u32 = 0xffff_0000;

/// `struct seccomp_notif`.
#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
struct Notification {
    id: u64,
    pid: i32,
    flags: u32,
    call: CallData,
}

/// `struct seccomp_notif_resp`.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(C)]
struct AddFile {
    id: u64,
    flags: u32,
    source: i32,
    number: i32,
    number_flags: u32,
}

/// The sizes that `SECCOMP_GET_NOTIF_SIZES` tells: of a notification, an answer, a call.
pub const SIZES: [u16; 3] = [80, 24, 64];

/// The file; its last close ends the listening.
#[derive(Debug)]
struct Listener(Arc<Notifier>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A file to listen to `notifier` by.
///
/// # Errors
/// `ENOMEM`.
pub fn open(notifier: &Arc<Notifier>, own: &Own) -> Result<Arc<File>> {
    let ops = try_arc(Listener(notifier.clone()))?;
    let inode = AnonymousInode::file_like("seccomp notify")?;
    File::anonymous(inode, ops, OpenFlags::RDWR, own.credentials())
}

impl FileOps for Listener {
    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(self.0.listener_queue());
        }
        let ready = self.0.readiness();
        let mut events = Events::empty();
        events.set(Events::READABLE, ready.has_new);
        events.set(Events::WRITABLE, ready.has_received);
        events.set(Events::HUP, ready.is_abandoned);
        events
    }

    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        let caller = thread::current().ok_or(Errno::ENOTTY)?;
        let at = UserAddr(arg);
        match command {
            RECEIVE => self.receive(&caller, at),
            SEND => self.send(at),
            IS_VALID | IS_VALID_WRONG_DIRECTION => {
                let id: u64 = user::read(at)?;
                let is_valid = self.0.is_received(id);
                is_valid.then_some(0).ok_or(Errno::ENOENT)
            }
            // Which CPU the other side is woken on: nothing here chooses that by who wakes.
            SET_FLAGS if arg & !1 == 0 => Ok(0),
            SET_FLAGS => Err(Errno::EINVAL),
            _ if command & !DIRECTION_AND_SIZE == ADD_FILE => {
                let size = (command >> 16) & 0x3fff;
                self.add_file(&caller, at, size as usize)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Listener {
    fn receive(&self, caller: &Thread, to: UserAddr) -> Result<u64> {
        // So that later versions can give the fields a meaning.
        let given: [u8; size_of::<Notification>()] = user::read(to)?;
        if given.iter().any(|byte| *byte != 0) {
            return Err(Errno::EINVAL);
        }
        let received = self.0.receive()?;
        let notification = Notification {
            id: received.id,
            pid: Notifier::shown(caller, &received),
            flags: 0,
            call: received.call,
        };
        user::write(to, &notification).inspect_err(|_| self.0.give_back(received.id))?;
        Ok(0)
    }

    fn send(&self, from: UserAddr) -> Result<u64> {
        const CONTINUE: u32 = 1;
        let response: Response = user::read(from)?;
        let goes_on = response.flags == CONTINUE;
        if response.flags & !CONTINUE != 0
            || (goes_on && (response.error != 0 || response.value != 0))
        {
            return Err(Errno::EINVAL);
        }
        let answer = match response.error {
            _ if goes_on => Answer::GoOn,
            0 => Answer::Value(response.value),
            error => Answer::Value(error.into()),
        };
        self.0.answer(response.id, answer).map(|()| 0)
    }

    fn add_file(&self, caller: &Thread, from: UserAddr, size: usize) -> Result<u64> {
        const SET_NUMBER: u32 = 1;
        const ANSWER: u32 = 2;
        let asked = read_add_file(from, size)?;
        let close_on_exec = asked.number_flags == abi::raw::general::O_CLOEXEC;
        let has_number = asked.flags & SET_NUMBER != 0;
        if (asked.number_flags != 0 && !close_on_exec)
            || asked.flags & !(SET_NUMBER | ANSWER) != 0
            || (asked.number != 0 && !has_number)
        {
            return Err(Errno::EINVAL);
        }
        let files = caller.files_if_alive().ok_or(Errno::EBADF)?;
        let file = files.get(asked.source)?;
        if file.flags().contains(OpenFlags::PATH) {
            return Err(Errno::EBADF);
        }
        let number = has_number.then_some(asked.number);
        let answers = asked.flags & ANSWER != 0;
        let addition = Addition::new(file, number, close_on_exec, answers)?;
        let fd = self.0.add_file(asked.id, &addition)?;
        u64::try_from(fd).map_err(|_| Errno::EBADF)
    }
}

/// What a version of `size` bytes says: what is unknown here must be zero.
fn read_add_file(from: UserAddr, size: usize) -> Result<AddFile> {
    const KNOWN: usize = size_of::<AddFile>();
    if !(KNOWN..machine::PAGE_SIZE).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let beyond = from.checked_add(KNOWN as u64).ok_or(Errno::EFAULT)?;
    let rest: collections::Vec<u8> = user::read_array(beyond, size - KNOWN)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    user::read(from)
}
