//! What address spaces see of a [`Mapping`]: its pages, and who maps it.

use core::ops::Range;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use machine::Frame;

use super::pages::Found;
use super::{Mapping, PAGE, Store};
use crate::page_source::PageSource;
use crate::rmap::MappingList;
use crate::space::Prot;

impl PageSource for Mapping {
    fn page(&self, index: u64, write: bool) -> Result<Frame> {
        if index >= self.end_index() {
            return Err(Errno::EFAULT);
        }
        if !self.is_device() {
            // A hole that is looked at through a mapping gets its page now: a later write to the file must
            // show in the mapping.
            return match self.at_hand(index) {
                Some(frame) if !write => Ok(frame),
                _ => self.make(index),
            };
        }
        if write {
            self.throttle();
        }
        loop {
            let frame = self.fault_in(index)?.ok_or(Errno::EFAULT)?;
            if !write {
                return Ok(frame);
            }
            if let Found::Ready(frame) = self.pages.lock().find_for_store(index)? {
                return Ok(frame);
            }
        }
    }

    fn page_at_hand(&self, index: u64, write: bool) -> Option<Frame> {
        if index >= self.end_index() {
            return None;
        }
        let mut pages = self.pages.lock();
        let found = if write && self.is_device() {
            pages.find_for_store(index).ok()?
        } else {
            pages.find(index)
        };
        match found {
            Found::Ready(frame) => Some(frame),
            Found::Busy => None,
            Found::Absent => {
                drop(pages);
                // Boot memory is shown, never stored to.
                if write { None } else { self.at_hand(index) }
            }
        }
    }

    fn pages_at_hand(&self, first: u64, frames: &mut [Option<Frame>]) {
        Mapping::pages_at_hand(self, first, frames);
    }

    fn size_bytes(&self) -> u64 {
        Mapping::size_bytes(self)
    }

    fn tracks_stores(&self) -> bool {
        match &self.store {
            Store::Device(_) => true,
            Store::Memory { has_boot, .. } => *has_boot,
        }
    }

    fn sync(&self, first_page: u64, last_page: u64) -> Result<()> {
        let end = last_page.saturating_add(1).saturating_mul(PAGE);
        self.write_back(first_page.saturating_mul(PAGE)..end)
    }

    fn read_ahead(&self, first_page: u64, end_page: u64) {
        self.prefetch(first_page, end_page);
    }

    fn punch(&self, bytes: Range<u64>) -> Result<()> {
        if self.is_device() {
            return self.backing()?.punch(bytes);
        }
        if self.mappings.denies_writable() || self.denies_new_stores.load(Ordering::Acquire) {
            return Err(Errno::EPERM);
        }
        let _writing = self.lock_writes();
        self.punch_hole(bytes)
    }

    fn map_rights(&self, is_shared: bool, prot: Prot) -> Result<Prot> {
        let is_denied =
            self.mappings.denies_writable() || self.denies_new_stores.load(Ordering::Acquire);
        if !is_shared || !is_denied {
            return Ok(Prot::all());
        }
        if prot.contains(Prot::WRITE) {
            return Err(Errno::EPERM);
        }
        Ok(Prot::all() - Prot::WRITE)
    }

    fn mappings(&self) -> Option<&MappingList> {
        Some(&self.mappings)
    }
}
