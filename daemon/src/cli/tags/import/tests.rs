//! The command on real files.

use std::fs;

use super::super::export::{self, ExportArgs};
use super::*;

const CONFIG_TEXT: &str = "[gateway]\nplant = \"P\"\nname = \"g\"\n\n[[device]]\nname = \"plc\"\n\
                           protocol = \"modbus-tcp\"\naddress = \"h\"\n";

struct Outcome {
    code: u8,
    out: String,
    err: String,
}

/// One request for each tag: as good as any plan.
fn plan(spec: &DeviceSpec) -> Plan {
    spec.tags.iter().map(|tag| (tag.address.table, tag.address.offset, 1)).collect()
}

struct Plant {
    folder: tempfile::TempDir,
}

impl Plant {
    fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("c.toml"), format!("{CONFIG_TEXT}{more}")).unwrap();
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn import(&self, list: &str, device: &str, dry_run: bool) -> Outcome {
        fs::write(self.file("in.csv"), list).unwrap();
        let args = ImportArgs {
            file: self.file("in.csv"),
            config: self.file("c.toml"),
            device: device.to_owned(),
            dry_run,
            set: SetArgs::default(),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, Vec::new(), &plan, &mut out, &mut err).unwrap();
        Outcome { code, out: text(out), err: text(err) }
    }

    fn export(&self, device: &str, output: Option<&str>) -> Outcome {
        let args = ExportArgs {
            config: self.file("c.toml"),
            device: device.to_owned(),
            output: output.map(|name| self.file(name)),
            set: SetArgs::default(),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = export::run(&args, Vec::new(), &mut out, &mut err).unwrap();
        Outcome { code, out: text(out), err: text(err) }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

const LIST: &str =
    "Name;Register;Type;Poll every ms\r\na;holding:1;;\r\nb;holding:5;float32;100\r\n";
const CANONICAL: &str = "path,address,type,poll-every-ms\na,holding:1,,\nb,holding:5,float32,100\n";

#[test]
fn a_dry_run_shows_what_would_be_polled_and_writes_nothing() {
    let plant = Plant::new("tag-list = \"plc.csv\"\n");
    fs::write(plant.file("plc.csv"), "path,address\nold,holding:9\n").unwrap();
    let found = plant.import(LIST, "plc", true);
    assert_eq!((found.code, found.err.as_str()), (0, ""), "{}", found.out);
    for part in [
        "rows      2\n",
        "tags      2, all of this device: 1 float32, 1 uint16\n",
        "every     100 ms: 1 tag in 1 request per poll\n",
        "every     1000 ms: 1 tag in 1 request per poll\n",
        "a day, all tags of this device\n",
        "nothing was written\n",
    ] {
        assert!(found.out.contains(part), "{part:?} in {}", found.out);
    }
    assert_eq!(plant.text("plc.csv"), "path,address\nold,holding:9\n");
    assert_eq!(plant.names(), ["c.toml", "in.csv", "plc.csv"]);
}

#[test]
fn a_list_of_nodes_is_summed_up_by_what_the_server_is_asked_for() {
    let plant = Plant::new(
        "[[device.tag]]\npath = \"x\"\naddress = \"coil:1\"\n[[device]]\nname = \"press\"\n\
         protocol = \"opcua\"\naddress = \"opc.tcp://h\"\npublish-every-ms = 500\n",
    );
    let list = "path;node id;sampling interval ms;subtree;include\n\
                a;\"nsu=urn:x;s=a\";100;;\nb;\"ns=2;s=b\";;;\nc;/Objects/C;;TRUE;\"*; d/**\"\n";
    let found = plant.import(list, "press", false);
    assert_eq!(found.code, 0, "{}", found.err);
    for part in [
        "rows      3\n",
        "tags      2 and 1 subtree, all of this device\n",
        "every     100 ms: 1 tag, published every 500 ms\n",
        "every     1000 ms: 1 tag and 1 subtree, published every 500 ms\n",
    ] {
        assert!(found.out.contains(part), "{part:?} in {}", found.out);
    }
    let warning = "warning: press: P/press/b is addressed by a namespace index, \"ns=2;s=b\"";
    assert!(found.err.starts_with(warning), "{}", found.err);
    let canonical = "path,address,poll-every-ms,subtree,include\na,nsu=urn:x;s=a,100,,\n\
                     b,ns=2;s=b,,,\nc,/Objects/C,,true,*; d/**\n";
    assert_eq!(plant.text("press.csv"), canonical);
    // And out again, now that the configuration names it.
    let text = plant.text("c.toml");
    fs::write(plant.file("c.toml"), format!("{text}tag-list = \"press.csv\"\n")).unwrap();
    let found = plant.export("press", Some("out.csv"));
    assert_eq!(found.code, 0, "{}", found.err);
    assert!(found.out.contains("out.csv (3 tags)"), "{}", found.out);
    assert_eq!(plant.text("out.csv"), canonical);
}

#[test]
fn the_list_of_a_device_is_replaced_and_the_old_one_kept() {
    let plant = Plant::new("tag-list = \"lists/plc.csv\"\n");
    fs::create_dir(plant.file("lists")).unwrap();
    fs::write(plant.file("lists/plc.csv"), "path,address\nold,holding:9\n").unwrap();
    let found = plant.import(LIST, "plc", false);
    assert_eq!((found.code, found.err.as_str()), (0, ""), "{}", found.out);
    assert_eq!(plant.text("lists/plc.csv"), CANONICAL);
    assert_eq!(plant.text("lists/plc.csv.bak"), "path,address\nold,holding:9\n");
    assert!(found.out.contains("plc.csv.bak") && !found.out.contains("add this"), "{}", found.out);
    assert_eq!(fs::read_dir(plant.file("lists")).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn without_a_key_the_line_to_add_is_told() {
    let plant = Plant::new("[[device.tag]]\npath = \"own\"\naddress = \"coil:1\"\n");
    let found = plant.import(LIST, "plc", false);
    assert_eq!(found.code, 0, "{}", found.err);
    assert!(found.out.contains("add this line to [[device]] \"plc\""), "{}", found.out);
    assert!(found.out.contains("  tag-list = \"plc.csv\"\n"), "{}", found.out);
    assert_eq!(plant.text("plc.csv"), CANONICAL);
    // The line does what was promised.
    let added = CONFIG_TEXT.to_owned() + "tag-list = \"plc.csv\"\n";
    fs::write(plant.file("c.toml"), added).unwrap();
    let config = config::load(&plant.file("c.toml"), Vec::new(), &[]).unwrap();
    assert_eq!(config.devices[0].tags.len(), 2);
}

#[test]
fn a_list_with_mistakes_changes_nothing() {
    let plant = Plant::new("tag-list = \"plc.csv\"\n");
    fs::write(plant.file("plc.csv"), "path,address\nold,holding:9\n").unwrap();
    let found = plant.import("path,address\nx,hold:1\n", "plc", false);
    assert_eq!((found.code, found.out.as_str()), (64, ""));
    assert!(found.err.contains("in.csv: row 2, column \"address\""), "{}", found.err);
    assert_eq!(plant.names(), ["c.toml", "in.csv", "plc.csv"]);
}

#[test]
fn another_device_may_not_be_met() {
    let more = "[[device.tag]]\npath = \"own\"\naddress = \"coil:1\"\n[[device]]\nname = \"two\"\n\
                protocol = \"modbus-tcp\"\naddress = \"i\"\nbase-path = \"P/plc\"\n\
                [[device.tag]]\npath = \"a\"\naddress = \"coil:1\"\n";
    let found = Plant::new(more).import(LIST, "plc", true);
    assert_eq!(found.code, 64);
    assert!(found.err.contains("another tag has the path \"P/plc/a\" already"), "{}", found.err);
}

#[test]
fn what_is_not_there_is_named() {
    let plant = Plant::new("[[device.tag]]\npath = \"own\"\naddress = \"coil:1\"\n");
    let found = plant.import(LIST, "plk", true);
    assert_eq!(found.code, 2);
    assert!(found.err.contains("no device \"plk\"") && found.err.contains("devices: plc"));
    assert_eq!(plant.export("plk", None).code, 2);
    let args = ImportArgs {
        file: plant.file("nothing.csv"),
        config: plant.file("c.toml"),
        device: "plc".into(),
        dry_run: true,
        set: SetArgs::default(),
    };
    let mut err = Vec::new();
    let code = run(&args, Vec::new(), &plan, &mut Vec::new(), &mut err).unwrap();
    assert_eq!(code, 73);
    assert!(text(err).contains("nothing.csv cannot be read: No such file"));
    let found = plant.export("plc", Some("no/where.csv"));
    assert_eq!(found.code, 73);
    assert!(found.err.contains("where.csv cannot be written"), "{}", found.err);
}

#[test]
fn what_is_exported_can_be_imported() {
    let plant = Plant::new(
        "profile = \"p\"\ntag-list = \"plc.csv\"\n[[device.tag]]\npath = \"own\"\n\
         address = \"holding:30\"\ntype = \"text\"\nlength = 5\n[[profile]]\nname = \"p\"\n\
         [[profile.tag]]\npath = \"common\"\naddress = \"input:4\"\nmax = 5\n",
    );
    fs::write(plant.file("plc.csv"), LIST).unwrap();
    let found = plant.export("plc", None);
    assert_eq!(
        (found.code, found.out.as_str()),
        (
            0,
            "path,address,type,length,max,poll-every-ms\nown,holding:30,text,5,,\na,holding:1,uint16,,,\n\
             b,holding:5,float32,,,100\ncommon,input:4,uint16,,5,\n"
        )
    );
    let found = plant.export("plc", Some("out.csv"));
    assert_eq!(found.code, 0, "{}", found.err);
    let alone = Plant::new("");
    let found = alone.import(&plant.text("out.csv"), "plc", false);
    assert_eq!(found.code, 0, "{}", found.err);
    assert_eq!(alone.text("plc.csv"), plant.text("out.csv"));
}
