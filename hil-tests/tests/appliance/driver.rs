//! The emulated machine itself, with a kernel and a busybox.

use std::time::Duration;

use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::machine::disk::{Stick, layer_over};
use tidegate_hil_tests::machine::{Kind, Machine, Parts};
use tidegate_hil_tests::{wait, wan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_steered() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let family = Family::new().unwrap();
    let base = dir.join("base.img");
    std::fs::File::create(&base).unwrap().set_len(256 << 20).unwrap();
    assert!(
        std::process::Command::new("mkfs.ext4").args(["-q"]).arg(&base).status().unwrap().success()
    );
    let disk = dir.join("disk.qcow2");
    layer_over(&family, &base, &disk).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut one, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4];
                one.read_exact(&mut buffer).await.unwrap();
                one.write_all(b"pong\n").await.unwrap();
            });
        }
    });
    let kernel = (
        "/tmp/qk/root/boot/vmlinuz-6.1.0-57-amd64".into(),
        "/tmp/qk/initrd.gz".into(),
        "console=ttyS0 panic=5".to_owned(),
    );
    let parts = Parts {
        kind: Kind::X86_64,
        memory_mib: 512,
        disk,
        kernel: Some(kernel),
        ports: vec![port],
    };
    let mut machine = Machine::off(&family, &dir.join("machine"), parts).unwrap();
    let long = Duration::from_secs(500);
    machine.power_on().await.unwrap();
    println!(
        "{:?}",
        machine.serial().unwrap().says_since(0, &["tidegate-boot:"], long).await.unwrap()
    );
    let shell = machine.shell().unwrap();
    shell.shell_answers(long).await.unwrap();
    let ran = shell
        .run(
            "uname -a; cat /proc/partitions; (echo ping; sleep 2) | nc 10.0.2.100 PORT"
                .replace("PORT", &port.to_string())
                .as_str(),
            long,
        )
        .await
        .unwrap();
    println!("{ran:?}");
    assert!(ran.printed.contains("pong"));
    let ran = shell
        .run("(echo ping; sleep 2) | nc -w 5 10.0.2.2 22; echo; mount /dev/vda /mnt", long)
        .await
        .unwrap();
    println!("{ran:?}");
    let stick = Stick::new(&family, &dir.join("stick.img"), 64).unwrap();
    stick.write("hello.txt", "hello").unwrap();
    machine.plug(&stick).await.unwrap();
    let shell = machine.shell().unwrap();
    let ran = shell.run("sleep 5; cat /proc/partitions; mkdir /s; mount -t vfat -o iocharset=ascii /dev/sda /s && cat /s/hello.txt && echo done > /s/result.txt; umount /s", long).await.unwrap();
    println!("{ran:?}");
    machine.unplug().await.unwrap();
    println!("{:?} {:?}", stick.names(), stick.read("result.txt"));
    let shell = machine.shell().unwrap();
    let ran = shell.run("echo kept > /mnt/kept; sync; dd if=/dev/urandom of=/mnt/big bs=1M count=8; echo lost > /mnt/lost; echo 3 > /proc/sys/vm/drop_caches; sleep 1; cat /proc/meminfo | grep Dirty", long).await.unwrap();
    println!("{ran:?}");
    // Write back without a flush of the disk's cache.
    let ran = shell.run("dd if=/dev/zero of=/dev/vda bs=4096 seek=60000 count=16 oflag=direct; dd if=/dev/vda bs=4096 skip=60000 count=1 iflag=direct 2>/dev/null | md5sum; echo aaaa | dd of=/dev/vda bs=4096 seek=50000 conv=sync oflag=direct; dd if=/dev/vda bs=4096 skip=50000 count=1 iflag=direct | head -c 5", long).await.unwrap();
    println!("{ran:?}");
    machine.cut_power().unwrap();
    machine.power_on().await.unwrap();
    machine.serial().unwrap().says_since(0, &["tidegate-boot:"], long).await.unwrap();
    let shell = machine.shell().unwrap();
    shell.shell_answers(long).await.unwrap();
    let ran = shell.run("mount /dev/vda /mnt; ls /mnt; cat /mnt/kept; dd if=/dev/vda bs=4096 skip=50000 count=1 iflag=direct | head -c 5", long).await.unwrap();
    println!("{ran:?}");
    let _ = (wait::SOON, wan::reserve);
    shell.run("umount /mnt; (sleep 1; poweroff -f) &", long).await.unwrap();
    machine.goes_off(long).await.unwrap();
}
