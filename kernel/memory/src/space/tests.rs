//! Address spaces against the host double: faults, copy-on-write, user copies, changes of mappings.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "test data"
)]

use alloc::vec::Vec;

use super::*;
use crate::mapping::{Backing, Mapping};
use crate::page_source::PageSource;
use crate::user;

const RW: Prot = Prot::READ.union(Prot::WRITE);

fn space() -> Arc<AddressSpace> {
    AddressSpace::new(false).unwrap()
}

/// Makes `space` the calling thread's.
fn enter(space: &Arc<AddressSpace>) {
    let me = sched::thread::current();
    me.set_memory(Some(space.clone()));
    me.set_page_table(Some(space.page_table().clone()));
}

fn anonymous(space: &AddressSpace, pages: u64) -> UserAddr {
    space.map(MapRequest::anonymous(pages * PAGE, RW)).unwrap()
}

fn at(base: UserAddr, offset: u64) -> UserAddr {
    UserAddr(base.0 + offset)
}

fn byte(addr: UserAddr) -> Result<u8> {
    user::read::<u8>(addr)
}

#[test]
fn anonymous_memory_is_zero_and_appears_when_touched() {
    let space = space();
    enter(&space);
    let base = anonymous(&space, 4);
    assert_eq!(byte(at(base, 5)), Ok(0));
    assert_eq!(space.statistics().resident, 1);
    assert_eq!(space.perms_at(base.0), Some(Perms::empty()));
    user::write_bytes(at(base, PAGE - 2), b"abcd").unwrap();
    assert_eq!(byte(at(base, PAGE + 1)), Ok(b'd'));
    assert_eq!(space.statistics().resident, 2);
    assert_eq!(byte(at(base, 4 * PAGE)), Err(Errno::EFAULT));
    let mut bytes = [0; 16];
    assert_eq!(user::read_some(at(base, 4 * PAGE - 10), &mut bytes), Ok(10));
}

#[test]
fn fork_shares_until_either_side_stores() {
    let parent = space();
    enter(&parent);
    let base = anonymous(&parent, 3);
    user::write_bytes(base, b"parent").unwrap();
    let child = parent.fork().unwrap();
    assert_eq!(
        parent.frame_at(base, false).unwrap().phys(),
        child.frame_at(base, false).unwrap().phys()
    );
    user::write_bytes(base, b"PARENT").unwrap();
    user::write_bytes(at(base, PAGE), b"new").unwrap();
    enter(&child);
    let mut bytes = [0; 6];
    user::read_bytes(base, &mut bytes).unwrap();
    assert_eq!(&bytes, b"parent");
    assert_eq!(byte(at(base, PAGE)), Ok(0));
    // The child is the only owner now: its store must not copy.
    let frame = child.frame_at(base, false).unwrap().phys();
    user::write_bytes(base, b"child!").unwrap();
    assert_eq!(child.frame_at(base, false).unwrap().phys(), frame);
    enter(&parent);
    user::read_bytes(base, &mut bytes).unwrap();
    assert_eq!(&bytes, b"PARENT");
}

#[test]
fn shared_memory_stays_shared_across_fork() {
    let parent = space();
    enter(&parent);
    let mut request = MapRequest::anonymous(2 * PAGE, RW);
    request.flags = AreaFlags::SHARED;
    let base = parent.map(request).unwrap();
    user::write_bytes(base, b"one").unwrap();
    let child = parent.fork().unwrap();
    assert_eq!(
        parent.shared_key(at(base, 8)),
        child.shared_key(at(base, 8))
    );
    enter(&child);
    assert_eq!(byte(base), Ok(b'o'));
    user::write_bytes(at(base, PAGE), b"two").unwrap();
    enter(&parent);
    assert_eq!(byte(at(base, PAGE)), Ok(b't'));
}

#[test]
fn private_file_pages_are_copied_on_store() {
    let file = Mapping::in_memory(None, 0).unwrap();
    file.write(0, &mut crate::io::IoReader::kernel(&[5; 3 * 4096 + 10]))
        .unwrap();
    let space = space();
    enter(&space);
    let base = space
        .map(MapRequest::file(file.clone(), PAGE, 4 * PAGE, RW))
        .unwrap();
    assert_eq!(byte(base), Ok(5));
    user::write_bytes(base, b"x").unwrap();
    assert_eq!(byte(base), Ok(b'x'));
    let mut bytes = [0; 1];
    file.read(
        PAGE,
        &mut crate::io::IoWriter::kernel(&mut bytes),
        &crate::Readahead::new(),
    )
    .unwrap();
    assert_eq!(bytes, [5]);
    assert_eq!(byte(at(base, 2 * PAGE + 9)), Ok(5));
    assert_eq!(byte(at(base, 2 * PAGE + 10)), Ok(0));
    let fault = machine::user_mode::PageFault {
        addr: at(base, 3 * PAGE),
        write: false,
        exec: false,
        present: false,
    };
    assert_eq!(space.handle_fault(&fault), Err(FaultError::Bus));
}

#[test]
fn truncation_takes_pages_out_of_mappings() {
    let file = Mapping::in_memory(None, 3 * PAGE).unwrap();
    let space = space();
    enter(&space);
    let mut request = MapRequest::file(file.clone(), 0, 3 * PAGE, RW);
    request.flags = AreaFlags::SHARED;
    let base = space.map(request).unwrap();
    user::write_bytes(at(base, 2 * PAGE), b"gone").unwrap();
    file.set_size(PAGE);
    assert_eq!(byte(at(base, 2 * PAGE)), Err(Errno::EFAULT));
    file.set_size(3 * PAGE);
    assert_eq!(byte(at(base, 2 * PAGE)), Ok(0));
}

#[test]
fn seals_keep_stores_out_of_shared_mappings() {
    let file = Mapping::in_memory(None, 3 * PAGE).unwrap();
    let space = space();
    let shared = |prot| {
        let mut request = MapRequest::file(file.clone(), 0, 3 * PAGE, prot);
        request.flags = AreaFlags::SHARED;
        space.map(request)
    };
    let base = shared(Prot::READ).unwrap();
    assert_eq!(file.deny_stores(), Err(Errno::EBUSY));
    let child = space.fork().unwrap();
    space.unmap(at(base, PAGE), PAGE).unwrap();
    space.unmap(base, 3 * PAGE).unwrap();
    assert_eq!(file.deny_stores(), Err(Errno::EBUSY), "the child has it");
    child.clear();
    assert_eq!(file.deny_stores(), Ok(()));
    assert_eq!(shared(RW), Err(Errno::EPERM));
    let base = shared(Prot::READ).unwrap();
    assert_eq!(space.protect(base, PAGE, RW, false), Err(Errno::EACCES));
}

struct Disk(std::sync::Mutex<Vec<u8>>);

impl Backing for Disk {
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()> {
        let bytes = self.0.lock().unwrap();
        for (n, frame) in frames.iter().enumerate() {
            let start = (first as usize + n) * PAGE_SIZE;
            frame.write(0, &bytes[start..start + PAGE_SIZE]);
        }
        Ok(())
    }
    fn write_pages(&self, first: u64, frames: &[Frame], len_bytes: u64) -> Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let start = first as usize * PAGE_SIZE;
        let end = start + len_bytes as usize;
        for (n, part) in bytes[start..end].chunks_mut(PAGE_SIZE).enumerate() {
            frames[n].read(0, part);
        }
        Ok(())
    }
}

#[test]
fn stores_to_shared_file_mappings_are_written_back() {
    let disk = Arc::new(Disk(std::sync::Mutex::new(alloc::vec![1; 40 * PAGE_SIZE])));
    let backing: Arc<dyn Backing> = disk.clone();
    let cache = Mapping::with_backing(Arc::downgrade(&backing), 40 * PAGE).unwrap();
    let space = space();
    enter(&space);
    let mut request = MapRequest::file(cache.clone(), 0, 40 * PAGE, RW);
    request.flags = AreaFlags::SHARED;
    let base = space.map(request).unwrap();
    assert_eq!(byte(at(base, 3 * PAGE)), Ok(1));
    assert!(!cache.is_dirty());
    assert!(
        space.statistics().resident > 4,
        "nothing was mapped around the fault"
    );
    for round in 0..3_u8 {
        user::write_bytes(at(base, 3 * PAGE), &[b'a' + round]).unwrap();
        assert!(cache.is_dirty(), "round {round}");
        space.sync(base, 40 * PAGE, 4).unwrap();
        assert!(!cache.is_dirty());
        assert_eq!(disk.0.lock().unwrap()[3 * PAGE_SIZE], b'a' + round);
    }
}

/// A file whose page was replaced while mappings still show what was there: a store through another mapping or
/// by write(2) has copied boot memory, and the mappings are told only after that.
struct Replaced {
    shown: Frame,
    current: Frame,
}

impl PageSource for Replaced {
    fn page(&self, _: u64, write: bool) -> Result<Frame> {
        let frame = if write { &self.current } else { &self.shown };
        Ok(frame.clone())
    }
    fn page_at_hand(&self, index: u64, write: bool) -> Option<Frame> {
        self.page(index, write).ok()
    }
    fn size_bytes(&self) -> u64 {
        PAGE
    }
}

#[test]
fn a_store_never_reaches_a_page_that_has_been_replaced() {
    let frame = || Frame::alloc_zeroed().unwrap();
    let file = Arc::new(Replaced {
        shown: frame(),
        current: frame(),
    });
    let space = space();
    enter(&space);
    let mut request = MapRequest::file(file.clone(), 0, PAGE, RW);
    request.flags = AreaFlags::SHARED;
    let base = space.map(request).unwrap();
    assert_eq!(byte(base), Ok(0));
    user::write_bytes(base, b"x").unwrap();
    let first_byte = |frame: &Frame| {
        let mut bytes = [0; 1];
        frame.read(0, &mut bytes);
        bytes
    };
    assert_eq!(first_byte(&file.shown), [0]);
    assert_eq!(first_byte(&file.current), *b"x");
}

#[test]
fn protection_is_enforced_and_contents_survive_prot_none() {
    let space = space();
    enter(&space);
    let base = anonymous(&space, 4);
    user::write_bytes(at(base, PAGE), b"kept").unwrap();
    space
        .protect(at(base, PAGE), PAGE, Prot::empty(), false)
        .unwrap();
    assert_eq!(byte(at(base, PAGE)), Err(Errno::EFAULT));
    assert_eq!(space.statistics().resident, 1);
    let child = space.fork().unwrap();
    space
        .protect(at(base, PAGE), PAGE, Prot::READ, false)
        .unwrap();
    assert_eq!(byte(at(base, PAGE)), Ok(b'k'));
    assert_eq!(user::write_bytes(at(base, PAGE), b"no"), Err(Errno::EFAULT));
    assert_eq!(space.write_at(at(base, PAGE), b"by force", true), 8);
    assert_eq!(byte(at(base, PAGE)), Ok(b'b'));
    space.protect(base, 4 * PAGE, RW, false).unwrap();
    user::write_bytes(at(base, PAGE), b"yes").unwrap();
    assert_eq!(space.areas().unwrap().len(), 1);
    assert_eq!(space.protect(base, 5 * PAGE, RW, false), Err(Errno::ENOMEM));
    enter(&child);
    child.protect(at(base, PAGE), PAGE, RW, false).unwrap();
    let mut bytes = [0; 4];
    user::read_bytes(at(base, PAGE), &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
}

#[test]
fn the_stack_grows_to_its_limit_and_not_into_others() {
    let space = space();
    enter(&space);
    let top = space.stack_top();
    let mut request = MapRequest::anonymous(2 * PAGE, RW).at(UserAddr(top.0 - 2 * PAGE));
    request.flags = AreaFlags::GROWS_DOWN | AreaFlags::STACK;
    space.map(request).unwrap();
    user::write_bytes(UserAddr(top.0 - 100 * PAGE), b"deep").unwrap();
    assert_eq!(space.statistics().stack, 100);
    assert_eq!(byte(UserAddr(top.0 - (8 << 20) - 1)), Err(Errno::EFAULT));
    let below = UserAddr(top.0 - 500 * PAGE);
    space
        .map(MapRequest::anonymous(PAGE, RW).at(below))
        .unwrap();
    assert_eq!(byte(UserAddr(top.0 - 300 * PAGE)), Err(Errno::EFAULT));
    assert_eq!(byte(UserAddr(top.0 - 200 * PAGE)), Ok(0));
}

#[test]
fn brk_moves_the_end_of_the_heap() {
    let space = space();
    enter(&space);
    space.set_brk_start(UserAddr(0x60_0123));
    let start = space.brk(UserAddr(0));
    assert_eq!(start, UserAddr(0x60_1000));
    assert_eq!(space.brk(at(start, 10_000)), at(start, 10_000));
    user::write_bytes(at(start, 9_999), b"x").unwrap();
    assert_eq!(space.brk(at(start, 100)), at(start, 100));
    assert_eq!(byte(at(start, 9_999)), Err(Errno::EFAULT));
    assert_eq!(space.brk(at(start, 10_000)), at(start, 10_000));
    assert_eq!(byte(at(start, 9_999)), Ok(0));
    space
        .map(MapRequest::anonymous(PAGE, RW).at(at(start, 16 * PAGE)))
        .unwrap();
    assert_eq!(space.brk(at(start, 20 * PAGE)), at(start, 10_000));
}

#[test]
fn mremap_moves_contents() {
    let space = space();
    enter(&space);
    let base = anonymous(&space, 2);
    user::write_bytes(at(base, PAGE), b"moves").unwrap();
    space
        .map(MapRequest::anonymous(PAGE, RW).at(at(base, 2 * PAGE)))
        .unwrap();
    assert_eq!(
        space.remap(base, 2 * PAGE, 8 * PAGE, 0, UserAddr(0), false),
        Err(Errno::ENOMEM)
    );
    let moved = space
        .remap(base, 2 * PAGE, 8 * PAGE, 1, UserAddr(0), false)
        .unwrap();
    assert_ne!(moved, base);
    assert_eq!(byte(at(moved, PAGE)), Ok(b'm'));
    assert_eq!(byte(at(moved, 7 * PAGE)), Ok(0));
    assert_eq!(byte(base), Err(Errno::EFAULT));
    let shrunk = space
        .remap(moved, 8 * PAGE, 2 * PAGE, 0, UserAddr(0), false)
        .unwrap();
    assert_eq!(shrunk, moved);
    assert_eq!(byte(at(moved, 2 * PAGE)), Err(Errno::EFAULT));
    let target = UserAddr(0x10_0000_0000);
    assert_eq!(
        space.remap(moved, 2 * PAGE, 2 * PAGE, 3, target, false),
        Ok(target)
    );
    assert_eq!(byte(at(target, PAGE)), Ok(b'm'));
    assert_eq!(
        space
            .remap(target, 2 * PAGE, 2 * PAGE, 5, UserAddr(0), false)
            .map(|to| byte(at(to, PAGE))),
        Ok(Ok(b'm'))
    );
    assert_eq!(byte(at(target, PAGE)), Ok(0));
}

#[test]
fn advice_that_is_followed() {
    let space = space();
    enter(&space);
    let base = anonymous(&space, 4);
    user::write_bytes(base, &[1; 4 * 4096]).unwrap();
    space.advise(at(base, PAGE), PAGE, 4).unwrap();
    assert_eq!((byte(base), byte(at(base, PAGE))), (Ok(1), Ok(0)));
    space.advise(at(base, 2 * PAGE), PAGE, 10).unwrap();
    space.advise(at(base, 3 * PAGE), PAGE, 18).unwrap();
    let child = space.fork().unwrap();
    enter(&child);
    assert_eq!(byte(base), Ok(1));
    assert_eq!(byte(at(base, 2 * PAGE)), Err(Errno::EFAULT));
    assert_eq!(byte(at(base, 3 * PAGE)), Ok(0));
    assert_eq!(child.advise(base, PAGE, 14), Ok(()));
    assert_eq!(child.advise(base, PAGE, 15), Ok(()));
    assert_eq!(child.advise(base, PAGE, 999), Err(Errno::EINVAL));
    assert_eq!(child.advise(base, 4 * PAGE, 4), Err(Errno::ENOMEM));
}

#[test]
fn placement_follows_mmap() {
    let space = space();
    let base = anonymous(&space, 4);
    let again = MapRequest {
        placement: Placement::FixedNoReplace,
        ..MapRequest::anonymous(PAGE, RW).at(base)
    };
    assert_eq!(space.map(again), Err(Errno::EEXIST));
    let hint = MapRequest {
        placement: Placement::Anywhere,
        ..MapRequest::anonymous(PAGE, RW).at(base)
    };
    assert_eq!(space.map(hint), Ok(UserAddr(base.0 - PAGE)));
    let low = MapRequest::anonymous(PAGE, RW).at(UserAddr(0x1000));
    assert_eq!(space.map(low), Err(Errno::EPERM));
    let odd = MapRequest::anonymous(PAGE, RW).at(UserAddr(base.0 + 1));
    assert_eq!(space.map(odd), Err(Errno::EINVAL));
    let huge = MapRequest::anonymous(1 << 60, RW);
    assert_eq!(space.map(huge), Err(Errno::ENOMEM));
    space.set_limits(Limits {
        address_space: 8 * PAGE,
        ..Limits::default()
    });
    assert_eq!(
        space.map(MapRequest::anonymous(4 * PAGE, RW)),
        Err(Errno::ENOMEM)
    );
    assert!(
        space
            .map(MapRequest::anonymous(4 * PAGE, RW).at(base))
            .is_ok()
    );
}

#[test]
fn decoding_refuses_what_linux_refuses() {
    let decode = |len, flags, offset| MapRequest::decode(0, len, 3, flags, offset).map(drop);
    assert_eq!(decode(4096, 0x22, 0), Ok(()));
    assert_eq!(decode(0, 0x22, 0), Err(Errno::EINVAL));
    assert_eq!(decode(4096, 0x20, 0), Err(Errno::EINVAL));
    assert_eq!(decode(4096, 0x4_0022, 0), Err(Errno::ENOMEM));
    assert_eq!(decode(4096, 0x02, 100), Err(Errno::EINVAL));
    assert_eq!(decode(4096, 0x8_0003, 0), Err(Errno::EOPNOTSUPP));
}

#[test]
fn copies_cross_faults_in_the_middle() {
    let space = space();
    enter(&space);
    let base = anonymous(&space, 8);
    let bytes: Vec<u8> = (0..6 * 4096).map(|i| (i / 3) as u8).collect();
    user::write_bytes(at(base, 1000), &bytes).unwrap();
    space.fork().unwrap();
    let mut back = alloc::vec![0; bytes.len()];
    user::read_bytes(at(base, 1000), &mut back).unwrap();
    assert!(back == bytes);
    let pieces = [
        crate::io::UserSlice {
            addr: at(base, 10),
            len: 5000,
        },
        crate::io::UserSlice {
            addr: at(base, 0),
            len: 0,
        },
        crate::io::UserSlice {
            addr: at(base, 7 * PAGE + 4000),
            len: 4000,
        },
    ];
    let mut writer = crate::io::IoWriter::vector(&pieces);
    assert_eq!(writer.remaining(), 9000);
    assert_eq!(writer.write(&[7; 9000]), Ok(5096));
    assert_eq!(writer.write(&[7; 1]), Err(Errno::EFAULT));
    assert_eq!(byte(at(base, 8 * PAGE - 1)), Ok(7));
    assert_eq!(
        user::read_c_string(at(base, 8 * PAGE - 5), 100),
        Err(Errno::EFAULT)
    );
    user::write_bytes(at(base, 4090), b"a name that crosses\0").unwrap();
    assert_eq!(
        user::read_c_string(at(base, 4090), 100).unwrap(),
        b"a name that crosses"
    );
    assert_eq!(
        user::read_c_string(at(base, 4090), 19),
        Err(Errno::ENAMETOOLONG)
    );
}

#[test]
fn threads_that_fault_on_the_same_pages_lose_nothing() {
    let space = space();
    let base = anonymous(&space, 64);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let space = &space;
            scope.spawn(move || {
                enter(space);
                for page in 0..64 {
                    user::write(at(base, page * PAGE + thread * 8), &(page + 1)).unwrap();
                }
                sched::thread::current().set_memory(None);
            });
        }
    });
    enter(&space);
    for page in 0..64 {
        for thread in 0..4 {
            assert_eq!(
                user::read::<u64>(at(base, page * PAGE + thread * 8)),
                Ok(page + 1)
            );
        }
    }
}

#[test]
fn clearing_frees_everything() {
    let file: Arc<dyn PageSource> = Mapping::in_memory(None, 4 * PAGE).unwrap();
    let space = space();
    enter(&space);
    let base = anonymous(&space, 4);
    user::write_bytes(base, &[1; 4 * 4096]).unwrap();
    space
        .map(MapRequest::file(file.clone(), 0, PAGE, RW))
        .unwrap();
    assert_eq!(Arc::strong_count(&file), 2);
    space.clear();
    assert_eq!(Arc::strong_count(&file), 1);
    assert_eq!(
        (space.statistics().total, space.statistics().resident),
        (0, 0)
    );
    assert_eq!(byte(base), Err(Errno::EFAULT));
}

/// What is written from outside reaches the mapping that allowed it, or nothing: not what another thread puts in its place
/// in the meantime, and that the program may only read.
#[test]
fn a_write_from_outside_does_not_reach_what_is_mapped_next() {
    let space = space();
    enter(&space);
    let file: Arc<dyn PageSource> = Mapping::in_memory(None, PAGE).unwrap();
    let place = anonymous(&space, 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let write = || {
            while !done.load(Ordering::Relaxed) {
                space.write_at(place, b"mine", false);
            }
        };
        scope.spawn(write);
        scope.spawn(write);
        for _ in 0..20_000 {
            let request = MapRequest::file(file.clone(), 0, PAGE, Prot::READ).at(place);
            space.map(request).unwrap();
            space.resolve(place, false).unwrap();
            let request = MapRequest::anonymous(PAGE, RW).at(place);
            space.map(request).unwrap();
            space.resolve(place, true).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let mut bytes = [0; 4];
    file.page(0, false).unwrap().read(0, &mut bytes);
    assert_eq!(bytes, [0; 4], "the file's page was written to");
}

#[test]
fn what_waits_for_memory_that_is_gone_meets_nobody() {
    let key = |pages: u64| {
        let space = space();
        let mut request = MapRequest::anonymous(pages * PAGE, RW);
        request.flags = AreaFlags::SHARED;
        let base = space.map(request).unwrap();
        (space.serial(), space.shared_key(base).unwrap())
    };
    // Each space and each mapping is freed before the next one is made, which the heap may give their addresses.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let (space, (source, offset)) = key(1);
        assert_eq!(offset, 0);
        assert!(
            seen.insert(space) && seen.insert(source),
            "a key is used again"
        );
    }
}

#[test]
fn a_space_that_goes_leaves_nothing_with_what_it_mapped() {
    let cache = Mapping::in_memory(None, 4 * PAGE).unwrap();
    let others: Vec<_> = (0..3).map(|_| space()).collect();
    for it in &others {
        for _ in 0..2 {
            it.map(MapRequest::file(cache.clone(), 0, 4 * PAGE, RW))
                .unwrap();
        }
    }
    let list = PageSource::mappings(&*cache).unwrap();
    assert_eq!(list.len(), 3);
    drop(others);
    assert_eq!(list.len(), 0);
}
