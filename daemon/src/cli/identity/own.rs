//! `tidegate identity opcua`: the certificate that the gateway shows to servers.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use tidegate_identity::opcua::{Own, OwnCertificate, OwnError, OwnSpec};

use super::super::exit::{CONFIG, DISK, NO, OK};
use super::super::terminal::tame;
use super::{FolderArgs, Surroundings, fail, shown, time};
use crate::config::Config;

/// What can be done.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum OwnCommand {
    /// Show the certificate, and what to check about it
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Where it is.
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Print the certificate, to be approved at a server; never the key
    Export {
        /// As DER instead of PEM
        #[arg(long)]
        der: bool,
        /// Where to write; the terminal when left out
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Where it is.
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Make a new key and certificate; every server has to approve it
    Renew {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Where to.
        #[command(flatten)]
        folder: FolderArgs,
    },
}

pub(super) fn run(command: &OwnCommand, with: &mut Surroundings<'_>) -> io::Result<u8> {
    match command {
        OwnCommand::Show { json, folder } => show(folder, *json, with),
        OwnCommand::Export { der, output, folder } => {
            let dir = match folder.folder(with)? {
                Ok(dir) => dir,
                Err(code) => return Ok(code),
            };
            export(&dir, *der, output.as_deref(), with)
        }
        OwnCommand::Renew { json, folder } => renew(folder, *json, with),
    }
}

/// The configured application URI is only known, and only compared, where there is a
/// configuration: `--dir` looks at a folder alone.
fn show(folder: &FolderArgs, json: bool, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let (dir, uri) = match &folder.dir {
        Some(dir) => (dir.clone(), None),
        None => match folder.load(with)? {
            Ok(config) => {
                let uri = spec(&config, with.host.clone()).application_uri;
                (super::configured(&config), Some(uri))
            }
            Err(code) => return Ok(code),
        },
    };
    let own = match current(&dir, with)? {
        Ok(own) => own,
        Err(code) => return Ok(code),
    };
    let uri = uri.unwrap_or_else(|| own.application_uri.clone());
    let remarks = own.remarks(&uri, with.now);
    if json {
        let mut report = own_json(&own);
        report["warnings"] = json!(remarks);
        writeln!(with.out, "{report}")?;
        return Ok(OK);
    }
    tell(&own, with)?;
    for remark in remarks {
        writeln!(with.err, "warning: {}", tame(&remark))?;
    }
    Ok(OK)
}

fn export(
    dir: &Path,
    der: bool,
    output: Option<&Path>,
    with: &mut Surroundings<'_>,
) -> io::Result<u8> {
    let own = match current(dir, with)? {
        Ok(own) => own,
        Err(code) => return Ok(code),
    };
    let content = if der {
        own.der.clone()
    } else {
        match std::fs::read(&own.certificate) {
            Ok(pem) => pem,
            Err(error) => return fail(with, DISK, &error),
        }
    };
    let Some(file) = output else {
        with.out.write_all(&content)?;
        return Ok(OK);
    };
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(file)
        .and_then(|mut file| file.write_all(&content).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => {
            writeln!(with.out, "wrote {}", shown(file))?;
            Ok(OK)
        }
        Err(error) => {
            writeln!(with.err, "error: {} cannot be written: {error}", shown(file))?;
            Ok(DISK)
        }
    }
}

fn renew(folder: &FolderArgs, json: bool, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let config = match folder.load(with)? {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let dir = folder.dir.clone().unwrap_or_else(|| super::configured(&config));
    let own = match Own::below(&dir).renew(&spec(&config, with.host.clone()), with.now) {
        Ok(own) => own,
        Err(error) => return failed(with, &error),
    };
    if json {
        writeln!(with.out, "{}", own_json(&own))?;
        return Ok(OK);
    }
    tell(&own, with)?;
    writeln!(with.out, "\nit counts from the next connection on; approve it at every server")?;
    Ok(OK)
}

fn current(dir: &Path, with: &mut Surroundings<'_>) -> io::Result<Result<OwnCertificate, u8>> {
    match Own::below(dir).load() {
        Ok(Some(own)) => Ok(Ok(own)),
        Ok(None) => {
            writeln!(
                with.err,
                "error: there is no OPC UA certificate in {} yet; the daemon makes one for the \
                 first server with security, or make it now with: tidegate identity opcua renew",
                shown(&dir.join("own"))
            )?;
            Ok(Err(NO))
        }
        Err(error) => Ok(Err(failed(with, &error)?)),
    }
}

fn failed(with: &mut Surroundings<'_>, error: &OwnError) -> io::Result<u8> {
    let code = match error {
        OwnError::Uri { .. } => CONFIG,
        OwnError::Unfit { .. } => NO,
        _ => DISK,
    };
    fail(with, code, error)
}

fn tell(own: &OwnCertificate, with: &mut Surroundings<'_>) -> io::Result<()> {
    let hosts =
        if own.facts.names.is_empty() { "–".to_owned() } else { own.facts.names.join(", ") };
    for (name, value) in [
        ("subject", own.facts.subject.clone()),
        ("application URI", own.application_uri.clone()),
        ("hosts", hosts),
        ("thumbprint", own.thumbprint.to_string()),
        ("SHA-1", own.sha1.clone()),
        ("serial", own.facts.serial.clone()),
        ("valid from", time(own.facts.not_before)),
        ("valid until", time(own.facts.not_after)),
        ("key", format!("RSA, {} bits", own.key_bits)),
        ("generation", own.generation.to_string()),
        ("file", own.certificate.display().to_string()),
    ] {
        writeln!(with.out, "{name:<15}  {}", tame(&value))?;
    }
    Ok(())
}

fn own_json(own: &OwnCertificate) -> Json {
    json!({
        "subject": own.facts.subject,
        "application_uri": own.application_uri,
        "hosts": own.facts.names,
        "thumbprint": own.thumbprint.to_string(),
        "sha1": own.sha1,
        "serial": own.facts.serial,
        "valid_from": time(own.facts.not_before),
        "valid_until": time(own.facts.not_after),
        "rsa_bits": own.key_bits,
        "generation": own.generation.0,
        "file": own.certificate.display().to_string(),
    })
}

/// What a new certificate of this gateway says.
pub(crate) fn spec(config: &Config, host: Option<String>) -> OwnSpec {
    let gateway = &config.gateway;
    OwnSpec {
        application_uri: format!("urn:tidegate:{}:{}", gateway.plant, gateway.name),
        host,
        common_name: format!("tidegate {} {}", gateway.plant, gateway.name),
        key: tidegate_identity::opcua::KeyBits::default(),
    }
}
