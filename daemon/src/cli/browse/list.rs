//! A tag list of what a server holds.
//!
//! # Invariants
//! - Each row is a legal tag, and no two have the same path.
//! - A variable whose values cannot be collected is left out by name.

use csv::WriterBuilder;
use tidegate_opcua::probe::{Holdings, Variable};

/// The most variables that are named one by one as left out.
const NAMED: usize = 8;

/// The list: UTF-8 with commas, as [docs/tag-lists.md] says.
pub(in crate::cli) fn write(holdings: &Holdings) -> Vec<u8> {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    // Writing rows of one length to memory cannot fail.
    let _ = writer.write_record(["path", "address", "unit", "comment"]);
    for (address, variable) in listed(holdings) {
        let Some(path) = &variable.path else { continue };
        let unit = variable.unit.as_deref().unwrap_or_default();
        let _ = writer.write_record([path.as_str(), address, unit, &kind(variable)]);
    }
    writer.into_inner().unwrap_or_default()
}

/// How many rows it has.
pub(in crate::cli) fn tags(holdings: &Holdings) -> u64 {
    u64::try_from(listed(holdings).count()).unwrap_or(u64::MAX)
}

fn listed(holdings: &Holdings) -> impl Iterator<Item = (&str, &Variable)> {
    holdings.nodes.iter().filter_map(|node| {
        let variable = node.variable.as_ref()?;
        let legal = variable.trouble.is_none() && variable.path.is_some();
        legal.then_some((node.address.as_str(), variable))
    })
}

/// The data type, as a person writes it.
pub(in crate::cli) fn kind(variable: &Variable) -> String {
    let of = &variable.data_type;
    if variable.scalar { of.clone() } else { format!("{of}, as JSON") }
}

/// What is not in the list, and why.
pub(in crate::cli) fn left_out(holdings: &Holdings) -> Vec<String> {
    let troubled = holdings.nodes.iter().filter_map(|node| {
        let why = node.variable.as_ref()?.trouble.as_ref()?;
        Some(format!("{} cannot be collected: {why}", node.address))
    });
    let mut notes: Vec<String> = troubled.collect();
    let more = notes.len().saturating_sub(NAMED);
    if more > 0 {
        notes.truncate(NAMED);
        notes.push(format!("{more} more cannot be collected (--json names them)"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use tidegate_opcua::probe::{Class, Holding};
    use tidegate_translator::TagPath;

    use super::*;

    pub(super) fn variable(path: &str, address: &str, unit: Option<&str>) -> Holding {
        Holding {
            depth: 1,
            name: path.rsplit('/').next().unwrap().to_owned(),
            class: Class::Variable,
            address: address.to_owned(),
            variable: Some(Variable {
                path: TagPath::new(path).ok(),
                data_type: "Double".to_owned(),
                scalar: true,
                unit: unit.map(str::to_owned),
                trouble: None,
                value: None,
            }),
        }
    }

    fn holdings() -> Holdings {
        let mut holdings = Holdings {
            nodes: vec![
                variable("Press 1/Axis%2F1/Position", "nsu=urn:press;s=Axis1.Position", Some("mm")),
                variable("Press 1/Axis%2F1/Speed", "nsu=urn:press;s=Axis1,\"Speed\"", None),
                variable("Press 1/Axis%2F1/Speed-2", "nsu=urn:extra;i=1017", Some("°C")),
                variable("=1+2", "i=2258", None),
                variable("Öl/Druck, innen", "nsu=urn:press;b=AAH/", None),
                variable(
                    "#x",
                    "nsu=http://maker.example/UA/;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63",
                    None,
                ),
            ],
            ..Holdings::default()
        };
        let mut odd = variable("Odd", "nsu=urn:press;s=Odd", None);
        odd.variable.as_mut().unwrap().trouble = Some("data type X has no definition".to_owned());
        holdings.nodes.push(odd);
        holdings
    }

    #[test]
    fn a_list_passes_the_check_of_the_configuration_and_means_the_same_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let holdings = holdings();
        std::fs::write(dir.path().join("press.csv"), write(&holdings)).unwrap();
        let text = "[gateway]\nplant = \"P\"\nname = \"g\"\n\n[[device]]\nname = \"press\"\n\
                    protocol = \"opcua\"\naddress = \"opc.tcp://192.0.2.7\"\nbase-path = \"P/Press\"\n\
                    tag-list = \"press.csv\"\n";
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file, [], &[]).unwrap_or_else(|error| {
            panic!("{}", crate::causes::chain(&error));
        });
        let device = &config.devices[0];
        let expected: Vec<_> = listed(&holdings)
            .map(|(address, variable)| {
                let path = format!("P/Press/{}", variable.path.as_ref().unwrap());
                (path, address.to_owned(), variable.unit.clone())
            })
            .collect();
        let read: Vec<_> = device
            .tags
            .iter()
            .map(|tag| {
                let unit = tag.manner.unit.as_ref().map(ToString::to_string);
                (tag.path.to_string(), tag.address.to_string(), unit)
            })
            .collect();
        assert_eq!(read, expected);
        assert_eq!(read.len(), 6);
    }

    #[test]
    fn what_cannot_be_collected_is_named_and_not_listed() {
        let holdings = holdings();
        let text = String::from_utf8(write(&holdings)).unwrap();
        assert!(!text.contains("Odd"), "{text}");
        let notes = left_out(&holdings);
        assert_eq!(
            notes,
            ["nsu=urn:press;s=Odd cannot be collected: data type X has no definition"]
        );
    }
}
