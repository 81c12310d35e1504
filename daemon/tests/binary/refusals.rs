//! Configurations and places that the daemon does not start with: it says why, all of it at once,
//! and leaves everything as it was.

use std::os::unix::fs::PermissionsExt as _;

use crate::site::{Said, Site, clean, tidegate};

#[tokio::test]
async fn every_mistake_of_a_configuration_is_told_in_one_run() {
    let site = Site::alone().await;
    site.edit("[uplink]", "[uplink]\nsend-evry-ms = 100");
    site.append(
        "[[device.tag]]\npath = \"n\"\naddress = \"holding:10\"\ntype = \"uint16\"\n\n\
         [[device.tag]]\npath = \"wide\"\naddress = \"holding:20\"\ntype = \"float32\"\n\n\
         [[device.tag]]\npath = \"inside\"\naddress = \"holding:21\"\ntype = \"uint16\"\n\n\
         [[device.tag]]\npath = \"odd\"\naddress = \"holding:30\"\ntype = \"float31\"\n",
    );
    let said = site.run_to_the_end();
    said.refused(
        64,
        &[
            "uplink.send-evry-ms: unknown key",
            "did you mean `send-every-ms`?",
            "\"P/press/n\"",
            "holding",
            "overlap",
            "\"float31\"",
            "legal: ",
            "float32",
            "4 mistakes in ",
            "tidegate.toml:",
        ],
    );
    assert!(!site.path("journal").exists() && !site.path("leaf").exists(), "nothing was made");
    let check = Said::of(tidegate().arg("check").arg(site.config()));
    assert_eq!((check.code, &check.err), (64, &said.err), "check says the same");
    let status = Said::of(&mut site.command("status"));
    assert_eq!((status.code, &status.err), (64, &said.err), "so does whoever needs the socket");
}

#[tokio::test]
async fn broken_toml_is_told_with_its_line() {
    let site = Site::alone().await;
    site.edit("[uplink]", "[uplink");
    site.run_to_the_end()
        .refused(64, &["error: uplink: expected a right bracket", "tidegate.toml:", "[uplink"]);
    site.write("");
    site.run_to_the_end().refused(
        64,
        &[
            "gateway.plant: \"plant\" is missing",
            "gateway.name: \"name\" is missing",
            "2 mistakes in ",
        ],
    );
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_named() {
    let site = Site::alone().await;
    std::fs::remove_file(site.config()).unwrap();
    site.run_to_the_end().refused(64, &["error: configuration", "tidegate.toml", "No such file"]);
}

#[test]
fn arguments_that_cannot_be_are_a_matter_of_usage() {
    for arguments in [&["run", "--nonsense"][..], &["frobnicate"], &["prove"], &["tap"]] {
        Said::of(tidegate().args(arguments)).refused(2, &["Usage: tidegate"]);
    }
}

#[tokio::test]
async fn a_level_that_is_none_is_a_matter_of_usage() {
    let site = Site::alone().await;
    let said = Said::of(site.command("run").args(["--log", "tidegate=loud"]));
    said.refused(2, &["--log \"tidegate=loud\" is no level", "write error, warn, info"]);
}

#[tokio::test]
async fn a_journal_that_may_not_be_read_is_named_with_its_remedy() {
    let site = Site::alone().await;
    let journal = site.path("journal");
    std::fs::create_dir(&journal).unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&journal, 0o000);
    let mut command = if rustix::process::getuid().is_root() {
        // Root may read everything, so somebody else runs it, from where that one can.
        mode(site.dir.path(), 0o755);
        let binary = site.path("tidegate");
        let built = env!("CARGO_BIN_EXE_tidegate");
        std::fs::hard_link(built, &binary)
            .or_else(|_| std::fs::copy(built, &binary).map(drop))
            .unwrap();
        let mut command = clean("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
        command.arg(binary).args(["run", "--config"]).arg(site.config());
        command
    } else {
        site.command("run")
    };
    let said = Said::of(&mut command);
    mode(&journal, 0o700);
    let place = journal.display().to_string();
    said.refused(77, &["no permission for journal", &place, "make it owned by the user"]);
}

#[tokio::test]
async fn a_journal_directory_that_is_a_file_is_named() {
    let site = Site::alone().await;
    std::fs::write(site.path("journal"), "precious").unwrap();
    site.run_to_the_end().refused(73, &["journal", &site.path("journal").display().to_string()]);
    assert_eq!(std::fs::read_to_string(site.path("journal")).unwrap(), "precious");
}

#[tokio::test]
async fn a_control_socket_in_use_is_not_taken_away() {
    let site = Site::alone().await;
    let mut daemon = site.start().await;
    let other = Site::alone().await;
    let socket = site.path("c.sock");
    other.edit("socket = \"c.sock\"", &format!("socket = {socket:?}"));
    let path = socket.display().to_string();
    other.run_to_the_end().refused(73, &["another tidegate answers on", &path, "[control] socket"]);
    assert!(site.status().is_some() && daemon.is_running());
}

#[tokio::test]
async fn a_control_socket_that_is_a_file_is_left_alone() {
    let site = Site::alone().await;
    std::fs::write(site.path("c.sock"), "precious").unwrap();
    let path = site.path("c.sock").display().to_string();
    site.run_to_the_end().refused(64, &[&path, "is not a socket", "remove it, or set"]);
    assert_eq!(std::fs::read_to_string(site.path("c.sock")).unwrap(), "precious");
}
