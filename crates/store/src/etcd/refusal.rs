//! Why a request was not done: our errors as etcd tells them, and etcd's as ours.

use tonic::{Code, Status};

use crate::error::Error;

/// The code under which etcd refuses (`etcd api/v3rpc/rpctypes/error.go`); the words are the error's own.
fn code(refused: &mvcc::Error) -> Code {
    use mvcc::Error as Refused;
    match refused {
        Refused::Compacted { .. } | Refused::FutureRevision { .. } | Refused::LeaseTtlTooLarge => Code::OutOfRange,
        Refused::EmptyKey | Refused::DuplicateKey | Refused::KeyNotFound => Code::InvalidArgument,
        Refused::LeaseNotFound => Code::NotFound,
        Refused::LeaseExists => Code::FailedPrecondition,
    }
}

/// What etcd's clients are told.
pub fn refusal(error: Error) -> Status {
    let words = error.to_string();
    let code = match error {
        Error::Mvcc(refused) => code(&refused),
        Error::Refused { .. } => Code::InvalidArgument,
        Error::Unwritable { .. }
        | Error::Unavailable { .. }
        | Error::Closed
        | Error::SlowWatcher { .. }
        | Error::Locked { .. } => Code::Unavailable,
        Error::Unknown { .. } | Error::Corrupt { .. } | Error::Io { .. } | Error::Unusable { .. } => Code::Unknown,
    };
    Status::new(code, words)
}

/// What etcd says when its quota is used up.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Whether a request changes anything: if so, nobody knows whether it did when its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Read,
    Write,
}

/// Our error for what the etcd at `place` has answered. Its refusals name no revisions, so neither do ours.
pub fn understood(status: &Status, effect: Effect, place: &str) -> Error {
    let known = [
        mvcc::Error::Compacted { requested: 0, compacted: 0 },
        mvcc::Error::FutureRevision { requested: 0, current: 0 },
        mvcc::Error::EmptyKey,
        mvcc::Error::DuplicateKey,
        mvcc::Error::KeyNotFound,
        mvcc::Error::LeaseNotFound,
        mvcc::Error::LeaseExists,
        mvcc::Error::LeaseTtlTooLarge,
    ];
    let words = status.message();
    if let Some(known) = known.into_iter().find(|known| code(known) == status.code() && known.to_string() == words) {
        return Error::Mvcc(known);
    }
    let (place, reason) = (place.to_owned(), words.to_owned());
    match (status.code(), effect) {
        (Code::ResourceExhausted, _) if words == NO_SPACE => Error::Unwritable { place, reason },
        // Too many requests at once: refused before it is looked at.
        (Code::ResourceExhausted, _) => Error::Unavailable { place, reason },
        (
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::AlreadyExists
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented,
            _,
        ) => Error::Refused { reason },
        (_, Effect::Read) => Error::Unavailable { place, reason },
        (_, Effect::Write) => Error::Unknown { place, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_same_error_on_both_sides() {
        let all = [
            (mvcc::Error::EmptyKey, "EmptyKey"),
            (mvcc::Error::LeaseNotFound, "LeaseNotFound"),
            (mvcc::Error::LeaseExists, "LeaseExists"),
            (mvcc::Error::Compacted { requested: 3, compacted: 5 }, "Compacted { requested: 0, compacted: 0 }"),
        ];
        for (refused, known) in all {
            let Error::Mvcc(back) = understood(&refusal(Error::Mvcc(refused)), Effect::Write, "e") else {
                panic!("{known}")
            };
            assert_eq!(format!("{back:?}"), known);
        }
    }

    #[test]
    fn a_write_whose_end_nobody_knows_is_told_so() {
        let told = |status: Status, effect| format!("{:?}", understood(&status, effect, "e"));
        let timed_out = || Status::unavailable("etcdserver: request timed out");
        assert!(told(timed_out(), Effect::Write).starts_with("Unknown"));
        assert!(told(timed_out(), Effect::Read).starts_with("Unavailable"));
        assert!(told(Status::resource_exhausted(NO_SPACE), Effect::Write).starts_with("Unwritable"));
        let large = Status::invalid_argument("etcdserver: request is too large");
        assert_eq!(understood(&large, Effect::Write, "e").to_string(), "etcdserver: request is too large");
    }
}
