//! The shortest way through everything: a client is held, then led to the master.

use std::time::Duration;

use crate::site::{MASTER, Plan};

#[test]
fn the_first_connection_is_led_to_the_master() {
    let mut site = Plan::default().build();
    let client = site.client(0);
    assert!(client.held());
    site.watch();
    assert!(
        site.process
            .advance_until(Duration::from_secs(1), || client.upstream().is_some()),
        "{}",
        site.story()
    );
    assert_eq!(client.upstream().as_deref(), Some(MASTER));
    client.send(b"PING\r\n");
    assert_eq!(client.forwarded(), b"PING\r\n");
    site.settle();
    println!("{}", site.story());
}
