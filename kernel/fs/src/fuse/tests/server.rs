//! An honest FUSE server on a tree in memory, for the tests of the client.

use std::collections::BTreeMap;
use std::sync::Mutex;

use zerocopy::{FromBytes, IntoBytes};

use crate::fuse::wire::*;

const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const EEXIST: i32 = 17;
const ENOTEMPTY: i32 = 39;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;
const ENXIO: i32 = 6;
const ENODATA: i32 = 61;
/// Bytes of data in one request.
const MAX_WRITE: u32 = 32 * 4096;

#[derive(Default)]
struct Node {
    mode: u32,
    links: u32,
    /// Content of a file, target of a link.
    content: Vec<u8>,
    entries: BTreeMap<Vec<u8>, u64>,
    changes: u64,
}

struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    handles: i64,
    /// Open handles that append.
    appending: Vec<u64>,
    last_handle: u64,
    requests: usize,
    writes: usize,
    /// Writes of this byte fail.
    refused: Option<u64>,
    /// Seconds for which a name that is not there may be believed not to be there.
    absent_s: Option<u64>,
    /// Appended to a node by somebody else just before the next write.
    before_write: Option<(u64, Vec<u8>)>,
    /// It offers to give file locks.
    gives_locks: bool,
    /// It has extended attributes, none so far, and its attributes may be believed for an hour.
    has_xattrs: bool,
    locks: Vec<(u64, LkIn)>,
    /// References to nodes that were given with entries and not forgotten yet.
    lookups: u64,
}

/// The server.
pub(super) struct Server(Mutex<Tree>);

impl Default for Server {
    fn default() -> Self {
        let root = Node {
            mode: 0o040_755,
            links: 2,
            ..Node::default()
        };
        let nodes = BTreeMap::from([(ROOT_ID, root)]);
        Server(Mutex::new(Tree {
            nodes,
            next: 2,
            handles: 0,
            appending: Vec::new(),
            last_handle: 76,
            requests: 0,
            writes: 0,
            refused: None,
            absent_s: None,
            before_write: None,
            gives_locks: false,
            has_xattrs: false,
            locks: Vec::new(),
            lookups: 0,
        }))
    }
}

type Answer = Result<Vec<u8>, i32>;

impl Server {
    /// Makes or replaces a file in the root.
    pub(super) fn put(&self, name: &[u8], content: &[u8]) {
        let mut tree = self.0.lock().unwrap();
        let node = match tree.nodes[&ROOT_ID].entries.get(name) {
            Some(node) => *node,
            None => tree.add(ROOT_ID, name, 0o100_644).unwrap(),
        };
        let node = tree.nodes.get_mut(&node).unwrap();
        node.content = content.to_vec();
        node.changes += 1;
    }

    /// Removes a name from the root.
    pub(super) fn remove(&self, name: &[u8]) {
        self.0
            .lock()
            .unwrap()
            .nodes
            .get_mut(&ROOT_ID)
            .unwrap()
            .entries
            .remove(name);
    }

    /// Offers to give file locks.
    pub(super) fn give_locks(&self) {
        self.0.lock().unwrap().gives_locks = true;
    }

    /// Takes or gives up a lock on all of a file in the root, on behalf of somebody else.
    pub(super) fn lock_by_others(&self, name: &[u8], is_flock: bool, kind: u32) {
        let mut tree = self.0.lock().unwrap();
        let node = tree.nodes[&ROOT_ID].entries[name];
        let lock = LkIn {
            fh: u64::MAX,
            owner: u64::MAX,
            lk: FileLk {
                start: 0,
                end: i64::MAX.cast_unsigned(),
                kind,
                pid: 77,
            },
            lk_flags: is_flock.into(),
            padding: 0,
        };
        tree.set_lock(node, &lock).unwrap();
    }

    /// How many file locks there are.
    pub(super) fn locks(&self) -> usize {
        self.0.lock().unwrap().locks.len()
    }

    pub(super) fn content(&self, name: &[u8]) -> Vec<u8> {
        let tree = self.0.lock().unwrap();
        tree.nodes[&tree.nodes[&ROOT_ID].entries[name]]
            .content
            .clone()
    }

    pub(super) fn names(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().nodes[&ROOT_ID]
            .entries
            .keys()
            .cloned()
            .collect()
    }

    pub(super) fn open_handles(&self) -> i64 {
        self.0.lock().unwrap().handles
    }

    pub(super) fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }

    /// Lets writes of the byte at an offset fail.
    pub(super) fn refuse_writes(&self, of: Option<u64>) {
        self.0.lock().unwrap().refused = of;
    }

    /// Answers look-ups of what is not there with a time to believe it.
    pub(super) fn promise_absences(&self, seconds: u64) {
        self.0.lock().unwrap().absent_s = Some(seconds);
    }

    /// Has a directory, with a file `f` in it, beside the root; `NOWHERE` has it by this name.
    pub(super) fn attach(&self, name: &[u8]) {
        let mut tree = self.0.lock().unwrap();
        tree.nodes.insert(NOWHERE, Node::default());
        let directory = tree.add(NOWHERE, name, 0o040_700).unwrap();
        tree.add(directory, b"f", 0o100_644).unwrap();
    }

    /// Takes it away, with all that is in it.
    pub(super) fn detach(&self, name: &[u8]) {
        let mut tree = self.0.lock().unwrap();
        let directory = tree.child(NOWHERE, name).unwrap();
        tree.nodes.remove(&NOWHERE);
        tree.nodes.remove(&directory);
    }

    /// It has extended attributes, none so far, knows where holes are, and its attributes may be believed.
    pub(super) fn be_capable(&self) {
        self.0.lock().unwrap().has_xattrs = true;
    }

    /// Somebody else appends to a file just before the next write arrives.
    pub(super) fn append_before_write(&self, name: &[u8], bytes: &[u8]) {
        let mut tree = self.0.lock().unwrap();
        let node = tree.nodes[&ROOT_ID].entries[name];
        tree.before_write = Some((node, bytes.to_vec()));
    }

    /// Takes a FORGET or BATCH_FORGET.
    pub(super) fn forget(&self, request: &[u8]) {
        let (header, body) = InHeader::read_from_prefix(request).unwrap();
        assert_eq!(header.len as usize, request.len());
        let count = if header.opcode == Op::BatchForget as u32 {
            let (batch, mut rest): (BatchForgetIn, _) = parse(body);
            let mut count = 0;
            for _ in 0..batch.count {
                let (one, behind): (ForgetOne, _) = parse(rest);
                count += one.nlookup;
                rest = behind;
            }
            assert!(rest.is_empty());
            count
        } else {
            assert_eq!(header.opcode, Op::Forget as u32);
            parse::<ForgetIn>(body).0.nlookup
        };
        self.0.lock().unwrap().lookups -= count;
    }

    /// References to nodes that are not forgotten.
    pub(super) fn lookups(&self) -> u64 {
        self.0.lock().unwrap().lookups
    }

    pub(super) fn requests(&self) -> usize {
        self.0.lock().unwrap().requests
    }

    /// The reply to a request, header included, of at most `room` bytes.
    pub(super) fn answer(&self, request: &[u8], room: usize) -> Vec<u8> {
        let (header, body) = InHeader::read_from_prefix(request).unwrap();
        assert_eq!(header.len as usize, request.len());
        let mut tree = self.0.lock().unwrap();
        tree.requests += 1;
        let answer = tree.act(&header, body);
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(number) => (-number, Vec::new()),
        };
        let len = u32::try_from(16 + body.len()).unwrap();
        assert!(len as usize <= room, "{len} bytes in {room}");
        let mut reply = OutHeader {
            len,
            error,
            unique: header.unique,
        }
        .as_bytes()
        .to_vec();
        reply.extend(body);
        reply
    }
}

fn parse<T: FromBytes>(body: &[u8]) -> (T, &[u8]) {
    T::read_from_prefix(body).ok().unwrap()
}

/// The NUL-terminated name at the start of `bytes` and the rest.
fn name(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    (&bytes[..end], &bytes[end + 1..])
}

impl Tree {
    fn node(&mut self, node: u64) -> Result<&mut Node, i32> {
        self.nodes.get_mut(&node).ok_or(ENOENT)
    }

    fn add(&mut self, parent: u64, name: &[u8], mode: u32) -> Result<u64, i32> {
        let number = self.next;
        if self.node(parent)?.entries.contains_key(name) {
            return Err(EEXIST);
        }
        self.next += 1;
        self.node(parent)?.entries.insert(name.to_vec(), number);
        self.nodes.insert(
            number,
            Node {
                mode,
                links: 1,
                ..Node::default()
            },
        );
        Ok(number)
    }

    fn attr(&mut self, node: u64) -> Result<Attr, i32> {
        let found = self.node(node)?;
        Ok(Attr {
            ino: node,
            size: found.content.len() as u64,
            mode: found.mode,
            nlink: found.links,
            mtime: found.changes,
            ctime: found.changes,
            blksize: 4096,
            ..Attr::default()
        })
    }

    fn entry(&mut self, node: u64) -> Answer {
        self.lookups += 1;
        let entry = EntryOut {
            nodeid: node,
            attr: self.attr(node)?,
            ..EntryOut::default()
        };
        Ok(entry.as_bytes().to_vec())
    }

    fn attr_out(&mut self, node: u64) -> Answer {
        Ok(AttrOut {
            attr_valid: if self.has_xattrs { 3600 } else { 0 },
            attr: self.attr(node)?,
            ..AttrOut::default()
        }
        .as_bytes()
        .to_vec())
    }

    fn child(&mut self, parent: u64, name: &[u8]) -> Result<u64, i32> {
        self.node(parent)?.entries.get(name).copied().ok_or(ENOENT)
    }

    fn open(&mut self, flags: u32) -> OpenOut {
        const O_APPEND: u32 = 0o2000;
        self.handles += 1;
        self.last_handle += 1;
        if flags & O_APPEND != 0 {
            self.appending.push(self.last_handle);
        }
        OpenOut {
            fh: self.last_handle,
            open_flags: 0,
            padding: 0,
        }
    }

    fn act(&mut self, header: &InHeader, body: &[u8]) -> Answer {
        let node = header.nodeid;
        let is = |op: Op| header.opcode == op as u32;
        if is(Op::Init) {
            let mut flags = init::MAX_PAGES;
            if self.gives_locks {
                flags |= init::POSIX_LOCKS | init::FLOCK_LOCKS;
            }
            let out = InitOut {
                major: 7,
                minor: 31,
                flags,
                max_write: MAX_WRITE,
                max_pages: 32,
                ..InitOut::default()
            };
            Ok(out.as_bytes().to_vec())
        } else if is(Op::Lookup) {
            match (self.child(node, name(body).0), self.absent_s) {
                (Err(_), Some(seconds)) => Ok(EntryOut {
                    entry_valid: seconds,
                    ..EntryOut::default()
                }
                .as_bytes()
                .to_vec()),
                (child, _) => self.entry(child?),
            }
        } else if is(Op::GetAttr) {
            self.attr_out(node)
        } else if is(Op::SetAttr) {
            self.set_attr(node, &parse(body).0)
        } else if is(Op::Open) || is(Op::OpenDir) {
            let arg: OpenIn = parse(body).0;
            Ok(self.open(arg.flags).as_bytes().to_vec())
        } else if is(Op::Release) || is(Op::ReleaseDir) {
            self.handles -= 1;
            Ok(Vec::new())
        } else if is(Op::FAllocate) {
            self.allocate(node, &parse(body).0)
        } else if is(Op::SetLk) && self.gives_locks {
            self.set_lock(node, &parse(body).0)
        } else if is(Op::GetLk) && self.gives_locks {
            let asked: LkIn = parse(body).0;
            let held = self.conflict(node, &asked);
            let lk = held.map_or(
                FileLk {
                    kind: 2,
                    ..asked.lk
                },
                |held| held.lk,
            );
            Ok(LkOut { lk }.as_bytes().to_vec())
        } else if is(Op::Flush) || is(Op::FSync) {
            Ok(Vec::new())
        } else if is(Op::Read) {
            self.read(node, &parse(body).0)
        } else if is(Op::Write) {
            let (arg, data) = parse(body);
            self.write(node, &arg, data)
        } else if is(Op::ReadDir) {
            self.read_dir(node, &parse(body).0)
        } else {
            self.change(header, body)
        }
    }

    /// Locks of flock(2) belong to handles, others to owners.
    fn same_owner(a: &LkIn, b: &LkIn) -> bool {
        let key = |lock: &LkIn| {
            if lock.lk_flags == 1 {
                lock.fh
            } else {
                lock.owner
            }
        };
        a.lk_flags == b.lk_flags && key(a) == key(b)
    }

    fn conflict(&self, node: u64, wanted: &LkIn) -> Option<LkIn> {
        let is_other = |(at, held): &&(u64, LkIn)| {
            *at == node
                && held.lk_flags == wanted.lk_flags
                && !Self::same_owner(held, wanted)
                && held.lk.start <= wanted.lk.end
                && wanted.lk.start <= held.lk.end
                && (held.lk.kind == 1 || wanted.lk.kind == 1)
        };
        self.locks.iter().find(is_other).map(|(_, held)| *held)
    }

    /// Whole ranges only: a lock replaces those of its owner that it covers.
    fn set_lock(&mut self, node: u64, wanted: &LkIn) -> Answer {
        if wanted.lk.kind != 2 && self.conflict(node, wanted).is_some() {
            return Err(EAGAIN);
        }
        self.locks.retain(|(at, held)| {
            let covered = wanted.lk.start <= held.lk.start && held.lk.end <= wanted.lk.end;
            *at != node || !Self::same_owner(held, wanted) || !covered
        });
        if wanted.lk.kind != 2 {
            self.locks.push((node, *wanted));
        }
        Ok(Vec::new())
    }

    fn change(&mut self, header: &InHeader, body: &[u8]) -> Answer {
        let node = header.nodeid;
        let is = |op: Op| header.opcode == op as u32;
        if is(Op::Create) {
            let (arg, rest): (CreateIn, _) = parse(body);
            let made = self.add(node, name(rest).0, arg.mode)?;
            let mut out = self.entry(made)?;
            out.extend(self.open(arg.flags).as_bytes());
            Ok(out)
        } else if is(Op::MkDir) {
            let (arg, rest): (MkDirIn, _) = parse(body);
            let made = self.add(node, name(rest).0, arg.mode)?;
            self.entry(made)
        } else if is(Op::Symlink) {
            let (link, rest) = name(body);
            let made = self.add(node, link, 0o120_777)?;
            self.node(made)?.content = name(rest).0.to_vec();
            self.entry(made)
        } else if is(Op::ReadLink) {
            Ok(self.node(node)?.content.clone())
        } else if is(Op::Link) {
            let (arg, rest): (LinkIn, _) = parse(body);
            self.node(node)?
                .entries
                .insert(name(rest).0.to_vec(), arg.oldnodeid);
            self.node(arg.oldnodeid)?.links += 1;
            self.entry(arg.oldnodeid)
        } else if is(Op::Rename) {
            let (arg, rest): (RenameIn, _) = parse(body);
            let (from, rest) = name(rest);
            let moved = self.child(node, from)?;
            self.node(node)?.entries.remove(from);
            self.node(arg.newdir)?
                .entries
                .insert(name(rest).0.to_vec(), moved);
            Ok(Vec::new())
        } else if is(Op::Unlink) || is(Op::RmDir) {
            let child = self.child(node, name(body).0)?;
            if !self.node(child)?.entries.is_empty() {
                return Err(ENOTEMPTY);
            }
            self.node(child)?.links -= 1;
            self.node(node)?.entries.remove(name(body).0);
            Ok(Vec::new())
        } else if is(Op::TmpFile) {
            let (arg, _): (CreateIn, _) = parse(body);
            let made = self.add(node, b"unnamed", arg.mode)?;
            self.node(node)?.entries.remove(&b"unnamed"[..]);
            self.node(made)?.links = 0;
            let mut out = self.entry(made)?;
            out.extend(self.open(arg.flags).as_bytes());
            Ok(out)
        } else if is(Op::LSeek) && self.has_xattrs {
            // A hole from the middle on.
            let (arg, _): (LSeekIn, _) = parse(body);
            let middle = self.node(node)?.content.len() as u64 / 2;
            match arg.whence {
                3 if arg.offset >= middle => Err(ENXIO),
                3 => Ok(arg.offset.to_le_bytes().to_vec()),
                _ => Ok(arg.offset.max(middle).to_le_bytes().to_vec()),
            }
        } else if is(Op::GetXattr) && self.has_xattrs {
            Err(ENODATA)
        } else {
            Err(ENOSYS)
        }
    }

    fn set_attr(&mut self, node: u64, arg: &SetAttrIn) -> Answer {
        let found = self.node(node)?;
        if arg.valid & fattr::SIZE != 0 {
            if arg.size > 1 << 24 {
                return Err(EINVAL);
            }
            found.content.resize(usize::try_from(arg.size).unwrap(), 0);
            found.changes += 1;
        }
        self.attr_out(node)
    }

    fn read(&mut self, node: u64, arg: &ReadIn) -> Answer {
        let content = &self.node(node)?.content;
        let start = content.len().min(usize::try_from(arg.offset).unwrap());
        let end = content.len().min(start + arg.size as usize);
        Ok(content[start..end].to_vec())
    }

    fn write(&mut self, node: u64, arg: &WriteIn, data: &[u8]) -> Answer {
        assert_eq!(arg.size as usize, data.len());
        assert!(arg.size <= MAX_WRITE);
        self.writes += 1;
        let range = arg.offset..arg.offset + u64::from(arg.size);
        if self.refused.is_some_and(|byte| range.contains(&byte)) {
            return Err(5);
        }
        if let Some((node, bytes)) = self.before_write.take() {
            self.node(node)?.content.extend(bytes);
        }
        let appends = self.appending.contains(&arg.fh);
        let found = self.node(node)?;
        let start = if appends {
            found.content.len()
        } else {
            usize::try_from(arg.offset).unwrap()
        };
        let end = start + data.len();
        let len = found.content.len().max(end);
        found.content.resize(len, 0);
        found.content[start..end].copy_from_slice(data);
        found.changes += 1;
        Ok(WriteOut {
            size: arg.size,
            padding: 0,
        }
        .as_bytes()
        .to_vec())
    }

    fn allocate(&mut self, node: u64, arg: &FAllocateIn) -> Answer {
        const PUNCH_HOLE: u32 = 2;
        let found = self.node(node)?;
        let len = found.content.len();
        let start = usize::try_from(arg.offset).unwrap();
        let end = usize::try_from(arg.offset + arg.length).unwrap();
        if arg.mode & PUNCH_HOLE != 0 {
            found.content[start.min(len)..end.min(len)].fill(0);
        } else {
            found.content.resize(len.max(end), 0);
        }
        found.changes += 1;
        Ok(Vec::new())
    }

    fn read_dir(&mut self, node: u64, arg: &ReadIn) -> Answer {
        let mut out = Vec::new();
        let skip = usize::try_from(arg.offset).unwrap();
        let entries = self.node(node)?.entries.iter().enumerate().skip(skip);
        for (at, (name, ino)) in entries {
            let namelen = u32::try_from(name.len()).unwrap();
            let head = DirEnt {
                ino: *ino,
                off: at as u64 + 1,
                namelen,
                kind: 8,
            };
            let len = (24 + name.len()).next_multiple_of(8);
            if out.len() + len > arg.size as usize {
                break;
            }
            let end = out.len() + len;
            out.extend(head.as_bytes());
            out.extend(name);
            out.resize(end, 0);
        }
        Ok(out)
    }
}
