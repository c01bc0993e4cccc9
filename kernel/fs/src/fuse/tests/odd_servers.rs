//! Servers that are slow, answer out of order, or say anything.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::virtio::fake;
use memory::io::{IoReader, IoWriter};
use sched::WaitQueue;

use super::server::Server;
use super::{Names, connect, new, write};
use crate::file_ops::Io;
use crate::file_system::FileSystem;
use crate::flags::OpenFlags;
use crate::fuse::connection::Connection;
use crate::fuse::session::Session;
use crate::fuse::wire::Op;
use crate::inode::{Inode, NewKind, RenameMode};
use crate::metadata::SetAttr;

#[test]
fn attributes_do_not_wait_for_the_end_of_a_write() {
    use std::sync::mpsc;
    let server = Arc::new(Server::default());
    server.put(b"f", b"x");
    let playing = server.clone();
    let (arrived, arrivals) = mpsc::channel();
    let mut held = None;
    let connection = connect(Box::new(move |device, pending| {
        let opcode = u32::from_ne_bytes(pending.request()[4..8].try_into().unwrap());
        let answer = |pending: fake::Pending| {
            let answer = playing.answer(&pending.request(), pending.room());
            device.answer(pending, &answer);
        };
        // The file grows as somebody asks for its size, and the write is answered after that.
        if opcode == Op::Write as u32 {
            held = Some(pending);
            arrived.send(()).unwrap();
            return;
        }
        if opcode == Op::GetAttr as u32 && held.is_some() {
            playing.put(b"f", &[b'y'; 300]);
            answer(pending);
            held.take().into_iter().for_each(answer);
        } else {
            answer(pending);
        }
    }));
    let root = Session::open(connection, None).unwrap().root().unwrap();
    let inode = root.lookup(b"f").unwrap();
    let writing = inode.clone();
    let writer = std::thread::spawn(move || {
        let file = writing.open(OpenFlags::RDWR).unwrap();
        write(&file, 0, b"z");
    });
    arrivals.recv().unwrap();
    assert_eq!(
        inode.metadata().unwrap().size,
        1,
        "not told while it is written"
    );
    writer.join().unwrap();
    assert_eq!(inode.metadata().unwrap().size, 300);
}

#[test]
fn no_forgotten_lookup_is_lost_however_slow_the_server_is() {
    use std::sync::Mutex;
    let server = Arc::new(Server::default());
    let names = |count: u32| (0..count).map(|number| format!("f{number}").into_bytes());
    names(600).for_each(|name| server.put(&name, b""));
    let playing = server.clone();
    let (requests, device) = fake::queue(
        64,
        Box::new(move |device: &fake::FakeDevice, pending| {
            let request = pending.request();
            let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
            let answer = if opcode == Op::Forget as u32 {
                playing.forget(&request);
                Vec::new()
            } else {
                playing.answer(&request, pending.room())
            };
            device.answer(pending, &answer);
        }),
    );
    let activity = Arc::new(WaitQueue::new());
    let woken = activity.clone();
    device.set_events(Arc::new(move || woken.wake_all()));
    // Nothing is taken of this queue before it is let go.
    let kept = Arc::new(Mutex::new((true, Vec::new())));
    let (keeping, taking) = (kept.clone(), server.clone());
    let (urgent, urgent_device) = fake::queue(
        2,
        Box::new(move |device: &fake::FakeDevice, pending| {
            let mut kept = keeping.lock().unwrap();
            if kept.0 {
                kept.1.push(pending);
            } else {
                taking.forget(&pending.request());
                device.answer(pending, &[]);
            }
        }),
    );
    let connection = Connection::new(requests, urgent, activity).unwrap();
    let root = Session::open(Arc::new(connection), None)
        .unwrap()
        .root()
        .unwrap();
    let inodes: Vec<_> = names(600).map(|name| root.lookup(&name).unwrap()).collect();
    assert_eq!(server.lookups(), 600);
    drop(inodes);
    let waiting = {
        let mut kept = kept.lock().unwrap();
        kept.0 = false;
        core::mem::take(&mut kept.1)
    };
    for pending in waiting {
        server.forget(&pending.request());
        urgent_device.answer(pending, &[]);
    }
    // Whoever asks next has the rest sent.
    for _ in 0..3 {
        root.metadata().unwrap();
    }
    assert_eq!(server.lookups(), 0);
}

#[test]
fn lookups_in_one_directory_do_not_wait_for_each_other() {
    use std::sync::{Condvar, Mutex};
    const LOOKUP: u32 = 1;
    let server = Arc::new(Server::default());
    server.put(b"a", b"");
    server.put(b"b", b"");
    // Look-ups are answered when two of them are waiting.
    let waiting = Arc::new((Mutex::new(0), Condvar::new()));
    let (playing, arrivals) = (server.clone(), waiting.clone());
    let mut held = Vec::new();
    let connection = connect(Box::new(move |device, pending| {
        let request = pending.request();
        let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
        held.push(pending);
        let is_lookup = opcode == LOOKUP;
        if is_lookup {
            *arrivals.0.lock().unwrap() += 1;
            arrivals.1.notify_all();
        }
        if !is_lookup || held.len() == 2 {
            for pending in held.drain(..) {
                let answer = playing.answer(&pending.request(), pending.room());
                device.answer(pending, &answer);
            }
        }
    }));
    let session = Session::open(connection, None).unwrap();
    let super_block = crate::file_system::SuperBlock::new(session).unwrap();
    for name in [b"a", b"b"] {
        let root = super_block.root().unwrap();
        std::thread::spawn(move || crate::walk::find_child(&root, name, false).map(drop));
    }
    let limit = std::time::Duration::from_secs(20);
    let both = waiting
        .1
        .wait_timeout_while(waiting.0.lock().unwrap(), limit, |count| *count < 2)
        .unwrap();
    assert_eq!(*both.0, 2, "one look-up waits for the other's answer");
}

/// A small generator of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "any part of a random number is one"
)]
/// Spoils an honest answer: bits, lengths, errors, or everything.
fn spoil(numbers: &mut Numbers, answer: &mut Vec<u8>, room: usize) {
    match numbers.next() % 8 {
        0 => answer.truncate((numbers.next() as usize) % (answer.len() + 1)),
        1 => answer.resize(room, 0x2f),
        2 | 3 if !answer.is_empty() => {
            let at = (numbers.next() as usize) % answer.len();
            answer[at] ^= 1 << (numbers.next() % 8);
        }
        4 if answer.len() >= 8 => {
            answer[4..8].copy_from_slice(&(numbers.next() as u32).to_ne_bytes());
        }
        5 if answer.len() > 16 => answer[16..]
            .iter_mut()
            .for_each(|byte| *byte = numbers.next() as u8),
        6 if answer.len() > 24 => {
            let len = answer.len();
            answer[16..24].copy_from_slice(&u64::MAX.to_ne_bytes());
            answer[len - 8..].fill(0xff);
        }
        _ => {}
    }
    answer.truncate(room);
}

#[test]
fn a_server_that_says_anything_causes_errors_and_nothing_else() {
    for seed in 1..200 {
        let server = Arc::new(Server::default());
        server.put(b"f", &[3; 10_000]);
        let playing = server.clone();
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let connection = connect(Box::new(move |device, pending| {
            let room = pending.room();
            let mut answer = playing.answer(&pending.request(), room);
            if numbers.next().is_multiple_of(3) {
                spoil(&mut numbers, &mut answer, room);
            }
            device.answer(pending, &answer);
        }));
        let Ok(session) = Session::open(connection, None) else {
            continue;
        };
        use_everything(&session.root().unwrap());
    }
}

/// Calls what there is and only asks that it returns.
fn use_everything(root: &Arc<dyn Inode>) {
    for round in 0..6 {
        let name = format!("n{round}").into_bytes();
        let _ = root.create(&name, &new(NewKind::Directory, 0o755));
        let _ = root
            .create(b"s", &new(NewKind::Symlink(b"x"), 0o777))
            .map(|link| link.readlink());
        let _ = root.rename(&name, root, b"m", RenameMode::Replace);
        let _ = (root.xattr(b"user.a"), root.list_xattrs(), root.metadata());
        if let Ok(directory) = root.clone().open(OpenFlags::DIRECTORY) {
            let _ = directory.read_dir(0, &mut Names(Vec::new(), 100));
        }
        let Ok(inode) = root.lookup(b"f") else {
            continue;
        };
        let _ = root.is_current(b"f", Some(&inode));
        let _ = inode.set_attr(&SetAttr {
            size: Some(9_000),
            ..SetAttr::default()
        });
        let Ok(file) = inode.open(OpenFlags::RDWR) else {
            continue;
        };
        let mut bytes = [0; 6000];
        let _ = file.read(&mut IoWriter::kernel(&mut bytes), &Io::default());
        let _ = file.write(
            &mut IoReader::kernel(&bytes),
            &mut Io {
                offset: 77,
                ..Io::default()
            },
        );
        let _ = file.page_source().and_then(|source| source.page(1, true));
        let _ = (file.sync(false), file.flush());
    }
}
