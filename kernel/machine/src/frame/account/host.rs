//! Charging on the host: each host thread has an account, and nothing is held back.

use core::cell::Cell;

use super::{ACCOUNTS, AccountId, Purpose};

std::thread_local! {
    static CURRENT: Cell<AccountId> = const { Cell::new(AccountId::ROOT) };
}

/// Charges what the calling host thread allocates to an account from now on.
pub fn set_current(id: AccountId) {
    CURRENT.set(id);
}

pub(super) fn current() -> AccountId {
    // A thread that ends has no account any more.
    CURRENT.try_with(Cell::get).unwrap_or(AccountId::ROOT)
}

pub(in crate::frame) fn charge_current(frames: usize, purpose: Purpose) -> Option<AccountId> {
    let payer = current();
    ACCOUNTS.charge(payer, frames, purpose).then_some(payer)
}

pub(in crate::frame) fn uncharge(payer: AccountId, frames: usize) {
    ACCOUNTS.uncharge(payer, frames);
}
