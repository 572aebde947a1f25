//! Polling a condition with a bound, in place of sleeping and hoping.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Generous: what takes longer on a loaded machine is broken, not slow.
pub const LONG: Duration = Duration::from_secs(30);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static IN_VAIN: AtomicBool = AtomicBool::new(false);

/// Ends every wait of this process with an error, so that what was started half-way is dropped, and with it stopped.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether someone called [`interrupt`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Whether a wait of this process ended without what it waited for: then someone will want the logs.
pub fn in_vain() -> bool {
    IN_VAIN.load(Ordering::Relaxed)
}

/// Calls `probe` until it returns something, at most for `bound`; `what` says what was waited for.
pub fn until<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + bound;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if interrupted() {
            bail!("interrupted");
        }
        if Instant::now() >= end {
            IN_VAIN.store(true, Ordering::Relaxed);
            bail!("waited {bound:?} for {what}");
        }
        sleep(Duration::from_millis(10));
    }
}

/// Waits until `probe` is true.
pub fn until_true(what: &str, bound: Duration, mut probe: impl FnMut() -> bool) -> Result<()> {
    until(what, bound, || probe().then_some(()))
}
