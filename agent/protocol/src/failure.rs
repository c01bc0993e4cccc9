//! [`Failure`] in and out of ttrpc's errors.

use protobuf::Message;
use ttrpc::proto::Any;
use ttrpc::{Code, Error};

use crate::{Failure, FailureKind};

/// What a [`Failure`] is called in the details of a status.
const TYPE_URL: &str = "type.googleapis.com/nacre.agent.v1.Failure";

/// Makes the error by which the agent refuses a request.
///
/// `errno` is the symbolic name (`"ENOENT"`), or empty; `message` is one sentence that names
/// the input at fault.
pub fn refuse(kind: FailureKind, errno: &str, message: impl Into<String>) -> Error {
    let message = message.into();
    let mut status = ttrpc::get_status(code_of(kind), message.clone());
    let failure = Failure {
        kind: kind.into(),
        errno: errno.to_owned(),
        message,
        ..Default::default()
    };
    // A message of three plain fields cannot fail to encode; without it the sentence remains.
    if let Ok(value) = failure.write_to_bytes() {
        status.details.push(Any {
            type_url: TYPE_URL.to_owned(),
            value,
            ..Default::default()
        });
    }
    Error::RpcStatus(status)
}

/// What a refused request says, when the peer is an agent of ours; `None` for errors of the
/// transport and of ttrpc itself.
#[must_use]
pub fn failure_of(error: &Error) -> Option<Failure> {
    let Error::RpcStatus(status) = error else {
        return None;
    };
    let any = status.details.iter().find(|any| any.type_url == TYPE_URL)?;
    Failure::parse_from_bytes(&any.value).ok()
}

fn code_of(kind: FailureKind) -> Code {
    match kind {
        FailureKind::FAILURE_KIND_UNSPECIFIED | FailureKind::FAILURE_KIND_SYSTEM => Code::UNKNOWN,
        FailureKind::FAILURE_KIND_INVALID => Code::INVALID_ARGUMENT,
        FailureKind::FAILURE_KIND_NO_SUCH => Code::NOT_FOUND,
        FailureKind::FAILURE_KIND_EXISTS => Code::ALREADY_EXISTS,
        FailureKind::FAILURE_KIND_UNSUPPORTED => Code::UNIMPLEMENTED,
        FailureKind::FAILURE_KIND_STATE
        | FailureKind::FAILURE_KIND_VERSION
        | FailureKind::FAILURE_KIND_PROGRAM_NOT_FOUND
        | FailureKind::FAILURE_KIND_PROGRAM_NOT_EXECUTABLE => Code::FAILED_PRECONDITION,
        FailureKind::FAILURE_KIND_TIMEOUT => Code::DEADLINE_EXCEEDED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_kind_and_errno() {
        let error = refuse(
            FailureKind::FAILURE_KIND_PROGRAM_NOT_FOUND,
            "ENOENT",
            "no \"sh\"",
        );
        let failure = failure_of(&error).expect("a failure");
        assert_eq!(
            failure.kind.enum_value(),
            Ok(FailureKind::FAILURE_KIND_PROGRAM_NOT_FOUND)
        );
        assert_eq!(failure.errno, "ENOENT");
        assert_eq!(failure.message, "no \"sh\"");
        assert!(failure_of(&Error::Socket("gone".to_owned())).is_none());
    }
}
