//! Address spaces: mappings, demand paging, copy-on-write; the page cache and shared memory that
//! mappings show; copies to and from user memory.
//!
//! A mapping ([`space::Area`]) is a promise; pages appear when touched ([`AddressSpace::handle_fault`]).
//! What a file or shared mapping shows comes from a [`PageSource`]: a [`PageCache`] over a file
//! system's [`Backing`], a [`Shm`], or boot memory mapped in place.
//!
//! Lock order, outermost first: file-system locks, an address space's area lock, page-cache and
//! shared-memory locks, the machine's page-table lock. An area lock is never held while a page is
//! read in or written back.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod by_pages;
pub mod io;
pub mod page_cache;
pub mod page_source;
pub mod pressure;
pub mod shm;
pub mod space;
pub mod user;

pub use page_cache::{Backing, PageCache};
pub use page_source::{MappingList, Origin, PageSource};
pub use shm::Shm;
pub use space::{
    AddressSpace, AreaFlags, AreaInfo, FaultError, Layout, Limits, MapRequest, Placement, Prot,
    Statistics, current,
};
