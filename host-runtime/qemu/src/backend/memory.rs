//! Guest memory: QEMU's, mapped a second time from the descriptors that it sends.

use std::fs::File;
use std::sync::Arc;

use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// Guest memory as the devices share it.
pub type SharedMemory = Arc<GuestMemoryMmap<()>>;

/// Guest memory, and where QEMU has it in its own address space, which it names rings by.
#[derive(Debug)]
pub struct Mapped {
    /// As the guest addresses it.
    pub memory: SharedMemory,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    qemu: u64,
    guest: u64,
    length: u64,
}

impl Mapped {
    /// Maps these regions.
    ///
    /// # Errors
    /// When a region is no memory, reaches past its file's end or lies over another.
    pub fn new(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Self, String> {
        let mut mapped = Vec::with_capacity(regions.len());
        let mut places = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(files) {
            let start = GuestAddress(region.guest_phys_addr);
            let length = usize::try_from(region.memory_size).map_err(|error| error.to_string())?;
            // What is mapped past a file's end is no memory but a fault.
            let end = region.mmap_offset.checked_add(region.memory_size);
            let has = file.metadata().map_err(|error| error.to_string())?.len();
            if end.is_none_or(|end| end > has) {
                return Err(format!("a region reaches past the {has} bytes of its file"));
            }
            let file = FileOffset::new(file, region.mmap_offset);
            let map = GuestRegionMmap::from_range(start, length, Some(file));
            mapped.push(map.map_err(|error| error.to_string())?);
            places.push(Place {
                qemu: region.user_addr,
                guest: region.guest_phys_addr,
                length: region.memory_size,
            });
        }
        mapped.sort_by_key(vm_memory::GuestMemoryRegion::start_addr);
        let memory = GuestMemoryMmap::from_regions(mapped).map_err(|error| error.to_string())?;
        Ok(Self {
            memory: Arc::new(memory),
            places,
        })
    }

    /// The guest's address of what QEMU has at `address`.
    #[must_use]
    pub fn guest_address(&self, address: u64) -> Option<u64> {
        self.places.iter().find_map(|place| {
            let offset = address.checked_sub(place.qemu)?;
            (offset < place.length).then(|| place.guest + offset)
        })
    }
}
