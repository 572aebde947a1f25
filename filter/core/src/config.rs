//! What a user may configure, checked at start: a wrong field is refused with its path, never ignored.

use crate::{
    address::Address,
    json::{self, JsonError},
};
use core::{fmt, time::Duration};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};

/// Most masters that one watch follows.
pub const MAX_MASTERS: usize = 32;

/// A configuration that cannot be used: which field, what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration field `{}`: {}", self.path, self.problem)
    }
}

impl core::error::Error for ConfigError {}

/// Reads one plugin's configuration: the JSON form of the `google.protobuf.Struct` in Envoy's YAML.
///
/// # Errors
/// [`ConfigError`] with the path of the first field that is unknown, missing, or out of its range.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, ConfigError> {
    let json = if json.is_empty() { b"{}" } else { json };
    json::read(json).map_err(refusal)
}

fn refusal(error: JsonError) -> ConfigError {
    let path = error.path();
    if let Some(at) = path.find(CREDENTIALS) {
        // The likeliest mistake is a password in the wrong place, and serde repeats what it does not know.
        let end = at.saturating_add(CREDENTIALS.len());
        return ConfigError {
            path: path.get(..end).unwrap_or(CREDENTIALS).to_owned(),
            problem: "not of the form `{ username: text, password: { environment: NAME } }`, or `{ inline: text }` as the password"
                .to_owned(),
        };
    }
    ConfigError {
        path,
        problem: error.problem,
    }
}

/// The field below which nothing is shown.
const CREDENTIALS: &str = "credentials";

/// Root id `redis_router`: a listener that applications connect to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterConfig {
    /// The master's name, as in `sentinel monitor <name> …`.
    pub master_name: MasterName,
    /// Which nodes this listener leads to. `replica`: the healthy replica with the fewest connections of this worker.
    #[serde(default)]
    pub role: ListenerRole,
    /// With `role: replica`: lead to the master while no replica may serve reads. `false`: clients wait for one
    /// (`hold_timeout`), and those of the last one are closed when it goes.
    #[serde(default = "yes")]
    pub fallback_to_master: bool,
    /// How long a client waits for a master, or for the node to accept, before it is told `-MASTERDOWN`.
    #[serde(default = "ten_seconds")]
    pub hold_timeout: Span,
    /// Most clients that wait, per worker and listener. More are told `-MASTERDOWN` at once.
    #[serde(default = "max_held")]
    pub max_held_connections: u32,
    /// The Envoy cluster that answers `-MASTERDOWN`. Empty: the connection is closed without a word.
    #[serde(default = "masterdown")]
    pub masterdown_cluster: String,
    /// The Envoy cluster for a node, with `{host}` and `{port}` in it, such as `outbound|{port}||{host}` in a mesh. Empty:
    /// the cluster that `tcp_proxy` names, of type `ORIGINAL_DST`.
    #[serde(default)]
    pub cluster_template: ClusterTemplate,
    /// The `dynamic_forward_proxy` cluster for nodes that Sentinel announces by host name. Empty: the module has Envoy
    /// resolve names, by the resolver of the machine or pod.
    #[serde(default)]
    pub by_name_cluster: String,
    /// The `ORIGINAL_DST` cluster for nodes that are announced by address. Empty: the cluster that `tcp_proxy` names. Needed
    /// only where names and addresses are announced in turn.
    #[serde(default)]
    pub by_address_cluster: String,
    /// Addresses that lead back to this proxy (its Service, its load balancer, its admin interface). Never routed to, whatever
    /// a Sentinel says. The listener's own address is known without being listed.
    #[serde(default)]
    pub own_addresses: Vec<Address>,
}

/// Which nodes a listener leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerRole {
    /// The master.
    #[default]
    Master,
    /// A healthy replica.
    Replica,
}

impl ListenerRole {
    /// One word, for the label of a metric.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Replica => "replica",
        }
    }
}

/// Root id `sentinel_watch`: the conversations with the Sentinels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// The masters to follow.
    pub masters: MasterNames,
    /// How often each Sentinel is asked while nothing happens; events arrive at once in between. At most 1 s where events are
    /// not to be had, at most 0.5 s while something is going on.
    #[serde(default = "every_five_seconds")]
    pub poll_interval: Period,
    /// How long a Sentinel may take to answer before it is given up and another one takes its slot.
    #[serde(default = "every_second")]
    pub reply_timeout: Period,
    /// The longest time that clients' bytes are held back around a promotion. `0s` turns the fence off.
    #[serde(default = "three_seconds")]
    pub fence_timeout: Span,
    /// How long a majority must keep naming a lower config-epoch before it is followed (Sentinels rebuilt from scratch). Six
    /// times as long while one Sentinel still stands by the higher one.
    #[serde(default = "five_seconds")]
    pub epoch_reset_delay: Span,
    /// The `ORIGINAL_DST` cluster that reaches Sentinels that were learnt. Empty, and no `discovered_by_name_cluster`: stay
    /// with the seeds.
    #[serde(default)]
    pub discovered_cluster: String,
    /// The `dynamic_forward_proxy` cluster that reaches learnt Sentinels announced by host name. Empty: the module has Envoy
    /// resolve their names.
    #[serde(default)]
    pub discovered_by_name_cluster: String,
    /// Ask for the replicas too. Needed by listeners with `role: replica`.
    #[serde(default)]
    pub replicas: bool,
    /// A replica that is further behind the most advanced one, by bytes of the replication stream, serves no reads. 0: no
    /// bound. Sentinel reads the offsets every 10 s.
    #[serde(default)]
    pub max_replica_lag_bytes: u64,
    /// `AUTH` for the Sentinels. Not Redis' own.
    #[serde(default)]
    pub credentials: Option<CredentialsConfig>,
}

/// Root id `role_probe`: asks the master itself for its `ROLE`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// The master to ask.
    pub master_name: MasterName,
    /// How often.
    #[serde(default = "every_five_seconds")]
    pub interval: Period,
    /// How long the node may take to answer.
    #[serde(default = "every_second")]
    pub reply_timeout: Period,
    /// As for `redis_router`.
    #[serde(default)]
    pub cluster_template: ClusterTemplate,
    /// As for `redis_router`.
    #[serde(default)]
    pub by_name_cluster: String,
    /// As for `redis_router`.
    #[serde(default)]
    pub by_address_cluster: String,
    /// A Redis user that may run `ROLE`. Without one, a Redis that wants a password is not asked.
    #[serde(default)]
    pub credentials: Option<CredentialsConfig>,
}

/// Root id `early_switch`: asks the replica that is being promoted for its `ROLE`, as fast as heartbeats come, and
/// switches as soon as it says master. This saves Sentinel's own look at the replica (up to 1 s).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlySwitchConfig {
    /// The master whose replicas to ask.
    pub master_name: MasterName,
    /// On or off. Off by default: a switch before Sentinel's own word is wrong if the leading Sentinel dies in that very
    /// second.
    #[serde(default)]
    pub enabled: bool,
    /// How long the node may take to answer.
    #[serde(default = "every_second")]
    pub reply_timeout: Period,
    /// As for `redis_router`.
    #[serde(default)]
    pub cluster_template: ClusterTemplate,
    /// As for `redis_router`.
    #[serde(default)]
    pub by_name_cluster: String,
    /// As for `redis_router`.
    #[serde(default)]
    pub by_address_cluster: String,
    /// A Redis user that may run `ROLE`. Without one, a Redis that wants a password is not asked.
    #[serde(default)]
    pub credentials: Option<CredentialsConfig>,
}

/// Root id `readiness`: echoes while a master is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadinessConfig {
    /// All of these must be known.
    pub masters: MasterNames,
}

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsConfig {
    /// ACL user (Redis and Sentinel 6.2 or newer). Empty: the password alone.
    #[serde(default)]
    pub username: Word,
    /// Where the password is: `environment` or `inline`.
    pub password: Secret,
}

/// Where a secret is. Exactly one of the two.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Secret {
    /// In this environment variable, which `vm_config.environment_variables.host_env_keys` must let in.
    Environment(Variable),
    /// Here: for a configuration that is itself a mounted secret (`config_discovery` from a file).
    Inline(Word),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(Variable(name)) => write!(f, "Environment({name})"),
            Self::Inline(_) => f.write_str("Inline(…)"),
        }
    }
}

/// The name of an environment variable: a letter or `_`, then letters, digits, `_`; at most 64. Anything else is a password in
/// the wrong place, and must not be shown as a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable(pub String);

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let digit_first = name.bytes().next().is_none_or(|byte| byte.is_ascii_digit());
        if !plain || digit_first || name.len() > 64 {
            return Err(de::Error::custom("not an environment variable's name"));
        }
        Ok(Self(name))
    }
}

/// Text for a RESP command: at most 4 KiB. Refusals do not show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const LONGEST: usize = 4096;
        let text =
            String::deserialize(deserializer).map_err(|_| de::Error::custom("not a string"))?;
        if text.len() > LONGEST {
            return Err(de::Error::custom("longer than 4096 bytes"));
        }
        Ok(Self(text))
    }
}

/// The name of an Envoy cluster with `{host}` and `{port}` in it; empty is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterTemplate(String);

impl ClusterTemplate {
    /// The cluster for this address, if there is a template.
    #[must_use]
    pub fn cluster(&self, address: &Address) -> Option<String> {
        (!self.0.is_empty()).then(|| {
            self.0
                .replace("{host}", &address.host())
                .replace("{port}", &address.port().to_string())
        })
    }
}

impl<'de> Deserialize<'de> for ClusterTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_empty() && !text.contains("{host}") {
            return Err(de::Error::custom(format!(
                "`{text}` has no `{{host}}`: all nodes would be one cluster"
            )));
        }
        Ok(Self(text))
    }
}

/// A span of time, written as Envoy writes it: decimal seconds and an `s` (`10s`, `0.25s`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Longest [`Span`]: an hour is beyond any sensible bound here, and keeps sums far from overflow.
const MAX_SPAN: Duration = Duration::from_secs(3600);

impl Span {
    fn parse(text: &str) -> Option<Self> {
        const NANOSECONDS: usize = 9;
        let seconds = text.strip_suffix('s')?;
        let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        let mut digits = whole.bytes().chain(fraction.bytes());
        if !digits.clone().all(|byte| byte.is_ascii_digit()) || digits.next().is_none() {
            return None;
        }
        let whole = format!("0{whole}").parse().ok()?;
        let places = fraction.bytes().chain(core::iter::repeat(b'0'));
        let nanoseconds = places.take(NANOSECONDS).fold(0u32, |sum, digit| {
            sum.saturating_mul(10)
                .saturating_add(u32::from(digit.saturating_sub(b'0')))
        });
        let span =
            Duration::from_secs(whole).saturating_add(Duration::from_nanos(nanoseconds.into()));
        (span <= MAX_SPAN).then_some(Self(span))
    }

    fn or_refused<E: de::Error>(text: &str) -> Result<Self, E> {
        Self::parse(text).ok_or_else(|| {
            E::custom(format!(
                "`{text}` is not a duration of at most one hour such as `10s` or `0.25s`"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::or_refused(&String::deserialize(deserializer)?)
    }
}

/// A [`Span`] of at least 50 ms: shorter ones would load the Sentinels and every sidecar for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Duration);

const MIN_PERIOD: Duration = Duration::from_millis(50);

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Span(span) = Span::or_refused(&text)?;
        if span < MIN_PERIOD {
            return Err(de::Error::custom(format!(
                "{text} is too short, 0.05s is the least"
            )));
        }
        Ok(Self(span))
    }
}

/// The name of a master as Sentinel's configuration has it: 1 to 128 characters of `A-Z a-z 0-9 . - _`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MasterName(String);

impl MasterName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MasterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MasterName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // sentinel.c, sentinelConfigMasterNameIsValid's rule since 7.2: the name becomes part of a config line.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
            return Err(de::Error::custom(format!(
                "`{name}` is not a master's name: 1 to 128 of A-Z a-z 0-9 . - _"
            )));
        }
        Ok(Self(name))
    }
}

/// One to [`MAX_MASTERS`] different names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterNames(Vec<MasterName>);

impl MasterNames {
    /// The names in the order given.
    #[must_use]
    pub fn as_slice(&self) -> &[MasterName] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for MasterNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<MasterName>::deserialize(deserializer)?;
        if names.is_empty() || names.len() > MAX_MASTERS {
            return Err(de::Error::custom(format!(
                "{} names given, 1 to {MAX_MASTERS} allowed",
                names.len()
            )));
        }
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|earlier| earlier == name) {
                return Err(de::Error::custom(format!("`{name}` is given twice")));
            }
        }
        Ok(Self(names))
    }
}

fn yes() -> bool {
    true
}

fn every_second() -> Period {
    Period(Duration::from_secs(1))
}

fn every_five_seconds() -> Period {
    Period(Duration::from_secs(5))
}

fn three_seconds() -> Span {
    Span(Duration::from_secs(3))
}

fn five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

fn max_held() -> u32 {
    4096
}

fn masterdown() -> String {
    "masterdown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_need_only_a_name() {
        let config: RouterConfig = parse(br#"{"master_name":"mymaster"}"#).unwrap();
        assert_eq!(config.hold_timeout, ten_seconds());
        assert_eq!(config.role, ListenerRole::Master);
        let config: WatchConfig =
            parse(br#"{"masters":["a","b"],"poll_interval":"0.25s"}"#).unwrap();
        assert_eq!(config.poll_interval.0, Duration::from_millis(250));
    }

    #[test]
    fn spans_are_exact() {
        let span = |text: &str| Span::parse(text).map(|span| span.0);
        for (text, nanoseconds) in [
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("0.25s", 250_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("0003s", 3_000_000_000),
            ("0.0000000019s", 1),
            ("3600.0s", 3_600_000_000_000),
        ] {
            assert_eq!(
                span(text),
                Some(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
        let nines = format!("{}s", "9".repeat(60));
        for text in [
            "",
            "s",
            ".s",
            "1",
            "1m",
            "-1s",
            "+1s",
            "1e3s",
            "infs",
            "NaNs",
            "1.-5s",
            "1.2.3s",
            " 1s",
            "3600.000000001s",
            &nines,
        ] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        let refused = |json: &str| {
            parse::<WatchConfig>(json.as_bytes())
                .unwrap_err()
                .to_string()
        };
        for (json, message) in [
            ("{}", "configuration field `.`: missing field `masters`"),
            (
                r#"{"masters":[]}"#,
                "configuration field `masters`: 0 names given, 1 to 32 allowed",
            ),
            (
                r#"{"masters":["a","a"]}"#,
                "configuration field `masters`: `a` is given twice",
            ),
            (
                r#"{"masters":["a b"]}"#,
                "configuration field `masters[0]`: `a b` is not a master's name",
            ),
            (
                r#"{"masters":["a"],"poll_interval":"1m"}"#,
                "configuration field `poll_interval`: `1m` is not a duration",
            ),
            (
                r#"{"masters":["a"],"poll_interval":"0.01s"}"#,
                "configuration field `poll_interval`: 0.01s is too short",
            ),
            (
                r#"{"masters":["a"],"poll_interval":1}"#,
                "configuration field `poll_interval`: invalid type",
            ),
            (
                r#"{"masters":["a"],"poll":"1s"}"#,
                "configuration field `poll`: unknown field `poll`, expected one of",
            ),
            (
                r#"{"masters":["a"],"poll_interval":"NaNs"}"#,
                "configuration field `poll_interval`: `NaNs` is not a duration",
            ),
        ] {
            let given = refused(json);
            assert!(given.starts_with(message), "{json}: {given}");
        }
        for credentials in [
            r#""hunter2""#,
            r#"["u", "hunter2"]"#,
            r#"{"hunter2": "x"}"#,
            r#"{"password": "hunter2"}"#,
            r#"{"password": {"hunter2": "x"}}"#,
            r#"{"password": {"environment": "hunter-2"}}"#,
            r#"{"username": {"hunter2": 1}, "password": {"inline": "x"}}"#,
        ] {
            let given = refused(&format!(
                r#"{{"masters":["a"],"credentials":{credentials}}}"#
            ));
            assert!(given.starts_with("configuration field `credentials`: not of the form"));
            assert!(!given.contains("hunter"), "{credentials}: {given}");
        }
        let given =
            parse::<RouterConfig>(br#"{"master_name":"m","own_addresses":["10.0.0.1:1","x"]}"#)
                .unwrap_err()
                .to_string();
        assert!(
            given.starts_with("configuration field `own_addresses[1]`: "),
            "{given}"
        );
    }
}
