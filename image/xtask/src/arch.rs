//! The architectures that programs, packages and images are made for, and what each tool calls them.

use clap::ValueEnum;

use crate::workspace::Workspace;

/// An architecture of gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Arch {
    /// 64-bit x86
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit ARM
    #[value(name = "aarch64")]
    Aarch64,
    /// 32-bit ARM with hardware floating point
    #[value(name = "armv7")]
    Armv7,
}

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Armv7];

    /// The word on the command line and in paths.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    /// What Debian calls it.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }

    /// What rustc calls it.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Armv7 => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// Where everything that is made for it lands.
    pub(crate) fn folder(self, workspace: &Workspace) -> std::path::PathBuf {
        workspace.target.join("appliance").join(self.word())
    }
}
