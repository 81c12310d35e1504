use std::io;

use super::*;
use crate::made::{MadeCa, at};

struct Lab {
    dir: tempfile::TempDir,
    ca: MadeCa,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), ca: MadeCa::new("lab") }
    }

    fn folder(&self) -> IdentityFolder {
        IdentityFolder::open(self.dir.path().join("identity")).unwrap()
    }

    fn sign(&self, request: &CertificateRequest) -> Enrolled {
        self.ca.sign(request)
    }
}

fn request() -> CertificateRequest {
    CertificateRequest::new("P/g", &[]).unwrap()
}

#[test]
fn an_empty_folder_holds_nothing_and_is_no_error() {
    let lab = Lab::new();
    let missing = IdentityFolder::at(lab.dir.path().join("missing"));
    for folder in [lab.folder(), missing] {
        assert!(folder.roots().unwrap().is_empty());
        assert!(folder.pending().unwrap().is_none());
        assert!(folder.token().unwrap().is_none());
        assert!(folder.bootstrap().unwrap().is_none());
        assert_eq!(folder.last_time().unwrap(), None);
        assert_eq!(folder.state().unwrap(), IdentityState::default());
        assert!(folder.exposed().is_empty());
        let wiped = folder.wipe();
        assert!(wiped.removed.is_empty() && wiped.left.is_empty(), "{wiped:?}");
    }
}

#[test]
fn a_pending_key_becomes_a_generation_with_the_certificate_that_was_dropped_beside_it() {
    let lab = Lab::new();
    let folder = lab.folder();
    let _lock = folder.lock().unwrap();
    folder.store_pending(&request()).unwrap();
    let pending = folder.pending().unwrap().unwrap();
    assert!(pending.certificate.is_none());
    let request = pending.request("P/g", &[]).unwrap();
    let signed = lab.sign(&request);
    folder.store_pending_certificate(&signed).unwrap();
    let found = folder.pending().unwrap().unwrap().certificate.unwrap().unwrap();
    assert_eq!(found, signed);
    let generation = folder.install(&request, &found).unwrap();
    assert!(folder.pending().unwrap().is_none(), "the key has moved");
    let loaded = folder.generations().load().unwrap();
    assert_eq!((loaded.generation, generation), (Generation(1), Generation(1)));
    assert_eq!(loaded.identity.facts().subject, "CN=P/g,O=Tidegate");
    let full = fs::read_to_string(folder.generations().path_of(generation).join("full.pem"));
    assert_eq!(full.unwrap().trim(), pem_of(CERTIFICATE, &signed.certificate).trim());
}

#[test]
fn a_certificate_of_another_key_is_not_installed_and_the_pending_key_stays() {
    let lab = Lab::new();
    let folder = lab.folder();
    folder.store_pending(&request()).unwrap();
    let mine = folder.pending().unwrap().unwrap().request("P/g", &[]).unwrap();
    let other = lab.sign(&request());
    let refused = folder.install(&mine, &other);
    assert!(matches!(refused, Err(InstallError::NotAccepted(NotAccepted::Key(_)))), "{refused:?}");
    assert!(folder.pending().unwrap().is_some());
    assert!(folder.generations().current().is_err());
}

#[test]
fn a_dropped_certificate_that_is_none_is_told_and_the_key_is_kept() {
    let lab = Lab::new();
    let folder = lab.folder();
    folder.store_pending(&request()).unwrap();
    fs::write(folder.pending_path().join("cert.pem"), "junk").unwrap();
    let pending = folder.pending().unwrap().unwrap();
    let error = pending.certificate.as_ref().unwrap().as_ref().unwrap_err();
    assert!(error.to_string().contains("cert.pem cannot be used: no CERTIFICATE block"), "{error}");
    assert!(pending.request("P/g", &[]).is_ok());
    assert!(folder.remove_pending_certificate().unwrap());
    assert!(folder.pending().unwrap().unwrap().certificate.is_none());
}

#[test]
fn stopping_at_any_step_leaves_a_file_as_it_was_or_as_it_should_be() {
    let lab = Lab::new();
    let folder = lab.folder();
    folder.store_last_time(at(1)).unwrap();
    let mut steps = 0;
    for stop_at in 0.. {
        folder.store_last_time(at(1)).unwrap();
        let (mut count, mut named) = (0, false);
        let done = folder.replace_with(LAST_TIME, b"2\n", &mut |doing| {
            if count == stop_at {
                return Err(io::Error::other("power cut"));
            }
            count += 1;
            named |= doing == "name";
            Ok(())
        });
        let expected = if named { at(2) } else { at(1) };
        assert_eq!(folder.last_time().unwrap(), Some(expected), "stopped at step {stop_at}");
        folder.lock().unwrap();
        let drafts = fs::read_dir(folder.dir()).unwrap().filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".unfinished")
        });
        assert_eq!(drafts.count(), 0, "the lock clears what was left");
        if done.is_ok() {
            steps = stop_at;
            break;
        }
    }
    assert_eq!(steps, 3, "write, name, sync");
}

#[test]
fn stopping_at_any_step_of_a_new_pending_key_never_leaves_half_a_key() {
    let lab = Lab::new();
    for stop_at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let folder = IdentityFolder::open(dir.path()).unwrap();
        folder.store_pending(&request()).unwrap();
        let mut count = 0;
        let done = folder.store_pending_with(&request(), &mut |_| {
            if count == stop_at {
                return Err(io::Error::other("power cut"));
            }
            count += 1;
            Ok(())
        });
        let reopened = IdentityFolder::open(dir.path()).unwrap();
        let _lock = reopened.lock().unwrap();
        // Between overwriting and removing the former key there is a file of zeros: no key, and
        // told as such; the next key replaces it.
        if let Some(pending) = reopened.pending().unwrap()
            && let Ok(request) = pending.request("P/g", &[])
        {
            request.accept(&lab.sign(&request)).unwrap();
        }
        reopened.store_pending(&request()).unwrap();
        assert!(reopened.pending().unwrap().unwrap().request("P/g", &[]).is_ok());
        if done.is_ok() {
            assert_eq!(stop_at, 11, "the former away in five, the new one in six");
            break;
        }
    }
}

#[test]
fn nobody_else_can_read_what_is_written_and_what_was_opened_is_told() {
    let lab = Lab::new();
    let folder = lab.folder();
    folder.store_pending(&self::request()).unwrap();
    folder.store_token(&Token::new("abc").unwrap()).unwrap();
    folder.store_roots(&[lab.ca.certificate()]).unwrap();
    folder.store_state(&IdentityState::default()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.dir()), 0o700);
    assert_eq!(mode(&folder.pending_path()), 0o700);
    for file in ["pending/key.pem", "token", "roots.pem", "state.json"] {
        assert_eq!(mode(&folder.dir().join(file)), 0o600, "{file}");
    }
    assert!(folder.exposed().is_empty());
    let token = folder.dir().join("token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(folder.exposed(), [token]);
}

#[test]
fn token_and_roots_are_kept_and_the_token_is_destroyed() {
    let lab = Lab::new();
    let folder = lab.folder();
    folder.store_roots(&[lab.ca.certificate(), lab.ca.certificate()]).unwrap();
    assert_eq!(folder.roots().unwrap().len(), 2);
    folder.store_token(&Token::new("abc").unwrap()).unwrap();
    assert_eq!(folder.token().unwrap().unwrap().secret(), "abc");
    assert!(folder.remove_token().unwrap());
    assert!(!folder.remove_token().unwrap());
    assert!(folder.token().unwrap().is_none());
}

#[test]
fn what_is_broken_or_far_too_large_is_named_with_what_helps() {
    let lab = Lab::new();
    let folder = lab.folder();
    let put = |name: &str, text: &[u8]| fs::write(folder.dir().join(name), text).unwrap();
    put("token", b"two words\n");
    put("roots.pem", b"junk");
    put("last-time", b"yesterday");
    put("state.json", b"{");
    let told = [
        folder.token().unwrap_err(),
        folder.roots().unwrap_err(),
        folder.last_time().unwrap_err(),
        folder.state().unwrap_err(),
    ];
    for (error, name) in told.iter().zip(["token", "roots.pem", "last-time", "state.json"]) {
        assert!(matches!(error, StoreError::Broken { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{name} cannot be used: ")), "{error}");
    }
    put("token", &[b'a'; 5_000]);
    assert!(matches!(folder.token(), Err(StoreError::TooLarge { most: MAX_TOKEN, .. })));
    fs::remove_file(folder.dir().join("token")).unwrap();
    fs::create_dir(folder.dir().join("token")).unwrap();
    assert!(matches!(folder.token(), Err(StoreError::NotAFile { .. })));
}

#[test]
fn two_writers_at_once_are_one_too_many() {
    let lab = Lab::new();
    let lock = lab.folder().lock().unwrap();
    assert!(matches!(lab.folder().lock(), Err(StoreError::Busy { .. })));
    drop(lock);
    lab.folder().lock().unwrap();
}

#[test]
fn the_state_survives_a_restart_and_a_newer_version() {
    let lab = Lab::new();
    let folder = lab.folder();
    let state = IdentityState {
        last_attempt: Some(5),
        last_error: Some("the authority is away".to_owned()),
        failures: 3,
        longest_offline_s: 864_000,
        ..IdentityState::default()
    };
    folder.store_state(&state).unwrap();
    assert_eq!(folder.state().unwrap(), state);
    fs::write(folder.dir().join("state.json"), r#"{"failures": 2, "of-the-future": []}"#).unwrap();
    assert_eq!(folder.state().unwrap().failures, 2);
}

fn filled(lab: &Lab, dir: &Path) -> IdentityFolder {
    let folder = IdentityFolder::open(dir).unwrap();
    for _ in 0..2 {
        let request = request();
        folder.install(&request, &lab.sign(&request)).unwrap();
    }
    folder.store_pending(&self::request()).unwrap();
    folder.store_token(&Token::new("abc").unwrap()).unwrap();
    let request = request();
    let cert = pem_of(CERTIFICATE, &lab.sign(&request).certificate);
    folder.store_bootstrap(request.key_pem().as_bytes(), cert.as_bytes()).unwrap();
    folder.store_roots(&[lab.ca.certificate()]).unwrap();
    folder.store_last_time(at(1)).unwrap();
    folder
}

#[test]
fn a_wipe_removes_everything_of_ours_says_what_and_finishes_what_was_interrupted() {
    let lab = Lab::new();
    for stop_at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let folder = filled(&lab, dir.path());
        assert!(folder.bootstrap().unwrap().is_some());
        let foreign = dir.path().join("notes.txt");
        fs::write(&foreign, "mine").unwrap();
        let mut count = 0;
        let cut = folder.wipe_with(&mut |_| {
            count += 1;
            if count > stop_at { Err(io::Error::other("power cut")) } else { Ok(()) }
        });
        let rest = folder.wipe();
        assert!(rest.left.is_empty(), "{rest:?}");
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["notes.txt"], "stopped at step {stop_at}");
        if cut.left.is_empty() {
            for name in ["gen-2/key.pem", "current", "token", "pending", "roots.pem"] {
                assert!(cut.removed.contains(&dir.path().join(name)), "{name}: {cut:?}");
            }
            assert!(rest.removed.is_empty());
            break;
        }
    }
}

#[test]
fn a_key_is_overwritten_before_it_is_removed() {
    let lab = Lab::new();
    let folder = filled(&lab, lab.dir.path());
    let key = folder.generations().path_of(Generation(2)).join("key.pem");
    let second = lab.dir.path().join("second-name");
    fs::hard_link(&key, &second).unwrap();
    assert!(folder.wipe().left.is_empty());
    let bytes = fs::read(&second).unwrap();
    assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0));
}
