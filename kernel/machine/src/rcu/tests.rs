//! The epochs on real threads.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::epochs::Epochs;
use super::new_epochs;

#[test]
fn a_cpu_is_late_until_it_passes_and_never_while_idle() {
    let epochs = new_epochs::<2>();
    epochs.leave_idle(0);
    let first = epochs.advance();
    assert!(epochs.is_late(0, first));
    assert!(!epochs.is_late(1, first), "CPU 1 is idle");
    epochs.pass(0);
    assert!(!epochs.is_late(0, first));
    let second = epochs.advance();
    assert!(epochs.is_late(0, second) && !epochs.is_late(0, first));
    epochs.enter_idle(0);
    assert!(!epochs.is_late(0, second));
    epochs.leave_idle(0);
    assert!(!epochs.is_late(0, second));
    assert!(epochs.is_late(0, epochs.advance()));
}

/// Two readers that go idle and come back at random look at one of two slots; the writer reuses a slot
/// only after a grace period. A reader must never see its slot change under it.
#[test]
fn nothing_is_reused_while_it_is_read() {
    static EPOCHS: Epochs<2> = new_epochs();
    static CURRENT: AtomicU64 = AtomicU64::new(0);
    static SLOTS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    static STOP: AtomicBool = AtomicBool::new(false);
    static ROUNDS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    let readers: Vec<_> = (0..2)
        .map(|cpu| {
            std::thread::spawn(move || {
                while !STOP.load(Ordering::Relaxed) {
                    EPOCHS.leave_idle(cpu);
                    for _ in 0..3 {
                        let slot = &SLOTS[CURRENT.load(Ordering::Acquire) as usize];
                        let before = slot.load(Ordering::Relaxed);
                        core::hint::spin_loop();
                        assert_eq!(slot.load(Ordering::Relaxed), before, "reused while read");
                        EPOCHS.pass(cpu);
                    }
                    EPOCHS.enter_idle(cpu);
                    ROUNDS[cpu].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut round = 0_u64;
    while round < 5000
        || ROUNDS
            .iter()
            .any(|rounds| rounds.load(Ordering::Relaxed) < 100)
    {
        round += 1;
        let next = round % 2;
        // Nobody reads this slot: the grace period of the last round is over.
        SLOTS[next as usize].store(round, Ordering::Relaxed);
        CURRENT.swap(next, Ordering::SeqCst);
        let epoch = EPOCHS.advance();
        while (0..2).any(|cpu| EPOCHS.is_late(cpu, epoch)) {
            std::thread::yield_now();
        }
    }
    STOP.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("no reader saw a change");
    }
}
