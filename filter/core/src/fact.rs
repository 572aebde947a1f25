//! What is worth telling a person: one value per fact, one log line and at most one counter each.

use crate::{address::Address, address::AddressError};
use core::{fmt, time::Duration};

/// How loud a [`Fact`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Only counted, or of use when debugging.
    Debug,
    /// Part of the story of a healthy system.
    Info,
    /// A person should look when convenient.
    Warn,
}

/// By which evidence a master was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The first answer of any Sentinel.
    FirstAnswer,
    /// `+promoted-slave`.
    PromotedEvent,
    /// `+switch-master`.
    SwitchEvent,
    /// A poll with a newer config-epoch.
    NewerEpoch,
    /// Most watched Sentinels agree on another address of the same config-epoch.
    Majority,
    /// Most watched Sentinels kept naming a lower config-epoch: they were rebuilt, or one lied.
    EpochReset,
    /// `early_switch`: the selected replica's own `ROLE` turned to master.
    OwnRole,
}

impl Cause {
    /// All that make one master follow another.
    pub const SWITCHES: [Self; 6] = [
        Self::PromotedEvent,
        Self::SwitchEvent,
        Self::NewerEpoch,
        Self::Majority,
        Self::EpochReset,
        Self::OwnRole,
    ];

    /// One word, for the label of a metric.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::FirstAnswer => "first_answer",
            Self::PromotedEvent => "promoted_slave",
            Self::SwitchEvent => "switch_master",
            Self::NewerEpoch => "newer_epoch",
            Self::Majority => "majority",
            Self::EpochReset => "lower_epoch",
            Self::OwnRole => "own_role",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstAnswer => "first answer",
            Self::PromotedEvent => "+promoted-slave",
            Self::SwitchEvent => "+switch-master",
            Self::NewerEpoch => "newer config-epoch",
            Self::Majority => "majority of the same config-epoch",
            Self::EpochReset => "majority of a LOWER config-epoch (Sentinels rebuilt?)",
            Self::OwnRole => "the replica's own ROLE",
        })
    }
}

/// Why a fence ended without a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfence {
    /// `-failover-abort-*` of the Sentinel that led the failover.
    Aborted,
    /// That Sentinel's poll shows no failover any more and still names the old master.
    FailoverGone,
}

/// Something that changed, about one master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Another master is in use from now on.
    Master {
        /// The one in use now.
        address: Address,
        /// The one before, if any.
        previous: Option<Address>,
        /// Its config-epoch, a lower bound while only an event told of it.
        config_epoch: u64,
        /// By which evidence.
        cause: Cause,
        /// The Sentinel that said so.
        by: String,
    },
    /// Clients' bytes to the master are kept back.
    Fenced {
        /// The master about to be demoted.
        master: Address,
        /// Who is to be promoted.
        candidate: Option<Address>,
        /// The leading Sentinel.
        by: String,
        /// The bound.
        at_most: Duration,
    },
    /// The fence ended, the master stayed.
    Unfenced {
        /// The master.
        master: Address,
        /// Why.
        why: Unfence,
        /// The Sentinel that leads the failover.
        by: String,
    },
    /// The fence ended by its bound: nothing confirmed a promotion.
    FenceExpired {
        /// The master to which traffic goes on.
        master: Address,
        /// Who was to be promoted.
        candidate: Option<Address>,
    },
    /// An answer with a lower config-epoch was not followed.
    Stale {
        /// Who said so.
        by: String,
        /// The address it named.
        address: Address,
        /// Its config-epoch.
        config_epoch: u64,
        /// The config-epoch in use.
        in_use: u64,
    },
    /// Another address of the same config-epoch was not followed: no majority for it.
    Disputed {
        /// Who said so.
        by: String,
        /// The address it named.
        address: Address,
    },
    /// This Sentinel does not monitor the name.
    UnknownName {
        /// Which Sentinel.
        by: String,
    },
    /// A Sentinel named an address that must not be dialled.
    Unusable {
        /// Which Sentinel.
        by: String,
        /// What it said.
        text: String,
        /// What is wrong with it.
        error: AddressError,
    },
    /// A Sentinel refused to answer.
    Refused {
        /// Which Sentinel.
        by: String,
        /// Its words.
        message: String,
    },
    /// A Sentinel that had a problem answers well again.
    Recovered {
        /// Which Sentinel.
        by: String,
    },
    /// Most watched Sentinels flag the master as down: new connections wait.
    Down {
        /// The master.
        master: Address,
        /// How many flag it.
        flagging: usize,
        /// How many are watched.
        watched: usize,
    },
    /// They no longer do.
    Up {
        /// The master.
        master: Address,
    },
    /// The master says that it is a replica: new connections wait.
    NotMaster {
        /// The node.
        master: Address,
    },
    /// It says master again.
    MasterAgain {
        /// The node.
        master: Address,
    },
    /// There are more Sentinels than slots to watch them.
    Unwatched {
        /// How many there are.
        sentinels: u32,
        /// How many can be watched.
        slots: u32,
    },
    /// The node does not let the role probe ask: it steps aside.
    Unprobed {
        /// The node.
        address: Address,
        /// Its words.
        message: String,
    },
}

impl Fact {
    /// How loud.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Master {
                cause: Cause::EpochReset,
                ..
            }
            | Self::FenceExpired { .. }
            | Self::Disputed { .. }
            | Self::UnknownName { .. }
            | Self::Unusable { .. }
            | Self::Refused { .. }
            | Self::Down { .. }
            | Self::Unwatched { .. }
            | Self::NotMaster { .. }
            | Self::Unprobed { .. } => Severity::Warn,
            Self::Stale { .. } => Severity::Debug,
            _ => Severity::Info,
        }
    }

    /// Whether a fence that stood is over by it.
    #[must_use]
    pub fn ends_a_fence(&self) -> bool {
        matches!(
            self,
            Self::Master { .. } | Self::Unfenced { .. } | Self::FenceExpired { .. }
        )
    }

    /// The counter that counts these, as a Prometheus-ready name.
    #[must_use]
    pub fn counter(&self) -> Option<&'static str> {
        Some(match self {
            Self::Master {
                previous: Some(_), ..
            } => "switches_total",
            Self::Fenced { .. } => "fences_total",
            Self::Unfenced { .. } => "unfences_total",
            Self::FenceExpired { .. } => "fences_expired_total",
            Self::Stale { .. } => "stale_answers_total",
            Self::Disputed { .. } => "disputed_answers_total",
            Self::UnknownName { .. } => "unknown_name_answers_total",
            Self::Unusable { .. } => "unusable_answers_total",
            Self::Refused { .. } => "refused_answers_total",
            Self::Down { .. } => "master_down_total",
            Self::NotMaster { .. } => "role_mismatches_total",
            Self::Unprobed { .. } => "role_probes_refused_total",
            _ => return None,
        })
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master {
                address,
                previous,
                config_epoch,
                cause,
                by,
            } => {
                write!(f, "master is {address}")?;
                if let Some(previous) = previous {
                    write!(f, ", was {previous}")?;
                }
                write!(f, " (config-epoch {config_epoch}, {cause}, said by {by})")
            }
            Self::Fenced {
                master,
                candidate,
                by,
                at_most,
            } => {
                write!(f, "fenced: clients of {master} wait at most {at_most:?}")?;
                if let Some(candidate) = candidate {
                    write!(f, ", {candidate} is being promoted")?;
                }
                write!(f, " (said by {by})")
            }
            Self::Unfenced {
                master,
                why: Unfence::Aborted,
                by,
            } => {
                write!(
                    f,
                    "unfenced: the failover was aborted, {master} stays master (said by {by})"
                )
            }
            Self::Unfenced {
                master,
                why: Unfence::FailoverGone,
                by,
            } => {
                write!(
                    f,
                    "unfenced: the failover is over, {master} stays master (said by {by})"
                )
            }
            Self::FenceExpired { master, candidate } => {
                write!(
                    f,
                    "unfenced: no promotion was confirmed in time, clients go on with {master}"
                )?;
                match candidate {
                    Some(candidate) => write!(f, " ({candidate} was to be promoted)"),
                    None => Ok(()),
                }
            }
            Self::Stale {
                by,
                address,
                config_epoch,
                in_use,
            } => {
                write!(
                    f,
                    "{by} lags: names {address} of config-epoch {config_epoch}, in use is {in_use}"
                )
            }
            Self::Disputed { by, address } => {
                write!(
                    f,
                    "{by} names {address} with the same config-epoch, most others do not: not followed"
                )
            }
            Self::UnknownName { by } => write!(f, "{by} does not monitor this name"),
            Self::Unusable { by, text, error } => write!(f, "{by} names {text}: {error}"),
            Self::Refused { by, message } => {
                write!(f, "{by} refuses to name the master: {message}")
            }
            Self::Recovered { by } => write!(f, "{by} answers again"),
            Self::Down {
                master,
                flagging,
                watched,
            } => write!(
                f,
                "{flagging} of {watched} watched Sentinels see {master} down: new connections wait"
            ),
            Self::Up { master } => write!(f, "most watched Sentinels see {master} up again"),
            Self::NotMaster { master } => {
                write!(f, "{master} says it is a replica: new connections wait")
            }
            Self::MasterAgain { master } => write!(f, "{master} says it is the master"),
            Self::Unwatched { sentinels, slots } => write!(
                f,
                "{sentinels} Sentinels and {slots} slots to watch them: a failover led by one that is not watched is not fenced"
            ),
            Self::Unprobed { address, message } => write!(
                f,
                "{address} is not asked for its role: it answers {message}"
            ),
        }
    }
}
