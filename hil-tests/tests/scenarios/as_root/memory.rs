//! The kernel runs out of memory for the gateway and kills the daemon.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidegate_hil_tests::{Rig, Wishes, wait};

use crate::CATCH_UP;

/// Enough for daemon and leaf with all that they cache, and for nothing beside.
const LIMIT: u64 = 192 << 20;

/// A control group with a limit of memory. It goes when nobody is in it, also when the test is
/// killed: a shell beside the test waits for that.
struct Group {
    path: PathBuf,
    guardian: Child,
}

const GUARDIAN: &str = r#"
cat > /dev/null
for round in $(seq 500); do
    kill -KILL $(cat "$1/cgroup.procs") 2> /dev/null
    rmdir "$1" 2> /dev/null
    [ -d "$1" ] || exit 0
    sleep 0.02
done
"#;

impl Group {
    fn limited() -> Self {
        // One controller a tree, as long as there was nothing else; or all of them in one.
        let old = Path::new("/sys/fs/cgroup/memory");
        let (root, key) = match old.exists() {
            true => (old, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let path = root.join(format!("tidegate-rig-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|error| {
            panic!("{} cannot be made, run where control groups can be: {error}", path.display())
        });
        let mut guardian = Command::new("sh");
        guardian.args(["-c", GUARDIAN, "guardian"]).arg(&path).stdin(Stdio::piped());
        let group = Self { guardian: guardian.spawn().unwrap(), path };
        std::fs::write(group.path.join(key), LIMIT.to_string()).unwrap();
        // Where there is swap, it would only take longer.
        let _ = std::fs::write(group.path.join("memory.memsw.limit_in_bytes"), LIMIT.to_string());
        let _ = std::fs::write(group.path.join("memory.swap.max"), "0");
        group
    }

    /// Begins a command line that joins the group and is the first to be killed, or is not.
    fn join(&self, first_to_be_killed: bool) -> Vec<String> {
        // Only ever up: down takes a privilege more.
        let score = if first_to_be_killed { "1000" } else { "0" };
        let script = format!(
            r#"echo $$ > "{}" && echo {score} > /proc/self/oom_score_adj && exec "$@""#,
            self.path.join("cgroup.procs").display()
        );
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// Takes all the memory that the group may have, until somebody is killed for it.
    fn exhaust(&self) -> Child {
        let mut line = self.join(false);
        // A last line without an end is kept until it ends.
        line.extend(["tail".to_owned(), "/dev/zero".to_owned()]);
        Command::new(&line[0]).args(&line[1..]).spawn().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_for_want_of_memory_loses_nothing_that_was_durable() {
    let group = Group::limited();
    let around = group.join(true);
    let around: Vec<_> = around.iter().map(String::as_str).collect();
    let mut rig = Rig::running_with(Wishes::default().started_by(&around)).await.unwrap();
    rig.polls(10).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    rig.sit_out(Duration::from_secs(2)).await.unwrap();
    for _ in 0..2 {
        let mut hog = group.exhaust();
        wait::until(wait::SOON, "the kernel kills the daemon", || {
            let running = rig.gateway.must_be_running();
            async move { Ok(running.err()) }
        })
        .await
        .unwrap();
        // Gone as well, or it is killed for what it has by now.
        let _ = hog.kill();
        let _ = hog.wait();
        let how = rig.gateway.reap().unwrap();
        assert!(how.contains("SIGKILL"), "{how}");
        rig.gateway.start().await.unwrap();
        rig.polls(10).await.unwrap();
    }
    rig.wan.restore().await.unwrap();
    let (findings, _) = rig.verify(CATCH_UP).await.unwrap();
    for (n, cause) in &findings.named_holes {
        assert_eq!(cause, "not-running", "{n}: {findings:?}");
    }
}
