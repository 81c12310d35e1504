//! The token with which a device enrols, and what to do with it.

use std::io;
use std::time::Duration;

use tidegate_identity::opcua::Thumbprint;

use super::super::exit::{DISK, Failure, USAGE};
use super::Surroundings;
use super::reach::Reach;
use crate::causes::chain;
use crate::names::GatewayId;

/// Long enough for somebody to drive to the plant.
const LASTS: Duration = Duration::from_secs(7 * 86_400);

/// Makes a token and prints it with what to do next; the inner error is why there is none.
pub(super) fn tell(
    reach: &Reach<'_>,
    gateway: &GatewayId,
    with: &mut Surroundings<'_>,
) -> io::Result<Result<(), Failure>> {
    let authority = match reach.authority() {
        Ok(Some(authority)) => authority,
        Ok(None) => {
            let text = format!(
                "the hub has no authority of its own in {}; enrol {gateway} at yours",
                reach.folder.authority().display()
            );
            return Ok(Err(Failure::new(USAGE, text)));
        }
        Err(failure) => return Ok(Err(failure)),
    };
    let token = match authority.token(&gateway.to_string(), LASTS, with.now) {
        Ok(token) => token,
        Err(error) => return Ok(Err(Failure::new(DISK, chain(&error)))),
    };
    let pin = Thumbprint::of(&authority.certificate());
    let days = LASTS.as_secs() / 86_400;
    writeln!(with.out, "token, good once, for {days} days: {}", token.secret())?;
    writeln!(
        with.out,
        "at the device: ca-pins = [\"{pin}\"] and est = \"https://…\" in [identity],"
    )?;
    writeln!(
        with.out,
        "then tidegate identity enrol with the token; at the hub: tidegate hub ca serve"
    )?;
    Ok(Ok(()))
}
