//! What a CPU holds charged in front of the counters, so that few pages change those.
//!
//! Locking: the caller's: a stock is its CPU's, used with interrupts off.

use super::{AccountId, Accounts, Purpose};

/// Frames that a stock takes from the counters at a time.
pub(super) const BATCH: usize = 32;
/// Frames that a stock holds at most.
pub(super) const MOST: usize = 2 * BATCH;

/// Charged frames that are in no use yet, of one account.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) of: AccountId,
    pub(super) frames: usize,
}

impl Stock {
    pub(super) const fn new() -> Self {
        Self {
            of: AccountId::ROOT,
            frames: 0,
        }
    }
}

impl Accounts {
    /// Charges an account with what a stock has of it, or else the counters, if the limits allow.
    pub(super) fn charge_from(
        &self,
        stock: &mut Stock,
        id: AccountId,
        frames: usize,
        purpose: Purpose,
    ) -> bool {
        if stock.of == id && stock.frames >= frames {
            stock.frames -= frames;
            return true;
        }
        // Its own frames among them, near the limit.
        self.drain(stock);
        // What is held back is for anything.
        if frames < BATCH && self.charge(id, BATCH, Purpose::Programs) {
            *stock = Stock {
                of: id,
                frames: BATCH - frames,
            };
            return true;
        }
        self.charge(id, frames, purpose)
    }

    /// Gives charged frames to a stock that has some of the account, or to the counters.
    pub(super) fn uncharge_to(&self, stock: &mut Stock, id: AccountId, frames: usize) {
        if stock.of != id || stock.frames == 0 {
            return self.uncharge(id, frames);
        }
        stock.frames += frames;
        if stock.frames > MOST {
            let extra = stock.frames - BATCH;
            stock.frames = BATCH;
            self.uncharge(id, extra);
        }
    }

    /// Gives all that a stock has to the counters.
    pub(super) fn drain(&self, stock: &mut Stock) {
        let frames = core::mem::take(&mut stock.frames);
        if frames > 0 {
            self.uncharge(stock.of, frames);
        }
    }
}
