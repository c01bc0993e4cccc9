//! Charging on the machine: the running task's account, through the CPU's stock.

use core::cell::UnsafeCell;

use super::stock::Stock;
use super::{ACCOUNTS, AccountId, Purpose};
use crate::frame::{OutOfMemory, refusal};
use crate::interrupt::InterruptsOff;
use crate::x86::percpu;

/// A CPU's stock of charged frames.
#[derive(Debug)]
pub(crate) struct Stocks(UnsafeCell<Stock>);

impl Stocks {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Stock::new()))
    }
}

/// Calls `with` with this CPU's stock.
fn with_stock<R>(with: impl FnOnce(&mut Stock) -> R) -> R {
    let _off = InterruptsOff::new();
    let stock = percpu::here().charged.0.get();
    // SAFETY: the stock is this CPU's, interrupts are off, and `with` (in this file) does not come back here.
    with(unsafe { &mut *stock })
}

/// What an interrupt handler allocates is charged to the task that it interrupted: they allocate next to nothing.
#[inline]
pub(super) fn current() -> AccountId {
    // SAFETY: a counted reference, which lasts while the task runs; null before there are tasks.
    let task = unsafe { percpu::here().current.get().as_ref() };
    task.map_or(AccountId::ROOT, crate::task::Task::account)
}

/// Charges the running task's account, and tells which that is. `None` when it is at its limit, or one above it.
#[inline]
pub(in crate::frame) fn charge_current(frames: usize, purpose: Purpose) -> Option<AccountId> {
    let payer = current();
    if payer == AccountId::ROOT {
        return Some(payer);
    }
    charge(payer, frames, purpose)
}

#[cold]
#[inline(never)]
fn charge(payer: AccountId, frames: usize, purpose: Purpose) -> Option<AccountId> {
    with_stock(|stock| ACCOUNTS.charge_from(stock, payer, frames, purpose)).then_some(payer)
}

/// Gives charged frames back.
#[inline]
pub(in crate::frame) fn uncharge(payer: AccountId, frames: usize) {
    if payer != AccountId::ROOT {
        give_back(payer, frames);
    }
}

#[cold]
#[inline(never)]
fn give_back(payer: AccountId, frames: usize) {
    with_stock(|stock| ACCOUNTS.uncharge_to(stock, payer, frames));
}

/// Whether the running task's account leaves programs another page.
pub(super) fn current_has_room() -> bool {
    let payer = current();
    with_stock(|stock| stock.of == payer && stock.frames > 0) || ACCOUNTS.short(payer, 0).is_none()
}

/// Gives back what this CPU holds charged.
pub(crate) fn drain_stock() {
    with_stock(|stock| ACCOUNTS.drain(stock));
}

/// Frames charged to the task that is charged when this is made, until it is dropped: for what does not say so in
/// the frames.
#[derive(Debug)]
pub(crate) struct Charge {
    payer: AccountId,
    frames: usize,
}

impl Charge {
    /// Charges the running task's account.
    ///
    /// # Errors
    /// [`OutOfMemory`] when it is at its limit.
    pub(crate) fn new(frames: usize) -> Result<Self, OutOfMemory> {
        let Some(payer) = charge_current(frames, Purpose::Kernel) else {
            refusal::note(frames);
            return Err(OutOfMemory);
        };
        Ok(Self { payer, frames })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        uncharge(self.payer, self.frames);
    }
}
