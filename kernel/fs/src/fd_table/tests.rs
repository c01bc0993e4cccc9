//! Borrowed and counted look-ups, and when files are closed.

use alloc::sync::Weak;

use super::*;
use crate::cred::Credentials;
use crate::flags::OpenFlags;

const LIMIT: usize = 16;

fn file() -> Arc<File> {
    let credentials = Arc::new(Credentials::root());
    crate::eventfd::create(0, false, OpenFlags::empty(), &credentials).unwrap()
}

fn table_with_one() -> (FdTable, Weak<File>) {
    let mut table = FdTable::new();
    let file = file();
    let known = Arc::downgrade(&file);
    assert_eq!(table.insert(file, false, LIMIT), Ok(0));
    (table, known)
}

#[test]
fn only_a_table_of_its_own_is_looked_into_without_a_count() {
    let (mut table, known) = table_with_one();
    assert!(matches!(table.get(0), Ok(FdRef::Borrowed(_))));
    assert_eq!(known.strong_count(), 1);
    let mut other = table.share();
    let found = table.get(0).unwrap();
    assert!(matches!(found, FdRef::Counted(_)));
    drop(other.remove(0));
    assert_eq!(
        known.strong_count(),
        1,
        "closed by another thread while in use"
    );
    drop(found);
    assert_eq!(known.strong_count(), 0);
    assert_eq!(table.get(0).err(), Some(Errno::EBADF));
    drop(other);
    assert!(!table.is_shared());
}

#[test]
fn files_are_closed_with_the_last_owner_whoever_looks() {
    let (mut table, known) = table_with_one();
    let (view, other) = (table.view(), table.share());
    drop(table);
    assert!(view.get(0).is_ok());
    drop(other);
    assert_eq!((known.strong_count(), view.len()), (0, 0));
}

#[test]
fn a_copy_has_the_files_and_goes_its_own_way() {
    let (table, known) = table_with_one();
    let mut copy = table.duplicate().unwrap();
    assert_ne!(copy.lock_id(), table.lock_id());
    drop(copy.remove(0));
    assert!(table.get(0).is_ok() && copy.get(0).is_err());
    drop(table);
    assert_eq!(known.strong_count(), 0);
}

#[test]
fn room_for_a_number_is_made_before_there_is_a_file() {
    let (mut table, _) = table_with_one();
    assert_eq!(table.make_room(2), Ok(()));
    assert_eq!(table.make_room(1), Err(Errno::EMFILE));
    assert_eq!(table.insert(file(), false, 2), Ok(1));
    let mut full = FdTable::new();
    machine::heap::testing::fail_nth(1);
    let refused = full.make_room(2);
    machine::heap::testing::fail_never();
    assert_eq!(refused, Err(Errno::ENOMEM));
}
