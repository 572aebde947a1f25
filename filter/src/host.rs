//! The only caller of the host. Every call returns a [`Result`]; none can panic.
//!
//! `proxy-wasm`'s own wrappers panic on any status that they do not list, and a panic in one stream is an outage for all
//! connections of the worker. So the calls are declared here, with the status as the number that it is.

use sentinel_core::time::Timestamp;
use std::ptr::null_mut;
use std::time::Duration;

/// A status other than OK, as the ABI numbers them (1 not found, 2 bad argument, 7 empty, 8 CAS mismatch, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostError(pub u32);

/// The shared data have changed since they were read.
pub const CAS_MISMATCH: HostError = HostError(8);

/// As the `cas` of [`set_shared_data`]: make the value, but do not replace one. (The host checks a `cas` only against
/// a value that is there, and gives none this number.)
pub const CREATE: u32 = u32::MAX;

/// Result of a call to the host.
pub type Result<T> = core::result::Result<T, HostError>;

/// A connection's bytes, seen from the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// From the client.
    Downstream = 2,
    /// From the server.
    Upstream = 3,
}

/// Kinds of metric, as the ABI numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
    /// Samples.
    Histogram = 2,
}

const PLUGIN_CONFIGURATION: u32 = 7;
const CALL_DATA: u32 = 8;
const STREAM_DOWNSTREAM: u32 = 2;

unsafe extern "C" {
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        size: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
    fn proxy_set_buffer_bytes(
        kind: u32,
        start: usize,
        size: usize,
        data: *const u8,
        len: usize,
    ) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_len: usize,
        data: *const u8,
        len: usize,
        cas: u32,
    ) -> u32;
    fn proxy_register_shared_queue(name: *const u8, name_len: usize, queue: *mut u32) -> u32;
    fn proxy_enqueue_shared_queue(queue: u32, data: *const u8, len: usize) -> u32;
    fn proxy_dequeue_shared_queue(queue: u32, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_len: usize,
        argument: *const u8,
        argument_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
    fn proxy_done() -> u32;
    fn envoy_resolve_dns(name: *const u8, name_len: usize, token: *mut u32) -> u32;
}

#[cfg(target_os = "wasi")]
#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
}

fn check(status: u32) -> Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(HostError(status))
    }
}

/// Runs a call that hands back memory, which the host got from `proxy_on_memory_allocate`.
fn take(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>> {
    let (mut data, mut len) = (null_mut(), 0);
    check(call(&mut data, &mut len))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the ABI: `data` is a block of exactly `len` bytes that the SDK's allocator made for this call (a boxed
    // slice of bytes) and that now belongs to the module.
    Ok(unsafe { Vec::from_raw_parts(data, len, len) })
}

/// The plugin's configuration as JSON.
pub fn configuration() -> Result<Vec<u8>> {
    // SAFETY: the two out-pointers are valid for the call.
    take(|data, len| unsafe {
        proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, data, len)
    })
}

/// The bytes of the current callback.
pub fn bytes(kind: Bytes) -> Result<Vec<u8>> {
    // SAFETY: as above.
    take(|data, len| unsafe { proxy_get_buffer_bytes(kind as u32, 0, usize::MAX, data, len) })
}

/// Puts `bytes` in the place of all bytes of the current callback, or of the paused one.
pub fn replace_bytes(kind: Bytes, bytes: &[u8]) -> Result<()> {
    // SAFETY: `bytes` is valid for the call.
    check(unsafe {
        proxy_set_buffer_bytes(kind as u32, 0, usize::MAX, bytes.as_ptr(), bytes.len())
    })
}

/// An attribute of Envoy as its bytes: eight of them, little-endian, for a number.
pub fn property_bytes(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: `path` and the out-pointers are valid for the call.
    take(|data, len| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, len) }).ok()
}

/// An attribute of Envoy, such as `destination.address`, as text.
pub fn property(path: &[&str]) -> Option<String> {
    String::from_utf8(property_bytes(path)?)
        .ok()
        .filter(|text| !text.is_empty())
}

/// Whether the current stream's upstream has accepted: `tcp_proxy` sets the local address only then.
pub fn is_connected() -> bool {
    property(&["upstream", "local_address"]).is_some()
}

/// A value that all workers share, and the number under which it may be replaced.
pub fn shared_data(key: &str) -> Result<(Vec<u8>, u32)> {
    let mut cas = 0;
    // SAFETY: `key` and the out-pointers are valid for the call.
    let value = take(|data, len| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), data, len, &mut cas)
    })?;
    Ok((value, cas))
}

/// Replaces a shared value unless somebody else did since `cas` was read.
pub fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<()> {
    // SAFETY: `key` and `value` are valid for the call.
    check(unsafe {
        proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    })
}

/// Makes this root context the one that the queue wakes.
pub fn register_queue(name: &str) -> Result<u32> {
    let mut queue = 0;
    // SAFETY: `name` and the out-pointer are valid for the call.
    check(unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &mut queue) })?;
    Ok(queue)
}

/// Hands a message to whoever registered the queue, on its own thread, after the current callback.
pub fn enqueue(queue: u32, message: &[u8]) -> Result<()> {
    // SAFETY: `message` is valid for the call.
    check(unsafe { proxy_enqueue_shared_queue(queue, message.as_ptr(), message.len()) })
}

/// Takes one message off the queue; an error when it is empty.
pub fn dequeue(queue: u32) -> Result<Vec<u8>> {
    // SAFETY: the out-pointers are valid for the call.
    take(|data, len| unsafe { proxy_dequeue_shared_queue(queue, data, len) })
}

/// Makes the following calls concern this context instead of the one that was called back.
pub fn act_as(context: u32) -> Result<()> {
    // SAFETY: takes a number.
    check(unsafe { proxy_set_effective_context(context) })
}

/// Lets a paused connection go on, after the current callback.
pub fn resume() -> Result<()> {
    // SAFETY: takes a number.
    check(unsafe { proxy_continue_stream(STREAM_DOWNSTREAM) })
}

/// Closes a connection, at once: Envoy calls back for that stream before this returns. So never call it from a stream's
/// own callback ([`crate::vm::close_soon`]), nor while a `RefCell` that the callback needs is borrowed.
pub fn close() -> Result<()> {
    // SAFETY: takes a number.
    check(unsafe { proxy_close_stream(STREAM_DOWNSTREAM) })
}

/// How often this root context is called back; zero stops it.
pub fn set_tick(period: Duration) -> Result<()> {
    let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: takes a number.
    check(unsafe { proxy_set_tick_period_milliseconds(period) })
}

/// Calls a function of Envoy's by name.
pub fn call(name: &str, argument: &[u8]) -> Result<()> {
    // SAFETY: all pointers are valid for the call.
    take(|data, len| unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            argument.as_ptr(),
            argument.len(),
            data,
            len,
        )
    })
    .map(drop)
}

/// Has Envoy resolve a host name. `envoy_on_resolve_dns` is called with the token, and that may be before this returns.
pub fn resolve(name: &str) -> Result<u32> {
    let mut token = 0;
    // SAFETY: `name` and the out-pointer are valid for the call.
    check(unsafe { envoy_resolve_dns(name.as_ptr(), name.len(), &mut token) })?;
    Ok(token)
}

/// What came with the current callback of Envoy's own.
pub fn call_data() -> Result<Vec<u8>> {
    // SAFETY: as above.
    take(|data, len| unsafe { proxy_get_buffer_bytes(CALL_DATA, 0, usize::MAX, data, len) })
}

/// Lets Envoy delete the current root context, which said in `on_done` that it was not done.
pub fn done() -> Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { proxy_done() })
}

/// Defines a metric, or finds the one of this name.
pub fn define_metric(kind: MetricKind, name: &str) -> Result<u32> {
    let mut metric = 0;
    // SAFETY: `name` and the out-pointer are valid for the call.
    check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut metric) })?;
    Ok(metric)
}

/// Adds to a metric. A counter takes only positive offsets.
pub fn increment_metric(metric: u32, offset: i64) -> Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { proxy_increment_metric(metric, offset) })
}

/// Sets a gauge, or adds a sample to a histogram.
pub fn record_metric(metric: u32, value: u64) -> Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { proxy_record_metric(metric, value) })
}

/// Now, on the process's monotonic clock.
#[cfg(target_os = "wasi")]
pub fn now() -> Timestamp {
    const MONOTONIC: u32 = 1;
    let mut nanoseconds = 0;
    // SAFETY: the out-pointer is valid for the call. A host without the clock leaves 0: time then stands still, which
    // no rule here turns into a trap.
    let _ = unsafe { clock_time_get(MONOTONIC, 1, &mut nanoseconds) };
    Timestamp(nanoseconds / 1_000_000)
}

/// Seconds since 1970, for people and their dashboards only: it may jump.
#[cfg(target_os = "wasi")]
pub fn wall_clock() -> u64 {
    const REALTIME: u32 = 0;
    let mut nanoseconds = 0;
    // SAFETY: the out-pointer is valid for the call.
    let _ = unsafe { clock_time_get(REALTIME, 1, &mut nanoseconds) };
    nanoseconds / 1_000_000_000
}

/// As for [`now`].
#[cfg(not(target_os = "wasi"))]
pub fn wall_clock() -> u64 {
    0
}

/// The module only ever runs as Wasm; this lets native tools check the crate.
#[cfg(not(target_os = "wasi"))]
pub fn now() -> Timestamp {
    Timestamp::default()
}
