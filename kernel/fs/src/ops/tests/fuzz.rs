//! A deterministic storm of operations on the VFS and on a plain model of a tree; both must agree
//! on every result. And walks of random paths, which must never panic.

use std::collections::BTreeMap;

use super::*;

/// A small generator: the same storm every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn path(&mut self) -> String {
        let names = ["a", "b", "c"];
        let depth = 1 + self.below(3);
        let parts: Vec<&str> = (0..depth).map(|_| names[self.below(names.len())]).collect();
        parts.join("/")
    }
}

/// Every path there is: a directory, or a file with contents.
#[derive(Default)]
struct Model(BTreeMap<String, Option<Vec<u8>>>);

impl Model {
    fn kind(&self, path: &str) -> Option<bool> {
        self.0.get(path).map(Option::is_none)
    }

    /// What keeps a walk from reaching the directory of `path`.
    fn check_parent(&self, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            match self.kind(&path[..at]) {
                Some(true) => {}
                Some(false) => return Err(Errno::ENOTDIR),
                None => return Err(Errno::ENOENT),
            }
        }
        Ok(())
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.0.keys().any(|known| known.starts_with(&prefix))
    }

    fn mkdir(&mut self, path: &str) -> Result<()> {
        self.check_parent(path)?;
        if self.kind(path).is_some() {
            return Err(Errno::EEXIST);
        }
        self.0.insert(path.into(), None);
        Ok(())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.check_parent(path)?;
        if self.kind(path) == Some(true) {
            return Err(Errno::EISDIR);
        }
        self.0.insert(path.into(), Some(bytes.into()));
        Ok(())
    }

    fn unlink(&mut self, path: &str) -> Result<()> {
        self.check_parent(path)?;
        match self.kind(path) {
            None => Err(Errno::ENOENT),
            Some(true) => Err(Errno::EISDIR),
            Some(false) => {
                self.0.remove(path);
                Ok(())
            }
        }
    }

    fn rmdir(&mut self, path: &str) -> Result<()> {
        self.check_parent(path)?;
        match self.kind(path) {
            None => Err(Errno::ENOENT),
            Some(false) => Err(Errno::ENOTDIR),
            Some(true) if self.has_children(path) => Err(Errno::ENOTEMPTY),
            Some(true) => {
                self.0.remove(path);
                Ok(())
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.check_parent(from)?;
        self.check_parent(to)?;
        let from_is_dir = self.kind(from).ok_or(Errno::ENOENT)?;
        if from == to {
            return Ok(());
        }
        if to.starts_with(&format!("{from}/")) {
            return Err(Errno::EINVAL);
        }
        if from.starts_with(&format!("{to}/")) {
            return Err(Errno::ENOTEMPTY);
        }
        match self.kind(to) {
            Some(true) if !from_is_dir => return Err(Errno::EISDIR),
            Some(false) if from_is_dir => return Err(Errno::ENOTDIR),
            Some(true) if self.has_children(to) => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.0.remove(to);
        let prefix = format!("{from}/");
        let moved: Vec<String> = self
            .0
            .keys()
            .filter(|known| *known == from || known.starts_with(&prefix))
            .cloned()
            .collect();
        for old in moved {
            let value = self.0.remove(&old).unwrap();
            self.0.insert(format!("{to}{}", &old[from.len()..]), value);
        }
        Ok(())
    }
}

fn try_write(world: &World, path: &str, bytes: &[u8]) -> Result<()> {
    let file = world.open(
        path,
        OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::TRUNC,
    )?;
    file.write(&mut IoReader::kernel(bytes)).map(drop)
}

fn tree(world: &World, directory: &str, all: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for name in world.names(if directory.is_empty() { "/" } else { directory }) {
        let path = if directory.is_empty() {
            name
        } else {
            format!("{directory}/{name}")
        };
        if world.find(&path).unwrap().dentry.is_directory() {
            all.insert(path.clone(), None);
            tree(world, &path, all);
        } else {
            all.insert(path.clone(), Some(world.read(&path).unwrap()));
        }
    }
}

#[test]
fn the_vfs_agrees_with_a_model_of_it() {
    let (world, mut model, mut random) = (World::new(), Model::default(), Random(42));
    for step in 0..20_000 {
        let path = random.path();
        let (expected, got) = match random.below(6) {
            0 => (model.mkdir(&path), world.mkdir(&path)),
            1 => {
                let bytes = format!("{step}").into_bytes();
                (model.write(&path, &bytes), try_write(&world, &path, &bytes))
            }
            2 => (model.unlink(&path), world.unlink(&path)),
            3 => (model.rmdir(&path), world.rmdir(&path)),
            4 => {
                let to = random.path();
                (model.rename(&path, &to), world.rename(&path, &to))
            }
            _ => {
                let expected = model
                    .check_parent(&path)
                    .and_then(|()| model.kind(&path).ok_or(Errno::ENOENT));
                (expected.map(drop), world.find(&path).map(drop))
            }
        };
        assert_eq!(expected, got, "step {step}, {path}");
    }
    let mut all = BTreeMap::new();
    tree(&world, "", &mut all);
    assert!(all == model.0, "the trees differ in the end");
}

#[test]
fn random_paths_never_panic() {
    let world = World::new();
    world.mkdir("a").unwrap();
    for (target, path) in [("a/..", "b"), ("/", "a/c"), ("../b/a", "a/a"), ("b//", "c")] {
        world.symlink(target, path).unwrap();
    }
    let mut random = Random(7);
    let pieces = ["a", "b", "c", "/", "//", ".", "..", "\u{fe}", "", "nothing"];
    for _ in 0..20_000 {
        let count = random.below(12);
        let path: Vec<&str> = (0..count)
            .map(|_| pieces[random.below(pieces.len())])
            .collect();
        let path = path.join(if random.below(2) == 0 { "/" } else { "" });
        let flags = LookupFlags::from_bits_truncate(u32::try_from(random.below(512)).unwrap());
        // A result of any kind will do; what is found must be spelt so that it is found again.
        if let Ok(found) = world.caller().lookup(&world.cwd(), path.as_bytes(), flags) {
            assert!(
                world
                    .find_link(&world.spell(&found))
                    .is_ok_and(|again| again == found)
            );
        }
    }
}
