//! Why there is no connection, with the exit code that goes with it.

use tidegate_opcua::probe::Cause;
use tidegate_opcua::probe::wording::{Clock, Context, sentence};
use tidegate_opcua::{Stage, UserSpec};

use super::access::Access;
use crate::cli::exit::{self, Failure};
use crate::cli::terminal::tame;

/// The sentence.
pub(in crate::cli) fn why(access: &Access, cause: &Cause, clock: Option<Clock>) -> String {
    let context = Context {
        url: &access.spec.url,
        security: access.spec.security,
        user: &access.spec.user,
        ours: Some(&access.ours),
        clock,
        config: access.config.as_deref(),
    };
    tame(&sentence(cause, &context))
}

/// The sentence with its exit code.
pub(in crate::cli) fn failure(access: &Access, cause: &Cause, clock: Option<Clock>) -> Failure {
    Failure::new(code(cause), why(access, cause, clock))
}

/// Who logs on, in words.
pub(in crate::cli) fn who(user: &UserSpec) -> String {
    match user {
        UserSpec::Anonymous => "anonymous".to_owned(),
        UserSpec::Password { name, .. } => name.clone(),
        UserSpec::Certificate { cert, .. } => format!("the user of {}", cert.display()),
    }
}

/// 69 until the server told its endpoints, 77 for files of ours, 1 for every no that it says.
fn code(cause: &Cause) -> u8 {
    match cause {
        Cause::NoSuchName { .. }
        | Cause::Refused { .. }
        | Cause::NoAnswer { .. }
        | Cause::NoWay { .. }
        | Cause::NoConnection { .. }
        | Cause::NotOpcua { .. }
        | Cause::HelloRefused { .. }
        | Cause::Status { stage: Stage::Endpoints, .. }
        | Cause::Silent { stage: Stage::Endpoints, .. } => exit::PEER,
        Cause::Ours { .. } => exit::PERMISSION,
        Cause::NoEndpoint { .. }
        | Cause::NoToken { .. }
        | Cause::Distrust(_)
        | Cause::Advertised { .. }
        | Cause::Unbrowsable { .. }
        | Cause::Status { .. }
        | Cause::Silent { .. } => exit::NO,
    }
}
