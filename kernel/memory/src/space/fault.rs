//! Page faults: making a page appear, or writable, because somebody touched it.
//!
//! A first look under the shared area lock settles almost every fault, and threads fault side by side. What would
//! have to wait is done without the lock, and the area looked at again: a page that the source has to
//! read in, memory that has to be taken back from others, a stack that has to grow.

use alloc::sync::Arc;

use abi::Errno;
use machine::page_table::{Mapped, Mapper, Perms};
use machine::user_mode::PageFault;
use machine::{Frame, UserAddr};

use super::area::{Area, AreaFlags, Prot};
use super::placement::STACK_GUARD;
use super::{AddressSpace, Areas, LARGE_LEN, PAGE, zero_frame};
use crate::page_source::PageSource;
use crate::pressure;

/// Pages of a file that one fault makes present when they are at hand.
const AROUND: usize = 16;

/// How often a source without memory is asked again after room was made: others may have taken that.
const MOST_TRIES: usize = 64;

/// Why a fault could not be resolved, as the signal says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there: SIGSEGV, `SEGV_MAPERR`.
    MapErr,
    /// Mapped, but not for this: SIGSEGV, `SEGV_ACCERR`.
    AccErr,
    /// Beyond the end of the file or not readable: SIGBUS, `BUS_ADRERR`.
    Bus,
    /// No memory, even after shrinking: the OOM killer's business.
    OutOfMemory,
}

type Outcome<T> = Result<T, FaultError>;

/// What somebody wants to do with a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub(super) write: bool,
    pub(super) exec: bool,
    /// Writes even where user code may not (ptrace).
    pub(super) force: bool,
    /// The CPU found nothing there: spares a look.
    pub(super) is_absent: bool,
}

/// Where a fault is, found under the area lock.
struct Place<'a> {
    page: u64,
    start: u64,
    area: &'a Area,
    pages: &'a Mapper,
}

/// What the first look came to.
enum Look {
    Done,
    /// The source has to be asked for this page without the lock.
    Ask(Arc<dyn PageSource>, u64, bool),
    /// Nothing is mapped, but a stack may be extended to it.
    GrowStack,
    /// Memory is short.
    MakeRoom,
}

impl AddressSpace {
    /// Makes the access that faulted possible.
    ///
    /// # Errors
    /// Why it is not.
    pub fn handle_fault(&self, fault: &PageFault) -> Outcome<()> {
        let access = Access {
            write: fault.write,
            exec: fault.exec,
            force: false,
            is_absent: !fault.present,
        };
        self.touch(fault.addr, access)
    }

    /// Makes an access by the kernel possible, whatever is there now.
    pub(crate) fn resolve(&self, addr: UserAddr, write: bool) -> Outcome<()> {
        self.touch(
            addr,
            Access {
                write,
                exec: false,
                force: false,
                is_absent: false,
            },
        )
    }

    pub(super) fn touch(&self, addr: UserAddr, access: Access) -> Outcome<()> {
        if addr >= UserAddr::LIMIT {
            return Err(FaultError::MapErr);
        }
        let page = addr.page_base().0;
        loop {
            let look = {
                let areas = self.areas.read();
                self.look(&areas, page, access)?
            };
            if !self.go_on(look, page)? {
                return Ok(());
            }
        }
    }

    /// Calls `act` with the frame at a page that was made present for `access`, while nobody can put another one there
    /// and none is shared with a child: what is written reaches what this address shows, and nothing else.
    pub(super) fn with_page(
        &self,
        page: u64,
        access: Access,
        act: impl FnOnce(&Frame),
    ) -> Outcome<()> {
        loop {
            let look = {
                let areas = self.areas.read();
                let is_shared = (areas.tree.find(page)).is_some_and(|(_, area)| area.is_shared());
                let access = Access {
                    force: access.force && !is_shared,
                    ..access
                };
                let look = self.look(&areas, page, access)?;
                if matches!(look, Look::Done)
                    && let Some(mapped) = areas.pages.query(UserAddr(page))
                    && may_be_used(access, &mapped)
                {
                    act(&mapped.frame);
                    return Ok(());
                }
                look
            };
            self.go_on(look, page)?;
            // Another fault was faster, and made less of the page than was asked for here.
            if sched::thread::killed() {
                return Err(FaultError::OutOfMemory);
            }
            sched::cond_resched();
        }
    }

    /// Does what a look has to have done without the lock; whether to look again.
    fn go_on(&self, look: Look, page: u64) -> Outcome<bool> {
        match look {
            Look::Done => return Ok(false),
            Look::Ask(source, index, write) => ask(&*source, index, write)?,
            Look::GrowStack => self.areas.write().grow_stack(page)?,
            Look::MakeRoom => {
                pressure::make_room().map_err(|_| FaultError::OutOfMemory)?;
            }
        }
        Ok(true)
    }

    fn look(&self, areas: &Areas, page: u64, access: Access) -> Outcome<Look> {
        let Some((start, area)) = areas.tree.find(page) else {
            return Ok(Look::GrowStack);
        };
        check_access(area, access)?;
        area.note_copied(access.write && !area.is_shared());
        let pages = &areas.pages;
        let place = Place {
            page,
            start,
            area,
            pages,
        };
        // The CPU's word that nothing was there may be out of date: `fill` never replaces, and
        // the access simply faults again.
        if !access.is_absent
            && let Some(mapped) = pages.query(UserAddr(page))
        {
            return Ok(upgrade(&place, access, &mapped));
        }
        match area.source.clone() {
            None => self.appear_anonymous(&place, access),
            Some(source) => appear_from(&place, access, source),
        }
    }

    /// Nothing is there yet: a zero page.
    fn appear_anonymous(&self, place: &Place<'_>, access: Access) -> Outcome<Look> {
        if access.write {
            if self.appear_large(place) {
                return Ok(Look::Done);
            }
            let Some(frame) = pressure::try_zeroed() else {
                return Ok(Look::MakeRoom);
            };
            Ok(fill(place, frame, place.area.perms()))
        } else {
            let zero = zero_frame().map_err(|_| FaultError::OutOfMemory)?;
            Ok(fill(place, zero.clone(), place.area.perms() - Perms::WRITE))
        }
    }

    /// Maps a page of 2 MiB around the place if it lies in the area whole, nothing is there and memory is at hand.
    fn appear_large(&self, place: &Place<'_>) -> bool {
        let area = place.area;
        if area.end - place.start < LARGE_LEN {
            return false;
        }
        let start = place.page & !(LARGE_LEN - 1);
        let is_inside = place.start <= start && start + LARGE_LEN <= area.end;
        let is_refused = AreaFlags::NO_LARGE | AreaFlags::GROWS_DOWN;
        if !is_inside || area.flags.intersects(is_refused) || self.denies_large() {
            return false;
        }
        // Looked at first: 2 MiB are not zeroed for nothing.
        place.pages.is_vacant(UserAddr(start))
            && pressure::try_large(area.flags.contains(AreaFlags::LARGE)).is_some_and(|frame| {
                let filled = place.pages.fill_large(UserAddr(start), frame, area.perms());
                filled == Ok(true)
            })
    }
}

/// Nothing is there yet: a page of the source, or a private copy of it.
fn appear_from(place: &Place<'_>, access: Access, source: Arc<dyn PageSource>) -> Outcome<Look> {
    let index = place.area.page_index(place.start, place.page);
    let size = source.size_bytes();
    if index >= size.div_ceil(PAGE) {
        return Err(FaultError::Bus);
    }
    if !access.write {
        return Ok(match fill_around(place, &*source, size) {
            Some(look) => look,
            None => Look::Ask(source, index, false),
        });
    }
    let shared_write = place.area.is_shared();
    let Some(frame) = source.page_at_hand(index, shared_write) else {
        return Ok(Look::Ask(source, index, shared_write));
    };
    if shared_write {
        return Ok(fill(place, frame, place.area.perms()));
    }
    Ok(match pressure::try_copy(&frame) {
        Some(copy) => fill(place, copy, place.area.perms()),
        None => Look::MakeRoom,
    })
}

/// Maps a file page that is read, and those around it as far as they are at hand; `None` when it is not itself.
fn fill_around(place: &Place<'_>, source: &dyn PageSource, size: u64) -> Option<Look> {
    let window = place.page & !(AROUND as u64 * PAGE - 1);
    let first = window.max(place.start);
    let source_end = place
        .start
        .saturating_add(size.saturating_sub(place.area.offset));
    let end = (window + AROUND as u64 * PAGE)
        .min(place.area.end)
        .min(source_end.next_multiple_of(PAGE));
    let first_index = place.area.page_index(place.start, first);
    // Asked before the page table is locked: the source has locks of its own.
    let mut frames = [const { None }; AROUND];
    let pages = super::page_count(&(first..end)).min(AROUND);
    let present = super::page_count(&(first..place.page));
    source.pages_at_hand(first_index, &mut frames[..pages]);
    frames.get(present)?.as_ref()?;
    let perms = place.area.perms_before_store();
    Some(fill_all(
        place,
        UserAddr(first),
        &mut frames[..pages],
        perms,
    ))
}

/// Something is there, but not for this access.
fn upgrade(place: &Place<'_>, access: Access, mapped: &Mapped) -> Look {
    let area = place.area;
    let (frame, perms) = (&mapped.frame, mapped.perms);
    if !access.write {
        let wanted = area.perms();
        if perms.contains(Perms::NO_ACCESS) && !wanted.contains(Perms::NO_ACCESS) {
            set_perms(place, wanted - Perms::WRITE);
        } else if access.exec && !perms.contains(Perms::EXEC) {
            set_perms(place, perms | (wanted & Perms::EXEC));
        }
        return Look::Done;
    }
    if perms.contains(Perms::WRITE) {
        return Look::Done;
    }
    if let (true, Some(source)) = (area.is_shared(), &area.source) {
        let index = area.page_index(place.start, place.page);
        if source.tracks_stores() {
            // The source may have replaced the page that is mapped here, boot memory by a copy for instance, and
            // be about to take it out of all mappings: a store would be lost, or reach memory that nobody
            // may store to.
            let current = source.page_at_hand(index, true);
            let is_current = current.as_ref().map(Frame::phys) == Some(frame.phys());
            if current.is_some() && !is_current {
                place.pages.unmap_page(UserAddr(place.page));
            }
            if !is_current {
                return Look::Ask(source.clone(), index, true);
            }
        }
        set_perms(place, area.perms());
    } else if is_sole(mapped) {
        set_perms(place, area.perms());
    } else {
        return replace_by_copy(place, frame);
    }
    Look::Done
}

fn replace_by_copy(place: &Place<'_>, frame: &Frame) -> Look {
    let is_zero = zero_frame().is_ok_and(|zero| zero.phys() == frame.phys());
    let copy = if is_zero {
        pressure::try_zeroed()
    } else {
        pressure::try_copy(frame)
    };
    let Some(copy) = copy else {
        return Look::MakeRoom;
    };
    // Another thread may have been faster, and have stored to its copy already: then that one stays.
    place
        .pages
        .replace(UserAddr(place.page), frame, copy, place.area.perms());
    Look::Done
}

fn set_perms(place: &Place<'_>, perms: Perms) {
    place.pages.protect_page(UserAddr(place.page), perms);
}

/// Maps a page unless one is there by now.
fn fill(place: &Place<'_>, frame: Frame, perms: Perms) -> Look {
    fill_all(place, UserAddr(place.page), &mut [Some(frame)], perms)
}

/// Maps pages from an address on, where none are by now.
fn fill_all(
    place: &Place<'_>,
    start: UserAddr,
    frames: &mut [Option<Frame>],
    perms: Perms,
) -> Look {
    match place.pages.fill(start, frames, perms) {
        Ok(_) => Look::Done,
        // No frame for a table.
        Err(_) => Look::MakeRoom,
    }
}

/// Whether a page that is there is good for an access by the kernel: one that is stored to by force, which the program may
/// not do itself, has to be the program's alone.
fn may_be_used(access: Access, mapped: &Mapped) -> bool {
    !access.write || mapped.perms.contains(Perms::WRITE) || (access.force && is_sole(mapped))
}

/// Whether nobody else has a page that was just asked for: that is one handle, the table's the other.
fn is_sole(mapped: &Mapped) -> bool {
    mapped.frame.handles() <= 2 && mapped.large.unwrap_or(0) == 0
}

/// Has a source bring a page in. It is at hand then, unless it is taken away again; only under the area lock can nobody
/// do that.
fn ask(source: &dyn PageSource, index: u64, write: bool) -> Outcome<()> {
    for _ in 0..MOST_TRIES {
        match source.page(index, write) {
            Ok(_) => return Ok(()),
            // The source takes back what it can, but nobody dies for it.
            Err(Errno::ENOMEM) => pressure::make_room().map_err(|_| FaultError::OutOfMemory)?,
            Err(_) => return Err(FaultError::Bus),
        }
    }
    Err(FaultError::OutOfMemory)
}

fn check_access(area: &Area, access: Access) -> Outcome<()> {
    let allowed = if access.force {
        !area.is_shared() && (!access.write || area.max_prot.contains(Prot::WRITE))
    } else if access.exec {
        area.prot.contains(Prot::EXEC)
    } else if access.write {
        area.prot.contains(Prot::WRITE)
    } else {
        !area.prot.is_empty()
    };
    if allowed {
        Ok(())
    } else {
        Err(FaultError::AccErr)
    }
}

impl Areas {
    /// Extends a stack down to `page`, if one is right above and may grow.
    fn grow_stack(&mut self, page: u64) -> Outcome<()> {
        if self.tree.find(page).is_some() {
            // Another thread was here in between.
            return Ok(());
        }
        let (start, area) = self.tree.next_above(page).ok_or(FaultError::MapErr)?;
        if !area.flags.contains(AreaFlags::GROWS_DOWN) || area.end - page > self.limits.stack {
            return Err(FaultError::MapErr);
        }
        if let Some((_, below)) = self.tree.last_below(page)
            && !below.prot.is_empty()
            && below.end.saturating_add(STACK_GUARD) > page
            && !below.flags.contains(AreaFlags::GROWS_DOWN)
        {
            return Err(FaultError::MapErr);
        }
        if self.tree.total() + (start - page) > self.limits.address_space {
            return Err(FaultError::MapErr);
        }
        self.tree.grow_down(start, page);
        self.peak = self.peak.max(self.tree.total());
        Ok(())
    }
}
