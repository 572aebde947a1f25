//! One node's own `ROLE`, asked over a connection of its own, without I/O.
//!
//! Like a [`crate::conversation`], it speaks when a heartbeat is in hand and a question is due.

use crate::{
    conversation::Credentials,
    reply::{self, Role},
    resp::{Message, Reader, RespError, write_command},
    time::Timestamp,
};
use core::{fmt, time::Duration};

/// What a probe tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The node's word.
    Role(Role),
    /// The node does not let this user ask; its words.
    NotAllowed(String),
}

/// Why a probe cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeError {
    /// Not RESP.
    Protocol(RespError),
    /// A reply that nobody asked for, or not one that `ROLE` gives.
    Unexpected,
    /// No reply in time.
    Silent,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => write!(f, "{error}"),
            Self::Unexpected => f.write_str("it answers ROLE with something else"),
            Self::Silent => f.write_str("it did not answer ROLE in time"),
        }
    }
}

impl core::error::Error for ProbeError {}

/// See the [module's text](self).
#[derive(Debug)]
pub struct Probe {
    interval: Duration,
    reply_timeout: Duration,
    credentials: Option<Credentials>,
    reader: Reader,
    heartbeat: bool,
    asked: Option<Timestamp>,
    next: Timestamp,
    /// Replies on their way: an `AUTH` before the first `ROLE`.
    auth_pending: bool,
    /// The node's words when it refused the `AUTH`; the reply to `ROLE` still comes.
    refused: Option<String>,
    /// What ended it, behind a finding that came in the same read.
    failed: Option<ProbeError>,
}

impl Probe {
    /// Starts with nothing said.
    #[must_use]
    pub fn new(
        interval: Duration,
        reply_timeout: Duration,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            interval,
            reply_timeout,
            credentials,
            reader: Reader::default(),
            heartbeat: false,
            asked: None,
            next: Timestamp::default(),
            auth_pending: false,
            refused: None,
            failed: None,
        }
    }

    /// A heartbeat has come; it stays in hand.
    pub fn heartbeat(&mut self) {
        self.heartbeat = true;
    }

    /// When there is something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match (self.failed, self.asked) {
            (Some(_), _) => Some(Timestamp::default()),
            (None, Some(asked)) => Some(asked.after(self.reply_timeout)),
            (None, None) => self.heartbeat.then_some(self.next),
        }
    }

    /// The command to send now, if a heartbeat is in hand and a question is due.
    pub fn speak(&mut self, now: Timestamp) -> Option<Vec<u8>> {
        if !self.heartbeat || self.asked.is_some() || now < self.next {
            return None;
        }
        self.asked = Some(now);
        let mut out = Vec::new();
        if let Some(credentials) = self.credentials.take() {
            credentials.write_auth(&mut out);
            self.auth_pending = true;
        }
        write_command(&mut out, &["ROLE"]);
        Some(out)
    }

    /// Whether the node has been silent for too long, or what it sent was the end.
    ///
    /// # Errors
    /// [`ProbeError::Silent`], or what [`Probe::receive`] has kept for the next call.
    pub fn check(&self, now: Timestamp) -> Result<(), ProbeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.asked {
            Some(asked) if now.since(asked) >= self.reply_timeout => Err(ProbeError::Silent),
            _ => Ok(()),
        }
    }

    /// Takes in the node's bytes, in any chunking. A finding completes the exchange: answer the heartbeat. An error behind
    /// a finding is given by the next call, which is due at once.
    ///
    /// # Errors
    /// [`ProbeError`]: close the connection.
    pub fn receive(&mut self, now: Timestamp, bytes: &[u8]) -> Result<Option<Finding>, ProbeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.reader.push(bytes);
        let Some(finding) = self.read(now)? else {
            return Ok(None);
        };
        // What follows would otherwise be taken for the answer to the next question.
        self.failed = self.read(now).err();
        Ok(Some(finding))
    }

    /// The node's words, fit for a log.
    fn clip(&self, message: &str) -> String {
        match &self.credentials {
            Some(credentials) => reply::clip(&credentials.hide(message)),
            None => reply::clip(message),
        }
    }

    fn read(&mut self, now: Timestamp) -> Result<Option<Finding>, ProbeError> {
        while let Some(message) = self.reader.next_message().map_err(ProbeError::Protocol)? {
            // Pushes come to those who asked for RESP3.
            let Message::Reply(frame) = message else {
                return Err(ProbeError::Unexpected);
            };
            let error = reply::error(&frame);
            if core::mem::take(&mut self.auth_pending) {
                self.refused = error.map(|message| self.clip(&message));
                continue;
            }
            if self.asked.take().is_none() {
                return Err(ProbeError::Unexpected);
            }
            self.heartbeat = false;
            self.next = now.after(self.interval);
            if let Some(message) = self.refused.take() {
                return Ok(Some(Finding::NotAllowed(message)));
            }
            return match (reply::role(&frame), error) {
                (Some(role), _) => Ok(Some(Finding::Role(role))),
                // LOADING, MASTERDOWN: not an answer yet.
                (None, Some(message))
                    if !message.starts_with("NOAUTH") && !message.starts_with("NOPERM") =>
                {
                    Err(ProbeError::Unexpected)
                }
                (None, Some(message)) => Ok(Some(Finding::NotAllowed(self.clip(&message)))),
                (None, None) => Err(ProbeError::Unexpected),
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe::new(Duration::from_secs(1), Duration::from_secs(1), None)
    }

    #[test]
    fn asks_once_per_interval() {
        let mut probe = probe();
        assert_eq!(probe.speak(Timestamp(0)), None, "no heartbeat in hand");
        probe.heartbeat();
        assert_eq!(
            probe.speak(Timestamp(0)).as_deref(),
            Some(&b"*1\r\n$4\r\nROLE\r\n"[..])
        );
        assert_eq!(probe.receive(Timestamp(1), b"*3\r\n$6\r\nmas"), Ok(None));
        assert_eq!(
            probe.receive(Timestamp(2), b"ter\r\n:0\r\n*0\r\n"),
            Ok(Some(Finding::Role(Role::Master)))
        );
        probe.heartbeat();
        assert_eq!(probe.speak(Timestamp(900)), None);
        assert!(probe.speak(Timestamp(1002)).is_some());
        assert_eq!(probe.check(Timestamp(2002)), Err(ProbeError::Silent));
    }

    #[test]
    fn steps_aside_without_permission() {
        let mut probe = probe();
        probe.heartbeat();
        probe.speak(Timestamp(0)).unwrap();
        let found = probe.receive(Timestamp(1), b"-NOAUTH Authentication required.\r\n");
        assert!(matches!(found, Ok(Some(Finding::NotAllowed(_)))));
    }

    /// In any chunking: what comes behind the answer is not the answer to the next question.
    #[test]
    fn a_second_answer_is_an_error() {
        const ROLE: &[u8] = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
        for cut in [ROLE.len(), 2 * ROLE.len()] {
            let wire = ROLE.repeat(2);
            let (first, rest) = wire.split_at(cut);
            let mut probe = probe();
            probe.heartbeat();
            probe.speak(Timestamp(0)).unwrap();
            assert_eq!(
                probe.receive(Timestamp(1), first),
                Ok(Some(Finding::Role(Role::Master)))
            );
            assert_eq!(
                probe.receive(Timestamp(2), rest),
                Err(ProbeError::Unexpected)
            );
        }
    }

    #[test]
    fn an_auth_that_is_refused_and_its_role_are_one_answer() {
        let credentials = Credentials {
            username: String::new(),
            password: "wrong".into(),
        };
        let second = Duration::from_secs(1);
        let mut probe = Probe::new(second, second, Some(credentials));
        probe.heartbeat();
        probe.speak(Timestamp(0)).unwrap();
        let wire = b"-WRONGPASS invalid\r\n-NOAUTH Authentication required.\r\n";
        let found = probe.receive(Timestamp(1), wire);
        assert_eq!(
            found,
            Ok(Some(Finding::NotAllowed("WRONGPASS invalid".into())))
        );
        assert_eq!(probe.next_due(), None);
    }
}
