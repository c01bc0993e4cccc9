//! Why a request is refused: a kind, an errno and one sentence that names the input at fault.

use agent_protocol::FailureKind as Kind;
use rustix::io::Errno;

/// What goes back to the host in place of an answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: Kind,
    errno: Option<Errno>,
    sentence: String,
}

/// A result that the host gets to see.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn invalid(sentence: impl Into<String>) -> Self {
        Self::new(Kind::FAILURE_KIND_INVALID, sentence)
    }

    pub(crate) fn unsupported(sentence: impl Into<String>) -> Self {
        Self::new(Kind::FAILURE_KIND_UNSUPPORTED, sentence)
    }

    pub(crate) fn state(sentence: impl Into<String>) -> Self {
        Self::new(Kind::FAILURE_KIND_STATE, sentence)
    }

    pub(crate) fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self {
            kind,
            errno: None,
            sentence: sentence.into(),
        }
    }

    /// A failed system call: "cannot WHAT: no such file or directory".
    pub(crate) fn system(what: impl std::fmt::Display, errno: Errno) -> Self {
        Self::with_errno(Kind::FAILURE_KIND_SYSTEM, what, errno)
    }

    /// The same of an operation of std.
    pub(crate) fn io(what: &str, error: &std::io::Error) -> Self {
        Self::system(what, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    pub(crate) fn with_errno(kind: Kind, what: impl std::fmt::Display, errno: Errno) -> Self {
        Self {
            kind,
            errno: Some(errno),
            sentence: format!("cannot {what}: {}", text_of(errno)),
        }
    }

    /// The same with a sentence that says more than the errno does.
    pub(crate) fn saying(self, sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            ..self
        }
    }

    pub(crate) fn into_error(self) -> ttrpc::Error {
        let errno = self.errno.map_or_else(String::new, name_of);
        agent_protocol::refuse(self.kind, &errno, self.sentence)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// The symbolic name of an errno.
pub(crate) fn name_of(errno: Errno) -> String {
    let name = NAMES.iter().find(|(known, _)| *known == errno);
    name.map_or_else(
        || format!("errno {}", errno.raw_os_error()),
        |(_, name)| (*name).to_owned(),
    )
}

/// What the C library says of an errno, without its number.
pub(crate) fn text_of(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    let mut chars = text[..end].chars();
    // In the middle of a sentence.
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

const NAMES: &[(Errno, &str)] = &[
    (Errno::PERM, "EPERM"),
    (Errno::NOENT, "ENOENT"),
    (Errno::SRCH, "ESRCH"),
    (Errno::INTR, "EINTR"),
    (Errno::IO, "EIO"),
    (Errno::NXIO, "ENXIO"),
    (Errno::TOOBIG, "E2BIG"),
    (Errno::NOEXEC, "ENOEXEC"),
    (Errno::BADF, "EBADF"),
    (Errno::CHILD, "ECHILD"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::ACCESS, "EACCES"),
    (Errno::FAULT, "EFAULT"),
    (Errno::BUSY, "EBUSY"),
    (Errno::EXIST, "EEXIST"),
    (Errno::XDEV, "EXDEV"),
    (Errno::NODEV, "ENODEV"),
    (Errno::NOTDIR, "ENOTDIR"),
    (Errno::ISDIR, "EISDIR"),
    (Errno::INVAL, "EINVAL"),
    (Errno::NFILE, "ENFILE"),
    (Errno::MFILE, "EMFILE"),
    (Errno::NOTTY, "ENOTTY"),
    (Errno::TXTBSY, "ETXTBSY"),
    (Errno::FBIG, "EFBIG"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::ROFS, "EROFS"),
    (Errno::PIPE, "EPIPE"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG"),
    (Errno::NOSYS, "ENOSYS"),
    (Errno::NOTEMPTY, "ENOTEMPTY"),
    (Errno::LOOP, "ELOOP"),
    (Errno::LIBBAD, "ELIBBAD"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP"),
    (Errno::TIMEDOUT, "ETIMEDOUT"),
    (Errno::CONNRESET, "ECONNRESET"),
];
