//! Objects of a namespace without programs.

use super::*;
use crate::ipc::header::Permission;
use crate::ipc::msg::Message;
use crate::ipc::sem::Operation;
use crate::ipc::shm::AttachAt;
use crate::ipc::table::Object;
use crate::ipc::undo::UndoList;
use machine::UserAddr;
use memory::{AddressSpace, Prot};

fn namespace() -> Arc<IpcNamespace> {
    IpcNamespace::new(&UserNamespace::INITIAL).unwrap()
}

fn operation(number: u16, change: i16, flags: u32) -> Operation {
    Operation {
        number,
        change,
        flags,
    }
}

#[test]
fn keys_find_what_was_made_and_ids_are_not_used_again_soon() {
    let (namespace, root) = (namespace(), Credentials::root());
    let get = |key, flags| shm::get(&namespace, &root, key, 100, flags);
    assert_eq!(get(7, 0o600), Err(Errno::ENOENT));
    let first = get(7, CREATE | 0o600).unwrap();
    assert_eq!(get(7, 0o600), Ok(first));
    assert_eq!(get(7, CREATE | EXCLUSIVE), Err(Errno::EEXIST));
    assert_eq!(shm::get(&namespace, &root, 7, 200, 0), Err(Errno::EINVAL));
    let mut seen = std::collections::BTreeSet::from([first]);
    for _ in 0..300 {
        let id = get(0, 0).unwrap();
        assert!(seen.insert(id));
        namespace.segments.find(id).unwrap().remove(&namespace);
        assert_eq!(namespace.segments.find(id).err(), Some(Errno::EINVAL));
    }
    assert_eq!(namespace.segments.extent().0, 1);
    assert_eq!(namespace.shm_pages(), 1);
    // Another namespace has other objects.
    let other = self::namespace();
    assert_eq!(shm::get(&other, &root, 7, 0, 0), Err(Errno::ENOENT));
    assert_eq!(other.segments.find(first).err(), Some(Errno::EINVAL));
}

#[test]
fn limits_hold_and_what_is_removed_counts_no_more() {
    let (namespace, root) = (namespace(), Credentials::root());
    assert!(namespace.settings.shmmni.set(2) && !namespace.settings.shmmni.set(1 << 20));
    namespace.settings.shmall.store(3, Ordering::Relaxed);
    namespace.settings.shmmax.store(8192, Ordering::Relaxed);
    let get = |size| shm::get(&namespace, &root, 0, size, 0);
    assert_eq!(
        (get(0), get(8193)),
        (Err(Errno::EINVAL), Err(Errno::EINVAL))
    );
    let first = get(8192).unwrap();
    assert_eq!(get(8192), Err(Errno::ENOSPC));
    get(4096).unwrap();
    namespace.segments.find(first).unwrap().remove(&namespace);
    get(1).unwrap();
    assert_eq!(get(1), Err(Errno::ENOSPC));
    let sets = |len| sem::get(&namespace, &root, 0, len, 0);
    assert_eq!(
        (sets(0), sets(32001)),
        (Err(Errno::EINVAL), Err(Errno::EINVAL))
    );
    namespace.settings.sem[1].set(3);
    let three = sets(3).unwrap();
    assert_eq!(sets(1), Err(Errno::ENOSPC));
    namespace.sets.find(three).unwrap().remove(&namespace);
    assert!(sets(1).is_ok());
}

#[test]
fn a_segment_that_is_removed_stays_while_it_is_attached() {
    let (namespace, root) = (namespace(), Credentials::root());
    let id = shm::get(&namespace, &root, 5, 8192, CREATE | 0o600).unwrap();
    let segment = namespace.segments.find(id).unwrap();
    let space = AddressSpace::new(false).unwrap();
    let at = AttachAt {
        addr: None,
        replaces: false,
        prot: Prot::READ | Prot::WRITE,
    };
    let addr = segment.attach(&space, &at).unwrap();
    segment.attach(&space, &at).unwrap();
    let child = space.fork().unwrap();
    assert_eq!(segment.uses().attached, 4);
    segment.remove(&namespace);
    assert_eq!(
        namespace
            .segments
            .find(id)
            .map(|found| found.header().permission().key),
        Ok(0)
    );
    assert_eq!(space.detach(UserAddr(addr.0 + 4096)), Err(Errno::EINVAL));
    space.detach(addr).unwrap();
    assert_eq!(space.detach(addr), Err(Errno::EINVAL));
    drop(child);
    assert_eq!(segment.uses().attached, 1);
    space.clear();
    assert_eq!(namespace.segments.find(id).err(), Some(Errno::EINVAL));
    assert_eq!(namespace.shm_pages(), 0);
}

#[test]
fn a_part_that_was_unmapped_does_not_keep_the_rest_from_being_detached() {
    let (namespace, root) = (namespace(), Credentials::root());
    let id = shm::get(&namespace, &root, 0, 4 * 4096, 0o600).unwrap();
    let segment = namespace.segments.find(id).unwrap();
    let space = AddressSpace::new(false).unwrap();
    let at = AttachAt {
        addr: None,
        replaces: false,
        prot: Prot::READ,
    };
    let addr = segment.attach(&space, &at).unwrap();
    space.unmap(UserAddr(addr.0 + 4096), 4096).unwrap();
    assert_eq!(segment.uses().attached, 2);
    space.detach(addr).unwrap();
    assert_eq!(segment.uses().attached, 0);
    assert!(space.areas().unwrap().is_empty());
}

#[test]
fn all_operations_of_a_call_happen_or_none() {
    let namespace = namespace();
    let id = sem::get(&namespace, &Credentials::root(), 0, 2, 0o600).unwrap();
    let set = namespace.sets.find(id).unwrap();
    let values = || set.values().unwrap().iter().copied().collect::<Vec<_>>();
    let run = |ops: &[Operation]| set.operate(ops, None, None);
    run(&[operation(0, 2, 0), operation(1, 1, 0)]).unwrap();
    let both = [operation(0, -1, 0), operation(1, -2, NO_WAIT)];
    assert_eq!(run(&both), Err(Errno::EAGAIN));
    assert_eq!(values(), [2, 1]);
    assert_eq!(run(&[operation(2, 1, 0)]), Err(Errno::EFBIG));
    assert_eq!(run(&[operation(0, i16::MAX, 0)]), Err(Errno::ERANGE));
    run(&[operation(0, -2, 0), operation(0, 0, NO_WAIT)]).unwrap();
    assert_eq!(values(), [0, 1]);
    assert_eq!(set.set_value(0, 32768), Err(Errno::ERANGE));
    assert_eq!(set.set_value(2, 0), Err(Errno::EINVAL));
}

#[test]
fn the_end_of_a_list_undoes_what_was_to_be_undone() {
    const UNDO: u32 = 0x1000;
    let namespace = namespace();
    let id = sem::get(&namespace, &Credentials::root(), 0, 2, 0o600).unwrap();
    let set = namespace.sets.find(id).unwrap();
    let list = UndoList::new().unwrap();
    let run = |ops: &[Operation]| set.operate(ops, Some(&list), Some(0));
    run(&[operation(0, 5, UNDO), operation(1, 5, UNDO)]).unwrap();
    run(&[operation(0, -1, 0)]).unwrap();
    // What fails leaves nothing to be undone.
    assert_eq!(
        run(&[operation(0, 7, UNDO), operation(1, -9, 0)]),
        Err(Errno::EAGAIN)
    );
    set.set_value(1, 3).unwrap();
    drop(list);
    let values = set.values().unwrap();
    assert_eq!((values[0], values[1]), (0, 3));
}

#[test]
fn messages_are_taken_by_type_and_fill_a_queue() {
    let namespace = namespace();
    let id = msg::get(&namespace, &Credentials::root(), 0, 0o600).unwrap();
    let queue = namespace.queues.find(id).unwrap();
    let send = |kind, text: &[u8]| {
        let bytes = collections::Vec::try_from_slice(text).unwrap();
        queue.send(&namespace, Message { kind, bytes }, NO_WAIT)
    };
    for (kind, text) in [(3, b"c"), (1, b"a"), (2, b"b"), (1, b"d")] {
        send(kind, text).unwrap();
    }
    let receive = |kind, flags| {
        let message = queue.receive(&namespace, kind, 1, flags | NO_WAIT)?;
        Ok((message.kind, message.bytes[0]))
    };
    assert_eq!(receive(1, msg::COPY), Ok((1, b'a')));
    assert_eq!(receive(-2, 0), Ok((1, b'a')));
    assert_eq!(receive(3, msg::EXCEPT), Ok((2, b'b')));
    assert_eq!(receive(0, 0), Ok((3, b'c')));
    assert_eq!(receive(5, 0), Err(Errno::ENOMSG));
    assert_eq!(namespace.messages(), (1, 1));
    queue.set_most(3);
    assert_eq!(send(1, b"xyz"), Err(Errno::EAGAIN));
    send(9, b"xy").unwrap();
    assert_eq!(receive(9, 0), Err(Errno::E2BIG));
    assert_eq!(receive(9, msg::CUT), Ok((9, b'x')));
    queue.remove(&namespace);
    assert_eq!(receive(0, 0), Err(Errno::EIDRM));
    assert_eq!(
        (send(1, b""), namespace.messages()),
        (Err(Errno::EIDRM), (0, 0))
    );
}

#[test]
fn permissions_are_by_the_class_of_the_caller() {
    let maker = Credentials::user(1000, 1000);
    let permission = Permission::new(0, &maker, 0o640);
    assert!(permission.grants(&maker, READ | WRITE));
    assert!(permission.grants(&Credentials::user(1, 1000), READ));
    assert!(!permission.grants(&Credentials::user(1, 1000), WRITE));
    assert!(!permission.grants(&Credentials::user(1, 1), READ));
}
