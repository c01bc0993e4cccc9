//! Accounts that frames are charged to when they are allocated: memory cgroups as the allocator knows them.
//!
//! An [`AccountId`] stands in each frame's metadata, so whoever frees the frame gives it back to the account that paid.
//! The root's account is the allocator's own figures: what the root pays costs nothing to charge. Any other account
//! has a usage, a limit and a parent that is charged too. Each CPU holds a few charged frames in front of the
//! counters (`stock`), as it holds free frames in front of the zone.
//!
//! An account that is closed stays as long as frames name it, and its number is given out again only after that.
//!
//! Locking: none but for opening; counters are atomics, a stock is its CPU's with interrupts off.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only tested on the host")
)]
mod stock;
mod table;

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::OutOfMemory;
use crate::sync::SpinLock;

#[cfg(target_os = "none")]
pub(crate) use bare::{Charge, Stocks, drain_stock};
#[cfg(target_os = "none")]
pub(super) use bare::{charge_current, uncharge};
#[cfg(not(target_os = "none"))]
pub use host::set_current;
#[cfg(not(target_os = "none"))]
pub(super) use host::{charge_current, uncharge};
pub use table::{MOST, Table};

/// The number of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountId(u32);

impl AccountId {
    /// The machine's: what no other account pays for.
    pub const ROOT: AccountId = AccountId(0);

    /// The number, below [`MOST`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn to_raw(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }
}

/// What is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Pages, and the tables that show them: the last frames below a limit are not for them.
    Programs,
    /// The kernel's own objects, which a program may need to get on, or to end.
    #[cfg_attr(
        not(target_os = "none"),
        allow(dead_code, reason = "only tested on the host")
    )]
    Kernel,
}

/// [`Account::state`]: nobody's.
const UNUSED: u32 = 0;
/// Somebody's.
const OPEN: u32 = 1;
/// Nobody charges it any more, but frames may name it.
const CLOSED: u32 = 2;

/// The figures of an account, in frames.
#[derive(Debug)]
struct Account {
    state: AtomicU32,
    parent: AtomicU32,
    usage: AtomicUsize,
    peak: AtomicUsize,
    limit: AtomicUsize,
}

impl Account {
    const fn new() -> Self {
        Self {
            state: AtomicU32::new(UNUSED),
            parent: AtomicU32::new(0),
            usage: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
        }
    }

    /// Whether it is nobody's, and no frame names it.
    fn is_free(&self) -> bool {
        match self.state.load(Ordering::Relaxed) {
            UNUSED => true,
            CLOSED => self.usage.load(Ordering::Acquire) == 0,
            _ => false,
        }
    }

    fn start(&self, parent: AccountId, limit: usize) {
        self.parent.store(parent.0, Ordering::Relaxed);
        self.peak.store(0, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        self.state.store(OPEN, Ordering::Release);
    }

    fn parent(&self) -> AccountId {
        AccountId(self.parent.load(Ordering::Relaxed))
    }

    /// The most that can be charged for such a use.
    fn limit_for(&self, purpose: Purpose) -> usize {
        let limit = self.limit.load(Ordering::Relaxed);
        match purpose {
            Purpose::Programs => limit - (limit / 32).min(64),
            Purpose::Kernel => limit,
        }
    }

    /// Charges this account alone, if the limit allows.
    fn charge(&self, frames: usize, purpose: Purpose) -> bool {
        let usage = self.usage.fetch_add(frames, Ordering::Relaxed) + frames;
        if usage > self.limit_for(purpose) {
            self.usage.fetch_sub(frames, Ordering::Relaxed);
            return false;
        }
        if usage > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(usage, Ordering::Relaxed);
        }
        true
    }

    /// Whether a program may have another page and `more` beside it.
    fn has_room(&self, more: usize) -> bool {
        self.usage.load(Ordering::Relaxed).saturating_add(more) < self.limit_for(Purpose::Programs)
    }
}

/// All accounts but the root's.
struct Accounts {
    all: Table<Account>,
    opening: SpinLock<()>,
}

static ACCOUNTS: Accounts = Accounts::new();

impl Accounts {
    const fn new() -> Self {
        Self {
            all: Table::new(Account::new),
            opening: SpinLock::new(()),
        }
    }

    fn get(&self, id: AccountId) -> Option<&'static Account> {
        if id == AccountId::ROOT {
            return None;
        }
        self.all.get(id.index())
    }

    fn open(&self, parent: AccountId, limit: usize) -> Result<AccountId, OutOfMemory> {
        loop {
            let made = {
                let _opening = self.opening.lock();
                let mut made = 1;
                while let Some(account) = self.all.get(made) {
                    if account.is_free() {
                        account.start(parent, limit);
                        return u32::try_from(made).map(AccountId).map_err(|_| OutOfMemory);
                    }
                    made += 1;
                }
                made
            };
            // Without the lock: it allocates.
            self.all.make(made)?;
        }
    }

    /// Charges an account and those above it, or none of them.
    fn charge(&self, id: AccountId, frames: usize, purpose: Purpose) -> bool {
        let mut at = id;
        while let Some(account) = self.get(at) {
            if !account.charge(frames, purpose) {
                self.uncharge_below(id, at, frames);
                return false;
            }
            at = account.parent();
        }
        true
    }

    fn uncharge(&self, id: AccountId, frames: usize) {
        self.uncharge_below(id, AccountId::ROOT, frames);
    }

    fn uncharge_below(&self, id: AccountId, end: AccountId, frames: usize) {
        let mut at = id;
        while at != end
            && let Some(account) = self.get(at)
        {
            // Read first: with its last frame a closed account may become another one.
            at = account.parent();
            account.usage.fetch_sub(frames, Ordering::Release);
        }
    }

    fn short(&self, id: AccountId, more: usize) -> Option<AccountId> {
        let mut at = id;
        while let Some(account) = self.get(at) {
            if !account.has_room(more) {
                return Some(at);
            }
            at = account.parent();
        }
        None
    }
}

/// The account that what is allocated here is charged to: that of the running task.
#[must_use]
pub fn current() -> AccountId {
    #[cfg(target_os = "none")]
    return bare::current();
    #[cfg(not(target_os = "none"))]
    host::current()
}

/// Opens an account below `parent`, of at most `limit` frames.
///
/// # Errors
/// [`OutOfMemory`], also when there are [`MOST`] already.
pub fn open(parent: AccountId, limit: usize) -> Result<AccountId, OutOfMemory> {
    ACCOUNTS.open(parent, limit)
}

/// Closes an account: no task charges it any more, and none below it is open.
pub fn close(id: AccountId) {
    if let Some(account) = ACCOUNTS.get(id) {
        account.state.store(CLOSED, Ordering::Release);
    }
}

/// The account above.
#[must_use]
pub fn parent(id: AccountId) -> Option<AccountId> {
    ACCOUNTS.get(id).map(Account::parent)
}

/// Frames charged, those among them that CPUs hold for the next ones; for the root all that are in use.
#[must_use]
pub fn usage(id: AccountId) -> usize {
    match ACCOUNTS.get(id) {
        Some(account) => account.usage.load(Ordering::Relaxed),
        None => super::in_use(),
    }
}

/// The most frames that were ever charged; not known of the root.
#[must_use]
pub fn peak(id: AccountId) -> Option<usize> {
    let account = ACCOUNTS.get(id)?;
    Some(account.peak.load(Ordering::Relaxed))
}

/// The most frames that may be charged.
#[must_use]
#[inline]
pub fn limit(id: AccountId) -> usize {
    match ACCOUNTS.get(id) {
        Some(account) => account.limit.load(Ordering::Relaxed),
        None => super::limit(),
    }
}

/// Sets that. What is charged already stays charged.
pub fn set_limit(id: AccountId, frames: usize) {
    match ACCOUNTS.get(id) {
        Some(account) => account.limit.store(frames, Ordering::Relaxed),
        None => super::set_limit(frames),
    }
}

/// Which account, this one or one above it, leaves programs no further page, or not `more` beside it.
#[must_use]
pub fn short(id: AccountId, more: usize) -> Option<AccountId> {
    ACCOUNTS.short(id, more)
}

/// Whether what is charged here leaves programs another page, what this CPU holds for it included.
#[must_use]
pub fn current_has_room() -> bool {
    #[cfg(target_os = "none")]
    return bare::current_has_room();
    #[cfg(not(target_os = "none"))]
    ACCOUNTS.short(host::current(), 0).is_none()
}

/// Whether an account by itself leaves programs another page and `more` beside it; the root's always.
#[must_use]
pub fn has_room(id: AccountId, more: usize) -> bool {
    ACCOUNTS
        .get(id)
        .is_none_or(|account| account.has_room(more))
}

/// The accounts that frames may name, the root's first.
pub fn all() -> impl Iterator<Item = AccountId> {
    let is_used = |id: &AccountId| {
        let state = ACCOUNTS
            .get(*id)
            .map(|account| account.state.load(Ordering::Acquire));
        state.is_none_or(|state| state != UNUSED)
    };
    (0..)
        .map(AccountId)
        .take_while(|id| *id == AccountId::ROOT || ACCOUNTS.get(*id).is_some())
        .filter(is_used)
}

#[cfg(test)]
mod tests;
