//! The file of a mapping, as /proc/PID/maps names it.

use abi::Result;
use alloc::sync::Arc;
use collections::Vec;

use fs::File;
use memory::Origin;

struct Mapped(Arc<File>);

impl Origin for Mapped {
    fn path(&self) -> Result<Vec<u8>> {
        match self
            .0
            .path()
            .and_then(|path| Some((path, path.mount.namespace()?.root().ok()?)))
        {
            Some((path, root)) => path.display(&root),
            None => {
                let name = self.0.inode()?.anonymous_name()?;
                Ok(name.unwrap_or_default().into_bytes())
            }
        }
    }

    fn identity(&self) -> ((u32, u32), u64) {
        let device = fs::DeviceId::decode(self.0.device());
        let ino = self.0.metadata().map_or(0, |meta| meta.ino);
        ((device.major, device.minor), ino)
    }
}

/// What a mapping of `file` remembers of it.
#[must_use]
pub fn of(file: &Arc<File>) -> Option<Arc<dyn Origin>> {
    // Without memory for it the mapping has no name.
    let origin = collections::try_arc(Mapped(file.clone())).ok()?;
    Some(origin)
}
