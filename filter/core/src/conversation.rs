//! One conversation with one Sentinel over one connection, without I/O: heartbeats and bytes in, commands and
//! [`Output`]s out.
//!
//! ```text
//! Greeting ──► [AUTH] HELLO 3, SENTINEL MYID, polls          HELLO refused: RESP2, poll only
//! Joining  ──► CLIENT SETNAME, SUBSCRIBE …, SENTINEL SENTINELS, polls      SUBSCRIBE refused: poll only
//! Polling  ──► polls; SENTINEL SENTINELS every 10th time     pushes arrive at any time in between
//! ```
//!
//! Envoy's health checker gives the occasion to speak (a heartbeat). The conversation keeps the heartbeat in hand until
//! a poll is due, speaks, and answers the heartbeat when the last reply is in. So the heartbeat's health is the watch's.

use crate::{
    config::MasterName,
    event::{self, Event},
    reply::{self, MasterAddress, MasterState, Peer},
    resp::{Frame, Message, Reader, RespError, write_command},
    time::Timestamp,
    topology::Answer,
};
use core::{fmt, time::Duration};
use std::collections::VecDeque;

/// The slowest pace where events do not come.
const POLL_ONLY_INTERVAL: Duration = Duration::from_secs(1);
/// The slowest pace while a failover is going on or a master is in doubt.
const ALERT_INTERVAL: Duration = Duration::from_millis(500);
/// `SENTINEL SENTINELS` is asked on every so many polls: Sentinels come and go slowly.
const PEERS_EVERY: u32 = 10;

/// How to speak with a Sentinel; the same for all slots of one watch.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The masters to ask for.
    pub masters: Vec<MasterName>,
    /// How often to ask while nothing is going on.
    pub poll_interval: Duration,
    /// How long an exchange may take.
    pub reply_timeout: Duration,
    /// Ask for replicas too.
    pub replicas: bool,
    /// `AUTH` first.
    pub credentials: Option<Credentials>,
}

/// A name and a password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// ACL user (Redis 6.2); empty for the password-only form of Sentinel 5.0.1.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// A server's words without the password, should they repeat it: who does not know `AUTH` says with which arguments
    /// it was called.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        if self.password.is_empty() {
            return text.to_owned();
        }
        text.replace(&self.password, "…")
    }

    /// Appends the `AUTH` command.
    pub fn write_auth(&self, out: &mut Vec<u8>) {
        if self.username.is_empty() {
            write_command(out, &["AUTH", &self.password]);
        } else {
            write_command(out, &["AUTH", &self.username, &self.password]);
        }
    }
}

/// What a conversation tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// This Sentinel's run id: two slots that hear the same one watch the same Sentinel.
    Identity(String),
    /// The answer for one master, complete.
    Answer(MasterName, Answer),
    /// The other Sentinels of one master.
    Peers(Vec<Peer>),
    /// A push about one master.
    Event(Event),
    /// Events will not come: old Sentinel, or an ACL without `subscribe`. Polls go on.
    PollOnly(String),
    /// The exchange is complete: answer the heartbeat.
    Answered,
}

/// Why a conversation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationError {
    /// The credentials are wrong or missing; the Sentinel's words. Trying again soon is of no use.
    Credentials(String),
    /// It speaks, but not RESP as a Sentinel does.
    Protocol(RespError),
    /// A reply that nobody asked for.
    Unasked,
    /// It answers, but is no Sentinel.
    NotASentinel(String),
    /// The last exchange was not answered in time.
    Silent,
}

impl ConversationError {
    /// One word, for the label of a metric.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "credentials",
            Self::Protocol(_) | Self::Unasked => "protocol",
            Self::NotASentinel(_) => "not_a_sentinel",
            Self::Silent => "silent",
        }
    }
}

impl fmt::Display for ConversationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(message) => write!(f, "it refuses the credentials: {message}"),
            Self::Protocol(error) => write!(f, "it does not speak as a Sentinel: {error}"),
            Self::Unasked => f.write_str("it sent a reply that nobody asked for"),
            Self::NotASentinel(message) => write!(f, "it is not a Sentinel: {message}"),
            Self::Silent => f.write_str("it did not answer in time"),
        }
    }
}

impl core::error::Error for ConversationError {}

/// A reply that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Auth,
    Hello,
    MyId,
    SetName,
    /// Acknowledged by one push per channel, or refused by one error.
    Subscribe {
        acknowledged: usize,
    },
    Peers,
    State,
    /// The two below carry the index of the master's name.
    Address(usize),
    Replicas(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Joining,
    Polling,
}

/// See the [module's text](self).
#[derive(Debug)]
pub struct Conversation {
    settings: Settings,
    reader: Reader,
    stage: Stage,
    resp3: bool,
    /// A heartbeat waits for its answer, since then.
    heartbeat: Option<Timestamp>,
    /// Commands were sent for the heartbeat, at this time.
    asked: Option<Timestamp>,
    /// When the last exchange ended; `None` asks at once.
    spoke: Option<Timestamp>,
    poll_only: bool,
    /// It knows `SENTINEL SLAVES` only: the word `REPLICAS` came with 5.0, and ACLs (6.2) name that one.
    before_5: bool,
    alert: bool,
    polls: u32,
    expected: VecDeque<Expected>,
    /// What ended it, behind outputs that came in the same read.
    failed: Option<ConversationError>,
    /// The pieces of the answer that is coming in.
    address: Option<MasterAddress>,
    state: Option<MasterState>,
}

impl Conversation {
    /// Starts with nothing said.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            reader: Reader::default(),
            stage: Stage::Greeting,
            resp3: false,
            heartbeat: None,
            asked: None,
            spoke: None,
            poll_only: false,
            before_5: false,
            alert: false,
            polls: 0,
            expected: VecDeque::new(),
            failed: None,
            address: None,
            state: None,
        }
    }

    /// A heartbeat has come; it stays in hand until [`Conversation::speak`] takes it.
    pub fn heartbeat(&mut self, now: Timestamp) {
        self.heartbeat.get_or_insert(now);
    }

    /// Ask as soon as a heartbeat is in hand, whatever the pace.
    pub fn hurry(&mut self) {
        self.spoke = None;
    }

    /// Whether it is known how this Sentinel tells of events: by pushes, or not at all.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.stage == Stage::Polling
    }

    /// Whether something is going on that is worth asking more often.
    pub fn set_alert(&mut self, alert: bool) {
        self.alert = alert;
    }

    fn next_poll(&self) -> Timestamp {
        let mut interval = self.settings.poll_interval;
        if self.poll_only {
            interval = interval.min(POLL_ONLY_INTERVAL);
        }
        if self.alert {
            interval = interval.min(ALERT_INTERVAL);
        }
        self.spoke
            .map_or_else(Timestamp::default, |spoke| spoke.after(interval))
    }

    /// When [`Conversation::speak`] or [`Conversation::check`] has something to do next, as far as can be known.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match (&self.failed, self.asked, self.heartbeat) {
            (Some(_), ..) => Some(Timestamp::default()),
            (None, Some(asked), _) => Some(asked.after(self.settings.reply_timeout)),
            (None, None, Some(_)) => Some(self.next_poll()),
            (None, None, None) => None,
        }
    }

    /// The commands to send now, if a heartbeat is in hand and a poll is due.
    pub fn speak(&mut self, now: Timestamp) -> Option<Vec<u8>> {
        if self.heartbeat.is_none() || self.asked.is_some() || now < self.next_poll() {
            return None;
        }
        self.asked = Some(now);
        let mut out = Vec::new();
        match self.stage {
            Stage::Greeting => {
                if let Some(credentials) = &self.settings.credentials {
                    credentials.write_auth(&mut out);
                    self.expected.push_back(Expected::Auth);
                }
                self.ask(&mut out, &["HELLO", "3"], Expected::Hello);
                self.ask(&mut out, &["SENTINEL", "MYID"], Expected::MyId);
            }
            Stage::Joining => {
                self.ask(
                    &mut out,
                    &["CLIENT", "SETNAME", "envoy-redis-sentinel"],
                    Expected::SetName,
                );
                if self.resp3 {
                    let mut words = vec!["SUBSCRIBE"];
                    words.extend(event::CHANNELS);
                    self.ask(&mut out, &words, Expected::Subscribe { acknowledged: 0 });
                }
            }
            Stage::Polling => {}
        }
        if self.polls.is_multiple_of(PEERS_EVERY) && self.stage != Stage::Greeting {
            for name in self.settings.masters.clone() {
                self.ask(
                    &mut out,
                    &["SENTINEL", "SENTINELS", name.as_str()],
                    Expected::Peers,
                );
            }
        }
        if self.stage != Stage::Greeting {
            self.polls = self.polls.wrapping_add(1);
        }
        for (index, name) in self.settings.masters.clone().iter().enumerate() {
            // The epoch before the address: if a failover comes between the two replies, what was new then has an old
            // epoch and is not followed. The other way round, the old address would come with the new epoch and win.
            self.ask(
                &mut out,
                &["SENTINEL", "MASTER", name.as_str()],
                Expected::State,
            );
            self.ask(
                &mut out,
                &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name.as_str()],
                Expected::Address(index),
            );
            if self.settings.replicas {
                let word = if self.before_5 { "SLAVES" } else { "REPLICAS" };
                self.ask(
                    &mut out,
                    &["SENTINEL", word, name.as_str()],
                    Expected::Replicas(index),
                );
            }
        }
        Some(out)
    }

    fn ask(&mut self, out: &mut Vec<u8>, words: &[&str], expected: Expected) {
        write_command(out, words);
        self.expected.push_back(expected);
    }

    /// Whether the Sentinel has been silent for too long, or what it sent was the end.
    ///
    /// # Errors
    /// [`ConversationError::Silent`], or what [`Conversation::receive`] has kept for the next call.
    pub fn check(&self, now: Timestamp) -> Result<(), ConversationError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.asked {
            Some(asked) if now.since(asked) >= self.settings.reply_timeout => {
                Err(ConversationError::Silent)
            }
            _ => Ok(()),
        }
    }

    /// Takes in the Sentinel's bytes, in any chunking. What it said before it went wrong counts: an error behind outputs
    /// is given by the next call, which is due at once.
    ///
    /// # Errors
    /// [`ConversationError`]: close the connection.
    pub fn receive(
        &mut self,
        now: Timestamp,
        bytes: &[u8],
    ) -> Result<Vec<Output>, ConversationError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.reader.push(bytes);
        let mut outputs = Vec::new();
        match self.read(now, &mut outputs) {
            Err(error) if outputs.is_empty() => Err(error),
            result => {
                self.failed = result.err();
                Ok(outputs)
            }
        }
    }

    fn read(&mut self, now: Timestamp, outputs: &mut Vec<Output>) -> Result<(), ConversationError> {
        while let Some(message) = self
            .reader
            .next_message()
            .map_err(ConversationError::Protocol)?
        {
            match message {
                Message::Push(data) => self.push(&data, outputs),
                Message::Reply(frame) => self.reply(&frame, outputs)?,
            }
            self.finish_exchange(now, outputs);
        }
        Ok(())
    }

    fn finish_exchange(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        if !self.expected.is_empty() || self.asked.take().is_none() {
            return;
        }
        self.heartbeat = None;
        (self.stage, self.spoke) = match self.stage {
            // Join at the next heartbeat, do not wait for a poll to be due.
            Stage::Greeting => (Stage::Joining, None),
            Stage::Joining | Stage::Polling => (Stage::Polling, Some(now)),
        };
        outputs.push(Output::Answered);
    }

    fn push(&mut self, data: &[Frame], outputs: &mut Vec<Output>) {
        let words: Vec<&str> = data.iter().filter_map(reply::text).collect();
        match words[..] {
            ["subscribe", _] => {
                if let Some(Expected::Subscribe { acknowledged }) = self.expected.front_mut() {
                    *acknowledged = acknowledged.saturating_add(1);
                    if *acknowledged >= event::CHANNELS.len() {
                        self.expected.pop_front();
                    }
                }
            }
            ["message", channel, payload] => {
                if let Some(peer) = event::parse_peer(channel, payload) {
                    outputs.push(Output::Peers(vec![peer]));
                } else if let Some(event) = event::parse(channel, payload) {
                    let ours = |event: &Event| {
                        self.settings
                            .masters
                            .iter()
                            .any(|name| name.as_str() == event.master_name)
                    };
                    // TILT has no name: it concerns all of them.
                    if event.master_name.is_empty() || ours(&event) {
                        outputs.push(Output::Event(event));
                    }
                }
            }
            _ => {}
        }
    }

    /// A Sentinel's words, fit for a log.
    fn clip(&self, message: &str) -> String {
        match &self.settings.credentials {
            Some(credentials) => reply::clip(&credentials.hide(message)),
            None => reply::clip(message),
        }
    }

    fn reply(&mut self, frame: &Frame, outputs: &mut Vec<Output>) -> Result<(), ConversationError> {
        let expected = self
            .expected
            .pop_front()
            .ok_or(ConversationError::Unasked)?;
        let error = reply::error(frame);
        if let Some(message) = &error
            && message.starts_with("NOAUTH")
        {
            return Err(ConversationError::Credentials(self.clip(message)));
        }
        match expected {
            Expected::Auth => {
                // "ERR ... called without any password configured": the Sentinel needs none.
                if let Some(message) =
                    error.filter(|message| !message.contains("without any password configured"))
                {
                    return Err(ConversationError::Credentials(self.clip(&message)));
                }
            }
            Expected::Hello => {
                self.resp3 = error.is_none();
                self.poll_only |= error.is_some();
                if let Some(message) = error {
                    outputs.push(Output::PollOnly(reply::clip(&message)));
                }
            }
            Expected::MyId => {
                if let Some(run_id) = reply::text(frame).filter(|run_id| !run_id.is_empty()) {
                    outputs.push(Output::Identity(reply::clip(run_id)));
                } else if let Some(message) =
                    error.filter(|message| message.starts_with("ERR unknown command"))
                {
                    // A Redis server, or no Redis at all: Sentinels before 6.2 refuse the subcommand, not the command.
                    return Err(ConversationError::NotASentinel(self.clip(&message)));
                }
            }
            Expected::SetName => {}
            Expected::Subscribe { .. } => {
                self.poll_only = true;
                outputs.push(Output::PollOnly(reply::clip(
                    &error.unwrap_or_else(|| "SUBSCRIBE was not acknowledged".to_owned()),
                )));
            }
            Expected::Peers => outputs.push(Output::Peers(reply::peers(frame))),
            Expected::State => {
                self.state = reply::master_state(frame);
                self.address = None;
            }
            Expected::Address(index) => {
                self.address = Some(reply::master_address(frame));
                if !self.settings.replicas {
                    self.answer(index, None, outputs);
                }
            }
            Expected::Replicas(index) => {
                // `ERR Unknown sentinel subcommand`; a user who may not ask is told `NOPERM`.
                self.before_5 |= error.is_some_and(|message| message.starts_with("ERR Unknown"));
                self.answer(index, Some(reply::replicas(frame)), outputs);
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        index: usize,
        replicas: Option<Vec<reply::Replica>>,
        outputs: &mut Vec<Output>,
    ) {
        if let (Some(name), Some(address)) = (self.settings.masters.get(index), self.address.take())
        {
            outputs.push(Output::Answer(
                name.clone(),
                Answer {
                    address,
                    state: self.state.take(),
                    replicas,
                },
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings() -> Settings {
        let config: config::WatchConfig = config::parse(br#"{"masters":["mymaster"]}"#).unwrap();
        Settings {
            masters: config.masters.as_slice().to_vec(),
            poll_interval: config.poll_interval.0,
            reply_timeout: config.reply_timeout.0,
            replicas: false,
            credentials: None,
        }
    }

    const POLLED: &str = "%3\r\n$5\r\nflags\r\n$6\r\nmaster\r\n$12\r\nconfig-epoch\r\n$1\r\n7\r\n$19\r\nnum-other-sentinels\r\n$1\r\n2\r\n*2\r\n$9\r\n127.0.0.1\r\n$4\r\n7001\r\n";

    fn greet(conversation: &mut Conversation) -> Vec<Output> {
        conversation.heartbeat(Timestamp(0));
        let asked = conversation.speak(Timestamp(0)).unwrap();
        assert!(asked.starts_with(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"));
        let wire = format!("%1\r\n$5\r\nproto\r\n:3\r\n$4\r\nabcd\r\n{POLLED}");
        conversation.receive(Timestamp(1), wire.as_bytes()).unwrap()
    }

    #[test]
    fn greets_joins_and_polls() {
        let mut conversation = Conversation::new(settings());
        let outputs = greet(&mut conversation);
        assert_eq!(outputs[0], Output::Identity("abcd".into()));
        assert!(matches!(&outputs[1], Output::Answer(name, answer)
            if name.as_str() == "mymaster" && answer.state.as_ref().unwrap().config_epoch == 7));
        assert_eq!(outputs[2], Output::Answered);

        conversation.heartbeat(Timestamp(21));
        let asked = String::from_utf8(conversation.speak(Timestamp(21)).unwrap()).unwrap();
        assert!(asked.contains("SUBSCRIBE") && asked.contains("SENTINELS"));
        let mut wire = "+OK\r\n".to_owned();
        for channel in event::CHANNELS {
            wire.push_str(&format!(
                ">3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n",
                channel.len()
            ));
        }
        wire.push_str(&format!("*0\r\n{POLLED}"));
        let outputs = conversation
            .receive(Timestamp(22), wire.as_bytes())
            .unwrap();
        assert_eq!(outputs.last(), Some(&Output::Answered));

        conversation.heartbeat(Timestamp(42));
        assert_eq!(conversation.speak(Timestamp(42)), None, "not due yet");
        assert_eq!(conversation.next_due(), Some(Timestamp(5022)));
        conversation.set_alert(true);
        assert_eq!(conversation.next_due(), Some(Timestamp(522)));
        let push = b">3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$40\r\nmymaster 127.0.0.1 7001 127.0.0.1 70020\r\n\r\n";
        assert!(conversation.receive(Timestamp(50), push).is_ok());
        conversation.hurry();
        assert!(conversation.speak(Timestamp(51)).is_some());
        assert_eq!(conversation.check(Timestamp(1050)), Ok(()));
        assert_eq!(
            conversation.check(Timestamp(1051)),
            Err(ConversationError::Silent)
        );
    }

    /// A failover between the two replies must not give the old address the new epoch.
    #[test]
    fn the_epoch_is_asked_before_the_address() {
        let mut conversation = Conversation::new(settings());
        conversation.heartbeat(Timestamp(0));
        let asked = String::from_utf8(conversation.speak(Timestamp(0)).unwrap()).unwrap();
        assert!(asked.find("$6\r\nMASTER").unwrap() < asked.find("GET-MASTER-ADDR").unwrap());
    }

    #[test]
    fn an_acl_user_without_subscribe_polls_only() {
        let mut conversation = Conversation::new(settings());
        greet(&mut conversation);
        conversation.heartbeat(Timestamp(21));
        conversation.speak(Timestamp(21)).unwrap();
        let wire = format!("+OK\r\n-NOPERM this user has no permissions\r\n*0\r\n{POLLED}");
        let outputs = conversation
            .receive(Timestamp(22), wire.as_bytes())
            .unwrap();
        assert!(matches!(&outputs[0], Output::PollOnly(message) if message.starts_with("NOPERM")));
        assert_eq!(outputs.last(), Some(&Output::Answered));
    }

    #[test]
    fn what_ends_a_conversation() {
        let mut conversation = Conversation::new(settings());
        assert_eq!(
            conversation.receive(Timestamp(0), b"+OK\r\n"),
            Err(ConversationError::Unasked)
        );
        for (wire, error) in [
            (
                &b"-NOAUTH Authentication required.\r\n"[..],
                "it refuses the credentials",
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n",
                "it does not speak as a Sentinel",
            ),
            (
                b"-ERR x\r\n-ERR unknown command 'SENTINEL'\r\n",
                "it is not a Sentinel",
            ),
        ] {
            let mut conversation = Conversation::new(settings());
            conversation.heartbeat(Timestamp(0));
            conversation.speak(Timestamp(0)).unwrap();
            let given = conversation
                .receive(Timestamp(1), wire)
                .and_then(|_| conversation.check(Timestamp(1)))
                .unwrap_err()
                .to_string();
            assert!(given.starts_with(error), "{given}");
        }
    }

    /// What a Sentinel said counts, also when nonsense follows in the same read.
    #[test]
    fn an_error_does_not_swallow_what_came_before() {
        let event = ">3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$38\r\nmymaster 127.0.0.1 7001 127.0.0.1 7002\r\n";
        let mut conversation = Conversation::new(settings());
        let outputs = conversation.receive(Timestamp(0), format!("{event}nonsense\r\n").as_bytes());
        assert!(
            matches!(outputs.as_deref(), Ok([Output::Event(_)])),
            "{outputs:?}"
        );
        assert_eq!(conversation.next_due(), Some(Timestamp(0)), "at once");
        let error = Err(ConversationError::Protocol(RespError::Malformed));
        assert_eq!(conversation.check(Timestamp(1)), error);
        assert_eq!(conversation.receive(Timestamp(1), b"").map(drop), error);
    }
}
