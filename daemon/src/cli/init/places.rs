//! Where things lie that belong to a configuration.

use std::path::{Path, PathBuf};

/// Where a configuration and what belongs to it lie.
pub(super) struct Places {
    /// The configuration.
    pub(super) file: PathBuf,
    /// Whether the package's folders are used.
    pub(super) packaged: bool,
    /// The tag list beside it, by its name; none where the configuration is printed.
    pub(super) list: Option<PathBuf>,
    /// The folder of OPC UA certificates; none where the configuration is printed.
    pub(super) opcua: Option<PathBuf>,
}

impl Places {
    /// Those of a configuration that is written to `output`.
    pub(super) fn of(output: &Path) -> Self {
        let printed = output == Path::new("-");
        let packaged = output.starts_with("/etc");
        let opcua = if packaged {
            PathBuf::from("/var/lib/tidegate/opcua")
        } else {
            output.with_file_name("tidegate-data").join("opcua")
        };
        Self {
            file: output.to_owned(),
            packaged,
            list: (!printed).then(|| PathBuf::from("plc-1.csv")),
            opcua: (!printed).then_some(opcua),
        }
    }
}
