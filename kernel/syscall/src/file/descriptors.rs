//! dup, dup2, dup3, ioctl.

use abi::raw::general as raw;
use abi::raw::ioctl::{
    FIGETBSZ, FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, FIOQSIZE, TIOCGPTPEER,
};
use abi::{Errno, Result};
use fs::{FileKind, OpenFlags, ioctl};
use process::namespace::NsFile;

use super::open::close;
use super::{descriptor_limit, file_arg, install, usable_file};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(16, "ioctl", sys_ioctl),
    Entry::new(32, "dup", sys_dup),
    Entry::new(33, "dup2", sys_dup2),
    Entry::new(292, "dup3", sys_dup3),
];

fn sys_dup(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?.clone();
    install(cx, file, false)
}

fn sys_dup2(cx: &mut Context<'_>) -> Result<u64> {
    if cx.int(0) == cx.int(1) {
        file_arg(cx, 0)?;
        return Ok(u64::from(cx.uint(1)));
    }
    replace(cx, false)
}

fn sys_dup3(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(2);
    if flags & !raw::O_CLOEXEC != 0 || cx.int(0) == cx.int(1) {
        return Err(Errno::EINVAL);
    }
    replace(cx, flags & raw::O_CLOEXEC != 0)
}

fn replace(cx: &mut Context<'_>, close_on_exec: bool) -> Result<u64> {
    let file = file_arg(cx, 0)?.clone();
    let (fd, limit) = (cx.int(1), descriptor_limit(cx));
    if let Some(old) = cx.own.files.replace(fd, file, close_on_exec, limit)? {
        // dup2 closes silently.
        let _ = close(cx, &old);
    }
    Ok(u64::from(cx.uint(1)))
}

fn sys_ioctl(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    let (command, arg) = (cx.uint(1), cx.arg(2));
    match command {
        FIOCLEX | FIONCLEX => {
            let fd = cx.int(0);
            cx.own.files.set_close_on_exec(fd, command == FIOCLEX)?;
            Ok(0)
        }
        FIONBIO => {
            let mut flags = file.flags();
            flags.set(OpenFlags::NONBLOCK, ioctl::get_int(arg)? != 0);
            file.set_flags(flags).map(|()| 0)
        }
        FIOASYNC => {
            let on = ioctl::get_int(arg)? != 0;
            if on == file.flags().contains(OpenFlags::ASYNC) {
                return Ok(0);
            }
            if !file.ops().signals_io() {
                return Err(Errno::ENOTTY);
            }
            file.set_async(cx.int(0), on).map(|()| 0)
        }
        FIONREAD if file.kind() == FileKind::Regular && file.is_seekable() => {
            let left = file.metadata()?.size.saturating_sub(file.position());
            ioctl::put_int(arg, usize::try_from(left).unwrap_or(usize::MAX))
        }
        FIGETBSZ => ioctl::put_int(arg, file.metadata()?.block_size as usize),
        FIOQSIZE => match file.kind() {
            FileKind::Regular | FileKind::Directory if !file.is_file_like() => {
                let used = file.metadata()?.blocks * 512;
                ioctl::put_bytes(arg, &used.to_ne_bytes())
            }
            _ => Err(Errno::ENOTTY),
        },
        TIOCGPTPEER => {
            let flags = OpenFlags::from_open(cx.uint(2));
            let peer = fs::tty::open_peer(&file, flags)?;
            install(cx, peer, flags.contains(OpenFlags::CLOEXEC))
        }
        _ => {
            let related = file.downcast::<NsFile>();
            match related.and_then(|file| file.open_related(cx.thread, command)) {
                Some(opened) => install(cx, opened?, true),
                None => file.ops().ioctl(command, arg),
            }
        }
    }
}
