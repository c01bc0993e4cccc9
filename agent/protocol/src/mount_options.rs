//! The option words of a mount, as mount(8) has them, sorted by who understands them.
//!
//! The agent reads the words of a container's mounts, the host those of its root file system: one reading for both.

use rustix::mount::MountFlags;

/// Mount options, sorted.
#[derive(Debug, PartialEq, Eq)]
pub struct MountOptions<'a> {
    /// What mount(2) takes as flags.
    pub flags: MountFlags,
    /// Whether something is mounted that is mounted already.
    pub bind: bool,
    /// With [`bind`](Self::bind): whether what is mounted beneath comes along.
    pub recursive: bool,
    /// For the file system itself, in order.
    pub data: Vec<&'a str>,
}

impl<'a> MountOptions<'a> {
    /// Sorts the words; of two that contradict each other the last one counts.
    ///
    /// # Errors
    /// The word that asks for what no mount here can be: one that takes part in propagation, or an old one anew.
    pub fn sort(words: &'a [String]) -> Result<Self, &'a str> {
        let mut sorted = Self {
            flags: MountFlags::empty(),
            bind: false,
            recursive: false,
            data: Vec::new(),
        };
        for word in words {
            match word.as_str() {
                // What a mount is anyhow that no other namespace sees.
                "defaults" | "private" | "rprivate" => {}
                "rw" => sorted.flags -= MountFlags::RDONLY,
                "suid" => sorted.flags -= MountFlags::NOSUID,
                "dev" => sorted.flags -= MountFlags::NODEV,
                "exec" => sorted.flags -= MountFlags::NOEXEC,
                "bind" => sorted.bind = true,
                "rbind" => (sorted.bind, sorted.recursive) = (true, true),
                "ro" => sorted.flags |= MountFlags::RDONLY,
                "nosuid" => sorted.flags |= MountFlags::NOSUID,
                "nodev" => sorted.flags |= MountFlags::NODEV,
                "noexec" => sorted.flags |= MountFlags::NOEXEC,
                "relatime" => sorted.flags |= MountFlags::RELATIME,
                "noatime" => sorted.flags |= MountFlags::NOATIME,
                "nodiratime" => sorted.flags |= MountFlags::NODIRATIME,
                "strictatime" => sorted.flags |= MountFlags::STRICTATIME,
                "sync" => sorted.flags |= MountFlags::SYNCHRONOUS,
                "dirsync" => sorted.flags |= MountFlags::DIRSYNC,
                "remount" | "shared" | "slave" | "rshared" | "rslave" | "unbindable"
                | "runbindable" => return Err(word),
                other => sorted.data.push(other),
            }
        }
        Ok(sorted)
    }
}

#[cfg(test)]
mod tests {
    use super::{MountFlags, MountOptions};

    #[test]
    fn each_word_is_its_flag_and_its_opposite_takes_it_back() {
        let flags = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            let sorted = MountOptions::sort(&words).expect("known words");
            assert!(sorted.data.is_empty(), "{words:?}");
            sorted.flags
        };
        for (word, flag) in [
            ("ro", MountFlags::RDONLY),
            ("nosuid", MountFlags::NOSUID),
            ("nodev", MountFlags::NODEV),
            ("noexec", MountFlags::NOEXEC),
            ("relatime", MountFlags::RELATIME),
            ("noatime", MountFlags::NOATIME),
            ("nodiratime", MountFlags::NODIRATIME),
            ("strictatime", MountFlags::STRICTATIME),
            ("sync", MountFlags::SYNCHRONOUS),
            ("dirsync", MountFlags::DIRSYNC),
        ] {
            assert_eq!(flags(&[word]), flag, "{word}");
        }
        for (word, opposite) in [
            ("ro", "rw"),
            ("nosuid", "suid"),
            ("nodev", "dev"),
            ("noexec", "exec"),
        ] {
            assert_eq!(flags(&[word, opposite]), MountFlags::empty(), "{opposite}");
        }
    }

    #[test]
    fn flags_are_sorted_from_data_and_the_last_word_of_a_pair_counts() {
        let words = ["ro", "nosuid", "workdir=/w", "lowerdir=/a:/b"].map(str::to_owned);
        let options = MountOptions::sort(&words).expect("known words");
        assert_eq!(options.flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(options.data, ["workdir=/w", "lowerdir=/a:/b"]);
        assert!(!options.bind);
        let words = ["rbind", "ro", "noexec", "nodev", "dev", "rw"].map(str::to_owned);
        let options = MountOptions::sort(&words).expect("known words");
        assert_eq!(options.flags, MountFlags::NOEXEC);
        assert!(options.bind && options.recursive);
        assert_eq!(MountOptions::sort(&["rslave".to_owned()]), Err("rslave"));
    }
}
