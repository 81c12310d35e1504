//! Which requests a configuration makes, how often, and how much of a serial line they take.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_modbus::{DeviceSpec, SerialSpec, Table, TagSpec, Transport};
use tidegate_opcua::{Collect, ItemSpec};

use super::{Config, Device};

/// The requests of one cycle: table, first address on the wire, how many.
pub type Plan = Vec<(Table, u16, u16)>;

/// The tags of a device that are read together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// How often.
    pub every: Duration,
    /// How many tags.
    pub tags: usize,
    /// The requests of one cycle.
    pub plan: Plan,
}

impl Group {
    /// Requests per second.
    #[must_use]
    pub fn requests_per_s(&self) -> f64 {
        number(self.plan.len()) / self.every.as_secs_f64().max(0.001)
    }
}

/// The groups of each device, in the order of the configuration, the most frequent first; none of
/// what no Modbus translator reads. `plan` plans the requests of one cycle of a device.
#[must_use]
pub fn groups(config: &Config, plan: &dyn Fn(&DeviceSpec) -> Plan) -> Vec<Vec<Group>> {
    let of =
        |device: &Device| device.modbus().map(|spec| of_device(spec, plan)).unwrap_or_default();
    config.devices.iter().map(of).collect()
}

fn of_device(spec: &DeviceSpec, plan: &dyn Fn(&DeviceSpec) -> Plan) -> Vec<Group> {
    let mut by_interval: BTreeMap<Duration, Vec<TagSpec>> = BTreeMap::new();
    for tag in spec.tags.iter() {
        let every = tag.poll_every().unwrap_or(spec.poll_every);
        by_interval.entry(every).or_default().push(tag.clone());
    }
    let group = |(every, tags): (Duration, Vec<TagSpec>)| {
        let count = tags.len();
        let part = DeviceSpec { tags: tags.into(), ..spec.clone() };
        Group { every, tags: count, plan: plan(&part) }
    };
    by_interval.into_iter().map(group).collect()
}

/// What an OPC UA server is asked to send together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// How often it is sent; `None` where the gateway polls.
    pub publish_every: Option<Duration>,
    /// How often the server looks at each value.
    pub sample_every: Duration,
    /// How many single tags.
    pub tags: usize,
    /// How many subtrees; what is below them only the server knows.
    pub subtrees: usize,
}

/// The shortest publishing interval that is asked for where none is written.
const SHORTEST_PUBLICATION: Duration = Duration::from_millis(100);

/// What a server is asked to send together, the most frequent first.
#[must_use]
pub fn publications(spec: &tidegate_opcua::DeviceSpec) -> Vec<Publication> {
    let mut by_interval: BTreeMap<(Option<Duration>, Duration), (usize, usize)> = BTreeMap::new();
    let intervals = |item: &ItemSpec| {
        let sample_every = item.sample_every.unwrap_or(spec.sample_every);
        let derived = sample_every.max(SHORTEST_PUBLICATION);
        let subscribed = spec.collect == Collect::Subscribe;
        (subscribed.then(|| spec.publish_every.unwrap_or(derived)), sample_every)
    };
    for tag in spec.tags.iter() {
        by_interval.entry(intervals(&tag.item)).or_default().0 += 1;
    }
    for subtree in spec.subtrees.iter() {
        by_interval.entry(intervals(&subtree.item)).or_default().1 += 1;
    }
    let publication = |((publish_every, sample_every), (tags, subtrees))| Publication {
        publish_every,
        sample_every,
        tags,
        subtrees,
    };
    by_interval.into_iter().map(publication).collect()
}

/// How busy a serial line is, estimated.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The port.
    pub port: PathBuf,
    /// Its settings.
    pub serial: SerialSpec,
    /// How many devices are on it.
    pub units: usize,
    /// The share of the time in which requests, answers and the silences between them are on the
    /// line; above 1 the polls do not fit. The time that units take to think is not in it.
    pub share: f64,
}

/// The serial lines of a configuration, in the order in which they appear.
#[must_use]
pub fn lines(config: &Config, groups: &[Vec<Group>]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (device, groups) in config.devices.iter().zip(groups) {
        let Some(link) = device.modbus().map(|spec| &spec.link) else { continue };
        let Transport::Rtu(serial) = &link.transport else { continue };
        let turnaround = link.turnaround;
        let busy: f64 = groups
            .iter()
            .map(|group| {
                let cycle: Duration = group
                    .plan
                    .iter()
                    .map(|request| on_the_line(serial, turnaround, *request))
                    .sum();
                cycle.as_secs_f64() / group.every.as_secs_f64().max(0.001)
            })
            .sum();
        match lines.iter_mut().find(|line| line.port == serial.port) {
            Some(line) => {
                line.units += 1;
                line.share += busy;
            }
            None => lines.push(Line {
                port: serial.port.clone(),
                serial: serial.clone(),
                units: 1,
                share: busy,
            }),
        }
    }
    lines
}

/// The time that one request, its answer and the silences around them take.
fn on_the_line(
    serial: &SerialSpec,
    turnaround: Duration,
    (table, _, count): (Table, u16, u16),
) -> Duration {
    /// Unit, function, address, count and checksum.
    const REQUEST: u32 = 8;
    /// Unit, function, length and checksum.
    const ANSWER: u32 = 5;
    let values = match table {
        Table::Coil | Table::DiscreteInput => u32::from(count).div_ceil(8),
        Table::InputRegister | Table::HoldingRegister => 2 * u32::from(count),
    };
    let character = serial.character();
    // The standard fixes the silence above 19,200 baud.
    let silence =
        if serial.baud > 19_200 { Duration::from_micros(1750) } else { character * 7 / 2 };
    let direction = serial
        .rs485
        .map_or(Duration::ZERO, |rs485| rs485.delay_before_send + rs485.delay_after_send);
    character * (REQUEST + ANSWER + values) + 2 * silence + turnaround + direction
}

#[expect(clippy::cast_precision_loss, reason = "an estimate needs no 53 bits")]
const fn number(n: usize) -> f64 {
    n as f64
}

impl Config {
    /// Takes the tags of one device alone, for an estimate of what they cost.
    #[must_use]
    pub fn only(&self, device: &str) -> Self {
        let devices = self.devices.iter().filter(|it| it.name() == device).cloned().collect();
        Self { devices, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_published_together_is_counted_together() {
        let server = |keys: &str| {
            let tag = |more: &str| {
                format!("[[device.tag]]\npath = \"{more}\"\naddress = \"i=1\"\n{more}\n")
            };
            let device =
                "[[device]]\nname = \"d\"\nprotocol = \"opcua\"\naddress = \"opc.tcp://h\"\n";
            let tags = tag("").replace("path = \"\"", "path = \"a\"")
                + &tag("poll-every-ms = 20")
                + &tag("poll-every-ms = 30")
                + &tag("poll-every-ms = 1000").replace("\"poll-every-ms = 1000\"", "\"b\"")
                + &tag("subtree = true");
            let config = config(&format!("{device}{keys}\n{tags}"));
            let parts = publications(config.devices[0].opcua().unwrap());
            let ms = |every: Duration| every.as_millis();
            let each = parts.into_iter();
            each.map(|it| (it.publish_every.map(ms), ms(it.sample_every), it.tags, it.subtrees))
                .collect::<Vec<_>>()
        };
        // Never asked for more often than each 100 ms by itself.
        assert_eq!(
            server(""),
            [(Some(100), 20, 1, 0), (Some(100), 30, 1, 0), (Some(1000), 1000, 2, 1)]
        );
        assert_eq!(
            server("publish-every-ms = 50"),
            [(Some(50), 20, 1, 0), (Some(50), 30, 1, 0), (Some(50), 1000, 2, 1)]
        );
        let polled = [(None, 20, 1, 0), (None, 30, 1, 0), (None, 1000, 2, 1)];
        assert_eq!(server("collect = \"poll\""), polled);
    }

    fn config(devices: &str) -> Config {
        let text = format!("[gateway]\nplant = \"P\"\nname = \"g\"\n{devices}");
        crate::config::parse(Path::new("x.toml"), &text, Vec::new(), &[]).unwrap()
    }

    fn one_register_each(spec: &DeviceSpec) -> Plan {
        spec.tags.iter().map(|tag| (tag.address.table, tag.address.offset, 1)).collect()
    }

    #[test]
    fn tags_are_grouped_by_their_interval() {
        let config = config(
            "[[device]]\nname = \"d\"\nprotocol = \"modbus-tcp\"\naddress = \"h\"\n\
             [[device.tag]]\npath = \"a\"\naddress = \"holding:0\"\n\
             [[device.tag]]\npath = \"b\"\naddress = \"holding:1\"\npoll-every-ms = 100\n\
             [[device.tag]]\npath = \"c\"\naddress = \"holding:2\"\npoll-every-ms = 1000\n",
        );
        let found = groups(&config, &one_register_each);
        let short: Vec<_> =
            found[0].iter().map(|group| (group.every.as_millis(), group.tags)).collect();
        assert_eq!(short, [(100, 1), (1000, 2)]);
        assert!((found[0][0].requests_per_s() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn the_share_of_a_line_is_that_of_all_its_units() {
        // 10 bits at 9600 baud: 1.0417 ms each. 8 + 5 + 2 characters and twice 3.5 of silence.
        let unit = |n: u8| {
            format!(
                "[[device]]\nname = \"d{n}\"\nprotocol = \"modbus-rtu\"\naddress = \"/dev/ttyS1\"\n\
                 unit = {n}\nbaud-rate = 9600\nparity = \"none\"\npoll-every-ms = 100\n\
                 [[device.tag]]\npath = \"a\"\naddress = \"holding:0\"\n"
            )
        };
        let config = config(&(unit(1) + &unit(2)));
        let found = lines(&config, &groups(&config, &one_register_each));
        let [line] = found.as_slice() else { panic!("{found:?}") };
        let expected = 2.0 * (22.0 * 10.0 / 9600.0) / 0.1;
        assert!((line.share - expected).abs() < 1e-6, "{line:?}");
        assert_eq!(line.units, 2);
    }
}
