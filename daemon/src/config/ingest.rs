//! Checks a device that is fed by messages of local applications.
//!
//! # Invariants
//! - No message belongs to two devices, and no two subjects meet on one path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_ingest::{DeviceSpec, Payload, Subject, WhenFull};
use tidegate_translator::TagPath;
use toml_span::Value as Toml;

use super::device::{Begun, Read};
use super::fields::{Checker, Fields};
use super::model::{Deadband, Device, Driver, Manner, RecordMode, Tag};
use super::tag::MAX_SILENCE;

impl Checker<'_> {
    /// The device.
    pub(super) fn ingest_spec(&mut self, begun: &Begun) -> Option<DeviceSpec> {
        let fields = begun.fields();
        let subjects = fields.subjects("subjects");
        let skip_parts = fields.integer("skip-parts");
        if let Some(skip) = skip_parts {
            self.parts_left_out(fields, subjects, skip);
        }
        if fields.text("payload") == Some("bytes") {
            for key in ["split", "id-field", "time-field", "value-field"] {
                if fields.written(key) {
                    let mistake = fields
                        .mistake(key, "nothing is read inside of payloads")
                        .legal("nothing, or payload = \"auto\"")
                        .other(fields.place("payload"), "written here");
                    self.mistakes.push(mistake);
                }
            }
        }
        let field = |key| fields.text(key).map(Box::<str>::from);
        let number = |key| fields.integer::<u32>(key).and_then(|it| usize::try_from(it).ok());
        Some(DeviceSpec {
            name: fields.text("name")?.to_owned(),
            subjects: subjects.into(),
            base_path: begun.base_path()?.clone(),
            skip_parts: skip_parts?,
            payload: match fields.text("payload")? {
                "bytes" => Payload::Bytes,
                _ => Payload::Auto,
            },
            split: fields.flag("split"),
            id_field: field("id-field"),
            time_field: field("time-field"),
            value_field: field("value-field"),
            max_payload: usize::try_from(fields.size("max-payload")?).ok()?,
            max_tags: number("max-subjects")?,
            max_waiting: number("max-waiting")?,
            when_full: match fields.text("when-full")? {
                "drop" => WhenFull::Drop,
                _ => WhenFull::Refuse,
            },
            remember_ids: number("remember-ids")?,
            remember_for: fields.duration("remember-for-ms")?,
            answer_within: fields.duration("answer-within-ms")?,
        })
        .filter(|spec| !spec.subjects.is_empty())
    }

    fn parts_left_out(&mut self, fields: &Fields, subjects: &[Box<str>], skip: usize) {
        let fixed = |subject: &str| Subject(subject).fixed(skip).map(|it| it.join("."));
        let mut all: BTreeMap<String, &str> = BTreeMap::new();
        for subject in subjects {
            match fixed(subject) {
                Some(parts) => {
                    all.insert(parts, subject);
                }
                None => {
                    let message =
                        format!("{subject:?} has no {skip} parts that stand there whatever comes");
                    let legal = "at most as many parts as each subject has before its wildcard";
                    self.refuse(fields, "skip-parts", message, legal);
                }
            }
        }
        if let [first, .., last] = all.into_values().collect::<Vec<_>>().as_slice() {
            let message = format!("{first:?} and {last:?} begin with different parts");
            let legal = "as many parts as all subjects have in common, or two devices";
            self.refuse(fields, "skip-parts", message, legal);
        }
    }

    /// Messages have no tags in the file.
    pub(super) fn no_tags_of_messages(&mut self, begun: &Begun, table: &Toml<'_>) {
        let Some(tags) = table.as_table().and_then(|table| table.get("tag")) else { return };
        let fields = begun.fields();
        let message = "the tags of messages are found while they come";
        let mistake = super::mistake::Mistake::new(
            format!("{}.tag", fields.path),
            self.header(tags),
            message,
        )
        .legal("nothing for a device that speaks NATS")
        .context(fields.context.clone());
        self.mistakes.push(mistake);
    }

    /// Subjects of two devices, or two of one, that a message could match both of.
    pub(super) fn subjects_that_meet(&mut self, devices: &[Read]) {
        let mut known: Vec<(&str, &Fields)> = Vec::new();
        for read in devices {
            let Some(Driver::Nats(spec)) = read.device.as_ref().map(|device| &device.driver) else {
                continue;
            };
            for subject in spec.subjects.iter() {
                let meets = |(other, _): &&(&str, &Fields)| Subject(subject).meets(Subject(other));
                if let Some((other, fields)) = known.iter().find(meets) {
                    let message = format!("a message could belong to {subject:?} and to {other:?}");
                    let mistake = read
                        .fields
                        .mistake("subjects", message)
                        .legal("subjects of which no two match the same message")
                        .other(fields.place("subjects"), "the other one");
                    self.mistakes.push(mistake);
                }
                known.push((subject, &read.fields));
            }
        }
    }
}

/// Whether a message could belong to two devices, or to two subjects of one.
pub(super) fn do_meet(devices: &[Device]) -> bool {
    let fed = devices.iter().filter_map(Device::ingest);
    let all: Vec<&str> = fed.flat_map(|spec| spec.subjects.iter().map(AsRef::as_ref)).collect();
    let meets = |(at, subject): (usize, &&str)| {
        all.iter().take(at).any(|other| Subject(subject).meets(Subject(other)))
    };
    all.iter().enumerate().any(meets)
}

/// What the daemon does with each tag of messages.
pub(super) fn below(spec: &DeviceSpec) -> Tag {
    Tag {
        path: spec.base_path.clone(),
        address: spec.subjects.join(", ").into(),
        manner: Arc::new(Manner {
            unit: None,
            deadband: Deadband::None,
            max_silence: MAX_SILENCE,
            record: RecordMode::All,
        }),
    }
}

/// What stands for an interval where nothing is polled.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// How long the connection to the leaf may say nothing.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// Where identifiers of messages are recorded.
pub(crate) fn ids_path(spec: &DeviceSpec) -> Option<TagPath> {
    TagPath::new(format!("{}/{}", spec.base_path, tidegate_ingest::IDS)).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Mistakes};

    fn parse(devices: &str) -> Result<Config, Mistakes> {
        let text = format!("[gateway]\nplant = \"P\"\nname = \"g\"\n{devices}");
        crate::config::parse(Path::new("x.toml"), &text, Vec::new(), &[])
    }

    fn device(name: &str, more: &str) -> String {
        format!("[[device]]\nname = \"{name}\"\nprotocol = \"nats\"\n{more}\n")
    }

    fn told(devices: &str) -> String {
        parse(devices).map_or_else(|mistakes| mistakes.to_string(), |_| String::new())
    }

    #[test]
    fn subjects_alone_are_a_device() {
        let config = parse(&device("v", "subjects = [\"fleet.>\"]")).unwrap();
        let [device] = config.devices.as_slice() else { panic!("{config:?}") };
        let Driver::Nats(spec) = &device.driver else { panic!("{device:?}") };
        assert_eq!(spec.base_path.as_str(), "P/v");
        assert_eq!((spec.max_payload, spec.remember_ids), (16 * 1024, 10_000));
        assert_eq!(device.subtrees.len(), 1);
        assert_eq!(&*device.subtrees[0].address, "fleet.>");
    }

    #[test]
    fn what_is_left_out_must_be_common_to_all_subjects() {
        let with = |subjects: &str, skip: u8| {
            told(&device("v", &format!("subjects = [{subjects}]\nskip-parts = {skip}")))
        };
        assert_eq!(with("\"a.b.c.>\", \"a.b.d.*\"", 2), "");
        assert!(with("\"a.*.c\"", 2).contains("has no 2 parts that stand there"));
        assert!(with("\"a.>\"", 2).contains("has no 2 parts"));
        assert!(with("\"a.b.>\", \"a.c.>\"", 2).contains("begin with different parts"));
    }

    #[test]
    fn a_message_belongs_to_one_device() {
        let two = |a: &str, b: &str| {
            told(
                &(device("v", &format!("subjects = [\"{a}\"]"))
                    + &device("w", &format!("subjects = [\"{b}\"]"))),
            )
        };
        assert_eq!(two("a.>", "b.>"), "");
        assert!(two("a.>", "a.*.c").contains("a message could belong to \"a.*.c\" and to \"a.>\""));
        let one = told(&device("v", "subjects = [\"a.*\", \"a.b\"]"));
        assert!(one.contains("1 mistake in"), "{one}");
    }

    #[test]
    fn tags_profiles_and_keys_of_others_are_refused() {
        let subjects = "subjects = [\"a.>\"]";
        let tag = told(&device(
            "v",
            &format!("{subjects}\n[[device.tag]]\npath = \"a\"\naddress = \"holding:1\""),
        ));
        assert!(tag.contains("device[0].tag: the tags of messages are found"), "{tag}");
        assert!(tag.contains("\n1 mistake in"), "{tag}");
        let address = told(&device("v", &format!("{subjects}\naddress = \"h\"")));
        assert!(address.contains("address is for Modbus and OPC UA devices"), "{address}");
        let none = told(&device("v", ""));
        assert!(none.contains("\"subjects\" is missing"), "{none}");
        let own = told(&device("v", "subjects = [\"uns.x\"]"));
        assert!(own.contains("one of Tidegate's own"), "{own}");
        let bytes = told(&device("v", &format!("{subjects}\npayload = \"bytes\"\nsplit = true")));
        assert!(bytes.contains("nothing is read inside of payloads"), "{bytes}");
    }
}
