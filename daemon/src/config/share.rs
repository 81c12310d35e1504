//! What a configuration has in common with the one before it is kept once.
//!
//! A reload holds both for a moment. Were the new one kept as it was read, the texts of the old
//! one would be freed between others that stay, and each reload would leave holes of megabytes.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_modbus::{DeviceSpec, TagSpec};
use tidegate_opcua::DeviceSpec as OpcUaSpec;

use super::{Config, Device, Driver, Tag};

impl Config {
    /// Takes from `before` whatever is equal, device by device.
    pub fn share_with(&mut self, before: &Self) {
        let known: HashMap<_, _> =
            before.devices.iter().map(|device| (device.name(), device)).collect();
        for device in &mut self.devices {
            if let Some(before) = known.get(device.name()) {
                device.share_with(before);
            }
        }
    }
}

impl Device {
    fn share_with(&mut self, before: &Self) {
        share_tags(&mut self.tags, &before.tags);
        share_tags(&mut self.subtrees, &before.subtrees);
        match (&mut self.driver, &before.driver) {
            (Driver::Modbus(spec), Driver::Modbus(before)) => {
                share_modbus(spec, before, &self.tags)
            }
            (Driver::OpcUa(spec), Driver::OpcUa(before)) => share_opcua(spec, before, &self.tags),
            (Driver::Nats(spec), Driver::Nats(before)) if spec == before => {
                *spec = Arc::clone(before);
            }
            (Driver::Modbus(_) | Driver::OpcUa(_) | Driver::Nats(_), _) => {}
        }
    }
}

fn share_tags(tags: &mut Arc<[Tag]>, before: &Arc<[Tag]>) {
    if tags == before {
        *tags = Arc::clone(before);
        return;
    }
    let known: HashMap<_, _> = before.iter().map(|tag| (&tag.path, tag)).collect();
    // Nobody else has it yet.
    for tag in Arc::get_mut(tags).into_iter().flatten() {
        if let Some(before) = known.get(&tag.path) {
            tag.share_with(before);
        }
    }
}

fn share_modbus(spec: &mut Arc<DeviceSpec>, before: &Arc<DeviceSpec>, tags: &[Tag]) {
    if spec == before {
        *spec = Arc::clone(before);
        return;
    }
    let Some(spec) = Arc::get_mut(spec) else { return };
    if spec.link == before.link {
        spec.link = Arc::clone(&before.link);
    }
    if spec.forbidden == before.forbidden {
        spec.forbidden = Arc::clone(&before.forbidden);
    }
    if spec.tags == before.tags {
        spec.tags = Arc::clone(&before.tags);
        return;
    }
    let special = |tag: &TagSpec| tag.special.clone().map(|special| (tag.path.clone(), special));
    let known: HashMap<_, _> = before.tags.iter().filter_map(special).collect();
    let paths = tags.iter().map(|tag| &tag.path);
    for (tag, path) in Arc::get_mut(&mut spec.tags).into_iter().flatten().zip(paths) {
        tag.path.clone_from(path);
        if let Some(special) = &mut tag.special
            && let Some(before) = known.get(path).filter(|before| *before == special)
        {
            *special = Arc::clone(before);
        }
    }
}

fn share_opcua(spec: &mut Arc<OpcUaSpec>, before: &Arc<OpcUaSpec>, tags: &[Tag]) {
    if spec == before {
        *spec = Arc::clone(before);
        return;
    }
    let Some(spec) = Arc::get_mut(spec) else { return };
    if spec.subtrees == before.subtrees {
        spec.subtrees = Arc::clone(&before.subtrees);
    }
    if spec.tags == before.tags {
        spec.tags = Arc::clone(&before.tags);
        return;
    }
    let known: HashMap<_, _> = before.tags.iter().map(|tag| (&tag.path, tag)).collect();
    let paths = tags.iter().map(|tag| &tag.path);
    for (tag, path) in Arc::get_mut(&mut spec.tags).into_iter().flatten().zip(paths) {
        tag.path.clone_from(path);
        let Some(before) = known.get(path) else { continue };
        if tag.node == before.node {
            tag.node.clone_from(&before.node);
        }
        if tag.item == before.item {
            tag.item = Arc::clone(&before.item);
        }
    }
}

impl Tag {
    fn share_with(&mut self, before: &Self) {
        self.path.clone_from(&before.path);
        if self.address == before.address {
            self.address = Arc::clone(&before.address);
        }
        if self.manner == before.manner {
            self.manner = Arc::clone(&before.manner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LINE: &str = include_str!("../../../examples/line.toml");

    fn parse(text: &str) -> Config {
        super::super::parse(Path::new("/etc/tidegate/tidegate.toml"), text, [], &[]).unwrap()
    }

    #[test]
    fn sharing_changes_no_configuration() {
        let before = parse(LINE);
        let changes = [
            ("poll-every-ms", "poll-every-ms = 60000 #"),
            ("unit = \"", "unit = \"x"),
            ("path = \"", "path = \"x/"),
            ("holding:", "input:"),
        ];
        for (old, new) in changes {
            let text = LINE.replace(old, new);
            assert_ne!(text, LINE, "{old}");
            let mut shared = parse(&text);
            shared.share_with(&before);
            assert_eq!(shared, parse(&text), "{old}");
        }
    }

    #[test]
    fn what_did_not_change_is_the_same_allocation() {
        let before = parse(LINE);
        let mut same = parse(LINE);
        same.share_with(&before);
        for (a, b) in same.devices.iter().zip(&before.devices) {
            assert!(Arc::ptr_eq(a.modbus().unwrap(), b.modbus().unwrap()));
            assert!(Arc::ptr_eq(&a.tags, &b.tags));
        }
        // Another unit for each tag that has one.
        let mut other = parse(&LINE.replace("unit = \"", "unit = \"x"));
        other.share_with(&before);
        let mut differ = 0;
        for (a, b) in other.devices.iter().zip(&before.devices) {
            for (a, b) in a.tags.iter().zip(b.tags.iter()) {
                differ += usize::from(a != b);
                assert!(Arc::ptr_eq(&a.path.shared(), &b.path.shared()));
                assert!(Arc::ptr_eq(&a.address, &b.address));
            }
        }
        assert!(differ > 0);
    }

    #[test]
    fn what_only_some_tags_have_is_shared_too() {
        let text = LINE.replace("type = \"float32\"", "type = \"float32\"\nmax = 90");
        let before = parse(&text);
        let mut after = parse(&text.replace("address = \"192", "max-gap = 3\naddress = \"192"));
        let mut other = parse(&text.replace("holding:110\"", "holding:111\""));
        for config in [&mut after, &mut other] {
            config.share_with(&before);
            let (new, old) =
                (config.devices[0].modbus().unwrap(), before.devices[0].modbus().unwrap());
            assert!(!Arc::ptr_eq(new, old) && Arc::ptr_eq(&new.link, &old.link));
            let special =
                |spec: &tidegate_modbus::DeviceSpec| spec.tags[0].special.clone().unwrap();
            assert!(Arc::ptr_eq(&special(new), &special(old)));
        }
    }
}
