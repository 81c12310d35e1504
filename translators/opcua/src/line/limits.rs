//! How much a server takes in one request.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::ServiceError;

/// What a server takes in one request; `usize::MAX` where it does not say.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) read: AtomicUsize,
    pub(super) browse: AtomicUsize,
    pub(super) items: AtomicUsize,
    pub(super) history: AtomicUsize,
}

impl Limits {
    pub(super) fn of(configured: usize) -> Self {
        let limit = || AtomicUsize::new(configured.max(1));
        Self { read: limit(), browse: limit(), items: limit(), history: limit() }
    }

    pub(super) fn get(limit: &AtomicUsize) -> usize {
        limit.load(Ordering::Relaxed).max(1)
    }

    /// A request was too large: the next ones have half of it, until nothing is left to halve.
    pub(super) fn shrink(
        limit: &AtomicUsize,
        was: usize,
        error: ServiceError,
    ) -> Result<(), ServiceError> {
        if was <= 1 || !error.is_of_size() {
            return Err(error);
        }
        limit.fetch_min(was / 2, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use opcua::types::StatusCode;

    use super::*;

    fn error(status: StatusCode, answered: bool) -> ServiceError {
        ServiceError { service: "Read", status, detail: String::new(), answered }
    }

    #[test]
    fn a_request_that_is_too_large_is_halved_down_to_one_entry() {
        let limit = AtomicUsize::new(100);
        let too_many = || error(StatusCode::BadTooManyOperations, true);
        assert_eq!(Limits::shrink(&limit, 100, too_many()), Ok(()));
        assert_eq!(Limits::get(&limit), 50);
        assert_eq!(Limits::shrink(&limit, 1, too_many()), Err(too_many()));
        let other = error(StatusCode::BadTimeout, false);
        assert_eq!(Limits::shrink(&limit, 50, other.clone()), Err(other));
    }
}
