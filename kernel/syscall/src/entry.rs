//! [`Entry`]: one system call as its family lists it. [`table`](crate::table) has them all, and so is above the families.

use abi::Result;

use crate::context::Context;

/// Acts on one system call. The value goes to the result register as it is.
pub(crate) type Handler = fn(&mut Context<'_>) -> Result<u64>;

/// One system call.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its number on x86-64.
    pub number: u16,
    /// Its name in Linux's table.
    pub name: &'static str,
    /// What acts on it.
    pub handler: Handler,
}

impl Entry {
    /// A row of a family's list.
    #[must_use]
    pub const fn new(number: u16, name: &'static str, handler: Handler) -> Self {
        Self {
            number,
            name,
            handler,
        }
    }
}
