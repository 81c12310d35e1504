//! `tidegate identity trust`: who is trusted, who waits, who was refused.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value as Json, json};
use tidegate_identity::opcua::trust::{Change, FolderError, Listed, Listing, Standing, TrustError};
use tidegate_identity::opcua::{ThumbprintPrefix, TrustStore};

use super::super::exit::{DISK, NO, OK, USAGE};
use super::super::terminal::{Align, Table, Tone, tame};
use super::{FolderArgs, Surroundings, day, fail, shown, time};

/// What can be done.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum TrustCommand {
    /// List the certificates that wait, are trusted, or were rejected
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Where they are.
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Trust a certificate that a server showed; it counts from the next connection on
    Approve(MoveArgs),
    /// Refuse a certificate for good, also one that an authority signed
    Reject(MoveArgs),
    /// Trust the certificate of a file, or take a revocation list from it
    Add {
        /// DER or PEM
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// It is an authority that completes chains and is not trusted itself
        #[arg(long)]
        issuer: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Where to.
        #[command(flatten)]
        folder: FolderArgs,
    },
}

/// A certificate and where it is.
#[derive(Debug, Clone, clap::Args)]
pub struct MoveArgs {
    /// Its SHA-256 thumbprint, or at least the first eight digits of it
    #[arg(value_name = "THUMBPRINT", value_parser = ThumbprintPrefix::parse)]
    pub thumbprint: ThumbprintPrefix,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where it is.
    #[command(flatten)]
    pub folder: FolderArgs,
}

pub(super) fn run(command: &TrustCommand, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let folder = match command {
        TrustCommand::List { folder, .. } | TrustCommand::Add { folder, .. } => folder,
        TrustCommand::Approve(args) | TrustCommand::Reject(args) => &args.folder,
    };
    let store = match folder.folder(with)? {
        Ok(dir) => TrustStore::below(&dir),
        Err(code) => return Ok(code),
    };
    match command {
        TrustCommand::List { json, .. } => list(&store, *json, with),
        TrustCommand::Approve(args) => changed(store.approve(&args.thumbprint), args.json, with),
        TrustCommand::Reject(args) => changed(store.reject(&args.thumbprint), args.json, with),
        TrustCommand::Add { file, issuer, json, .. } => {
            changed(store.add(file, *issuer), *json, with)
        }
    }
}

fn list(store: &TrustStore, json: bool, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let listing = match store.list() {
        Ok(listing) => listing,
        Err(error) => return fail(with, DISK, &error),
    };
    if json {
        writeln!(with.out, "{}", listing_json(&listing))?;
        return Ok(OK);
    }
    if listing.certificates.is_empty() && listing.lists.is_empty() {
        writeln!(
            with.out,
            "no certificates yet: a server's is kept here when it is first refused"
        )?;
    }
    if !listing.certificates.is_empty() {
        table(&listing, with.now).write(with.out, 0, with.colour)?;
    }
    if !listing.lists.is_empty() {
        if !listing.certificates.is_empty() {
            writeln!(with.out)?;
        }
        lists(&listing, with.now).write(with.out, 0, with.colour)?;
    }
    for remark in &listing.remarks {
        writeln!(with.err, "warning: {}", tame(remark))?;
    }
    Ok(OK)
}

fn table(listing: &Listing, now: SystemTime) -> Table {
    let mut table = Table::new(&[
        ("STANDING", Align::Left),
        ("THUMBPRINT", Align::Left),
        ("UNTIL", Align::Left),
        ("SUBJECT", Align::Left),
        ("APPLICATION URI", Align::Left),
        ("HOSTS", Align::Left),
    ]);
    for one in &listing.certificates {
        let tone = match one.standing {
            Standing::Waiting => Tone::Caution,
            Standing::Trusted => Tone::Good,
            Standing::Issuer => Tone::Plain,
            Standing::Rejected => Tone::Wrong,
        };
        let in_time = one.facts.not_before <= now && now <= one.facts.not_after;
        let authority = if one.is_authority { " (authority)" } else { "" };
        let plain = |text: String| (text, Tone::Plain);
        table.row([
            (one.standing.word().to_owned(), tone),
            plain(one.thumbprint.short()),
            (day(one.facts.not_after), if in_time { Tone::Plain } else { Tone::Wrong }),
            plain(format!("{}{authority}", one.facts.subject)),
            plain(or_none(&one.uris)),
            plain(or_none(&one.facts.names)),
        ]);
    }
    table
}

fn lists(listing: &Listing, now: SystemTime) -> Table {
    let mut table = Table::new(&[
        ("REVOCATION LIST", Align::Left),
        ("REVOKED", Align::Right),
        ("NEXT", Align::Left),
        ("AUTHORITY", Align::Left),
    ]);
    for list in &listing.lists {
        let late = list.next_update.is_some_and(|next| next < now);
        let name = list.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        table.row([
            (name, Tone::Plain),
            (list.revoked.to_string(), Tone::Plain),
            (
                list.next_update.map_or_else(|| "–".to_owned(), day),
                if late { Tone::Caution } else { Tone::Plain },
            ),
            (list.issuer.clone(), Tone::Plain),
        ]);
    }
    table
}

fn or_none(all: &[String]) -> String {
    if all.is_empty() { "–".to_owned() } else { all.join(", ") }
}

fn changed(
    result: Result<Change, TrustError>,
    json: bool,
    with: &mut Surroundings<'_>,
) -> io::Result<u8> {
    let (word, one) = match result {
        Ok(Change::Moved(one)) => ("is now", one),
        Ok(Change::Nothing(one)) => ("was already", one),
        Ok(Change::List(path)) => {
            if json {
                writeln!(with.out, "{}", json!({ "list": path.display().to_string() }))?;
            } else {
                writeln!(with.out, "revocation list kept in {}", shown(&path))?;
            }
            return Ok(OK);
        }
        Err(error) => {
            let code = match &error {
                TrustError::NoSuch { .. } => NO,
                TrustError::Ambiguous { .. } | TrustError::File { .. } => USAGE,
                TrustError::Folder(FolderError { .. }) => DISK,
            };
            return fail(with, code, &error);
        }
    };
    if json {
        let report = json!({ "changed": word == "is now", "certificate": certificate_json(&one) });
        writeln!(with.out, "{report}")?;
        return Ok(OK);
    }
    let standing = one.standing.word();
    writeln!(with.out, "{word} {standing}: {}", tame(&one.facts.subject))?;
    writeln!(with.out, "  thumbprint  {}", one.thumbprint)?;
    writeln!(with.out, "  SHA-1       {}", one.sha1)?;
    writeln!(with.out, "  file        {}", shown(&one.path))?;
    if one.standing == Standing::Trusted && one.is_authority {
        writeln!(
            with.err,
            "warning: it is an authority: every server whose certificate it signed is trusted too"
        )?;
    }
    if one.standing == Standing::Trusted && with.now > one.facts.not_after {
        writeln!(
            with.err,
            "warning: it expired on {} and is refused until the server has a new one",
            day(one.facts.not_after)
        )?;
    }
    Ok(OK)
}

fn listing_json(listing: &Listing) -> Json {
    json!({
        "certificates": listing.certificates.iter().map(certificate_json).collect::<Vec<_>>(),
        "lists": listing.lists.iter().map(|list| json!({
            "file": list.path.display().to_string(),
            "authority": list.issuer,
            "revoked": list.revoked,
            "next_update": list.next_update.map(time),
        })).collect::<Vec<_>>(),
        "warnings": listing.remarks,
    })
}

fn certificate_json(one: &Listed) -> Json {
    json!({
        "standing": one.standing.word(),
        "thumbprint": one.thumbprint.to_string(),
        "sha1": one.sha1,
        "subject": one.facts.subject,
        "issuer": one.facts.issuer,
        "serial": one.facts.serial,
        "valid_from": time(one.facts.not_before),
        "valid_until": time(one.facts.not_after),
        "uris": one.uris,
        "hosts": one.facts.names,
        "rsa_bits": one.rsa_bits,
        "authority": one.is_authority,
        "file": one.path.display().to_string(),
    })
}
