//! What the Modbus translator shows and trusts under TLS: the files that an operator handed over,
//! read anew for each connection.
//!
//! # Invariants
//! - Certificates outside their time are used all the same: the clock may be wrong, and who is
//!   refused is for the other side to say.
//! - Nothing is resumed from an earlier connection: replaced files count at once.

use std::error::Error;
use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, version};
use tidegate_identity::{GenerationStore, Identity, load_identity, load_trust};
use tidegate_modbus::{TlsSource, TlsSpec};

/// TLS from files. Our certificate may be the folder of a [`GenerationStore`] instead; its current
/// generation then holds the key as well.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsFromFiles;

/// Everything that is wrong with the files of one device.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
struct Mistakes(Vec<String>);

impl TlsSource for TlsFromFiles {
    fn config(&self, spec: &TlsSpec) -> Result<Arc<ClientConfig>, Box<dyn Error + Send + Sync>> {
        let trust = load_trust(&spec.ca);
        let identity = spec.identity.as_ref().map(|(cert, key)| -> Result<_, Mistakes> {
            if cert.is_dir() {
                return identity_in(cert);
            }
            load_identity(cert, key).map_err(|errors| mistakes(&errors))
        });
        let (trust, identity) = match (trust, identity.transpose()) {
            (Ok(trust), Ok(identity)) => (trust, identity),
            (Ok(_), Err(error)) => return Err(error.into()),
            (Err(trust), identity) => {
                let Mistakes(mut all) = mistakes(&[trust]);
                all.extend(identity.err().into_iter().flat_map(|Mistakes(more)| more));
                return Err(Mistakes(all).into());
            }
        };
        let mut roots = RootCertStore::empty();
        for certificate in trust.certificates {
            roots.add(certificate)?;
        }
        let builder =
            ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
                .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let shown = SingleCertAndKey::from(identity.certified()?);
                builder.with_client_cert_resolver(Arc::new(shown))
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn identity_in(folder: &std::path::Path) -> Result<Identity, Mistakes> {
    let store = GenerationStore::open(folder).map_err(|error| mistakes(&[error]))?;
    Ok(store.load().map_err(|error| mistakes(&[error]))?.identity)
}

fn mistakes<E: Error>(errors: &[E]) -> Mistakes {
    Mistakes(errors.iter().map(|error| crate::causes::chain(error)).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use tidegate_identity::lab::{LabCa, Lifetime};

    use super::*;

    struct Folder {
        dir: tempfile::TempDir,
        spec: TlsSpec,
        ca: LabCa,
    }

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let ca = LabCa::new("lab", Lifetime::from(SystemTime::now())).unwrap();
            let here = |name: &str| dir.path().join(name);
            std::fs::write(here("ca.pem"), ca.certificate_pem()).unwrap();
            let identity = Some((here("gw.pem"), here("gw.key")));
            let spec = TlsSpec { ca: here("ca.pem"), identity, server_name: None };
            let folder = Self { dir, spec, ca };
            folder.issue(Duration::ZERO);
            folder
        }

        /// A certificate that began so long ago, for a day.
        fn issue(&self, ago: Duration) {
            let lifetime = Lifetime::from(SystemTime::now() - ago);
            let issued = self.ca.gateway("P/g", lifetime).unwrap();
            std::fs::write(self.path("gw.pem"), &issued.certificate_pem).unwrap();
            std::fs::write(self.path("gw.key"), issued.key_pem.as_bytes()).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn error(&self) -> String {
            TlsFromFiles.config(&self.spec).unwrap_err().to_string()
        }
    }

    #[test]
    fn a_certificate_is_shown_where_there_is_one() {
        let mut folder = Folder::new();
        let config = TlsFromFiles.config(&folder.spec).unwrap();
        assert!(config.client_auth_cert_resolver.has_certs());
        folder.spec.identity = None;
        let config = TlsFromFiles.config(&folder.spec).unwrap();
        assert!(!config.client_auth_cert_resolver.has_certs());
    }

    #[test]
    fn an_expired_certificate_is_shown_nevertheless() {
        let folder = Folder::new();
        folder.issue(Duration::from_secs(10 * 86_400));
        assert!(TlsFromFiles.config(&folder.spec).is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_file() {
        let folder = Folder::new();
        std::fs::write(folder.path("ca.pem"), "not PEM").unwrap();
        std::fs::remove_file(folder.path("gw.key")).unwrap();
        let error = folder.error();
        assert!(error.contains("ca.pem holds no certificate"), "{error}");
        assert!(error.contains("gw.key does not exist"), "{error}");
    }

    #[test]
    fn files_are_read_anew_each_time() {
        let folder = Folder::new();
        std::fs::rename(folder.path("ca.pem"), folder.path("away")).unwrap();
        assert!(folder.error().contains("ca.pem does not exist"));
        std::fs::rename(folder.path("away"), folder.path("ca.pem")).unwrap();
        assert!(TlsFromFiles.config(&folder.spec).is_ok());
    }

    #[test]
    fn a_folder_of_generations_gives_its_current_one() {
        let mut folder = Folder::new();
        let generations = folder.path("generations");
        folder.spec.identity = Some((generations.clone(), generations.clone()));
        std::fs::create_dir(&generations).unwrap();
        assert!(folder.error().contains("does not name a generation"), "{}", folder.error());
        let read = |name: &str| std::fs::read(folder.path(name)).unwrap();
        let store = GenerationStore::open(&generations).unwrap();
        store.install(&read("gw.key"), &read("gw.pem"), b"").unwrap();
        let config = TlsFromFiles.config(&folder.spec).unwrap();
        assert!(config.client_auth_cert_resolver.has_certs());
    }
}
