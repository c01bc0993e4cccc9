//! Extended attributes: get, set, list, remove, by path, link and descriptor.

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::Vec;
use fs::{Path, XATTR_NAME_MAX, XATTR_SIZE_MAX, XattrMode};
use machine::UserAddr;
use memory::user;

use super::{AT_FDCWD, Names, lookup_flags, usable_file};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(188, "setxattr", |cx| set(cx, By::Path)),
    Entry::new(189, "lsetxattr", |cx| set(cx, By::Link)),
    Entry::new(190, "fsetxattr", |cx| set(cx, By::Descriptor)),
    Entry::new(191, "getxattr", |cx| get(cx, By::Path)),
    Entry::new(192, "lgetxattr", |cx| get(cx, By::Link)),
    Entry::new(193, "fgetxattr", |cx| get(cx, By::Descriptor)),
    Entry::new(194, "listxattr", |cx| list(cx, By::Path)),
    Entry::new(195, "llistxattr", |cx| list(cx, By::Link)),
    Entry::new(196, "flistxattr", |cx| list(cx, By::Descriptor)),
    Entry::new(197, "removexattr", |cx| remove(cx, By::Path)),
    Entry::new(198, "lremovexattr", |cx| remove(cx, By::Link)),
    Entry::new(199, "fremovexattr", |cx| remove(cx, By::Descriptor)),
];

/// The longest list of names that can be had.
const XATTR_LIST_MAX: usize = 65536;

/// What argument 0 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Path,
    Link,
    Descriptor,
}

fn place(cx: &Context<'_>, names: &Names<'_>, by: By) -> Result<Path> {
    match by {
        By::Path => names.lookup(cx, AT_FDCWD, cx.addr(0), lookup_flags(true)),
        By::Link => names.lookup(cx, AT_FDCWD, cx.addr(0), lookup_flags(false)),
        By::Descriptor => {
            let file = usable_file(cx, cx.int(0))?;
            file.place()
        }
    }
}

fn read_name(addr: UserAddr) -> Result<Vec<u8>> {
    user::read_c_string(addr, XATTR_NAME_MAX + 1).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        errno => errno,
    })
}

fn get(cx: &mut Context<'_>, by: By) -> Result<u64> {
    let names = Names::of(cx);
    let name = read_name(cx.addr(1))?;
    let value = names.caller().xattr(&place(cx, &names, by)?, &name)?;
    give(&value, cx.addr(2), cx.size(3))
}

fn list(cx: &mut Context<'_>, by: By) -> Result<u64> {
    let names = Names::of(cx);
    let all = names.caller().list_xattrs(&place(cx, &names, by)?)?;
    if all.len() > XATTR_LIST_MAX && cx.size(2) >= XATTR_LIST_MAX {
        return Err(Errno::E2BIG);
    }
    give(&all, cx.addr(1), cx.size(2))
}

/// Copies out `value`; with size 0 only its length is asked for.
fn give(value: &[u8], to: UserAddr, size: usize) -> Result<u64> {
    if size != 0 {
        if value.len() > size {
            return Err(Errno::ERANGE);
        }
        user::write_bytes(to, value)?;
    }
    Ok(value.len() as u64)
}

fn set(cx: &mut Context<'_>, by: By) -> Result<u64> {
    const BOTH: u32 = raw::XATTR_CREATE | raw::XATTR_REPLACE;
    let mode = match cx.uint(4) {
        0 => XattrMode::Either,
        raw::XATTR_CREATE => XattrMode::Create,
        raw::XATTR_REPLACE => XattrMode::Replace,
        BOTH => XattrMode::Never,
        _ => return Err(Errno::EINVAL),
    };
    let name = read_name(cx.addr(1))?;
    if cx.size(3) > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let value: Vec<u8> = user::read_array(cx.addr(2), cx.size(3))?;
    let names = Names::of(cx);
    names
        .caller()
        .set_xattr(&place(cx, &names, by)?, &name, &value, mode)?;
    Ok(0)
}

fn remove(cx: &mut Context<'_>, by: By) -> Result<u64> {
    let name = read_name(cx.addr(1))?;
    let names = Names::of(cx);
    names
        .caller()
        .remove_xattr(&place(cx, &names, by)?, &name)?;
    Ok(0)
}
