//! Address spaces: mappings, demand paging, copy-on-write; the page cache and shared memory that
//! mappings show; copies to and from user memory.
//!
//! A mapping ([`space::Area`]) is a promise; pages appear when touched ([`AddressSpace::handle_fault`]).
//! What a file or shared mapping shows comes from a [`Mapping`], the page cache of one file: over a file
//! system's [`Backing`], or in memory alone. Areas know it as a [`PageSource`].
//!
//! Lock order, outermost first: file-system locks and a mapping's write lock, an address space's area lock,
//! page lists, the machine's page-table lock. An area lock is never held while a page is
//! read in or written back.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod errors;
pub mod group;
pub mod io;
pub mod mapping;
pub mod numbers;
pub mod page_source;
pub mod pressure;
pub mod reporting;
pub mod rmap;
mod serial;
pub mod space;
pub mod user;

pub use errors::{Seen, WriteErrors};
pub use group::{Event, MemoryGroup, Notifier, OwnedGroup};
pub use mapping::{Backing, DIRTY_RATIO, Mapping, Quota, Readahead, WriteGuard};
pub use page_source::{Origin, PageSource};
pub use rmap::MappingList;
pub use space::{
    AddressSpace, AreaFlags, AreaInfo, Attach, Attachment, FaultError, Footprint, Layout, Limits,
    MapRequest, Placement, Prot, Statistics, current,
};
