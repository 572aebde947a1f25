//! The three ways in which a master goes away.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, bail};

/// What happens to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Someone asks a Sentinel for a failover; the master lives on.
    Planned,
    /// SIGKILL.
    Kill,
    /// SIGSTOP: it accepts connections, and answers nothing.
    Hang,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Planned, Self::Kill, Self::Hang];
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "planned" => Ok(Self::Planned),
            "kill" => Ok(Self::Kill),
            "hang" => Ok(Self::Hang),
            other => bail!("HOW is planned, kill or hang, not {other}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planned => "planned",
            Self::Kill => "kill",
            Self::Hang => "hang",
        })
    }
}
