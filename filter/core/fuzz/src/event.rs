//! One Pub/Sub message.

use crate::script::{assert_printable, assert_usable};
use sentinel_core::event::{self, EventKind};

/// See the crate's table. A line with the channel, then the payload.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (channel, payload) = text.split_once('\n').unwrap_or((&text, ""));
    if let Some(peer) = event::parse_peer(channel, payload) {
        assert_usable(&peer.address);
        assert_printable(&peer.run_id);
    }
    let Some(event) = event::parse(channel, payload) else {
        return;
    };
    match &event.kind {
        EventKind::Tilt(_) => assert!(event.master.is_none() && event.master_name.is_empty()),
        _ => assert!(event.master.is_some() && !event.master_name.is_empty()),
    }
    event.master.iter().for_each(assert_usable);
    if let EventKind::Promoting(to) | EventKind::Promoted(to) | EventKind::Switched(to) =
        &event.kind
    {
        assert_usable(to);
    }
}
