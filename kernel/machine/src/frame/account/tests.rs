//! Accounts by themselves, and through stocks as CPUs have them.

use super::stock::{BATCH, MOST, Stock};
use super::{AccountId, Accounts, CLOSED, Ordering, Purpose};

fn usage(accounts: &Accounts, id: AccountId) -> usize {
    let account = accounts.get(id).expect("an account");
    account.usage.load(Ordering::Relaxed)
}

#[test]
fn parents_pay_too_and_a_refusal_leaves_nothing() {
    let accounts = Accounts::new();
    let above = accounts.open(AccountId::ROOT, 100).expect("memory");
    let below = accounts.open(above, 1000).expect("memory");
    let beside = accounts.open(AccountId::ROOT, 1000).expect("memory");
    assert!(
        accounts.charge(below, 60, Purpose::Kernel) && accounts.charge(above, 30, Purpose::Kernel)
    );
    assert_eq!((usage(&accounts, above), usage(&accounts, below)), (90, 60));
    assert!(
        !accounts.charge(below, 11, Purpose::Kernel),
        "beyond the limit above"
    );
    assert_eq!((usage(&accounts, above), usage(&accounts, below)), (90, 60));
    assert!(
        accounts.charge(beside, 500, Purpose::Kernel),
        "a neighbour's limit"
    );
    assert_eq!(accounts.short(beside, 0), None);
    assert!(accounts.charge(below, 10, Purpose::Kernel));
    assert_eq!(accounts.short(below, 0), Some(above));
    accounts.uncharge(below, 70);
    assert_eq!((usage(&accounts, above), usage(&accounts, below)), (30, 0));
    assert_eq!(accounts.short(below, 0), None);
}

#[test]
fn the_last_frames_are_for_the_kernel() {
    let accounts = Accounts::new();
    let id = accounts.open(AccountId::ROOT, 320).expect("memory");
    assert!(!accounts.charge(id, 311, Purpose::Programs));
    assert!(accounts.charge(id, 309, Purpose::Programs) && accounts.short(id, 0).is_none());
    assert!(accounts.charge(id, 1, Purpose::Programs) && accounts.short(id, 0) == Some(id));
    assert!(!accounts.charge(id, 1, Purpose::Programs));
    assert!(accounts.charge(id, 10, Purpose::Kernel) && !accounts.charge(id, 1, Purpose::Kernel));
}

#[test]
fn a_number_comes_again_when_no_frame_names_it() {
    let accounts = Accounts::new();
    let first = accounts.open(AccountId::ROOT, 10).expect("memory");
    assert!(accounts.charge(first, 3, Purpose::Kernel));
    let close = |id| {
        let account = accounts.get(id).expect("an account");
        account.state.store(CLOSED, Ordering::Release);
    };
    close(first);
    let second = accounts.open(AccountId::ROOT, 10).expect("memory");
    assert_ne!(second, first);
    accounts.uncharge(first, 3);
    let third = accounts.open(AccountId::ROOT, 20).expect("memory");
    assert_eq!((third, usage(&accounts, third)), (first, 0));
    assert!(accounts.charge(third, 20, Purpose::Kernel), "the new limit");
}

#[test]
fn stocks_hold_a_few_and_lose_none() {
    let accounts = Accounts::new();
    let ids = [200, 300].map(|limit| accounts.open(AccountId::ROOT, limit).expect("memory"));
    let mut stocks = [Stock::new(), Stock::new()];
    let mut charged = [0_usize; 2];
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut refused = 0;
    for _ in 0..20_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (cpu, of) = ((seed >> 20) as usize % 2, (seed >> 21) as usize % 2);
        let frames = 1 + (seed >> 30) as usize % 3;
        if (seed >> 40) % 100 < 55 {
            let purpose = [Purpose::Programs, Purpose::Kernel][(seed >> 50) as usize % 2];
            if accounts.charge_from(&mut stocks[cpu], ids[of], frames, purpose) {
                charged[of] += frames;
            } else {
                refused += 1;
            }
        } else if charged[of] >= frames {
            charged[of] -= frames;
            accounts.uncharge_to(&mut stocks[cpu], ids[of], frames);
        }
        for (of, id) in ids.iter().enumerate() {
            let held: usize = stocks
                .iter()
                .filter(|it| it.of == *id)
                .map(|it| it.frames)
                .sum();
            assert_eq!(usage(&accounts, *id), charged[of] + held);
            assert!(held <= 2 * MOST && charged[of] + held <= [200, 300][of]);
        }
    }
    assert!(refused > 0 && BATCH < MOST);
    for stock in &mut stocks {
        accounts.drain(stock);
    }
    assert_eq!(ids.map(|id| usage(&accounts, id)), charged);
}

#[test]
fn frames_are_charged_to_who_takes_them_and_given_back_by_anybody() {
    use super::{close, open, set_current};
    use crate::frame::Frame;
    let id = open(AccountId::ROOT, 3).expect("memory");
    set_current(id);
    let frames: Vec<_> = (0..4).filter_map(|_| Frame::alloc_zeroed().ok()).collect();
    assert_eq!((frames.len(), super::usage(id)), (3, 3));
    assert!(frames[0].duplicate().is_err(), "at the limit");
    set_current(AccountId::ROOT);
    let others = frames[0].duplicate().expect("memory");
    assert_eq!(
        (frames[0].account(), others.account()),
        (id, AccountId::ROOT)
    );
    std::thread::spawn(move || drop(frames))
        .join()
        .expect("a thread");
    assert_eq!((super::usage(id), super::peak(id)), (0, Some(3)));
    close(id);
}
