//! What an operator writes, or mistypes.

use sentinel_core::config::{
    self, EarlySwitchConfig, ProbeConfig, ReadinessConfig, RouterConfig, WatchConfig,
};
use serde_json::Value;

/// A password: wherever a configuration contains it below `credentials`, no refusal may.
const PASSWORD: &str = "hunter2";

/// See the crate's table. The text is tried as the configuration of every root id.
pub fn run(input: &[u8]) {
    let secret = serde_json::from_slice::<Value>(input).is_ok_and(|value| {
        value
            .get("credentials")
            .is_some_and(|c| c.to_string().contains(PASSWORD))
    }) && !String::from_utf8_lossy(input)
        .split("credentials")
        .next()
        .unwrap_or_default()
        .contains(PASSWORD);
    let refusals = [
        config::parse::<RouterConfig>(input).map(drop),
        config::parse::<WatchConfig>(input).map(|config| {
            assert!((1..=config::MAX_MASTERS).contains(&config.masters.as_slice().len()));
            assert!(
                !format!("{config:?}").contains(PASSWORD) || !secret,
                "{config:?}"
            );
        }),
        config::parse::<ProbeConfig>(input).map(drop),
        config::parse::<EarlySwitchConfig>(input).map(drop),
        config::parse::<ReadinessConfig>(input).map(drop),
    ];
    for refusal in refusals.iter().filter_map(|result| result.as_ref().err()) {
        let text = refusal.to_string();
        if secret && text.contains("credentials") {
            assert!(!text.contains(PASSWORD), "a secret is shown: {text}");
        }
    }
}
