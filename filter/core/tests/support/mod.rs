//! What the tests of the core share: short names for nodes, [`script`] for stories about Sentinels, [`replay`]
//! for recorded ones.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod replay;
pub mod script;
pub mod sim;

use sentinel_core::{
    address::Address,
    config::{self, RouterConfig, WatchConfig},
    reply::{MasterAddress, MasterState, Replica},
    topology::{Answer, Rules},
};

/// Node `A`, `B`, …: 10.0.0.1:6379, 10.0.0.2:6379, …
pub fn node(letter: char) -> Address {
    let number = u32::from(letter) - u32::from('A') + 1;
    Address::new(&format!("10.0.0.{number}"), "6379").unwrap()
}

/// The letter of [`node`].
pub fn letter(address: &Address) -> char {
    ('A'..='Z')
        .find(|letter| node(*letter) == *address)
        .unwrap()
}

/// Rules as a configuration makes them: answers count for 4 s, a fence stands for 3 s, a reset takes 5 s.
pub fn rules() -> Rules {
    rules_of(r#"{"masters": ["mymaster"], "poll_interval": "1s"}"#)
}

/// Rules of this configuration of the watch.
pub fn rules_of(json: &str) -> Rules {
    Rules::from(&config::parse::<WatchConfig>(json.as_bytes()).unwrap())
}

/// A router's configuration with these fields, `"role": "replica"` and the like.
pub fn router(fields: &str) -> RouterConfig {
    let comma = if fields.is_empty() { "" } else { "," };
    let json = format!(r#"{{"master_name": "mymaster"{comma} {fields}}}"#);
    config::parse(json.as_bytes()).unwrap()
}

/// A Sentinel's answer: this master of this config-epoch, nothing else going on.
pub fn says(master: Address, config_epoch: u64, sentinels: u32) -> Answer {
    Answer {
        address: MasterAddress::Known(master),
        state: Some(MasterState {
            config_epoch,
            sentinels,
            ..MasterState::default()
        }),
        replicas: None,
    }
}

/// A replica as a Sentinel lists it.
pub fn replica(address: Address, up: bool, linked: bool, offset: u64) -> Replica {
    Replica {
        address,
        up,
        linked,
        link_down_ms: 0,
        offset,
    }
}
