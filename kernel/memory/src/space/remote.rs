//! Memory of an address space that need not be the calling thread's: exec, ptrace, /proc/PID/mem, futexes.

use machine::{Frame, PAGE_SIZE, UserAddr};

use super::AddressSpace;
use super::fault::Access;

impl AddressSpace {
    /// Reads memory; `force` reads what its owner may not, as ptrace does. Returns how much could be read.
    pub fn read_at(&self, from: UserAddr, to: &mut [u8], force: bool) -> usize {
        let access = Access {
            write: false,
            exec: false,
            force,
            is_absent: false,
        };
        self.by_pages(from, to.len(), access, |frame, offset, done, len| {
            frame.read(offset, &mut to[done..done + len]);
        })
    }

    /// Writes memory; `force` writes into private mappings that are not writable, as ptrace does.
    /// Returns how much was written.
    pub fn write_at(&self, to: UserAddr, from: &[u8], force: bool) -> usize {
        let access = Access {
            write: true,
            exec: false,
            force,
            is_absent: false,
        };
        self.by_pages(to, from.len(), access, |frame, offset, done, len| {
            frame.write(offset, &from[done..done + len]);
        })
    }

    fn by_pages(
        &self,
        at: UserAddr,
        len: usize,
        access: Access,
        mut act: impl FnMut(&Frame, usize, usize, usize),
    ) -> usize {
        let mut done = 0;
        while done < len {
            let Some(here) = at.checked_add(done as u64) else {
                break;
            };
            let part = (PAGE_SIZE - here.page_offset()).min(len - done);
            let touched = here < UserAddr::LIMIT
                && (self.with_page(here.page_base().0, access, |frame| {
                    act(frame, here.page_offset(), done, part);
                }))
                .is_ok();
            if !touched {
                break;
            }
            done += part;
        }
        done
    }

    /// The frame that `addr` shows, made present; `None` where there is nothing, or not for `write`. It may be taken
    /// away at any time: to be looked at, not to be used.
    #[must_use]
    pub fn frame_at(&self, addr: UserAddr, write: bool) -> Option<Frame> {
        let access = Access {
            write,
            exec: false,
            force: false,
            is_absent: false,
        };
        if addr >= UserAddr::LIMIT {
            return None;
        }
        let mut found = None;
        self.with_page(addr.page_base().0, access, |frame| {
            found = Some(frame.clone());
        })
        .ok()?;
        found
    }

    /// What names the byte at `addr` for everyone who maps it: the source and the offset in it. `None`
    /// where the mapping is private or missing. A source is named by its serial number: who waits at a key may do so for
    /// longer than the source lives, and then another one has its address.
    #[must_use]
    pub fn shared_key(&self, addr: UserAddr) -> Option<(u64, u64)> {
        let areas = self.areas.read();
        let (start, area) = areas.tree.find(addr.0)?;
        let source = area.source.as_ref().filter(|_| area.is_shared())?;
        let serial = source.mappings()?.serial();
        Some((serial, area.offset + (addr.0 - start)))
    }
}
