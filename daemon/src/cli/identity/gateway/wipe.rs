//! `tidegate identity wipe`: the end of a gateway's name on this device.

use std::io;

use tidegate_identity::IdentityFolder;

use super::super::super::ask;
use super::super::super::exit::{NO, OK};
use super::super::super::terminal::{count, tame};
use super::super::{Surroundings, shown};
use super::{GatewayArgs, Stop, disk_code};
use crate::causes::chain;

/// Destroy the gateway's keys and certificates, for ever
#[derive(Debug, Clone, clap::Args)]
pub struct WipeArgs {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Leave the gateway's own OPC UA certificate and key
    #[arg(long)]
    pub keep_opcua: bool,
    /// Whose.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Exit code 0 gone, 1 the daemon runs or the person declined, 2 nobody can be asked, 73 or 77
/// something that cannot be removed.
pub(in super::super) fn wipe(args: &WipeArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let site = match args.gateway.site(with)? {
        Ok(site) => site,
        Err(code) => return Ok(code),
    };
    let gateway = site.gateway();
    if site.daemon_runs() {
        let text = "the daemon runs and uses them; stop it first: systemctl stop tidegate";
        return Stop::no(text).told(with);
    }
    let mut dirs = vec![site.folder.dir().to_owned()];
    if !args.keep_opcua {
        dirs.push(site.config.opcua.dir.join("own"));
    }
    if !args.yes {
        let shown: Vec<_> = dirs.iter().map(|dir| shown(dir)).collect();
        let question =
            format!("destroy the keys of {} in {} for ever?", tame(&gateway), shown.join(" and "));
        match ask::agreed(&question) {
            Ok(Some(true)) => {}
            Ok(Some(false)) => return Stop::new(NO, "nothing was removed").told(with),
            Ok(None) | Err(_) => {
                let text = "nobody can be asked here; say --yes when this is meant";
                return Stop::usage(text).told(with);
            }
        }
    }
    let mut code = OK;
    let mut gone = 0;
    for dir in dirs {
        // The generations of OPC UA lie in a folder of the same kind.
        let wiped = IdentityFolder::at(dir).wipe();
        for path in &wiped.removed {
            writeln!(with.out, "removed {}", shown(path))?;
        }
        gone += wiped.removed.len();
        for error in &wiped.left {
            writeln!(with.err, "error: {}", tame(&chain(error)))?;
            code = disk_code(error).unwrap_or(NO);
        }
    }
    let gone = count(u64::try_from(gone).unwrap_or(u64::MAX), "file");
    writeln!(with.out, "{gone} removed; keys were overwritten first, which flash may not honour")?;
    writeln!(
        with.out,
        "now tell the hub and the authority: tidegate hub revoke {}, and revoke the certificate",
        tame(&gateway)
    )?;
    Ok(code)
}
