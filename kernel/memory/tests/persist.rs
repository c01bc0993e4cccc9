//! System calls that find no memory, as `pressure::persist` makes them again. A test of its own: it names who decides over
//! deaths, which is done once in a process.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use abi::{Errno, Result};
use machine::Frame;
use machine::frame::{account, refusal};
use nacre_memory::pressure::{self, Need, Policy, Verdict};
use nacre_memory::{Event, Mapping, MemoryGroup, OwnedGroup, PageSource};

const PAGE: u64 = machine::PAGE_SIZE as u64;

/// What is freed by a death.
static VICTIM: Mutex<Option<Arc<Mapping>>> = Mutex::new(None);
static DEATHS: AtomicUsize = AtomicUsize::new(0);

fn kill(_: MemoryGroup, need: Need) -> Verdict {
    assert_eq!(need, Need::Call);
    let Some(victim) = VICTIM.lock().expect("nobody has panicked").take() else {
        return Verdict::GiveUp;
    };
    drop(victim);
    DEATHS.fetch_add(1, Ordering::Relaxed);
    Verdict::Wait
}

fn deaths() -> usize {
    DEATHS.swap(0, Ordering::Relaxed)
}

/// Shared memory of so many pages, all there.
fn memory(pages: u64) -> Result<Arc<Mapping>> {
    let mapping = Mapping::in_memory(None, pages * PAGE)?;
    store(&mapping, pages)?;
    Ok(mapping)
}

fn store(mapping: &Mapping, pages: u64) -> Result<()> {
    (0..pages).try_for_each(|index| mapping.page(index, true).map(drop))
}

/// Objects of so many frames, all of them or none.
fn objects(frames: usize) -> Result<()> {
    let all: std::result::Result<Vec<_>, _> = (0..frames).map(|_| Frame::alloc_zeroed()).collect();
    all.map(drop).map_err(|_| Errno::ENOMEM)
}

#[test]
fn calls_wait_for_room_and_only_for_that() {
    pressure::set_policy(Policy {
        kill,
        may_use_reserve: || false,
    });
    let group = OwnedGroup::new(None, 2000).unwrap();
    account::set_current(group.group().account());
    let kept = memory(1000).unwrap();

    // What a write to tmpfs needs at the limit.
    *VICTIM.lock().unwrap() = Some(memory(900).unwrap());
    let mine = Mapping::in_memory(None, 1000 * PAGE).unwrap();
    assert_eq!(store(&mine, 500), Err(Errno::ENOMEM));
    assert_eq!(pressure::persist(|| store(&mine, 500)), Ok(()));
    assert_eq!(deaths(), 1);
    drop(mine);

    // Many small objects that all go as the call fails: what there was is not enough.
    *VICTIM.lock().unwrap() = Some(memory(600).unwrap());
    let attempts = Cell::new(0);
    let call = || {
        attempts.set(attempts.get() + 1);
        objects(700)
    };
    assert_eq!(pressure::persist(call), Ok(()));
    assert_eq!(deaths(), 1);
    assert!((2..8).contains(&attempts.get()), "{attempts:?}");

    // Nobody is left to die: the call fails.
    assert_eq!(pressure::persist(|| objects(1500)), Err(Errno::ENOMEM));
    assert!(group.group().events(Event::Oom, false) > 0);

    // A large object is worth no death.
    *VICTIM.lock().unwrap() = Some(memory(900).unwrap());
    let large = || {
        refusal::note(300);
        Err::<(), _>(Errno::ENOMEM)
    };
    assert_eq!(pressure::persist(large), Err(Errno::ENOMEM));
    assert_eq!(deaths(), 0);

    // A limit is no want of memory.
    let attempts = Cell::new(0);
    let limited = || {
        attempts.set(attempts.get() + 1);
        Err::<(), _>(Errno::ENOMEM)
    };
    assert_eq!(pressure::persist(limited), Err(Errno::ENOMEM));
    assert_eq!((attempts.get(), deaths()), (1, 0));
    drop(kept);
}
